"""What all processes of a machine have asked of one venue: counts and bans in a file they share."""

from __future__ import annotations

import fcntl
import logging
import mmap
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from botswarm.clock import BOOT, since_boot_s
from botswarm.exchanges.allowance import Limit
from botswarm.exchanges.counting import NAME_BYTES, SIZE, Count

logger = logging.getLogger(__name__)

COUNTS_MAX = 512
"""Some venues count for each market by itself."""
HEAD = struct.Struct("=8s36s")
BAN = struct.Struct("=36sdd128s")
"""The machine's start, until when by its clock, and by the wall clock; and the venue's words."""
BAN_AT = 64
OFFSET = struct.Struct("=36sdd")
"""The machine's start, when it was measured by its clock, and how far the venue's clock is away."""
OFFSET_AT = 320
COUNTS_AT = 512
FILE_BYTES = COUNTS_AT + COUNTS_MAX * SIZE
MAGIC = b"BSWALW01"
HELD_MAX_S = 0.05
"""Held for longer than this by a process that has been stopped: an order does not wait for it."""
HELD_AGAIN_S = 0.0005
SAME_BAN_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """What a person sees of one count."""

    name: str
    used: float
    most: float
    period_s: float


class Board:
    """Threads share it; a forked child takes the lock by a file of its own.

    Without a file, or where it cannot be used, it is the memory of this process alone. The kernel
    gives a dead process' lock back, so nobody has to.
    """

    def __init__(
        self,
        file: Path | None = None,
        *,
        clock: Callable[[], float] = since_boot_s,
        wall: Callable[[], float] = time.time,
        boot: str = BOOT,
    ) -> None:
        self._file, self._clock, self._wall = file, clock, wall
        self._boot = boot.encode()[:36].ljust(36, b"\0")
        self._lock, self._opening = threading.Lock(), threading.Lock()
        self._pid = os.getpid()
        self._places: dict[str, int] = {}
        self.descriptor = -1
        self._mapped: mmap.mmap | None = None

    @property
    def _memory(self) -> mmap.mmap:
        """Opened by the first who needs it: to read recordings nobody is asked."""
        return self._mapped or self._opened_once()

    def now(self) -> float:
        return self._clock()

    # --- bans -------------------------------------------------------------------------------------

    def ban_left_s(self) -> float:
        """Read without the lock: it stands before every single request."""
        boot, until, until_wall, _ = BAN.unpack_from(self._memory, BAN_AT)
        if not until:
            return 0.0
        # A ban outlives the machine's restart; its clock does not.
        left: float = until - self._clock() if boot == self._boot else until_wall - self._wall()
        return max(0.0, left)

    def ban_words(self) -> str:
        words: bytes = BAN.unpack_from(self._memory, BAN_AT)[3]
        return words.rstrip(b"\0").decode(errors="replace")

    def ban(self, seconds: float, reason: str) -> bool:
        """Whether it is news: those who were on their way together are all told of one."""
        with self.held():
            # Also where the lock is not to be had: of two bans one is right, none would be wrong.
            left_s = self.ban_left_s()
            if seconds <= left_s:
                return False
            words = reason.encode()[:128]
            until, until_wall = self._clock() + seconds, self._wall() + seconds
            BAN.pack_into(self._memory, BAN_AT, self._boot, until, until_wall, words)
            return not left_s or seconds - left_s > SAME_BAN_S

    # --- the venue's clock ------------------------------------------------------------------------

    def note_offset(self, seconds: float) -> None:
        OFFSET.pack_into(self._memory, OFFSET_AT, self._boot, self._clock(), seconds)

    def offset(self) -> tuple[float, float] | None:
        """The latest in seconds, and how long ago it was measured; None where none was."""
        boot, at, seconds = OFFSET.unpack_from(self._memory, OFFSET_AT)
        return (seconds, self._clock() - at) if boot == self._boot else None

    # --- counts -----------------------------------------------------------------------------------

    def count(self, name: str, limit: Limit) -> Count:
        """The count of this name as of now, begun if there is none. The lock is held."""
        place = self._places.get(name)
        wanted = name.encode()[:NAME_BYTES].ljust(NAME_BYTES, b"\0")
        found = None if place is None else Count(self._memory, place)
        if found is None or found.name != wanted:
            found = self._placed(name, wanted, limit)
        found.come(self._clock())
        return found

    def used(self) -> list[Used]:
        with self.held():
            return [
                Used(
                    name=count.name.rstrip(b"\0").decode(errors="replace"),
                    used=count.used,
                    most=count.most,
                    period_s=count.period_s,
                )
                for count in self._counts()
            ]

    def _counts(self) -> Iterator[Count]:
        for number in range(COUNTS_MAX):
            found = Count(self._memory, COUNTS_AT + number * SIZE)
            if found.name.strip(b"\0"):
                found.come(self._clock())
                yield found

    def _placed(self, name: str, wanted: bytes, limit: Limit) -> Count:
        """Where it stands already, else where nothing does, else where least is counted."""
        free: int | None = None
        least: tuple[float, int] | None = None
        for number in range(COUNTS_MAX):
            place = COUNTS_AT + number * SIZE
            found = Count(self._memory, place)
            if found.name == wanted:
                self._places[name] = place
                return found
            if not found.name.strip(b"\0"):
                free = place
                break
            found.come(self._clock())
            least = min(least or (found.used, place), (found.used, place))
        if free is None:
            assert least is not None
            free = least[1]
        found = Count(self._memory, free)
        found.begin(wanted, limit)
        self._places[name] = free
        return found

    # --- file and lock ----------------------------------------------------------------------------

    @contextmanager
    def held(self) -> Iterator[bool]:
        """Whether it is held: False where somebody who has it does not move."""
        if self._pid != os.getpid():
            self._after_fork()
        if not self._lock.acquire(timeout=1.0):
            yield False
            return
        try:
            is_held = self._flock()
            try:
                yield is_held
            finally:
                if is_held and self.descriptor >= 0:
                    fcntl.flock(self.descriptor, fcntl.LOCK_UN)
        finally:
            self._lock.release()

    def _flock(self) -> bool:
        self._opened_once()
        return self.descriptor < 0 or self._locked()

    def _locked(self) -> bool:
        until = time.monotonic() + HELD_MAX_S
        while True:
            try:
                fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                if time.monotonic() > until:
                    return False
                time.sleep(HELD_AGAIN_S)

    def _after_fork(self) -> None:
        # The parent's lock may be held by a thread that does not exist here, and its file's lock
        # would count as this process' own.
        self._lock, self._pid = threading.Lock(), os.getpid()
        self._opening, self._mapped = threading.Lock(), None

    def _opened_once(self) -> mmap.mmap:
        with self._opening:
            if self._mapped is None:
                self._mapped = self._opened()
            return self._mapped

    def _opened(self) -> mmap.mmap:
        """Either the whole file or plain memory: a page without room on the disk would kill us."""
        if self._file is not None:
            descriptor = -1
            try:
                self._file.parent.mkdir(parents=True, exist_ok=True)
                flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
                descriptor = os.open(self._file, flags, 0o600)
                os.posix_fallocate(descriptor, 0, FILE_BYTES)
                memory = mmap.mmap(descriptor, FILE_BYTES)
            except OSError as error:
                if descriptor >= 0:
                    os.close(descriptor)
                logger.warning(
                    "what is asked of the venue cannot be counted in %s (%s): only this process "
                    "counts it now",
                    self._file,
                    error.strerror or error,
                )
            else:
                self.descriptor = descriptor
                self._begin(memory)
                return memory
        self.descriptor = -1
        memory = mmap.mmap(-1, FILE_BYTES)
        HEAD.pack_into(memory, 0, MAGIC, self._boot)
        return memory

    def _begin(self, memory: mmap.mmap) -> None:
        mine = (MAGIC, self._boot)
        if HEAD.unpack_from(memory, 0) == mine:
            return
        is_held = self._locked()
        try:
            magic, boot = HEAD.unpack_from(memory, 0)
            if magic != MAGIC:
                memory[:] = bytes(FILE_BYTES)
            elif boot != self._boot:
                # By this start's clock the counts mean nothing; the venue's word raises them.
                memory[COUNTS_AT:] = bytes(FILE_BYTES - COUNTS_AT)
            HEAD.pack_into(memory, 0, *mine)
        finally:
            if is_held:
                fcntl.flock(self.descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        if self._mapped is not None:
            self._mapped.close()
            self._mapped = None
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
