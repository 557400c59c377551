"""How far each log file has been carried to the archive of logs, kept on this machine."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from botswarm.backup.sealing import force, spoken
from botswarm.errors import TimedOut

FOLDER = "log-archive"
BUSY_S = 30.0
STATE = "BOTSWARM_STATE_DIR"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Of one file. A piece is written down before it goes, so that after a crash the very same
    goes again, under the same key.
    """

    carried: int = 0
    until: int = 0
    """The end of the piece that is under way."""
    key: str = ""
    """Where that piece goes."""
    size: int = 0
    """As it was seen last."""
    is_live: bool = False
    """Whether lines were still written to it then."""


@dataclass(slots=True)
class Marks:
    """By path and by file: a path's files are put aside under other names, and stay themselves."""

    path: Path
    place: str
    """Where all that was carried: another place has nothing of it."""
    files: dict[str, Mapping[str, Mark]]

    def of(self, log: Path) -> Mapping[str, Mark]:
        return self.files.get(str(log), {})

    def mark(self, log: Path, file: str, mark: Mark) -> None:
        self.put(log, {**self.of(log), file: mark})

    def put(self, log: Path, files: Mapping[str, Mark]) -> None:
        """All of that path."""
        if files == self.of(log):
            return
        if files:
            self.files[str(log)] = files
        else:
            del self.files[str(log)]
        self.save()

    def save(self) -> None:
        said = {
            "place": self.place,
            "files": {
                log: {file: asdict(mark) for file, mark in files.items()}
                for log, files in self.files.items()
            },
        }
        writing = self.path.with_suffix(".writing")
        with spoken(self.path, STATE):
            with writing.open("wb") as sink:
                writing.chmod(0o600)
                sink.write(json.dumps(said).encode())
                force(sink)
            writing.replace(self.path)


def marks_of(state_dir: Path, place: str) -> Marks:
    """Empty where there are none, or of another place."""
    path = state_dir / FOLDER / "marks.json"
    try:
        said = json.loads(path.read_bytes())
        files: dict[str, Mapping[str, Mark]] = {
            log: {file: Mark(**mark) for file, mark in files.items()}
            for log, files in said["files"].items()
        }
        if said["place"] == place:
            return Marks(path, place, files)
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        pass  # the first round, or half a file of a disk that was full: all is carried again
    return Marks(path, place, {})


@contextmanager
def sole_carrier(state_dir: Path, patience_s: float = BUSY_S) -> Iterator[Path]:
    """The folder of whoever carries this machine's lines: two at once would carry them twice."""
    folder = state_dir / FOLDER
    with spoken(folder, STATE):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _take(lock, time.monotonic() + patience_s)
        yield folder
    finally:
        os.close(lock)


def _take(lock: int, deadline: float) -> None:
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise TimedOut(
                    "another process is carrying this machine's log lines",
                    cure="wait for it: botswarm up does so by itself",
                ) from error
        time.sleep(0.05)
