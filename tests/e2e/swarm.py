"""A whole swarm started the way a person starts it, in a folder of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(sys.executable).parent
PATIENCE_S = 40.0
# What would lead the swarm elsewhere than into its folder.
MISLEADING = ("BOTSWARM_", "DATABASE_URL", "REDIS", "CLOUDAMQP", "RABBITMQ", "AMQP", "BROKER_URL")
UNWANTED = (*MISLEADING, "CELERY", "LOG_", "INSTANCE_ID")


def until(condition: Callable[[], Any], what: str, timeout_s: float = PATIENCE_S) -> Any:
    """What the condition answers once that is true; fails with ``what`` where it stays false."""
    deadline = time.monotonic() + timeout_s
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"waited {timeout_s:g} s in vain for {what}"
        time.sleep(0.05)
    return answer


@dataclass(slots=True)
class Shell:
    """A command in a process group of its own, and all that it said."""

    popen: subprocess.Popen[bytes]
    log: Path

    @property
    def text(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def records(self) -> list[dict[str, Any]]:
        """Its lines that are JSON; the last may still be being written."""
        found = []
        for line in self.text.splitlines():
            with contextlib.suppress(ValueError):
                record = json.loads(line)
                if isinstance(record, dict):
                    found.append(record)
        return found

    def messages(self, process: str) -> list[str]:
        return [str(each["message"]) for each in self.records if each.get("process") == process]

    def ends_within(self, timeout_s: float) -> int:
        return self.popen.wait(timeout_s)


@dataclass(slots=True)
class Swarm:
    folder: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    shells: list[Shell] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        plain = {name: value for name, value in os.environ.items() if not name.startswith(UNWANTED)}
        # A checkout is imported from wherever the test stands.
        return {**plain, "PYTHONPATH": str(ROOT), **self.settings}

    @property
    def state_dir(self) -> Path:
        return self.folder / ".botswarm"

    @property
    def journal(self) -> Path:
        return self.state_dir / "exchange-journal.jsonl"

    def open(self, *words: str, name: str = "") -> Shell:
        log = self.folder / f"{name or words[0]}-{len(self.shells)}.log"
        with log.open("wb") as out:
            popen = subprocess.Popen(
                [PROGRAMS / words[0], *words[1:]],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=self.environment,
                start_new_session=True,
            )
        shell = Shell(popen, log)
        self.shells.append(shell)
        return shell

    def run(self, *words: str, timeout_s: float = PATIENCE_S) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [PROGRAMS / words[0], *words[1:]],
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=self.environment,
            timeout=timeout_s,
            check=False,
        )

    def ask(self, *words: str) -> Any:
        """What a command answers with ``--json``, whether that is good news or not."""
        done = self.run("botswarm", *words, "--json")
        answer = json.loads(done.stdout)
        assert "data" in answer, f"{words}: {answer}"
        return answer["data"]

    def first_fill(self, up: Shell, timeout_s: float = PATIENCE_S) -> str:
        def found() -> str:
            said = [text for text in up.messages("up") if "first fill" in text]
            assert up.popen.poll() is None, up.text[-3000:]
            return said[0] if said else ""

        return str(until(found, "the first fill", timeout_s))

    def make_answers_slow(self) -> None:
        """The exchange does what it is asked at once, and answers three seconds later."""
        card = json.loads((self.state_dir / "exchange.json").read_text())
        slow = {"kind": "slow", "on": "place", "times": 100, "seconds": 3}
        armed = urllib.request.Request(  # noqa: S310 - an address of ours
            card["rest_url"] + "/botswarm/faults",
            data=json.dumps(slow).encode(),
            headers={"X-Botswarm-Secret": card["api_secret"]},
        )
        urllib.request.urlopen(armed, timeout=10).close()  # noqa: S310 - as above

    def processes(self) -> list[psutil.Process]:
        """All that run in its folder, whoever started them."""
        return list(_processes_in(self.folder))

    def end(self) -> None:
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        for shell in self.shells:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.popen.pid, signal.SIGKILL)
            shell.popen.wait()


def _processes_in(folder: Path) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.cwd() == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                yield process


def names(processes: Sequence[psutil.Process]) -> list[str]:
    found = []
    for process in processes:
        with contextlib.suppress(psutil.Error):
            found.append(" ".join(process.cmdline()))
    return found
