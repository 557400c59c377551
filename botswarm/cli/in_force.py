"""When a halt is in force: from then on no venue takes an order that was judged before it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta

from botswarm.errors import BotswarmError
from botswarm.ledger.halting import Halting, OnTheWay, Place

TakenWithin = Callable[[Place], float | None]
"""So long after it was signed a venue may take an order; None where nothing bounds that."""

ANSWER_MAX_S = 0.35
"""So long nothing but answers is waited for: their senders will not begin to send any more by then,
and whoever is still on the way has a mute venue or a frozen sender.
"""
POLL_S = 0.02
CLOCKS_S = 0.75
"""How far what an order is stamped with may be from the venue's own clock: half of the longest
round trip that it is read from, and what jumps and drifts unnoticed until it is read again.
"""
UNBOUNDED_S = 6.0
"""Where a venue refuses nothing for being late, no sender begins after so long."""
LONG_AGO = timedelta(minutes=2)
"""What was signed before this is refused by every venue that refuses anything for being late."""


class Force:
    """Of one halt that is committed."""

    def __init__(
        self,
        halting: Halting,
        places: Collection[Place] | None,
        taken_within: TakenWithin,
        commit: Callable[[Sequence[OnTheWay]], None],
    ) -> None:
        """``commit`` is called once, with what may arrive all the same."""
        self._halting = halting
        self._places = places
        self._taken_within = taken_within
        self._commit = commit
        self._through_at = 0.0
        self._windows: dict[Place, float | None] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.is_reached = threading.Event()
        self.left: Sequence[OnTheWay] = ()
        """Signed, the answer not known, and the venue may still take them."""
        self.failure: BotswarmError | None = None

    def begin(self) -> None:
        """Wait a little for answers; a thread waits for the others."""
        found = self._halting.wait_for_begun(self._places)
        self._through_at = time.monotonic()
        while (left := _not_long_ago(found)) and self._passed_s() < ANSWER_MAX_S:
            time.sleep(POLL_S)
            found = self._halting.on_the_way(self._places)
        self.left = left
        if not left:
            self._reach(())
            return
        self._thread = threading.Thread(target=self._wait, name="in force", daemon=True)
        self._thread.start()

    def wait(self, wait_s: float) -> bool:
        """Whether it is in force; where it is not by then, nobody looks for it any more."""
        if self._thread is not None:
            self._thread.join(max(0.0, wait_s))
            self._stop.set()
            self._thread.join()
        return self.is_reached.is_set()

    def left_s(self) -> float:
        """After so long at most the answer to nothing that is left is waited for."""
        ends = [self._end_s(each.place) for each in self.left]
        return max(0.0, max(ends, default=0.0) - self._passed_s())

    def _wait(self) -> None:
        while not self._stop.wait(POLL_S):
            try:
                found = _not_long_ago(self._halting.on_the_way(self._places))
                self.left = [each for each in found if not self._is_over(each)]
                if not self.left:
                    self._reach(found)
                    return
                self.failure = None
            except BotswarmError as error:
                # It is asked again; who waits for us is told where that did not help.
                self.failure = error

    def _reach(self, found: Sequence[OnTheWay]) -> None:
        """Of those that are over a venue may yet take what it never refuses for being late."""
        self._commit([each for each in found if self._window_s(each.place) is None])
        self.is_reached.set()

    def _is_over(self, each: OnTheWay) -> bool:
        return self._passed_s() > self._end_s(each.place)

    def _end_s(self, place: Place) -> float:
        """From when all that had begun was through, so also signed."""
        window_s = self._window_s(place)
        return UNBOUNDED_S if window_s is None else window_s + CLOCKS_S

    def _window_s(self, place: Place) -> float | None:
        if place not in self._windows:
            self._windows[place] = self._taken_within(place)
        return self._windows[place]

    def _passed_s(self) -> float:
        return time.monotonic() - self._through_at


def _not_long_ago(found: Sequence[OnTheWay]) -> Sequence[OnTheWay]:
    since = datetime.now(UTC) - LONG_AGO
    return [each for each in found if each.signed_at > since]
