"""Everything a campaign stands on: servers of its own, links that break, and the swarm's roles."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from botswarm.chaos.campaign import clocks
from botswarm.chaos.campaign.roles import Keeper, Role, worker
from botswarm.chaos.campaign.room import Room
from botswarm.config import Settings, load
from botswarm.errors import BotswarmError
from botswarm.exchanges.simulated import record
from botswarm.ledger.store import Ledger
from botswarm.testing.exchange import SimulatedExchangeServer
from botswarm.testing.proxy import FaultProxy
from botswarm.testing.servers import PostgreSQLServer, RabbitMQServer, RedisServer, Server

DATABASE = "swarm"
SOURCE = Path(__file__).parents[3]
POISON = "botswarm.chaos.campaign.poison"
LIMITS: Mapping[str, str] = {
    "BOTSWARM_LIMIT_OPEN_NOTIONAL_MAX": "1000000",
    "BOTSWARM_LIMIT_POSITION_NOTIONAL_MAX": "1000000",
    "BOTSWARM_LIMIT_OPEN_ORDERS_MAX": "5000",
    "BOTSWARM_LIMIT_ORDERS_PER_MINUTE_MAX": "5000",
    "BOTSWARM_LIMIT_DAILY_LOSS_MAX": "1000000",
    "BOTSWARM_LIMIT_SIGNAL_AGE_MAX_S": "600",
}
"""The gate is not what is tried here, so it lets this load pass."""
ALLOWANCE = ("--orders-per-10s-max", "500", "--weight-per-minute", "30000")
"""Five times what Binance gives: each lost reply has to be proven by questions, and here four of
ten are lost. Storms of 429 and 418 are a fault of their own."""
LINKS = ("ledger", "ledger-orders-1", "ledger-orders-2", "broker", "cache", "venue", "streams")


@dataclass(slots=True, kw_only=True)
class Stage:
    """Servers and roles that run; ``links`` are the proxies between them, by name."""

    folder: Path
    rabbitmq: RabbitMQServer
    postgresql: PostgreSQLServer
    redis: RedisServer
    exchange: SimulatedExchangeServer
    links: Mapping[str, FaultProxy]
    rooms: Mapping[str, Room]
    roles: dict[str, Role] = field(default_factory=dict)
    keeper: Keeper
    ledger: Ledger
    """Straight to the server: what the campaign itself knows is not broken by its own faults."""
    settings: Settings
    skews: list[tuple[float, float]] = field(default_factory=list)
    """When the exchange's clock was set how far off."""
    halted: threading.Event = field(default_factory=threading.Event)
    """The load makes no more orders."""
    hush: threading.Event = field(default_factory=threading.Event)
    """The campaign itself asks the exchange for nothing that its limits would count."""
    burst: list[int] = field(default_factory=list)
    """Orders to be made at once, beside the steady ones."""
    stops: list[float] = field(default_factory=list)
    """How long the slowest role of each rolling restart took to end."""
    feed_mb: list[float] = field(default_factory=list)
    storms: list[Mapping[str, Any]] = field(default_factory=list)
    """Of all the exchanges that ran so far, as far as they were noted."""
    refused: Counter[str] = field(default_factory=Counter)
    """And how often they said no, by code."""

    @property
    def servers(self) -> Mapping[str, Server]:
        """By what faults hold of them."""
        return {
            "ledger": self.postgresql,
            "broker": self.rabbitmq,
            "cache": self.redis,
            "exchange": self.exchange,
        }

    @property
    def workers(self) -> Sequence[Role]:
        return [self.roles["orders-1"], self.roles["orders-2"]]

    @property
    def environment(self) -> Mapping[str, str]:
        return self.roles["beat"].environment

    def command(self, *words: str, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        """One of ours, as a person runs it, past the links."""
        return subprocess.run(
            [sys.executable, "-m", "botswarm", *words],
            env={**self.environment, **_direct(self.rabbitmq, self.postgresql)},
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )

    def note_exchange(self) -> None:
        """Keep what this exchange has counted: the next one begins at zero."""
        self.storms.extend(self.exchange.stream_counts()["storms"])
        self.refused.update(self.exchange.misbehaviour("GET").body["refused"])

    def tell_offset(self, seconds: float) -> None:
        self.skews.append((time.time(), seconds))

    def arm(self, kind: str, **wish: object) -> bool:
        """Whether the exchange took the order to misbehave; it may be down just now."""
        with contextlib.suppress(Exception):
            return self.exchange.arm(kind, **wish).status == 200
        return False


@contextlib.contextmanager
def stage(
    *,
    folder: Path | None = None,
    plugin: str | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Iterator[Stage]:
    """``plugin`` is a module that workers load besides theirs: a planted bug."""
    with contextlib.ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        folder.mkdir(parents=True, exist_ok=True)
        rooms = {name: stack.enter_context(Room(name)) for name in ("postgresql", "rabbitmq")}
        progress("starting RabbitMQ, PostgreSQL, Redis and the simulated exchange")
        postgresql = stack.enter_context(PostgreSQLServer(rooms["postgresql"].path))
        postgresql.create_database(DATABASE)
        rabbitmq = stack.enter_context(RabbitMQServer(rooms["rabbitmq"].path))
        redis = stack.enter_context(RedisServer())
        exchange = stack.enter_context(SimulatedExchangeServer(options=ALLOWANCE))
        servers = postgresql, rabbitmq, redis, exchange
        links = {name: stack.enter_context(FaultProxy(_target(name, *servers))) for name in LINKS}
        state_dir = folder / "state"
        _write_card(state_dir, exchange, links)
        base = _environment(state_dir, rabbitmq, postgresql, redis, links)
        direct = {**base, **_direct(rabbitmq, postgresql)}
        settings = load(environ=direct, folder=folder).settings
        _migrate(folder, direct)
        roles = _roles(folder, base, links, postgresql, plugin)
        ledger = Ledger(settings.database_url)
        stack.callback(ledger.close)
        for role in roles.values():
            stack.callback(role.close)
        keeper = stack.enter_context(Keeper(list(roles.values())))
        progress(f"started {', '.join(roles)}")
        yield Stage(
            folder=folder,
            rabbitmq=rabbitmq,
            postgresql=postgresql,
            redis=redis,
            exchange=exchange,
            links=links,
            rooms=rooms,
            roles=roles,
            keeper=keeper,
            ledger=ledger,
            settings=settings,
        )


def _target(name: str, *servers: Any) -> int:
    postgresql, rabbitmq, redis, exchange = servers
    if name.startswith("ledger"):
        return int(postgresql.port)
    if name == "broker":
        return int(rabbitmq.port)
    return int(redis.port if name == "cache" else exchange.port)


def _through(url: str, link: FaultProxy) -> str:
    """The same address by way of a link."""
    parts = urlsplit(url)
    before, at, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{before}{at}127.0.0.1:{link.port}"))


def _write_card(
    state_dir: Path, exchange: SimulatedExchangeServer, links: Mapping[str, FaultProxy]
) -> None:
    card = exchange.card
    state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    record.write(
        state_dir,
        replace(
            card,
            rest_url=_through(card.rest_url, links["venue"]),
            ws_api_url=_through(card.ws_api_url, links["venue"]),
            stream_url=_through(card.stream_url, links["streams"]),
        ),
    )


def _environment(
    state_dir: Path,
    rabbitmq: RabbitMQServer,
    postgresql: PostgreSQLServer,
    redis: RedisServer,
    links: Mapping[str, FaultProxy],
) -> dict[str, str]:
    return {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}",
        "PYTHONPATH": str(SOURCE),
        "BOTSWARM_STATE_DIR": str(state_dir),
        "BOTSWARM_BROKER_URL": _through(rabbitmq.url(), links["broker"]),
        "BOTSWARM_BROKER_MANAGEMENT_URL": rabbitmq.management_url,
        "BOTSWARM_DATABASE_URL": _through(postgresql.url(DATABASE), links["ledger"]),
        "BOTSWARM_REDIS_URL": _through(redis.url(), links["cache"]),
        "BOTSWARM_LOG_LEVEL": "info",
        "BOTSWARM_LOG_FORMAT": "json",
        **LIMITS,
    }


def _direct(rabbitmq: RabbitMQServer, postgresql: PostgreSQLServer) -> dict[str, str]:
    return {
        "BOTSWARM_BROKER_URL": rabbitmq.url(),
        "BOTSWARM_DATABASE_URL": postgresql.url(DATABASE),
    }


def _migrate(folder: Path, environment: Mapping[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "botswarm", "db", "migrate"],
        env=dict(environment),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise BotswarmError(f"the ledger was not made: {done.stderr.strip()}")


def _roles(
    folder: Path,
    base: Mapping[str, str],
    links: Mapping[str, FaultProxy],
    postgresql: PostgreSQLServer,
    plugin: str | None,
) -> dict[str, Role]:
    include = ["-I", ",".join(filter(None, (POISON, plugin)))]
    roles = {}
    for name in ("orders-1", "orders-2"):
        url = _through(postgresql.url(DATABASE), links[f"ledger-{name}"])
        environment = {**base, "BOTSWARM_DATABASE_URL": url, "BOTSWARM_INSTANCE_ID": name}
        words = [*clocked(folder, name), *worker("orders", name), *include]
        roles[name] = Role(name, words, environment, folder)
    words = worker("risk,ops,backtest", "ops")
    roles["ops"] = Role("ops", words, base, folder)
    roles["strategy"] = Role("strategy", worker("strategy", "strategy"), base, folder)
    roles["feed"] = Role("feed", ["botswarm", "run", "feed"], base, folder)
    roles["beat"] = Role(
        "beat", [*clocked(folder, "beat"), "botswarm", "run", "beat"], base, folder
    )
    return roles


# --- clocks that can be wrong ---------------------------------------------------------------------

CLOCKED = ("orders-2", "beat")


def clock_file(folder: Path, name: str) -> Path:
    return folder / f"{name}.clock"


def clocked(folder: Path, name: str) -> list[str]:
    """The words before a module's own that give it a clock of its own, where it is to have one."""
    if name not in CLOCKED:
        return []
    clocks.tell(clock_file(folder, name), 0)
    return ["botswarm.chaos.campaign.clocks", str(clock_file(folder, name))]
