"""Asking ccxt: its class of a venue, its questions by name, and what it would round."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from importlib import import_module
from typing import Any

from botswarm.errors import NotFound

PREFIX = "ccxt-"


def class_of(name: str) -> Any:
    try:
        ccxt = import_module("ccxt")
    except ImportError as error:
        raise NotFound(
            "ccxt is not installed, and other venues are traded through it",
            cure="pip install 'botswarm[ccxt]'",
        ) from error
    kind = name.removeprefix(PREFIX)
    if kind not in ccxt.exchanges:
        raise NotFound(f"ccxt knows no venue {kind!r}", cure="see the list in its manual")
    return getattr(ccxt, kind)


def rounded(client: Any, wish: Mapping[str, Any]) -> str:
    """What ccxt would make another number of before it sends it; nothing where it would not."""
    symbol, price = wish["symbol"], wish["price"]
    pairs = [(wish["amount"], client.amount_to_precision(symbol, wish["amount"]))]
    if price is not None:
        pairs.append((price, client.price_to_precision(symbol, price)))
    changed = [f"{ours} to {theirs}" for ours, theirs in pairs if Decimal(ours) != Decimal(theirs)]
    return f"ccxt would round {', '.join(changed)}" if changed else ""


def calling(question: str, *asked: object) -> Callable[[Any], Any]:
    return lambda client: getattr(client, question)(*asked)


def cancelling(order_id: str, market: str) -> Callable[[Any], Any]:
    return calling("cancel_order", order_id, market)


def camel(question: str) -> str:
    first, *others = question.split("_")
    return first + "".join(each.title() for each in others)
