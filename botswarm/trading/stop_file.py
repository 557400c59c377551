"""An emergency stop on a machine's own disk: for when the ledger cannot be told."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from botswarm.errors import Refused
from botswarm.trading.watchdog import Charge, cancelled

logger = logging.getLogger(__name__)

FOLDER = "emergency-stop"
ORDER = "order.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """Who pulled it, and why."""

    at: datetime
    actor: str
    reason: str
    is_cancelling: bool = True
    """What is open at the venues is to end, too."""


@dataclass(frozen=True, slots=True)
class StopFile:
    """In the state folder; every order worker that uses the same folder looks for it."""

    folder: Path

    @classmethod
    def of(cls, state_dir: Path) -> StopFile:
        return cls(state_dir / FOLDER)

    @property
    def path(self) -> Path:
        return self.folder / ORDER

    def pull(self, pulled: Pulled) -> None:
        """Raises Refused where it cannot be written."""
        said = {"at": pulled.at.isoformat(), "actor": pulled.actor, "reason": pulled.reason}
        self._write(ORDER, said | {"is_cancelling": pulled.is_cancelling})

    def read(self) -> Pulled | None:
        """A file that cannot be read was put there for a reason: it counts."""
        try:
            said = json.loads(self.path.read_text())
            return Pulled(
                at=datetime.fromisoformat(said["at"]),
                actor=str(said["actor"]),
                reason=str(said["reason"]),
                is_cancelling=bool(said["is_cancelling"]),
            )
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            logger.warning("%s cannot be read, so it counts: %s", self.path, error)
            at = datetime.fromtimestamp(_changed_at(self.path), UTC)
            return Pulled(at=at, actor="unknown", reason=f"{self.path} cannot be read")

    def answer(self, name: str, said: Mapping[str, Any]) -> None:
        """What a process did about it, for whoever pulled it."""
        try:
            self._write(f"done-{name}.json", said)
        except Refused as error:
            logger.error("what was done cannot be written down: %s", error)

    def answers(self, pulled: Pulled) -> Sequence[Mapping[str, Any]]:
        """What processes have done about this one."""
        found = []
        for path in sorted(self.folder.glob("done-*.json")):
            try:
                said = json.loads(path.read_text())
                if said["stop"] == pulled.at.isoformat():
                    found.append(said)
            except (OSError, ValueError, TypeError, KeyError) as error:
                logger.warning("%s cannot be read: %s", path, error)
        return found

    def lift(self) -> bool:
        """Whether there was one."""
        was_there = self.path.exists()
        for path in (self.path, *self.folder.glob("done-*.json")):
            path.unlink(missing_ok=True)
        return was_there

    def _write(self, name: str, said: Mapping[str, Any]) -> None:
        """Half a file is never seen."""
        path = self.folder / name
        temporary = path.with_name(f".{name}.{os.getpid()}")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(said))
            temporary.replace(path)
        except OSError as error:
            raise Refused(
                f"{path} cannot be written: {error.strerror}",
                cure="make room on the disk, or name another folder: BOTSWARM_STATE_DIR",
            ) from error


@dataclass(slots=True)
class Brake:
    """Of one process: it cancels what is open at the venues while there is a stop file."""

    file: StopFile
    name: str
    _pulled: Pulled | None = None
    _done: set[tuple[str, str]] = field(default_factory=set)

    def look(self, charges: Sequence[Charge]) -> None:
        """To be called again and again: what was not cancelled yet is tried again."""
        pulled = self.file.read()
        if pulled != self._pulled:
            self._pulled, self._done = pulled, set()
            if pulled is None:
                logger.warning("the emergency stop is lifted")
                return
            logger.critical("emergency stop by %s: %s", pulled.actor, pulled.reason)
            self._tell(charges, pulled)
        if pulled is None or not pulled.is_cancelling:
            return
        wanted = {(each.name, symbol) for each in charges for symbol in each.markets}
        if wanted <= self._done:
            return
        for charge in charges:
            for symbol in sorted(charge.markets):
                key = charge.name, symbol
                if key not in self._done and cancelled(charge, symbol, is_proven=True):
                    self._done.add(key)
        self._tell(charges, pulled)

    def _tell(self, charges: Sequence[Charge], pulled: Pulled) -> None:
        wanted = {(each.name, symbol) for each in charges for symbol in each.markets}
        self.file.answer(
            self.name,
            {
                "process": self.name,
                "stop": pulled.at.isoformat(),
                "done": sorted(" ".join(each) for each in self._done),
                "left": sorted(" ".join(each) for each in wanted - self._done),
            },
        )


def _changed_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
