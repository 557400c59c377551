"""Brings log lines back from the archive of logs, of this machine or of one that is lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from botswarm.backup import sealing
from botswarm.backup.log_pieces import Piece, folder_of, piece_of
from botswarm.backup.place import place_of
from botswarm.backup.sealing import Damaged, spoken
from botswarm.backup.shelf import Store, log_store
from botswarm.config import Settings
from botswarm.errors import NotFound, Refused
from botswarm.keys.envelope import MasterKey
from botswarm.logfiles import FOLDER_MODE, OWNER_ONLY

SLACK = timedelta(seconds=2)
"""Processes that share a file write their lines nearly in order."""
TARGET = "FOLDER"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    instance_id: str
    process: str | None
    since: datetime
    until: datetime

    @property
    def prefix(self) -> str:
        process = "" if self.process is None else f"{folder_of(self.process)}/"
        return f"{folder_of(self.instance_id)}/{process}"

    def fits(self, piece: Piece) -> bool:
        return piece.first <= self.until + SLACK and self.since - SLACK <= piece.last


@dataclass(slots=True)
class Fetched:
    pieces: int = 0
    bytes: int = 0
    processes: set[str] = field(default_factory=set)
    damaged: list[str] = field(default_factory=list)
    """What was wrong with those that could not be read; the others are there."""


class Fetcher:
    def __init__(self, store: Store, key: MasterKey | None) -> None:
        self._store = store
        self._key = key

    def fetch(self, wanted: Wanted, folder: Path) -> Fetched:
        """Whole pieces of that time, one file for each process, in the folder's ``logs``."""
        pieces = self._chosen(wanted)
        logs = _made(folder)
        done, reached = Fetched(), dict[str, int]()
        for piece in pieces:
            packed = logs / f".piece{piece.packing}"
            try:
                packed.unlink(missing_ok=True)
                self._store.get(piece.key, packed)
                self._append(piece, packed, logs / f"{piece.process}.log", done, reached)
            except (Damaged, sealing.WrongKey, NotFound) as error:
                done.damaged.append(f"{piece.key}: {error}")
            finally:
                packed.unlink(missing_ok=True)
        return done

    def _chosen(self, wanted: Wanted) -> Sequence[Piece]:
        found = [piece_of(key) for key in self._store.names(wanted.prefix)]
        chosen = [each for each in found if each is not None and wanted.fits(each)]
        if not chosen:
            raise NotFound(
                f"{self._store.url} holds no log lines of {wanted.prefix} between "
                f"{wanted.since:%Y-%m-%d %H:%M:%S} and {wanted.until:%Y-%m-%d %H:%M:%S}",
                cure="name the machine with --instance (its BOTSWARM_INSTANCE_ID, or its host "
                "name), and a longer time with --since",
            )
        begins: dict[str, datetime] = {}
        for each in chosen:
            begins[each.file] = min(each.first, begins.get(each.file, each.first))
        return sorted(chosen, key=lambda each: (begins[each.file], each.file, each.start))

    def _append(
        self, piece: Piece, packed: Path, log: Path, done: Fetched, reached: dict[str, int]
    ) -> None:
        # What marks that were lost had carried once more is written once all the same.
        skipped = max(0, reached.get(piece.file, 0) - piece.start)
        with spoken(log, TARGET), log.open("ab") as sink:
            log.chmod(OWNER_ONLY)
            count = 0
            with sealing.reading(packed, piece.key, self._key) as source:
                while block := source.read(sealing.CHUNK):
                    sink.write(block[max(0, skipped - count) :])
                    count += len(block)
        reached[piece.file] = max(reached.get(piece.file, 0), piece.start + count)
        done.pieces += 1
        done.bytes += max(0, count - skipped)
        done.processes.add(piece.process)


def fetcher_of(settings: Settings) -> Fetcher:
    """Raises NotFound where no place is named."""
    return Fetcher(log_store(settings), place_of(settings).key)


def _made(folder: Path) -> Path:
    logs = folder / "logs"
    with spoken(logs, TARGET):
        logs.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        is_used = any(logs.iterdir())
    if is_used:
        raise Refused(
            f"{logs} holds something already, and the same lines would be in it twice",
            cure="name a new folder",
        )
    return logs
