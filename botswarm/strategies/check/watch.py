"""Watching a decision from outside: what it calls, opens and changes while it is made."""

from __future__ import annotations

import datetime
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType, ModuleType
from typing import Any

from botswarm.strategies.check.finding import Finding
from botswarm.strategies.check.source import KEEP_CURE, PURE_CURE

OUTSIDE = ("open", "os.", "socket.", "subprocess.", "shutil.", "tempfile.", "ctypes.", "sqlite3.")
NOW = {"now", "utcnow", "today"}
TELLING = {"print", "input"}


@dataclass(slots=True)
class Watch:
    """One for a process: an audit hook cannot be taken off again."""

    path: str
    """Of the strategy's file: lines are named there."""
    found: list[Finding] = field(default_factory=list)
    _is_on: bool = False

    def __post_init__(self) -> None:
        sys.addaudithook(self._audit)

    def call(self, function: Callable[[], Any]) -> Any:
        """Whatever it raises goes through."""
        self._is_on = True
        sys.setprofile(self._profile)
        try:
            return function()
        finally:
            sys.setprofile(None)
            self._is_on = False

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._is_on or not event.startswith(OUTSIDE):
            return
        if event == "open" and str(arguments[0]).endswith((".py", ".pyc", ".so")):
            return  # an import that comes late
        self._is_on = False
        self._add(f"it calls {event}{_first(arguments)} while it decides", sys._getframe(1))
        self._is_on = True

    def _profile(self, frame: FrameType, event: str, argument: Any) -> None:
        if event != "c_call":
            return
        words = _impurity(argument)
        if words is not None:
            self._add(words, frame)

    def _add(self, words: str, frame: FrameType | None) -> None:
        while frame is not None and frame.f_code.co_filename != self.path:
            frame = frame.f_back
        line = None if frame is None else frame.f_lineno
        self.found.append(Finding(kind="impure", words=words, cure=PURE_CURE, line=line))


def _impurity(called: Any) -> str | None:
    name, module = getattr(called, "__name__", ""), getattr(called, "__module__", None)
    owner = getattr(called, "__self__", None)
    if module == "time" and name not in ("strftime", "struct_time", "gmtime"):
        return f"it asks time.{name} while it decides"
    if name in NOW and isinstance(owner, type) and issubclass(owner, datetime.date):
        return f"it asks {owner.__name__}.{name} for the time while it decides"
    if isinstance(owner, random.Random) or str(type(owner).__module__).startswith("numpy.random"):
        return f"it rolls dice ({name}) while it decides"
    if module == "builtins" and name in TELLING:
        return f"it calls {name} while it decides"
    return None


def _first(arguments: tuple[Any, ...]) -> str:
    return f"({arguments[0]!r})"[:120] if arguments else "()"


def kept_between(module: ModuleType | None, kinds: tuple[type, ...]) -> dict[str, str]:
    """By name: what a module and its classes hold that a decision could have changed."""
    held: dict[str, str] = {}
    places = [("", vars(module))] if module is not None else []
    places += [(f"{kind.__name__}.", dict(vars(kind))) for kind in kinds]
    for prefix, names in places:
        for name, value in names.items():
            if not name.startswith("__") and not isinstance(value, (type, ModuleType)):
                held[prefix + name] = repr(value)[:10_000]
    return held


def changes(before: dict[str, str], after: dict[str, str], line: int | None) -> list[Finding]:
    changed = [name for name, value in after.items() if before.get(name) != value]
    return [
        Finding(
            kind="impure",
            words=f"deciding changed {name}, which outlives the decision",
            cure=KEEP_CURE,
            line=line,
        )
        for name in changed
    ]
