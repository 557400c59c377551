"""What feeds are tried on: an exchange, a broker, and daemons with networks that can be broken."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from botswarm.config import Secret
from botswarm.ledger import migrate
from botswarm.ledger.session import Database
from botswarm.testing.exchange import SimulatedExchangeServer
from botswarm.testing.proxy import FaultProxy
from botswarm.testing.servers import (
    AmqpServer,
    EmbeddedBrokerServer,
    RabbitMQServer,
    Server,
    wait_until,
)

VENUES = ("binance", "coinbase", "coinbase-exchange", "kraken")
SYMBOLS = ("BTC-USDT", "ETH-USDT", "SOL-USDT")
BROKERS: Mapping[str, Callable[[], AmqpServer]] = {
    "rabbitmq": RabbitMQServer,
    "embedded": EmbeddedBrokerServer,
}
READY_S = 30.0
_HEALTH = re.compile(
    r"stopping; feed (?P<venue>[a-z-]+) .*"
    r"gaps (?P<gaps>\d+) \(trades missed (?P<missed>\d+), recovered (?P<recovered>\d+)\), "
    r"duplicates (?P<duplicates>\d+)"
)


@dataclass(frozen=True, slots=True)
class Counted:
    """What a daemon said of one venue when it was told to stop."""

    gaps: int
    missed: int
    recovered: int
    duplicates: int


class Daemon(Server):
    """``botswarm run feed`` with a state folder and an address of its own, behind proxies."""

    name = "feed"

    def __init__(
        self,
        title: str,
        settings: Mapping[str, str],
        venues: Sequence[str],
        proxies: Mapping[str, FaultProxy],
        address: str,
    ) -> None:
        super().__init__()
        self.title = title
        self.venues = venues
        self.proxies = proxies
        """By venue; the one named broker stands before the broker."""
        self.address = address
        self.starts = 0
        self.database_url = f"sqlite:///{self.data / 'ledger.db'}"
        with contextlib.closing(Database(Secret(self.database_url))) as made:
            migrate.migrate(made, wait_s=0)
        own = {"DATABASE_URL": self.database_url, "BOTSWARM_LOG_FORMAT": "json"}
        self._settings = {**settings, **own}

    def _launch(self) -> None:
        if self.log.exists():
            self.log.replace(self.log.with_suffix(f".{self.starts}.log"))
        self.starts += 1
        plain = {name: value for name, value in os.environ.items() if "BOTSWARM" not in name}
        self._run(
            [sys.executable, "-m", "botswarm", "run", "feed", "--state-dir", self.data / "state"],
            environment=plain | self._settings,
        )

    def _is_ready(self) -> bool:
        text = self.words
        role = text.count("leading") + text.count("standing by")
        return text.count("following") >= len(self.venues) and role >= len(self.venues)

    @property
    def words(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    @property
    def tracebacks(self) -> list[str]:
        """The log files that have one."""
        return [
            path.name for path in self.data.glob("feed*.log") if "Traceback" in path.read_text()
        ]

    def leads(self, venue: str) -> bool:
        """By the last that it said of it."""
        role = ""
        for line in self.words.splitlines():
            if '"leading' in line or '"standing by' in line or "another feed leads" in line:
                role = "leads" if '"leading' in line else "follows"
        return role == "leads"

    def counted(self) -> dict[str, Counted]:
        """Of each venue, once it has been told to stop."""
        return {
            found["venue"]: Counted(*(int(found[name]) for name in Counted.__slots__))
            for found in _HEALTH.finditer(self.words)
        }

    def weigh(self) -> Weight:
        process = psutil.Process(self.pid)
        return Weight(
            time.monotonic(),
            process.memory_info().rss,
            process.num_threads(),
            len(process.net_connections(kind="tcp")),
            process.num_fds(),
        )


@dataclass(frozen=True, slots=True)
class Weight:
    at: float
    rss: int
    threads: int
    sockets: int
    files: int


@dataclass(slots=True)
class Stage:
    exchange: SimulatedExchangeServer
    broker: AmqpServer
    daemons: list[Daemon] = field(default_factory=list)
    venues: Sequence[str] = VENUES


@contextmanager
def set_up(
    broker: str,
    *,
    daemons: int = 2,
    venues: Sequence[str] = VENUES,
    settings: Mapping[str, str] | None = None,
    seed: int = 1,
) -> Iterator[Stage]:
    """Everything runs and every daemon leads or stands by."""
    with ExitStack() as stack:
        options = ["--stream-journal", "--seed", str(seed)]
        exchange = stack.enter_context(SimulatedExchangeServer(options=options))
        served = stack.enter_context(BROKERS[broker]())
        stage = Stage(exchange, served, venues=venues)
        for number in range(daemons):
            daemon = _daemon(stack, stage, number, settings or {})
            stage.daemons.append(stack.enter_context(daemon))
        yield stage


def _daemon(stack: ExitStack, stage: Stage, number: int, settings: Mapping[str, str]) -> Daemon:
    # Each daemon its own address: venues count attempts to connect by it.
    address = f"127.0.0.{number + 2}"
    ports = dict.fromkeys(stage.venues, stage.exchange.card.port) | {"broker": stage.broker.port}
    proxies = {
        name: stack.enter_context(FaultProxy(port, source=address)) for name, port in ports.items()
    }
    broker_url = stage.broker.url().replace(f":{stage.broker.port}", f":{proxies['broker'].port}")
    made = {
        "BOTSWARM_BROKER_URL": broker_url,
        "BOTSWARM_FEED_VENUES": ",".join(stage.venues),
        "BOTSWARM_FEED_MARKETS": ",".join(SYMBOLS),
        **settings,
    }
    card, old = stage.exchange.card, f":{stage.exchange.card.port}"
    urls = {
        "binance": (card.rest_url, card.stream_url),
        "coinbase": (card.coinbase_rest_url, card.coinbase_stream_url),
        "coinbase-exchange": (
            card.coinbase_exchange_rest_url,
            card.coinbase_exchange_stream_url,
        ),
        "kraken": (card.kraken_rest_url, card.kraken_stream_url),
    }
    for venue in stage.venues:
        name, new = venue.upper().replace("-", "_"), f":{proxies[venue].port}"
        for kind, url in zip(("REST", "STREAM"), urls[venue], strict=True):
            made[f"BOTSWARM_{name}_{kind}_URL"] = url.replace(old, new)
    return Daemon(f"feed {number + 1}", made, stage.venues, proxies, address)


def wait_for_roles(daemons: Sequence[Daemon]) -> None:
    wait_until(lambda: all(each._is_ready() for each in daemons), "every role", READY_S)


def folder() -> Path:
    """For a report that outlives the campaign."""
    return Path(tempfile.mkdtemp(prefix="botswarm-campaign-"))
