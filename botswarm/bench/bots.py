"""Measures how long people wait for commands about ten thousand bots, start-up included."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from botswarm.errors import BotswarmError, NotFound
from botswarm.testing.servers import PostgreSQLServer

BOTS = 10_000
MARKETS = 100
LISTS = 5
STRATEGIES = (
    ("sma-cross", "{{ fast = {a}, slow = {b} }}"),
    ("rsi-reversion", "{{ length = {b} }}"),
    ("grid", '{{ levels = {a}, step_percent = "0.2" }}'),
)
CLEAN = {"PATH": os.defpath, "LANG": "C.UTF-8"}
"""None of the caller's settings may decide what is measured."""
DATABASES = ("sqlite", "postgresql")


class Failed(BotswarmError):
    """A command that was to be measured did not do its work."""


def main(*, bots: int = BOTS, progress: Callable[[str], None]) -> dict[str, Any]:
    figures: dict[str, Any] = {"bots": bots, "markets": MARKETS, "seconds": {}}
    for database in DATABASES:
        with tempfile.TemporaryDirectory(prefix="botswarm-bench-") as name:
            folder = Path(name)
            (folder / "swarm.toml").write_text(_file(bots))
            try:
                with _ledger(database, folder) as url:
                    environ = {**CLEAN, "BOTSWARM_DATABASE_URL": url}
                    figures["seconds"][database] = _measured(folder, environ, progress, database)
            except NotFound as error:
                progress(f"{database} is left out: {error.cause}")
    return figures


def table(figures: Mapping[str, Any]) -> str:
    seconds = figures["seconds"]
    names = list(next(iter(seconds.values()), {}))
    lines = [
        f"{figures['bots']:,} bots in {figures['markets']} markets; "
        "seconds by the wall, and of the command's own processor time",
        f"{'':<34}" + "".join(f"{database:>22}" for database in seconds),
    ]
    for name in names:
        pairs = [(each[name]["wall"], each[name]["processor"]) for each in seconds.values()]
        cells = "".join(f"{wall:>12.3f} {f'({own:.3f})':>9}" for wall, own in pairs)
        lines.append(f"{name:<34}{cells}")
    return "\n".join(lines)


def _measured(
    folder: Path, environ: Mapping[str, str], progress: Callable[[str], None], database: str
) -> dict[str, dict[str, float]]:
    def run(*words: str, times: int = 1) -> dict[str, float]:
        found = sorted(_run(folder, environ, *words) for _ in range(times))
        wall, own = found[times // 2]
        progress(f"{database}: {wall:.3f} s  botswarm {' '.join(words)}")
        return {"wall": round(wall, 4), "processor": round(own, 4)}

    run("db", "migrate")
    found = {"nothing: botswarm version": run("version", times=LISTS)}
    found["import of all"] = run("bot", "import", "swarm.toml", "--yes")
    found["import again, unchanged"] = run("bot", "import", "swarm.toml", "--yes")
    found["list of all"] = run("bot", "list", times=LISTS)
    found["list of all, JSON"] = run("bot", "list", "--json", times=LISTS)
    found["start of all"] = run("bot", "start", "--all", "--yes")
    found["pause of all"] = run("bot", "pause", "--all", "--yes")
    found["resume of a tenth, by tag"] = run("bot", "resume", "--tag", "t3", "--yes")
    found["edit of a third, by strategy"] = run(
        "bot", "edit", "--strategy", "rsi-reversion", "--set", "length=9", "--yes"
    )
    found["export of all"] = run("bot", "export", "--to", "copy.toml")
    run("bot", "stop", "--all", "--yes")
    found["delete of all"] = run("bot", "delete", "--all", "--yes")
    return found


def _run(folder: Path, environ: Mapping[str, str], *words: str) -> tuple[float, float]:
    """Seconds by the wall, and of processor time, which others on this machine do not lengthen."""
    began, spent = time.perf_counter(), _children_s()
    done = subprocess.run(
        [sys.executable, "-m", "botswarm", *words],
        cwd=folder,
        env=dict(environ),
        capture_output=True,
        text=True,
        check=False,
    )
    took, own = time.perf_counter() - began, _children_s() - spent
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise Failed(f"botswarm {' '.join(words)} ended with {done.returncode}: {said[:1]}")
    return took, own


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextmanager
def _ledger(database: str, folder: Path) -> Iterator[str]:
    if database == "sqlite":
        yield f"sqlite:///{folder / 'ledger.db'}"
        return
    with PostgreSQLServer() as server:
        server.create_database("bench")
        yield server.url("bench")


def _file(bots: int) -> str:
    parts = ["format = 1\n"]
    for number in range(bots):
        strategy, parameters = STRATEGIES[number % len(STRATEGIES)]
        said = parameters.format(a=5 + number % 5, b=20 + number % 30)
        parts.append(
            f'[[bot]]\nname = "bot-{number:06d}"\nstrategy = "{strategy}"\n'
            f'market = "simulated:M{number % MARKETS:03d}-USDT"\nbudget = "{50 + number % 50}"\n'
            f'tags = ["bench", "t{number % 10}"]\nparameters = {said}\n'
        )
    return "\n".join(parts)
