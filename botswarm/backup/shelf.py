"""Where files are carried besides a backup's own places: a bucket, or a folder used like one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from botswarm.backup.folder import sync
from botswarm.backup.s3 import bucket_at
from botswarm.backup.sealing import CHUNK, force, spoken
from botswarm.config import Settings
from botswarm.errors import NotFound, Unreachable

UNFINISHED = ".unfinished"
SETTING = "BOTSWARM_LOG_ARCHIVE"


class Store(Protocol):
    """What both can do. Raises Unreachable, Refused and NotFound in words."""

    @property
    def url(self) -> str: ...

    def put(self, name: str, path: Path) -> None: ...

    def get(self, name: str, path: Path) -> None: ...

    def names(self, prefix: str = "") -> Sequence[str]: ...


class Shelf:
    """A folder elsewhere, such as a mounted one. What is there is there whole."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.url = str(folder)

    def put(self, name: str, path: Path) -> None:
        self._find()
        target = self._folder / name
        writing = target.with_name(f"{target.name}{UNFINISHED}.{os.getpid()}")
        with spoken(target, SETTING):
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                with path.open("rb") as source, writing.open("wb") as sink:
                    writing.chmod(0o600)
                    shutil.copyfileobj(source, sink, CHUNK)
                    force(sink)
                writing.replace(target)
                sync(target.parent)
            finally:
                writing.unlink(missing_ok=True)

    def get(self, name: str, path: Path) -> None:
        self._find()
        if not (self._folder / name).is_file():
            raise NotFound(f"{name} is not in {self.url}", cure="see what is there")
        with spoken(path, SETTING):
            shutil.copyfile(self._folder / name, path)

    def names(self, prefix: str = "") -> Sequence[str]:
        self._find()
        with spoken(self._folder, SETTING):
            found = [each for each in self._folder.rglob("*") if each.is_file()]
        names = (each.relative_to(self._folder).as_posix() for each in found)
        return [each for each in names if each.startswith(prefix) and UNFINISHED not in each]

    def _find(self) -> None:
        # Made anew it would lie beside what should be mounted there, on the disk that may be lost.
        if not self._folder.is_dir():
            raise Unreachable(
                f"the folder {self.url} does not exist",
                cure=f"mount it, create it, or name another {SETTING}",
            )


def log_store(settings: Settings) -> Store:
    """Of log lines. Raises NotFound where none is named."""
    where = settings.log_archive
    if where is None:
        raise NotFound(
            "nothing says where log lines are carried",
            cure=f"set {SETTING}=s3://BUCKET/FOLDER and the bucket's keys, or a folder",
        )
    return Shelf(where) if isinstance(where, Path) else bucket_at(where, settings)
