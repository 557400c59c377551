"""Runs strangers' strategies in processes of their own, and ends those that hang."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import pickle
import select
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, cast

from botswarm.bots.apart import Apart, Asks, stand_in
from botswarm.bots.cell import LENGTH, READY, Answer, Question, send
from botswarm.bots.costs import Costs
from botswarm.bots.evaluation import TooSlow, evaluate_one
from botswarm.bots.muster import Member
from botswarm.bots.scene import Scene
from botswarm.bots.spec import parameters_of
from botswarm.domain.order import OrderKind, Side, TimeInForce
from botswarm.errors import BotswarmError
from botswarm.ledger.bots import Bot
from botswarm.strategies import api, rules, tether
from botswarm.strategies.api import Candles, Decision, Needs, Strategy, View
from botswarm.strategies.evaluate import Evaluation
from botswarm.strategies.origins import Origin

logger = logging.getLogger(__name__)

DECIDE_S = 2.0
"""By the wall: a decision that takes longer ends the process it is made in."""
DECIDE, SAY = "decide", "say what it needs"
SEND_S = 10.0
"""To take in what it is asked, which takes it milliseconds."""
START_S = 30.0
ANSWER_BYTES_MAX = 1024**2
WAITING_MAX = 1000
"""Markets that wait for one origin; more are left to their next pass."""

_KNOWN = {
    (kind.__module__, kind.__qualname__): kind
    for kind in (
        *(Answer, Asks, Decision, api.OfBudget, api.Worth, api.Quantity, api.Wish, rules.Rule),
        *(Side, OrderKind, TimeInForce, Decimal),
    )
}


class Failed(BotswarmError):
    """A stranger's code went wrong; the words are what is told of it."""


