"""Which strategies there are: the built-in ones, installed plugins, and files in a folder."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from botswarm.errors import BotswarmError, NotFound, Problem, Refused
from botswarm.strategies import origins
from botswarm.strategies.api import Strategy, Value
from botswarm.strategies.bollinger import BollingerReversion
from botswarm.strategies.breakout import Breakout
from botswarm.strategies.dca import Dca
from botswarm.strategies.grid import Grid
from botswarm.strategies.macd_trend import MacdTrend
from botswarm.strategies.market_maker import MarketMaker
from botswarm.strategies.origins import GROUP, Kind, Origin, Unusable, kinds_of
from botswarm.strategies.pairs import Pairs
from botswarm.strategies.probe import probe
from botswarm.strategies.rebalance import Rebalance
from botswarm.strategies.rsi_reversion import RsiReversion
from botswarm.strategies.sma_cross import SmaCross
from botswarm.strategies.supertrend import Supertrend

logger = logging.getLogger(__name__)

BUILT_IN: tuple[type[Strategy], ...] = (
    *(SmaCross, MacdTrend, Supertrend, RsiReversion, BollingerReversion, Breakout),
    *(Grid, MarketMaker, Dca, Pairs, Rebalance),
)
NO_STRATEGIES = ("_", "test_")
"""Files of the folder that begin so are left alone: what is not ready, and tests."""
LOOK_EVERY_S = 1.0
"""Files are looked at no more often than this, however often ``refresh`` is called."""


class BadParameters(BotswarmError):
    """What was given for a strategy's parameters is not within their bounds."""

    exit_code = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    strategy: type[Strategy] | None
    """None where it is known by name only: its code is run elsewhere."""
    source: str
    """For people: ``built-in``, the package it came with, or its file."""
    origin: Origin = origins.BUILT_IN

    @property
    def is_trusted(self) -> bool:
        return self.origin.is_trusted


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What a look at the folder brought: names of strategies."""

    new: frozenset[str] = frozenset()
    changed: frozenset[str] = frozenset()
    gone: frozenset[str] = frozenset()
    """``Catalog.lost`` says why."""

    def __bool__(self) -> bool:
        return bool(self.new or self.changed or self.gone)


NO_CHANGES = Changes()
_Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loaded:
    """The catalog's next tables."""

    found: Mapping[str, Found]
    broken: Mapping[str, str]
    lost: Mapping[str, str]
    stamps: Mapping[Path, _Stamp]


@dataclass(slots=True, kw_only=True)
class Catalog:
    """What can be made into bots. Its tables are replaced as a whole, never changed in place:
    any thread may read while another refreshes. A strategy of a changed file is another class.
    """

    found: Mapping[str, Found]
    broken: Mapping[str, str]
    """Sources that could not be loaded, with what is wrong with each."""
    lost: Mapping[str, str] = field(default_factory=dict)
    """Strategies that were there once, with what became of them."""
    folder: Path | None = None
    is_apart: bool = False
    """Nothing of a stranger's is loaded in this process: it is known by name only."""
    monotonic: Callable[[], float] = time.monotonic
    _stamps: Mapping[Path, _Stamp] = field(default_factory=dict, repr=False)
    _looked_at: float = field(default=0.0, repr=False)
    _looking: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _loader: threading.Thread | None = field(default=None, repr=False)
    _ready: _Loaded | None = field(default=None, repr=False)

    def get(self, name: str) -> type[Strategy]:
        if (known := self.found.get(name)) is not None:
            if known.strategy is None:
                raise Refused(
                    f"{name} of {known.source} is not loaded in this process",
                    cure="ask the process of its origin",
                )
            return known.strategy
        if (why := self.lost.get(name)) is not None:
            raise NotFound(f"the strategy {name} is gone: {why}", cure="put the file back")
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

    def refresh(self) -> Changes:
        """What became of the folder's files since the last call: new, changed and deleted ones.

        Takes microseconds, so call it at every pass: once a second it looks at the files' dates,
        loads what changed in a thread of its own, and tells of it when that is done. Of threads
        that call it together one is told.
        """
        if self.folder is None or not self._looking.acquire(blocking=False):
            return NO_CHANGES
        try:
            if self._ready is not None:
                return self._take_over()
            now = self.monotonic()
            is_loading = self._loader is not None and self._loader.is_alive()
            if is_loading or now - self._looked_at < LOOK_EVERY_S:
                return NO_CHANGES
            self._looked_at = now
            stamps = _stamps(self.folder)
            if stamps != self._stamps:
                self._loader = threading.Thread(
                    target=self._prepare, args=(stamps,), name="load strategies", daemon=True
                )
                self._loader.start()
            return NO_CHANGES
        finally:
            self._looking.release()

    def refresh_now(self) -> Changes:
        """The same, waiting for what takes long."""
        with self._looking:
            if self.folder is None:
                return NO_CHANGES
            if self._loader is not None:
                self._loader.join()
            earlier = self._take_over()
            stamps = _stamps(self.folder)
            if stamps != self._stamps:
                self._prepare(stamps)
            return self._take_over() or earlier

    def _prepare(self, stamps: Mapping[Path, _Stamp]) -> None:
        # What is broken may have been so because of a name that another file has given up.
        touched = [
            path
            for path, stamp in stamps.items()
            if self._stamps.get(path) != stamp or str(path) in self.broken
        ]
        deleted = {str(path) for path in self._stamps if path not in stamps}
        stale = {str(path) for path in touched} | deleted
        kept = {name: each for name, each in self.found.items() if each.source not in stale}
        broken = {source: why for source, why in self.broken.items() if source not in stale}
        try:
            found = _with_files(kept, touched, broken, is_apart=self.is_apart)
        except OSError as error:
            # No process could be started, say; it is tried again at the next look.
            logger.error("changed strategies are not loaded yet: %s", error)
            return
        lost = {name: why for name, why in self.lost.items() if name not in found}
        for name, each in self.found.items():
            if name not in found:
                lost[name] = _fate(each.source, deleted, broken)
        self._ready = _Loaded(found=found, broken=broken, lost=lost, stamps=stamps)

    def _take_over(self) -> Changes:
        ready, self._ready = self._ready, None
        if ready is None:
            return NO_CHANGES
        before, found = self.found, ready.found
        self.found, self.broken, self.lost = found, ready.broken, ready.lost
        self._stamps = ready.stamps
        return Changes(
            new=frozenset(name for name in found if name not in before),
            changed=frozenset(
                name for name, each in found.items() if before.get(name, each) is not each
            ),
            gone=frozenset(name for name in before if name not in found),
        )


