"""Every change is carried over, none is missed, and what was changed in the archive is noticed."""

from __future__ import annotations

import errno
import io
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO

import pytest

from botswarm import metrics
from botswarm.backup import archiving, log_archive, page_archive, sides, sqlite, wal
from botswarm.backup.archiving import Archive, LogArchive, PageArchive, Progress
from botswarm.backup.checking import check_all
from botswarm.backup.choosing import newest
from botswarm.backup.cluster import Cluster
from botswarm.backup.create import create, try_out
from botswarm.backup.drill import drill
from botswarm.backup.folder import Backup, Method
from botswarm.backup.increments import Piece, Pieces
from botswarm.backup.place import Place
from botswarm.backup.sealing import Damaged
from botswarm.backup.sides import Wish
from botswarm.clock import StoppedClock
from botswarm.errors import Unreachable
from botswarm.ledger.session import Database
from botswarm.ledger.store import Ledger
from botswarm.tally import TALLY
from botswarm.testing.servers import PostgreSQLServer, wait_until
from tests.backup.conftest import KEY, PlaceOf

WITH = Wish(with_archive=True)
NOW = datetime(2026, 3, 4, tzinfo=UTC)


@pytest.fixture
def following(sqlite_url: str, place_for: PlaceOf) -> Iterator[tuple[Place, Archive, Backup]]:
    place = place_for(sqlite_url)
    with archive_of(place) as archive:
        yield place, archive, archive.begin()


@contextmanager
def archive_of(place: Place) -> Iterator[Archive]:
    with closing(Database(place.database_url)) as database:
        kind = PageArchive if database.is_sqlite else LogArchive
        with closing(kind(place, database)) as archive:
            yield archive


def note(place: Place, name: str) -> None:
    """A change that can be found again."""
    with closing(Ledger(place.database_url)) as ledger:
        ledger.heartbeats.beat(name, "test", datetime.now(UTC))


def noted(url: str) -> set[str]:
    with closing(Database(url)) as database, database.connection() as connection:
        rows = connection.exec_driver_sql("SELECT name FROM heartbeats WHERE kind = 'test'")
        return {str(row[0]) for row in rows}


def brought_back(place: Place, backup: Backup, wish: Wish = WITH) -> set[str]:
    with sides.beside(place, backup, is_trial=True, wish=wish) as (side, reached):
        sides.check_same(place, backup, side, reached)
        return noted(side.url)


def test_what_was_committed_after_the_copy_is_brought_back_too(
    following: tuple[Place, Archive, Backup],
) -> None:
    place, archive, start = following
    note(place, "one")
    archive.carry()
    note(place, "two")
    archive.carry()
    note(place, "not carried")
    assert brought_back(place, start, Wish()) == set()
    assert brought_back(place, start) == {"one", "two"}


def test_a_drill_says_what_would_be_lost_and_how_long_it_took(
    following: tuple[Place, Archive, Backup],
) -> None:
    place, archive, start = following
    try_out(place, start)
    note(place, "one")
    archive.carry()
    assert newest(place)[0].id == start.id
    done = drill(place)
    assert done.is_good, done.words
    assert done.rto_ms is not None
    assert done.rpo_ms is not None
    assert done.rpo_ms < 60_000
    assert done.numbers["fills"] == 300
    with closing(Ledger(place.database_url)) as ledger:
        assert [each.rto_ms for each in ledger.backups.drills()] == [done.rto_ms]


def test_any_moment_since_the_copy_can_be_brought_back(
    following: tuple[Place, Archive, Backup],
) -> None:
    place, archive, start = following
    note(place, "one")
    archive.carry()
    time.sleep(0.01)
    moment = datetime.now(UTC)
    time.sleep(0.01)
    note(place, "two")
    archive.carry()
    assert brought_back(place, start, Wish(with_archive=True, until=moment)) == {"one"}


def test_a_drill_of_an_older_backup_is_not_held_to_what_its_age_would_lose(
    sqlite_url: str, place_for: PlaceOf
) -> None:
    place = place_for(sqlite_url, backup_rpo_max_s="60")
    old = try_out(place, create(place).backup)
    clock = StoppedClock(datetime.now(UTC) + timedelta(days=3))
    done = drill(replace(place, clock=clock), old.id)
    assert (done.is_good, done.words) == (True, "within its bounds")
    assert done.rpo_ms is not None
    assert done.rpo_ms > 60_000
    assert not drill(replace(place, clock=clock), "latest").is_good


def test_a_drill_that_is_too_slow_or_loses_too_much_is_bad_news(
    sqlite_url: str, place_for: PlaceOf
) -> None:
    place = place_for(sqlite_url, backup_rpo_max_s="1", backup_rto_max_s="1")
    try_out(place, create(place).backup)
    time.sleep(1.1)
    done = drill(place)
    assert not done.is_good
    assert "would have been lost" in done.words
    assert drill(place_for(sqlite_url)).is_good


