"""Markets as Coinbase describes them, in our own words; its symbols are written as ours are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from botswarm.domain.instrument import Instrument
from botswarm.domain.market import Trading
from botswarm.exchanges.reading import number, shown
from botswarm.exchanges.streams import Unreadable

NO_MAXIMUM = Decimal(10**15)
# Any letters, because no venue has promised to keep to ours; no blanks, dots or quotes.
_SYMBOL = re.compile(r"\w{1,20}-\w{1,20}")
# Documented: these two have books of their own.
OWN_BOOKS = frozenset({"USDT-USDC", "EURC-USDC"})


def trading(product: Mapping[str, Any]) -> Trading:
    """The strictest of what its flags say; a product without flags is as its status says."""
    if product.get("status", "online") not in ("online", ""):
        return Trading.HALTED
    for flag, state in (
        ("trading_disabled", Trading.HALTED),
        ("is_disabled", Trading.HALTED),
        ("view_only", Trading.HALTED),
        ("cancel_only", Trading.CANCEL_ONLY),
        ("post_only", Trading.POST_ONLY),
        ("limit_only", Trading.LIMIT_ONLY),
    ):
        if product.get(flag):
            return state
    return Trading.OPEN


def words(product: Mapping[str, Any]) -> str:
    """The status in the venue's words."""
    message = product.get("status_message")
    return " ".join(str(part)[:200] for part in (product.get("status"), message) if part)


def exchange_instrument(venue: str, product: Mapping[str, Any]) -> Instrument:
    """Of the Exchange's ``/products``; raises what a wrong shape raises."""
    lot = number(product["base_increment"])
    return Instrument(
        venue=venue,
        symbol=checked(product["id"]),
        base=product["base_currency"],
        quote=product["quote_currency"],
        tick_size=number(product["quote_increment"]),
        lot_size=lot,
        quantity_min=lot,
        quantity_max=NO_MAXIMUM,
        notional_min=number(product.get("min_market_funds") or "0"),
        is_trading=trading(product) is Trading.OPEN,
    )


def advanced_instrument(venue: str, product: Mapping[str, Any]) -> Instrument:
    """Of Advanced Trade's ``/market/products``; raises what a wrong shape raises."""
    return Instrument(
        venue=venue,
        symbol=checked(product["product_id"]),
        base=product["base_currency_id"],
        quote=product["quote_currency_id"],
        tick_size=number(product.get("price_increment") or product["quote_increment"]),
        lot_size=number(product["base_increment"]),
        quantity_min=number(product["base_min_size"]),
        quantity_max=number(product["base_max_size"]),
        notional_min=number(product["quote_min_size"]),
        is_trading=trading(product) is Trading.OPEN,
    )


def streamed_as(symbol: str) -> str:
    """The product under whose name Advanced Trade streams it: dollars and USDC share one book."""
    if symbol.endswith("-USDC") and symbol not in OWN_BOOKS:
        return symbol.removesuffix("C")
    return symbol


def checked(product: Any) -> str:
    """Its name, if it can be one; raises Unreadable."""
    if type(product) is str and _SYMBOL.fullmatch(product):
        return product
    raise unknown(product)


def unknown(product: Any) -> Unreadable:
    return Unreadable("unknown_market", f"not one of the markets asked for: {shown(product)}")
