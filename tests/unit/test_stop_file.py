"""The stop file: who pulls it, who obeys it, and what becomes of it."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from botswarm.clock import StoppedClock
from botswarm.domain.order import OrderState, Side
from botswarm.domain.permission import TradingState
from botswarm.errors import Refused
from botswarm.ledger import migrate
from botswarm.ledger.halts import SWARM, Cause
from botswarm.ledger.store import Ledger
from botswarm.testing.venue import Accepting, FakeVenue
from botswarm.trading.stop_file import Brake, Pulled, StopFile
from botswarm.trading.watchdog import Charge
from tests.standing import swarm_of
from tests.unit.test_watchdog import MARKET
from workers.watching import obey

NOW = datetime(2100, 1, 2, tzinfo=UTC)  # after the ledger is made
PULLED = Pulled(at=NOW, actor="ada", reason="fire")


class Scene:
    def __init__(self, folder: Path) -> None:
        self.file = StopFile.of(folder)
        self.brake = Brake(self.file, "here:1")
        self.venue = FakeVenue(StoppedClock(NOW), [MARKET])
        self.charge = Charge(self.venue, frozenset({"BTC-USDT"}))

    def order(self, name: str = "a") -> Accepting:
        order = Accepting(
            venue_order_id=name,
            client_order_id=name,
            symbol="BTC-USDT",
            side=Side.BUY,
            quantity=Decimal(1),
            price=Decimal(100),
            at=NOW,
        )
        self.venue.orders.append(order)
        return order

    def look(self) -> list[OrderState]:
        """How the orders stand then."""
        self.brake.look([self.charge])
        return [order.state for order in self.venue.orders]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_nothing_is_cancelled_before_it_is_pulled_and_everything_after(scene: Scene) -> None:
    scene.order()
    assert scene.look() == [OrderState.LIVE]
    scene.file.pull(PULLED)
    assert scene.look() == [OrderState.CANCELED]
    (answer,) = scene.file.answers(PULLED)
    assert (answer["process"], answer["done"], answer["left"]) == (
        "here:1",
        ["simulated:paper BTC-USDT"],
        [],
    )
    # Once: what somebody places by hand afterwards is theirs.
    later = scene.order("b")
    scene.look()
    assert later.state is OrderState.LIVE


def test_a_venue_that_does_not_answer_is_asked_again(scene: Scene) -> None:
    order = scene.order()
    scene.venue.is_reachable = False
    scene.file.pull(PULLED)
    scene.look()
    (answer,) = scene.file.answers(PULLED)
    assert answer["left"] == ["simulated:paper BTC-USDT"]
    scene.venue.is_reachable = True
    scene.look()
    assert order.state is OrderState.CANCELED
    assert scene.file.answers(PULLED)[0]["left"] == []


def test_one_that_cancels_nothing_is_obeyed_too(scene: Scene) -> None:
    order = scene.order()
    scene.file.pull(Pulled(at=NOW, actor="ada", reason="fire", is_cancelling=False))
    scene.look()
    assert order.state is OrderState.LIVE


def test_a_second_pull_is_a_second_stop(scene: Scene) -> None:
    scene.file.pull(PULLED)
    scene.look()
    order = scene.order()
    again = Pulled(at=NOW + timedelta(seconds=1), actor="ada", reason="again")
    scene.file.pull(again)
    assert scene.file.answers(again) == [], "what was done about the first says nothing of it"
    scene.look()
    assert order.state is OrderState.CANCELED
    assert scene.file.lift()
    assert not scene.file.lift()
    assert scene.file.answers(again) == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"at": 5}'])
def test_a_file_that_cannot_be_read_counts(scene: Scene, text: str) -> None:
    order = scene.order()
    scene.file.pull(PULLED)
    scene.file.path.write_text(text)
    scene.look()
    assert order.state is OrderState.CANCELED


def test_a_disk_that_takes_no_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "emergency-stop").write_text("in its way")
    with pytest.raises(Refused, match="cannot be written"):
        StopFile.of(tmp_path).pull(PULLED)
    assert stat.S_ISREG((tmp_path / "emergency-stop").stat().st_mode)


# --- the ledger is back ---------------------------------------------------------------------------


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    made = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    migrate.migrate(made.database)
    return made


def test_a_ledger_that_is_back_is_told_who_stopped_and_why(scene: Scene, ledger: Ledger) -> None:
    obey(scene.file, ledger, NOW)
    assert swarm_of(ledger).state is TradingState.ACTIVE
    scene.file.pull(PULLED)
    obey(scene.file, ledger, NOW + timedelta(minutes=5))
    said = swarm_of(ledger)
    assert (said.state, said.actor, said.cause) == (TradingState.HALTED, "ada", Cause.PERSON)
    assert said.reason.startswith("fire")
    assert scene.file.read() == PULLED, "until somebody resumes"


def test_a_person_who_resumed_since_is_not_halted_again(scene: Scene, ledger: Ledger) -> None:
    scene.file.pull(PULLED)
    obey(scene.file, ledger, NOW)
    resumed = {"reason": "looked", "now": NOW + timedelta(seconds=9), "is_human": True}
    ledger.halts.set(SWARM, TradingState.ACTIVE, actor="bob", **resumed)  # type: ignore[arg-type]
    obey(scene.file, ledger, NOW + timedelta(seconds=10))
    assert swarm_of(ledger).state is TradingState.ACTIVE
    assert scene.file.read() is None


@pytest.mark.parametrize(
    ("cause", "lasts"), [(Cause.PERSON, NOW), (Cause.PERSON, None), (Cause.SYSTEM, None)]
)
def test_a_halt_that_ends_by_itself_is_not_what_the_stop_file_asks_for(
    scene: Scene, ledger: Ledger, cause: Cause, lasts: datetime | None
) -> None:
    until = None if cause is Cause.SYSTEM else (lasts or NOW + timedelta(hours=1))
    ledger.halts.set(
        SWARM,
        TradingState.HALTED,
        reason="for a while",
        actor="bob",
        now=NOW - timedelta(minutes=1) if lasts else NOW + timedelta(seconds=1),
        is_human=cause is Cause.PERSON,
        cause=cause,
        until=until,
    )
    scene.file.pull(PULLED)
    obey(scene.file, ledger, NOW + timedelta(minutes=5))
    said = swarm_of(ledger)
    assert (said.state, said.until, said.cause) == (TradingState.HALTED, None, Cause.PERSON)
    assert said.actor == "ada"
    assert scene.file.read() == PULLED


def test_a_defect_at_one_venue_leaves_nothing_open_at_the_others(scene: Scene) -> None:
    broken = FakeVenue(StoppedClock(NOW), [MARKET])
    broken.account = "broken"
    broken.cancel_all = None  # type: ignore[assignment]
    scene.order()
    scene.file.pull(PULLED)
    scene.brake.look([Charge(broken, frozenset({"BTC-USDT"})), scene.charge])
    assert [order.state for order in scene.venue.orders] == [OrderState.CANCELED]
    (answer,) = scene.file.answers(PULLED)
    assert answer["left"] == ["simulated:broken BTC-USDT"]
