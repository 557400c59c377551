"""What an order costs from its decision to its fill: the whole road, with every commit of it."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from botswarm.bench import tasks
from botswarm.bench.loads import used_s
from botswarm.config import load
from botswarm.domain.order import Order, OrderKind, OrderState, Side, TimeInForce
from botswarm.errors import BotswarmError, TimedOut
from botswarm.ledger import migrate
from botswarm.ledger.bot import Bot, BotState
from botswarm.ledger.exchange_journal import verify_against
from botswarm.ledger.models import OrderEventRow, OrderRow
from botswarm.ledger.store import Ledger
from botswarm.ledger.verify import verify
from botswarm.queueing import App, make_app, ring
from botswarm.testing.exchange import SimulatedExchangeServer
from botswarm.testing.servers import (
    AmqpServer,
    EmbeddedBrokerServer,
    PostgreSQLServer,
    RabbitMQServer,
    Server,
)

RATE_MIN = 200.0
LATENCY_P99_MAX_MS = 100.0
PATIENCE_S = 180.0
POLL_S = 0.1
WARM_UP = 20
MARKETS = {"BTC-USDT": ("0.0005", 100_000), "ETH-USDT": ("0.01", 4_000), "SOL-USDT": ("0.2", 200)}
BOTS = 30
SUMS = ("ORDER_NOTIONAL", "OPEN_NOTIONAL", "POSITION_NOTIONAL", "DAILY_LOSS")

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    orders: int
    """That lie in the queue when the workers start."""
    rate: int
    seconds: int
    """So many orders a second for so long, to look at how long each takes."""
    workers: Sequence[int]
    noops: int


FULL = Size(orders=4000, rate=50, seconds=30, workers=(1, 2, 4), noops=4000)
QUICK = Size(orders=1000, rate=50, seconds=8, workers=(1,), noops=1000)


class Stage:
    """A broker, a ledger, the simulated exchange, beat, and some workers of the queue orders."""

    def __init__(self, broker: AmqpServer, ledger: str, folder: Path, stack: ExitStack) -> None:
        self.broker = broker
        self.folder = folder
        self.exchange = stack.enter_context(
            SimulatedExchangeServer(folder, options=("--orders-per-10s-max", "1000000"))
        )
        self.servers: dict[str, Server] = {"broker": broker, "exchange": self.exchange}
        url = f"sqlite:///{folder / 'ledger.db'}"
        if ledger == "postgresql":
            server = stack.enter_context(PostgreSQLServer())
            self.servers["postgresql"] = server
            url = server.ledger_url()
        self.environment = {
            "BOTSWARM_BROKER_URL": broker.url(),
            "BOTSWARM_DATABASE_URL": url,
            "BOTSWARM_STATE_DIR": str(self.exchange.state_dir),
            "BOTSWARM_LOG_LEVEL": "warning",
            "BOTSWARM_LIMIT_ORDERS_PER_MINUTE_MAX": "100000",
            "BOTSWARM_LIMIT_OPEN_ORDERS_MAX": "100000",
            "BOTSWARM_LIMIT_SIGNAL_AGE_MAX_S": "3600",
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "PYTHONWARNINGS": "ignore",
            # The fees of some ten thousand orders are a loss that would stop them.
            **{f"BOTSWARM_LIMIT_{name}_MAX": "1000000000" for name in SUMS},
        }
        settings = load(environ=self.environment, folder=folder).settings
        self.app: App = make_app(settings, set_as_current=False)
        stack.callback(tasks.close, self.app)
        self.ledger = Ledger(settings.database_url)
        stack.callback(self.ledger.close)
        migrate.migrate(self.ledger.database)
        self._placed = 0
        self._make_bots()

    def _make_bots(self) -> None:
        now = datetime.now(UTC)
        self.ledger.changes.save(now, new=list(_bots()), actor="bench", reason="created")
        with self.app.connection_for_write() as connection:
            self.app.amqp.declare_all(connection)

    def reconcile(self) -> None:
        """Nothing is sent before a worker has held the account against its venue."""
        deadline = time.monotonic() + PATIENCE_S
        with self.workers(1):
            while not self.ledger.reconciliations.standing("simulated", "paper").is_clean:
                if time.monotonic() > deadline:
                    raise TimedOut(
                        f"the account was not reconciled within {PATIENCE_S:g} s; the worker's "
                        f"last words: {self._last_words()}",
                        cure="run the bench on a machine that is otherwise idle",
                    )
                time.sleep(POLL_S)

    @contextmanager
    def workers(self, count: int) -> Iterator[Mapping[str, int]]:
        """Process ids by name."""
        celery = [sys.executable, "-m", "celery", "-A", "botswarm"]
        lines = {
            f"worker{number}": [*celery, "worker", "-Q", "orders", "-n", f"orders{number}@%h"]
            for number in range(count)
        }
        lines["beat"] = [*celery, "beat"]
        with ExitStack() as stack:
            yield {
                name: stack.enter_context(tasks.running(self._start(line))).pid
                for name, line in lines.items()
            }

    def _start(self, line: Sequence[str], **more: str) -> subprocess.Popen[bytes]:
        with (self.folder / "workers.log").open("ab") as log:
            return subprocess.Popen(
                line,
                cwd=self.folder,
                env={**self.environment, **more},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    # --- orders -------------------------------------------------------------------------------

    def decide(self, order: Order) -> Order:
        """Commit an order and its doorbell, as a bot's decision does, and ring it."""
        self.ledger.orders.add(order, order.created_at)
        self._placed += 1
        bells = [bell for bell in self.ledger.outbox.pending() if bell.task_id == order.id]
        self.ledger.outbox.ring(bells, partial(ring, app=self.app), datetime.now(UTC))
        return order

    def queue(self, count: int) -> list[Order]:
        """Have so many lie in the queue."""
        orders = [_order(number) for number in range(count)]
        for order in orders:
            self.ledger.orders.add(order, order.created_at)
        self._placed += count
        while bells := self.ledger.outbox.pending():
            self.ledger.outbox.ring(bells, partial(ring, app=self.app), datetime.now(UTC))
        return orders

    def wait_for(self, count: int) -> None:
        """Until at least so many orders of all times are filled to their last fill."""
        ended = select(OrderRow.state, func.count()).where(~OrderRow.is_open).group_by("state")
        deadline = time.monotonic() + PATIENCE_S
        while True:
            # Open ones have an index; all others are counted at the end, and not while it is
            # measured how long that takes.
            while self._placed - self._open() < count and time.monotonic() < deadline:
                time.sleep(POLL_S)
            found = self.ledger.database.read(lambda session: dict(session.execute(ended).all()))
            if any(OrderState(state).is_final for state in found.keys() - {OrderState.FILLED}):
                raise BotswarmError(f"orders of the bench ended otherwise: {self._reason()}")
            if (filled := found.get(OrderState.FILLED, 0)) >= count:
                return
            if time.monotonic() > deadline:
                raise TimedOut(
                    f"{filled} of {count} orders were filled within {PATIENCE_S:g} s; the workers' "
                    f"last words: {self._last_words()}",
                    cure="run the bench on a machine that is otherwise idle",
                )
            time.sleep(POLL_S)

    def _open(self) -> int:
        left = select(func.count()).where(OrderRow.is_open)
        return int(self.ledger.database.read(lambda session: session.scalar(left)) or 0)

    def _reason(self) -> str:
        told = select(OrderEventRow.after, OrderEventRow.reason).where(
            OrderEventRow.reason.is_not(None)
        )
        row = self.ledger.database.read(lambda session: session.execute(told.limit(1)).first())
        return "nobody said why" if row is None else f"{row.after}: {row.reason}"

    def _last_words(self) -> str:
        return (self.folder / "workers.log").read_text(errors="replace")[-1000:]

    def answered(self, orders: Sequence[Order]) -> dict[str, datetime]:
        """When the venue's answer to each was written down."""
        question = select(OrderEventRow.order_id, OrderEventRow.at).where(
            OrderEventRow.before == OrderState.SENDING
        )
        ours = {order.id for order in orders}
        rows = self.ledger.database.read(lambda session: list(session.execute(question)))
        return {order_id: at for order_id, at in rows if order_id in ours}

    def accepted_ms(self) -> dict[str, int]:
        """When the exchange took each, by its own journal; both read one machine's clock."""
        return {each["client_order_id"]: each["at"] for each in self.exchange.journal("order")}

    def check(self) -> None:
        """The books are whole, and say the same as the exchange."""
        for done in (
            verify(self.ledger.database),
            verify_against(self.ledger.database, self.exchange.journal_path),
        ):
            if not done.is_clean:
                raise BotswarmError(f"the ledger is wrong after the bench: {done.findings[:3]}")