def test_a_drill_without_any_good_backup_is_bad_news_and_no_crash(
    sqlite_url: str, place_for: PlaceOf
) -> None:
    done = drill(place_for(sqlite_url))
    assert (done.is_good, done.rto_ms) == (False, None)
    assert "no backup" in done.words


# --- what was changed in it -----------------------------------------------------------------------


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[random.Random(1).randrange(len(content))] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("break_it", [flip, cut, Path.unlink], ids=["flip", "cut", "missing"])
@pytest.mark.parametrize("which", ["first", "last", "mark"])
def test_a_changed_piece_is_noticed(
    sqlite_url: str, place_for: PlaceOf, break_it: Callable[[Path], None], which: str
) -> None:
    place = place_for(sqlite_url, backup_key=KEY)
    with archive_of(place) as archive:
        start = archive.begin()
        for name in ("one", "two", "three"):
            note(place, name)
            archive.carry()
    pieces = page_archive.pieces_of(place.folder, start.id, place.key)
    listed = pieces.list()
    assert len(listed) == 4
    path = {"first": listed[0].path, "last": listed[-1].path, "mark": pieces.path / "mark.json"}
    break_it(path[which])
    with pytest.raises(Damaged):
        page_archive.check(pieces)
    (checked,) = check_all(place, [start.id], with_test=False)
    assert "archive" in checked.words
    with pytest.raises(Damaged):
        brought_back(place, start)


def test_a_lost_segment_of_the_servers_log_is_noticed() -> None:
    log_archive.check_row(["00000001000000000000000" + each for each in "345"],
                          "000000010000000000000003")  # fmt: skip
    for names in ("35", "45", ""):
        with pytest.raises(Damaged):
            log_archive.check_row(["00000001000000000000000" + each for each in names],
                                  "000000010000000000000003")  # fmt: skip
    log_archive.check_row(
        ["0000000100000000000000FF", "000000010000000100000000"], "0000000100000000000000FF"
    )


# --- the log of SQLite ----------------------------------------------------------------------------

WRITER = """
import random, sqlite3, sys
path, seed = sys.argv[1], int(sys.argv[2])
chance = random.Random(seed)
def opened():
    connection = sqlite3.connect(path, isolation_level=None, timeout=60)
    connection.execute(f"PRAGMA wal_autocheckpoint={chance.choice([3, 30, 300])}")
    return connection
db = opened()
for _ in range(150):
    try:
        db.execute("BEGIN IMMEDIATE")
        for _ in range(chance.randrange(1, 6)):
            key = chance.randrange(500)
            if chance.random() < 0.3:
                db.execute("DELETE FROM things WHERE key = ?", (key,))
            else:
                db.execute("INSERT OR REPLACE INTO things VALUES (?, randomblob(?))",
                           (key, chance.randrange(10, 9000)))
        db.execute("COMMIT" if chance.random() < 0.9 else "ROLLBACK")
        if chance.random() < 0.02:
            # It would wait for readers, and one is always there.
            db.execute("PRAGMA busy_timeout=20")
            db.execute("PRAGMA wal_checkpoint(" + chance.choice(["RESTART", "TRUNCATE"]) + ")")
            db.execute("PRAGMA busy_timeout=60000")
        if chance.random() < 0.02:
            db.close()
            db = opened()
    except sqlite3.OperationalError:
        if db.in_transaction:
            db.execute("ROLLBACK")
"""


@pytest.mark.parametrize("seed", [1, 2])
def test_no_page_is_missed_however_writers_and_checkpoints_run(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wal, "FRAMES_MAX", 200)
    live, copied = tmp_path / "live.db", tmp_path / "copy.db"
    with closing(sqlite3.connect(live)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE things (key INTEGER PRIMARY KEY, value)")
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(live), str(10 * seed + number)])
        for number in range(2)
    ]
    chance = random.Random(seed)

    def put(pages: wal.Pages) -> None:
        if pages.size:
            wal.put(copied, iter(pages), pages.page_size, pages.size)

    with closing(wal.Tail(live)) as tail:
        sqlite.copy(live, copied)
        while any(writer.poll() is None for writer in writers):
            put(tail.read())
            if chance.random() < 0.2:
                continue  # as if it could not be kept: it is read again
            tail.keep()
            if tail.is_long and chance.random() < 0.5:
                try:
                    put(tail.rewind())
                except sqlite3.OperationalError:
                    continue  # locked by a writer for too long
        put(tail.read())
        tail.keep()
        assert things(copied) == things(live)
    assert things(live)


