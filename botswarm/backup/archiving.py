"""The process that carries every change of the ledger into the folder of backups, all the time."""

from __future__ import annotations

import logging
import sqlite3
import threading
from contextlib import closing, suppress
from datetime import datetime, timedelta
from typing import Protocol

from sqlalchemy import text

from botswarm import metrics
from botswarm.backup import log_archive, page_archive
from botswarm.backup.create import create, try_out
from botswarm.backup.folder import WRITING, Backup, Method, State
from botswarm.backup.log_archive import Receiver
from botswarm.backup.page_archive import PageWriter
from botswarm.backup.place import Place
from botswarm.backup.postgresql import Server
from botswarm.backup.reach import Reach
from botswarm.backup.remote import Remote, remote_of
from botswarm.backup.sealing import Damaged
from botswarm.backup.wal import Tail
from botswarm.errors import BotswarmError, Unreachable
from botswarm.ledger.backups import Backups
from botswarm.ledger.session import Database

logger = logging.getLogger(__name__)

START_EVERY = timedelta(days=1)
"""So often a new copy is made to go on from: the longer the row of changes, the longer it takes
to bring it back."""
GROWN_MAX = 2
"""Or sooner, where the changes have become so many times as large as the copy."""
AGAIN_S = 5.0
RECEIVED_S = 30.0
POLL_S = 0.1


