"""A venue in memory with an account: money, other people's orders, and answers that move."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Sequence
from datetime import timedelta
from decimal import Decimal

from botswarm.clock import StoppedClock
from botswarm.domain.fill import Fill
from botswarm.domain.instrument import Instrument
from botswarm.domain.order import Order, OrderState, Side
from botswarm.exchanges.base import Report
from botswarm.testing.venue import Accepting, FakeVenue

NOTHING = Decimal(0)


class AccountVenue(FakeVenue):
    """FakeVenue with balances: what was paid in, and what every fill did, to the last digit."""

    def __init__(self, clock: StoppedClock, instruments: Sequence[Instrument]) -> None:
        super().__init__(clock, instruments)
        self.clock = clock
        self.paid_in: dict[str, Decimal] = {}
        self.fee = Decimal("0.001")
        self.fee_asset: str | None = None
        """A third asset that commissions are paid in; None takes it from what was received."""
        self.fill_lag = timedelta(0)
        """How long questions about fills do not know of one."""
        self.asked_for_fills = 0
        self.meanwhile: Callable[[], object] | None = None
        """What happens right after each answer about balances."""

    # --- what others do -------------------------------------------------------------------------

    def pay_in(self, asset: str, amount: Decimal) -> None:
        self.paid_in[asset] = self.paid_in.get(asset, NOTHING) + amount

    def strangers_order(
        self, client_order_id: str, symbol: str = "BTC-USDT", side: Side = Side.BUY
    ) -> Accepting:
        taken = Accepting(
            venue_order_id=str(len(self.orders) + 1),
            client_order_id=client_order_id,
            symbol=symbol,
            side=side,
            quantity=Decimal(1),
            price=Decimal(100),
            at=self.clock.now(),
        )
        self.orders.append(taken)
        return taken

    def taken(self, order: Order) -> Accepting:
        return next(self._of(order.client_order_id))

    def forget(self, order: Order) -> None:
        self.orders.remove(self.taken(order))

    # --- money ------------------------------------------------------------------------------------

    def fill(self, order: Accepting, quantity: Decimal) -> None:
        super().fill(order, quantity)
        fill = order.fills[-1]
        base, _, quote = order.symbol.partition("-")
        received, asset = (quantity, base) if order.side is Side.BUY else (fill.notional, quote)
        commission = (received * self.fee).quantize(Decimal("1E-8"))
        asset = self.fee_asset or asset
        order.fills[-1] = dataclasses.replace(fill, commission=commission, commission_asset=asset)

    def fills(
        self,
        symbol: str,
        *,
        after_trade_id: int | None = None,
        venue_order_id: str | None = None,
    ) -> Sequence[Fill]:
        self.asked_for_fills += 1
        page = super().fills(symbol, after_trade_id=after_trade_id, venue_order_id=venue_order_id)
        return [fill for fill in page if self.clock.now() - fill.at >= self.fill_lag]

    def balances(self) -> dict[str, Decimal]:
        self._catch_up()
        sums = dict(self.paid_in)
        for fill in (fill for order in self.orders for fill in order.fills):
            base, _, quote = fill.symbol.partition("-")
            for asset, amount in (
                (base, fill.side.sign * fill.quantity),
                (quote, -fill.side.sign * fill.notional),
                (fill.commission_asset, -fill.commission),
            ):
                sums[asset] = sums.get(asset, NOTHING) + amount
        if self.meanwhile is not None:
            self.meanwhile()
        return sums

    def trade_at_random(self, choice: random.Random) -> None:
        """The market fills a part of one of the open orders."""
        open_ = [order for order in self.orders if not order.state.is_final]
        if open_:
            order = choice.choice(open_)
            left = order.quantity - order.filled
            part = choice.choice([left, (left / 3).quantize(Decimal("0.0001"))])
            self.fill(order, part or left)

    def end(self, order: Accepting) -> None:
        if not order.state.is_final:
            order.state = OrderState.CANCELED

    def told(self) -> Sequence[Report]:
        return self.open_orders()