def things(path: Path) -> list[tuple[int, bytes]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT key, value FROM things ORDER BY key").fetchall()


def test_the_log_is_begun_anew_when_it_has_grown_long(
    sqlite_url: str, place_for: PlaceOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wal, "FRAMES_MAX", 5)
    place = place_for(sqlite_url)
    log = sides.live_path(place)
    log = log.with_name(f"{log.name}-wal")
    with archive_of(place) as archive:
        start = archive.begin()
        for number in range(30):
            note(place, f"number {number}")
            archive.carry()
        # Twenty frames and more of each round would be half a megabyte by now.
        assert log.stat().st_size < 200_000
        assert brought_back(place, start) == {f"number {number}" for number in range(30)}


def test_an_archive_that_copies_or_pauses_gets_on_and_one_that_does_neither_does_not(
    sqlite_url: str, place_for: PlaceOf
) -> None:
    clock = StoppedClock(NOW)
    place = replace(place_for(sqlite_url, backup_archive_every_s="10"), clock=clock)
    progress = Progress(place)
    clock.advance(10)
    assert progress.age_s() == 0
    clock.advance(5)
    assert progress.age_s() == 5
    copying = place.folder.path / "20260304T000000Z-abcdef.writing"
    copying.mkdir(parents=True)
    (copying / "ledger.sqlite").write_text("so far")
    assert progress.age_s() == 0
    clock.advance(30)
    assert progress.age_s() == 20
    progress.turned()
    assert progress.age_s() == 0


def test_an_archive_whose_ledger_is_away_gets_on_by_trying_again(
    sqlite_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever starts again what is stuck would not bring the ledger back, and slow it down."""

    def away(*_: object) -> None:
        raise Unreachable("the ledger is away", cure="start it")

    class Tries(Progress):
        count = 0

        def turned(self) -> None:
            super().turned()
            self.count += 1

    monkeypatch.setattr(archiving, "_session", away)
    monkeypatch.setattr(archiving, "AGAIN_S", 0.01)
    tries, stop = Tries(sqlite_place), threading.Event()
    running = threading.Thread(target=archiving.run, args=(sqlite_place, stop, tries))
    running.start()
    try:
        wait_until(lambda: tries.count >= 3, "three tries", 5)
    finally:
        stop.set()
        running.join()


# --- the log of PostgreSQL ------------------------------------------------------------------------


def test_a_copy_that_cannot_be_tried_out_is_told_and_counted(
    sqlite_place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(place: Place, backup: Backup) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(archiving, "try_out", full)
    before = TALLY.totals().get((metrics.ARCHIVE_FAILURES.name,), [0.0])[0]
    made = create(sqlite_place).backup
    archiving._try_out(sqlite_place, made)
    assert TALLY.totals()[(metrics.ARCHIVE_FAILURES.name,)][0] == before + 1
    assert "No space left on device" in caplog.text
    assert f"botswarm backup verify {made.id}" in caplog.text


def test_a_segment_that_is_replaced_while_it_is_read_is_read_again(tmp_path: Path) -> None:
    name = "000000010000000000000003"

    class Moving(Pieces):
        @contextmanager
        def open(self, piece: Piece) -> Iterator[IO[bytes]]:
            if piece.path == old.path and old.path.exists():
                self.add(f"{name}.partial", io.BytesIO(b"later"))
                old.path.unlink()
            with super().open(piece) as content:
                yield content

    pieces = Moving(tmp_path / "wal", "wal", None)
    old = pieces.add(f"{name}.partial", io.BytesIO(b"sooner"))
    cluster = Cluster(tmp_path)
    cluster.log.mkdir()
    log_archive.lay_out(pieces, name, cluster)
    assert (cluster.log / name).read_bytes() == b"later"


@pytest.mark.timeout(300)
def test_a_server_is_brought_to_its_last_change_and_to_any_moment_before(
    request: pytest.FixtureRequest, place_for: PlaceOf
) -> None:
    place = place_for(own_database(request), backup_key=KEY)
    with archive_of(place) as archive:
        assert isinstance(archive, LogArchive)
        archive.begin()
        archive._receiver.stop()
        with pytest.raises(Unreachable, match="not received any more"):
            archive.carry()
    with archive_of(place) as archive:
        start = archive.begin()
        assert start.manifest.method is Method.BASE
        place.folder.say_tested(start, datetime.now(UTC), 1)
        note(place, "before it stopped")
    note(place, "while it stood still")
    with archive_of(place) as archive:
        # The server kept what it was not told of.
        assert archive.begin().id == start.id
        note(place, "one")
        archive.carry()
        time.sleep(0.01)
        moment = datetime.now(UTC)
        time.sleep(0.01)
        note(place, "two")
        archive.carry()
        assert brought_back(place, start, Wish(with_archive=True, until=moment)) == {
            *("before it stopped", "while it stood still", "one")
        }
        done = drill(place)
    assert done.is_good, done.words
    assert done.backup == start.id
    with closing(Ledger(place.database_url)) as ledger:
        mark = ledger.backups.last_mark()
    assert mark is not None
    assert done.rpo_ms == round((done.at - mark.at).total_seconds() * 1000)
    # What is cut off the end of the log is missed by the mark beside it.
    pieces = log_archive.pieces_of(place.folder, place.key)
    pieces.list()[-1].path.unlink()
    assert "the archive" in drill(place).words


def own_database(request: pytest.FixtureRequest) -> str:
    server: PostgreSQLServer = request.getfixturevalue("postgresql")
    server.copy_database("filled", "followed")
    return server.ledger_url("followed")
