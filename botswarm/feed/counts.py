"""What the feed counts of the ticks that pass through it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counts:
    trades: int = 0
    quotes: int = 0
    candles: int = 0
    """Closed ones, made here or asked of the venue."""
    books: int = 0
    statuses: int = 0
    gaps: int = 0
    missed_trades: int = 0
    """Not brought in time by any connection."""
    recovered_trades: int = 0
    """Of those: brought later, or asked of the venue."""
    gone_trades: int = 0
    """Of those: the venue did not have them any more."""
    duplicates: int = 0
    reordered: int = 0
    """Trades that overtook another and waited for it."""
    conflated_trades: int = 0
    """Never published, because the broker took too long."""
    conflated_quotes: int = 0
    conflated_books: int = 0
    dropped_candles: int = 0
    """Not in any digest, because the broker took too long; the ledger has them."""
    unsaved_candles: int = 0
    """Not in the ledger either, because it was away for too long; the venue may still have them."""
    late: int = 0
    candles_compared: int = 0
    """Ours with the venue's own, where it sends them."""
    candles_differed: int = 0
