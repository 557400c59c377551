"""One process under supervision: started, listened to, started again when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from botswarm.supervisor.plan import Line

BACKOFF_S: Final = 0.5
BACKOFF_MAX_S: Final = 30.0
# A process that ran so long was healthy: its next end starts the backoff anew.
HEALTHY_S: Final = 30.0
LINE_BYTES_MAX: Final = 256 * 1024
LAST_LINES_S: Final = 0.5
LOOK_EVERY_S: Final = 0.1
CANNOT_START: Final = 127  # what a shell answers for a command that is not there

Say = Callable[[str, str], None]
_PR_SET_PDEATHSIG: Final = 1
_LIBC = ctypes.CDLL(None)


def _end_by(asking: signal.Signals) -> Callable[[], None]:
    """What a child does first. Were we killed, it is asked to end as we would have asked it."""

    def prepare() -> None:
        if asking is not signal.SIGTERM:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(asking, signal.SIG_DFL)
        with contextlib.suppress(AttributeError):  # only Linux has it
            _LIBC.prctl(_PR_SET_PDEATHSIG, asking)

    return prepare


class Process:
    def __init__(self, line: Line, environment: Mapping[str, str], say: Say) -> None:
        self.line = line
        self.state = "waiting"
        self.restarts = 0
        self.started_at: datetime | None = None
        self._environment = environment
        self._say = say
        self._child: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        self._is_retired = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._at_work: set[asyncio.Task[None]] = set()

    @property
    def name(self) -> str:
        return self.line.name

    @property
    def pid(self) -> int | None:
        child = self._child
        return child.pid if child is not None and child.returncode is None else None

    async def run_once(self) -> int:
        """Start it, pass its lines on until it ends, and answer its exit code."""
        self._idle.clear()
        try:
            # A pipe of our own: that of asyncio makes the child last until its orphans end.
            ear, mouth = os.pipe()
            try:
                child = await self._start(mouth)
            finally:
                os.close(mouth)
            listening = asyncio.create_task(self._listen(ear))
            if child is None:
                return CANNOT_START
            code = await child.wait()
            await self._look_after_orphans(child.pid)
            # Orphans hold its pipe: what they still say is passed on, and not waited for.
            await asyncio.wait({listening}, timeout=LAST_LINES_S)
            self._background(listening)
            return code
        finally:
            self._idle.set()

    async def _start(self, mouth: int) -> asyncio.subprocess.Process | None:
        try:
            child = await asyncio.create_subprocess_exec(
                *self.line.words,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=mouth,
                stderr=mouth,
                # Of a group of its own: Ctrl-C reaches us alone, and we stop in order.
                start_new_session=True,
                preexec_fn=_end_by(self.line.asking),
                env=self._environment,
            )
        except OSError as error:
            self._say("up", f"{self.name} cannot be started: {self.line.command}: {error.strerror}")
            return None
        self._child = child
        self.state, self.started_at = "running", datetime.now(UTC)
        if self._stopping.is_set():
            self._terminate()  # told to stop while it was being started
        return child

    async def _listen(self, ear: int) -> None:
        stream = asyncio.StreamReader(limit=LINE_BYTES_MAX)
        way, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(ear, "rb", 0)
        )
        try:
            await self._pass_on(stream)
        finally:
            way.close()

    async def _pass_on(self, stream: asyncio.StreamReader) -> None:
        while True:
            try:
                raw = await stream.readline()
            except ValueError:
                self._say(self.name, "(a line too long to show)")
                continue
            if not raw:
                return
            if text := raw.decode(errors="replace").rstrip():
                self._say(self.name, text)

    async def _look_after_orphans(self, group: int) -> None:
        """A worker that was killed leaves children, and one may be finishing an order.

        They end by themselves when they are idle; their successor need not wait for the others.
        """
        if await _is_gone(group, within_s=1.0):
            return
        self._background(asyncio.create_task(self._end_orphans(group)))

    def _background(self, task: asyncio.Task[None]) -> None:
        self._at_work.add(task)
        task.add_done_callback(self._at_work.discard)

    async def _end_orphans(self, group: int) -> None:
        if not await _is_gone(group, within_s=self.line.grace_s):
            self._say("up", f"what {self.name} left behind did not end: killing it")
            _kill(group)

    async def keep(self) -> None:
        """Run it until told to stop; however it ends, it is started again, ever later."""
        pause = BACKOFF_S
        while not self._stopping.is_set():
            began = time.monotonic()
            code = await self.run_once()
            if self._stopping.is_set() or self._is_retired:
                break
            if time.monotonic() - began >= HEALTHY_S:
                pause = BACKOFF_S
            self.state = "restarting"
            self._say("up", f"{self.name} {how_it_ended(code)}; starting it again in {pause:g} s")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
            pause = min(pause * 2, BACKOFF_MAX_S)
            self.restarts += 1
        self.state = "stopped"

    def retire(self) -> None:
        """Let it run, and do not start it again: some platforms tell every process to end."""
        self._is_retired = True

    async def stop(self) -> None:
        """Ask it to end; kill it only when its time to finish is long over."""
        self._stopping.set()
        self._terminate()
        try:
            await asyncio.wait_for(self._idle.wait(), self.line.grace_s)
        except TimeoutError:
            self._say("up", f"{self.name} did not end within {self.line.grace_s:g} s: killing it")
            if self.pid is not None:
                _kill(self.pid)
            await self._idle.wait()
        if self._at_work:
            await asyncio.wait(self._at_work, timeout=self.line.grace_s)

    def _terminate(self) -> None:
        if self.pid is not None and self._child is not None:
            self.state = "stopping"
            with contextlib.suppress(ProcessLookupError):
                self._child.send_signal(self.line.asking)


def how_it_ended(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    with contextlib.suppress(ValueError):
        return f"was ended by {signal.Signals(-code).name}"
    return f"was ended by signal {-code}"


def _kill(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


async def _is_gone(group: int, *, within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while _lives(group):
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(LOOK_EVERY_S)
    return True


def _lives(group: int) -> bool:
    """Whether a process of the group still runs; one that only waits to be reaped does not."""
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    stats = list(Path("/proc").glob("[0-9]*/stat"))
    return not stats or any(_runs_in(group, stat) for stat in stats)


def _runs_in(group: int, stat: Path) -> bool:
    with contextlib.suppress(OSError):
        # The second field is the program's name, in brackets, and may hold anything.
        state, _, found = stat.read_text().rpartition(")")[2].split()[:3]
        return int(found) == group and state != "Z"
    return False
