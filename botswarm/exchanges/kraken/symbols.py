"""Markets as Kraken describes them, in our own words; its REST still has names of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from botswarm.domain.instrument import Instrument
from botswarm.domain.market import Trading
from botswarm.exchanges.reading import number, shown
from botswarm.exchanges.streams import Unreadable

NO_MAXIMUM = Decimal(10**15)
RENAMED = {"XBT": "BTC", "XDG": "DOGE"}
"""What REST calls otherwise than everybody, and than WebSocket v2 too."""
THEIRS = {ours: theirs for theirs, ours in RENAMED.items()}
# Any letters, and the dot of staked and bonded assets.
_PAIR = re.compile(r"[\w.]{1,20}/[\w.]{1,20}")
STRICTNESS: Sequence[Trading] = (
    Trading.OPEN,
    Trading.LIMIT_ONLY,
    Trading.POST_ONLY,
    Trading.CANCEL_ONLY,
    Trading.HALTED,
)
STATES: Mapping[str, Trading] = {
    "online": Trading.OPEN,
    "limit_only": Trading.LIMIT_ONLY,
    "post_only": Trading.POST_ONLY,
    "cancel_only": Trading.CANCEL_ONLY,
}


def to_stream(symbol: str) -> str:
    """``BTC-USD`` as WebSocket v2 writes it: ``BTC/USD``."""
    return symbol.replace("-", "/")


def of_stream(pair: Any) -> str:
    """Our name of a pair of WebSocket v2; raises Unreadable for what can be none."""
    if type(pair) is str and _PAIR.fullmatch(pair):
        return pair.replace("/", "-")
    raise unknown(pair)


def unknown(pair: Any) -> Unreadable:
    return Unreadable("unknown_market", f"not one of the markets asked for: {shown(pair)}")


def to_rest(symbol: str) -> str:
    """``BTC-USD`` as REST takes it where its own list has not been asked: ``XBTUSD``."""
    return "".join(THEIRS.get(asset, asset) for asset in symbol.split("-"))


def of_rest(described: Mapping[str, Any]) -> str | None:
    """Our name of an entry of ``AssetPairs``; None for those that WebSockets do not know."""
    name = described.get("wsname")
    if name is None:
        return None
    base, _, quote = name.partition("/")
    return of_stream(f"{RENAMED.get(base, base)}/{RENAMED.get(quote, quote)}")


def trading(status: Any) -> Trading:
    """What is not known to be open is closed."""
    return STATES.get(status, Trading.HALTED) if isinstance(status, str) else Trading.HALTED


def strictest(*states: Trading) -> Trading:
    return max(states, key=STRICTNESS.index)


def instrument(venue: str, symbol: str, described: Mapping[str, Any]) -> Instrument:
    """Raises what a wrong shape raises."""
    base, _, quote = symbol.partition("-")
    tick = described.get("tick_size")
    return Instrument(
        venue=venue,
        symbol=symbol,
        base=base,
        quote=quote,
        tick_size=number(tick) if tick else _step(described["pair_decimals"]),
        lot_size=_step(described["lot_decimals"]),
        quantity_min=number(described.get("ordermin") or "0"),
        quantity_max=NO_MAXIMUM,
        notional_min=number(described.get("costmin") or "0"),
        is_trading=trading(described.get("status", "online")) is Trading.OPEN,
    )


def _step(decimals: Any) -> Decimal:
    if type(decimals) is not int or not 0 <= decimals <= 30:
        raise ValueError(f"not a number of decimals: {shown(decimals)}")
    return Decimal(1).scaleb(-decimals)