class Progress:
    """Whether the archive gets on: it carries something over, its copy grows, or it tries again."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._at = place.clock.monotonic()
        self._size = 0
        self.reach = Reach(place.clock)
        """Of the bucket, where there is one: it holds up nothing here."""

    def turned(self) -> None:
        self._at = self._place.clock.monotonic()

    def age_s(self) -> float:
        """For how long it has not, beyond the pause that it is to make."""
        size = self._copied()
        if size != self._size:
            self._size = size
            self.turned()
        pause_s = self._place.settings.backup_archive_every_s
        return max(0.0, self._place.clock.monotonic() - self._at - pause_s)

    def _copied(self) -> int:
        size = 0
        for folder in self._place.folder.path.glob(f"*{WRITING}"):
            for path in folder.rglob("*"):
                with suppress(OSError):  # it has just been moved
                    size += path.stat().st_size
        return size


class Archive(Protocol):
    """What follows one kind of ledger."""

    def begin(self) -> Backup:
        """Make a copy to go on from, and follow from there. It is tried out by the caller."""
        ...

    def carry(self) -> datetime:
        """Carry over what was committed; answers the moment up to which all of it is kept."""
        ...

    def is_due(self) -> bool:
        """Whether it is time for another copy."""
        ...

    def close(self) -> None: ...


def run(place: Place, stop: threading.Event, progress: Progress) -> None:
    """Until ``stop``. What fails is said, counted, and tried again from a new copy."""
    while not stop.is_set():
        try:
            _session(place, stop, progress)
        except (BotswarmError, OSError, sqlite3.Error) as error:
            metrics.ARCHIVE_FAILURES.inc()
            cure = getattr(error, "cure", "") or "it is tried again by itself"
            logger.error("the archive does not go on: %s; %s", error, cure)
            # To try is to get on: who starts this process again brings no ledger back.
            progress.turned()
            stop.wait(AGAIN_S)


def _session(place: Place, stop: threading.Event, progress: Progress) -> None:
    with closing(Database(place.database_url)) as database:
        archive: Archive = (
            PageArchive(place, database) if database.is_sqlite else LogArchive(place, database)
        )
        remote = remote_of(place)
        # Beside the rounds: a bucket that hangs, or has hours to catch up with, delays none.
        carrier = threading.Thread()
        with closing(archive):
            start = _begin(place, archive)
            progress.turned()
            while not stop.wait(place.settings.backup_archive_every_s):
                archive.carry()
                if remote is not None and not carrier.is_alive():
                    carried = (place, remote, start.id, progress.reach)
                    carrier = threading.Thread(target=_push, args=carried, daemon=True)
                    carrier.start()
                progress.turned()
                if archive.is_due():
                    start = _begin(place, archive)
            # What was committed since the last round, by whoever stopped before us.
            archive.carry()


def _push(place: Place, remote: Remote, start_id: str, reach: Reach) -> None:
    """The copy first: what came after it is worth nothing without it. What does not arrive in the
    second place now does so with the next round.
    """
    try:
        start = place.folder.read(start_id)
        if start.state is State.GOOD and not remote.holds(start):
            remote.push(start)
        remote.push_archive()
        reach.reached()
    except (BotswarmError, OSError) as error:
        reach.failed(str(error))
        metrics.ARCHIVE_FAILURES.inc()
        cure = getattr(error, "cure", "") or "it is tried again by itself"
        logger.error("the archive does not reach the bucket: %s; %s", error, cure)


def _begin(place: Place, archive: Archive) -> Backup:
    """The trial takes as long as a restore, and nothing waits for it."""
    backup = archive.begin()
    logger.info("the archive goes on from backup %s", backup.id)
    if backup.state is not State.GOOD:
        threading.Thread(target=_try_out, args=(place, backup), daemon=True).start()
    return backup


def _try_out(place: Place, backup: Backup) -> None:
    try:
        try_out(place, backup)
    except (BotswarmError, OSError, sqlite3.Error) as error:
        metrics.ARCHIVE_FAILURES.inc()
        cure = getattr(error, "cure", "") or f"see: botswarm backup verify {backup.id}"
        logger.error("backup %s, which the archive goes on from: %s; %s", backup.id, error, cure)


class PageArchive:
    """Of a SQLite file: the pages that change."""

    def __init__(self, place: Place, database: Database) -> None:
        assert database.path is not None, "the ledger is not a file"
        self._place = place
        self._backups = Backups(database)
        self._tail = Tail(database.path)
        self._writer: PageWriter | None = None
        self._start: Backup | None = None
        self._published: datetime | None = None

    def begin(self) -> Backup:
        # The tail stands where it stood before the copy was begun: what it reads from there on
        # brings the copy to a moment after it, whatever was written meanwhile.
        made = create(self._place, is_start=True).backup
        pieces = page_archive.pieces_of(self._place.folder, made.id, self._place.key)
        self._writer = PageWriter(pieces)
        self._start = made
        self.carry()
        return made

    def carry(self) -> datetime:
        assert self._writer is not None, "nothing was begun"
        clock = self._place.clock
        marked = clock.now()
        self._backups.mark(marked, self._published)
        at = clock.now()
        self._writer.add(self._tail.read(), at, self._tail.head)
        self._tail.keep()
        if self._tail.is_long:
            # Where it is locked by others, the next round tries it again.
            with suppress(sqlite3.OperationalError):
                at_end = clock.now()
                self._writer.add(self._tail.rewind(), at_end, self._tail.head)
        self._published = marked
        return at

    def is_due(self) -> bool:
        assert self._start is not None, "nothing was begun"
        assert self._writer is not None, "nothing was begun"
        age = self._place.clock.now() - self._start.manifest.at
        return age > START_EVERY or self._writer.bytes > GROWN_MAX * self._start.bytes

    def close(self) -> None:
        self._tail.close()


class LogArchive:
    """Of a PostgreSQL server: its own log, received as it is written."""

    def __init__(self, place: Place, database: Database) -> None:
        self._place = place
        self._database = database
        self._backups = Backups(database)
        server = Server(place.database_url)
        self._receiver = Receiver(server, place.settings.state_dir / "archive")
        self._pieces = log_archive.pieces_of(place.folder, place.key)
        self._published: datetime | None = None
        self._start: Backup | None = None

    def begin(self) -> Backup:
        if self._start is None:
            # First it is received, then copied: nothing is between the two.
            self._receiver.start()
            if (found := self._resumed()) is not None:
                return found
        made = create(self._place, is_start=True).backup
        self._start = made
        self.carry()
        self._prune()
        return made

    def _resumed(self) -> Backup | None:
        """The base of before, where the log goes on from it without a gap: the server kept for us
        what we were not there for.
        """
        bases = [each for each in self._bases() if each.state is State.GOOD]
        if not bases or self._pieces.said() is None:
            return None
        self._start = bases[-1]
        if self.is_due():
            return None
        self.carry()
        try:
            log_archive.check_pieces(self._pieces, _first_segment(self._start))
        except Damaged as error:
            logger.warning("the archive needs a new base: %s", error)
            return None
        return self._start

    def carry(self) -> datetime:
        clock = self._place.clock
        marked = clock.now()
        self._backups.mark(marked, self._published)
        head = self._database.read(
            lambda session: session.execute(text("SELECT sequence, hash FROM chain_head")).first()
        )
        reached = log_archive.position(self._database)
        deadline = clock.monotonic() + RECEIVED_S
        while not log_archive.has_received(self._database, reached):
            self._receiver.check()
            if clock.monotonic() > deadline:
                raise Unreachable(
                    f"the server's log did not arrive within {RECEIVED_S:g} s",
                    cure="it is tried again by itself; see whether the network is well",
                )
            threading.Event().wait(POLL_S)
        self._receiver.publish(self._pieces)
        said = None if head is None else [int(head.sequence), str(head.hash)]
        self._pieces.say({"at": marked, "place": reached, "head": said})
        self._published = marked
        return marked

    def is_due(self) -> bool:
        assert self._start is not None, "nothing was begun"
        return self._place.clock.now() - self._start.manifest.at > START_EVERY

    def close(self) -> None:
        self._receiver.stop()

    def _prune(self) -> None:
        """Of the log what no base needs that may still be gone on from."""
        since = self._place.clock.now() - timedelta(
            days=self._place.settings.backup_archive_days_kept
        )
        bases = self._bases()
        needed = [each for each in bases if each.manifest.at >= since] or bases[-1:]
        if needed:
            log_archive.prune(self._pieces, _first_segment(needed[0]))

    def _bases(self) -> list[Backup]:
        return [
            each
            for each in self._place.folder.list()[0]
            if each.manifest.method is Method.BASE and each.manifest.start is not None
        ]


def _first_segment(base: Backup) -> str:
    return str((base.manifest.start or {})["segment"])
