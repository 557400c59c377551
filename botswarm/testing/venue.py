"""A venue in memory that keeps Binance's promises and breaks everything else on demand."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum, auto

from botswarm.clock import Clock
from botswarm.domain.fill import Fill
from botswarm.domain.instrument import Instrument
from botswarm.domain.order import Order, OrderKind, OrderState, Side, TimeInForce
from botswarm.errors import Unreachable
from botswarm.exchanges.base import (
    Accepted,
    Answer,
    Declined,
    Permissions,
    Report,
    SignedRequest,
    TradingRules,
    Unclear,
)


@dataclass(frozen=True, slots=True)
class Semantics:
    """What a venue promises about requests and client order ids."""

    name: str
    window: timedelta
    """How old a request may be when it arrives."""
    fence: timedelta
    """From its signing to when it can have become no order any more."""
    engine: timedelta = timedelta(0)
    """How long what arrived in time may wait for the engine."""
    is_idempotent: bool = False
    """A client order id that was ever taken is answered with the order it was taken for."""


BINANCE = Semantics("binance", timedelta(seconds=2), timedelta(seconds=14), timedelta(seconds=10))
KRAKEN = Semantics("kraken", timedelta(seconds=5), timedelta(seconds=7))
COINBASE = Semantics("coinbase", timedelta(seconds=30), timedelta(seconds=40), is_idempotent=True)
"""It may let a token live longer than the token itself says."""


class Fault(Enum):
    """What goes wrong with the next request that places an order."""

    NONE = auto()
    LOSE_REQUEST = auto()
    LOSE_REPLY = auto()
    DECLINE = auto()
    HOLD = auto()
    """No answer; the request arrives ``hold_s`` later, and is judged by its timestamp then."""
    TWICE = auto()
    """The network delivers the same bytes twice; the reply is the second one's."""


class Fate(Enum):
    """What becomes of an order that was accepted."""

    RESTS = auto()
    FILLS = auto()
    FILLS_HALF = auto()
    EXPIRES = auto()


@dataclass(slots=True)
class Accepting:
    """An order the venue has taken."""

    venue_order_id: str
    client_order_id: str
    symbol: str
    side: Side
    quantity: Decimal
    price: Decimal
    at: datetime
    lag: timedelta = timedelta(0)
    """For how long questions do not find it."""
    state: OrderState = OrderState.LIVE
    fills: list[Fill] = field(default_factory=list)

    @property
    def filled(self) -> Decimal:
        return sum((fill.quantity for fill in self.fills), Decimal(0))


