"""The folder of backups: each is a folder of its own, which is there whole or not at all.

A backup is written under another name and takes its own when everything is on the disk. What
proves that it can be brought back is a file beside it, which names the very bytes it speaks of.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from botswarm.backup.sealing import Damaged, Written, sha256_of, spoken
from botswarm.errors import NotFound, Refused

FORMAT = 1
MANIFEST, SUMS, TESTED = "manifest.json", "SHA256SUMS", "tested.json"
WRITING = ".writing"
LOCK, SIDES = ".lock", ".sides"
ARCHIVE = ".archive"
"""After the name of a copy: the pages that changed since."""
ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{6}")
_SUM = re.compile(r"([0-9a-f]{64})  ([A-Za-z0-9._-]{1,200})")


class Method(StrEnum):
    COPY = "copy"  # of the SQLite file, by its own online backup
    DUMP = "dump"  # of the PostgreSQL database, by pg_dump
    BASE = "base"  # of the PostgreSQL server's files, for the archive to go on from


class State(StrEnum):
    GOOD = "good"  # brought back to the side, and it was what it says
    WRITTEN = "written"  # whole, and nobody has tried it yet
    DAMAGED = "damaged"  # not what was written


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What anybody may know of a backup; what it holds is said by its sealed facts."""

    id: str
    at: datetime
    """The moment it shows."""
    method: Method
    program: str
    """The version of botswarm that wrote it."""
    revision: str | None
    """Of the ledger's tables."""
    chain_sequence: int
    chain_hash: str
    sealed_by: str | None
    took_ms: int
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Of its files: so one that was cut off is seen at a glance."""
    start: Mapping[str, Any] | None = None
    """Where the archive goes on from, where it does."""

    def label(self, name: str) -> str:
        """What a file of it is sealed as."""
        return f"{self.id}/{name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """A backup as it lies in the folder."""

    path: Path
    manifest: Manifest
    parts: Sequence[Written]
    tested_at: datetime | None
    test_ms: int | None

    @property
    def id(self) -> str:
        return self.manifest.id

    @property
    def bytes(self) -> int:
        return sum(part.bytes for part in self.parts)

    @property
    def state(self) -> State:
        return State.GOOD if self.tested_at is not None else State.WRITTEN

    def part(self, stem: str) -> Path:
        """Its file of that name, however packed and sealed. Raises Damaged without one."""
        for part in self.parts:
            if part.name == stem or part.name.startswith(f"{stem}."):
                return self.path / part.name
        raise Damaged(f"backup {self.id} has no {stem}")

    def has(self, stem: str) -> bool:
        return any(part.name == stem or part.name.startswith(f"{stem}.") for part in self.parts)


@dataclass(frozen=True, slots=True)
class Unusable:
    """What lies among the backups and is none."""

    name: str
    words: str


class Folder:
    def __init__(self, path: Path) -> None:
        self.path = path

    def ids(self) -> Sequence[str]:
        """Oldest first, whether or not they are whole."""
        if not self.path.is_dir():
            return []
        with spoken(self.path):
            return sorted(entry.name for entry in self.path.iterdir() if ID.fullmatch(entry.name))

    def list(self) -> tuple[Sequence[Backup], Sequence[Unusable]]:
        """Oldest first; what cannot be read is said beside."""
        found: list[Backup] = []
        unusable: list[Unusable] = []
        for name in self.ids():
            try:
                found.append(self.read(name))
            except Damaged as error:
                unusable.append(Unusable(name, error.cause))
        return found, unusable

    def read(self, name: str) -> Backup:
        """As it says of itself; its larger files are not looked into. Raises Damaged."""
        path = self.path / name
        if not ID.fullmatch(name) or not path.is_dir():
            raise NotFound(f"there is no backup {name!r}", cure="see: botswarm backup list")
        parts = _sums(path)
        manifest = _manifest(path, parts)
        if manifest.id != name:
            raise Damaged(f"the backup in {name} says that it is {manifest.id}")
        sizes = {part.name: part.bytes for part in parts if part.name != MANIFEST}
        if sizes != manifest.sizes:
            raise Damaged(f"backup {name} has not all of its bytes, or too many")
        tested_at, test_ms = _tested(path)
        return Backup(
            path=path,
            manifest=manifest,
            parts=parts,
            tested_at=tested_at,
            test_ms=test_ms,
        )

    def named(self, name: str) -> str:
        """The one whose name begins so, whether or not it is whole."""
        matching = [each for each in self.ids() if each.startswith(name)]
        if len(matching) != 1:
            said = f"{len(matching)} backups begin with" if matching else "there is no backup"
            raise NotFound(f"{said} {name!r}", cure="see: botswarm backup list")
        return matching[0]

    @contextmanager
    def lock(self) -> Iterator[None]:
        """One writes and removes at a time; raises Refused while another does."""
        with spoken(self.path):
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise Refused(
                    f"another backup is being written or removed in {self.path}",
                    cure="wait for it",
                ) from error
            yield
        finally:
            os.close(descriptor)

    @contextmanager
    def in_use(self, sweep: Callable[[], None]) -> Iterator[None]:
        """While something is brought to the side. ``sweep`` is called first where nobody else
        does that: what lies there then was left by somebody who was killed.
        """
        with spoken(self.path):
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.path / SIDES, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            with suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                sweep()
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            yield
        finally:
            os.close(descriptor)

    def begin(self, at: datetime) -> tuple[str, Path]:
        """A new name, and the folder to write into. The caller holds the lock."""
        self.sweep()
        name = f"{at.astimezone(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
        path = self.path / f"{name}{WRITING}"
        with spoken(path):
            path.mkdir(mode=0o700)
        return name, path

    def finish(self, writing: Path, manifest: Manifest, parts: Sequence[Written]) -> Backup:
        """Write down what belongs to it, and give it its name when all of it is on the disk."""
        manifest = replace(manifest, sizes={part.name: part.bytes for part in parts})
        with spoken(writing):
            write_file(writing / MANIFEST, spelled(asdict(manifest) | {"format": FORMAT}).encode())
            size, digest = sha256_of(writing / MANIFEST)
            all_parts = [*parts, Written(MANIFEST, size, digest)]
            lines = [f"{part.sha256}  {part.name}\n" for part in all_parts]
            write_file(writing / SUMS, "".join(lines).encode())
            sync(writing)
            writing.rename(self.path / manifest.id)
            sync(self.path)
        return self.read(manifest.id)

    def sweep(self) -> int:
        """Remove what a writer left that did not come to its end. The caller holds the lock."""
        left = [*self.path.glob(f"*{WRITING}"), *self.path.glob("*.removing")]
        for path in left:
            shutil.rmtree(path, ignore_errors=True)
        return len(left)

    def say_tested(self, backup: Backup, at: datetime, took_ms: int) -> Backup:
        said = {"at": at.isoformat(), "took_ms": took_ms, "sums": _digest_of_sums(backup.path)}
        said["proof"] = proof_of(said)
        with spoken(backup.path):
            temporary = backup.path / f"{TESTED}{WRITING}"
            temporary.unlink(missing_ok=True)
            write_file(temporary, spelled(said).encode())
            temporary.replace(backup.path / TESTED)
            sync(backup.path)
        return self.read(backup.id)

    def say_damaged(self, backup_id: str) -> None:
        """It does not count as good any more."""
        (self.path / backup_id / TESTED).unlink(missing_ok=True)

    def remove(self, name: str) -> None:
        """At once for whoever looks; then its files. The caller holds the lock."""
        going = self.path / f"{name}.removing"
        with spoken(going):
            (self.path / name).rename(going)
            sync(self.path)
        shutil.rmtree(going, ignore_errors=True)


def check_bytes(backup: Backup) -> None:
    """Read every byte. Raises Damaged where one is not what was written."""
    for part in backup.parts:
        with spoken(backup.path / part.name):
            if sha256_of(backup.path / part.name) != (part.bytes, part.sha256):
                raise Damaged(f"{part.name} of backup {backup.id} was changed")
    known = {part.name for part in backup.parts} | {SUMS, TESTED}
    for entry in backup.path.iterdir():
        if entry.name not in known and entry.is_file() and not entry.name.endswith(WRITING):
            raise Damaged(f"{entry.name} does not belong to backup {backup.id}")


def moment_of(name: str) -> datetime:
    """When a backup of that name was begun."""
    return datetime.strptime(name[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


def sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_file(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def spelled(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=1, sort_keys=True, default=_in_words) + "\n"


def _in_words(value: object) -> str:
    assert isinstance(value, datetime)
    return value.isoformat()


def _sums(path: Path) -> Sequence[Written]:
    text = _text(path / SUMS)
    found = [_SUM.fullmatch(line) for line in text.split("\n")[:-1]]
    lines = [(match[1], match[2]) for match in found if match is not None]
    if "".join(f"{digest}  {name}\n" for digest, name in lines) != text or not lines:
        raise Damaged(f"{SUMS} of backup {path.name} was changed")
    return [Written(name, _size(path, name), digest) for digest, name in lines]


def _size(path: Path, name: str) -> int:
    try:
        return (path / name).stat().st_size
    except OSError as error:
        raise Damaged(f"{name} of backup {path.name} is missing") from error


def _manifest(path: Path, parts: Sequence[Written]) -> Manifest:
    text = _text(path / MANIFEST)
    listed = {part.name: part.sha256 for part in parts}
    if sha256_of(path / MANIFEST)[1] != listed.get(MANIFEST):
        raise Damaged(f"{MANIFEST} of backup {path.name} was changed")
    try:
        said = json.loads(text)
        if said.pop("format") != FORMAT:
            raise Damaged(f"backup {path.name} was written by a newer version of botswarm")
        said |= {"at": datetime.fromisoformat(said["at"]), "method": Method(said["method"])}
        return Manifest(**said)
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged(f"{MANIFEST} of backup {path.name} cannot be read") from error


def _tested(path: Path) -> tuple[datetime | None, int | None]:
    """Only where it speaks of these very files."""
    try:
        said = json.loads((path / TESTED).read_text())
        is_whole = said.pop("proof") == proof_of(said)
        if is_whole and said["sums"] == _digest_of_sums(path):
            return datetime.fromisoformat(said["at"]), int(said["took_ms"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # nobody has tried it, or the proof is not one: it counts as untried
    return None, None


def proof_of(said: Mapping[str, Any]) -> str:
    return hashlib.sha256(spelled(said).encode()).hexdigest()


def _digest_of_sums(path: Path) -> str:
    return sha256_of(path / SUMS)[1]


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii")
    except FileNotFoundError as error:
        raise Damaged(f"{path.name} of backup {path.parent.name} is missing") from error
    except (OSError, ValueError) as error:
        raise Damaged(f"{path.name} of backup {path.parent.name} cannot be read") from error
