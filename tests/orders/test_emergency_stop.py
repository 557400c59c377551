"""The emergency stop: what it halts, ends and closes, and what cannot keep it from that."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sqlalchemy import delete, select, update

from botswarm.cli import order_place
from botswarm.cli.emergency import Account, Press, Pressed
from botswarm.cli.flattening import _Flattening, flatten
from botswarm.cli.ledgerless import LeftWord
from botswarm.cli.position import price_known
from botswarm.cli.trading_drill import Rehearsal
from botswarm.clock import SystemClock
from botswarm.config import Secret
from botswarm.domain.order import Order, OrderKind, OrderState, Side
from botswarm.domain.permission import Approved, Exposure, TradingState, Verdict
from botswarm.errors import BotswarmError, Refused, TimedOut, Unreachable
from botswarm.exchanges.base import Answer, SignedRequest
from botswarm.exchanges.binance.trading import RULES, BinanceTrading
from botswarm.ledger import migrate
from botswarm.ledger.halting import Halting
from botswarm.ledger.halts import SWARM, Cause
from botswarm.ledger.models import AccountRow, InstrumentRow
from botswarm.ledger.orders import Held
from botswarm.ledger.risk_events import since
from botswarm.ledger.session import Database
from botswarm.ledger.stops import Stop, Stops
from botswarm.ledger.store import Ledger
from botswarm.testing.exchange import SimulatedExchangeServer
from botswarm.testing.servers import PostgreSQLServer
from botswarm.trading import emergency, executor
from botswarm.trading.emergency import end_all
from botswarm.trading.stop_file import StopFile
from tests.integration.swarm import until
from tests.ledger.conftest import Migrated
from tests.orders.conftest import NO_LIMITS, a_market_order, a_venue, an_order
from tests.settings import settings_of
from tests.standing import reconciled

S = OrderState
Run = Callable[..., tuple[int, Any]]
PLACE = ("simulated", "paper")


@pytest.fixture(scope="module")
def migrated() -> Iterator[Migrated]:
    with PostgreSQLServer() as server:
        database = Database(server.ledger_url("postgres"))
        migrate.migrate(database)
        yield Migrated(database)
        database.close()


@pytest.fixture
def ledger(migrated: Migrated) -> Iterator[Ledger]:
    migrated.empty()
    made = Ledger(migrated.url)
    reconciled(made, datetime.now(UTC))
    yield made
    made.close()


@pytest.fixture
def venue(exchange: SimulatedExchangeServer, ledger: Ledger) -> Iterator[BinanceTrading]:
    made = a_venue(exchange)
    for symbol in ("BTC-USDT", "ETH-USDT"):
        made.cancel_all(symbol)
    ledger.books.save_instruments(made.instruments())
    yield made
    made.close()


@pytest.fixture
def run(exchange: SimulatedExchangeServer, ledger: Ledger, tmp_path: Path) -> Run:
    url = ledger.database.url.render_as_string(hide_password=False)

    def call(*words: str) -> tuple[int, Any]:
        done = subprocess.run(
            [sys.executable, "-m", "botswarm", *words, "--json"],
            cwd=tmp_path,
            env={
                "PATH": os.environ["PATH"],
                "BOTSWARM_DATABASE_URL": url,
                "BOTSWARM_STATE_DIR": str(exchange.state_dir),
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, json.loads(done.stdout)

    return call


def halting(ledger: Ledger) -> Halting:
    return Halting(Secret(ledger.database.url.render_as_string(hide_password=False)))


def sent(ledger: Ledger, venue: BinanceTrading, order: Order) -> Order:
    ledger.orders.add(order, datetime.now(UTC))
    executor.place(order.id, ledger.books, venue, NO_LIMITS, SystemClock())
    return ledger.orders.get(order.id)


def test_it_ends_every_order_of_ours_and_leaves_what_somebody_placed_by_hand(
    run: Run, ledger: Ledger, venue: BinanceTrading, exchange: SimulatedExchangeServer
) -> None:
    ours = [sent(ledger, venue, an_order()) for _ in range(3)]
    alone = [
        sent(
            ledger,
            venue,
            an_order(symbol="ETH-USDT", limit_price=Decimal(2000), quantity=Decimal("0.01")),
        )
        for _ in range(3)
    ]
    assert {each.state for each in [*ours, *alone]} == {S.LIVE}
    by_hand = exchange.order(newClientOrderId="by-hand").body["clientOrderId"]
    code, answer = run("trading", "emergency-stop", "--cancel", "--reason", "fire")
    assert code == 0
    done = answer["data"]
    assert 0 < done["said_ms"] <= done["in_force_ms"] <= done["cancelled_ms"]
    assert done["accounts"]["simulated:paper"]["cancelled"] == 6
    states = {ledger.orders.get(each.id).state for each in [*ours, *alone]}
    assert states == {S.CANCELED}
    assert [each.client_order_id for each in venue.open_orders()] == [by_hand]
    # It lasts: who comes later is refused, by a process that was not there.
    late = sent(ledger, venue, an_order())
    assert late.state is S.REFUSED
    (said,) = [each for each in ledger.halts.all() if each.scope == SWARM]
    assert (said.state, said.reason, said.cause) == (TradingState.HALTED, "fire", Cause.PERSON)
    (kept,) = Stops(ledger.database).history("emergency")
    assert (kept.cancelled_ms, kept.is_clean) == (done["cancelled_ms"], True)


def test_it_closes_positions_through_the_halt_and_nothing_else_passes(
    run: Run, ledger: Ledger, venue: BinanceTrading
) -> None:
    bought = sent(ledger, venue, a_market_order(quantity=Decimal("0.002")))
    short = sent(
        ledger,
        venue,
        a_market_order(symbol="ETH-USDT", side=Side.SELL, bot="hare", quantity=Decimal("0.05")),
    )
    assert {bought.state, short.state} == {S.FILLED}
    stop = {"kind": OrderKind.STOP, "limit_price": None, "stop_price": Decimal(30_000)}
    guard = an_order(side=Side.SELL, is_reduce_only=True, **stop)
    assert sent(ledger, venue, guard).state is S.LIVE
    _, answer = run("trading", "emergency-stop", "--cancel")
    assert answer["data"]["unprotected"] == 1
    assert "protected positions" in answer["warnings"][0]
    code, answer = run("trading", "emergency-stop", "--flatten")
    assert (code, answer["error"]["code"]) == (6, "BSW-6001"), "nobody confirmed it"
    assert ledger.halts.all()[-1].state is TradingState.HALTED, "the halt waits for nobody"
    code, answer = run("trading", "emergency-stop", "--flatten", "--yes")
    assert code == 0, answer
    assert answer["data"]["flat_ms"] is not None
    left = [abs(each.quantity) for each in ledger.orders.positions()]
    assert max(left) < Decimal("0.0001"), "no more than dust, which commissions leave"
    grows = an_order()
    ledger.orders.add(grows, datetime.now(UTC))
    executor.flatten(grows.id, ledger.books, venue, NO_LIMITS, SystemClock())
    assert ledger.orders.get(grows.id).state is S.REFUSED


def test_what_is_wrong_with_one_position_keeps_nobody_in_the_others(
    ledger: Ledger, venue: BinanceTrading, tmp_path: Path
) -> None:
    bought = sent(ledger, venue, a_market_order(quantity=Decimal("0.002")))
    other = a_market_order(symbol="ETH-USDT", bot="hare", quantity=Decimal("0.05"))
    assert {bought.state, sent(ledger, venue, other).state} == {S.FILLED}
    unlisted = delete(InstrumentRow).where(InstrumentRow.symbol == "BTC-USDT")
    ledger.database.write(lambda session: session.execute(unlisted))
    now = datetime.now(UTC)
    halting(ledger).halt([SWARM], reason="fire", actor="ada", now=now)
    press = cast("Press", SimpleNamespace(settings=settings_of(tmp_path), ledger=ledger))
    account = Account(place=PLACE)
    _Flattening(press, venue, time.monotonic() + 30).run(account)
    assert account.closed == ["hare ETH-USDT"]
    assert list(account.held) == [f"{bought.bot} BTC-USDT"]


def test_what_was_bought_for_very_little_is_worth_more_than_nothing(ledger: Ledger) -> None:
    quantity, cost = Decimal(3_000_000_000), Decimal(9)
    held = cast("Held", SimpleNamespace(venue="x", symbol="Y-Z", quantity=quantity, cost=cost))
    assert price_known(ledger, held) == Decimal("0.000000003")


def pressing(folder: Path, say: Callable[[str], None] = lambda words: None) -> Press:
    return Press(
        settings_of(folder),
        kind="emergency",
        scopes=[SWARM],
        places=None,
        actor="ada",
        reason="fire",
        began=time.monotonic(),
        say=say,
    )


def test_who_can_tell_neither_the_ledger_nor_the_workers_is_told_that_nothing_is_halted(
    tmp_path: Path,
) -> None:
    StopFile.of(tmp_path).folder.write_text("a file where the folder should be")
    word = LeftWord(pressing(tmp_path), is_cancelling=True)
    answer = word.answer(Unreachable("the ledger is gone"))
    assert answer.failure is not None
    assert "NOTHING is halted" in answer.failure.cause
    assert "the ledger is gone" in answer.failure.cause
    assert "order.json cannot be written" in answer.failure.cause


def test_a_ledger_that_is_slow_is_waited_for_where_no_stop_file_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from botswarm.cli import emergency

    monkeypatch.setattr(emergency, "LEDGER_PATIENCE_S", 0.05)
    committed, pulled, said = threading.Event(), threading.Event(), list[str]()

    def commit() -> None:
        assert pulled.wait(30)
        committed.set()

    def pull() -> None:
        pulled.set()
        raise Refused("the disk is full", cure="make room")

    press = pressing(tmp_path, said.append)
    press._within_patience(commit, pull)
    assert committed.is_set()
    assert "the disk is full" in said[0]


def test_it_is_in_force_only_after_the_last_that_was_begun_before_it(ledger: Ledger) -> None:
    order, judging, go_on = an_order(), threading.Event(), threading.Event()
    ledger.orders.add(order, datetime.now(UTC))
    stops = halting(ledger)

    def judge(order: Order, _: Exposure) -> Verdict:
        judging.set()
        assert go_on.wait(30)
        return Approved(order)

    with ThreadPoolExecutor(2) as pool:
        begun = pool.submit(ledger.books.judge, order.id, judge, datetime.now(UTC))
        assert judging.wait(30)
        stops.halt([SWARM], reason="test", actor="ada", now=datetime.now(UTC))
        waiting = pool.submit(stops.wait_for_begun, None)
        time.sleep(0.1)
        assert not waiting.done()
        go_on.set()
        # In time: who only works is not thrown out. Else: it is, and passes nothing.
        waiting.result(30)
        try:
            is_begun = isinstance(begun.result(30), Approved)
        except BotswarmError:
            is_begun = False
    assert (ledger.orders.get(order.id).state is S.APPROVED) is is_begun


def test_a_frozen_process_neither_delays_it_nor_commits_what_it_had_begun(ledger: Ledger) -> None:
    stops = halting(ledger)
    held, done = threading.Event(), threading.Event()
    outcome: list[str] = []

    def sleep() -> None:
        try:
            with ledger.database.connection() as connection, connection.begin():
                lock = select(AccountRow.account).where(AccountRow.account == PLACE[1])
                connection.execute(lock.with_for_update()).all()
                held.set()
                assert done.wait(30)
                connection.exec_driver_sql("SELECT 1")
        except BotswarmError:
            outcome.append("thrown out")

    sleeper = threading.Thread(target=sleep)
    sleeper.start()
    assert held.wait(30)
    stops.halt([SWARM], reason="test", actor="ada", now=datetime.now(UTC))
    stops.wait_for_begun([PLACE])
    done.set()
    sleeper.join(30)
    assert outcome == ["thrown out"]


class FrozenBeforeItsFirstByte:
    """A venue whose sender is frozen between its last look at the ledger and the socket."""

    def __init__(self, venue: BinanceTrading) -> None:
        self._venue = venue
        self.is_frozen, self.go_on = threading.Event(), threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._venue, name)

    def send(self, request: SignedRequest) -> Answer:
        self.is_frozen.set()
        assert self.go_on.wait(60)
        return self._venue.send(request)


def test_once_it_says_that_it_is_in_force_not_even_a_frozen_sender_gets_an_order_in(
    run: Run, ledger: Ledger, venue: BinanceTrading, exchange: SimulatedExchangeServer
) -> None:
    order, frozen = an_order(), FrozenBeforeItsFirstByte(venue)
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(sent, ledger, cast("BinanceTrading", frozen), order)
        try:
            assert frozen.is_frozen.wait(30)
            _, answer = run("trading", "emergency-stop", "--cancel")
        finally:
            frozen.go_on.set()
        assert sending.result(30).state is S.REJECTED, "the venue refuses what is too old"
    done = answer["data"]
    assert (done["on_the_way"], done["may_arrive"]) == (1, 0)
    assert RULES.taken_within_s is not None
    assert done["in_force_ms"] - done["said_ms"] > RULES.taken_within_s * 1000
    assert done["cancelled_ms"] > done["in_force_ms"], "looked at again, once nothing could come"
    placed = [each["client_order_id"] for each in exchange.journal("order")]
    assert order.client_order_id not in placed


def test_it_says_that_it_is_not_in_force_where_it_may_not_wait_for_that(
    run: Run, ledger: Ledger, venue: BinanceTrading
) -> None:
    frozen = FrozenBeforeItsFirstByte(venue)
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(sent, ledger, cast("BinanceTrading", frozen), an_order())
        try:
            assert frozen.is_frozen.wait(30)
            code, answer = run("trading", "emergency-stop", "--wait", "0")
        finally:
            frozen.go_on.set()
        sending.result(30)
    assert (code, answer["data"]["in_force_ms"]) == (7, None)
    assert "NOT in force yet: 1 orders" in answer["error"]["cause"]
    (kept,) = Stops(ledger.database).history()
    assert (kept.in_force_ms, kept.is_clean) == (None, False)


def test_what_is_kept_of_a_stop_can_be_added_to(ledger: Ledger) -> None:
    stops = Stops(ledger.database)
    at = datetime.now(UTC)
    first = Stop(at=at, kind="drill", actor="ada", reason="x", said_ms=5, in_force_ms=9)
    number = stops.keep(first)
    told = Stop(
        id=number,
        at=at,
        kind="drill",
        actor="ada",
        reason="x",
        said_ms=5,
        in_force_ms=9,
        cancelled_ms=70,
        finished_at=at + timedelta(seconds=1),
        is_clean=True,
        numbers={"accounts": {}},
    )
    assert stops.keep(told) == number
    assert stops.history() == [told]
    assert stops.history("emergency") == []
    assert stops.last_at("drill") == at
    (event,) = ledger.database.read(lambda session: since(session, 0))
    assert (event.kind, event.words) == ("drill", "drill by ada: x"), "somebody is told, once"


def test_a_drill_leaves_the_account_as_it_was_and_its_times_in_the_ledger(
    run: Run, ledger: Ledger, venue: BinanceTrading
) -> None:
    code, answer = run("trading", "drill", "--orders", "3", "--yes")
    done = answer["data"]
    assert done["placed"] == {"simulated:paper": 3}
    assert done["refused"]["simulated:paper"].startswith("refused: trading is halted")
    assert done["numbers"]["accounts"]["simulated:paper"]["cancelled"] == 3
    # On a machine that stalls it may find itself too slow, and says so.
    assert code == 0 or "took" in answer["error"]["cause"], answer
    assert sent(ledger, venue, an_order()).state is S.LIVE, "trading goes on"
    ledger.halts.set(
        "account:simulated:paper",
        TradingState.HALTED,
        reason="kept",
        actor="ada",
        now=datetime.now(UTC),
        is_human=True,
    )
    assert run("trading", "drill", "--orders", "0", "--yes")[1]["data"]["is_clean"]
    (said,) = [each for each in ledger.halts.all() if each.scope != SWARM]
    assert (said.state, said.reason, said.actor) == (TradingState.HALTED, "kept", "ada")
    _, history = run("trading", "drill", "--history")
    assert [each["kind"] for each in history["data"]] == ["drill", "drill"]
    assert run("trading", "drill", "--account", "binance:spot", "--yes")[0] == 6


def test_a_ledger_that_lets_it_wait_is_told_all_the_same(
    sqlite_ledger: Ledger, tmp_path: Path
) -> None:
    path = sqlite_ledger.database.path
    assert path is not None
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    file = StopFile.of(tmp_path / "state")
    with ThreadPoolExecutor(1) as pool:
        words = ("trading", "emergency-stop", "--json")
        environment = {
            "PATH": os.environ["PATH"],
            "BOTSWARM_DATABASE_URL": f"sqlite:///{path}",
            "BOTSWARM_STATE_DIR": str(file.folder.parent),
        }
        command = [sys.executable, "-m", "botswarm", *words]
        pressed = pool.submit(
            subprocess.run, command, cwd=tmp_path, env=environment, capture_output=True, check=False
        )
        until(file.read, "the stop file to be pulled")
        assert not pressed.done()
        other.execute("ROLLBACK")
        done = pressed.result(120)
    other.close()
    assert done.returncode == 0, done.stderr
    assert sqlite_ledger.halts.all()[0].state is TradingState.HALTED
    assert file.read() is None, "the ledger knows: nobody else has to be told"


def compared_long_ago(ledger: Ledger, *, is_clean: bool = True) -> None:
    values = {"reconciled_at": datetime.now(UTC) - timedelta(hours=1), "is_clean": is_clean}
    ledger.database.write(lambda session: session.execute(update(AccountRow).values(**values)))


def test_a_drill_places_its_orders_where_no_worker_has_run_for_long(
    ledger: Ledger,
    venue: BinanceTrading,
    exchange: SimulatedExchangeServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared_long_ago(ledger)
    monkeypatch.setattr(order_place, "last_price", lambda *_: Decimal(50_000))
    rehearsal = Rehearsal(settings_of(exchange.state_dir), ledger, [PLACE])
    rehearsal._place_all(PLACE, 2)
    assert (rehearsal.placed, rehearsal.failures) == ({":".join(PLACE): 2}, [])


@pytest.mark.parametrize("is_clean", [True, False])
def test_positions_are_closed_however_long_ago_their_account_was_compared(
    ledger: Ledger, venue: BinanceTrading, tmp_path: Path, is_clean: bool
) -> None:
    bought = sent(ledger, venue, a_market_order(quantity=Decimal("0.002")))
    assert bought.state is S.FILLED
    compared_long_ago(ledger, is_clean=is_clean)
    now = datetime.now(UTC)
    halting(ledger).halt([SWARM], reason="fire", actor="ada", now=now)
    press = cast("Press", SimpleNamespace(settings=settings_of(tmp_path), ledger=ledger))
    account = Account(place=PLACE)
    out = _Flattening(press, venue, time.monotonic() + 8)
    with pytest.raises(TimedOut, match="does not agree"):
        out._look_again(15)
    out.run(account)
    assert account.held == {}


def test_a_defect_at_one_venue_is_a_failure_of_its_account_and_of_no_other(
    ledger: Ledger, venue: BinanceTrading, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strange = ("strange", "spot")

    def venue_of(_: Any, __: Any, place: tuple[str, str]) -> BinanceTrading:
        if place == strange:
            raise KeyError("no such thing")
        return venue

    monkeypatch.setattr("botswarm.cli.emergency.venue_of", venue_of)
    monkeypatch.setattr("botswarm.cli.flattening.venue_of", venue_of)
    press, stop = pressing(tmp_path), threading.Event()
    press.done = Pressed(at=datetime.now(UTC), said_ms=1)
    orders = SimpleNamespace(positions=list)
    press.ledger = cast("Any", SimpleNamespace(orders=orders))
    press.stops = cast("Any", SimpleNamespace(keep=lambda stop: 1))
    press.force.is_reached.set()
    failed = press._end(ledger, strange, time.monotonic() + 5, stop)
    done = press._end(ledger, PLACE, time.monotonic() + 5, stop)
    assert failed.failure == "KeyError: 'no such thing'"
    assert (done.failure, done.is_empty) == (None, True)
    press.done.accounts = [Account(place=strange, cancelled_ms=1)]
    flatten(press, 1)
    assert "KeyError" in press.done.accounts[0].held["all"]


def test_a_defect_in_one_market_leaves_nothing_open_in_the_others(
    ledger: Ledger, venue: BinanceTrading, monkeypatch: pytest.MonkeyPatch
) -> None:
    eth = {"symbol": "ETH-USDT", "limit_price": Decimal(2000), "quantity": Decimal("0.01")}
    orders = [sent(ledger, venue, order) for order in (an_order(), an_order(**eth))]
    now, ids = datetime.now(UTC), [each.id for each in orders]
    ledger.cancels.wish(ids, now, actor="ada", reason="fire")
    whole = venue.open_orders

    def open_orders(symbol: str | None = None) -> Any:
        if symbol == "BTC-USDT":
            raise KeyError("orderId")
        return whole(symbol)

    monkeypatch.setattr(venue, "open_orders", open_orders)
    until = time.monotonic() + 5
    ended = end_all(ledger.books, venue, SystemClock(), until, threading.Event(), lambda: True)
    assert ended.asked == 1, "the other one is left to the rounds of settling"
    assert "BTC-USDT: KeyError: 'orderId'" in ended.failures
    assert ledger.orders.get(ids[1]).state is S.CANCELED


def test_every_market_is_asked_in_the_first_round_whatever_becomes_of_the_one_before(
    ledger: Ledger, venue: BinanceTrading, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With more markets than are asked at once, those that wait must not be forgotten."""
    eth = {"symbol": "ETH-USDT", "limit_price": Decimal(2000), "quantity": Decimal("0.01")}
    sol = {"symbol": "SOL-USDT", "limit_price": Decimal(100), "quantity": Decimal("0.2")}
    orders = [
        sent(ledger, venue, order) for order in (an_order(), an_order(**eth), an_order(**sol))
    ]
    assert {each.state for each in orders} == {S.LIVE}
    ids = [each.id for each in orders]
    ledger.cancels.wish(ids, datetime.now(UTC), actor="ada", reason="fire")
    whole, asked = venue.open_orders, list[str | None]()

    def open_orders(symbol: str | None = None) -> Any:
        asked.append(symbol)
        if len(asked) == 1:
            raise KeyError("orderId")
        time.sleep(0.2)  # the third waits for the second
        return whole(symbol)

    monkeypatch.setattr(venue, "open_orders", open_orders)
    monkeypatch.setattr(emergency, "AT_ONCE_MAX", 1)
    now = time.monotonic()
    end_all(ledger.books, venue, SystemClock(), now, threading.Event(), lambda: True)
    assert {*asked} == {"BTC-USDT", "ETH-USDT", "SOL-USDT"}