class FakeVenue:
    name = "simulated"
    account = "paper"
    rules = TradingRules(
        kinds=frozenset(OrderKind), times_in_force=frozenset(TimeInForce), dead_man_max_s=60
    )

    def __init__(
        self, clock: Clock, instruments: Sequence[Instrument], semantics: Semantics = BINANCE
    ) -> None:
        self._clock = clock
        self.semantics = semantics
        self._instruments = list(instruments)
        self.orders: list[Accepting] = []
        self.refused_late = 0
        self.faults: deque[Fault] = deque()
        self.fate = Fate.RESTS
        self.hold_s = 1.0
        self.query_lag = timedelta(0)
        self.is_reachable = True
        self.dead_man_at: datetime | None = None
        self._held: list[tuple[datetime, SignedRequest]] = []
        self._trade_id = 0

    # --- TradingVenue -----------------------------------------------------------------------------

    def instruments(self) -> Sequence[Instrument]:
        return self._instruments

    def server_time(self) -> datetime:
        self._catch_up()
        return self._clock.now()

    def ready(self) -> None:
        self._catch_up()

    def clock_offset_s(self) -> float | None:
        return None

    def sign(self, order: Order, instrument: Instrument, now: datetime) -> SignedRequest:
        self._catch_up()
        payload = {
            "id": order.client_order_id,
            "symbol": order.symbol,
            "side": order.side.value,
            "quantity": str(order.quantity),
            "price": str(order.price),
            "signed_at": now.isoformat(),
        }
        return SignedRequest(
            payload=json.dumps(payload).encode(), signed_at=now, fence_at=now + self.semantics.fence
        )

    def send(self, request: SignedRequest) -> Answer:
        fault = self.faults.popleft() if self.faults else Fault.NONE
        match fault:
            case Fault.LOSE_REQUEST:
                return Unclear("the request was lost")
            case Fault.DECLINE:
                return Declined("-2010", "Account has insufficient balance for requested action.")
            case Fault.HOLD:
                due = self._clock.now() + timedelta(seconds=self.hold_s)
                self._held.append((due, request))
                return Unclear("timed out")
            case Fault.TWICE:
                self._accept(request)
                return self._accept(request)
            case Fault.LOSE_REPLY:
                self._accept(request)
                return Unclear("the reply was lost")
            case _:
                return self._accept(request)

    def cancel(self, order: Order) -> Answer:
        for taken in self._of(order.client_order_id):
            if not taken.state.is_final:
                taken.state = OrderState.CANCELED
                return Accepted(_report(taken))
        return Unclear("-2011: Unknown order sent.")

    def cancel_all(self, symbol: str) -> None:
        self._catch_up()
        for taken in self.orders:
            if taken.symbol == symbol and not taken.state.is_final:
                taken.state = OrderState.CANCELED

    def hold_dead_man(self, timeout_s: float) -> None:
        self._catch_up()
        self.dead_man_at = self._clock.now() + timedelta(seconds=timeout_s) if timeout_s else None

    def permissions(self) -> Permissions:
        return Permissions(can_trade=True, can_withdraw=False)

    def query(self, order: Order) -> Report | None:
        self._catch_up()
        seen = [each for each in self._of(order.client_order_id) if self._is_seen(each)]
        return _report(seen[-1]) if seen else None

    def open_orders(self, symbol: str | None = None) -> Sequence[Report]:
        self._catch_up()
        return [
            _report(each)
            for each in self.orders
            if symbol in (None, each.symbol) and not each.state.is_final and self._is_seen(each)
        ]

    def fills(
        self,
        symbol: str,
        *,
        after_trade_id: int | None = None,
        venue_order_id: str | None = None,
    ) -> Sequence[Fill]:
        self._catch_up()
        found = [
            fill
            for each in self.orders
            if each.symbol == symbol and venue_order_id in (None, each.venue_order_id)
            if self._is_seen(each)
            for fill in each.fills
            if after_trade_id is None or fill.trade_id > after_trade_id
        ]
        return sorted(found, key=lambda fill: fill.trade_id)[:2]

    def balances(self) -> dict[str, Decimal]:
        return {}

    def close(self) -> None:
        pass

    # --- what the market does -------------------------------------------------------------------

    def fill(self, order: Accepting, quantity: Decimal) -> None:
        self._trade_id += 1
        order.fills.append(
            Fill(
                venue=self.name,
                symbol=order.symbol,
                trade_id=self._trade_id,
                client_order_id=order.client_order_id,
                side=order.side,
                price=order.price,
                quantity=quantity,
                commission=Decimal(0),
                commission_asset="USDT",
                at=self._clock.now(),
            )
        )
        done = order.filled == order.quantity
        order.state = OrderState.FILLED if done else OrderState.PARTIAL

    # --- within -----------------------------------------------------------------------------------

    def is_late(self, request: SignedRequest) -> bool:
        return self._clock.now() - request.signed_at > self.semantics.window

    def has_open(self, request: SignedRequest) -> bool:
        """Whether the order it asked for is in the book."""
        client_order_id = json.loads(request.payload)["id"]
        return any(not each.state.is_final for each in self._of(client_order_id))

    def _accept(self, request: SignedRequest) -> Answer:
        if self.is_late(request):
            self.refused_late += 1
            return Declined("-1021", "Timestamp for this request is outside of the recvWindow.")
        return self.execute(request)

    def execute(self, request: SignedRequest) -> Answer:
        """What the engine does with a request that arrived in time."""
        now = self._clock.now()
        said = json.loads(request.payload)
        twins = list(self._of(said["id"]))
        if twins and self.semantics.is_idempotent:
            return Accepted(_report(twins[-1], carries_fills=True))
        # Else unique among open orders only: after a fill the same id is a new order.
        if any(not each.state.is_final for each in twins):
            return Unclear("-2010: Duplicate order sent.")
        taken = Accepting(
            venue_order_id=str(len(self.orders) + 1),
            client_order_id=said["id"],
            symbol=said["symbol"],
            side=Side(said["side"]),
            quantity=Decimal(said["quantity"]),
            price=Decimal(said["price"]),
            at=now,
            lag=self.query_lag,
        )
        self.orders.append(taken)
        match self.fate:
            case Fate.FILLS:
                self.fill(taken, taken.quantity / 2)
                self.fill(taken, taken.quantity - taken.filled)
            case Fate.FILLS_HALF:
                self.fill(taken, taken.quantity / 2)
            case Fate.EXPIRES:
                self.fill(taken, taken.quantity / 4)
                taken.state = OrderState.EXPIRED
            case Fate.RESTS:
                pass
        return Accepted(_report(taken, carries_fills=True))

    def _catch_up(self) -> None:
        """Let requests arrive that the network has held until now."""
        if not self.is_reachable:
            raise Unreachable("the venue cannot be reached")
        due = [held for held in self._held if held[0] <= self._clock.now()]
        for held in due:
            self._held.remove(held)
            self._accept(held[1])
        if self.dead_man_at is not None and self._clock.now() >= self.dead_man_at:
            self.dead_man_at = None
            for symbol in {each.symbol for each in self.orders}:
                self.cancel_all(symbol)

    def _of(self, client_order_id: str) -> Iterator[Accepting]:
        return (each for each in self.orders if each.client_order_id == client_order_id)

    def _is_seen(self, order: Accepting) -> bool:
        return self._clock.now() - order.at >= order.lag


def _report(order: Accepting, *, carries_fills: bool = False) -> Report:
    return Report(
        client_order_id=order.client_order_id,
        venue_order_id=order.venue_order_id,
        state=order.state,
        filled_quantity=order.filled,
        fills=tuple(order.fills) if carries_fills else (),
    )
