"""Strangers' strategies that hang, talk nonsense, take all memory or vanish harm their own."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from botswarm.bots import warden
from botswarm.bots.conclusion import ERRORS_MAX
from botswarm.bots.evaluation import Evaluator
from botswarm.bots.floor import Floor
from botswarm.bots.muster import Muster
from botswarm.bots.registry import Registry, Rules
from botswarm.bots.scene import Scene
from botswarm.bots.spec import BotSpec
from botswarm.bots.strategies import Strategies
from botswarm.clock import SystemClock
from botswarm.domain.permission import TradingState
from botswarm.ledger.bots import BotState
from botswarm.ledger.halts import SWARM
from botswarm.ledger.store import Ledger
from botswarm.strategies.api import Candles
from botswarm.strategies.registry import Catalog, load
from tests.strategies.values import SYMBOL, VENUE, a_market, a_quote, a_trade, some_candles

HEAD = """
from decimal import Decimal
from botswarm.strategies.api import *


class {name}(Strategy):
    \"\"\"For a test.\"\"\"

    @property
    def history(self) -> int:
        return 2

    def decide(self, view: View) -> Decision:
"""
HISTORY = "    @property\n    def history(self):\n"
GOOD = """
        count = int(view.memory.get("count", 0)) + 1
        average = view.candles.sma(2)[-1]
        return Decision(verdict="counts", indicators={"average": average}, memory={"count": count},
                        rules=[below("price", view.price, average)])
