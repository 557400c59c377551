"""What goes wrong with single frames of a market stream: lost, doubled, swapped, spoilt."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from botswarm.exchanges.simulated.faults import Faults

SPOILT_PRICES: Final[Mapping[str, str]] = {
    "price_zero": "0.00",
    "price_negative": "-1.00",
    "price_nan": "NaN",
    "price_huge": "1e400",
}
_PRICE: Final = re.compile(r'("(?:p|price)":"?)([0-9.]+)')

Stream = tuple[str, str, str]
"""Venue, symbol, channel."""


class Shown(NamedTuple):
    """A frame on its way to those who listen."""

    text: str
    ids: tuple[int, ...] = ()
    """Of the trades it tells."""
    is_lost: bool = False
    """It counts where the venue counts frames, and nobody gets it."""


class Spoiler:
    """Every frame of every venue's streams passes here; mostly it is left alone."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self._held: dict[Stream, Shown] = {}

    def pass_on(
        self, venue: str, symbol: str, channel: str, text: str, ids: tuple[int, ...] = ()
    ) -> Sequence[Shown]:
        shown = Shown(text, ids)
        if not self.faults.armed and not self._held:
            return (shown,)
        stream = venue, symbol, channel
        held = self._held.pop(stream, None)
        fault = self.faults.take_frame(venue, symbol, channel)
        kind = fault.kind if fault is not None else ""
        if kind == "withhold":
            told: list[Shown] = [shown._replace(is_lost=True)]
        elif kind == "repeat":
            told = [shown, shown]
        elif kind == "reorder" and held is None:
            self._held[stream] = shown
            return ()
        elif kind == "price_spike":
            told = [shown._replace(text=_PRICE.sub(_ten_times, text, count=1))]
        elif kind in SPOILT_PRICES:
            spoilt = _PRICE.sub(rf"\g<1>{SPOILT_PRICES[kind]}", text, count=1)
            # Whoever reads it must not believe it: as a trade it has not been told.
            told = [Shown(spoilt)]
        else:
            told = [shown]
        # The second of two that change places goes first.
        return told if held is None else [*told, held]


def _ten_times(found: re.Match[str]) -> str:
    head, price = found.groups()
    whole, dot, rest = price.partition(".")
    return f"{head}{whole}0{dot}{rest}"


def odd_frames(kind: str) -> tuple[bytes, bool]:
    """The bytes of a frame that no venue should send, and whether it is a binary one."""
    if kind == "garbage_frame":
        return b'{"e":"trade","s":[{"p":"1e9999","q":{}}],"t":"\\ud800","T":-1e999', False
    if kind == "text_frame":
        return b"CloudFlare WebSocket proxy restarting", False
    if kind == "binary_frame":
        return bytes(range(256)) * 2, True
    if kind == "deep_frame":
        return b"[" * 100_000 + b"]" * 100_000, False
    return b'{"x":"' + b"x" * (4 * 1024 * 1024) + b'"}', False
