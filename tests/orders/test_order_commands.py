"""What a person does to orders and positions by hand, with a real worker and exchange behind it."""

from __future__ import annotations

import csv
import hashlib
import json
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from botswarm.clock import SystemClock
from botswarm.domain.order import OrderState
from botswarm.ledger import migrate
from botswarm.ledger.bot import Bot, BotState
from botswarm.ledger.outbox import placing
from botswarm.ledger.store import Ledger
from botswarm.messages import SettleOrders, send
from botswarm.testing.exchange import SimulatedExchangeServer
from botswarm.testing.servers import EmbeddedBrokerServer
from botswarm.trading import executor
from tests.command_line import run_botswarm
from tests.integration.swarm import Swarm, until
from tests.orders.conftest import NO_LIMITS, a_venue, an_order
from tests.standing import reconciled

S = OrderState
Run = Callable[..., tuple[int, Any]]


class Room:
    def __init__(self, swarm: Swarm, exchange: SimulatedExchangeServer, ledger: Ledger) -> None:
        self.swarm = swarm
        self.exchange = exchange
        self.ledger = ledger

    def call(self, *words: str, is_json: bool = True) -> tuple[int, Any]:
        form = ["--json"] if is_json else []
        environ = self.swarm.environment
        done = run_botswarm(*words, *form, folder=self.swarm.folder, environ=environ)
        return done.returncode, json.loads(done.stdout) if is_json else done.stdout

    def settled(self, order_id: str, state: OrderState) -> None:
        def is_there() -> bool:
            send(self.swarm.app, SettleOrders())
            return self.ledger.orders.get(order_id).state is state

        until(is_there, f"{order_id} to be {state}")


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    """A worker, an exchange and a ledger; no beat: nothing settles by itself."""
    folder = tmp_path_factory.mktemp("hand")
    vhost = f"h-{uuid.uuid4().hex[:8]}"
    with EmbeddedBrokerServer() as broker, SimulatedExchangeServer(folder) as exchange:
        broker.add_vhost(vhost)
        ledger = Ledger(f"sqlite:///{folder / 'state' / 'ledger.db'}")
        migrate.migrate(ledger.database)
        reconciled(ledger, datetime.now(UTC))
        swarm = Swarm(broker, vhost, folder)
        # A person's order has as long as this; a test's machine may stall.
        swarm.settings["BOTSWARM_LIMIT_SIGNAL_AGE_MAX_S"] = "60"
        swarm.worker("orders")
        try:
            yield Room(swarm, exchange, ledger)
        finally:
            swarm.close()
            ledger.close()


def placed(room: Room, *words: str) -> dict[str, Any]:
    code, answer = room.call("order", "place", *words, "--wait", "60")
    assert code == 0, answer
    data: dict[str, Any] = answer["data"]
    return data


def test_an_order_by_hand_is_filled_and_its_position_closed(room: Room) -> None:
    bought = placed(room, "btc-usdt", "buy", "0.001")
    assert (bought["state"], bought["bot"], bought["kind"]) == ("filled", "manual", "market")
    _, answer = room.call("position", "list", "--bot", "manual")
    (held,) = answer["data"]
    assert Decimal(held["quantity"]) > 0
    code, answer = room.call("position", "close", "--bot", "manual")
    assert (code, answer["error"]["code"]) == (6, "BSW-6001")
    code, answer = room.call("position", "close", "--bot", "manual", "--dry-run")
    assert (code, len(answer["data"]["would_close"])) == (0, 1)
    code, answer = room.call("position", "close", "--bot", "manual", "--yes", "--wait", "60")
    assert code == 0, answer
    (closing,) = answer["data"]["orders"]
    assert (closing["state"], closing["side"], closing["is_reduce_only"]) == (
        *("filled", "sell"),
        True,
    )
    _, answer = room.call("position", "list", "--bot", "manual")
    left = sum(Decimal(each["quantity"]) for each in answer["data"])
    assert left < Decimal(held["quantity"])


def test_a_market_that_is_not_there_is_named_before_its_venue_is_asked(room: Room) -> None:
    for symbol in ("BTC-EURO", "BTCUSDT"):
        code, answer = room.call("order", "place", symbol, "buy", "0.001")
        assert (code, answer["error"]["code"]) == (4, "BSW-4000")
        assert symbol in answer["error"]["cause"]


