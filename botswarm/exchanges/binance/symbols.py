"""Markets as Binance describes them, in our own words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from botswarm.domain.instrument import Instrument
from botswarm.domain.market import Trading

# Where a venue sets no step, any number goes: the ledger's own precision is the step then.
NO_STEP = Decimal("1E-18")
NO_MAXIMUM = Decimal(10**15)


# The longest first where one ends like another. Only for reading frames without the venue's list.
QUOTES = (
    "FDUSD", "BFUSD", "RLUSD", "USDT", "USDC", "TUSD", "BUSD", "USDP", "USDS", "USD1", "USDE",
    "XUSD", "EURI", "AEUR", "IDRT", "BIDR", "BVND", "BKRW", "DOGE", "BTC", "ETH", "BNB", "XRP",
    "TRX", "DOT", "SOL", "DAI", "PAX", "VAI", "UST", "TRY", "EUR", "GBP", "AUD", "BRL", "RUB",
    "UAH", "NGN", "ZAR", "ARS", "COP", "CZK", "JPY", "MXN", "PLN", "RON", "IDR", "USD",
)  # fmt: skip
SYMBOL_LENGTH_MAX = 40


def split(theirs: str) -> str | None:
    """``BTCUSDT`` as ``BTC-USDT`` by the assets that markets are quoted in; None for no symbol."""
    if len(theirs) > SYMBOL_LENGTH_MAX or not theirs.isalnum() or theirs != theirs.upper():
        return None
    for quote in QUOTES:
        if theirs.endswith(quote) and theirs != quote:
            return f"{theirs.removesuffix(quote)}-{quote}"
    # The testnet has assets named in other alphabets, quoted in some that are not.
    base = theirs.rstrip("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    quote = theirs[len(base) :]
    return f"{base}-{quote}" if base and quote else None


def to_venue(symbol: str) -> str:
    """``BTC-USDT`` as Binance writes it."""
    return symbol.replace("-", "")


def instruments(venue: str, exchange_info: Mapping[str, Any]) -> Sequence[Instrument]:
    """Every spot market of an ``exchangeInfo`` answer."""
    return [instrument(venue, described) for described in spot(exchange_info)]


def spot(exchange_info: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Its descriptions of spot markets."""
    return [
        described
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


def trading(status: str) -> Trading:
    if status == "TRADING":
        return Trading.OPEN
    return Trading.CANCEL_ONLY if status == "CANCEL_ONLY" else Trading.HALTED


def _positive(text: str | None) -> Decimal | None:
    """A filter's value; Binance writes a part that does not apply as zero."""
    value = Decimal(text) if text else Decimal(0)
    return value if value > 0 else None
