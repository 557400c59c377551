"""A process of its own for the strategies of one stranger: it may hang, die or eat its memory.

The parent sends what the bots are shown, the child answers bot by bot. So whoever was being asked
when it hung or died is known, fails alone, and the others are asked in a new process.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import select
import struct
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import IO, Any

from botswarm.domain.market import Book
from botswarm.errors import BotswarmError
from botswarm.strategies.api import Candles, Decision, Strategy, View
from botswarm.strategies.origins import Origin
from botswarm.strategies.stand import Evaluation, Market, Neighbour, Subject

MEMORY_BYTES = 512 * 1024**2
"""Over what Python, numpy and the strategies themselves take."""
ANSWER_S = 2.0
"""For one bot, of the clock on the wall: others run beside it."""
START_S = 30.0
ANSWER_BYTES_MAX = 4 * 1024**2
RESTARTS_MAX = 3
"""Within one round; who is left then has to wait for the next."""
LENGTH = struct.Struct(">I")


class Misbehaved(BotswarmError):
    """A stranger's strategy did what ends a process; its bot alone fails."""


class NotLoaded(Misbehaved):
    """There is nothing of the origin that could be asked: all its bots fail."""


class Failed(BotswarmError):
    """A stranger's strategy raised something."""


class _Nobody(Strategy):
    """Stands where a strategy was that means nothing to another process."""

    history = 0

    def decide(self, view: View) -> Decision:
        raise NotImplementedError


NOBODY = _Nobody()
COLUMNS = ("open_ms", "open", "high", "low", "close", "volume")
ROOMS = ("botswarm.domain.", "botswarm.strategies.stand", "botswarm.strategies.api",
         "botswarm.strategies.rules")  # fmt: skip
NAMES = frozenset(
    {("decimal", "Decimal"), ("datetime", "datetime"), ("datetime", "timezone")}
    | {("datetime", "timedelta")}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One bot; its strategy is made anew where it is asked."""

    subject: Subject
    others: Mapping[str, Neighbour] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What all bots of a round look at."""

    market: Market
    series: Mapping[str, Candles]
    now: datetime
    signal_life: timedelta
    book: Book | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A bot on its way to another process, where its strategy's class is another."""

    name: str
    parameters: Mapping[str, object]
    subject: Subject
    others: Mapping[str, Neighbour]


Answers = dict[str, Evaluation | Exception]


class Ward:
    """Of one origin; for one thread at a time. Its process starts when it is first needed."""

    def __init__(self, origin: Origin, answer_s: float = ANSWER_S) -> None:
        self.origin = origin
        self._answer_s = answer_s
        self._child: subprocess.Popen[bytes] | None = None

    def ask(self, scene: Scene, asked: Sequence[Asked]) -> Answers:
        """By bot: what its strategy answered, or why it did not. Never raises for a strategy."""
        answers: Answers = {}
        left = list(asked)
        for _ in range(1 + RESTARTS_MAX):
            if not left:
                return answers
            try:
                child = self._running()
                self._send(child, scene, left)
                while left:
                    answers[left[0].subject.bot] = self._receive(child, self._answer_s)
                    left.pop(0)
            except NotLoaded as error:
                self.close()
                return answers | {each.subject.bot: error for each in left}
            except Misbehaved as error:
                self.close()
                if not left:
                    return answers
                answers[left.pop(0).subject.bot] = error
        for each in left:
            words = f"its neighbours from {self.origin.where} ended their process too often"
            answers[each.subject.bot] = Misbehaved(words, cure="see their reasons")
        return answers

    def close(self) -> None:
        """End its process; the next question starts another."""
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            with contextlib.suppress(OSError):
                assert pipe is not None
                pipe.close()

    def _running(self) -> subprocess.Popen[bytes]:
        """Raises Misbehaved where the file does not load in time."""
        if self._child is not None and self._child.poll() is None:
            return self._child
        self.close()
        child = self._child = subprocess.Popen(
            [sys.executable, "-m", "botswarm.strategies.ward_child", str(self.origin)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        ready = self._receive(child, START_S)
        if isinstance(ready, Failed):
            raise NotLoaded(f"{self.origin.where} could not be loaded: {ready}") from ready
        return child

    def _send(self, child: subprocess.Popen[bytes], scene: Scene, asked: Sequence[Asked]) -> None:
        assert child.stdin is not None
        told = [
            Told(
                name=each.subject.strategy.name,
                parameters=_parameters(each.subject.strategy),
                subject=replace(each.subject, strategy=NOBODY),
                others={name: _bare(other) for name, other in each.others.items()},
            )
            for each in asked
        ]
        series = {timeframe: bare(candles) for timeframe, candles in scene.series.items()}
        scene = replace(scene, series=series)
        try:
            write(child.stdin, pickle.dumps((scene, told), pickle.HIGHEST_PROTOCOL))
        except OSError as error:
            raise Misbehaved("its process is gone") from error

    def _receive(self, child: subprocess.Popen[bytes], patience_s: float) -> Any:
        assert child.stdout is not None
        body = read(child.stdout, time.monotonic() + patience_s)
        if body is None:
            raise Misbehaved(f"it took longer than {patience_s:g} s", cure="let decide end sooner")
        if not body:
            child.wait()
            raise Misbehaved(
                f"it ended its process ({child.returncode})", cure="let it neither exit nor crash"
            )
        try:
            answer = _Reader(io.BytesIO(body)).load()
        except Exception as error:
            raise Misbehaved(f"its answer cannot be read: {error}") from error
        # Words are of an exception; the exception itself may be of a class that is not here.
        return Failed(answer) if isinstance(answer, str) else answer


def _parameters(strategy: Strategy) -> dict[str, object]:
    return {each.name: getattr(strategy, each.name) for each in strategy.parameters()}


def bare(candles: Candles) -> Candles:
    """Without what has been computed of them."""
    return Candles(**{name: getattr(candles, name) for name in COLUMNS})


def _bare(other: Neighbour) -> Neighbour:
    return replace(other, candles=None if other.candles is None else bare(other.candles))


class _Reader(pickle.Unpickler):
    """Reads what a child wrote: values of ours and of the language, and nothing that acts."""

    def find_class(self, module: str, name: str) -> Any:
        is_ours = module.startswith(ROOMS) and "." not in name
        if is_ours or (module, name) in NAMES:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} is no plain value")


# --- the wire -------------------------------------------------------------------------------------


def write(pipe: IO[bytes], body: bytes) -> None:
    pipe.write(LENGTH.pack(len(body)) + body)
    pipe.flush()


def read(pipe: IO[bytes], deadline: float) -> bytes | None:
    """None when it takes longer, nothing when the other side is gone."""
    head = _read_some(pipe, LENGTH.size, deadline)
    if not head:
        return head
    (length,) = LENGTH.unpack(head)
    if length > ANSWER_BYTES_MAX:
        return b""
    return _read_some(pipe, length, deadline)


def _read_some(pipe: IO[bytes], count: int, deadline: float) -> bytes | None:
    found = b""
    while len(found) < count:
        left_s = deadline - time.monotonic()
        if left_s <= 0 or not select.select([pipe], [], [], left_s)[0]:
            return None
        part = os.read(pipe.fileno(), count - len(found))
        if not part:
            return b""
        found += part
    return found
