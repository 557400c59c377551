"""The files of the archive: each is whole or not there, and its name carries its own hash."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from botswarm.backup import sealing
from botswarm.backup.folder import proof_of, sync, write_file
from botswarm.backup.sealing import Damaged, sha256_of, spoken
from botswarm.keys.envelope import MasterKey

MARK = "mark.json"
UNFINISHED = ".writing"
_NAME = re.compile(r"([0-9A-Za-z.]+)-([0-9a-f]{64})((?:\.gz)?(?:\.aes)?)")


@dataclass(frozen=True, slots=True)
class Piece:
    """``stem`` is what it holds; sorted by it, pieces are in their order."""

    path: Path
    stem: str
    sha256: str

    def check(self) -> None:
        with spoken(self.path):
            if sha256_of(self.path)[1] != self.sha256:
                raise Damaged(f"{self.path.name} of the archive was changed")


class Pieces:
    def __init__(self, path: Path, label: str, key: MasterKey | None) -> None:
        self.path = path
        self._label = label
        self._key = key

    def list(self) -> Sequence[Piece]:
        if not self.path.is_dir():
            return []
        with spoken(self.path):
            matches = [(each, _NAME.fullmatch(each.name)) for each in self.path.iterdir()]
        found = [Piece(path, match[1], match[2]) for path, match in matches if match is not None]
        return sorted(found, key=lambda piece: piece.stem)

    def add(self, stem: str, source: IO[bytes]) -> Piece:
        """On the disk when this returns; raises Unreachable where the disk does not take it."""
        with spoken(self.path):
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary = self.path / f"{stem}{UNFINISHED}{sealing.extension(self._key)}"
            temporary.unlink(missing_ok=True)
        written = sealing.write(temporary, self._labelled(stem), self._key, source)
        name = f"{stem}-{written.sha256}{sealing.extension(self._key)}"
        with spoken(self.path):
            temporary.rename(self.path / name)
            sync(self.path)
        return Piece(self.path / name, stem, written.sha256)

    @contextmanager
    def open(self, piece: Piece) -> Iterator[IO[bytes]]:
        piece.check()
        with sealing.reading(piece.path, self._labelled(piece.stem), self._key) as content:
            yield content

    def say(self, mark: Mapping[str, Any]) -> None:
        """How far the archive has come: what is cut off its end is missed by it."""
        with spoken(self.path):
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary = self.path / f"{MARK}{UNFINISHED}"
            temporary.unlink(missing_ok=True)
            plain = json.loads(json.dumps(mark, default=str))
            write_file(temporary, json.dumps(plain | {"proof": proof_of(plain)}).encode())
            temporary.replace(self.path / MARK)
            sync(self.path)

    def said(self) -> Mapping[str, Any] | None:
        """Raises Damaged for a mark that cannot be read."""
        try:
            said = json.loads((self.path / MARK).read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise Damaged(f"the mark of the archive {self.path.name} cannot be read") from error
        if not isinstance(said, dict) or said.pop("proof", None) != proof_of(said):
            raise Damaged(f"the mark of the archive {self.path.name} was changed")
        return said

    def _labelled(self, stem: str) -> str:
        return f"{self._label}/{stem}"


def moment_of(text: str) -> datetime:
    return datetime.strptime(text, "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC)


def spelled(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}"