class _Reader(pickle.Unpickler):
    """Makes nothing but our own values, whatever a stranger's process writes."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _KNOWN[module, name]
        except KeyError:
            raise Failed(f"its answer holds a {module}.{name}, not plain values") from None


class Cell:
    """One origin's process, started when it is needed, and again after it was ended."""

    def __init__(
        self,
        origin: Origin,
        signal_life: timedelta,
        costs: Costs,
        edition: Callable[[], int] = lambda: 0,
    ) -> None:
        self.origin = origin
        self._edition = edition
        self.edition = -1
        """Of the strategies that its process has loaded."""
        self._life = signal_life
        self._costs = costs
        self._child: subprocess.Popen[bytes] | None = None
        self._buffer = bytearray()
        self.ended = 0
        """How often it had to be."""

    def evaluate(
        self, scene: Scene, members: Sequence[Member], now: datetime
    ) -> dict[str, Evaluation | Exception]:
        """Those it got to; who is missing is asked again at the next pass."""
        found: dict[str, Evaluation | Exception] = {}
        asked: list[tuple[Member, View]] = []
        for member in members:
            if member.problem is not None:
                found[member.name] = member.problem
                continue
            relay = _Relay(member)
            try:
                found[member.name] = evaluate_one(scene, relay.member, now, self._life)
            except _Asked as asks:
                asked.append((member, asks.view))
            except Exception as error:
                found[member.name] = error
        for member, said in self._decide(asked).items():
            if isinstance(said, Exception):
                found[member.name] = said
                continue
            try:
                relay = _Relay(member, said)
                found[member.name] = evaluate_one(scene, relay.member, now, self._life)
            except Exception as error:
                found[member.name] = error
        return found

    def learn(self, bots: Sequence[Bot]) -> dict[str, Apart | Exception]:
        """What their strategies ask for, by bot; who is missing is asked again at the next pass."""
        alike: dict[str, list[Bot]] = {}
        for bot in bots:
            key = repr((bot.strategy, sorted(parameters_of(bot).items())))
            alike.setdefault(key, []).append(bot)
        first = [each[0] for each in alike.values()]
        questions = [Question(each.strategy, dict(parameters_of(each)), None) for each in first]
        found: dict[str, Apart | Exception] = {}
        for same, said in zip(alike.values(), self._ask(questions, SAY), strict=False):
            try:
                told = said if isinstance(said, Exception) else stand_in(said.asks)
            except ValueError as error:
                told = Failed(str(error))
            found |= {each.name: told for each in same}
        return found

    def close(self) -> None:
        child, self._child = self._child, None
        self._buffer.clear()
        if child is not None:
            tether.end(child)
            for stream in (child.stdin, child.stdout):
                with contextlib.suppress(OSError):
                    cast("Any", stream).close()

    def _decide(self, asked: Sequence[tuple[Member, View]]) -> dict[Member, Decision | Exception]:
        shown = _Portable()
        questions = [
            Question(each.bot.strategy, dict(parameters_of(each.bot)), shown.view(view))
            for each, view in asked
        ]
        said: dict[Member, Decision | Exception] = {}
        for (member, _), answer in zip(asked, self._ask(questions, DECIDE), strict=False):
            if isinstance(answer, Exception):
                said[member] = answer
                continue
            self._costs.took(member.bot.strategy, member.name, answer.took_s)
            said[member] = answer.decision or Failed("it answered something that is no decision")
        return said

    def _ask(self, questions: Sequence[Question], what: str) -> list[Answer | Exception]:
        """In their order, up to the one that it did not get through."""
        said: list[Answer | Exception] = []
        if not questions:
            return said
        try:
            child = self._running()
            _send(child, questions)
            for _ in questions:
                said.append(self._one(what))
        except (Failed, TooSlow) as error:
            said.append(self._end(error))
        except (OSError, EOFError, pickle.UnpicklingError, ValueError) as error:
            said.append(self._end(Failed(self._last_words(error))))
        return said

    def _one(self, what: str) -> Answer | Exception:
        answer = self._read(DECIDE_S, f"it took longer than {DECIDE_S:g} s to {what}")
        if not isinstance(answer, Answer):
            raise Failed("it answered something that is no decision")
        return answer if answer.error is None else Failed(answer.error)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._child is not None and self._child.poll() is None:
            return self._child
        self.close()
        # Before it loads: what changes meanwhile is loaded anew.
        self.edition = self._edition()
        self._child = tether.start("botswarm.bots.cell", str(self.origin), stdin=subprocess.PIPE)
        said = self._read(START_S, f"loading it took longer than {START_S:g} s")
        if said != READY:
            raise Failed(str(said))
        return self._child

    def _read(self, within_s: float, words: str) -> object:
        deadline = time.monotonic() + within_s
        head = self._exactly(LENGTH.size, deadline, words)
        (length,) = LENGTH.unpack(head)
        if length > ANSWER_BYTES_MAX:
            raise Failed(f"its answer is {length} bytes long, over {ANSWER_BYTES_MAX}")
        return _Reader(io.BytesIO(self._exactly(length, deadline, words))).load()

    def _exactly(self, size: int, deadline: float, words: str) -> bytes:
        assert self._child is not None
        stream = cast("Any", self._child.stdout)
        while len(self._buffer) < size:
            ready, _, _ = select.select([stream], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TooSlow(words)
            more = os.read(stream.fileno(), 65_536)
            if not more:
                raise EOFError
            self._buffer += more
        found = bytes(self._buffer[:size])
        del self._buffer[:size]
        return found

    def _end(self, error: Exception) -> Exception:
        self.ended += 1
        logger.warning("the process of %s was ended: %s", self.origin, error)
        self.close()
        return error

    def _last_words(self, error: Exception) -> str:
        child = self._child
        if child is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = child.wait(1.0)
                how = f"by signal {-code}" if code < 0 else f"with code {code}"
                return f"it ended its process {how}"
        return f"its process cannot be spoken with: {type(error).__name__}"


def _send(child: subprocess.Popen[bytes], value: object) -> None:
    """Raises TooSlow: a process that has stopped itself never reads."""
    packed = io.BytesIO()
    send(packed, value)
    left, stream = packed.getbuffer(), cast("Any", child.stdin).fileno()
    os.set_blocking(stream, False)
    deadline = time.monotonic() + SEND_S
    while left:
        _, ready, _ = select.select([], [stream], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise TooSlow(f"it did not take in what it was asked within {SEND_S:g} s")
        left = left[os.write(stream, left) :]


class _Asked(Exception):
    """The gates let it through: this is what it is to be shown."""

    def __init__(self, view: View) -> None:
        super().__init__()
        self.view = view


class _Relay:
    """Stands in for a stranger's strategy: asks for what it sees, or says what it decided."""

    def __init__(self, member: Member, decision: Decision | None = None) -> None:
        self._member = member
        self._decision = decision

    @property
    def member(self) -> Member:
        assert self._member.subject is not None
        subject = replace(self._member.subject, strategy=cast("Strategy", self))
        return replace(self._member, subject=subject)

    @property
    def history(self) -> int:
        return self._member.strategy.history

    def needs(self) -> Needs:
        return self._member.strategy.needs()

    def decide(self, view: View) -> Decision:
        if self._decision is None:
            raise _Asked(view)
        return self._decision


class _Portable:
    """Views as they can be sent: candles once however many see them, and nothing computed."""

    def __init__(self) -> None:
        self._candles: dict[int, Candles] = {}

    def view(self, view: View) -> View:
        return replace(
            view,
            candles=self._bare(view.candles),
            series={name: self._bare(each) for name, each in view.series.items()},
            others={
                name: replace(each, candles=self._bare(each.candles))
                for name, each in view.others.items()
            },
            memory=dict(view.memory),
        )

    def _bare(self, candles: Candles) -> Candles:
        known = self._candles.get(id(candles))
        if known is None:
            known = self._candles[id(candles)] = replace(candles, _known={})
        return known


Job = Callable[[Cell], None]


class Warden:
    """A thread per origin, so that nobody waits for strangers but their own bots."""

    def __init__(
        self, signal_life: timedelta, costs: Costs, edition: Callable[[], int] = lambda: 0
    ) -> None:
        self._life = signal_life
        self._edition = edition
        self._costs = costs
        self._rows: dict[Origin, dict[tuple[str, str], Job]] = {}
        self._changed = threading.Condition()
        self._stale: set[Origin] = set()
        self._is_closed = False
        self.left_out = 0

    def submit(self, origin: Origin, market: tuple[str, str], job: Job) -> None:
        """Of a market that waits already only the latest word counts."""
        with self._changed:
            row = self._rows.get(origin)
            if row is None:
                row = self._rows[origin] = {}
                threading.Thread(
                    target=self._run, args=(origin, row), name=f"cell {origin}", daemon=True
                ).start()
            if market not in row and len(row) >= WAITING_MAX:
                self.left_out += 1
                return
            row[market] = job
            self._changed.notify_all()

    def forget(self) -> None:
        """Files have changed: load them anew."""
        with self._changed:
            self._stale |= self._rows.keys()
            self._changed.notify_all()

    def close(self) -> None:
        """Its processes end, each when it has decided what it is deciding."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _run(self, origin: Origin, row: Mapping[tuple[str, str], Job]) -> None:
        cell = Cell(origin, self._life, self._costs, self._edition)
        jobs = cast("dict[tuple[str, str], Job]", row)
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: bool(jobs) or self._is_closed or origin in self._stale
                )
                if self._is_closed:
                    break
                is_stale = origin in self._stale
                self._stale.discard(origin)
                job = jobs.pop(next(iter(jobs))) if jobs else None
            if is_stale:
                # At once: of a file that was deleted nobody may ask any more.
                cell.close()
            if job is None:
                continue
            try:
                job(cell)
            except BotswarmError as error:
                logger.warning("a pass of %s failed: %s", origin, error)
            except Exception:
                # An entrance: this thread serves every market's next pass.
                logger.exception("a pass of %s failed", origin)
        cell.close()
