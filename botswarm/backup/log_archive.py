"""The archive of a PostgreSQL ledger: a base of the server's files, and then its own log.

pg_receivewal is told of every change the moment the server writes it, and a slot makes the server
keep what it has not been told of. It needs nothing of the server's configuration and no access to
its machine, which archive_command would, and is seconds behind instead of a segment.
"""

from __future__ import annotations

import itertools
import re
import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from sqlalchemy import text

from botswarm.backup.cluster import Cluster
from botswarm.backup.folder import Folder
from botswarm.backup.increments import Piece, Pieces
from botswarm.backup.postgresql import Server
from botswarm.backup.sealing import Damaged, spoken
from botswarm.errors import Refused, Unreachable
from botswarm.keys.envelope import MasterKey
from botswarm.ledger.session import Database
from botswarm.programs import find_postgresql, last_will

SLOT = "botswarm_archive"
PARTIAL = ".partial"
STOP_S = 10.0
TRIES = 5
SPOOL_KEPT = 2
"""Whole segments that stay beside the one that is being written: it goes on from them."""
_SEGMENT = re.compile(r"[0-9A-F]{24}")
_HISTORY = re.compile(r"[0-9A-F]{8}\.history")
SEGMENTS_PER_LOG = 256
"""Of 16 MB, which is what a server has unless it was made with another size."""


def pieces_of(folder: Folder, key: MasterKey | None) -> Pieces:
    return Pieces(folder.path / "wal", "wal", key)


class Receiver:
    """pg_receivewal, into a folder of its own on this machine."""

    def __init__(self, server: Server, spool: Path) -> None:
        self.spool = spool
        self._server = server
        self._words = ["--dbname", server.plain_url(), "--no-password", "--slot", SLOT]
        self._child: subprocess.Popen[bytes] | None = None
        self._will: subprocess.Popen[bytes] | None = None
        self._published: dict[str, float] = {}

    def start(self) -> None:
        with spoken(self.spool):
            self.spool.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            self._server.run("pg_receivewal", *self._words, "--create-slot", "--if-not-exists")
        except Unreachable as error:
            raise Refused(
                f"the archive cannot follow the server: {error}",
                cure="as its administrator: ALTER ROLE the_user REPLICATION, and a line "
                "'host replication the_user ...' in pg_hba.conf; or BOTSWARM_BACKUP_ARCHIVE=off",
            ) from error
        with (self.spool / "receiver.log").open("wb") as output:
            self._child = self._follow(output)
        # Left alone it would hold the slot, and nobody else could follow.
        self._will = last_will(self._child.pid)

    def _follow(self, output: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [
                str(find_postgresql("pg_receivewal", package="postgresql-client")),
                *self._words,
                *("--directory", str(self.spool), "--status-interval", "1", "--no-loop"),
            ],
            env=self._server.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=output,
            start_new_session=True,
        )

    def check(self) -> None:
        """Raises Unreachable where it has ended."""
        if self._child is None or self._child.poll() is not None:
            said = (self.spool / "receiver.log").read_text(errors="replace").strip()
            raise Unreachable(
                f"the server's log is not received any more: {said.rpartition(chr(10))[2]}",
                cure="it is tried again by itself; see whether the server is well",
            )

    def stop(self) -> None:
        if self._child is None:
            return
        with suppress(ProcessLookupError):
            self._child.send_signal(signal.SIGINT)
        try:
            self._child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._child = None
        if self._will is not None:
            self._will.kill()
            self._will.communicate()
            self._will = None

    def publish(self, pieces: Pieces) -> int:
        """Carry what has come since into the archive; answers how many pieces were new."""
        with spoken(self.spool):
            names = sorted(each.name for each in self.spool.iterdir())
        whole = [name for name in names if _SEGMENT.fullmatch(name) or _HISTORY.fullmatch(name)]
        kept = {piece.stem for piece in pieces.list()}
        count = 0
        for name in whole:
            if name not in kept:
                _add(pieces, name, self.spool / name)
                count += 1
        count += self._publish_partial(pieces, names)
        _drop_partials(pieces)
        segments = [name for name in whole if _SEGMENT.fullmatch(name)]
        for name in segments[:-SPOOL_KEPT]:
            (self.spool / name).unlink(missing_ok=True)
        return count

    def _publish_partial(self, pieces: Pieces, names: Sequence[str]) -> int:
        partial = [name for name in names if name.endswith(PARTIAL)]
        if not partial:
            return 0
        path = self.spool / partial[-1]
        try:
            changed = path.stat().st_mtime
            if self._published.get(path.name) == changed:
                return 0
            old = [piece for piece in pieces.list() if piece.stem == path.name]
            new = _add(pieces, path.name, path)
        except FileNotFoundError:
            return 0  # it has just become whole: the next round takes it
        self._published = {path.name: changed}
        for piece in old:
            if piece.path != new.path:
                piece.path.unlink(missing_ok=True)
        return 1


def _add(pieces: Pieces, stem: str, path: Path) -> Piece:
    with path.open("rb") as source:
        return pieces.add(stem, source)


def _drop_partials(pieces: Pieces) -> None:
    """Those of segments that are there whole by now."""
    found = pieces.list()
    whole = {piece.stem for piece in found}
    for piece in found:
        if piece.stem.removesuffix(PARTIAL) in whole - {piece.stem}:
            piece.path.unlink(missing_ok=True)


