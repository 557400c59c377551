"""Takes each thing away that a process needs, and measures how soon its health says so.

``python -m tests.campaign.health_faults`` prints a line for each: what was taken away and how, the
code that /readyz and /health answered, after how long, and after how long all was well again.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from botswarm.config import Settings, load
from botswarm.errors import BotswarmError
from botswarm.health import ask, card
from botswarm.health.ask import Said
from botswarm.health.broker import Broker
from botswarm.health.machine import WallClock
from botswarm.health.process import Health
from botswarm.health.servers import LedgerLook, Redis, VenuesLook
from botswarm.testing.exchange import SimulatedExchangeServer
from botswarm.testing.servers import (
    EmbeddedBrokerServer,
    PostgreSQLServer,
    RedisServer,
    Server,
    wait_until,
)
from tests.integration.feed_process import FeedProcess

SEEN_S = 10.0
PATIENCE_S = 120.0
"""How long the campaign itself waits before it gives up."""


@dataclass(frozen=True, slots=True)
class Result:
    what: str
    check: str
    ready: int
    health: int
    seen_s: float
    clear_s: float


@dataclass(frozen=True, slots=True)
class Fault:
    what: str
    check: str
    take: Callable[[], None]
    give_back: Callable[[], None]
    process: str = "probe"


class Clock:
    """The wall clock of the process that is asked; somebody may set it."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s


class Stage:
    """One process with everything it needs, and a feed beside it."""

    def __init__(self, folder: Path) -> None:
        self.state_dir = folder
        self.postgresql, self.redis = PostgreSQLServer(), RedisServer()
        self.broker, self.exchange = EmbeddedBrokerServer(), SimulatedExchangeServer()
        self.clock = Clock()
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Stage:
        servers: tuple[Server, ...] = (self.postgresql, self.redis, self.broker, self.exchange)
        for server in servers:
            self._stack.enter_context(server)
        url = self.postgresql.ledger_url()
        self.settings: Settings = load(
            environ={
                "BOTSWARM_STATE_DIR": str(self.state_dir),
                "BOTSWARM_DATABASE_URL": url,
                "BOTSWARM_REDIS_URL": self.redis.url(),
                "BOTSWARM_BROKER_URL": self.broker.url(),
            }
        ).settings
        health = Health(self.settings, "worker", "probe")
        health.check("ledger", LedgerLook(self.settings.database_url), is_needed=True)
        broker = Broker(lambda: self.settings.broker_url, "health faults")
        health.check("broker", broker.look, is_needed=True)
        redis = Redis(self.settings.redis_url) if self.settings.redis_url else None
        assert redis is not None
        health.check("redis", redis.look)
        health.check("venues", VenuesLook(lambda: [("simulated", self.exchange.card.rest_url)]))
        health.check("clock", WallClock(wall=self.clock))
        # After the threads that ask over them have ended.
        self._stack.callback(broker.forget)
        self._stack.callback(redis.forget)
        self._stack.enter_context(health)
        # Its cards are beside ours, and the exchange's address where it looks for it.
        shutil.copy(self.exchange.state_dir / "exchange.json", self.state_dir / "exchange.json")
        self.feed = FeedProcess(
            self.state_dir, self.broker.url(), database_url=self.postgresql.url()
        )
        self._stack.enter_context(self.feed)
        return self

    def __exit__(self, *trouble: object) -> None:
        self._stack.close()

    # --- what is taken away ---------------------------------------------------------------

    def faults(self) -> Iterator[Fault]:
        for name, server, check in (
            ("ledger", self.postgresql, "ledger"),
            ("broker", self.broker, "broker"),
            ("redis", self.redis, "redis"),
            ("venue", self.exchange, "venues"),
        ):
            yield Fault(f"{name} killed", check, server.kill, server.start)
            yield Fault(
                f"{name} frozen",
                check,
                _signalling(server, signal.SIGSTOP),
                _signalling(server, signal.SIGCONT),
            )
        yield Fault(
            "venue killed, as the feed sees it",
            "feed",
            self.exchange.kill,
            self.exchange.start,
            "feed",
        )
        yield Fault("feed killed", "", self.feed.kill, self.feed.start, "feed")
        yield Fault("clock set by an hour", "clock", self._set(3600), self._set(0))
        yield Fault("clock set back a day", "clock", self._set(-86_400), self._set(0))

    def _set(self, seconds: float) -> Callable[[], None]:
        def work() -> None:
            self.clock.ahead_s = seconds

        return work


