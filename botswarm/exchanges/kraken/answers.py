"""Rows of Kraken's REST as reports and fills, with every digit and a name for each market."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from botswarm.domain.fill import Fill
from botswarm.domain.order import OrderState, Side
from botswarm.errors import Unreachable
from botswarm.exchanges.base import Report
from botswarm.exchanges.kraken import symbols
from botswarm.exchanges.reading import number, shown, whole

STATES: Mapping[str, OrderState] = {
    "pending": OrderState.LIVE,
    "open": OrderState.LIVE,
    "closed": OrderState.FILLED,
    "canceled": OrderState.CANCELED,
    "expired": OrderState.EXPIRED,
}
LEGACY: Mapping[str, str] = {
    **{f"X{name}": name for name in ("XBT", "ETH", "LTC", "XRP", "XLM", "ETC", "REP", "MLN")},
    **{f"X{name}": name for name in ("XMR", "ZEC", "XDG", "ICN", "XTZ")},
    **{f"Z{name}": name for name in ("USD", "EUR", "GBP", "CAD", "JPY", "AUD", "KRW", "CHF")},
}
"""Names of 2013, which balances still have; newer assets were never renamed."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Names:
    """Our names of markets by any of the venue's: ``XXBTZUSD``, ``XBTUSD``, ``XBT/USD``."""

    def __init__(self, told: Mapping[str, Mapping[str, Any]]) -> None:
        self._ours: dict[str, str] = {}
        self._altnames: dict[str, str] = {}
        for name, described in told.items():
            symbol = symbols.of_rest(described)
            if symbol is not None:
                altname = str(described.get("altname", name))
                self._altnames[symbol] = altname
                for theirs in (name, altname, str(described.get("wsname"))):
                    self._ours[theirs] = symbol

    def ours(self, pair: str) -> str:
        """One that has no name with us keeps its own, which is nobody's symbol."""
        return self._ours.get(pair, pair)

    def theirs(self, symbol: str) -> str:
        return self._altnames.get(symbol) or symbols.to_rest(symbol)


def asset(theirs: str) -> str:
    """``XXBT`` is BTC; what is staked or bonded keeps its dot, for it is no free balance."""
    bare = LEGACY.get(theirs, theirs)
    return symbols.RENAMED.get(bare, bare)


def balances(told: Mapping[str, Mapping[str, Any]]) -> dict[str, Decimal]:
    """Free and held together; several names of one asset are one."""
    found: dict[str, Decimal] = {}
    for theirs, row in told.items():
        owned = number(row["balance"])
        if owned:
            found[asset(theirs)] = found.get(asset(theirs), Decimal(0)) + owned
    return found


def report(venue_order_id: str, row: Mapping[str, Any]) -> Report:
    filled, wanted = number(row["vol_exec"]), number(row["vol"])
    state = STATES[row["status"]]
    if state is OrderState.LIVE and filled:
        state = OrderState.PARTIAL
    elif state is OrderState.FILLED and filled < wanted:
        # Closed is ended: by being full, or in another way.
        state = OrderState.CANCELED
    return Report(
        # Placed by somebody else, and without a name: the venue's is as good as any.
        client_order_id=str(row.get("cl_ord_id") or venue_order_id),
        venue_order_id=venue_order_id,
        state=state,
        filled_quantity=filled,
    )


def newest(rows: Mapping[str, Mapping[str, Any]]) -> tuple[str, Mapping[str, Any]] | None:
    """A name is free again once its order has ended: the last to have it is the one that counts."""
    return max(rows.items(), key=lambda item: Decimal(str(item[1]["opentm"])), default=None)


def fill(venue: str, symbol: str, row: Mapping[str, Any], client_order_id: str) -> Fill:
    trade_id = row.get("trade_id")
    if not trade_id:
        raise Unreachable(
            f"a trade of {shown(row.get('ordertxid'))} has no number",
            cure="it is older than Kraken's numbers: ask from a later trade on",
        )
    return Fill(
        venue=venue,
        symbol=symbol,
        trade_id=whole(trade_id),
        client_order_id=client_order_id,
        side=Side(row["type"]),
        price=number(row["price"]),
        quantity=number(row["vol"]),
        commission=number(row["fee"]),
        # Documented to be told in the quote asset; our own orders ask for it to be paid in it too.
        commission_asset=symbol.partition("-")[2],
        at=moment(row["time"]),
    )


def moment(said: Any) -> datetime:
    """Seconds with as many digits as there are."""
    microseconds = int(number(str(said)) * 1_000_000)
    return _EPOCH + timedelta(microseconds=microseconds)


def by_rising_id(fills: Iterable[Fill]) -> list[Fill]:
    """Each once: pages that are asked for one after the other may overlap."""
    return sorted({each.trade_id: each for each in fills}.values(), key=lambda each: each.trade_id)
