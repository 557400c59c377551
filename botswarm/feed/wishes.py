"""Which streams of a venue are wanted just now, by bots, settings and people."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from botswarm.domain.instrument import Instrument
from botswarm.domain.market import Channel
from botswarm.errors import BotswarmError
from botswarm.exchanges.streams import MarketData, Stream

logger = logging.getLogger(__name__)

ALWAYS: tuple[Channel, ...] = ("trade", "quote")
"""What every market that is followed brings; the other channels are for those who ask."""
ANEW_EVERY_S = 60.0
"""How often a venue is asked for markets that somebody wants and it did not have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Who has wishes, and who knows what there is."""

    running: Callable[[], Collection[str]]
    """The markets that have running bots."""
    save_instruments: Callable[[Sequence[Instrument]], None]
    subscribed: Callable[[], Collection[Stream]] = tuple
    """What people asked for by hand, while the feed runs."""
    instruments_anew: Callable[[], Sequence[Instrument]] | None = None
    """The venue's markets as they are now: one may be listed while the feed runs."""


class Complaints:
    """Each said when it begins or changes, not while it lasts."""

    def __init__(self) -> None:
        self._said: dict[str, str] = {}

    def trouble(self, what: str, words: str) -> None:
        if self._said.get(what) != words:
            logger.warning("cannot %s: %s; trying again", what, words)
        self._said[what] = words

    def well(self, what: str) -> None:
        self._said.pop(what, None)


class Wishes:
    def __init__(
        self,
        data: MarketData,
        sources: Sources,
        *,
        configured: Collection[str],
        monotonic: Callable[[], float],
    ) -> None:
        self.running: frozenset[str] = frozenset()
        self.unknown: frozenset[str] = frozenset()
        """Wanted, and not among the venue's markets."""
        self._data, self._sources = data, sources
        self._configured = frozenset(configured)
        self._monotonic = monotonic
        self._asked: frozenset[Stream] = frozenset()
        self._known: dict[str, Instrument] = {}
        self._is_saved = False
        self._anew_at = monotonic()
        self._complaints = Complaints()

    def channels(self) -> dict[str, set[Channel]]:
        """By market; raises Unreachable where it was never known what the venue has."""
        try:
            self.running = frozenset(self._sources.running())
            self._asked = frozenset(self._sources.subscribed())
            self._complaints.well("read what is wanted")
        except BotswarmError as error:
            # The markets that were wanted a moment ago are still the best guess.
            self._complaints.trouble("read what is wanted", str(error))
        asked = {stream.symbol for stream in self._asked}
        known = self._that_exist(self.running | self._configured | asked)
        wanted: dict[str, set[Channel]] = {symbol: set(ALWAYS) for symbol in known}
        for stream in self._asked:
            if stream.symbol in wanted:
                wanted[stream.symbol].add(stream.channel)
        return wanted

    def _that_exist(self, symbols: Iterable[str]) -> Collection[str]:
        if not self._known:
            self._know(self._data.instruments())
        unknown = frozenset(symbols) - frozenset(self._known)
        if unknown and self._ask_anew():
            unknown = frozenset(symbols) - frozenset(self._known)
        if not self._is_saved:
            self._save()
        if new := unknown - self.unknown:
            names = ", ".join(sorted(new))
            logger.error("%s has no market %s: its bots will see nothing", self._data.name, names)
        self.unknown = unknown
        return frozenset(symbols) - unknown

    def _know(self, instruments: Iterable[Instrument]) -> None:
        self._known = {each.symbol: each for each in instruments}
        self._is_saved = False

    def _ask_anew(self) -> bool:
        anew, now = self._sources.instruments_anew, self._monotonic()
        if anew is None or now - self._anew_at < ANEW_EVERY_S:
            return False
        self._anew_at = now
        try:
            self._know(anew())
        except BotswarmError as error:
            self._complaints.trouble("ask for new markets", str(error))
            return False
        self._complaints.well("ask for new markets")
        return True

    def _save(self) -> None:
        try:
            self._sources.save_instruments(tuple(self._known.values()))
            self._is_saved = True
        except BotswarmError as error:
            # Prices go out all the same; the next look tries again.
            logger.debug("instruments are not in the ledger yet: %s", error)