def test_a_resting_order_is_cancelled_and_tells_who_wanted_it(room: Room) -> None:
    resting = placed(room, "simulated:BTC-USDT", "buy", "0.001", "--limit", "50000")
    assert resting["state"] == "live"
    code, answer = room.call("order", "cancel", resting["id"], "--reason", "tired", "--wait", "60")
    assert code == 0, answer
    assert answer["data"]["asked"] == [resting["id"]]
    _, answer = room.call("order", "show", resting["id"])
    story = answer["data"]
    assert (story["state"], story["cancel"]["reason"]) == ("canceled", "tired")
    assert [event["after"] for event in story["events"]] == [
        *("ready", "approved", "sending", "live", "canceled")
    ]
    code, answer = room.call("order", "cancel", resting["id"])
    assert (code, answer["data"]["over"]) == (0, [resting["id"]])


def test_all_orders_of_a_market_end_together_once_somebody_confirms(room: Room) -> None:
    resting = [
        placed(room, "ETH-USDT", "buy", "0.01", "--limit", price, "--bot", "herd")["id"]
        for price in ("1000", "1001", "1002")
    ]
    words = ("order", "cancel", "--bot", "herd", "--market", "simulated:eth-usdt")
    code, answer = room.call(*words)
    assert (code, answer["error"]["code"]) == (6, "BSW-6001")
    _, answer = room.call(*words, "--dry-run")
    assert {each["id"] for each in answer["data"]["would_cancel"]} == set(resting)
    code, answer = room.call(*words, "--yes", "--wait", "60")
    assert code == 0, answer
    assert {room.ledger.orders.get(each).state for each in resting} == {S.CANCELED}
    assert not room.exchange.signed("GET", "/api/v3/openOrders", symbol="ETHUSDT").body


def test_an_order_takes_the_place_of_another(room: Room) -> None:
    words = ("BTC-USDT", "buy", "0.001", "--limit")
    first = placed(room, *words, "50000")
    second = placed(room, *words, "50001", "--replaces", first["id"])
    assert (second["state"], second["replaces"]) == ("live", first["id"])
    assert room.ledger.orders.get(first["id"]).state is S.CANCELED
    room.call("order", "cancel", second["id"], "--wait", "60")


def test_what_a_venue_cannot_rest_ends_at_once(room: Room) -> None:
    for tif in ("ioc", "fok"):
        gone = placed(room, "BTC-USDT", "buy", "0.001", "--limit", "50000", "--tif", tif)
        assert (gone["time_in_force"], gone["state"]) == (tif, "expired")


def test_an_order_that_may_only_reduce_is_refused_where_nothing_is_held(room: Room) -> None:
    code, answer = room.call(
        *("order", "place", "BTC-USDT", "sell", "0.001", "--reduce-only", "--bot", "nobody"),
        *("--wait", "60"),
    )
    assert code == 6
    assert "may only reduce" in answer["error"]["cause"]


def test_the_worker_refuses_an_account_that_it_does_not_have(room: Room) -> None:
    order = an_order(venue="binance", account="nobodys")
    room.ledger.orders.add(order, datetime.now(UTC))
    send(room.swarm.app, SettleOrders())
    send(room.swarm.app, placing(order))
    until(lambda: room.ledger.orders.get(order.id).state is S.REFUSED, "the refusal")
    assert "has no keys here" in (room.ledger.orders.get(order.id).reason or "")


def test_an_unknown_outcome_is_resolved_with_the_proof_told(room: Room) -> None:
    venue = a_venue(room.exchange)
    room.exchange.arm("drop_reply")
    order = an_order()
    room.ledger.orders.add(order, datetime.now(UTC))
    room.ledger.books.save_instruments(venue.instruments())
    executor.place(order.id, room.ledger.books, venue, NO_LIMITS, SystemClock())
    assert room.ledger.orders.get(order.id).state is S.UNKNOWN
    code, answer = room.call("order", "resolve", order.id)
    assert code == 0, answer
    assert answer["data"]["order"]["state"] == "live"
    step = answer["data"]["steps"][-1]
    assert (step["question"], step["answer"]) == (
        f"the order {order.client_order_id}",
        "live, 0 filled",
    )
    code, text = room.call("order", "resolve", order.id, is_json=False)
    assert code == 0
    assert "was live and is live" in text
    venue.close()


