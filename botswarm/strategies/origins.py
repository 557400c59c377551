"""Where a strategy comes from, and how the code from there is loaded."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

from botswarm.strategies.api import Strategy

GROUP = "botswarm.strategies"


class Kind(StrEnum):
    PACKAGE = "package"
    ENTRY_POINT = "entry point"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class Origin:
    """Strategies of one origin share its code, and with it its faults."""

    kind: Kind
    where: str = ""
    """The entry point's name, or the file's path."""

    @property
    def is_trusted(self) -> bool:
        """Our own code runs in the worker; a stranger's in a process of its own."""
        return self.kind is Kind.PACKAGE

    def __str__(self) -> str:
        """Also what ``read`` takes."""
        return f"{self.kind}:{self.where}" if self.where else str(self.kind)

    @classmethod
    def read(cls, text: str) -> Origin:
        kind, _, where = text.partition(":")
        return cls(Kind(kind), where)


BUILT_IN = Origin(Kind.PACKAGE)


class Unusable(Exception):  # as everywhere: named for what it says of the file
    """A file or plugin cannot be loaded; its words say why."""


def kinds_of(origin: Origin) -> Sequence[type[Strategy]]:
    """Run the code of a file or a plugin; raises Unusable, whatever it raised itself."""
    try:
        if origin.kind is Kind.FILE:
            return _of_file(Path(origin.where))
        [point] = entry_points(group=GROUP, name=origin.where)
        return _of_plugin(point)
    except (Exception, SystemExit) as error:
        # A stranger's code: whatever it raises is its own fault, and nobody else's end.
        raise Unusable(reason(error)) from error


def reason(error: BaseException) -> str:
    where = f" (line {error.lineno})" if isinstance(error, SyntaxError) else ""
    # Of a SyntaxError the first argument says it all; of an OSError it is a mere number.
    said = error.args[0] if error.args and isinstance(error.args[0], str) else error
    return f"{type(error).__name__}: {said}{where}"


def _of_plugin(point: EntryPoint) -> Sequence[type[Strategy]]:
    kind = point.load()
    if not _is_strategy(kind):
        raise TypeError(f"{point.value} is no Strategy")
    return [kind]


def _of_file(path: Path) -> Sequence[type[Strategy]]:
    module = _run(path)
    kinds = [
        each
        for each in vars(module).values()
        if _is_strategy(each) and each.__module__ == module.__name__
    ]
    if not kinds:
        raise TypeError("it defines no Strategy")
    return kinds


def _run(path: Path) -> ModuleType:
    name = f"botswarm_strategies_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # The source, never the compiled file: two edits within one second would look the same.
    code = compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
    # dataclass looks its class's module up there.
    sys.modules[name] = module
    try:
        exec(code, vars(module))  # noqa: S102  # the user's own file, as an import would run it
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _is_strategy(thing: object) -> bool:
    return inspect.isclass(thing) and issubclass(thing, Strategy) and not inspect.isabstract(thing)
