"""Checking a strategy: its source is read here, its decisions are tried in two child processes."""

from __future__ import annotations

import inspect
import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botswarm.strategies import tether
from botswarm.strategies.check import source
from botswarm.strategies.check.finding import Finding, sorted_out
from botswarm.strategies.origins import Kind, Origin
from botswarm.strategies.registry import Found

WALL_S = 60.0
KILLED = (-24, -9)
"""By the limit on processor time: SIGXCPU, then SIGKILL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    name: str
    path: Path
    findings: Sequence[Finding]

    @property
    def is_fit(self) -> bool:
        return not any(each.is_error for each in self.findings)


def check_file(path: Path) -> Report:
    """All strategies of a file; it need not be in any folder."""
    # Whole, so that lines of it are recognised in what Python tells.
    path = path.resolve()
    return _check(path.name, path, Origin(Kind.FILE, str(path)), "")


def check_found(name: str, found: Found) -> Report:
    """One that the catalog knows; raises TypeError where its source is not at hand."""
    path = Path((found.strategy and inspect.getsourcefile(found.strategy)) or "")
    return _check(name, path, found.origin, name)


def _check(name: str, path: Path, origin: Origin, only: str) -> Report:
    try:
        findings = source.read(path.read_text(encoding="utf-8"))
    except SyntaxError as error:
        finding = Finding(
            kind="unusable",
            words=f"it is no Python: {error.msg}",
            cure="mend the line",
            line=error.lineno,
        )
        return Report(name=name, path=path, findings=[finding])
    except (ValueError, MemoryError, OSError, RecursionError) as error:
        # Bytes that are no characters, a NUL among them, or thousands of brackets.
        finding = Finding(
            kind="unusable",
            words=f"it is no Python: {error}",
            cure="write it as text in UTF-8",
        )
        return Report(name=name, path=path, findings=[finding])
    # In two processes: their hashes and addresses differ, and what depends on those shows.
    first, again = _ask(origin, only), _ask(origin, only)
    findings += [Finding.of(each) for each in first["findings"]]
    if first["digests"] != again["digests"] and not first["findings"]:
        findings.append(
            Finding(
                kind="impure",
                words="another process decides differently about the same views",
                cure="use no hash(), id(), or order of a set: they are others in every process",
            )
        )
    return Report(name=name, path=path, findings=sorted_out(findings))


def _ask(origin: Origin, only: str) -> Mapping[str, Any]:
    child = tether.start(
        "botswarm.strategies.check.child", str(origin), only, stderr=subprocess.PIPE
    )
    try:
        said, complaint = child.communicate(timeout=WALL_S)
    except subprocess.TimeoutExpired:
        tether.end(child)
        child.communicate()
        return _only("slow", f"it was not done after {WALL_S:g} s", "let decide end")
    finally:
        tether.end(child)
    if child.returncode == 0 and said:
        answer: Mapping[str, Any] = json.loads(said)
        return answer
    if child.returncode in KILLED:
        return _only("slow", "trying it took all the processor time there was", "let decide end")
    last = complaint.decode(errors="replace").strip().splitlines()[-1:] or ["without a word"]
    words = f"trying it ended the process ({child.returncode}): {last[0]}"
    return _only("unusable", words, "let it neither exit nor ask for gigabytes")


def _only(kind: str, words: str, cure: str) -> Mapping[str, Any]:
    return {"findings": [Finding(kind=kind, words=words, cure=cure).plain()], "digests": []}