def make_base(server: Server, target: Path) -> str:
    """A tar of the server's files; answers the first segment of the log that it needs."""
    folder = target.with_name(f"{target.name}.parts")
    try:
        server.run(
            "pg_basebackup",
            *("--dbname", server.plain_url(), "--no-password", "--format=tar"),
            *("--wal-method=fetch", "--checkpoint=fast", "--compress=client-gzip:1"),
            "--no-sync",
            *("--pgdata", str(folder)),
        )
        extra = sorted(each.name for each in folder.iterdir())
        if [name for name in extra if name not in ("base.tar.gz", "backup_manifest")]:
            raise Refused(
                "the server keeps data in tablespaces, which the archive does not carry",
                cure="use botswarm backup create, which dumps the database",
            )
        first = _first_segment(folder / "backup_manifest")
        (folder / "base.tar.gz").rename(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return first


def _first_segment(manifest: Path) -> str:
    """From the ranges of the log that the base says it needs."""
    said = manifest.read_text()
    found = re.search(r'"Timeline": (\d+), "Start-LSN": "([0-9A-F]+)/([0-9A-F]+)"', said)
    if found is None:
        raise Unreachable("the base does not say where its log begins", cure="try again")
    low = int(found[3], 16) >> 24
    return f"{int(found[1]):08X}{int(found[2], 16):08X}{low:08X}"


def lay_out(pieces: Pieces, first: str, cluster: Cluster) -> None:
    """Put the log from that segment on where the server looks for it. Raises Damaged.

    The archive may be written to meanwhile: the last segment, which is not whole, may be replaced
    by a later state of it.
    """
    chosen = _chosen(pieces, first)
    check_row([name for name in chosen if _SEGMENT.fullmatch(name)], first)
    for name, piece in chosen.items():
        for tries_left in reversed(range(TRIES)):
            try:
                _lay(pieces, piece, cluster.log / name)
                break
            except (Damaged, Unreachable):
                if piece.path.exists() or not tries_left:
                    raise
                piece = _chosen(pieces, first).get(name, piece)


def _chosen(pieces: Pieces, first: str) -> dict[str, Piece]:
    """By the name of the segment, and whole ones before others."""
    chosen: dict[str, Piece] = {}
    for piece in pieces.list():
        name = piece.stem.removesuffix(PARTIAL)
        is_needed = _SEGMENT.fullmatch(name) and name[8:] >= first[8:]
        is_better = name not in chosen or not piece.stem.endswith(PARTIAL)
        if is_better and (is_needed or _HISTORY.fullmatch(name)):
            chosen[name] = piece
    return chosen


def _lay(pieces: Pieces, piece: Piece, target: Path) -> None:
    target.unlink(missing_ok=True)
    with pieces.open(piece) as content, target.open("xb") as file:
        shutil.copyfileobj(content, file, 1 << 20)


def check_pieces(pieces: Pieces, first: str) -> None:
    """Whether the log is there from that segment on without a gap. Raises Damaged."""
    names = {piece.stem.removesuffix(PARTIAL) for piece in pieces.list()}
    needed = [name for name in names if _SEGMENT.fullmatch(name) and name[8:] >= first[8:]]
    check_row(needed, first)


def check(pieces: Pieces, first: str) -> None:
    """Every byte and every seal from that segment on, and that none is missing. Raises Damaged."""
    check_pieces(pieces, first)
    for piece in _chosen(pieces, first).values():
        try:
            with pieces.open(piece) as content:
                while content.read(1 << 20):
                    pass
        except (Damaged, Unreachable):
            if piece.path.exists():
                raise


def check_row(names: Sequence[str], first: str) -> None:
    """On one timeline no segment is missing between the first and the last."""
    places = sorted(_place(name) for name in names if name[:8] == first[:8])
    if not places or places[0] != _place(first):
        raise Damaged(f"the archive has no segment {first}, where the base begins")
    for before, after in itertools.pairwise(places):
        if after != before + 1:
            raise Damaged(f"a segment is missing in the archive after place {before}")


def prune(pieces: Pieces, first: str | None) -> int:
    """Remove segments that no base needs any more; ``first`` is the oldest one that one does."""
    going = [
        piece
        for piece in pieces.list()
        if first is not None and _SEGMENT.match(piece.stem) and piece.stem[8:24] < first[8:]
    ]
    for piece in going:
        piece.path.unlink(missing_ok=True)
    return len(going)


def position(database: Database) -> str:
    """How far the server's log has come."""
    question = text("SELECT pg_current_wal_flush_lsn()::text")
    return str(database.read(lambda session: session.scalars(question).one()))


def has_received(database: Database, place: str) -> bool:
    """Whether the receiver has written the log down to there."""
    question = text(
        "SELECT coalesce(bool_or(write_lsn >= CAST(:place AS pg_lsn)), false) "
        "FROM pg_stat_replication WHERE application_name = 'pg_receivewal'"
    )
    return bool(database.read(lambda session: session.scalars(question, {"place": place}).one()))


def _place(name: str) -> int:
    return int(name[8:16], 16) * SEGMENTS_PER_LOG + int(name[16:24], 16)
