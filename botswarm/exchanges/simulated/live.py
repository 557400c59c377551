"""A market source that follows a venue's own ticks: its books and its trades, not its money."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from botswarm.domain.instrument import Instrument
from botswarm.domain.market import Book, Level, Quote, Status, Tick, Trade, Trading
from botswarm.domain.order import Side
from botswarm.exchanges.simulated.exchange import Exchange, Fact, Market
from botswarm.exchanges.simulated.filters import DECIMALS_MAX, MarketRules
from botswarm.exchanges.simulated.orders import ZERO, VenueOrder
from botswarm.exchanges.simulated.prices import PriceLine
from botswarm.exchanges.simulated.waiting import Waiting

NO_MAXIMUM: Final = Decimal(10) ** 12
SPREAD_OF_DELAY: Final = 0.5
"""A request is on its way for half as long again as is usual, or half as long, or between."""
TICKS_WAITING_MAX: Final = 100_000


@dataclass(slots=True, eq=False)
class _Offer:
    """What the venue's book shows at a price, and the order of the house that stands for it."""

    shown: Decimal
    order: VenueOrder | None
    """None where all of it was taken here, and the venue has not shown more since."""

    @property
    def left(self) -> Decimal:
        return ZERO if self.order is None else self.order.open_quantity


@dataclass(slots=True, eq=False)
class _Live:
    """One market, as far as it was heard of."""

    market: Market
    offers: dict[Side, dict[Decimal, _Offer]] = field(
        default_factory=lambda: {Side.BUY: {}, Side.SELL: {}}
    )
    reach: dict[Side, Decimal] = field(default_factory=dict)
    """The last price of each side that the book shows: beyond it nothing is known."""
    waiting: dict[int, Waiting] = field(default_factory=dict)
    """Of the orders that rest, by id."""
    book_ms: int = 0
    """When the levels behind the best were last told."""
    prices_ms: int = 0
    shown_at_ms: int = 0
    """What the book shows is of this time, by the venue's clock."""
    trade_id: int = 0
    trading: Trading = Trading.OPEN
    words: str = ""


class LiveMarket:
    """Every book is the venue's; only our orders in it are made up.

    Whoever takes walks what the venue shows and has not been taken since. Whoever rests is
    filled by the venue's trades: by those that went through the price, and by those at the
    price once all that stood there before has been traded.
    """

    def __init__(
        self,
        venue: str,
        instruments: Iterable[Instrument],
        *,
        stale_ms: int,
        delay_ms: int = 0,
        chance: random.Random | None = None,
    ) -> None:
        told = list(instruments)
        rules = {each.symbol: found for each in told if (found := rules_of(each))}
        self.venue = venue
        self.exchange = Exchange(rules.values(), {each.symbol: ZERO for each in rules.values()})
        self.lines: Mapping[str, PriceLine] = {}
        self.left_out = len(told) - len(rules)
        """Markets whose steps are finer than the engine counts."""
        self.late = 0
        """Ticks that were too old to trade on when they came."""
        self.crossed = 0
        """Books that no venue can mean."""
        self._stale_ms = stale_ms
        self._delay_ms = delay_ms
        self._chance = chance or random.Random()  # noqa: S311 - it draws delays, and guards nothing
        self._waiting: deque[Tick] = deque(maxlen=TICKS_WAITING_MAX)
        markets = self.exchange.markets
        self._by_name = {name: _Live(markets[each.symbol]) for name, each in rules.items()}
        self._by_symbol = {each.market.rules.symbol: each for each in self._by_name.values()}

    # --- what is heard --------------------------------------------------------------------

    def hear(self, ticks: Sequence[Tick]) -> None:
        """From any thread; it counts with the next step, or before the next order."""
        self._waiting.extend(ticks)

    def step(self, step_ms: int, now_ms: int) -> list[Fact]:
        return self.catch_up(now_ms)

    def catch_up(self, now_ms: int) -> list[Fact]:
        facts: list[Fact] = []
        while self._waiting:
            tick = self._waiting.popleft()
            live = self._by_name.get(tick.symbol)
            if live is not None:
                self._take_in(live, tick, now_ms, facts)
        return facts

    def objection(self, symbol: str, now_ms: int) -> str:
        live = self._by_symbol.get(symbol)
        if live is None:
            return ""  # what is not known is refused as such
        if not live.market.rules.is_trading:
            return f"{self.venue} did not let this market be traded when this process started"
        if live.trading is not Trading.OPEN:
            return f"{self.venue} says of this market: {live.words or live.trading.value}"
        if not live.prices_ms:
            return f"no price of {self.venue} has come yet; is the feed running?"
        if self._is_old(live.prices_ms, now_ms):
            age_s = (now_ms - live.prices_ms) / 1000
            return f"the last price of {self.venue} is {age_s:.1f} s old"
        return ""

    def delay_s(self) -> float:
        spread = self._chance.uniform(-SPREAD_OF_DELAY, SPREAD_OF_DELAY)
        return self._delay_ms * (1 + spread) / 1000

    # --- inside ---------------------------------------------------------------------------

    def _is_old(self, heard_ms: int, now_ms: int) -> bool:
        return now_ms - heard_ms > self._stale_ms

    def _take_in(self, live: _Live, tick: Tick, now_ms: int, facts: list[Fact]) -> None:
        if isinstance(tick, Status):
            live.trading, live.words = tick.trading, tick.words
            return
        if not isinstance(tick, Trade | Quote | Book):
            return
        if self._is_old(tick.received_ms, now_ms):
            self.late += 1
            return
        # Who came since the last tick stands behind what the book showed until now.
        self._line_up(live)
        if isinstance(tick, Trade):
            self._on_trade(live, tick, now_ms, facts)
        elif tick.received_ms >= live.prices_ms:
            self._on_prices(live, tick, now_ms)
            self._line_up(live)

    def _on_prices(self, live: _Live, tick: Quote | Book, now_ms: int) -> None:
        if tick.is_crossed:
            self.crossed += 1
            return
        if isinstance(tick, Book):
            bids: Sequence[Level] = tick.bids
            asks: Sequence[Level] = tick.asks
            live.book_ms = tick.received_ms
        else:
            is_deep = not self._is_old(live.book_ms, now_ms)
            bids = _behind(live, Side.BUY, (tick.bid, tick.bid_quantity), is_deep=is_deep)
            asks = _behind(live, Side.SELL, (tick.ask, tick.ask_quantity), is_deep=is_deep)
        live.prices_ms = tick.received_ms
        live.shown_at_ms = max(live.shown_at_ms, tick.exchange_ms)
        for side, levels in ((Side.BUY, bids), (Side.SELL, asks)):
            self._show(live, side, dict(levels), now_ms)
            if levels:
                live.reach[side] = levels[-1][0]
        if not live.market.last_price and bids and asks:
            live.market.last_price = (bids[0][0] + asks[0][0]) / 2

    def _show(
        self, live: _Live, side: Side, levels: Mapping[Decimal, Decimal], now_ms: int
    ) -> None:
        """What was taken here stays taken: only what the venue shows beyond it comes back."""
        offers = live.offers[side]
        for price in [price for price in offers if price not in levels]:
            self._withdraw(offers.pop(price), now_ms)
        for price, shown in levels.items():
            there = offers.get(price)
            if there is not None and there.shown == shown:
                continue
            left = shown
            if there is not None:
                left = min(there.left + max(shown - there.shown, ZERO), shown)
                self._withdraw(there, now_ms)
            order = None
            if left > 0:
                order = self.exchange.offer(live.market.rules.symbol, side, price, left, now_ms)
            offers[price] = _Offer(shown, order)

    def _withdraw(self, offer: _Offer, now_ms: int) -> None:
        if offer.order is not None and offer.order.status.is_open:
            self.exchange.withdraw(offer.order, now_ms)

    def _line_up(self, live: _Live) -> None:
        resting = {each.id: each for each in live.market.open.values() if each.is_working}
        for gone in live.waiting.keys() - resting.keys():
            del live.waiting[gone]
        for number, order in resting.items():
            place = live.waiting.get(number)
            if place is None:
                place = live.waiting[number] = Waiting(
                    side=order.side,
                    price=order.price,
                    since_ms=order.updated_ms,
                    seen_ms=order.updated_ms,
                )
            place.see(_shown(live, order.side, order.price), live.shown_at_ms)

    def _on_trade(self, live: _Live, trade: Trade, now_ms: int, facts: list[Fact]) -> None:
        if trade.trade_id <= live.trade_id:
            return  # told again, or too late to say who would have had it
        live.trade_id = trade.trade_id
        market, left = live.market, trade.quantity
        resting = trade.taker_side.opposite
        for order in _best_first(market, resting, live.waiting):
            if left <= 0:
                break
            filled = live.waiting[order.id].fills(trade.price, left, trade.exchange_ms)
            quantity = min(filled, order.open_quantity)
            if quantity > 0:
                facts += self.exchange.hit(order, quantity, now_ms)
                left -= quantity
        market.last_price = trade.price
        facts += self.exchange.trigger(market.rules.symbol, now_ms)


