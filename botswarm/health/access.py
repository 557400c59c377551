"""Who asked a process for a page, and what he was answered: a line of the log for each."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

logger = logging.getLogger(__name__)

LINES_PER_MINUTE_MAX = 600
MINUTE_S = 60.0
WORD_MAX = 200
PAGES_GIVEN = (200, 503)
"""That a check fails is told where it changes, not by whoever asks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One question that has ended; ``duration_ms`` is from its connection to its answer's end."""

    peer: str
    method: str
    path: str
    """Without what follows a question mark: it may be a token that was meant for others."""
    agent: str
    code: int
    size: int
    duration_ms: float


Note = Callable[[Asked], None]


class AccessLog:
    """Of one port. Who asks without an end fills no disk with it."""

    def __init__(self, *, is_all: bool, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._is_all = is_all
        self._monotonic = monotonic
        self._since = monotonic()
        self._written = 0
        self._left_out = 0

    def __call__(self, asked: Asked) -> None:
        if not self._is_all and asked.code in PAGES_GIVEN:
            return
        if not self._has_room():
            self._left_out += 1
            return
        left_out, self._left_out = self._left_out, 0
        self._written += 1
        method, path = _printable(asked.method), _printable(asked.path)
        logger.info(
            "%s: %d to %s in %.1f ms",
            *(f"{method} {path}".strip() or "no question", asked.code),
            *(asked.peer, asked.duration_ms),
            extra={
                "event": "access",
                "peer": asked.peer,
                "method": method,
                "path": path,
                "agent": _printable(asked.agent),
                "code": asked.code,
                "bytes": asked.size,
                "duration_ms": round(asked.duration_ms, 1),
                **({"left_out_before": left_out} if left_out else {}),
            },
        )

    def _has_room(self) -> bool:
        now = self._monotonic()
        if now - self._since >= MINUTE_S:
            self._since, self._written = now, 0
        return self._written < LINES_PER_MINUTE_MAX


def _printable(said: str) -> str:
    """What a stranger sends must not steer the terminal of whoever reads the log."""
    return "".join(each if each.isprintable() else "?" for each in said[:WORD_MAX])


def access_log(wanted: str) -> Note | None:
    """As the setting ``health_access_log`` wants it."""
    return None if wanted == "off" else AccessLog(is_all=wanted == "all")
