"""Asks a venue by REST for what its streams do not bring: whole order books, and statuses."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from botswarm.domain.market import Book, Tick
from botswarm.errors import BotswarmError
from botswarm.exchanges.streams import MarketData

logger = logging.getLogger(__name__)

PAUSE_S = 0.25
"""Between two books: each costs much of what the venue allows, which orders need too."""
AGAIN_S = 2.0
STATUSES_EVERY_S = 60.0

Give = Callable[[Book], None]


@dataclass(slots=True)
class _Wish:
    symbol: str
    give: Give


class Asker:
    """A thread of its own that begins with the first wish."""

    def __init__(self, data: MarketData, put: Callable[[Sequence[Tick]], None]) -> None:
        self._data, self._put = data, put
        self._wishes: dict[tuple[str, str], _Wish] = {}
        self._asking: tuple[str, str] | None = None
        """The wish that is just being asked, as long as it is wanted."""
        self._symbols: frozenset[str] = frozenset()
        self._statuses_at = 0.0
        self._changed = threading.Condition()
        self._stopped = False
        self._thread: threading.Thread | None = None
        self._failing = ""
        self.asked = 0
        self.failed = 0

    def want_book(self, who: str, symbol: str, give: Give) -> None:
        """The latest book; wishes of one connection for one market are one."""
        with self._changed:
            self._wishes[who, symbol] = _Wish(symbol, give)
            self._begin()

    def forget(self, who: str) -> None:
        """It has ended: nobody would take its books."""
        with self._changed:
            self._wishes = {key: wish for key, wish in self._wishes.items() if key[0] != who}
            if self._asking is not None and self._asking[0] == who:
                self._asking = None

    def want_statuses(self, symbols: frozenset[str]) -> None:
        """Of these, again and again; where streams tell them nobody asks."""
        with self._changed:
            self._symbols = symbols
            if symbols:
                self._begin()

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def _begin(self) -> None:
        if self._thread is None and not self._stopped:
            self._thread = threading.Thread(
                target=self._run, name=f"asker {self._data.name}", daemon=True
            )
            self._thread.start()
        self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                if not (self._wishes or self._is_over()):
                    self._changed.wait(self._rest_s())
                if self._stopped:
                    return
                wish = self._next()
                if wish is None and not self._is_over():
                    continue  # it was something else that changed
                if wish is None:
                    self._statuses_at = time.monotonic() + STATUSES_EVERY_S
            is_well = self._ask(wish)
            with self._changed:
                if not is_well and wish is not None and self._asking is not None:
                    self._wishes.setdefault(self._asking, wish)
                self._asking = None
                self._changed.wait_for(lambda: self._stopped, PAUSE_S if is_well else AGAIN_S)

    def _next(self) -> _Wish | None:
        """None where it is the statuses' turn, or nobody wants anything."""
        if self._is_over() or not self._wishes:
            return None
        self._asking = next(iter(self._wishes))
        return self._wishes.pop(self._asking)

    def _is_over(self) -> bool:
        """The rest until the statuses are asked again; or all of it."""
        return self._stopped or (bool(self._symbols) and time.monotonic() >= self._statuses_at)

    def _rest_s(self) -> float | None:
        return max(0.0, self._statuses_at - time.monotonic()) if self._symbols else None

    def _ask(self, wish: _Wish | None) -> bool:
        self.asked += 1
        try:
            if wish is None:
                wanted = self._symbols
                statuses = [each for each in self._data.statuses() if each.symbol in wanted]
                if statuses:
                    self._put(statuses)
            elif (book := self._data.book(wish.symbol)) is not None:
                wish.give(book)
            self._failing = ""
        except BotswarmError as error:
            return self._missed(str(error))
        except Exception as error:
            # Another's adapter, perhaps: it is asked again, and said what it raised.
            return self._missed(f"{type(error).__name__}: {error}")
        return True

    def _missed(self, reason: str) -> bool:
        self.failed += 1
        if reason != self._failing:
            logger.warning("%s cannot be asked: %s; trying again", self._data.name, reason)
        self._failing = reason
        return False
