"""One process's health: its work, its checks and its figures, and the port where it tells them."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from prometheus_client.metrics_core import Metric

from botswarm import __version__, exposition, forks, logs, metrics
from botswarm.clock import Clock, SystemClock
from botswarm.config import SecretMask, Settings
from botswarm.errors import BotswarmError, Unreachable
from botswarm.families import Rows, Samples, Source
from botswarm.health import card as cards
from botswarm.health import machine
from botswarm.health.access import access_log
from botswarm.health.card import ProcessCard
from botswarm.health.check import STATUSES, Check
from botswarm.health.host import Host
from botswarm.health.pages import Pages
from botswarm.health.round_trips import RoundTrips
from botswarm.health.sampler import Process, Sampler, whole
from botswarm.health.seat import Seat
from botswarm.health.server import PORTS_TRIED, Answer, Answering, Server, listen
from botswarm.health.table import BY_NAME, WORK
from botswarm.health.usage import Usage
from botswarm.health.watch import Finding, Look, Watch
from botswarm.health.watchers import WATCHERS
from botswarm.ledger import plain
from botswarm.tally import TALLY

logger = logging.getLogger(__name__)

TIMED = ("ledger", "broker", "redis")
"""Checks whose value is how long a server took to answer."""


class Pulse:
    """One line of work: it marks each turn it has really taken, and its silence is noticed."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._at = clock.monotonic()

    def mark(self) -> None:
        self._at = self._clock.monotonic()

    def age_s(self) -> float:
        return self._clock.monotonic() - self._at


