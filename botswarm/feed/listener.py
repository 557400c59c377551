"""One thread that listens on all of a venue's connections: many frames with each waking-up."""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

logger = logging.getLogger(__name__)

REST_S = 0.0035
"""After each round that heard something: waking up costs more than reading a frame does, and what
comes meanwhile is read together."""
AFTER_FAILURE_S = 0.1
NEVER: Final = float("inf")


class Member(Protocol):
    """What is listened on; all of it but ``fileno`` is called on the listener's thread."""

    def fileno(self) -> int: ...

    def attend(self, now: float, came: float | None) -> float | None:
        """Do what is due, and read what has come, at ``came`` or later, where that is given.

        Answers when something is due again, by the monotonic clock, or None at its end; then the
        socket is closed, and the listener lets go of it.
        """
        ...

    @property
    def has_more(self) -> bool:
        """Something has come that the socket does not show: TLS reads ahead."""
        ...

    @property
    def is_held_up(self) -> bool:
        """It has something to send that the socket did not take."""
        ...


class Listener:
    """Runs while it has members. No member may wait for anything: the others would wait, too."""

    def __init__(
        self, name: str, *, after_round: Callable[[], None] = lambda: None, rest_s: float = REST_S
    ) -> None:
        """``after_round`` is called when all that had come was read."""
        self._name = name
        self._after_round = after_round
        self._rest_s = rest_s
        self._lock = threading.Lock()
        self._new: list[Member] = []
        self._nudged: list[Member] = []
        self._wake = -1
        """Open while the thread runs."""
        self._members: dict[int, Member] = {}
        self._due: dict[int, float] = {}
        self._held_up: set[int] = set()
        self._more: set[int] = set()
        self.rounds = 0

    # --- from any thread ----------------------------------------------------------------------

    def add(self, member: Member) -> None:
        with self._lock:
            self._new.append(member)
            if self._wake < 0:
                self._begin()
            os.eventfd_write(self._wake, 1)

    def nudge(self, member: Member) -> None:
        """Attend to it soon: it has been asked for something."""
        with self._lock:
            if self._wake >= 0:
                self._nudged.append(member)
                os.eventfd_write(self._wake, 1)

    def _begin(self) -> None:
        sockets = select.epoll()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        sockets.register(self._wake, select.EPOLLIN)
        threading.Thread(
            target=self._run, args=(sockets,), name=f"listener {self._name}", daemon=True
        ).start()

    # --- its thread ---------------------------------------------------------------------------

    def _run(self, sockets: select.epoll) -> None:
        heard_at = time.monotonic()
        while not self._is_done():
            try:
                heard_at = self._round(sockets, heard_at)
            except Exception:
                self._failed()
        sockets.close()

    def _failed(self) -> None:
        # Whatever it met with: the connections of a venue are not given up for it.
        logger.exception("listening to %s failed for a moment; going on", self._name)
        time.sleep(AFTER_FAILURE_S)

    def _is_done(self) -> bool:
        if self._members:
            return False
        with self._lock:
            if self._new:
                return False
            wake, self._wake = self._wake, -1
            self._nudged.clear()
        # Nobody writes to it any more: the number may be another file's from now on.
        os.close(wake)
        return True

    def _round(self, sockets: select.epoll, heard_at: float) -> float:
        """When the sockets were looked at."""
        ready = sockets.poll(0)
        came = heard_at
        if not ready and not self._more:
            ready = sockets.poll(self._pause_s())
            came = time.monotonic()
        # What was there at once has come since the last look, nobody knows when.
        now = time.monotonic()
        self.rounds += 1
        heard = self._more | {number for number, _ in ready if number in self._members}
        self._more = set()
        for number in heard:
            self._attend(sockets, number, now, came)
        if any(number == self._wake for number, _ in ready):
            self._take_in(sockets, now)
        for number in [number for number, due in self._due.items() if due <= now]:
            self._attend(sockets, number, now, None)
        if heard:
            self._after_round()
            if not self._more:
                time.sleep(self._rest_s)
        return now

    def _pause_s(self) -> float:
        due = min(self._due.values(), default=NEVER)
        # A millisecond is the shortest that epoll waits: it must not be asked for nothing.
        return -1 if due == NEVER else max(0.001, due - time.monotonic())

    def _take_in(self, sockets: select.epoll, now: float) -> None:
        """Who is new, and who wants to be attended to."""
        with self._lock:
            os.eventfd_read(self._wake)
            new, self._new = self._new, []
            nudged, self._nudged = self._nudged, []
        for member in new:
            number = member.fileno()
            self._members[number] = member
            sockets.register(number, select.EPOLLIN)
            self._attend(sockets, number, now, None)
        for number in [number for number, each in self._members.items() if each in nudged]:
            self._attend(sockets, number, now, None)

    def _attend(self, sockets: select.epoll, number: int, now: float, came: float | None) -> None:
        member = self._members.get(number)
        if member is None:
            return
        try:
            due = member.attend(now, came)
        except Exception:
            self._failed()
            due = now
        if due is None:
            # Its socket is closed, and epoll has forgotten it with that.
            del self._members[number]
            self._due.pop(number, None)
            self._held_up.discard(number)
            return
        self._due[number] = due
        if member.has_more:
            self._more.add(number)
        if member.is_held_up != (number in self._held_up):
            self._held_up ^= {number}
            wanted = select.EPOLLIN | (select.EPOLLOUT if member.is_held_up else 0)
            sockets.modify(number, wanted)
