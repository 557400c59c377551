"""Kraken's book as a connection is told it: the best levels, what changed, and the checksum."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final
from zlib import crc32

import msgspec

from botswarm.exchanges.simulated.matching import Level
from botswarm.exchanges.simulated.orders import ZERO

CHECKED: Final = 10
"""So many levels of each side go into the checksum."""
QUANTITY_DIGITS: Final = 8


@dataclass(slots=True)
class Shelf:
    """The book as one connection has been told it."""

    depth: int
    bids: dict[Decimal, Decimal] = field(default_factory=dict)
    asks: dict[Decimal, Decimal] = field(default_factory=dict)


def number(value: Decimal, digits: int) -> msgspec.Raw:
    """A JSON number with exactly so many digits after the point; no float could keep them."""
    return msgspec.Raw(f"{value:.{digits}f}".encode())


def checksum(bids: dict[Decimal, Decimal], asks: dict[Decimal, Decimal], digits: int) -> int:
    """Of the ten best asks, then the ten best bids, as Kraken documents it."""
    levels = sorted(asks.items())[:CHECKED] + sorted(bids.items(), reverse=True)[:CHECKED]
    return crc32("".join(_bare(p, digits) + _bare(q, QUANTITY_DIGITS) for p, q in levels).encode())


def _bare(value: Decimal, digits: int) -> str:
    return f"{value:.{digits}f}".replace(".", "").lstrip("0")


def difference(
    told: dict[Decimal, Decimal], now: dict[Decimal, Decimal], all_of: dict[Decimal, Decimal]
) -> list[Level]:
    """A level that others have pushed out of the depth is not taken away: clients cut it off."""
    gone = [(price, ZERO) for price in told if price not in now and price not in all_of]
    return gone + [
        (price, quantity) for price, quantity in now.items() if told.get(price) != quantity
    ]
