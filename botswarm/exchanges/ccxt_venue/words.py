"""Orders, trades and markets in ccxt's unified words, read into ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from botswarm.domain.instrument import Instrument
from botswarm.domain.order import Order, OrderKind, OrderState, TimeInForce
from botswarm.errors import Refused, Unreachable
from botswarm.exchanges.base import Report, TradingRules

NO_STEP = Decimal("1E-18")
NO_MAXIMUM = Decimal(10**15)
TICK_SIZE = 4
"""ccxt's name for precisions that are steps; its other ones count digits."""
STATES: Mapping[str, OrderState] = {
    "open": OrderState.LIVE,
    "closed": OrderState.FILLED,
    "canceled": OrderState.CANCELED,
    "canceling": OrderState.LIVE,
    "expired": OrderState.EXPIRED,
    # It was taken, and then failed: what it had filled by then stays filled.
    "rejected": OrderState.EXPIRED,
}
UNREADABLE = (KeyError, AttributeError, TypeError, ValueError, ArithmeticError, IndexError)
"""What comes of reading an answer that has another shape than it should."""
GUARANTEES = (
    "weak: the venue is asked through ccxt, which signs a request only as it sends it, so nothing "
    "makes the venue refuse one that comes late. An order whose outcome is unknown and that the "
    "venue does not name stays unknown until a person has looked; it is never sent again"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def theirs(symbol: str) -> str:
    """``BTC-USDT`` as ccxt writes it."""
    return symbol.replace("-", "/")


def rules(features: Mapping[str, Any]) -> TradingRules:
    """What ccxt knows the venue to take; where it knows nothing, the least."""
    told = ((features.get("spot") or {}).get("createOrder") or {}).get("timeInForce") or {}
    kinds = {OrderKind.MARKET, OrderKind.LIMIT}
    if told.get("PO"):
        kinds.add(OrderKind.POST_ONLY)
    forces = {TimeInForce.GTC} | {each for each in TimeInForce if told.get(each.value.upper())}
    return TradingRules(
        kinds=frozenset(kinds), times_in_force=frozenset(forces), guarantees=GUARANTEES
    )


def wish(order: Order) -> dict[str, Any]:
    """What ccxt's create_order is given, amounts as text."""
    params: dict[str, Any] = {"clientOrderId": order.client_order_id}
    if order.kind is OrderKind.POST_ONLY:
        params["postOnly"] = True
    elif order.kind is OrderKind.LIMIT:
        params["timeInForce"] = order.time_in_force.value.upper()
    elif order.kind is not OrderKind.MARKET:
        raise Refused(
            f"{order.kind} orders are not placed through ccxt",
            cure="place a limit or a market order",
        )
    return {
        "symbol": theirs(order.symbol),
        "type": "market" if order.kind is OrderKind.MARKET else "limit",
        "side": order.side.value,
        "amount": f"{order.quantity:f}",
        "price": None if order.limit_price is None else f"{order.limit_price:f}",
        "params": params,
    }


# --- what it tells --------------------------------------------------------------------------------


def instruments(venue: str, markets: Iterable[Mapping[str, Any]], mode: int) -> list[Instrument]:
    return [_instrument(venue, each, mode) for each in markets if each.get("spot")]


def _instrument(venue: str, market: Mapping[str, Any], mode: int) -> Instrument:
    precision, limits = market["precision"], market["limits"]
    base, quote = str(market["base"]), str(market["quote"])
    return Instrument(
        venue=venue,
        symbol=f"{base}-{quote}",
        base=base,
        quote=quote,
        tick_size=_step(precision.get("price"), mode),
        lot_size=_step(precision.get("amount"), mode),
        quantity_min=_limit(limits, "amount", "min") or Decimal(0),
        quantity_max=_limit(limits, "amount", "max") or NO_MAXIMUM,
        notional_min=_limit(limits, "cost", "min") or Decimal(0),
        is_trading=market.get("active") is not False,
    )


def _step(told: Any, mode: int) -> Decimal:
    if told is None:
        return NO_STEP
    value = Decimal(str(told))
    step = value if mode == TICK_SIZE else Decimal(1).scaleb(-int(value))
    return step if step > 0 else NO_STEP


def _limit(limits: Mapping[str, Any], of: str, which: str) -> Decimal | None:
    told = (limits.get(of) or {}).get(which)
    return None if told is None else Decimal(str(told))


def report(row: Mapping[str, Any], client_order_id: str | None = None) -> Report:
    """``client_order_id`` is the order's where the venue does not repeat it."""
    if not row.get("id"):
        raise ValueError("an order without the venue's name for it")
    filled = amount(row["filled"]) if row.get("filled") is not None else None
    state = STATES[row.get("status") or "open"]
    if filled is None:
        if state is not OrderState.LIVE:
            raise ValueError("an order that has ended, and nobody says how much it filled")
        filled = Decimal(0)
    wanted = row.get("amount")
    if state is OrderState.FILLED and wanted is not None and filled < amount(wanted):
        # Closed is whatever is not open: what a limited time in force left over.
        state = OrderState.EXPIRED
    if state is OrderState.LIVE and filled:
        state = OrderState.PARTIAL
    return Report(
        client_order_id=str(row.get("clientOrderId") or client_order_id or ""),
        venue_order_id=str(row["id"]),
        state=state,
        filled_quantity=filled,
    )


def commission(row: Mapping[str, Any], quote: str) -> tuple[Decimal, str]:
    """Of a trade. Several fees of one trade are the first one's asset, or cannot be told."""
    told = [fee for fee in row.get("fees") or [row.get("fee")] if fee and fee.get("cost")]
    assets = {str(fee["currency"]) for fee in told}
    if not told:
        return Decimal(0), quote
    if len(assets) > 1:
        raise ValueError(f"a trade with fees in {', '.join(sorted(assets))}")
    return sum((amount(fee["cost"]) for fee in told), Decimal(0)), assets.pop()


def amount(told: Any) -> Decimal:
    value = Decimal(str(told))
    if not value.is_finite() or value < 0:
        raise ValueError(f"{told} is not an amount")
    return value


def moment(ms: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=ms)


def unreadable(what: str, error: Exception) -> Unreachable:
    return Unreachable(
        f"the venue's answer about {what} cannot be read ({type(error).__name__}: {error})",
        cure="see whether a newer ccxt reads it: pip install --upgrade ccxt",
    )