def _fate(source: str, deleted: set[str], broken: Mapping[str, str]) -> str:
    if source in deleted:
        return f"the file {source} was deleted"
    if source in broken:
        return f"the file {source} could not be loaded: {broken[source]}"
    return f"the file {source} no longer has it"


def _unknown(given: str, strategy: str, known: Mapping[str, Any]) -> str:
    close = get_close_matches(given, known, n=1)
    hint = f" (did you mean {close[0]}?)" if close else f" (it has {', '.join(known) or 'none'})"
    return f"{strategy} has no parameter {given!r}{hint}"


def load(folder: Path | None = None, *, is_apart: bool = False) -> Catalog:
    """Never raises: a strategy that cannot be loaded is named, and disables its own bots only.

    ``is_apart`` is for processes that others depend on: strangers' code is run in children only.
    """
    found = {each.name: Found(strategy=each, source="built-in") for each in BUILT_IN}
    broken: dict[str, str] = {}
    plugins = {
        Origin(Kind.ENTRY_POINT, point.name): point.dist.name if point.dist else point.value
        for point in entry_points(group=GROUP)
    }
    looked = probe(list(plugins)) if is_apart else {}
    for origin, source in plugins.items():
        _add(found, broken, source, origin, looked.get(origin))
    if folder is None:
        return Catalog(found=dict(sorted(found.items())), broken=broken, is_apart=is_apart)
    if not folder.is_dir():
        broken[str(folder)] = "there is no such folder"
    stamps = _stamps(folder)
    found = _with_files(found, list(stamps), broken, is_apart=is_apart)
    return Catalog(found=found, broken=broken, folder=folder, is_apart=is_apart, _stamps=stamps)


def load_one(origin: Origin) -> Catalog:
    """The strategies of one origin alone, for the process that runs them."""
    if origin.kind is Kind.PACKAGE:
        return load()
    found: dict[str, Found] = {}
    broken: dict[str, str] = {}
    _add(found, broken, origin.where, origin)
    return Catalog(found=found, broken=broken)


def _with_files(
    known: Mapping[str, Found], paths: Sequence[Path], broken: dict[str, str], *, is_apart: bool
) -> dict[str, Found]:
    """Together with what these files bring, by name; what is wrong with them goes to ``broken``."""
    found = dict(known)
    # Whole, for the process that loads it may stand elsewhere.
    origins = {path: Origin(Kind.FILE, str(path.absolute())) for path in paths}
    looked = probe(list(origins.values()))
    for path, origin in origins.items():
        said = looked[origin]
        is_told = is_apart or isinstance(said, Unusable)
        _add(found, broken, str(path), origin, said if is_told else None)
    return dict(sorted(found.items()))


def _add(
    found: dict[str, Found],
    broken: dict[str, str],
    source: str,
    origin: Origin,
    said: Sequence[str] | Unusable | None = None,
) -> None:
    """By what its probe said of it; without that, loaded here."""
    try:
        if isinstance(said, Unusable):
            raise said
        kinds: Mapping[str, type[Strategy] | None] = (
            {each.name: each for each in kinds_of(origin)} if said is None else dict.fromkeys(said)
        )
    except Unusable as error:
        broken[source] = str(error)
        return
    for name, kind in kinds.items():
        if name in found:
            broken[source] = f"{name!r} is the name of one from {found[name].source}"
        else:
            found[name] = Found(strategy=kind, source=source, origin=origin)


def _stamps(folder: Path) -> dict[Path, _Stamp]:
    """By file: what changes when it is edited or replaced."""
    stamps: dict[Path, _Stamp] = {}
    for path in sorted(folder.glob("*.py")) if folder.is_dir() else ():
        if path.name.startswith(NO_STRATEGIES):
            continue
        try:
            about = path.stat()
        except OSError:
            continue  # deleted just now
        stamps[path] = (about.st_mtime_ns, about.st_size, about.st_ino)
    return stamps
