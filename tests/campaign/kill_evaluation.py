"""Strategy workers are killed and added while a market moves: each move is decided on once.

``python -m tests.campaign.kill_evaluation [ROUNDS]`` runs a long one; a short one is a test.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import amqp
from kombu import Connection  # type: ignore[attr-defined]  # exported lazily
from sqlalchemy import select

from botswarm.bots.registry import Registry
from botswarm.bots.spec import BotSpec
from botswarm.domain.market import Candle
from botswarm.ledger import migrate
from botswarm.ledger.models import EvaluationRow
from botswarm.ledger.store import Ledger
from botswarm.market.wire import EXCHANGE, Digest, MarketDigest, digest_key, encode
from botswarm.messages import EvaluateMarket, send
from botswarm.strategies.registry import load
from botswarm.testing.servers import EmbeddedBrokerServer
from tests.integration.swarm import Process, Swarm, until
from tests.strategies.values import BTC, SYMBOL, VENUE, a_quote, a_trade

BOTS = 20
WORKERS = 3
MINUTE_MS = 60_000
DECIDED_S = 30.0
"""A loaded machine takes its time; what counts is that nothing is lost or doubled."""


@dataclass(slots=True)
class Arena:
    swarm: Swarm
    ledger: Ledger
    chance: random.Random
    sequence: int = 0
    told: list[int] = field(default_factory=list)
    kills: int = 0
    slowest_s: float = 0.0

    def add_worker(self) -> Process:
        name = f"s{len(self.swarm.processes)}@test"
        process = self.swarm.start("worker", "-Q", "strategy", "-n", name)
        until(lambda: " ready." in process.text or process.popen.poll() is not None, "a worker")
        assert process.popen.poll() is None, process.text
        return process

    def add_bots(self) -> None:
        catalog, now = load(), datetime.now(UTC)
        for number in range(BOTS):
            spec = BotSpec.of(
                catalog,
                name=f"b{number}",
                strategy="bollinger-reversion",
                venue=VENUE,
                symbol=SYMBOL,
                account="paper",
                timeframe="1m",
                budget=1000,
                is_shadow=True,
            )
            Registry(self.ledger).create(spec, now, actor="campaign")
            Registry(self.ledger).start(spec.name, now, actor="campaign")
        open_now = int(time.time() * 1000) // MINUTE_MS * MINUTE_MS
        for minute in range(-200, 60):
            self.ledger.candles.save([_candle(open_now + minute * MINUTE_MS, 100 + minute % 3)])

    def move(self) -> int:
        """The price jumps, so that every bot has another verdict than before."""
        self.sequence += 1
        now_ms = int(time.time() * 1000)
        price = 50 if self.sequence % 2 else 150
        market = MarketDigest(
            symbol=SYMBOL,
            sequence=self.sequence,
            trade=a_trade(price, now_ms),
            quote=a_quote(price, price + 1, now_ms),
        )
        digest = Digest(venue=VENUE, sent_ms=now_ms, markets=(market,))
        with Connection(self.swarm.url) as way:  # type: ignore[no-untyped-call]
            channel: Any = way.connection.channel()
            channel.exchange_declare(EXCHANGE, "topic", durable=True, auto_delete=False)
            channel.confirm_select()
            message = amqp.Message(encode(digest), content_type="application/json")
            channel.basic_publish_confirm(message, EXCHANGE, digest_key(VENUE))
        send(self.swarm.app, EvaluateMarket(venue=VENUE, symbol=SYMBOL, sequence=self.sequence))
        return self.sequence

    def decided(self) -> Counter[tuple[str, int]]:
        question = select(EvaluationRow.bot, EvaluationRow.sequence)
        rows = self.ledger.database.read(lambda session: session.execute(question).all())
        return Counter((bot, sequence) for bot, sequence in rows)

    def move_and_wait(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        began, sequence = time.monotonic(), self.move()
        meanwhile()
        until(
            lambda: sum(at == sequence for _, at in self.decided()) == BOTS,
            f"all bots to have decided on {sequence}",
            DECIDED_S,
        )
        self.told.append(sequence)
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)

    def kill_soon(self, worker: Process) -> None:
        time.sleep(self.chance.random() * 0.03)
        self.kills += 1
        worker.end()

    def doubled(self) -> list[tuple[str, int]]:
        return [what for what, count in self.decided().items() if count > 1]


def _candle(open_ms: int, close: int) -> Candle:
    price = Decimal(close)
    return Candle(
        venue=VENUE,
        symbol=SYMBOL,
        timeframe="1m",
        open_ms=open_ms,
        open=price,
        high=price,
        low=price,
        close=price,
        volume=Decimal(1),
        trades=1,
        is_closed=True,
    )


def run(folder: Path, *, rounds: int, kill_every: int, seed: int = 1) -> Arena:
    """Kills one of the workers in every so many rounds, in the middle of it, and adds another."""
    with EmbeddedBrokerServer() as broker:
        database = f"sqlite:///{folder / 'ledger.db'}"
        ledger = Ledger(database)
        migrate.migrate(ledger.database)
        ledger.books.save_instruments([BTC])
        broker.add_vhost("kills")
        swarm = Swarm(broker, "kills", folder, settings={"BOTSWARM_DATABASE_URL": database})
        arena = Arena(swarm, ledger, random.Random(seed))
        try:
            arena.add_bots()
            workers = [arena.add_worker() for _ in range(WORKERS)]
            for number in range(1, rounds + 1):
                if number % kill_every:
                    arena.move_and_wait()
                    continue
                victim = workers.pop(arena.chance.randrange(len(workers)))
                arena.move_and_wait(lambda victim=victim: arena.kill_soon(victim))  # type: ignore[misc]
                workers.append(arena.add_worker())
                arena.move_and_wait()
            return arena
        finally:
            swarm.close()
            ledger.close()


def main(rounds: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        arena = run(Path(folder), rounds=rounds, kill_every=3, seed=int(time.time()))
        doubled = arena.doubled()
    print(f"{len(arena.told)} moves, {BOTS} bots, {arena.kills} workers killed: "
          f"0 lost, {len(doubled)} doubled; slowest {arena.slowest_s:.2f} s")  # fmt: skip
    return 1 if doubled else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 150))
