"""Play a plan on a stage: strike, note what was done, wait for quiet, judge."""

from __future__ import annotations

import contextlib
import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from sqlalchemy import func, select

from botswarm.chaos.campaign import clocks
from botswarm.chaos.campaign.load import IN_FLIGHT, Load
from botswarm.chaos.campaign.plan import Fault, Strike
from botswarm.chaos.campaign.roles import thaw
from botswarm.chaos.campaign.stage import CLOCKED, Stage, clock_file
from botswarm.errors import BotswarmError
from botswarm.ledger.models import OrderEventRow, OrderRow

LOOK_EVERY_S = 0.25
DRAIN_MAX_S = 180.0
AT_ONCE = 24
BRING_BACK_MAX = 3


@dataclass(frozen=True, slots=True)
class Note:
    code: str
    round: int
    at_s: float
    took_s: float
    did: str
    failed: str = ""


@dataclass(slots=True)
class Timeline:
    """Which events were in the ledger at which moment by a clock that nobody has touched."""

    rows: list[tuple[float, int]] = field(default_factory=list)
    """Wall time of the campaign's own process, and the highest event id seen by then."""

    def around(self, event_id: int) -> tuple[float, float]:
        """A moment at which it was not there yet, and one at which it was."""
        place = bisect_left(self.rows, event_id, key=lambda row: row[1])
        before = self.rows[place - 1][0] if place else 0.0
        return before, self.rows[place][0] if place < len(self.rows) else float("inf")


class Watcher:
    """Looks at the ledger a few times a second, past all links."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="watcher", daemon=True)
        self.timeline = Timeline()

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(20)

    def look(self) -> None:
        last = self._stage.ledger.database.read(
            lambda session: session.scalar(select(func.max(OrderEventRow.id)))
        )
        rows = self.timeline.rows
        if last is not None and (not rows or rows[-1][1] < last):
            rows.append((time.time(), last))

    def _look(self) -> None:
        while not self._over.wait(LOOK_EVERY_S):
            with contextlib.suppress(BotswarmError):
                self.look()


class Runner:
    """Strikes come in the plan's order; two that touch the same thing never at once."""

    def __init__(
        self, stage: Stage, strikes: Sequence[Strike], seed: int, progress: Callable[[str], None]
    ) -> None:
        self._stage = stage
        self._strikes = strikes
        self._seed = seed
        self._progress = progress
        self._unfinished: list[Strike] = []
        """Those whose time has come, in the plan's order."""
        self._changed = threading.Condition()
        self.notes: list[Note] = []

    def run(self) -> None:
        began = time.monotonic()
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="strike") as pool:
            running: list[Future[None]] = []
            for strike in self._strikes:
                time.sleep(max(0.0, began + strike.at_s - time.monotonic()))
                with self._changed:
                    self._unfinished.append(strike)
                running.append(pool.submit(self._strike, strike, began))
            for future in running:
                future.result()
        self.heal()

    def heal(self) -> None:
        """Whatever is still broken works again: from here on the swarm is alone with itself."""
        stage = self._stage
        for link in stage.links.values():
            link.up()
            link.heal()
        for role in stage.roles.values():
            thaw(role.family())
        for room in stage.rooms.values():
            if room.can_fill:
                room.empty()
        for name in CLOCKED:
            clocks.tell(clock_file(stage.folder, name), 0)
        for server in stage.servers.values():
            server.start()
        stage.exchange.misbehaviour("DELETE")
        stage.arm("clock_offset", seconds=0)
        stage.tell_offset(0)

    def _is_free(self, strike: Strike) -> bool:
        """Nobody before it still touches what it will touch, or waits to."""
        wanted = set(strike.fault.holds)
        before = self._unfinished[: self._unfinished.index(strike)]
        return not any(wanted & set(each.fault.holds) for each in before)

    def _strike(self, strike: Strike, began: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_free(strike))
        fault, at = strike.fault, time.monotonic()
        did = failed = ""
        try:
            did = fault.strike(self._stage, strike.dice(self._seed))
        except Exception as error:
            # A defect of the fault itself must not end the campaign; it is said in the report.
            failed = f"{type(error).__name__}: {error}"[:300]
            failed += self._bring_back(fault)
        finally:
            with self._changed:
                self._unfinished.remove(strike)
                self._changed.notify_all()
        took = time.monotonic() - at
        self.notes.append(
            Note(fault.code, strike.round, round(at - began, 1), round(took, 1), did, failed)
        )
        self._progress(f"{at - began:6.1f} s {fault.code} {failed or did} ({took:.1f} s)")

    def _bring_back(self, fault: Fault) -> str:
        """A server that a failed strike left half dead would keep every later one from striking."""
        said = ""
        for name, server in self._stage.servers.items():
            if name not in fault.holds:
                continue
            for attempt in range(1, BRING_BACK_MAX + 1):
                try:
                    if not server.answers:
                        server.kill()
                        server.start()
                        said += f"; {server.name} was started anew"
                    break
                except Exception as error:
                    said += f"; attempt {attempt} to start {server.name}: {error}"[:300]
        return said


def drain(
    stage: Stage, load: Load, progress: Callable[[str], None], max_s: float
) -> tuple[float, Counter[str]]:
    """Seconds until nothing is on its way or in doubt, and what was left when that took too long.

    What rests is ended last: until then the swarm itself brings everything to where it rests.
    """
    load.stop()
    began = time.monotonic()
    ended_at: float | None = None
    while time.monotonic() - began < max_s:
        open_ = _open(stage)
        on_its_way = sum(open_[state] for state in IN_FLIGHT)
        if on_its_way == 0:
            if ended_at is None:
                ended_at = time.monotonic() - began
                progress(f"nothing is on its way {ended_at:.1f} s after the last fault")
            if not open_:
                return ended_at, open_
            load.cancel_resting()
        time.sleep(0.5)
    return (max_s if ended_at is None else ended_at), _open(stage)


def _open(stage: Stage) -> Counter[str]:
    """Orders that are not at their end, or miss fills that the venue counts; by state."""
    question = (
        select(OrderRow.state, func.count())
        .where((OrderRow.state.in_(IN_FLIGHT)) | OrderRow.is_open)
        .group_by(OrderRow.state)
    )
    with contextlib.suppress(BotswarmError):
        rows = stage.ledger.database.read(lambda session: session.execute(question).all())
        return Counter({row[0]: row[1] for row in rows})
    return Counter({"ledger not readable": 1})
