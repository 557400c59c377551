"""The command line as tests of every room call it: in this process, or as one of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from botswarm.cli import main

ROOT = Path(__file__).parents[1]
NOTHING: Mapping[str, str] = MappingProxyType({})


def run_botswarm(
    *words: str,
    folder: Path,
    environ: Mapping[str, str] = NOTHING,
    given: str = "",
    timeout_s: float = 120,
) -> subprocess.CompletedProcess[str]:
    """As a process of its own, with these settings and nothing of the caller's environment."""
    done = subprocess.run(
        [sys.executable, "-m", "botswarm", *words],
        cwd=folder,
        # From another folder it would be the installed package that is tested, whichever it is.
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environ},
        input=given,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    return done


def alone(monkeypatch: pytest.MonkeyPatch, folder: Path, **environ: str) -> None:
    """What is called in this process sees this folder and these settings, and no others."""
    for name in [name for name in os.environ if name.startswith("BOTSWARM_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(folder)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)


def called(
    capsys: pytest.CaptureFixture[str], *words: str, is_json: bool = True
) -> tuple[int, Any]:
    """In this process: exit code, and the answer as JSON or text."""
    with pytest.raises(SystemExit) as ended:
        main([*words, *(["--json"] if is_json else [])])
    said, code = capsys.readouterr(), ended.value.code
    assert "Traceback" not in said.err, said.err
    assert isinstance(code, int), code
    return code, json.loads(said.out) if is_json else said.out + said.err


def answer(capsys: pytest.CaptureFixture[str], *words: str, exits: int = 0) -> Any:
    """In this process: the answer, where the exit code is the one that is expected."""
    code, said = called(capsys, *words)
    assert code == exits, said
    return said
