"""What fills add up to, whatever their order of arrival: holdings, their cost, and results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext

from botswarm.domain.fill import Fill
from botswarm.errors import BotswarmError
from botswarm.ledger.columns import DECIMALS

# The default context would round at 28 digits without a word.
EXACT = Context(prec=100, rounding=ROUND_HALF_EVEN)
QUANTUM = Decimal(1).scaleb(-DECIMALS)
ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Assets:
    base: str
    quote: str

    @classmethod
    def of(cls, symbol: str) -> Assets:
        base, dash, quote = symbol.partition("-")
        if not (base and dash and quote):
            raise BotswarmError(f"{symbol!r} is no market", cure="write it as BASE-QUOTE: BTC-USDT")
        return cls(base, quote)


def value(price: Decimal, quantity: Decimal) -> Decimal:
    """Their product as the books keep it: to the 18th decimal, which real steps never reach."""
    return _kept(EXACT.multiply(price, quantity))


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """``cost`` is what the quantity held was paid for it, at average cost; short, it is negative.

    A commission in the base asset makes what is left dearer, one in the quote asset is part of
    the price; one in a third asset is booked and counts in no result.
    """

    quantity: Decimal = ZERO
    cash: Decimal = ZERO
    cost: Decimal = ZERO
    realised: Decimal = ZERO
    last_trade_id: int = -1

    def after(self, fill: Fill, assets: Assets) -> Holding:
        """Average cost depends on the order: fills are folded by rising trade id."""
        with localcontext(EXACT):
            moved, paid = changes(fill, assets)
            opening, closed = self._split(moved)
            freed = _kept(self.cost * closed / abs(self.quantity)) if closed else ZERO
            opened = _kept(paid * opening / abs(moved)) if moved else ZERO
            return Holding(
                quantity=self.quantity + moved,
                cash=self.cash + paid,
                cost=self.cost - freed - opened,
                realised=self.realised + paid - opened - freed,
                last_trade_id=max(self.last_trade_id, fill.trade_id),
            )

    def _split(self, moved: Decimal) -> tuple[Decimal, Decimal]:
        """How much of a move opens, and how much closes what is held."""
        if self.quantity * moved >= 0:
            return abs(moved), ZERO
        closed = min(abs(moved), abs(self.quantity))
        return abs(moved) - closed, closed


def changes(fill: Fill, assets: Assets) -> tuple[Decimal, Decimal]:
    """What a fill does to the base and to the quote asset, commission in them included."""
    with localcontext(EXACT):
        base = fill.side.sign * fill.quantity
        quote = -fill.side.sign * value(fill.price, fill.quantity)
        if fill.commission_asset == assets.base:
            base -= fill.commission
        elif fill.commission_asset == assets.quote:
            quote -= fill.commission
        return base, quote


@dataclass(frozen=True, slots=True)
class Folded:
    holding: Holding
    daily: dict[str, Decimal]
    """What was realised, by UTC day."""


def fold(fills: Iterable[Fill], assets: Assets, start: Holding | None = None) -> Folded:
    """All fills of one bot in one market; with ``start``, those after its last trade id."""
    holding = start or Holding()
    daily: dict[str, Decimal] = {}
    for fill in sorted(fills, key=_by_trade):
        before = holding.realised
        holding = holding.after(fill, assets)
        if holding.realised != before:
            day = day_of(fill)
            with localcontext(EXACT):
                daily[day] = daily.get(day, ZERO) + holding.realised - before
    return Folded(holding, daily)


def day_of(fill: Fill) -> str:
    """In UTC."""
    return fill.at.astimezone(UTC).date().isoformat()


def follows(fills: Sequence[Fill], holding: Holding) -> bool:
    """Whether they can be folded onto it; else somebody has to fold them all again."""
    return min(fill.trade_id for fill in fills) > holding.last_trade_id


def _by_trade(fill: Fill) -> tuple[int, str]:
    return fill.trade_id, fill.client_order_id


def _kept(amount: Decimal) -> Decimal:
    return amount.quantize(QUANTUM, context=EXACT)
