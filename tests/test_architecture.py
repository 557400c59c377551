"""Imports point one way: the table is the architecture, and changing it takes a decision record."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
GROUND = {
    *("errors", "clock", "cards", "config", "exposition", "families", "forks", "logs"),
    *("metrics", "logfiles", "otlp", "posting", "programs", "stopping", "tally"),
}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "clock": set(),
    "cards": set(),
    "programs": {"errors"},
    "forks": set(),
    "stopping": {"errors"},
    # Counted in memory that forked processes share, written out as Prometheus reads it.
    "tally": set(),
    "families": set(),
    "exposition": {"tally", "families"},
    "metrics": {"tally", "families"},
    # What the program is made of: it reads its own files, and knows nothing of them.
    "build": set(),
    "messages": set(),
    "config": {"errors"},
    "logfiles": set(),
    "posting": {"errors"},
    "sentry": {"config", "errors", "posting", "__init__"},
    "otlp": {"config", "errors", "posting", "__init__"},
    # An error is on its way to whoever wants to be told as soon as it is a line.
    "logs": {"config", "logfiles", "sentry"},
    "schedule": {"messages"},
    # The app is wired here from the machinery; the record says where the embedded broker is, and
    # each worker and beat signs that it is there and watches how long the ledger takes, whichever
    # queues it runs.
    "celery": {
        "errors",
        "config",
        "queueing",
        "broker.record",
        "ledger.presence",
        "ledger.slow",
        "health.celery_app",
    },
    # What makes Celery fit to move money; it knows messages and schedules, and nothing of trading.
    "queueing": GROUND | {"messages", "schedule"},
    "domain": {"errors"},
    "broker": {"errors", "clock", "cards", "config", "logs", "stopping"},
    "strategies": {"errors", "domain"},
    "risk": {"errors", "domain"},
    "exchanges": GROUND | {"domain"},
    "market": GROUND | {"domain"},
    # What Redis shows; who decides or books anything must not be able to see it (docs/ticks.md).
    "live": GROUND | {"domain", "market"},
    # A doorbell is committed with the row it speaks of, so the ledger knows the messages.
    "ledger": GROUND | {"build", "messages", "domain"},
    "feed": GROUND
    | {"messages", "domain", "exchanges", "market", "live", "health.check", "health.watch"},
    "bots": GROUND | {"domain", "strategies", "ledger"},
    # Sealed keys stand in the ledger; who signs is handed what opens them, and sees no room.
    "keys": GROUND | {"domain", "ledger"},
    # It seals what it writes with the same envelope as exchange keys.
    "backup": GROUND | {"domain", "ledger", "keys"},
    "trading": GROUND | {"domain", "exchanges", "risk"},
    # They hold what the ledger knows against what may be risked; no venue is asked.
    "sweeps": GROUND | {"domain", "risk", "ledger"},
    "ops": GROUND | {"domain", "exchanges", "market", "ledger"},
    # It asks every part how it is, and no part of the swarm waits for it.
    "health": GROUND | {"domain", "exchanges", "market", "ledger", "schedule"},
    # What is wrong is told from what processes say of their health and the ledger has on record.
    "alerts": GROUND | {"domain", "ledger", "health"},
    "backtest": GROUND | {"domain", "exchanges", "market", "strategies", "risk", "trading"},
    # It starts the embedded broker as a process of its own, so it needs to know how brokers
    # are started and found, and nothing of how they work.
    "testing": GROUND | {"messages", "domain", "exchanges", "broker.options", "broker.record"},
    "supervisor": {"errors", "cards", "logfiles"},
    # It breaks what runs and judges what came of it, so it knows both sides and runs neither.
    "chaos": GROUND
    | {"messages", "domain", "exchanges", "ledger", "queueing", "risk", "trading", "testing"},
    # Its venue speaks like an exchange, and what was published is counted as it is written.
    # A pass of evaluation is measured by itself too, so it is put together here as in a worker.
    "bench": GROUND
    | {"broker", "testing", "queueing", "exchanges", "market"}
    # What the gate adds to an order is measured around the gate itself.
    | {"domain", "strategies", "ledger", "bots", "risk", "sweeps", "health"},
}
ROOMS = set(MAY_IMPORT)
MAY_IMPORT |= {
    "cli": ROOMS,
    "web": ROOMS - {"testing", "bench", "chaos"},
    # A worker knows the market from its own book; the feed would lead it to the live prices.
    "workers": ROOMS - {"testing", "bench", "chaos", "live", "feed"},
    "__main__": {"cli"},
    "__init__": set(),
}
ENTRANCES = {
    *("botswarm/cli/__init__.py", "botswarm/celery.py", "botswarm/web/app.py"),
    # Run by containers every few seconds: the whole command line takes too long to start.
    "botswarm/health/__main__.py",
}
FILES = sorted(path for top in ("botswarm", "workers") for path in (ROOT / top).rglob("*.py"))

each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))


def tree(path: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(path.read_text(), filename=str(path)))


def imported(path: Path) -> set[str]:
    """Modules of ours that a file imports, without the leading ``botswarm.``."""
    names = set[str]()
    for node in tree(path):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    ours = {name.removeprefix("botswarm.") for name in names if name.startswith("botswarm.")}
    theirs = {name for name in names if name.partition(".")[0] == "workers"}
    return (ours | theirs) - {"__version__"}


def is_allowed(module: str, allowed: set[str]) -> bool:
    parts = module.split(".")
    return parts[0] in allowed or ".".join(parts[:2]) in allowed


@each_file
def test_imports_point_down(path: Path) -> None:
    parts = path.relative_to(ROOT).with_suffix("").parts
    room = "workers" if parts[0] == "workers" else parts[1]
    assert room in MAY_IMPORT, f"{room} has no line in the table of rooms"
    allowed = MAY_IMPORT[room] | {room}
    stray = sorted(name for name in imported(path) if not is_allowed(name, allowed))
    assert not stray, f"{room} must not import {', '.join(stray)}"


@each_file
def test_imports_are_absolute(path: Path) -> None:
    relative = [
        node.lineno for node in tree(path) if isinstance(node, ast.ImportFrom) if node.level
    ]
    assert not relative, f"relative import in line {relative[0]}"


@each_file
def test_only_entrances_read_the_environment(path: Path) -> None:
    if str(path.relative_to(ROOT)) in ENTRANCES:
        return
    readers = {"environ", "getenv", "environb", "putenv"}
    lines = [
        node.lineno
        for node in tree(path)
        if isinstance(node, ast.Attribute) and node.attr in readers
        if isinstance(node.value, ast.Name) and node.value.id == "os"
    ]
    assert not lines, f"line {lines[0]} reads the environment; take the value as an argument"


@each_file
def test_every_module_says_in_one_sentence_what_it_is_for(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring, "the module has no docstring"
    first = docstring.split("\n\n")[0]
    assert first.rstrip().endswith((".", "!", "?")), f"not a sentence: {first!r}"


def reached_from(room: str) -> set[str]:
    """Every room that the table lets ``room`` reach, directly or through others."""
    reached: set[str] = set()
    ahead = set(MAY_IMPORT[room])
    while ahead:
        name = ahead.pop().partition(".")[0]
        reached.add(name)
        ahead |= MAY_IMPORT[name] - reached
    return reached


def test_the_table_has_no_circle() -> None:
    assert [room for room in MAY_IMPORT if room in reached_from(room)] == []


def test_no_road_leads_from_a_backtest_to_the_books() -> None:
    assert "ledger" not in reached_from("backtest")


def test_nothing_but_the_command_line_imports_the_bench() -> None:
    assert [room for room, allowed in MAY_IMPORT.items() if "bench" in allowed] == ["cli"]


def test_nothing_that_decides_or_books_an_order_can_see_redis() -> None:
    ways = {room: reached_from(room) | MAY_IMPORT[room] for room in MAY_IMPORT}
    assert {room for room, reached in ways.items() if "live" in reached} == {
        *("feed", "cli", "web", "__main__"),
    }


def test_only_live_prices_shared_limits_and_the_doctor_speak_to_redis() -> None:
    def names(node: ast.AST) -> list[str]:
        if isinstance(node, ast.Import):
            return [alias.name for alias in node.names]
        return [node.module or ""] if isinstance(node, ast.ImportFrom) else []

    speaking = {
        str(path.relative_to(ROOT))
        for path in FILES
        for node in tree(path)
        if any(name.partition(".")[0] == "redis" for name in names(node))
    }
    assert speaking == {
        "botswarm/live/store.py",
        "botswarm/cli/checks.py",
        # How much may be asked, never what: without it each machine keeps to its own part.
        "botswarm/exchanges/redis_counts.py",
    }


def test_loading_every_worker_loads_neither_redis_nor_live_prices() -> None:
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in FILES
        if path.parent == ROOT / "workers" and path.stem != "__init__"
    ]
    assert "workers.orders" in modules
    code = f"import sys, importlib\nfor name in {modules!r}: importlib.import_module(name)\n"
    code += "print([name for name in sys.modules if name.split('.')[0] == 'redis' "
    code += "or name.startswith('botswarm.live')])"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert (run.stdout.strip(), run.returncode) == ("[]", 0), run.stderr
