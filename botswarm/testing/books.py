"""The ledger's side of trading in memory, for tests that run it many thousand times."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from botswarm.domain.fill import Fill, Position
from botswarm.domain.instrument import Instrument
from botswarm.domain.order import Order, OrderState, Side
from botswarm.domain.permission import Approved, Exposure, Refused, TradingState, Verdict
from botswarm.errors import NotFound
from botswarm.exchanges.base import SignedRequest

Judge = Callable[[Order, Exposure], Verdict]
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

    def judge(self, order_id: str, judge: Judge, now: datetime) -> Verdict | None:
        with self._lock:
            order = self.orders.get(order_id)
            if order is None or order.state is not OrderState.READY:
                return None
            if self._is_waiting(order, now):
                return None
            if now >= order.signal_expires_at:
                reason = "its signal was too old to be acted on"
                return Refused(self._move(order, OrderState.STALE, reason), reason)
            if order.replaces is not None:
                left = order.quantity - self.orders[order.replaces].filled_quantity
                if left <= 0:
                    reason = "what it replaces was filled first"
                    return Refused(self._move(order, OrderState.REFUSED, reason), reason)
                order = dataclasses.replace(order, quantity=left)
            match judge(order, self._exposure(order, now)):
                case Approved() if self.is_awaited:
                    return None
                case Approved() if self.difference is not None:
                    reason = f"the account is not reconciled: {self.difference}"
                    return Refused(self._move(order, OrderState.REFUSED, reason), reason)
                case Approved():
                    self._approved_at[order_id] = now
                    return Approved(self._move(order, OrderState.APPROVED))
                case Refused(reason=reason):
                    return Refused(self._move(order, OrderState.REFUSED, reason), reason)

    def begin_attempt(self, order: Order, request: SignedRequest, now: datetime) -> Order | None:
        with self._lock:
            known = self.orders[order.id]
            if known.state is not OrderState.APPROVED:
                return None
            if self.trading_state is TradingState.HALTED:
                return None
            assert order.quantity <= known.quantity, "more would be sent than was judged"
            self.attempts.setdefault(order.id, []).append(Attempt(request, now))
            rounded = dataclasses.replace(
                known,
                quantity=order.quantity,
                limit_price=order.limit_price,
                stop_price=order.stop_price,
            )
            return self._move(rounded, OrderState.SENDING)

    def record(
        self,
        order_id: str,
        after: OrderState,
        now: datetime,
        *,
        venue_order_id: str | None = None,
        reason: str | None = None,
    ) -> Order:
        with self._lock:
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
        others = [each for each in self.orders.values() if self._is_open(each)]
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
                if self.orders[each].bot == order.bot and at > now - timedelta(minutes=1)
            ),
            loss_today=Decimal(0),
        )


def _open(orders: Sequence[Order], side: Side) -> Decimal:
    return sum((each.open_quantity for each in orders if each.side is side), Decimal(0))
