"""The swarm's own processes as a campaign runs them: killed, stopped and started again at will."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from botswarm.chaos.campaign.waiting import until
from botswarm.testing.servers import Server

AGAIN_AFTER_S = 0.3
BURIED_AFTER_S = 10.0
"""What a killed worker leaves behind may finish its order; then it is ended."""
BACK_S = 60.0
MODULE = (sys.executable, "-m")


class Role(Server):
    """One process and its children. ``stop`` asks it to end, ``os.kill`` on its pid does not."""

    def __init__(
        self, title: str, words: Sequence[str], environment: Mapping[str, str], folder: Path
    ) -> None:
        self.name = title
        self._words = [*MODULE, *words]
        self.environment = dict(environment)
        self._left_behind: list[tuple[float, Any]] = []
        self.starts = 0
        super().__init__(folder)

    def children(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.Error):
            return list(psutil.Process(self.pid).children(recursive=True))
        return []

    def family(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.Error):
            return [psutil.Process(self.pid), *self.children()]
        return []

    def freeze(self) -> list[psutil.Process]:
        """Stop it and its children where they stand; answers them for ``thaw``."""
        frozen = self.family()
        if not frozen:
            until(self.family, f"{self.name} to be there", BACK_S)
            frozen = self.family()
        for process in frozen:
            with contextlib.suppress(psutil.Error):
                process.suspend()
        return frozen

    def succeed(self) -> None:
        """Start another beside whatever the last one left behind, as a supervisor does."""
        for process in self._processes:
            self._left_behind.append((time.monotonic() + BURIED_AFTER_S, process))
        self._processes = []
        self.start()

    def bury(self, *, now: bool = False) -> None:
        for entry in list(self._left_behind):
            if now or time.monotonic() > entry[0]:
                entry[1].end(None)
                self._left_behind.remove(entry)

    def close(self) -> None:
        self.bury(now=True)
        self.kill()
        super().close()

    def _launch(self) -> None:
        self.starts += 1
        self._run(self._words, environment=self.environment)

    def _is_ready(self) -> bool:
        # Whether it can work depends on what is broken just now; that is not waited for.
        return True


def thaw(frozen: Sequence[psutil.Process]) -> None:
    for process in frozen:
        with contextlib.suppress(psutil.Error):
            process.resume()


def kill(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.Error):
        process.send_signal(signal.SIGKILL)


class Keeper:
    """Starts a role again whenever it has ended, as a supervisor would."""

    def __init__(self, roles: Sequence[Role]) -> None:
        self._roles = roles
        self._locks = {role.name: threading.RLock() for role in roles}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="keeper", daemon=True)
        self.restarts = 0

    def __enter__(self) -> Keeper:
        for role in self._roles:
            role.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(10)

    @contextlib.contextmanager
    def hands_off(self, role: Role) -> Any:
        """While somebody else starts and stops it."""
        with self._locks[role.name]:
            yield

    def forget(self, role: Role) -> None:
        """From now on it may end."""
        self._locks[role.name].acquire()

    def restart(self, role: Role, *, pause_s: float = 0.0) -> float:
        """Ask it to end, start it again; how long the end took."""
        with self.hands_off(role):
            began = time.monotonic()
            role.stop()
            took = time.monotonic() - began
            time.sleep(pause_s)
            role.start()
        return took

    def _keep(self) -> None:
        while not self._over.wait(AGAIN_AFTER_S):
            for role in self._roles:
                lock = self._locks[role.name]
                if not lock.acquire(blocking=False):
                    continue
                try:
                    if not role.running and not self._over.is_set():
                        self.restarts += 1
                        role.succeed()
                    role.bury()
                finally:
                    lock.release()


def worker(queues: str, name: str) -> list[str]:
    words = ["celery", "-A", "botswarm", "worker", "-Q", queues, "-n", f"{name}@chaos"]
    return [*words, "--loglevel", "info"]


def is_alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        os.kill(pid, 0)
        return True
    return False