def rules_of(instrument: Instrument) -> MarketRules | None:
    """The venue's own, in the engine's words; None for what it cannot count exactly."""
    finest = Decimal(1).scaleb(-DECIMALS_MAX)
    if instrument.tick_size % finest or instrument.lot_size % finest:
        return None
    return MarketRules(
        symbol=f"{instrument.base}{instrument.quote}",
        base=instrument.base,
        quote=instrument.quote,
        tick_size=instrument.tick_size,
        lot_size=instrument.lot_size,
        price_min=instrument.tick_size,
        price_max=NO_MAXIMUM,
        quantity_max=instrument.quantity_max,
        market_quantity_max=instrument.quantity_max,
        notional_min=instrument.notional_min,
        notional_max=NO_MAXIMUM,
        smallest=instrument.quantity_min,
        is_trading=instrument.is_trading,
    )


def _behind(live: _Live, side: Side, best: Level, *, is_deep: bool) -> Sequence[Level]:
    """The side as it is with this best level: what stood before it is gone."""
    found = [best] if best[1] > 0 else []
    if is_deep:
        offers = live.offers[side]
        prices = [price for price in offers if _is_better(side, best[0], price)]
        prices.sort(reverse=side is Side.BUY)
        found += [(price, offers[price].shown) for price in prices]
    return found


def _is_better(side: Side, price: Decimal, other: Decimal) -> bool:
    return price > other if side is Side.BUY else price < other


def _shown(live: _Live, side: Side, price: Decimal) -> Decimal | None:
    """What others have at a price; None where the book that we see does not reach."""
    offer = live.offers[side].get(price)
    if offer is not None:
        return offer.shown
    last = live.reach.get(side)
    return ZERO if last is not None and _is_better(side, price, last) else None


def _best_first(market: Market, side: Side, waiting: Mapping[int, Waiting]) -> Sequence[VenueOrder]:
    found = [each for each in market.open.values() if each.side is side and each.id in waiting]
    found.sort(key=lambda each: each.id)
    return sorted(found, key=lambda each: each.price, reverse=side is Side.BUY)
