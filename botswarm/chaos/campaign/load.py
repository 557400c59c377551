"""A steady stream of orders by seed, and the mishaps that meet them at the exchange."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from sqlalchemy import func, select

from botswarm.chaos.campaign.stage import Stage
from botswarm.domain.order import Order, OrderKind, OrderState, Side, TimeInForce
from botswarm.errors import BotswarmError
from botswarm.exchanges.registry import PAPER, SIMULATED
from botswarm.ledger.models import OrderRow
from botswarm.queueing import make_app, ring

BOTS = 25
QUANTITIES: Mapping[str, Decimal] = {
    "BTC-USDT": Decimal("0.0002"),
    "ETH-USDT": Decimal("0.005"),
    "SOL-USDT": Decimal("0.1"),
}
LOST_REPLIES = ("drop_reply", "truncate_reply", "garbage_reply", "timeout_executed",
                "error_executed")  # fmt: skip
NOT_DONE = ("drop_request", "timeout_not_executed", "error_not_executed")
ODD_EVENTS = ("query_lag", "lose_event", "repeat_event")
IN_FLIGHT = ("ready", "approved", "sending", "unknown")
RESTING = ("live", "partial")
IN_FLIGHT_MAX = 400
"""The load waits while more is on its way: faults make it late, they must not bury it."""
BEHIND_MAX_S = 120.0
CANCEL_EVERY_S = 10.0
RELAY_EVERY_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """One order and what happens to its reply; both follow from the seed and its number."""

    order: Order
    mishap: Mapping[str, object] | None


def wish(seed: int, number: int, prices: Mapping[str, Decimal], now: datetime) -> Wish:
    dice = random.Random(f"{seed}/order/{number}")  # noqa: S311 - a seed is the point of it
    symbol = dice.choice(sorted(QUANTITIES))
    side = dice.choice((Side.BUY, Side.SELL))
    price = prices[symbol]
    quantity = QUANTITIES[symbol] * dice.randint(1, 3)
    shape = dice.random()
    kind, force, limit = OrderKind.MARKET, TimeInForce.GTC, None
    if shape > 0.6:
        kind = OrderKind.LIMIT
        force = dice.choice((TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK))
        away = Decimal(dice.randint(-30, 200)) / 10_000
        limit = price * (1 - side.sign * away)
        if shape > 0.9:
            kind, force = OrderKind.POST_ONLY, TimeInForce.GTC
    if dice.random() < 0.1:
        # Finer than the market takes: it is rounded, and never up.
        quantity += Decimal("0.000000777")
    order = Order(
        id=str(UUID(int=dice.getrandbits(128), version=4)),
        bot=f"chaos-{dice.randrange(BOTS)}",
        venue=SIMULATED,
        account=PAPER,
        symbol=symbol,
        side=side,
        kind=kind,
        quantity=quantity,
        limit_price=None if limit is None else limit.quantize(Decimal("0.001")),
        time_in_force=force,
        reference_price=price,
        state=OrderState.READY,
        created_at=now,
        signal_expires_at=now + timedelta(seconds=dice.choice((30, 60, 120, 240))),
    )
    return Wish(order=order, mishap=_mishap(dice))


def _mishap(dice: random.Random) -> Mapping[str, object] | None:
    chance = dice.random()
    if chance < 0.37:
        return {"kind": dice.choice(LOST_REPLIES)}
    if chance < 0.39:
        return {"kind": dice.choice(NOT_DONE)}
    if chance < 0.395:
        # Within its time window it is done, and late; after that it is refused.
        return {"kind": "hold", "seconds": dice.choice((1.2, 1.5, 1.8, 3, 8, 30))}
    if chance < 0.43:
        return {"kind": dice.choice(ODD_EVENTS), "seconds": dice.randint(1, 12)}
    return None


@dataclass(slots=True)
class Tally:
    attempted: int = 0
    acknowledged: set[str] = field(default_factory=set)
    """Ids whose commit the ledger has confirmed."""
    refused: int = 0
    """Writes that failed and were given up; nothing was promised of them."""
    mishaps: Counter[str] = field(default_factory=Counter)
    wished: int = 0
    """Ends of orders, by the ledger; the worker asks the venue for them."""
    cancels: int = 0
    """At the venue, past the ledger."""


class Load:
    """Three threads: one writes orders, one rings for them, one has resting orders cancelled."""

    def __init__(self, stage: Stage, *, seed: int, per_s: float, mishaps: bool = True) -> None:
        self._stage = stage
        self._seed = seed
        self._per_s = per_s
        self._number = 0
        self._has_mishaps = mishaps
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=work, name=work.__name__.strip("_"), daemon=True)
            for work in (self._write, self._relay, self._cancel)
        ]
        self._lock = threading.Lock()
        self._prices: dict[str, Decimal] = {}
        self.tally = Tally()
        self.troubles: Counter[str] = Counter()

    def __enter__(self) -> Load:
        self._learn_prices()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._over.set()
        for thread in self._threads:
            thread.join(20)

    def stop(self) -> None:
        """No more new orders; those there are ring on."""
        self._stage.halted.set()

    # --- writing ------------------------------------------------------------------------------

    def _write(self) -> None:
        due = looked_at = time.monotonic()
        while not self._over.is_set():
            extra = self._stage.burst.pop() if self._stage.burst else 0
            now = time.monotonic()
            if not self._stage.halted.is_set():
                for _ in range(extra):
                    self._one()
                if now >= due:
                    # What could not be written in time is made up for.
                    due = max(due + 1 / self._per_s, now - BEHIND_MAX_S)
                    self._one()
                if now - looked_at > 1:
                    looked_at = now
                    self._learn_prices()
                    if self._in_flight() > IN_FLIGHT_MAX:
                        self._over.wait(2)
            self._over.wait(max(0.002, min(0.1, due - time.monotonic())))

    def _one(self) -> None:
        self._number += 1
        made = wish(self._seed, self._number, self._prices, datetime.now(UTC))
        mishap = made.mishap if self._has_mishaps else None
        if mishap is not None and self._stage.arm(**{"on": "place", **mishap}):  # type: ignore[arg-type]
            self.tally.mishaps[str(mishap["kind"])] += 1
        self.tally.attempted += 1
        deadline = time.monotonic() + 5
        while True:
            try:
                self._stage.ledger.orders.add(made.order, made.order.created_at)
                self.tally.acknowledged.add(made.order.id)
                return
            except BotswarmError as error:
                self.troubles[f"ledger: {type(error).__name__}"] += 1
            if time.monotonic() > deadline or self._over.wait(0.3):
                self.tally.refused += 1
                return

    def _in_flight(self) -> int:
        question = select(func.count()).where(OrderRow.state.in_(IN_FLIGHT))
        with contextlib.suppress(BotswarmError):
            return self._stage.ledger.database.read(lambda session: session.scalar(question)) or 0
        return 0

    def _learn_prices(self) -> None:
        if self._stage.hush.is_set():
            return
        try:
            told = self._stage.exchange.public("GET", "/api/v3/ticker/price").body
            found = {row["symbol"]: Decimal(row["price"]) for row in told}
            self._prices = {name: found[name.replace("-", "")] for name in QUANTITIES}
        except Exception as error:
            # It may be down, or answer nonsense: both are done to it on purpose.
            self.troubles[f"prices: {type(error).__name__}"] += 1

    # --- ringing ------------------------------------------------------------------------------

    def _relay(self) -> None:
        app = make_app(self._stage.settings, set_as_current=False)
        while not self._over.wait(RELAY_EVERY_S):
            try:
                self._stage.ledger.outbox.relay(lambda bell: ring(bell, app), datetime.now(UTC))
            except (BotswarmError, OSError) as error:
                self.troubles[f"bell: {type(error).__name__}"] += 1
            except Exception as error:
                self.troubles[f"bell: {error!r}"[:120]] += 1
        app.close()

    # --- cancelling ---------------------------------------------------------------------------

    def _cancel(self) -> None:
        """What rests is ended as it should be, or by its owner's other hand, at the venue."""
        is_announced = True
        while not self._over.wait(CANCEL_EVERY_S):
            (self._wish_ends if is_announced else self.cancel_resting)()
            is_announced = not is_announced

    def _wish_ends(self) -> None:
        question = select(OrderRow.id).where(OrderRow.state.in_(RESTING))
        try:
            ids = self._stage.ledger.database.read(lambda session: session.scalars(question).all())
            wished = self._stage.ledger.cancels.wish(
                ids, datetime.now(UTC), actor="chaos", reason="it has rested long enough"
            )
            self.tally.wished += len(wished.asked)
        except BotswarmError as error:
            self.troubles[f"cancels: {type(error).__name__}"] += 1

    def cancel_resting(self) -> None:
        if self._stage.hush.is_set():
            return
        for symbol in QUANTITIES:
            market = symbol.replace("-", "")
            try:
                reply = self._stage.exchange.signed("DELETE", "/api/v3/openOrders", symbol=market)
            except Exception as error:
                self.troubles[f"cancels at the venue: {type(error).__name__}"] += 1
                continue
            if reply.status == 200:
                self.tally.cancels += len(reply.body)
