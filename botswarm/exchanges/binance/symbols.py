"""Markets as Binance describes them, in our own words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from botswarm.domain.instrument import Instrument

# Where a venue sets no step, any number goes: the ledger's own precision is the step then.
NO_STEP = Decimal("1E-18")
NO_MAXIMUM = Decimal(10**15)


def to_venue(symbol: str) -> str:
    """``BTC-USDT`` as Binance writes it."""
    return symbol.replace("-", "")


def instruments(venue: str, exchange_info: Mapping[str, Any]) -> Sequence[Instrument]:
    """Every spot market of an ``exchangeInfo`` answer."""
    return [
        instrument(venue, described)
        for described in exchange_info["symbols"]
        if described.get("isSpotTradingAllowed", True)
    ]


def instrument(venue: str, described: Mapping[str, Any]) -> Instrument:
    filters = {each["filterType"]: each for each in described["filters"]}
    price = filters.get("PRICE_FILTER", {})
    lot = filters.get("LOT_SIZE", {})
    market_lot = filters.get("MARKET_LOT_SIZE", {})
    notional = filters.get("NOTIONAL") or filters.get("MIN_NOTIONAL") or {}
    base, quote = described["baseAsset"], described["quoteAsset"]
    # Market orders may have coarser rules; one instrument that satisfies both keeps us safe.
    return Instrument(
        venue=venue,
        symbol=f"{base}-{quote}",
        base=base,
        quote=quote,
        tick_size=_positive(price.get("tickSize")) or NO_STEP,
        lot_size=max(
            _positive(lot.get("stepSize")) or NO_STEP,
            _positive(market_lot.get("stepSize")) or NO_STEP,
        ),
        quantity_min=max(
            _positive(lot.get("minQty")) or Decimal(0),
            _positive(market_lot.get("minQty")) or Decimal(0),
        ),
        quantity_max=min(
            _positive(lot.get("maxQty")) or NO_MAXIMUM,
            _positive(market_lot.get("maxQty")) or NO_MAXIMUM,
        ),
        notional_min=_positive(notional.get("minNotional")) or Decimal(0),
        is_trading=described.get("status") == "TRADING",
    )


def _positive(text: str | None) -> Decimal | None:
    """A filter's value; Binance writes a part that does not apply as zero."""
    value = Decimal(text) if text else Decimal(0)
    return value if value > 0 else None