def _family(pid: int) -> list[int]:
    import psutil

    found = psutil.Process(pid)
    return [pid, *(each.pid for each in found.children(recursive=True))]


def _signalling(server: Server, number: signal.Signals) -> Callable[[], None]:
    def work() -> None:
        for pid in _family(server.pid):
            os.kill(pid, number)

    return work


# --- a disk that fills up, where we may make one --------------------------------------------------


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """Whether ``folder`` is a disk of its own now: that takes rights that not everybody has."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = shutil.which("mount")
    made = (
        mount is not None
        and not subprocess.run(
            [mount, "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder],
            check=False,
            capture_output=True,
        ).returncode
    )
    try:
        yield made
    finally:
        if made:
            subprocess.run(["umount", "-l", folder], check=False, capture_output=True)


def filling(folder: Path) -> Fault:
    big = folder / "big"

    def fill() -> None:
        with contextlib.suppress(OSError), big.open("wb") as file:
            while True:
                file.write(b"\0" * 1_000_000)

    return Fault("disk filled", "disk", fill, lambda: big.unlink())


# --- one fault ------------------------------------------------------------------------------------


def asked(state_dir: Path, process: str, page: str) -> Said:
    found = [each for each in card.found(state_dir) if each.card.name == process]
    assert found, f"{process} has no card"
    return ask.ask(found, page, limit_s=5.0)[0]


def is_well(state_dir: Path, process: str) -> bool:
    return asked(state_dir, process, "/health").code == 200


def tried(fault: Fault, state_dir: Path) -> Result:
    wait_until(lambda: is_well(state_dir, fault.process), f"{fault.process} to be well", PATIENCE_S)
    began = time.monotonic()
    fault.take()
    try:
        wait_until(lambda: _is_seen(fault, state_dir), f"{fault.what} to be seen", PATIENCE_S)
        seen_s = time.monotonic() - began
        ready, health = (
            asked(state_dir, fault.process, page).code for page in ("/readyz", "/health")
        )
    finally:
        back = time.monotonic()
        fault.give_back()
    wait_until(lambda: is_well(state_dir, fault.process), f"{fault.what} to clear", PATIENCE_S)
    return Result(fault.what, fault.check, ready, health, seen_s, time.monotonic() - back)


def _is_seen(fault: Fault, state_dir: Path) -> bool:
    said = asked(state_dir, fault.process, "/health/detailed")
    if not said.process.is_alive:
        return True
    failed = [each.name for each in said.checks if each.status == "fail"]
    return said.code == 503 and fault.check in failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="faults whose name holds this")
    chosen = parser.parse_args().only
    late = 0
    with tempfile.TemporaryDirectory(prefix="botswarm-health-") as name:
        folder = Path(name) / "state"
        with small_disk(folder) as has_disk, Stage(folder) as stage:
            faults = [*stage.faults(), *([filling(folder)] if has_disk else [])]
            for fault in [each for each in faults if chosen in each.what]:
                result = tried(fault, folder)
                late += result.seen_s > SEEN_S
                print(
                    f"{result.what:35} {result.check:8} readyz {result.ready} health "
                    f"{result.health}  seen after {result.seen_s:5.1f} s, well again after "
                    f"{result.clear_s:5.1f} s",
                    flush=True,
                )
    print(f"{late} seen after more than {SEEN_S:g} s")
    return 1 if late else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BotswarmError as error:
        sys.exit(f"{error}; {error.cure}")
