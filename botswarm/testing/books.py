"""The ledger's side of trading in memory, for tests that run it many thousand times."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from botswarm.domain.fill import Fill, Position
from botswarm.domain.instrument import Instrument
from botswarm.domain.order import Order, OrderState, Side
from botswarm.domain.permission import (
    Approved,
    Exposure,
    Frozen,
    FrozenRequest,
    Refused,
    TradingState,
    Verdict,
)
from botswarm.errors import NotFound
from botswarm.exchanges.base import SignedRequest

Judge = Callable[[Order, Exposure], Verdict]
Freeze = Callable[[Order, Instrument | None], Frozen[SignedRequest] | Refused | None]
Begun = Approved | Refused | Frozen[SignedRequest]
AT_THE_VENUE = frozenset(
    {OrderState.SENDING, OrderState.UNKNOWN, OrderState.LIVE, OrderState.PARTIAL}
)


@dataclass(frozen=True, slots=True)
class Attempt:
    request: SignedRequest
    at: datetime


class FakeBooks:
    """Every method is one transaction: it happens whole, and before it returns."""

    def __init__(self, instruments: Sequence[Instrument] = ()) -> None:
        self.trading_state = TradingState.ACTIVE
        self.is_awaited = False
        """Nobody has held the account against its venue lately."""
        self.difference: str | None = None
        """What the two do not agree on."""
        self.orders: dict[str, Order] = {}
        self.attempts: dict[str, list[Attempt]] = {}
        self.fills: dict[tuple[str, str, int], Fill] = {}
        self.events: list[tuple[str, OrderState, OrderState]] = []
        self._approved_at: dict[str, datetime] = {}
        self._instruments: dict[tuple[str, str], Instrument] = {}
        self._lock = threading.RLock()
        self.save_instruments(instruments)

    def add(self, order: Order) -> None:
        """What a strategy's decision does; a second time it changes nothing."""
        with self._lock:
            self.orders.setdefault(order.id, order)

    # --- instruments ------------------------------------------------------------------------

    def instrument(self, venue: str, symbol: str) -> Instrument:
        try:
            return self._instruments[venue, symbol]
        except KeyError:
            raise NotFound(f"the ledger does not know the market {venue}:{symbol}") from None

    def save_instruments(self, instruments: Sequence[Instrument]) -> None:
        for instrument in instruments:
            self._instruments[instrument.venue, instrument.symbol] = instrument

    # --- one order on its way -----------------------------------------------------------------

    def begin(
        self,
        order_id: str,
        judge: Judge,
        freeze: Freeze | None,
        now: datetime,
        before: OrderState = OrderState.READY,
    ) -> Begun | None:
        with self._lock:
            order = self.orders.get(order_id)
            if order is None or order.state is not before:
                return None
            if before is OrderState.READY and self._is_waiting(order, now):
                return None
            if now >= order.signal_expires_at:
                return self._ended(order, OrderState.STALE, "its signal was too old to be acted on")
            if before is OrderState.READY and order.replaces is not None:
                left = order.quantity - self.orders[order.replaces].filled_quantity
                if left <= 0:
                    return self._ended(
                        order, OrderState.REFUSED, "what it replaces was filled first"
                    )
                order = dataclasses.replace(order, quantity=left)
            return self._decided(order, judge, freeze, now)

    def _decided(
        self, order: Order, judge: Judge, freeze: Freeze | None, now: datetime
    ) -> Begun | None:
        is_new = order.state is OrderState.READY
        if not is_new and self.trading_state is TradingState.HALTED:
            return None
        match judge(order, self._exposure(order, now)):
            case Refused(reason=reason):
                return self._ended(order, OrderState.REFUSED, reason)
        if self.is_awaited:
            return None
        if self.difference is not None:
            reason = f"the account is not reconciled: {self.difference}"
            return self._ended(order, OrderState.REFUSED, reason)
        market = self._instruments.get((order.venue, order.symbol))
        frozen = freeze(order, market) if freeze is not None else None
        if isinstance(frozen, Refused):
            return self._ended(order, OrderState.REFUSED, frozen.reason)
        if is_new:
            self._approved_at[order.id] = now
            order = self._move(order, OrderState.APPROVED)
        if frozen is None:
            return Approved(order)
        assert frozen.order.quantity <= order.quantity, "more would be sent than was judged"
        self.attempts.setdefault(order.id, []).append(Attempt(frozen.request, now))
        rounded = dataclasses.replace(
            order,
            quantity=frozen.order.quantity,
            limit_price=frozen.order.limit_price,
            stop_price=frozen.order.stop_price,
        )
        return Frozen(self._move(rounded, OrderState.SENDING), frozen.request)

    def _ended(self, order: Order, after: OrderState, reason: str) -> Refused:
        return Refused(self._move(order, after, reason), reason)

    def judge(self, order_id: str, judge: Judge, now: datetime) -> Verdict | None:
        begun = self.begin(order_id, judge, None, now)
        assert not isinstance(begun, Frozen), "nobody froze it"
        return begun

    def is_halted(self, order: Order, now: datetime) -> bool:
        return self.trading_state is TradingState.HALTED

    def record(
        self,
        order_id: str,
        after: OrderState,
        now: datetime,
        *,
        fills: Sequence[Fill] = (),
        venue_order_id: str | None = None,
        reason: str | None = None,
    ) -> Order:
        with self._lock:
            self.book(fills, now)
            order = self.orders[order_id]
            if order.state is not after:
                order.check(after)
            if venue_order_id is not None:
                order = dataclasses.replace(order, venue_order_id=venue_order_id)
            return self._move(order, after, reason)

    def reopen(self, order_id: str, fence_at: datetime, now: datetime) -> Order | None:
        with self._lock:
            order = self.orders[order_id]
            if order.state is not OrderState.UNKNOWN or self._fence(order_id) != fence_at:
                return None
            approved = self._move(order, OrderState.APPROVED)
            if order.is_ending:
                self._move(approved, OrderState.REFUSED, "nothing was placed, and it was cancelled")
                return None
            return approved

    def decline(
        self, order_id: str, fence_at: datetime, now: datetime, *, reason: str
    ) -> Order | None:
        with self._lock:
            order = self.orders[order_id]
            is_open = order.state in (OrderState.SENDING, OrderState.UNKNOWN)
            if not is_open or self._fence(order_id) != fence_at:
                return None
            return self._move(order, OrderState.REJECTED, reason)

    # --- fills ----------------------------------------------------------------------------------

    def book(self, fills: Sequence[Fill], now: datetime) -> int:
        new = 0
        with self._lock:
            for fill in fills:
                key = (fill.venue, fill.symbol, fill.trade_id)
                if key in self.fills:
                    continue
                self.fills[key] = fill
                new += 1
                for order in self.orders.values():
                    if order.client_order_id == fill.client_order_id:
                        filled = order.filled_quantity + fill.quantity
                        self.orders[order.id] = dataclasses.replace(order, filled_quantity=filled)
        return new

    def last_trade_id(self, venue: str, account: str, symbol: str) -> int | None:
        """None whenever an order is open: from the beginning, so that nothing is passed over."""
        with self._lock:
            if any(order.symbol == symbol for order, _ in self.unsettled(venue, account)):
                return None
            known = [key[2] for key in self.fills if key[:2] == (venue, symbol)]
            return max(known, default=None)

    # --- what has to be looked after --------------------------------------------------------------

    def approved(self, venue: str, account: str) -> Sequence[Order]:
        with self._lock:
            return [
                order
                for order in self.orders.values()
                if (order.venue, order.account) == (venue, account)
                if order.state is OrderState.APPROVED
            ]

    def unsettled(self, venue: str, account: str) -> Sequence[tuple[Order, datetime | None]]:
        with self._lock:
            return [
                (order, self._fence(order.id))
                for order in self.orders.values()
                if (order.venue, order.account) == (venue, account)
                if self._is_open(order) and order.state is not OrderState.APPROVED
            ]

    def in_doubt(self, venue: str, account: str) -> Sequence[tuple[Order, datetime | None]]:
        doubtful = (OrderState.SENDING, OrderState.UNKNOWN)
        return [each for each in self.unsettled(venue, account) if each[0].state in doubtful]

    def unsettled_one(self, order_id: str) -> tuple[Order, datetime | None] | None:
        with self._lock:
            order = self.orders.get(order_id)
            if order is None or order.state is OrderState.APPROVED or not self._is_open(order):
                return None
            return order, self._fence(order_id)

    # --- wishes that orders end -------------------------------------------------------------------

    def wish_cancel(self, order_id: str) -> None:
        """What a person or a bot does; a second time it changes nothing."""
        with self._lock:
            order = self.orders[order_id]
            if order.state in (OrderState.READY, OrderState.APPROVED):
                self._move(order, OrderState.REFUSED, "cancelled before it was sent")
            elif order.state in AT_THE_VENUE:
                self.orders[order_id] = dataclasses.replace(order, is_ending=True)

    def to_cancel(self, venue: str, account: str) -> Sequence[Order]:
        with self._lock:
            return [
                order
                for order in self.orders.values()
                if (order.venue, order.account) == (venue, account)
                if order.is_ending and order.state in AT_THE_VENUE
            ]

    def finish_cancels(self, venue: str, account: str, now: datetime) -> None:
        pass

    def freed(self, venue: str, account: str) -> Sequence[str]:
        with self._lock:
            return [
                order.id
                for order in self.orders.values()
                if (order.venue, order.account) == (venue, account)
                if order.state is OrderState.READY and order.replaces is not None
                if not self._is_under_way(self.orders[order.replaces])
            ]

    # --- within ---------------------------------------------------------------------------------

    def _move(self, order: Order, after: OrderState, reason: str | None = None) -> Order:
        if order.state is not after:
            order.check(after)
            self.events.append((order.id, order.state, after))
        moved = dataclasses.replace(order, state=after, reason=reason or order.reason)
        self.orders[order.id] = moved
        return moved

    def _fence(self, order_id: str) -> datetime | None:
        attempts = self.attempts.get(order_id)
        return attempts[-1].request.fence_at if attempts else None

    def _is_under_way(self, order: Order) -> bool:
        return order.state is OrderState.READY or self._is_open(order)

    def _is_waiting(self, order: Order, now: datetime) -> bool:
        if order.replaces is None or now >= order.signal_expires_at:
            return False
        return self._is_under_way(self.orders[order.replaces])

    def _is_open(self, order: Order) -> bool:
        if order.state is OrderState.FILLED:
            return order.filled_quantity < order.quantity
        return order.state.may_be_live

    def _exposure(self, order: Order, now: datetime) -> Exposure:
        known = [each for each in self.orders.values() if each.id != order.id]
        others = [each for each in known if self._is_open(each)]
        same = [each for each in others if (each.bot, each.symbol) == (order.bot, order.symbol)]
        ours = {each.client_order_id for each in self.orders.values() if each.bot == order.bot}
        base, _, quote = order.symbol.partition("-")
        position = Position.of(
            (
                fill
                for fill in self.fills.values()
                if fill.client_order_id in ours and fill.symbol == order.symbol
            ),
            base=base,
            quote=quote,
        )
        return Exposure(
            trading_state=self.trading_state,
            account_open_notional=sum(
                (each.open_quantity * each.price for each in others),
                Decimal(0),
            ),
            position=position.quantity,
            open_buy_quantity=_open(same, Side.BUY),
            open_sell_quantity=_open(same, Side.SELL),
            open_orders=len(others),
            orders_last_minute=sum(
                1
                for each, at in self._approved_at.items()
                if each != order.id
                and self.orders[each].bot == order.bot
                and at > now - timedelta(minutes=1)
            ),
            loss_today=Decimal(0),
        )


def _open(orders: Sequence[Order], side: Side) -> Decimal:
    return sum((each.open_quantity for each in orders if each.side is side), Decimal(0))


def begin_attempt(books: Any, order: Order, request: FrozenRequest, now: datetime) -> Order | None:
    """Commit these bytes for an APPROVED order, whatever was said since it passed."""

    def freeze(_: Order, __: Instrument | None) -> Frozen[FrozenRequest]:
        return Frozen(order, request)

    begun = books.begin(order.id, lambda each, _: Approved(each), freeze, now, OrderState.APPROVED)
    return begun.order if isinstance(begun, Frozen) else None
