"""Log lines for people at a terminal and for machines elsewhere, never with a secret in them."""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TextIO

from botswarm.config import Secret, SecretMask, Settings
from botswarm.logfiles import AppendingFile, Keeping

MEGABYTE = 1_000_000

_bound: ContextVar[Mapping[str, str]] = ContextVar("bound log fields", default={})  # noqa: B039 - never changed in place
_role = ""
_TRACE = re.compile(r"[0-9a-f]{32}")
_PLAIN_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


@contextmanager
def bound(**fields: str) -> Iterator[None]:
    """Put fields such as ``bot_id`` and ``order_id`` on every line logged inside."""
    token = _bound.set({**_bound.get(), **fields})
    try:
        yield
    finally:
        _bound.reset(token)


def play(role: str) -> None:
    """What this process is: on every line from now on, such as ``feed`` or ``worker:orders``."""
    global _role
    _role = role


def keeping(settings: Settings) -> Keeping:
    """How log files are kept, those of ``botswarm up`` as those of single processes."""
    return Keeping(
        size_max_bytes=settings.log_max_mb * MEGABYTE,
        files_max=settings.log_files_kept,
        days_max=settings.log_days_kept,
    )


def configure(
    settings: Settings, *, stream: TextIO | None = None, at_least: int = logging.DEBUG
) -> None:
    """Send all logging to standard error (and the log file); ``at_least`` quiets short commands.

    Calling it again replaces what the last call set up.
    """
    stream = stream if stream is not None else sys.stderr
    mask = SecretMask(settings.secrets)
    handlers: list[logging.Handler] = [logging.StreamHandler(stream)]
    handlers[0].setFormatter(_formatter(settings, stream, mask))
    if settings.log_file is not None:
        handlers.append(_file_handler(settings, settings.log_file, mask))
    if settings.sentry_dsn is not None:
        handlers.append(_sentry_handler(settings, settings.sentry_dsn, mask))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
        old.close()
    for handler in handlers:
        root.addHandler(handler)
    level = max(logging.getLevelNamesMapping()[settings.log_level.upper()], at_least)
    # The debug lines of libraries are many and not about this program.
    root.setLevel(max(level, logging.INFO))
    logging.getLogger("botswarm").setLevel(level)
    logging.captureWarnings(True)
    _log_uncaught()


def _formatter(settings: Settings, stream: TextIO, mask: SecretMask) -> logging.Formatter:
    as_text = settings.log_format == "text" or (settings.log_format == "auto" and stream.isatty())
    return TextFormatter(mask) if as_text else JsonFormatter(settings.instance_id, mask)


def _file_handler(settings: Settings, path: Path, mask: SecretMask) -> logging.Handler:
    handler = FileHandler(AppendingFile(path, keeping(settings)))
    handler.setFormatter(JsonFormatter(settings.instance_id, mask))
    return handler


def _sentry_handler(settings: Settings, dsn: Secret, mask: SecretMask) -> logging.Handler:
    from botswarm.sentry import SentryHandler

    handler = SentryHandler(dsn, settings.env)
    handler.setFormatter(JsonFormatter(settings.instance_id, mask))
    return handler


class FileHandler(logging.Handler):
    """Into a file that the processes of a worker share."""

    def __init__(self, file: AppendingFile) -> None:
        super().__init__()
        self._file = file
        self._is_lost = False

    def emit(self, record: logging.LogRecord) -> None:
        is_lost = not self._file.write(self.format(record))
        if is_lost and not self._is_lost:
            print(f"log lines cannot be written to {self._file.path}", file=sys.stderr)
        self._is_lost = is_lost

    def close(self) -> None:
        self._file.close()
        super().close()


class JsonFormatter(logging.Formatter):
    """One JSON object per line; extra fields of the call and bound fields stand beside it."""

    def __init__(self, instance_id: str, mask: SecretMask) -> None:
        super().__init__()
        self._instance_id = instance_id
        self._mask = mask

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": _moment(record).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
            "instance_id": self._instance_id,
            **({"role": _role} if _role else {}),
            "pid": record.process,
            **_bound.get(),
            **_extra(record),
        }
        if (trace_id := _trace_id(line)) is not None:
            line["trace_id"] = trace_id
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = _in_one_line(record.exc_info[1])
            line["traceback"] = "".join(traceback.format_exception(record.exc_info[1])).rstrip()
        # Masked before it is quoted: quoting would change a password's characters and hide it
        # from the mask instead of from the reader.
        masked = {key: self._masked(value) for key, value in line.items()}
        return json.dumps(masked, ensure_ascii=False, default=str)

    def _masked(self, value: object) -> object:
        if isinstance(value, bool | int | float | None):
            return value
        return self._mask(value if isinstance(value, str) else str(value))


class TextFormatter(logging.Formatter):
    """One line a person can read; an exception is named with the places it passed through."""

    def __init__(self, mask: SecretMask) -> None:
        super().__init__()
        self._mask = mask

    def format(self, record: logging.LogRecord) -> str:
        fields = {**_bound.get(), **_extra(record)}
        words = [
            _moment(record).strftime("%H:%M:%S.%f")[:-3] + "Z",
            f"{record.levelname.lower():<7}",
            _message(record),
            *(f"{key}={value}" for key, value in fields.items()),
        ]
        if record.exc_info and record.exc_info[1] is not None:
            words.append("| " + _in_one_line(record.exc_info[1]))
        return self._mask(" ".join(words).replace("\n", "\\n"))


def _trace_id(line: Mapping[str, object]) -> str | None:
    """The order's where there is one: it is the same from the decision to the fill, in every
    process; else the task's.
    """
    known = line.get("order_id") or line.get("task_id")
    written = str(known).replace("-", "") if known else ""
    return written if _TRACE.fullmatch(written) else None


def _moment(record: logging.LogRecord) -> datetime:
    return datetime.fromtimestamp(record.created, UTC)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):
        # A log call with wrong arguments must not take down what it reports on.
        return f"{record.msg} {record.args}"


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in vars(record).items() if key not in _PLAIN_FIELDS}


def _in_one_line(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    places = " < ".join(
        f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}" for frame in reversed(frames)
    )
    text = f"{type(error).__name__}: {error}".replace("\n", "\\n")
    return f"{text} [{places}]" if places else text


def _log_uncaught() -> None:
    """An exception nobody caught becomes one log line instead of a traceback on the terminal."""
    logger = logging.getLogger("botswarm")

    def in_main(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        if issubclass(kind, KeyboardInterrupt):
            return
        logger.critical("uncaught exception", exc_info=(kind, error, trace))

    def in_thread(hook: threading.ExceptHookArgs) -> None:
        if hook.exc_value is not None and not isinstance(hook.exc_value, SystemExit):
            name = hook.thread.name if hook.thread else "unknown"
            exc_info = (hook.exc_type, hook.exc_value, hook.exc_traceback)
            logger.critical("uncaught exception in thread %s", name, exc_info=exc_info)

    sys.excepthook = in_main
    threading.excepthook = in_thread
