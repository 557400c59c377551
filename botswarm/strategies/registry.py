"""Which strategies there are: the built-in ones, installed plugins, and files in a folder."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from botswarm.errors import BotswarmError, NotFound, Problem
from botswarm.strategies.api import Strategy, Value
from botswarm.strategies.grid import Grid
from botswarm.strategies.rsi_reversion import RsiReversion
from botswarm.strategies.sma_cross import SmaCross

GROUP = "botswarm.strategies"
BUILT_IN: tuple[type[Strategy], ...] = (SmaCross, RsiReversion, Grid)


class BadParameters(BotswarmError):
    """What was given for a strategy's parameters is not within their bounds."""

    exit_code = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    strategy: type[Strategy]
    source: str
    """``built-in``, the package it came with, or its file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    found: Mapping[str, Found]
    broken: Mapping[str, str]
    """Sources that could not be loaded, with what is wrong with each."""

    def get(self, name: str) -> type[Strategy]:
        if (known := self.found.get(name)) is not None:
            return known.strategy
        close = get_close_matches(name, self.found, n=1)
        cure = f"did you mean {close[0]}?" if close else "see: botswarm strategy list"
        causes = [f"there is no strategy {name!r}"]
        causes += [f"{source} could not be loaded: {why}" for source, why in self.broken.items()]
        raise NotFound("; ".join(causes), cure=cure)

    def make(self, name: str, parameters: Mapping[str, object]) -> Strategy:
        """With these parameters and the defaults of the others; raises NotFound, BadParameters."""
        kind = self.get(name)
        known = {each.name: each for each in kind.parameters()}
        problems = [_unknown(each, name, known) for each in parameters if each not in known]
        values: dict[str, Value] = {}
        for each in known.values():
            if each.name not in parameters:
                continue
            value = each.read(parameters[each.name])
            if isinstance(value, Problem):
                problems.append(value.cause)
            else:
                values[each.name] = value
        if problems:
            raise BadParameters("; ".join(problems), cure=f"see: botswarm strategy show {name}")
        made = kind(**values)
        if (complaint := made.objection()) is not None:
            raise BadParameters(complaint, cure=f"see: botswarm strategy show {name}")
        return made


def _unknown(given: str, strategy: str, known: Mapping[str, Any]) -> str:
    close = get_close_matches(given, known, n=1)
    hint = f" (did you mean {close[0]}?)" if close else f" (it has {', '.join(known) or 'none'})"
    return f"{strategy} has no parameter {given!r}{hint}"


def load(folder: Path | None = None) -> Catalog:
    """Never raises: a strategy that cannot be loaded is named, and disables its own bots only."""
    found = {each.name: Found(strategy=each, source="built-in") for each in BUILT_IN}
    broken: dict[str, str] = {}
    for source, kinds in [*_plugins(broken), *_files(folder, broken)]:
        for kind in kinds:
            if kind.name in found:
                broken[source] = f"{kind.name!r} is the name of one from {found[kind.name].source}"
            else:
                found[kind.name] = Found(strategy=kind, source=source)
    return Catalog(found=dict(sorted(found.items())), broken=broken)


def _plugins(broken: dict[str, str]) -> Iterator[tuple[str, list[type[Strategy]]]]:
    for point in entry_points(group=GROUP):
        source = point.dist.name if point.dist else point.value
        try:
            kind = point.load()
            if not _is_strategy(kind):
                raise TypeError(f"{point.value} is no Strategy")
        except Exception as error:
            # A stranger's code: whatever it raises is its own fault, and nobody else's end.
            broken[source] = _reason(error)
        else:
            yield source, [kind]


def _files(
    folder: Path | None, broken: dict[str, str]
) -> Iterator[tuple[str, list[type[Strategy]]]]:
    if folder is None:
        return
    if not folder.is_dir():
        broken[str(folder)] = "there is no such folder"
        return
    for path in sorted(folder.glob("*.py")):
        if path.name.startswith("_"):
            continue
        try:
            module = _run(path)
            kinds = [
                each
                for each in vars(module).values()
                if _is_strategy(each) and each.__module__ == module.__name__
            ]
            if not kinds:
                raise TypeError("it defines no Strategy")
        except Exception as error:
            # As above: a file somebody is just editing must not end the worker.
            broken[str(path)] = _reason(error)
        else:
            yield str(path), kinds


def _run(path: Path) -> ModuleType:
    name = f"botswarm_strategies_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # dataclass looks its class's module up there.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _is_strategy(thing: object) -> bool:
    return inspect.isclass(thing) and issubclass(thing, Strategy) and not inspect.isabstract(thing)


def _reason(error: Exception) -> str:
    where = f" (line {error.lineno})" if isinstance(error, SyntaxError) else ""
    return f"{type(error).__name__}: {error.args[0] if error.args else error}{where}"
