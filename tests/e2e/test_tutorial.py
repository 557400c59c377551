"""Every command of the tutorial, in its order, as a person types it."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.swarm import PROGRAMS, ROOT, Shell, Swarm, until

TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text()
COMMANDS = [
    line
    for block in re.findall(r"```sh\n(.*?)```", TUTORIAL, re.DOTALL)
    for line in block.splitlines()
]
PAUSE_S = 1.0
IN_THE_SECOND_TERMINAL = "botswarm up --no-demo"
# What a person sees after some of them, if need be a little later.
SHOWS = {
    "python strategies/test_my_first.py": "Ran 3 tests",
    "botswarm strategy check strategies/my_first.py": "No fault was found.",
    "botswarm strategy list": "strategies/my_first.py",
    "botswarm strategy show my-first": "percent below the average at which it buys",
    "botswarm bot why first": "needs ",
    "botswarm order list --bot first": "filled",
    "botswarm bot show first": "my-first",
    "botswarm bot stop first": "first is stopped.",
}


@pytest.fixture
def swarm(tmp_path: Path) -> Iterator[Swarm]:
    made = Swarm(tmp_path)
    try:
        yield made
    finally:
        made.end()


def typed(swarm: Swarm, line: str) -> subprocess.CompletedProcess[str]:
    path = f"{PROGRAMS}:{swarm.environment['PATH']}"
    return subprocess.run(
        ["sh", "-c", line],
        capture_output=True,
        text=True,
        cwd=swarm.folder,
        env={**swarm.environment, "PATH": path},
        timeout=60,
        check=False,
    )


@pytest.mark.timeout(300)
def test_the_tutorial_leads_to_a_bot_that_trades_by_its_changed_words(swarm: Swarm) -> None:
    assert set(SHOWS) <= set(COMMANDS)
    for line in COMMANDS:
        if line == IN_THE_SECOND_TERMINAL:
            up = swarm.open(*line.split(), name="up")
            for words in ("leading: ticks and digests", "orders@", "risk-ops-backtest@"):
                until(tells(up, words), f"the swarm to say {words!r}")
            continue
        if line == "botswarm order list --bot first":
            swarm.first_fill(up)
        until(succeeds(swarm, line), f"{line!r} to say {SHOWS.get(line, 'yes')!r}")
        if line.startswith("botswarm bot edit"):
            until(tells(up, "because it is cheap"), "an order with the changed words")
    until(lambda: not swarm.processes(), "the swarm to be down")


def tells(shell: Shell, words: str) -> Callable[[], bool]:
    return lambda: words in shell.text


def succeeds(swarm: Swarm, line: str) -> Callable[[], bool]:
    """Now, or a little later; a command is not cheap, so it is not asked all the time."""
    asked_at = 0.0

    def found() -> bool:
        nonlocal asked_at
        if time.monotonic() - asked_at < PAUSE_S:
            return False
        done = typed(swarm, line)
        asked_at, told = time.monotonic(), done.stdout + done.stderr
        if line == "botswarm status":
            return done.returncode == 0
        assert done.returncode == 0, f"{line}: {told}"
        return SHOWS.get(line, "") in told

    return found
