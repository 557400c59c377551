"""The swarm on one machine: foundations first, then everything else at once, stopped in order."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from botswarm.errors import BotswarmError, TimedOut, Unreachable
from botswarm.supervisor import record
from botswarm.supervisor.plan import FOUNDATIONS, RELEASE, STOP_STAGES, Line, needed
from botswarm.supervisor.process import Process, Say, how_it_ended

READY_S: Final = 60.0
# A foundation that ends so often before it was ready will not come up by waiting.
ENDS_AT_START_MAX: Final = 4
NOTES_EVERY_S: Final = 1.0

IsReady = Callable[[], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that differs between one swarm and another."""

    state_dir: Path
    lines: Sequence[Line]
    skip: Mapping[str, str]
    """What is not started here, and why: ``broker: RabbitMQ at …``."""
    environment: Mapping[str, str]
    ready: Mapping[str, IsReady]
    """For each foundation: can the others begin?"""
    names: Mapping[str, str]
    """What to call a foundation or step when it is done, such as ``ledger    sqlite …``."""
    seed: Sequence[str] | None
    """A command that puts the demo's bots into an empty ledger."""


class Swarm:
    def __init__(self, plan: Plan, say: Say) -> None:
        self._plan = plan
        self._say = say
        self._began = time.monotonic()
        self._began_at = datetime.now(UTC).isoformat(timespec="seconds")
        self._stop = asyncio.Event()
        self._processes = [
            Process(line, plan.environment, say) for line in needed(plan.lines, plan.skip)
        ]
        self._steps: list[Process] = []
        self._keepers: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """Until SIGTERM, SIGINT or SIGHUP; raises BotswarmError where the start fails."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._told_to_stop)
        notes = asyncio.create_task(self._keep_notes())
        starting = asyncio.create_task(self._start())
        told = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({starting, told}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
            await told
        finally:
            told.cancel()
            starting.cancel()
            await asyncio.gather(starting, told, return_exceptions=True)
            await self._stop_in_order()
            notes.cancel()

    def _told_to_stop(self) -> None:
        if self._stop.is_set():
            self._say("up", "already stopping; a worker may be finishing an order")
        for process in self._processes:
            # What others stand on is needed to the end.
            if process.name not in FOUNDATIONS:
                process.retire()
        self._stop.set()

    def _tell(self, text: str) -> None:
        self._say("up", f"[{time.monotonic() - self._began:4.1f} s] {text}")

    # --- starting -------------------------------------------------------------------------

    async def _start(self) -> None:
        for name, reason in self._plan.skip.items():
            self._tell(f"{name} is not started: {reason}")
        foundations = [process for process in self._processes if process.name in FOUNDATIONS]
        release = [line for line in self._plan.lines if line.name == RELEASE]
        for process in foundations:
            self._keep(process)
        steps = [self._wait_ready(process) for process in foundations]
        steps += [self._once(line.name, line) for line in release]
        async with asyncio.TaskGroup() as group:
            for step in steps:
                group.create_task(step)
        if self._plan.seed and not self._stop.is_set():
            await self._once("seed", Line("seed", shlex.join(self._plan.seed)))
        if self._stop.is_set():
            return
        rest = [process for process in self._processes if process.name not in FOUNDATIONS]
        for process in rest:
            self._keep(process)
        self._tell(f"started: {', '.join(process.name for process in rest)}")

    def _keep(self, process: Process) -> None:
        self._keepers.append(asyncio.create_task(process.keep()))

    async def _once(self, name: str, line: Line) -> None:
        step = Process(line, self._plan.environment, self._say)
        self._steps.append(step)
        # Shielded: told to stop, we end it by stopping it, not by forgetting it.
        code = await asyncio.shield(asyncio.create_task(step.run_once()))
        if code != 0 and not self._stop.is_set():
            raise Unreachable(
                f"{line.command!r} {how_it_ended(code)}", cure="its own lines above say why"
            )
        self._tell(self._plan.names.get(name, f"{name} done"))

    async def _wait_ready(self, process: Process) -> None:
        is_ready, deadline = self._plan.ready[process.name], time.monotonic() + READY_S
        while not self._stop.is_set():
            # It asks sockets and files: quick, but not to be waited for here.
            if process.pid is not None and await asyncio.to_thread(is_ready):
                self._tell(self._plan.names.get(process.name, f"{process.name} ready"))
                return
            if process.restarts >= ENDS_AT_START_MAX:
                raise Unreachable(
                    f"{process.name} ended {process.restarts} times before it was ready",
                    cure="its own lines above say why",
                )
            if time.monotonic() > deadline:
                raise TimedOut(
                    f"{process.name} was not ready after {READY_S:g} s",
                    cure="its own lines above say why",
                )
            await asyncio.sleep(0.05)

    # --- stopping -------------------------------------------------------------------------

    async def _stop_in_order(self) -> None:
        self._tell("stopping")
        await asyncio.gather(*(step.stop() for step in self._steps))
        for stage in range(len(STOP_STAGES)):
            here = [each for each in self._processes if each.line.stop_stage == stage]
            await asyncio.gather(*(process.stop() for process in here))
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        self._tell("stopped")

    # --- notes ----------------------------------------------------------------------------

    async def _keep_notes(self) -> None:
        said = ""
        while True:
            trouble = ""
            try:
                record.write(self._plan.state_dir, self._notes())
            except OSError as error:
                # A full disk must not cost the swarm its supervisor.
                trouble = f"botswarm ps knows nothing: {error.strerror}"
            if trouble and trouble != said:
                self._tell(trouble)
            said = trouble
            await asyncio.sleep(NOTES_EVERY_S)

    def _notes(self) -> record.Notes:
        return record.Notes(
            pid=os.getpid(),
            started_at=self._began_at,
            processes=tuple(
                record.ProcessNote(
                    name=process.name,
                    state=process.state,
                    pid=process.pid,
                    restarts=process.restarts,
                    started_at=process.started_at.isoformat(timespec="seconds")
                    if process.started_at
                    else None,
                    command=process.line.command,
                )
                for process in self._processes
            ),
        )


def run(plan: Plan, say: Say) -> None:
    with record.sole_supervisor(plan.state_dir):
        try:
            asyncio.run(Swarm(plan, say).run())
        except* BotswarmError as group:
            raise _first(group) from None


def _first(group: BaseExceptionGroup[BotswarmError]) -> BotswarmError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, BotswarmError)
    return error