"""
BODIES = {
    "Raises": "        raise ZeroDivisionError('a bug in a plugin')\n",
    "Loops": "        while True:\n            pass\n",
    "Nonsense": "        return Decision(verdict=42, memory={'x': object()})\n",
    "Greedy": "        data = bytearray(10 * 1024**3)\n",
    "Exits": "        import os\n        os._exit(3)\n",
    "Prints": "        print('x' * 100_000, flush=True)\n" + GOOD,
    "Kind": GOOD,
}
PATIENCE_S = 60.0


@dataclass
class Place:
    """A floor whose catalog is a folder of files, and a market that moves when it is told to."""

    ledger: Ledger
    folder: Path
    catalog: Catalog
    floor: Floor
    sequence: int = 0

    def add(self, bot: str, strategy: str, **parameters: object) -> None:
        spec = BotSpec(
            name=bot,
            strategy=strategy,
            venue=VENUE,
            symbol=SYMBOL,
            account="paper",
            timeframe="1m",
            budget=Decimal(1000),
            parameters=parameters,
        )
        bots = Registry(self.ledger)
        bots.create(spec, datetime.now(UTC) - timedelta(seconds=1), actor="test")
        bots.start(bot, datetime.now(UTC) - timedelta(seconds=1), actor="test")

    def look(self, _: Muster) -> Scene:
        now_ms = int(time.time() * 1000)
        shown = some_candles([100.0, 100.0])
        names = ("open", "high", "low", "close", "volume")
        open_ms = shown.open_ms - shown.open_ms[-1] + now_ms // 60_000 * 60_000 - 60_000
        candles = Candles(open_ms=open_ms, **{name: getattr(shown, name) for name in names})
        market = a_market(
            sequence=self.sequence,
            trade=a_trade(100, now_ms),
            quote=a_quote("99.99", 100, now_ms),
            exchange_ms=now_ms,
        )
        return Scene(market=market, candles={"1m": candles})

    def pass_until(self, condition: Callable[[], bool], what: str) -> float:
        """How long the slowest pass took."""
        slowest, deadline = 0.0, time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, f"waited {PATIENCE_S:g} s for {what}"
            self.sequence += 1
            began = time.thread_time()
            assert self.floor.pass_market(VENUE, SYMBOL, self.look) is not None
            slowest = max(slowest, time.thread_time() - began)
            time.sleep(0.05)
        return slowest

    def counted(self, bot: str) -> int:
        return int(self.ledger.bots.get(bot).memory.get("count", 0))

    def said(self, bot: str) -> Mapping[str, Any] | None:
        return self.ledger.bots.get(bot).last_evaluation

    def paused(self, bot: str) -> str | None:
        found = self.ledger.bots.get(bot)
        return found.reason if found.state is BotState.PAUSED else None


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """One will do: what is tested here asks nothing of the database."""
    return f"sqlite:///{tmp_path / 'ledger.db'}"


@pytest.fixture
def place(ledger: Ledger, tmp_path: Path) -> Iterator[Place]:
    folder = tmp_path / "strategies"
    folder.mkdir()
    for name, body in BODIES.items():
        (folder / f"{name.lower()}.py").write_text(HEAD.format(name=name) + body)
    catalog = load(folder, is_apart=True)
    assert not catalog.broken
    floor = Floor(
        ledger,
        Strategies(catalog),
        Evaluator(timedelta(seconds=10)),
        SystemClock(),
        lambda *_: None,
    )
    yield Place(ledger, folder, catalog, floor)
    floor.close()


def test_each_harms_its_own_bots_alone_and_says_why(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warden, "DECIDE_S", 1.0)
    expected = {
        "raises": "ZeroDivisionError: a bug in a plugin",
        "loops": "it took longer than 1 s to decide",
        "nonsense": "object",
        "greedy": "it asked for more than 512 MB",
        "exits": "it ended its process with code 3",
    }
    for name in [*expected, "kind", "prints"]:
        place.add(name, name)
    slowest = place.pass_until(
        lambda: all(place.paused(name) for name in expected), "the bad bots to be paused"
    )
    for name, words in expected.items():
        reason = place.paused(name) or ""
        assert reason.startswith(f"{ERRORS_MAX} evaluations in a row failed: "), reason
        assert words in reason
    # Nobody waited for them, and what strategies print is nobody's answer.
    assert slowest < 1.0
    assert place.paused("kind") is place.paused("prints") is None
    before = place.counted("kind"), place.counted("prints")
    assert min(before) > 0
    place.pass_until(
        lambda: place.counted("kind") > before[0] and place.counted("prints") > before[1],
        "the good bots to go on",
    )
    record = place.ledger.bots.get("kind").last_evaluation
    assert record is not None
    assert record["indicators"] == {"average": 100.0}
    assert record["rules"][0]["words"] == "price"


ASKED = {
    "AsksForEver": (HISTORY, "        while True:\n            pass\n"),
    "AsksAll": (HISTORY, "        return len(bytearray(10 * 1024**3))\n"),
    "AsksNothing": (HISTORY, "        return -1\n"),
    "NeedsForEver": ("    def needs(self):\n", "        while True:\n            pass\n"),
    "WaitsForEver": ("    def trigger(self):\n", "        import os\n        os._exit(4)\n"),
    "Objects": ("    def objection(self):\n", "        raise ZeroDivisionError('in objection')\n"),
}


def test_what_it_asks_for_is_asked_in_its_own_process_and_harms_its_own_bots_alone(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warden, "DECIDE_S", 1.0)
    expected = {
        "asks-for-ever": "it took longer than 1 s to say what it needs",
        "asks-all": "it asked for more than 512 MB",
        "asks-nothing": "its history is no whole number from 0",
        "needs-for-ever": "it took longer than 1 s to say what it needs",
        "waits-for-ever": "it ended its process with code 4",
        "objects": "ZeroDivisionError: in objection",
    }
    for name, (head, body) in ASKED.items():
        text = HEAD.format(name=name) + GOOD + "\n" + head + body
        (place.folder / f"{name.lower()}.py").write_text(text)
    place.catalog.refresh_now()
    assert not place.catalog.broken
    for name in [*expected, "kind"]:
        place.add(name, name)
    place.add("ours", "dca")
    slowest = place.pass_until(
        lambda: all(place.paused(name) for name in expected), "the bad bots to be paused"
    )
    for name, words in expected.items():
        assert words in (place.paused(name) or "")
    assert slowest < 1.0
    assert place.paused("kind") is place.paused("ours") is None
    assert place.said("ours") is not None
    before = place.counted("kind")
    assert before > 0
    place.pass_until(lambda: place.counted("kind") > before, "the good bot to go on")


def test_nothing_of_a_strangers_runs_in_the_process_of_the_floor(
    place: Place, tmp_path: Path
) -> None:
    told = tmp_path / "pids"
    head = f"import os\n\ndef note():\n    print(os.getpid(), file=open({str(told)!r}, 'a'))\n\n"
    note = "note()"
    methods = "".join(
        f"\n    {head}\n        {note}\n        return {answer}\n"
        for head, answer in (
            ("@property\n    def history(self):", "2"),
            ("def needs(self):", "Needs(history={'5m': 0})"),
            ("def trigger(self):", "Trigger.on_tick()"),
            ("def objection(self):", "None"),
        )
    )
    text = HEAD.format(name="Notes") + f"        {note}\n" + GOOD + methods + f"\n{note}\n"
    text = text.replace("\nclass ", f"{head}\nclass ")
    (place.folder / "notes.py").write_text(text)
    assert place.catalog.refresh_now().new == {"notes"}
    place.add("notes", "notes")
    place.pass_until(lambda: place.counted("notes") > 1, "two decisions")
    (place.folder / "notes.py").write_text(text.replace("counts", "counts otherwise"))
    place.pass_until(
        lambda: (place.said("notes") or {}).get("verdict") == "counts otherwise", "the new words"
    )
    pids = set(told.read_text().split())
    assert len(pids) >= 3
    assert str(os.getpid()) not in pids


def test_a_deleted_file_takes_its_bots_along_and_nobody_else(place: Place) -> None:
    place.add("kind", "kind")
    place.add("prints", "prints")
    place.pass_until(lambda: place.counted("kind") > 0, "the first decision")
    (place.folder / "kind.py").unlink()
    place.pass_until(lambda: place.paused("kind") is not None, "its bot to be paused")
    assert "kind.py was deleted" in (place.paused("kind") or "")
    before = place.counted("prints")
    place.pass_until(lambda: place.counted("prints") > before, "the other one to go on")


def test_an_edited_file_decides_anew_without_a_restart(place: Place) -> None:
    place.add("kind", "kind")
    place.pass_until(lambda: place.counted("kind") > 0, "the first decision")
    body = GOOD.replace('"counts"', '"counts otherwise"')
    (place.folder / "kind.py").write_text(HEAD.format(name="Kind") + body)

    def says() -> str:
        return str((place.ledger.bots.get("kind").last_evaluation or {}).get("verdict"))

    place.pass_until(lambda: says() == "counts otherwise", "the new words")


def test_a_strangers_process_sees_nothing_of_ours(place: Place) -> None:
    (place.folder / "spy.py").write_text(
        HEAD.format(name="Spy")
        + "        import os\n"
        + "        names = sorted(name for name in os.environ if 'BOTSWARM' in name)\n"
        + "        return Decision(verdict=f'saw {names} in {os.getcwd()}')\n"
    )
    assert place.catalog.refresh_now().new == {"spy"}
    place.add("spy", "spy")

    def verdict() -> str | None:
        return (place.ledger.bots.get("spy").last_evaluation or {}).get("verdict")

    place.pass_until(lambda: verdict() is not None, "its decision")
    assert verdict() == "saw [] in /"


def test_without_arming_a_stranger_orders_nothing_on_an_account_of_real_money(
    place: Place,
) -> None:
    body = "        return Decision(verdict='in', target=ALL)\n"
    (place.folder / "keen.py").write_text(HEAD.format(name="Keen") + body)
    place.catalog = load(place.folder, is_apart=True)
    place.floor.close()
    place.floor = Floor(
        place.ledger,
        Strategies(place.catalog),
        Evaluator(timedelta(seconds=10)),
        SystemClock(),
        lambda *_: None,
        Rules(is_live=lambda venue, account: True),
    )
    place.ledger.halts.set(
        SWARM, TradingState.ACTIVE, reason="go", actor="test", now=datetime.now(UTC), is_human=True
    )
    place.add("keen", "keen")
    place.pass_until(lambda: place.said("keen") is not None, "its decision")
    assert (place.said("keen") or {})["stopped"]["gate"] == "not armed"
    assert place.ledger.orders.list() == []


def test_a_strangers_bot_with_parameters_that_mean_nothing_any_more_says_so(place: Place) -> None:
    place.add("kind", "kind")
    body = GOOD + "\n    length: int = parameter(default=5, words='a number', at_least=1)\n"
    (place.folder / "kind.py").write_text(HEAD.format(name="Kind") + body)
    place.catalog = load(place.folder, is_apart=True)
    place.add("other", "kind", length=5)
    (place.folder / "kind.py").write_text(HEAD.format(name="Kind") + GOOD)
    place.pass_until(lambda: place.paused("other") is not None, "its bot to be paused")
    assert "kind has no parameter 'length'" in (place.paused("other") or "")


def test_a_stranger_that_stops_its_process_is_not_waited_for(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warden, "SEND_S", 0.5, raising=False)
    body = (
        "        import os, signal, threading\n"
        # One is enough; each thread takes much of the address space that it may have.
        "        if view.memory and threading.active_count() == 1:\n"
        "            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGSTOP)).start()\n"
        "        return Decision(verdict='waits', memory={'x': 'x' * 15_000})\n"
    )
    (place.folder / "stops.py").write_text(HEAD.format(name="Stops") + body)
    assert place.catalog.refresh_now().new == {"stops"}
    # More than fits between two processes.
    names = [f"stops{number}" for number in range(12)]
    for name in names:
        place.add(name, "stops")

    def is_told() -> bool:
        said = [(place.said(name) or {}).get("stopped") or {} for name in names]
        return any("did not take in what it was asked" in each.get("words", "") for each in said)

    place.pass_until(is_told, "the reason to be told")


def test_what_a_stranger_started_ends_with_its_process(place: Place, tmp_path: Path) -> None:
    told = tmp_path / "pid"
    body = (
        "        import subprocess, time\n"
        "        child = subprocess.Popen(['sleep', '300'])\n"
        f"        open({str(told)!r}, 'w').write(str(child.pid))\n"
    )
    (place.folder / "leaves.py").write_text(HEAD.format(name="Leaves") + body + GOOD)
    place.catalog = load(place.folder, is_apart=True)
    place.floor.close()
    place.floor = Floor(
        place.ledger,
        Strategies(place.catalog),
        Evaluator(timedelta(seconds=10)),
        SystemClock(),
        lambda *_: None,
    )
    place.add("leaves", "leaves")
    place.pass_until(lambda: place.counted("leaves") > 0, "the first decision")
    (place.folder / "leaves.py").unlink()
    place.pass_until(lambda: place.paused("leaves") is not None, "its bot to be paused")
    pid, deadline = int(told.read_text()), time.monotonic() + PATIENCE_S
    while Path(f"/proc/{pid}/stat").exists() and " Z " not in Path(f"/proc/{pid}/stat").read_text():
        assert time.monotonic() < deadline, "it runs on without anybody who asks it"
        time.sleep(0.05)