def _bots() -> Iterator[Bot]:
    symbols = list(MARKETS)
    for number in range(BOTS):
        yield Bot(
            name=f"bench{number}",
            strategy="sma-cross",
            venue="simulated",
            symbol=symbols[number % len(symbols)],
            account="paper",
            timeframe="1m",
            parameters={},
            state=BotState.RUNNING,
        )


def _order(number: int) -> Order:
    """At market, each bot in turn; it buys and sells in turn."""
    now = datetime.now(UTC)
    bot = number % BOTS
    symbol = list(MARKETS)[bot % len(MARKETS)]
    quantity, price = MARKETS[symbol]
    return Order(
        id=str(uuid.uuid4()),
        bot=f"bench{bot}",
        venue="simulated",
        account="paper",
        symbol=symbol,
        side=Side.SELL if number // BOTS % 2 else Side.BUY,
        kind=OrderKind.MARKET,
        quantity=Decimal(quantity),
        limit_price=None,
        time_in_force=TimeInForce.GTC,
        reference_price=Decimal(price),
        state=OrderState.READY,
        created_at=now,
        signal_expires_at=now + timedelta(minutes=30),
    )


# --- measuring ------------------------------------------------------------------------------------


def drained(stage: Stage, workers: int, size: Size) -> dict[str, Any]:
    """Orders a second from when 5 % are done (the workers are warm) to the last answer."""
    before = len(stage.accepted_ms())
    orders = stage.queue(size.orders)
    with stage.workers(workers) as pids:
        stage.wait_for(before + len(orders) // 20)
        pids = {**{name: server.pid for name, server in stage.servers.items()}, **pids}
        used, left = used_s(pids), before + len(orders) - _filled(stage)
        stage.wait_for(before + len(orders))
        spent = {name: value - used[name] for name, value in used_s(pids).items()}
    ends = sorted(stage.answered(orders).values())
    first = len(ends) // 20
    lasted = (ends[-1] - ends[first]).total_seconds()
    return {
        "workers": workers,
        "orders": len(orders),
        "orders_per_s": round((len(ends) - first - 1) / lasted, 1),
        "cpu_ms_per_order": {
            name: round(value / max(1, left) * 1e3, 2) for name, value in _grouped(spent).items()
        },
    }


def _filled(stage: Stage) -> int:
    done = select(func.count()).where(OrderRow.state == OrderState.FILLED)
    return int(stage.ledger.database.read(lambda session: session.scalar(done)) or 0)


def _grouped(spent: Mapping[str, float]) -> dict[str, float]:
    """All workers of orders together."""
    grouped: dict[str, float] = {}
    for name, value in spent.items():
        kind = "workers" if name.startswith("worker") else name
        grouped[kind] = grouped.get(kind, 0.0) + value
    return grouped


def timed(stage: Stage, size: Size) -> dict[str, Any]:
    """How long an order takes when they come evenly, so many a second, to one worker."""
    before = len(stage.accepted_ms())
    with stage.workers(1):
        for number in range(WARM_UP):
            stage.decide(_order(number))
        stage.wait_for(before + WARM_UP)
        orders, began, late = [], time.monotonic(), 0.0
        for number in range(size.rate * size.seconds):
            due = began + number / size.rate
            time.sleep(max(0.0, due - time.monotonic()))
            late = max(late, time.monotonic() - due)
            orders.append(stage.decide(_order(number)))
        stage.wait_for(before + WARM_UP + len(orders))
    answered, accepted = stage.answered(orders), stage.accepted_ms()
    return {
        "per_s": size.rate,
        "orders": len(orders),
        "decider_late_max_ms": round(late * 1e3, 1),
        "decision_to_accepted": _spread(
            accepted[each.client_order_id] - each.created_at.timestamp() * 1e3 for each in orders
        ),
        "decision_to_answer": _spread(
            (answered[each.id] - each.created_at).total_seconds() * 1e3 for each in orders
        ),
    }


def _spread(values_ms: Iterator[float]) -> dict[str, float]:
    found = sorted(values_ms)
    return {
        "p50_ms": round(statistics.median(found), 1),
        "p95_ms": round(found[len(found) * 95 // 100], 1),
        "p99_ms": round(found[len(found) * 99 // 100], 1),
        "max_ms": round(found[-1], 1),
    }


def _bare_noop(broker: AmqpServer, size: Size) -> dict[str, float]:
    """A task that does nothing, in bare Celery with the same guarantees."""
    small = tasks.Size(rounds=1, tasks=size.noops, trips=20)
    found = dict(tasks.one_round(broker, tasks.BARE, small))
    return {
        "tasks_per_s": round(found["tasks_per_s"], 1),
        "worker_cpu_ms": round(found["worker_cpu_ms"], 3),
    }


def main(
    *,
    brokers: Sequence[str] = ("rabbitmq",),
    ledgers: Sequence[str] = ("postgresql", "sqlite"),
    size: Size = FULL,
    progress: Progress = lambda line: None,
) -> dict[str, Any]:
    """Figures as plain data; docs/bench.md says under each key exactly what is measured."""
    runs = []
    for broker in brokers:
        for ledger in ledgers:
            runs.append(_run(broker, ledger, size, progress))
            progress(_line(runs[-1]))
    return {
        "command": "botswarm bench orders",
        "began_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "runs": runs,
    }


def _run(broker: str, ledger: str, size: Size, progress: Progress) -> dict[str, Any]:
    with ExitStack() as stack:
        server: AmqpServer = stack.enter_context(
            RabbitMQServer() if broker == "rabbitmq" else EmbeddedBrokerServer()
        )
        progress(f"{broker}, {ledger}: a task that does nothing")
        noop = _bare_noop(server, size)
        folder = Path(server.data) / "bench-orders"
        folder.mkdir(exist_ok=True)
        stage = Stage(server, ledger, folder, stack)
        stage.reconcile()
        # SQLite has one writer: more workers than one would only wait for each other.
        counts = size.workers if ledger == "postgresql" else size.workers[:1]
        drains = []
        for count in counts:
            progress(f"{broker}, {ledger}: {size.orders} orders through {count} worker(s)")
            drains.append(drained(stage, count, size))
        progress(f"{broker}, {ledger}: {size.rate} orders a second for {size.seconds} s")
        latency = timed(stage, size)
        stage.check()
    one = drains[0]
    return {
        "broker": broker,
        "ledger": ledger,
        "drains": drains,
        "latency": latency,
        "bare_noop": noop,
        "noops_per_order": round(noop["tasks_per_s"] / one["orders_per_s"], 2),
        "noops_of_worker_cpu_per_order": round(
            one["cpu_ms_per_order"]["workers"] / noop["worker_cpu_ms"], 2
        ),
        "rate_is_met": one["orders_per_s"] >= RATE_MIN,
        "latency_is_met": latency["decision_to_accepted"]["p99_ms"] < LATENCY_P99_MAX_MS,
    }


def _line(run: Mapping[str, Any]) -> str:
    rates = ", ".join(f"{each['workers']}: {each['orders_per_s']}/s" for each in run["drains"])
    return f"{run['broker']}, {run['ledger']}: by workers {rates}"


def table(figures: Mapping[str, Any]) -> str:
    """The same for people."""
    lines = [f"{figures['command']}, {figures['began_at']}"]
    for run in figures["runs"]:
        lines += ["", f"{run['broker']}, {run['ledger']}"]
        for each in run["drains"]:
            cpu = ", ".join(f"{name} {ms}" for name, ms in each["cpu_ms_per_order"].items())
            lines.append(
                f"  {each['workers']} worker(s): {each['orders_per_s']:,} orders/s; "
                f"processor ms per order: {cpu}"
            )
        noop = run["bare_noop"]
        lines.append(
            f"  bare Celery no-op: {noop['tasks_per_s']:,} tasks/s, {noop['worker_cpu_ms']} ms of "
            f"the worker; an order is {run['noops_per_order']} of them in time and "
            f"{run['noops_of_worker_cpu_per_order']} in the worker's processor time"
        )
        latency = run["latency"]
        for key in ("decision_to_accepted", "decision_to_answer"):
            spread = ", ".join(f"{name[:-3]} {value}" for name, value in latency[key].items())
            lines.append(f"  at {latency['per_s']} orders/s, {key.replace('_', ' ')}, ms: {spread}")
    return "\n".join(lines)
