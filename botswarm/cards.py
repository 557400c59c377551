"""Address cards in the state folder: small files that say where a process is to be found."""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

Card = TypeVar("Card")


def read(path: Path, kind: type[Card]) -> Card | None:
    """The card as its process wrote it last, whether or not it still runs; None without one."""
    try:
        return kind(**json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        return None  # of another version, or half a file: the next start writes it anew


def write(path: Path, card: Any) -> None:
    """Replace the card in one step, readable by its owner only: it may carry a password."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(asdict(card), file, indent=1)
    temporary.replace(path)


def is_held(path: Path) -> bool:
    """Whether a process holds the lock file: the system takes it from one that has died."""
    try:
        with path.open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False
