"""The rules of each market, and the refusal of orders that break one."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from botswarm.exchanges.simulated.orders import NewOrder, OrderType
from botswarm.exchanges.simulated.refusal import Refusal, filter_failure

DECIMALS_MAX = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketRules:
    """``symbol`` is the venue's spelling: ``BTCUSDT``."""

    symbol: str
    base: str
    quote: str
    tick_size: Decimal
    lot_size: Decimal
    price_min: Decimal = Decimal("0.01")
    price_max: Decimal = Decimal(1_000_000)
    quantity_max: Decimal = Decimal(9_000)
    market_quantity_max: Decimal = Decimal(1_000)
    notional_min: Decimal = Decimal(5)
    notional_max: Decimal = Decimal(9_000_000)
    open_orders_max: int = 200
    smallest: Decimal | None = None
    """The smallest order, where that is not one step."""
    is_trading: bool = True

    @property
    def quantity_min(self) -> Decimal:
        return self.lot_size if self.smallest is None else self.smallest


def check_precision(order: NewOrder) -> None:
    for name, value in (
        ("quantity", order.quantity),
        ("quoteOrderQty", order.quote_quantity),
        ("price", order.price),
        ("stopPrice", order.stop_price),
    ):
        if value is None:
            continue
        exponent = value.normalize().as_tuple().exponent
        if isinstance(exponent, int) and -exponent > DECIMALS_MAX:
            raise Refusal(-1111, f"Parameter '{name}' has too much precision.")


def check_filters(
    order: NewOrder, rules: MarketRules, *, reference_price: Decimal, open_orders: int
) -> None:
    """``reference_price`` judges the worth of market orders, which name no price."""
    for name, value in (
        ("quantity", order.quantity),
        ("price", order.price),
        ("stop price", order.stop_price),
    ):
        if value is not None and value <= 0:
            raise Refusal(-1013, f"Invalid {name}.")
    if order.quote_quantity is not None and order.quote_quantity <= 0:
        raise Refusal(-1013, "Invalid quote order quantity.")
    for price in (order.price, order.stop_price):
        if price is not None:
            _check_price(price, rules)
    if order.quantity is not None:
        _check_quantity(order.quantity, rules, at_market=not order.type.is_priced)
    _check_notional(order, rules, reference_price)
    if open_orders >= rules.open_orders_max and order.type is not OrderType.MARKET:
        raise filter_failure("MAX_NUM_ORDERS")


def _check_price(price: Decimal, rules: MarketRules) -> None:
    if not rules.price_min <= price <= rules.price_max or price % rules.tick_size:
        raise filter_failure("PRICE_FILTER")


def _check_quantity(quantity: Decimal, rules: MarketRules, *, at_market: bool) -> None:
    if not rules.quantity_min <= quantity <= rules.quantity_max or quantity % rules.lot_size:
        raise filter_failure("LOT_SIZE")
    if at_market and quantity > rules.market_quantity_max:
        raise filter_failure("MARKET_LOT_SIZE")


def _check_notional(order: NewOrder, rules: MarketRules, reference_price: Decimal) -> None:
    if order.quote_quantity is not None:
        notional = order.quote_quantity
    else:
        assert order.quantity is not None
        notional = order.quantity * (order.price or order.stop_price or reference_price)
    if not rules.notional_min <= notional <= rules.notional_max:
        raise filter_failure("NOTIONAL")


def described(rules: MarketRules) -> list[dict[str, object]]:
    """As exchangeInfo says them."""

    def text(value: Decimal) -> str:
        return f"{value:.8f}"

    return [
        {
            "filterType": "PRICE_FILTER",
            "minPrice": text(rules.price_min),
            "maxPrice": text(rules.price_max),
            "tickSize": text(rules.tick_size),
        },
        {
            "filterType": "LOT_SIZE",
            "minQty": text(rules.quantity_min),
            "maxQty": text(rules.quantity_max),
            "stepSize": text(rules.lot_size),
        },
        {
            "filterType": "MARKET_LOT_SIZE",
            "minQty": text(Decimal(0)),
            "maxQty": text(rules.market_quantity_max),
            "stepSize": text(Decimal(0)),
        },
        {
            "filterType": "NOTIONAL",
            "minNotional": text(rules.notional_min),
            "applyMinToMarket": True,
            "maxNotional": text(rules.notional_max),
            "applyMaxToMarket": True,
            "avgPriceMins": 0,
        },
        {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": rules.open_orders_max},
    ]
