"""A cap for all workers together: a slot held while a task runs, freed by its holder's death."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import random
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from botswarm.errors import Unreachable

logger = logging.getLogger(__name__)

POLL_FIRST_S = 0.005
POLL_LAST_S = 0.1
KEEPALIVE = "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3"


class Slots(Protocol):
    def take(self, queue: str, cap: int) -> object | None:
        """One of the queue's slots, or None while all are held; raises Unreachable."""
        ...

    def give_back(self, slot: object) -> None: ...

    def used(self, queue: str, cap: int) -> int:
        """How many are held now, by whomever; raises Unreachable."""
        ...


class FileSlots:
    """Locks on files of one machine; the operating system frees them whatever happens."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._prefix = f"{folder}/"

    def take(self, queue: str, cap: int) -> object | None:
        for number in random.sample(range(cap), cap):
            # Opened anew each time: a lock belongs to the opening, so two threads that shared
            # one would both be given the same slot.
            descriptor = self._open(f"{self._prefix}{queue}.{number}")
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
            except BaseException:
                os.close(descriptor)
                raise
            else:
                return descriptor
        return None

    def _open(self, path: str) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        try:
            return os.open(path, flags, 0o600)
        except FileNotFoundError:
            self._folder.mkdir(parents=True, exist_ok=True)
            return os.open(path, flags, 0o600)

    def give_back(self, slot: object) -> None:
        assert isinstance(slot, int)
        os.close(slot)

    def used(self, queue: str, cap: int) -> int:
        return sum(_is_locked(Path(f"{self._prefix}{queue}.{number}")) for number in range(cap))


def _is_locked(path: Path) -> bool:
    try:
        with path.open() as file:
            # Shared, and for a moment: who takes a slot looks at the others, too.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


class DatabaseSlots:
    """Advisory locks of the ledger's PostgreSQL: the server frees them with the session."""

    def __init__(self, url: str) -> None:
        self._url = url.replace("postgresql+psycopg2://", "postgresql://", 1)
        # A session may take a lock it holds once more, so each thread needs a session of its own;
        # and a forked child must not use its parent's.
        self._local = threading.local()

    def take(self, queue: str, cap: int) -> object | None:
        import psycopg2

        key = _key(queue)
        first = random.randrange(cap)  # noqa: S311 - spreads the tries, guards nothing
        try:
            with self._session().cursor() as cursor:
                # One round trip: from a random slot on, stop at the first that is free.
                cursor.execute(
                    """
                    with recursive tried(i, got) as (
                        select 0, pg_try_advisory_lock(%(key)s, %(first)s %% %(cap)s)
                        union all
                        select i + 1, pg_try_advisory_lock(%(key)s, (%(first)s + i + 1) %% %(cap)s)
                        from tried where not got and i + 1 < %(cap)s)
                    select (%(first)s + i) %% %(cap)s from tried where got
                    """,
                    {"key": key, "first": first, "cap": cap},
                )
                row = cursor.fetchone()
        except psycopg2.Error as error:
            self._forget()
            raise Unreachable(
                f"no slot of {queue} can be taken: the database does not answer "
                f"({str(error).strip().splitlines()[0]})",
                cure="check the ledger's PostgreSQL: botswarm doctor --only database",
            ) from error
        return (key, row[0]) if row else None

    def used(self, queue: str, cap: int) -> int:
        import psycopg2

        try:
            with self._session().cursor() as cursor:
                cursor.execute(
                    """
                    select count(*) from pg_locks
                    where locktype = 'advisory' and granted and objsubid = 2 and classid = %s
                    and database = (select oid from pg_database where datname = current_database())
                    """,
                    (_key(queue) % 2**32,),
                )
                return int(cursor.fetchone()[0])
        except psycopg2.Error as error:
            self._forget()
            raise Unreachable(
                f"the slots of {queue} cannot be counted: {str(error).strip().splitlines()[0]}",
                cure="check the ledger's PostgreSQL: botswarm doctor --only database",
            ) from error

    def give_back(self, slot: object) -> None:
        import psycopg2

        try:
            with self._session().cursor() as cursor:
                cursor.execute("select pg_advisory_unlock(%s, %s)", slot)
        except psycopg2.Error:
            # The session is gone, and its locks with it.
            self._forget()

    def _session(self) -> Any:
        import psycopg2

        if getattr(self._local, "pid", None) != os.getpid():
            connection = psycopg2.connect(
                self._url, connect_timeout=5, application_name="botswarm slots", options=KEEPALIVE
            )
            connection.autocommit = True
            self._local.connection, self._local.pid = connection, os.getpid()
        return self._local.connection

    def _forget(self) -> None:
        connection = getattr(self._local, "connection", None)
        self._local.pid = None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.close()


def _key(queue: str) -> int:
    return zlib.crc32(f"botswarm.slots.{queue}".encode()) - 2**31


def slots_of(database_url: str, state_dir: Path) -> Slots:
    """PostgreSQL where the ledger is there, so that it holds across machines; files otherwise."""
    if database_url.startswith("postgresql"):
        return DatabaseSlots(database_url)
    return FileSlots(state_dir / "slots")


@contextlib.contextmanager
def held(slots: Slots, queue: str, cap: int, wait_s: float) -> Iterator[bool]:
    """True while a slot is held; False if none could be had in time and nothing may be done."""
    slot = None
    try:
        slot = _wait(slots, queue, cap, wait_s)
    except Unreachable as error:
        logger.warning("%s; %s", error, error.cure)
    if slot is None:
        yield False
        return
    try:
        yield True
    finally:
        slots.give_back(slot)


def _wait(slots: Slots, queue: str, cap: int, wait_s: float) -> object | None:
    deadline = time.monotonic() + wait_s
    pause = POLL_FIRST_S
    while True:
        if (slot := _take(slots, queue, cap)) is not None:
            return slot
        if time.monotonic() + pause > deadline:
            return None
        time.sleep(pause)
        pause = min(pause * 1.5, POLL_LAST_S)


def _take(slots: Slots, queue: str, cap: int) -> object | None:
    try:
        return slots.take(queue, cap)
    except Unreachable:
        # A server that was restarted meanwhile answers over a new session.
        return slots.take(queue, cap)
