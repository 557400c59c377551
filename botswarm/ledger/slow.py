"""Statements that keep the ledger waiting: all are counted, and told now and then."""

from __future__ import annotations

import logging
import math
import re
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, ExceptionContext

logger = logging.getLogger(__name__)

TOLD_AGAIN_AFTER_S = 60.0
SHAPES_MAX = 500
SHAPE_LENGTH_MAX = 400
KINDS = frozenset(("select", "insert", "update", "delete", "commit"))
COMMIT = "COMMIT"

_TEXT = re.compile(r"'(?:[^']|'')*'")
_NUMBER = re.compile(r"\b\d+(?:\.\d+)?\b")
_VALUE = r"(?:%\(\w+\)s|%s|\?|:\w+)(?:::\w+)?"
_VALUES = re.compile(rf"{_VALUE}(?:\s*,\s*{_VALUE})+")
_BLANKS = re.compile(r"\s+")
_LONG_LIST = re.compile(r"^(SELECT .{60}).{20,}? FROM ")
_LONG_NAMES = re.compile(r"\([^()]{80,}\)")


class Watch:
    """How long is long, and what was told of lately; of this process."""

    __slots__ = ("_told", "limit_s")

    def __init__(self) -> None:
        self.limit_s = math.inf
        self._told: dict[str, tuple[float, int]] = {}
        """By shape: when it was told, and how many were left out since."""

    def over(self, statement: str, took_s: float) -> None:
        # Not on top: what asks by plain SQL stays small, and mostly nothing is slow.
        from botswarm import metrics

        metrics.LEDGER_SLOW_STATEMENTS.labels(kind_of(statement)).inc()
        shape, now = shape_of(statement), time.monotonic()
        if (known := self._told.get(shape)) is not None and now - known[0] < TOLD_AGAIN_AFTER_S:
            self._told[shape] = (known[0], known[1] + 1)
            return
        if len(self._told) >= SHAPES_MAX:
            self._told.clear()
        self._told[shape] = (now, 0)
        more = f", and {known[1]} more since it was told last" if known and known[1] else ""
        logger.warning(
            "the ledger took %.0f ms%s for: %s",
            took_s * 1000,
            more,
            shape,
            extra={"took_ms": round(took_s * 1000, 1)},
        )


WATCH = Watch()


def watch(limit_ms: int) -> None:
    """Tell from now on, in this process, of what takes longer; 0 tells of nothing.

    For processes that write a log: whoever types a command is not to read this.
    """
    WATCH.limit_s = limit_ms / 1000 if limit_ms else math.inf


def ended(statement: str, began: float) -> None:
    """``began`` by ``time.perf_counter``."""
    took_s = time.perf_counter() - began
    if took_s > WATCH.limit_s:
        WATCH.over(statement, took_s)


def listen(engine: Engine) -> None:
    """Time each statement of this engine until the database has answered, or failed."""
    from sqlalchemy import event

    perf_counter = time.perf_counter

    # By itself in both: this is run for every statement there is.
    @event.listens_for(engine, "before_cursor_execute")
    def begin(
        connection: Connection, cursor: Any, statement: str, values: Any, context: Any, many: bool
    ) -> None:
        context.botswarm_began = perf_counter()

    @event.listens_for(engine, "after_cursor_execute")
    def end(
        connection: Connection, cursor: Any, statement: str, values: Any, context: Any, many: bool
    ) -> None:
        took_s = perf_counter() - context.botswarm_began
        if took_s > WATCH.limit_s:
            # The context still says what a prepared statement was made of.
            WATCH.over(context.statement, took_s)

    @event.listens_for(engine, "handle_error")
    def fail(failure: ExceptionContext) -> None:
        began = getattr(failure.execution_context, "botswarm_began", None)
        if began is not None and failure.statement is not None:
            ended(failure.execution_context.statement, began)  # type: ignore[union-attr]


def kind_of(statement: str) -> str:
    word = statement.split(maxsplit=1)[0].lower() if statement.strip() else ""
    return word if word in KINDS else "other"


def shape_of(statement: str) -> str:
    """The statement without any value, and without what makes the same one look different."""
    text = _BLANKS.sub(" ", _NUMBER.sub("?", _TEXT.sub("?", statement))).strip()
    text = _LONG_LIST.sub(r"\1… FROM ", _VALUES.sub("…", text))
    if text.startswith("INSERT"):
        text = _LONG_NAMES.sub("(…)", text)
    return text if len(text) <= SHAPE_LENGTH_MAX else f"{text[:SHAPE_LENGTH_MAX]}…"
