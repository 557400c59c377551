"""What a strategy worker knows of prices, written down for those who follow no market."""

from __future__ import annotations

import logging
import threading

from botswarm.clock import Clock
from botswarm.domain.standing import Mark
from botswarm.errors import BotswarmError
from botswarm.ledger.marks import Marks
from botswarm.market.book import MarketBook

logger = logging.getLogger(__name__)

EVERY_S = 2.0


class Marker:
    """A thread that writes what is new, a few times a minute; others may write the same."""

    def __init__(self, book: MarketBook, marks: Marks, clock: Clock) -> None:
        self._book = book
        self._marks = marks
        self._clock = clock
        self._written: dict[tuple[str, str], Mark] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="marks", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 2.0) -> None:
        self._stopped.set()
        self._thread.join(timeout_s)

    def write(self) -> int:
        """How many markets have moved since they were written last."""
        news = [mark for mark in self._book.marks() if self._is_news(mark)]
        self._marks.save(news, self._clock.now())
        self._written |= {(mark.venue, mark.symbol): mark for mark in news}
        return len(news)

    def _is_news(self, mark: Mark) -> bool:
        before = self._written.get((mark.venue, mark.symbol))
        return before is None or mark.at > before.at

    def _run(self) -> None:
        while not self._stopped.wait(EVERY_S):
            try:
                self.write()
            except BotswarmError as error:
                # The next round is seconds away; until then what needs a price calls it unknown.
                logger.warning("prices are not written down: %s; %s", error, error.cure)
            except Exception:
                # An entrance: whatever it was, prices must not stop for ever because of it.
                logger.exception("prices were not written down")
