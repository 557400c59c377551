"""The exchange without its wires: books, accounts and rules behind place, cancel and query."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from botswarm.domain.order import Side
from botswarm.exchanges.simulated import refusal
from botswarm.exchanges.simulated.accounts import FREE_OF_CHARGE, Account, Accounts, Fees
from botswarm.exchanges.simulated.filters import MarketRules, check_filters, check_precision
from botswarm.exchanges.simulated.matching import Book, Match, Matching
from botswarm.exchanges.simulated.orders import (
    ZERO,
    Force,
    NewOrder,
    OrderType,
    SelfTrade,
    Status,
    VenueOrder,
)

HOUSES: Final = ("house-maker", "house-taker")
"""The accounts of the synthetic market. They start with the rest of all the money there is."""
ORDERS_KEPT: Final = 100_000
TRADES_KEPT: Final = 200_000
"""Of each market, for questions about the past; open orders are kept whatever their age."""
MONEY_OF_ALL: Final = Decimal(1_000_000_000)
"""Of each asset: what every account and the exchange own together, now and for ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One side of a trade, as it stood right after it."""

    order: VenueOrder
    filled: Decimal
    filled_quote: Decimal
    status: Status
    commission: Decimal
    commission_asset: str
    is_maker: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    order: VenueOrder
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Traded:
    symbol: str
    trade_id: int
    price: Decimal
    quantity: Decimal
    maker: Share
    taker: Share
    at_ms: int

    @property
    def shares(self) -> tuple[Share, Share]:
        return self.maker, self.taker


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """Cancelled by its owner, or expired: ``status`` tells, ``cancel_id`` is the owner's."""

    order: VenueOrder
    status: Status
    at_ms: int
    cancel_id: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Triggered:
    """A stop order's price came: it goes to the book like any other."""

    order: VenueOrder
    at_ms: int


Fact = Opened | Triggered | Traded | Ended


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnTrade:
    """A customer's side of a trade, as ``myTrades`` shows it."""

    symbol: str
    trade_id: int
    order_id: int
    side: Side
    price: Decimal
    quantity: Decimal
    commission: Decimal
    commission_asset: str
    is_maker: bool
    at_ms: int


@dataclass(slots=True, eq=False)
class Market:
    rules: MarketRules
    book: Book
    last_price: Decimal
    last_trade_id: int = 0
    orders: dict[int, VenueOrder] = field(default_factory=dict)
    """Of customers, whatever became of them, by rising id."""
    open: dict[int, VenueOrder] = field(default_factory=dict)
    stops: dict[int, VenueOrder] = field(default_factory=dict)
    """Those of the open ones that wait for their price, in the order they came."""
    newest_by_client_id: dict[tuple[str, str], VenueOrder] = field(default_factory=dict)
    trades: dict[str, list[OwnTrade]] = field(default_factory=dict)
    """Of customers, by account."""

    def note_trade(self, account: str, trade: OwnTrade) -> None:
        trades = self.trades.setdefault(account, [])
        trades.append(trade)
        if len(trades) >= TRADES_KEPT + TRADES_KEPT // 2:
            del trades[:-TRADES_KEPT]  # a third at once: one at a time would move them all


