"""Each process's card in the state folder: its name, its role and the port where it answers."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from botswarm import cards

FOLDER = "processes"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessCard:
    name: str
    """``feed``, ``orders``, ``orders-2``: unique on this state folder while the process runs."""
    role: str
    """``worker``, ``feed``, ``beat``, ``broker``, ``exchange``, ``paper``, …"""
    queues: Sequence[str] = ()
    """Of a worker."""
    pid: int
    host: str
    port: int
    machine: str
    instance_id: str
    version: str
    started_at: str

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"


def folder(state_dir: Path) -> Path:
    return state_dir / FOLDER


@dataclass(frozen=True, slots=True)
class Found:
    card: ProcessCard
    is_alive: bool
    age_s: float
    """Since the card was written."""


def found(state_dir: Path) -> tuple[Found, ...]:
    """Every process that has not ended in order, in the order of their names."""
    return tuple(_found(folder(state_dir)))


def _found(where: Path) -> Iterator[Found]:
    for path in sorted(where.glob("*.json"), key=lambda path: path.stem):
        card = cards.read(path, ProcessCard)
        if card is None:
            continue
        try:
            age_s = time.time() - path.stat().st_mtime
        except FileNotFoundError:
            continue  # it has just ended in order
        yield Found(card, cards.is_held(where / f"{card.name}.lock"), age_s)


def forget(state_dir: Path, card: ProcessCard) -> None:
    """No longer miss a process that is gone for good."""
    (folder(state_dir) / f"{card.name}.json").unlink(missing_ok=True)
