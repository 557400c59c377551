"""Backups and the archive in a second place: carried there, and fetched again from there."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from botswarm.backup.folder import ARCHIVE, ID, SUMS, TESTED, WRITING, Backup, Folder, sync
from botswarm.backup.increments import MARK, UNFINISHED
from botswarm.backup.place import Place
from botswarm.backup.s3 import Bucket, bucket_of
from botswarm.backup.sealing import Damaged, sha256_of, spoken
from botswarm.errors import NotFound, Unreachable

WAL = "wal"
PARTIAL = ".partial"


def remote_of(place: Place) -> Remote | None:
    """None where no bucket is named."""
    bucket = bucket_of(place.settings)
    return None if bucket is None else Remote(bucket, place.folder)


class Remote:
    """Of one process: what is there is asked for once."""

    def __init__(self, bucket: Bucket, folder: Folder) -> None:
        self._bucket = bucket
        self._folder = folder
        self._there: set[str] | None = None

    def push(self, backup: Backup) -> int:
        """A backup; the list of its hashes comes last, so that what was cut off is none."""
        names = [part.name for part in backup.parts] + [SUMS]
        names += [TESTED] if backup.tested_at is not None else []
        count = 0
        for name in names:
            key = f"{backup.id}/{name}"
            # The proof of a trial may be a later one.
            if key not in self._known() or name == TESTED:
                self._put(key, backup.path / name)
                count += 1
        return count

    def holds(self, backup: Backup) -> bool:
        """All of it, with the proof of a trial."""
        return f"{backup.id}/{TESTED}" in self._known()

    def push_archive(self) -> int:
        """What the archive has written since; answers how many files that was."""
        count = 0
        for folder in (*sorted(self._folder.path.glob(f"*{ARCHIVE}")), self._folder.path / WAL):
            if not folder.is_dir():
                continue
            with tempfile.TemporaryDirectory() as kept:
                # The archive goes on meanwhile: a mark of later would miss what is not there yet.
                mark = _kept_mark(folder, Path(kept))
                count += self._push_pieces(folder)
                if mark is not None:
                    self._put(f"{folder.name}/{MARK}", mark)
        return count

    def _push_pieces(self, folder: Path) -> int:
        count = 0
        with spoken(folder):
            names = sorted(each.name for each in folder.iterdir())
        for name in names:
            if UNFINISHED in name or name == MARK:
                continue
            key = f"{folder.name}/{_key(name)}"
            # A segment that is still being written has one name there, whatever it holds.
            if key not in self._known() or (PARTIAL in name and folder.name == WAL):
                try:
                    self._put(key, folder / name)
                except Unreachable:
                    if (folder / name).exists():
                        raise
                    continue  # it has just become whole
                count += 1
        return count

    def ids(self) -> Sequence[str]:
        """Of those that are there whole, oldest first."""
        found = (key.partition("/") for key in self._known())
        return sorted(name for name, _, file in found if file == SUMS and ID.fullmatch(name))

    def fetch(self, name: str) -> Backup:
        """Into the folder, with the archive that goes on from it. Every byte is looked at."""
        chosen = [each for each in self.ids() if name == "latest" or each.startswith(name)][-1:]
        if not chosen:
            raise NotFound(
                f"{self._bucket.url} holds no backup {name!r}", cure="see: botswarm backup list"
            )
        backup_id = chosen[0]
        if not (self._folder.path / backup_id).exists():
            with self._folder.lock():
                self._fetch_backup(backup_id)
        backup = self._folder.read(backup_id)
        for folder in (f"{backup_id}{ARCHIVE}", WAL):
            self._fetch_pieces(folder)
        return backup

    def _fetch_backup(self, backup_id: str) -> None:
        writing = self._folder.path / f"{backup_id}{WRITING}"
        shutil.rmtree(writing, ignore_errors=True)
        with spoken(writing):
            writing.mkdir(mode=0o700)
        try:
            for key in sorted(self._known()):
                folder, _, name = key.partition("/")
                if folder == backup_id:
                    self._bucket.get(key, writing / name)
            sync(writing)
            writing.rename(self._folder.path / backup_id)
            sync(self._folder.path)
        except BaseException:
            shutil.rmtree(writing, ignore_errors=True)
            raise

    def _fetch_pieces(self, folder: str) -> None:
        target = self._folder.path / folder
        for key in sorted(self._known()):
            place, _, name = key.partition("/")
            if place != folder:
                continue
            with spoken(target):
                target.mkdir(mode=0o700, exist_ok=True)
            _fetch_piece(self._bucket, key, target, name)

    def _known(self) -> set[str]:
        if self._there is None:
            self._there = set(self._bucket.names())
        return self._there

    def _put(self, key: str, path: Path) -> None:
        self._bucket.put(key, path)
        self._known().add(key)


def _kept_mark(folder: Path, kept: Path) -> Path | None:
    with spoken(folder), suppress(FileNotFoundError):
        return Path(shutil.copyfile(folder / MARK, kept / MARK))
    return None


def _key(name: str) -> str:
    """Of a piece; that of a segment which is still being written goes without its hash."""
    if PARTIAL not in name:
        return name
    stem, _, rest = name.partition("-")
    return stem + rest[64:]


def _fetch_piece(bucket: Bucket, key: str, folder: Path, name: str) -> None:
    temporary = folder / f"{name}{UNFINISHED}"
    temporary.unlink(missing_ok=True)
    bucket.get(key, temporary)
    digest = sha256_of(temporary)[1]
    if PARTIAL in name:
        stem, dot, rest = name.partition(PARTIAL)
        name = f"{stem}{dot}-{digest}{rest}"
    elif name != MARK and digest not in name:
        temporary.unlink()
        raise Damaged(f"{name} of the archive in the bucket was changed")
    temporary.replace(folder / name)
