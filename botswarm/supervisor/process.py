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
from typing import Final

from botswarm.supervisor.plan import Line

BACKOFF_S: Final = 0.5
BACKOFF_MAX_S: Final = 30.0
# A process that ran so long was healthy: its next end starts the backoff anew.
HEALTHY_S: Final = 30.0
LINE_BYTES_MAX: Final = 256 * 1024

Say = Callable[[str, str], None]
_PR_SET_PDEATHSIG: Final = 1


def _die_with_parent() -> None:
    """Were we killed with SIGKILL, the children are asked to end as we would have asked them."""
    with contextlib.suppress(OSError, AttributeError):  # only Linux has it
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


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

    @property
    def name(self) -> str:
        return self.line.name

    @property
    def pid(self) -> int | None:
        child = self._child
        return child.pid if child is not None and child.returncode is None else None

    async def run_once(self) -> int:
        """Start it, pass its lines on until it ends, and answer its exit code."""
        self._child = child = await asyncio.create_subprocess_exec(
            *self.line.words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            # Of a group of its own: Ctrl-C reaches us alone, and we stop in order.
            start_new_session=True,
            preexec_fn=_die_with_parent,
            env=self._environment,
            limit=LINE_BYTES_MAX,
        )
        self.state, self.started_at = "running", datetime.now(UTC)
        assert child.stdout is not None
        listening = asyncio.create_task(self._listen(child.stdout))
        code = await child.wait()
        # What it forked and left behind holds locks and sockets its successor needs, and our
        # end of its pipe.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        await listening
        return code

    async def _listen(self, stream: asyncio.StreamReader) -> None:
        while True:
            try:
                raw = await stream.readline()
            except ValueError:
                self._say(self.name, "(a line too long to show)")
                continue
            if not raw:
                return
            self._say(self.name, raw.decode(errors="replace").rstrip())

    async def keep(self) -> None:
        """Run it until told to stop; however it ends, it is started again, ever later."""
        pause = BACKOFF_S
        while not self._stopping.is_set():
            began = time.monotonic()
            code = await self.run_once()
            if self._stopping.is_set():
                break
            if time.monotonic() - began >= HEALTHY_S:
                pause = BACKOFF_S
            self.state = "restarting"
            self._say("up", f"{self.name} {_how_it_ended(code)}; starting it again in {pause:g} s")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
            pause = min(pause * 2, BACKOFF_MAX_S)
            self.restarts += 1
        self.state = "stopped"

    async def stop(self) -> None:
        """Ask it to end; kill it only when its time to finish is long over."""
        self._stopping.set()
        child = self._child
        if child is None or child.returncode is not None:
            return
        self.state = "stopping"
        with contextlib.suppress(ProcessLookupError):
            child.terminate()
        try:
            await asyncio.wait_for(child.wait(), self.line.grace_s)
        except TimeoutError:
            self._say("up", f"{self.name} did not end within {self.line.grace_s:g} s: killing it")
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            await child.wait()


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    with contextlib.suppress(ValueError):
        return f"was ended by {signal.Signals(-code).name}"
    return f"was ended by signal {-code}"