def test_a_bot_that_is_stopped_with_its_orders_leaves_none_resting(room: Room) -> None:
    bot = Bot(
        name="maker",
        strategy="market-maker",
        venue="simulated",
        symbol="BTC-USDT",
        account="paper",
        timeframe="1m",
        parameters={},
        state=BotState.RUNNING,
    )
    room.ledger.bots.create(bot, datetime.now(UTC), actor="test")
    resting = placed(room, "BTC-USDT", "buy", "0.001", "--limit", "50000", "--bot", "maker")
    code, answer = room.call("bot", "stop", "maker", "--cancel", "--reason", "enough")
    assert (code, answer["data"]["changed"]) == (0, ["maker"])
    until(
        lambda: room.ledger.orders.get(resting["id"]).state is S.CANCELED,
        "the order of the stopped bot to end",
    )
    wish = room.ledger.cancels.of(resting["id"])
    assert wish is not None
    assert wish.reason == "enough"


def test_what_is_wrong_on_the_line_is_said_before_anything_is_written(room: Room) -> None:
    before = len(room.ledger.orders.list(limit=1000))
    for code, words in (
        (2, ("BTC-USDT", "buy", "-1")),
        (2, ("BTC-USDT", "buy", "a lot")),
        (2, ("BTC-USDT", "buy", "1", "--tif", "ioc")),
        (2, ("BTC-USDT", "buy", "1", "--post-only")),
        (2, ("BTC-USDT", "buy", "1", "--account", "binance:spot")),
        (4, ("NO-SUCH", "buy", "1", "--limit", "5")),
        (4, ("kraken:BTC-USD", "buy", "1", "--limit", "5")),
        (4, ("BTC-USDT", "buy", "1", "--limit", "5", "--replaces", "no-such-order")),
    ):
        assert room.call("order", "place", *words)[0] == code, words
    assert room.call("order", "cancel")[0] == 2
    assert room.call("order", "cancel", "no-such-order")[0] == 4
    assert room.call("position", "close")[0] == 2
    assert len(room.ledger.orders.list(limit=1000)) == before


def test_trades_and_the_journal_are_exported_to_their_last_digit(room: Room) -> None:
    placed(room, "BTC-USDT", "buy", "0.001")
    _, answer = room.call("trade", "list", "--bot", "manual")
    assert answer["data"]
    folder: Path = room.swarm.folder
    code, answer = room.call("trade", "export", "--format", "csv", "--out", str(folder / "t.csv"))
    assert code == 0
    with (folder / "t.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == answer["data"]["rows"]
    known = {fill.trade_id: fill for fill in room.ledger.orders.fills("manual", limit=1000)}
    ours = {int(row["trade_id"]): row for row in rows if row["bot"] == "manual"}
    assert ours.keys() == known.keys()
    assert {row["account_kind"] for row in rows} == {"paper"}
    for noun in ("order", "position", "trade"):
        _, listed = room.call(noun, "list", "--bot", "manual")
        assert {each["account_kind"] for each in listed["data"]} == {"paper"}
        assert "paper" in room.call(noun, "list", "--bot", "manual", is_json=False)[1]
    assert all(Decimal(ours[each]["price"]) == known[each].price for each in known)
    code, text = room.call("trade", "export", is_json=False)
    assert (code, len(text.splitlines())) == (0, len(rows))
    code, text = room.call("ledger", "export", is_json=False)
    previous = "0" * 64
    for line in text.splitlines():
        entry = json.loads(line)
        spelled = {name: entry[name] for name in entry if not name.endswith("hash")}
        words = json.dumps(spelled, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        assert entry["previous_hash"] == previous
        assert hashlib.sha256(previous.encode() + words.encode()).hexdigest() == entry["hash"]
        previous = entry["hash"]
    assert previous != "0" * 64