class Health:
    """Put together while a process starts: first what it is asked, then ``start``.

    Nothing here ends or holds up the process: what cannot be told is said in the log.
    """

    def __init__(
        self,
        settings: Settings,
        role: str,
        name: str = "",
        *,
        queues: Sequence[str] = (),
        clock: Clock | None = None,
    ) -> None:
        self._settings = settings
        self._role, self._name, self._queues = role, name or role, tuple(queues)
        logs.play(self._name)
        self._clock = clock or SystemClock()
        self._began, self._began_at = self._clock.monotonic(), self._clock.now()
        self._work: dict[str, Callable[[], float]] = {}
        self._watch = Watch(self._clock, SecretMask(settings.secrets))
        self.round_trips = RoundTrips()
        self._sources: list[Source] = [self.round_trips]
        self._host = Host(settings.state_dir)
        self._sampler = Sampler([self._host])
        self._threads: list[tuple[str, Callable[[], None]]] = []
        self._registry = exposition.registry(self._families, self._sampler.of_process)
        self._facts: list[Callable[[], Mapping[str, Any]]] = [self.round_trips.facts]
        self._usage = Usage()
        self._work_since = self._began_at, "ok"
        self._seat: Seat | None = None
        self._servers: list[Server] = []
        self.card = self._made_card(self._name, "", 0)
        self._add_machine()

    # --- what it is asked -----------------------------------------------------------------

    def pulse(self, name: str) -> Pulse:
        made = Pulse(self._clock)
        self.work_of(name, made.age_s)
        return made

    def work_of(self, name: str, age_s: Callable[[], float]) -> None:
        """A line of work that says by itself when it last got on, in seconds ago."""
        self._work[name] = age_s

    def check(self, name: str, look: Look, *, is_needed: bool = False) -> None:
        """Have a line of the table asked here; without what ``is_needed`` it cannot work."""
        if self._is_timed(name):
            look = self.round_trips.measured(name, look)
        self._watch.add(BY_NAME[name], look, is_needed=is_needed)

    def _is_timed(self, name: str) -> bool:
        """No network lies between us and a file."""
        is_file = name == "ledger" and plain.is_sqlite(self._settings.database_url)
        return name in TIMED and not is_file

    def source(self, source: Source, *, is_sampled: bool = False) -> None:
        """``is_sampled`` is one that reads files: asked now and then, not by whoever scrapes."""
        (self._sampler.sources if is_sampled else self._sources).append(source)

    def facts_of(self, facts: Callable[[], Mapping[str, Any]]) -> None:
        """Further parts of the page of health."""
        self._facts.append(facts)

    def thread(self, name: str, target: Callable[[], None]) -> None:
        """Have it run from the start on; where nobody may ask, nobody looks."""
        self._threads.append((name, target))

    def _add_machine(self) -> None:
        folder = self._settings.state_dir
        self.check("disk", lambda: machine.disk(folder))
        self.check("memory", machine.memory)
        self.check("cpu", machine.Processor())

    # --- from start to end ----------------------------------------------------------------

    def start(self) -> None:
        if not self._settings.health_enable:
            return
        try:
            self._begin()
        except (OSError, BotswarmError) as error:
            cure = getattr(error, "cure", "") or "mend the permissions of the state folder"
            logger.error("nobody can ask this process how it is: %s; %s", error, cure)

    def __enter__(self) -> Health:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _begin(self) -> None:
        seat: Seat | None = None
        try:
            seat = Seat(self._settings.state_dir, self._name)
        except OSError as error:
            logger.warning("this process has no card, commands will not find it: %s", error)
        host, last = self._settings.health_host, seat.last.port if seat and seat.last else None
        listener = listen(host, _ports(last, self._settings.health_port))
        pages = self._pages()
        self._servers = [self._server(listener, pages)]
        self.card = self._made_card(seat.name if seat else self._name, host, self._servers[0].port)
        if self._settings.metrics_port:
            self._listen_besides(host, pages)
        self._sampler.sources.append(Process(self._usage))
        self._sampler.start()
        for name, target in self._threads:
            WATCHERS.start(name, target)
        self._watch.start()
        for server in self._servers:
            server.start()
        if seat is not None:
            self._seat = seat
            self._write_card(seat)
        where = ", ".join(f"http://{host}:{server.port}" for server in self._servers)
        logger.info("health and metrics of %s: %s", self.card.name, where)

    def _listen_besides(self, host: str, pages: Answering) -> None:
        """Without it the same pages are on the other port."""
        cure = "choose others with BOTSWARM_METRICS_PORT; 0 opens none"
        try:
            more = listen(host, _ports(None, self._settings.metrics_port), cure)
        except Unreachable as error:
            logger.error("there is no further port for metrics: %s; %s", error, error.cure)
            return
        self._servers.append(self._server(more, pages))

    def _server(self, listener: socket.socket, pages: Answering) -> Server:
        return Server(listener, pages, access_log(self._settings.health_access_log))

    def _write_card(self, seat: Seat) -> None:
        try:
            seat.write(self.card)
        except OSError as error:
            logger.warning("this process has no card, commands will not find it: %s", error)

    def stop(self) -> None:
        self._work.clear()
        self._watch.stop()
        self._sampler.stop()
        self._host.release()
        for server in self._servers:
            server.close()
        if self._seat is not None:
            self._seat.leave()
            self._seat = None

    def _pages(self) -> Answering:
        pages = Pages(self, self.metrics, self.targets)
        for usual, wanted in (
            ("/metrics", self._settings.metrics_path),
            ("/health", self._settings.health_path),
        ):
            if wanted != usual:
                pages.also(usual, wanted)
        return Timed(pages)

    def _made_card(self, name: str, host: str, port: int) -> ProcessCard:
        return ProcessCard(
            name=name,
            role=self._role,
            queues=self._queues,
            pid=os.getpid(),
            host="127.0.0.1" if host in ("0.0.0.0", "") else "::1" if host == "::" else host,  # noqa: S104 - asked, not bound
            port=port,
            machine=socket.gethostname(),
            instance_id=self._settings.instance_id,
            version=__version__,
            started_at=self._began_at.isoformat(timespec="seconds"),
        )

    # --- what it tells --------------------------------------------------------------------

    def work(self) -> Check:
        ages = {name: age_s() for name, age_s in list(self._work.items())}
        slowest = max(ages, key=lambda name: ages[name], default=None)
        age_s = 0.0 if slowest is None else ages[slowest]
        words = "nothing to do" if slowest is None else f"{slowest}: {age_s:.1f} s ago"
        status = WORK.judged(Finding(words=words, value=age_s))
        if status != self._work_since[1]:
            self._work_since = self._clock.now(), status
        return Check(
            name=WORK.name,
            status=status,
            words=words,
            cure="" if status == "ok" else WORK.cure,
            value=round(age_s, 3),
            unit=WORK.unit,
            since=self._work_since[0],
            is_needed=True,
        )

    def checks(self) -> Sequence[Check]:
        return self._watch.checks()

    def facts(self) -> Mapping[str, Any]:
        facts: dict[str, Any] = {"memory": self._memory()}
        redis = next((each for each in self.checks() if each.name == "redis"), None)
        if redis is not None:
            is_well = redis.status != "fail"
            facts["redis"] = {
                "connected": is_well,
                "latency": redis.value,
                "error": None if is_well else redis.words,
            }
        for more in self._facts:
            facts |= more()
        return facts

    def _memory(self) -> Mapping[str, Any]:
        used, known = self._usage.memory_bytes(), machine.memory_bytes()
        total = known[0] if known else 0
        share = round(100 * used / total, 2) if total else None
        return {"used": used, "total": total, "percentage": share}

    def uptime_s(self) -> float:
        return self._clock.monotonic() - self._began

    def targets(self) -> object:
        """Every process of this machine, as Prometheus' service discovery over HTTP reads it.

        One that was killed is among them: left out, its silence would be noticed by nobody.
        """
        found = cards.found(self._settings.state_dir)
        answering = {each.card.address for each in found if each.is_alive}
        return [
            {
                "targets": [each.card.address],
                "labels": {
                    "process": each.card.name,
                    "instance_type": each.card.role,
                    "environment": self._settings.env,
                },
            }
            for each in found
            if each.is_alive or each.card.address not in answering
        ]

    def metrics(self, accept: str = "") -> Answer:
        # A child that is forked meanwhile would find our locks taken.
        with forks.held_off():
            body, kind = exposition.page(self._registry, accept)
        return Answer(200, body, kind)

    def _families(self) -> Iterable[Metric]:
        return exposition.families(self._samples())

    def _samples(self) -> Iterable[Samples]:
        yield from exposition.counted(metrics.COUNTED)
        yield from self._of_process()
        yield from self._of_checks()
        yield from self._sampler.collect()
        for source in self._sources:
            yield from whole(source.collect)

    def _of_process(self) -> Iterable[Samples]:
        card = self.card
        yield Samples(metrics.BUILD_INFO, [((card.name, card.role, card.version), 1.0)])
        yield Samples(metrics.UPTIME_SECONDS, [((), self.uptime_s())])
        yield Samples(metrics.THREADS, [((), float(threading.active_count()))])
        yield Samples(metrics.WATCHING_CPU_SECONDS, [((), WATCHERS.cpu_s())])
        yield Samples(metrics.COUNTS_LEFT_OUT, [((), float(TALLY.left_out))])

    def _of_checks(self) -> Iterable[Samples]:
        work = self.work()
        checks = [work, *self.checks()]
        yield Samples(metrics.WORK_AGE_SECONDS, [((), work.value or 0.0)])
        levels: Rows = [((each.name,), float(STATUSES.index(each.status))) for each in checks]
        yield Samples(metrics.HEALTH_CHECK, levels)
        judged: Rows = [
            ((each.name, each.unit), each.value) for each in checks if each.value is not None
        ]
        yield Samples(metrics.HEALTH_VALUE, judged)


class Timed:
    """Counts the pages that are asked for, and how long each takes to make."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    def __call__(self, path: str, accept: str = "") -> Answer | None:
        began = time.monotonic()
        answer = self._pages(path, accept)
        if answer is not None:
            page = self._pages.name_of(path)
            metrics.HTTP_REQUESTS.labels(page, str(answer.status)).inc()
            metrics.HTTP_SECONDS.labels(page).observe(time.monotonic() - began)
        return answer


def _ports(last: int | None, first: int) -> Sequence[int]:
    """That of the last run before all others: who scrapes by address finds us again."""
    usual = range(first, min(first + PORTS_TRIED, 32_768) if first < 32_768 else first + 1)
    return [last, *usual] if last is not None and last in usual else usual
