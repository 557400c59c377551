"""The roads from a process to ledger and venue: where it can die, and what goes wrong on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

from botswarm.chaos.simulation.oracle import Oracle
from botswarm.chaos.simulation.world import World
from botswarm.domain.instrument import Instrument
from botswarm.domain.order import Order
from botswarm.errors import Unreachable
from botswarm.exchanges.base import Answer, Declined, SignedRequest, Unclear
from botswarm.exchanges.offset import OffsetTracker
from botswarm.testing.books import FakeBooks
from botswarm.testing.venue import FakeVenue, Fate

ANSWER_TIMEOUT_S = 12.0


class Outcome(StrEnum):
    """What becomes of a request that places an order, and what its sender hears of it."""

    ANSWERED = "answered"
    SLOW = "slow"  # executed, the answer takes seconds
    DECLINED = "declined"
    REQUEST_LOST = "request lost"
    REPLY_LOST = "reply lost"
    REPLY_CUT = "reply cut"  # executed, half an answer
    GARBAGE = "garbage"  # executed, answered with a page of HTML
    ERROR_EXECUTED = "error, executed"
    ERROR_NOT_EXECUTED = "error, not executed"
    ENGINE_LATE = "engine late"  # arrived in time, executed when the engine comes to it
    HELD = "held"  # by the network, and delivered after its sender has given up
    HELD_LONG = "held long"  # until the venue does not take it any more
    TWICE = "twice"  # the same bytes arrive twice; the answer is the second one's
    TWICE_LATER = "twice, later"  # the second time many seconds on


class Trouble(StrEnum):
    """What goes wrong with a question or a transaction."""

    NONE = "none"
    BEFORE = "before"  # it never arrived
    AFTER = "after"  # it was done, and nobody heard of it


@dataclass(slots=True)
class Weather:
    """What the roads are like; replaced when they are mended."""

    outcome: Callable[[], Outcome]
    trouble: Callable[[str], Trouble]
    fate: Callable[[], Fate]
    delay_s: Callable[[], float]
    lag_s: Callable[[], float]
    hold_s: Callable[[float, float], float]


class LedgerLink:
    """Every method of the books, as a process has them: across a network that fails."""

    def __init__(self, books: FakeBooks, world: World, oracle: Oracle, weather: Weather) -> None:
        self._books = books
        self._world = world
        self._oracle = oracle
        self.weather = weather

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._books, name)
        if not callable(method):
            return method

        def call(*arguments: Any, **named: Any) -> Any:
            return self._call(f"ledger.{name}", method, arguments, named)

        return call

    def _call(
        self, what: str, method: Any, arguments: tuple[Any, ...], named: Mapping[str, Any]
    ) -> Any:
        world, process = self._world, self._world.running
        if process.within:
            return method(*arguments, **named)
        world.step(f"before {what}")
        trouble = self.weather.trouble(what)
        world.rest(self.weather.delay_s())
        if trouble is Trouble.BEFORE:
            world.tell(process.name, f"{what} never arrived")
            raise Unreachable("the ledger cannot be reached")
        process.within += 1
        try:
            answer = method(*arguments, **named)
        finally:
            process.within -= 1
        self._oracle.after_a_commit()
        world.step(f"after {what}")
        if trouble is Trouble.AFTER:
            raise Unreachable("the ledger did not say whether it was committed")
        return answer


class VenueLink:
    """A venue as one process has it: its requests get lost, held, repeated and answered late."""

    def __init__(self, venue: FakeVenue, world: World, oracle: Oracle, weather: Weather) -> None:
        self._venue = venue
        self._world = world
        self._oracle = oracle
        self.weather = weather
        self.name, self.account, self.rules = venue.name, venue.account, venue.rules
        self._offset = OffsetTracker(world.running.clock, self.server_time)

    def __getattr__(self, name: str) -> Any:
        """Questions; those that change something have their own method."""
        method = getattr(self._venue, name)

        def call(*arguments: Any, **named: Any) -> Any:
            return self._ask(f"venue.{name}", lambda: method(*arguments, **named))

        return call

    def server_time(self) -> Any:
        return self._ask("venue.server_time", self._venue.server_time)

    def ready(self) -> None:
        self._ask("venue.ready", self._venue.ready)
        self._offset.check()

    def clock_offset_s(self) -> float | None:
        return None

    def sign(self, order: Order, instrument: Instrument, now: Any) -> SignedRequest:
        self._offset.check()
        return self._venue.sign(order, instrument, self._offset.to_venue(now))

    def send(self, request: SignedRequest) -> Answer:
        world, weather = self._world, self.weather
        world.step("before venue.send")
        outcome = weather.outcome()
        world.rest(weather.delay_s())
        answer = self._deliver(outcome, request)
        world.step(f"after venue.send, {outcome}")
        return answer

    def cancel(self, order: Order) -> Answer:
        try:
            answer: Answer = self._ask("venue.cancel", lambda: self._venue.cancel(order))
        except Unreachable as error:
            return Unclear(error.cause)
        return answer

    def _deliver(self, outcome: Outcome, request: SignedRequest) -> Answer:
        world, weather = self._world, self.weather
        match outcome:
            case Outcome.ANSWERED:
                return self._arrives(request)
            case Outcome.SLOW:
                answer = self._arrives(request)
                world.rest(weather.hold_s(1.0, ANSWER_TIMEOUT_S))
                return answer
            case Outcome.DECLINED:
                return Declined("-2010", "Account has insufficient balance for requested action.")
            case Outcome.ERROR_NOT_EXECUTED:
                return Unclear("HTTP 503")
            case Outcome.ERROR_EXECUTED:
                self._arrives(request)
                return Unclear("HTTP 503")
            case Outcome.GARBAGE | Outcome.REPLY_CUT:
                self._arrives(request)
                return Unclear("HTTP 200 that cannot be read")
            case Outcome.TWICE:
                answer = self._arrives(request)
                return self._arrives_again(request, answer)
            case Outcome.TWICE_LATER:
                answer = self._arrives(request)
                later = weather.hold_s(1.0, 40.0)
                world.after(later, lambda: self._arrives_again(request, answer))
                return answer
            case Outcome.ENGINE_LATE:
                self._waits_for_the_engine(request)
            case Outcome.HELD:
                world.after(weather.hold_s(0.1, 3.0), lambda: self._arrives(request))
            case Outcome.HELD_LONG:
                world.after(weather.hold_s(5.0, 90.0), lambda: self._arrives(request))
            case Outcome.REPLY_LOST:
                self._arrives(request)
            case Outcome.REQUEST_LOST:
                pass
        world.rest(ANSWER_TIMEOUT_S)
        return Unclear("timed out")

    def _waits_for_the_engine(self, request: SignedRequest) -> None:
        late = self._venue.semantics.engine.total_seconds()
        if self._venue.is_late(request):
            return
        self._oracle.arrives(request)
        wait = self.weather.hold_s(0.0, late) if late else 0.0
        self._world.after(wait, lambda: self._executes(request))

    def _arrives(self, request: SignedRequest) -> Answer:
        self._oracle.arrives(request)
        if self._venue.is_late(request):
            self._venue.refused_late += 1
            return Declined("-1021", "Timestamp for this request is outside of the recvWindow.")
        return self._executes(request)

    def _arrives_again(self, request: SignedRequest, first: Answer) -> Answer:
        """The same bytes, by a repeater on the way.

        Against one within its window, of an order that has ended already, no client can do
        anything where the venue forgets the ids of ended orders. TCP repeats nothing; so that
        one case is left out.
        """
        is_protected = self._venue.semantics.is_idempotent or self._venue.is_late(request)
        if is_protected or self._venue.has_open(request):
            return self._arrives(request)
        return first

    def _executes(self, request: SignedRequest) -> Answer:
        self._venue.fate = self.weather.fate()
        self._venue.query_lag = timedelta(seconds=self.weather.lag_s())
        answer = self._venue.execute(request)
        self._world.tell("venue", f"{answer}")
        self._oracle.after_an_execution()
        return answer

    def _ask(self, what: str, ask: Callable[[], Any]) -> Any:
        world, process = self._world, self._world.running
        if process.within:
            return ask()
        world.step(f"before {what}")
        trouble = self.weather.trouble(what)
        world.rest(self.weather.delay_s())
        if trouble is Trouble.BEFORE:
            raise Unreachable("the venue did not answer")
        answer = ask()
        world.rest(self.weather.delay_s())
        world.step(f"after {what}")
        if trouble is Trouble.AFTER:
            raise Unreachable("the venue's answer was lost")
        return answer
