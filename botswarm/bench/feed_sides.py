"""What the feed's bench runs beside one another: the daemon, cryptofeed, and bare reading."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
import venv
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

import psutil

from botswarm.bench import stream_server
from botswarm.errors import Unreachable
from botswarm.testing.servers import HOST, SYSTEM_PATH, Server

CONNECTIONS = 10
STREAMS_PER_CONNECTION = 200
CRYPTOFEED = "cryptofeed==2.4.1"
"""The latest; with Python 3.11 it runs as it is."""
INSTALL_S = 900.0
HERE = Path(__file__).parent
PLAIN = {"PATH": SYSTEM_PATH, "PYTHONPATH": str(HERE.parent.parent)}
"""Nothing of the caller's settings: they would measure another configuration."""


class FeedServer(Server):
    """``botswarm run feed`` on the bench's venue, with a ledger of its own and its metrics."""

    name = "feed"

    def __init__(self, venue: stream_server.StreamServer, broker_url: str) -> None:
        super().__init__()
        self._venue = venue
        self._environment = PLAIN | {
            "BOTSWARM_BROKER_URL": broker_url,
            "DATABASE_URL": f"sqlite:///{self.data / 'ledger.db'}",
            "BOTSWARM_FEED_MARKETS": ",".join(venue.symbols),
            "BOTSWARM_FEED_CONNECTIONS_MAX": str(CONNECTIONS),
            "BOTSWARM_FEED_CONNECTIONS_INITIAL": str(CONNECTIONS),
            "BOTSWARM_FEED_STREAMS_PER_CONNECTION_MAX": str(STREAMS_PER_CONNECTION),
            "BOTSWARM_METRICS_PORT": str(self.port),
            "BOTSWARM_LOG_FORMAT": "json",
        }

    def metrics(self) -> dict[str, float]:
        """By the name and labels as Prometheus writes them."""
        try:
            with urllib.request.urlopen(f"http://{HOST}:{self.port}/metrics", timeout=30) as answer:
                lines = answer.read().decode().splitlines()
        except OSError as error:
            raise Unreachable(
                f"the feed that is measured does not tell its metrics: {error}",
                cure="other programs may leave it no processor time: measure on a quiet machine",
            ) from error
        pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}

    def _prepare(self) -> None:
        subprocess.run(
            [sys.executable, "-m", "botswarm", "db", "migrate"],
            env=self._environment,
            cwd=self.data,
            check=True,
            capture_output=True,
        )

    def _launch(self) -> None:
        words = ("run", "feed", "--state-dir", self._venue.state_dir)
        self._run([sys.executable, "-m", "botswarm", *words], environment=self._environment)

    def _is_ready(self) -> bool:
        truth = self._venue.truth()
        return (
            truth["streams"] >= 2 * len(self._venue.symbols)
            and self.log.exists()
            and "leading" in self.log.read_text()
        )


class Cryptofeed:
    """In a virtual environment of its own, which is kept for the next time."""

    name = "cryptofeed"

    def __init__(self, cache: Path, progress: Callable[[str], None]) -> None:
        """Raises Unreachable where it cannot be installed."""
        self.folder = cache / "cryptofeed"
        self.python = self.folder / "bin" / "python"
        self._child: subprocess.Popen[str] | None = None
        if (self.folder / "installed").exists():
            return
        progress(f"installing {CRYPTOFEED} into {self.folder}")
        venv.create(self.folder, with_pip=True, clear=True)
        done = subprocess.run(
            [self.python, "-m", "pip", "install", "--quiet", "--prefer-binary",
             "--disable-pip-version-check", CRYPTOFEED, "aio-pika"],
            capture_output=True, text=True, timeout=INSTALL_S, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise Unreachable(
                f"pip cannot install {CRYPTOFEED}: {done.stderr.strip()[-300:]}",
                cure="try pip by hand; the bench goes on without it",
            )
        (self.folder / "installed").touch()

    def start(self, venue: stream_server.StreamServer, broker_url: str) -> psutil.Process:
        child = subprocess.Popen(
            [self.python, HERE / "cryptofeed_feed.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=self.folder,
            env=PLAIN,
        )
        self._child = child
        wish = {
            "stream_url": venue.stream_url,
            "rest_url": venue.rest_url,
            "broker_url": f"{broker_url}/",
            "symbols": venue.symbols,
        }
        _stdin(child).write(json.dumps(wish) + "\n")
        _stdin(child).flush()
        return psutil.Process(child.pid)

    def stop(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            _stdin(self._child).close()
            self._child = None


class Ceiling:
    """A process that only reads and decodes."""

    def __init__(self, venue: stream_server.StreamServer) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-m", "botswarm.bench.feed_ceiling", venue.stream_url,
             str(len(venue.symbols)), str(CONNECTIONS)],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.process = psutil.Process(self._child.pid)

    def frames(self) -> int:
        """Read so far, as of a moment ago."""
        assert self._child.stdout is not None
        return int(self._child.stdout.readline())

    def stop(self) -> None:
        self._child.kill()
        self._child.wait()
        assert self._child.stdout is not None
        self._child.stdout.close()


def busy_s(process: psutil.Process) -> float:
    """Processor time, user and system, of it and what it has started."""
    total = 0.0
    for each in (process, *process.children(recursive=True)):
        try:
            times = each.cpu_times()
            total += times.user + times.system
        except psutil.NoSuchProcess:
            continue
    return total


def quantile_ms(before: Mapping[str, float], after: Mapping[str, float], share: float) -> float:
    """Of the latency of trades and quotes, as Prometheus reckons it from its buckets."""
    counts: dict[float, float] = {}
    for name, value in after.items():
        if not name.startswith("botswarm_event_latency_ms_bucket"):
            continue
        if 'type="trade"' not in name and 'type="quote"' not in name:
            continue
        bound = float(name.split('le="')[1].split('"')[0])
        counts[bound] = counts.get(bound, 0.0) + value - before.get(name, 0.0)
    bounds = sorted(counts)
    wanted, low, below = share * counts[bounds[-1]] if bounds else 0.0, 0.0, 0.0
    for bound in bounds:
        if counts[bound] >= wanted > 0:
            within = (wanted - below) / max(counts[bound] - below, 1e-9)
            return bound if bound == float("inf") else low + (bound - low) * within
        low, below = bound, counts[bound]
    return 0.0


def _stdin(child: subprocess.Popen[str]) -> IO[str]:
    assert child.stdin is not None
    return child.stdin
