"""Digests and a bell lead to READY orders in a real worker, on both brokers and ledgers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import amqp
import pytest
from kombu import Connection  # type: ignore[attr-defined]  # exported lazily

from botswarm.bots.conclusion import ERRORS_MAX
from botswarm.bots.registry import Registry
from botswarm.bots.spec import BotSpec
from botswarm.domain.market import Candle
from botswarm.domain.order import OrderState, Side
from botswarm.ledger.bots import BotState
from botswarm.ledger.store import Ledger
from botswarm.market.wire import EXCHANGE, Digest, MarketDigest, digest_key, encode
from botswarm.messages import EvaluateMarket, PlaceOrder, send
from botswarm.strategies.registry import load
from botswarm.testing.servers import AmqpServer, EmbeddedBrokerServer, RabbitMQServer
from tests.integration.swarm import Process, Swarm, until
from tests.strategies.values import SYMBOL, VENUE, a_quote, a_trade

MINUTE_MS = 60_000
SOON_S = 30.0
"""A worker that is ready is useful within this, on a machine that is busy with other tests."""

BAD = '''
from botswarm.strategies.api import Decision, Strategy, View


class Bad(Strategy):
    """Always fails."""

    @property
    def history(self) -> int:
        return 1

    def decide(self, view: View) -> Decision:
        raise ZeroDivisionError("a bug in a plugin")
'''


@pytest.fixture(scope="module")
def brokers() -> Iterator[dict[str, AmqpServer]]:
    running: dict[str, AmqpServer] = {}
    yield running
    for server in running.values():
        server.close()


@pytest.fixture
def swarm(
    brokers: dict[str, AmqpServer],
    ledger: Ledger,
    database_url: str,
    tmp_path: Path,
) -> Iterator[Swarm]:
    """SQLite goes with the embedded broker, PostgreSQL with RabbitMQ: what people run."""
    kind = EmbeddedBrokerServer if ledger.database.is_sqlite else RabbitMQServer
    if kind.name not in brokers:
        brokers[kind.name] = kind()
        brokers[kind.name].start()
    vhost = tmp_path.name
    brokers[kind.name].add_vhost(vhost)
    strategies = tmp_path / "strategies"
    strategies.mkdir()
    (strategies / "bad.py").write_text(BAD)
    made = Swarm(
        brokers[kind.name],
        vhost,
        tmp_path,
        settings={
            "BOTSWARM_DATABASE_URL": database_url,
            "BOTSWARM_STRATEGIES_DIR": str(strategies),
        },
    )
    yield made
    made.close()
    brokers[kind.name].delete_vhost(vhost)


def a_worker(swarm: Swarm) -> Process:
    process = swarm.start("worker", "-Q", "strategy", "-n", f"s{len(swarm.processes)}@test")
    until(lambda: " ready." in process.text or process.popen.poll() is not None, "the worker")
    assert process.popen.poll() is None, process.text
    return process


def a_bot(ledger: Ledger, swarm: Swarm, name: str, strategy: str, **parameters: object) -> None:
    spec = BotSpec.of(
        load(swarm.folder / "strategies"),
        name=name,
        strategy=strategy,
        venue=VENUE,
        symbol=SYMBOL,
        account="paper",
        timeframe="1m",
        budget=1000,
        parameters=parameters,
    )
    bots = Registry(ledger)
    bots.create(spec, datetime.now(UTC), actor="test")
    bots.start(name, datetime.now(UTC), actor="test")


def save_history(ledger: Ledger, closes: list[int]) -> None:
    """Closed candles up to the one that is open now."""
    open_now = int(time.time() * 1000) // MINUTE_MS * MINUTE_MS
    ledger.candles.save(
        [
            Candle(
                venue=VENUE,
                symbol=SYMBOL,
                timeframe="1m",
                open_ms=open_now - MINUTE_MS * (len(closes) - place),
                open=Decimal(close),
                high=Decimal(close),
                low=Decimal(close),
                close=Decimal(close),
                volume=Decimal(1),
                trades=1,
                is_closed=True,
            )
            for place, close in enumerate(closes)
        ]
    )


class Feed:
    """The least a feed does: a digest on the exchange, then the bell."""

    def __init__(self, swarm: Swarm) -> None:
        self._swarm = swarm
        self.sequence = 0

    def tell(self, *, age_s: float = 0, bid: int = 100, ask: int = 101, ahead: int = 0) -> None:
        self.sequence += 1
        at_ms = int((time.time() - age_s) * 1000)
        market = MarketDigest(
            symbol=SYMBOL,
            sequence=self.sequence,
            trade=a_trade(100, at_ms),
            quote=a_quote(bid, ask, at_ms),
        )
        digest = Digest(venue=VENUE, sent_ms=at_ms, markets=(market,))
        with Connection(self._swarm.url) as way:  # type: ignore[no-untyped-call]
            channel: Any = way.connection.channel()
            channel.exchange_declare(EXCHANGE, "topic", durable=True, auto_delete=False)
            channel.confirm_select()
            message = amqp.Message(encode(digest), content_type="application/json")
            channel.basic_publish_confirm(message, EXCHANGE, digest_key(VENUE))
        self.ring(ahead)

    def ring(self, ahead: int = 0) -> None:
        send(
            self._swarm.app,
            EvaluateMarket(venue=VENUE, symbol=SYMBOL, sequence=self.sequence + ahead),
        )


def evaluation(ledger: Ledger, name: str) -> dict[str, Any]:
    return dict(ledger.bots.get(name).last_evaluation or {})


def tell_until(feed: Feed, condition: Any, what: str, **news: int) -> Any:
    """A feed tells again and again; a worker that has just joined may have missed the first."""
    deadline = time.monotonic() + SOON_S
    while True:
        feed.tell(**news)
        tried = time.monotonic() + 0.5
        while time.monotonic() < tried:
            if answer := condition():
                return answer
            time.sleep(0.02)
        assert time.monotonic() < deadline, f"waited {SOON_S:g} s for {what}"


def test_a_digest_and_a_bell_lead_to_ready_orders(swarm: Swarm, ledger: Ledger) -> None:
    save_history(ledger, [100 + n for n in range(10)])
    a_bot(ledger, swarm, "rises", "sma-cross", fast=2, slow=5)
    a_bot(ledger, swarm, "rests", "grid", levels=3, step_percent="1")
    a_bot(ledger, swarm, "fails", "bad")
    a_worker(swarm)
    feed = Feed(swarm)
    tell_until(feed, lambda: len(ledger.orders.list()) == 4, "orders of the bots")
    (bought,) = ledger.orders.list(bot="rises")
    assert (bought.state, bought.side) == (OrderState.READY, Side.BUY)
    assert bought.quantity * 101 <= 1000
    assert bought.signal_expires_at - bought.created_at == timedelta(seconds=10)
    assert evaluation(ledger, "rises")["verdict"] == "in: the fast average is above the slow one"
    assert len(ledger.orders.list(bot="rests")) == 3
    until(lambda: swarm.ready("orders") == 4, "their doorbells on the queue of orders")
    assert {each.task for each in ledger.outbox.pending()} <= {PlaceOrder.task}
    until(lambda: not ledger.outbox.pending(), "the doorbells to be marked as rung")
    # The plugin's bug cost its own bot only, and in the end paused it.
    tell_until(
        feed,
        lambda: ledger.bots.get("fails").state is BotState.PAUSED,
        f"the bad bot to be paused after {ERRORS_MAX} errors",
    )
    reason = ledger.bots.get("fails").reason or ""
    assert "ZeroDivisionError: a bug in a plugin" in reason
    assert ledger.bots.get("rises").state is BotState.RUNNING
    # All the while nothing new was ordered: what is READY counts.
    assert len(ledger.orders.list()) == 4


def test_two_workers_decide_once_and_either_may_die(swarm: Swarm, ledger: Ledger) -> None:
    save_history(ledger, [100 + n for n in range(10)])
    a_bot(ledger, swarm, "rises", "sma-cross", fast=2, slow=5)
    one, _ = a_worker(swarm), a_worker(swarm)
    feed = Feed(swarm)
    tell_until(feed, lambda: ledger.orders.list(bot="rises"), "the first order")
    for _ in range(5):
        feed.tell()
        feed.ring()
    one.end()
    before = evaluation(ledger, "rises")["sequence"]
    Registry(ledger).stop("rises", datetime.now(UTC), actor="test")
    a_bot(ledger, swarm, "later", "sma-cross", fast=2, slow=5)
    tell_until(feed, lambda: ledger.orders.list(bot="later"), "the order of the second bot")
    assert len(ledger.orders.list(bot="rises")) == 1
    assert evaluation(ledger, "later")["sequence"] > before


def test_bots_do_not_act_on_bad_data_and_say_why(swarm: Swarm, ledger: Ledger) -> None:
    save_history(ledger, [100 + n for n in range(10)])
    a_bot(ledger, swarm, "careful", "sma-cross", fast=2, slow=5)
    a_bot(ledger, swarm, "young", "sma-cross", fast=2, slow=40)
    a_worker(swarm)
    feed = Feed(swarm)
    bad: dict[str, dict[str, int]] = {
        "stale": {"age_s": 60},
        "crossed": {"bid": 102, "ask": 101},
        # Crossed too, so that no ring that was late can decide on it.
        "behind": {"bid": 102, "ask": 101, "ahead": 1000},
    }
    for gate, what in bad.items():

        def is_stopped(wanted: str = gate) -> bool:
            stopped = evaluation(ledger, "careful").get("stopped") or {}
            return bool(stopped.get("gate") == wanted)

        tell_until(feed, is_stopped, f"the gate {gate}", **what)
    assert ledger.orders.list() == []
    told = swarm.command("bot", "why", "careful")["data"]
    assert told["evaluation"]["stopped"]["gate"] == "behind"
    assert "does not act: digest" in told["answer"]
    tell_until(feed, lambda: ledger.orders.list(bot="careful"), "an order on good data")
    # Ten candles are known, and nobody has more: forty are not invented.
    assert evaluation(ledger, "young")["stopped"]["gate"] == "history"
    assert ledger.orders.list(bot="young") == []