class Exchange:
    """Deterministic: the same calls in the same order give the same facts, to the last digit.

    Every method that changes something answers with the facts that came of it, in order; who
    calls it writes them to the journal before telling anybody.
    """

    def __init__(self, rules: Iterable[MarketRules], prices: dict[str, Decimal]) -> None:
        self.markets = {
            each.symbol: Market(each, Book(each.lot_size), prices[each.symbol]) for each in rules
        }
        self.accounts = Accounts()
        self.last_order_id = 0
        self._last_house_id = 0
        assets = {asset for m in self.markets.values() for asset in (m.rules.base, m.rules.quote)}
        for name in HOUSES:
            house = self.accounts.open(name, FREE_OF_CHARGE)
            for asset in sorted(assets):
                house.free[asset] = MONEY_OF_ALL / len(HOUSES)

    # --- money ----------------------------------------------------------------------------

    def open_account(self, name: str, fees: Fees) -> Account:
        return self.accounts.open(name, fees)

    def deposit(self, name: str, asset: str, amount: Decimal) -> None:
        """The house gives it: the sum of all money stays what it is."""
        house = self.accounts[HOUSES[0]]
        house.free[asset] -= amount
        self.accounts[name].free[asset] += amount

    # --- orders ---------------------------------------------------------------------------

    def market(self, symbol: str) -> Market:
        found = self.markets.get(symbol)
        if found is None:
            raise refusal.invalid_symbol()
        return found

    def check(self, request: NewOrder) -> None:
        """Everything that can be refused before the book is asked."""
        market = self.market(request.symbol)
        check_precision(request)
        check_filters(
            request,
            market.rules,
            reference_price=market.last_price,
            open_orders=self._open_orders(request.account, market),
        )

    def place(self, request: NewOrder, now_ms: int) -> tuple[VenueOrder, Sequence[Fact]]:
        self.check(request)
        market = self.market(request.symbol)
        previous = market.newest_by_client_id.get((request.account, request.client_order_id))
        if previous is not None and previous.status.is_open:
            raise refusal.duplicate_order()
        order = self._order(request, now_ms)
        if order.type.waits_for_a_price:
            return order, [self._place_stop(market, order, now_ms)]
        matching = market.book.match(order)
        if order.type is OrderType.LIMIT_MAKER and (matching.matches or matching.prevented):
            raise refusal.would_take()
        self._lock(order, market.rules, matching)
        order.id = self._next_id(order.account)
        self.remember(market, order)
        facts: list[Fact] = [Opened(order=order, at_ms=now_ms)]
        if order.force is Force.FOK and matching.quantity < order.quantity:
            facts.append(self._end(market, order, Status.EXPIRED, now_ms, reason="FOK"))
            return order, facts
        self._trade(market, order, matching, now_ms, facts)
        if market.stops:
            self._trigger(market, now_ms, facts)
        return order, facts

    def cancel(
        self, order: VenueOrder, now_ms: int, *, cancel_id: str = ""
    ) -> tuple[VenueOrder, Sequence[Fact]]:
        if not order.status.is_open:
            raise refusal.unknown_order()
        market = self.markets[order.symbol]
        if order.is_working:
            market.book.side(order.side).remove(order)
        return order, [self._end(market, order, Status.CANCELED, now_ms, cancel_id=cancel_id)]

    # --- what others do, where the market is another's ------------------------------------

    def offer(
        self, symbol: str, side: Side, price: Decimal, quantity: Decimal, now_ms: int
    ) -> VenueOrder:
        """An order of the house that stands for the orders of others; it trades with nobody now."""
        order = self._others(HOUSES[0], symbol, side, price, quantity, now_ms)
        self.market(symbol).book.side(side).add(order)
        return order

    def withdraw(self, order: VenueOrder, now_ms: int) -> None:
        """Take such an order away; it concerns no customer."""
        market = self.markets[order.symbol]
        market.book.side(order.side).remove(order)
        self._end(market, order, Status.CANCELED, now_ms)

    def hit(self, maker: VenueOrder, quantity: Decimal, now_ms: int) -> Sequence[Fact]:
        """Others trade with an order that rests, at its price."""
        market = self.markets[maker.symbol]
        taker = self._others(
            HOUSES[1], maker.symbol, maker.side.opposite, maker.price, quantity, now_ms
        )
        return [self._book_trade(market, taker, Match(maker, maker.price, quantity), now_ms)]

    def trigger(self, symbol: str, now_ms: int) -> Sequence[Fact]:
        """Wake the orders whose price has come, as the last price says."""
        facts: list[Fact] = []
        self._trigger(self.markets[symbol], now_ms, facts)
        return facts

    def find(
        self,
        account: str,
        symbol: str,
        *,
        order_id: int | None = None,
        client_id: str | None = None,
    ) -> VenueOrder | None:
        market = self.market(symbol)
        if order_id is not None:
            order = market.orders.get(order_id)
        else:
            order = market.newest_by_client_id.get((account, client_id or ""))
        if order is None or order.account != account:
            return None
        if order_id is not None and client_id is not None and order.client_order_id != client_id:
            return None
        return order

    def open_orders(self, account: str, symbol: str | None = None) -> list[VenueOrder]:
        markets = [self.market(symbol)] if symbol else list(self.markets.values())
        found = [o for m in markets for o in m.open.values() if o.account == account]
        return sorted(found, key=lambda order: order.id)

    # --- inside ---------------------------------------------------------------------------

    def _order(self, request: NewOrder, now_ms: int) -> VenueOrder:
        return VenueOrder(
            id=0,
            account=request.account,
            symbol=request.symbol,
            client_order_id=request.client_order_id,
            side=request.side,
            type=request.type,
            force=request.force,
            self_trade=request.self_trade,
            price=request.price or ZERO,
            stop_price=request.stop_price or ZERO,
            fee_in_quote=request.fee_in_quote,
            is_working=not request.type.waits_for_a_price,
            quantity=request.quantity or ZERO,
            quote_quantity=request.quote_quantity or ZERO,
            placed_ms=now_ms,
            updated_ms=now_ms,
        )

    def _others(
        self, account: str, symbol: str, side: Side, price: Decimal, quantity: Decimal, now_ms: int
    ) -> VenueOrder:
        """Nothing is set aside for it: those it stands for have what they offer."""
        return VenueOrder(
            id=self._next_id(account),
            account=account,
            symbol=symbol,
            client_order_id="",
            side=side,
            type=OrderType.LIMIT,
            force=Force.GTC,
            self_trade=SelfTrade.NONE,
            price=price,
            quantity=quantity,
            quote_quantity=ZERO,
            placed_ms=now_ms,
            updated_ms=now_ms,
        )

    def _next_id(self, account: str) -> int:
        # The house's orders have numbers of their own, so that a customer's are told by the
        # journal alone, which the house's many orders never enter.
        if account in HOUSES:
            self._last_house_id -= 1
            return self._last_house_id
        self.last_order_id += 1
        return self.last_order_id

    def _open_orders(self, account: str, market: Market) -> int:
        if account in HOUSES:
            return 0
        return sum(order.account == account for order in market.open.values())

    # --- stop orders ----------------------------------------------------------------------

    def _place_stop(self, market: Market, order: VenueOrder, now_ms: int) -> Opened:
        if order.is_triggered_at(market.last_price):
            raise refusal.would_trigger()
        self.set_aside(market, order)
        order.id = self._next_id(order.account)
        self.remember(market, order)
        return Opened(order=order, at_ms=now_ms)

    def set_aside(self, market: Market, order: VenueOrder) -> None:
        """What it may cost is set aside as if it traded at its own price."""
        amount = order.open_quantity
        if order.side is Side.BUY:
            amount = self.cost(order, amount * (order.price or order.stop_price))
        self.accounts[order.account].lock(given(order, market.rules), amount)
        order.locked = amount

    def _trigger(self, market: Market, now_ms: int, facts: list[Fact]) -> None:
        """Each trade may bring the price of a waiting order, and that order's trades another's."""
        while order := self._next_triggered(market):
            del market.stops[order.id]
            order.is_working, order.updated_ms = True, now_ms
            facts.append(Triggered(order=order, at_ms=now_ms))
            matching = market.book.match(order)
            if not self._can_pay(market, order, matching):
                facts.append(
                    self._end(market, order, Status.EXPIRED, now_ms, reason="INSUFFICIENT_BALANCE")
                )
            elif order.force is Force.FOK and matching.quantity < order.quantity:
                facts.append(self._end(market, order, Status.EXPIRED, now_ms, reason="FOK"))
            else:
                self._trade(market, order, matching, now_ms, facts)

    def _next_triggered(self, market: Market) -> VenueOrder | None:
        price = market.last_price
        return next((each for each in market.stops.values() if each.is_triggered_at(price)), None)

    def _can_pay(self, market: Market, order: VenueOrder, matching: Matching) -> bool:
        """A purchase at market may cost more than was set aside: the rest has to be there now."""
        missing = self.cost(order, matching.quote) - order.locked
        if order.side is Side.SELL or order.is_limited or missing <= 0:
            return True
        try:
            self.accounts[order.account].lock(given(order, market.rules), missing)
        except refusal.Refusal:
            return False
        order.locked += missing
        return True

    # --- money and trades -----------------------------------------------------------------

    def cost(self, order: VenueOrder, quote: Decimal) -> Decimal:
        """What buying for so much takes at most, where the fee comes on top."""
        if order.side is Side.SELL or not order.fee_in_quote:
            return quote
        fees = self.accounts[order.account].fees
        return quote * (1 + max(fees.maker, fees.taker))

    def _lock(self, order: VenueOrder, rules: MarketRules, matching: Matching) -> None:
        """Set aside what the order may cost; a market order's cost is what the walk says."""
        if order.side is Side.SELL:
            amount = matching.quantity if order.quote_quantity else order.quantity
        elif order.is_limited:
            amount = self.cost(order, order.price * order.quantity)
        else:
            amount = self.cost(order, order.quote_quantity or matching.quote)
        self.accounts[order.account].lock(given(order, rules), amount)
        order.locked = amount

    def remember(self, market: Market, order: VenueOrder) -> None:
        """Make a new order findable, and forget the oldest that has ended."""
        if order.id < 0:
            return
        if len(market.orders) >= ORDERS_KEPT:
            old = next(each for each in market.orders.values() if not each.status.is_open)
            del market.orders[old.id]
            named = (old.account, old.client_order_id)
            if market.newest_by_client_id.get(named) is old:
                del market.newest_by_client_id[named]
        market.orders[order.id] = order
        market.open[order.id] = order
        if not order.is_working:
            market.stops[order.id] = order
        market.newest_by_client_id[order.account, order.client_order_id] = order

    def _trade(
        self,
        market: Market,
        order: VenueOrder,
        matching: Matching,
        now_ms: int,
        facts: list[Fact],
    ) -> None:
        if order.quote_quantity:
            order.quantity = matching.quantity
        for maker in matching.prevented:
            market.book.side(maker.side).remove(maker)
            facts.append(
                self._end(market, maker, Status.EXPIRED_IN_MATCH, now_ms, reason="SELF_TRADE")
            )
        for match in matching.matches:
            facts.append(self._book_trade(market, order, match, now_ms))
        if matching.taker_prevented:
            facts.append(
                self._end(market, order, Status.EXPIRED_IN_MATCH, now_ms, reason="SELF_TRADE")
            )
        elif order.status is Status.FILLED:
            pass
        elif order.force is Force.GTC and order.is_limited:
            market.book.side(order.side).add(order)
        else:
            reason = "NO_LIQUIDITY" if not order.is_limited else order.force.value
            facts.append(self._end(market, order, Status.EXPIRED, now_ms, reason=reason))

    def _book_trade(self, market: Market, taker: VenueOrder, match: Match, now_ms: int) -> Traded:
        maker, price, quantity = match.maker, match.price, match.quantity
        market.last_trade_id += 1
        market.last_price = price
        shares = []
        for order in (maker, taker):
            order.filled += quantity
            order.filled_quote += quantity * price
            order.updated_ms = now_ms
            full = order.filled == order.quantity
            order.status = Status.FILLED if full else Status.PARTIALLY_FILLED
            shares.append(self._settle(market, order, match, is_maker=order is maker))
        market.book.side(maker.side).reduce(maker, quantity)
        for share in shares:
            self._note(market, share, match, now_ms)
        return Traded(
            symbol=market.rules.symbol,
            trade_id=market.last_trade_id,
            price=price,
            quantity=quantity,
            maker=shares[0],
            taker=shares[1],
            at_ms=now_ms,
        )

    def _settle(self, market: Market, order: VenueOrder, match: Match, *, is_maker: bool) -> Share:
        """Move both assets of one side of a trade and take the fee, usually of what it received."""
        rules, account = market.rules, self.accounts[order.account]
        quote = match.quantity * match.price
        if order.side is Side.SELL:
            paid, received, asset = match.quantity, quote, rules.quote
        else:
            paid, received, asset = quote, match.quantity, rules.base
        commission = account.fees.of(quote if order.fee_in_quote else received, is_maker=is_maker)
        if order.fee_in_quote and order.side is Side.BUY:
            paid, asset = paid + commission, rules.quote
            account.free[rules.base] += received
        else:
            account.free[asset] += received - commission
        account.locked[given(order, rules)] -= paid
        order.locked -= paid
        self.accounts.earned[asset] += commission
        self._release_surplus(order, rules)
        return Share(
            order=order,
            filled=order.filled,
            filled_quote=order.filled_quote,
            status=order.status,
            commission=commission,
            commission_asset=asset,
            is_maker=is_maker,
        )

    def _release_surplus(self, order: VenueOrder, rules: MarketRules) -> None:
        """A better price than the limit costs less than was locked; an end needs nothing more."""
        if not order.status.is_open:
            needed = ZERO
        elif order.side is Side.SELL or not order.is_limited:
            return
        else:
            needed = self.cost(order, order.open_quantity * order.price)
        if surplus := order.locked - needed:
            self.accounts[order.account].unlock(given(order, rules), surplus)
            order.locked = needed

    def _note(self, market: Market, share: Share, match: Match, now_ms: int) -> None:
        order = share.order
        if order.id < 0:
            return
        order.trade_ids.append(market.last_trade_id)
        if not order.status.is_open:
            market.open.pop(order.id, None)
        market.note_trade(
            order.account,
            OwnTrade(
                symbol=market.rules.symbol,
                trade_id=market.last_trade_id,
                order_id=order.id,
                side=order.side,
                price=match.price,
                quantity=match.quantity,
                commission=share.commission,
                commission_asset=share.commission_asset,
                is_maker=share.is_maker,
                at_ms=now_ms,
            ),
        )

    def _end(
        self,
        market: Market,
        order: VenueOrder,
        status: Status,
        now_ms: int,
        *,
        cancel_id: str = "",
        reason: str = "",
    ) -> Ended:
        order.status = status
        order.updated_ms = now_ms
        self._release_surplus(order, market.rules)
        market.open.pop(order.id, None)
        market.stops.pop(order.id, None)
        return Ended(order=order, status=status, at_ms=now_ms, cancel_id=cancel_id, reason=reason)


def given(order: VenueOrder, rules: MarketRules) -> str:
    """The asset an order pays with."""
    return rules.quote if order.side is Side.BUY else rules.base


def is_customer(account: str) -> bool:
    return account not in HOUSES
