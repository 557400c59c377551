"""Twenty secrets in a swarm that runs, fails and is watched by Flower: none of them leaves it.

``python -m tests.campaign.canaries`` (RabbitMQ, PostgreSQL, Redis); ``--embedded`` needs none.

Searched: everything any process logged or printed, every table, every task event, every command
line of every process as seen again and again, Flower's pages and API, Redis, and the tracebacks of
commands that fail; in plain, URL-encoded, hexadecimal, reversed and in base64 at any offset.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import http.client
import json
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from redis import Redis
from sqlalchemy import create_engine, text

from botswarm.exchanges.simulated import record
from botswarm.testing.servers import (
    PostgreSQLServer,
    RabbitMQServer,
    RedisServer,
    free_port,
)
from tests.campaign.canary_forms import leaks
from tests.e2e.swarm import Swarm, until

WATCH_EVERY_S = 0.2
REDIS, FLOWER = "Redis' password", "Flower's password"
FLOWER_PAGES = ("/", "/workers", "/tasks", "/broker", "/api/workers", "/api/tasks",
                "/api/task/types", "/api/queues/length", "/metrics")  # fmt: skip


@dataclass(slots=True)
class Report:
    secrets: int = 0
    characters: dict[str, int] = field(default_factory=dict)
    leaks: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        places = [f"{name}: {count} characters" for name, count in self.characters.items()]
        said = f"{self.secrets} secrets, {len(places)} places: {len(self.leaks)} leaks"
        return "\n".join([*places, said, *self.leaks])


def run(folder: Path, *, embedded: bool, run_s: float = 10.0) -> Report:
    canaries: dict[str, str] = {}
    with _servers(canaries, embedded) as settings:
        swarm = Swarm(folder, {**settings, **_settings(folder, canaries)})
        commands = Commands()
        watching = threading.Event()
        seen: set[str] = set()
        watcher = threading.Thread(target=_watch, args=(folder, seen, watching))
        watcher.start()
        try:
            places = _play(swarm, canaries, commands, run_s)
        finally:
            watching.set()
            watcher.join()
            swarm.end()
    places["command lines"] = "\n".join(seen)
    for pattern in ("*.log", "botswarm-error*"):
        places |= {each.name: each.read_text(errors="replace") for each in folder.glob(pattern)}
    places |= {
        path.name: path.read_text(errors="replace") for path in folder.glob("botswarm-error*")
    }
    report = Report(len(canaries), {name: len(found) for name, found in sorted(places.items())})
    report.leaks = leaks(places, canaries)
    return report


# --- the secrets ----------------------------------------------------------------------------------


def _canary(kind: str) -> str:
    return f"{kind}{secrets.token_hex(10)}"


def _settings(folder: Path, canaries: dict[str, str]) -> dict[str, str]:
    canaries["master key"] = base64.b64encode(secrets.token_bytes(32)).decode()
    canaries[FLOWER] = _canary("flower")
    file = folder / "master"
    file.write_text(canaries["master key"])
    file.chmod(0o600)
    return {
        "BOTSWARM_MASTER_KEY_FILE": str(file),
        "BOTSWARM_LOG_LEVEL": "debug",
        # Asked in vain, for ever: what fails says most.
        "BOTSWARM_BINANCE_REST_URL": f"http://127.0.0.1:{free_port()}",
        "BOTSWARM_BINANCE_WS_API_URL": f"ws://127.0.0.1:{free_port()}",
        "BOTSWARM_COINBASE_REST_URL": f"http://127.0.0.1:{free_port()}",
        "BOTSWARM_KRAKEN_REST_URL": f"http://127.0.0.1:{free_port()}",
        "TMPDIR": str(folder),
    }


@contextlib.contextmanager
def _servers(canaries: dict[str, str], embedded: bool) -> Iterator[dict[str, str]]:
    if embedded:
        yield {}
        return
    with RabbitMQServer() as rabbitmq, PostgreSQLServer() as postgresql, RedisServer() as redis:
        postgresql.create_database("swarm")
        canaries["PostgreSQL's password"] = postgresql.password
        canaries["RabbitMQ's password"] = rabbitmq.password
        canaries[REDIS] = _canary("redis")
        port = redis.port
        Redis(port=port).config_set("requirepass", canaries[REDIS])
        yield {
            "DATABASE_URL": postgresql.url("swarm"),
            "CLOUDAMQP_URL": rabbitmq.url(),
            "BOTSWARM_BROKER_MANAGEMENT_URL": rabbitmq.management_url,
            "REDIS_URL": f"redis://:{canaries[REDIS]}@127.0.0.1:{port}/0",
        }


ACCOUNTS = (
    ("binance:main", "testnet", False),
    ("binance:second", "testnet", False),
    ("binance:third", "live", False),
    ("coinbase:main", "live", True),
    ("kraken:main", "live", True),
)


# --- what happens ---------------------------------------------------------------------------------


@dataclass(slots=True)
class Commands:
    said: list[str] = field(default_factory=list)

    def run(self, swarm: Swarm, *words: str, given: str = "", **environ: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "botswarm", *words],
            input=given,
            capture_output=True,
            text=True,
            cwd=swarm.folder,
            env={**swarm.environment, **environ},
            timeout=120,
            check=False,
        )
        self.said += [done.stdout, done.stderr]


def _play(
    swarm: Swarm, canaries: dict[str, str], commands: Commands, run_s: float
) -> dict[str, str]:
    up = swarm.open("botswarm", "up", name="up")
    swarm.first_fill(up, 120)
    card = record.read(swarm.state_dir)
    assert card is not None
    canaries["the simulated exchange's key"] = card.api_key
    canaries["the simulated exchange's secret"] = card.api_secret
    for account, kind, has_passphrase in ACCOUNTS:
        _add(swarm, canaries, commands, account, kind, has_passphrase)
    _rotate(swarm, canaries, commands)
    port = free_port()
    flower = _watched_by_flower(swarm, canaries, port)
    _fail(swarm, canaries, commands)
    time.sleep(run_s)
    places = {f"Flower {path}": _fetched(port, path, canaries) for path in FLOWER_PAGES}
    assert any('"celery@' in page or "orders" in page for page in places.values()), flower
    places["commands"] = "\n".join(commands.said)
    places["tables"] = _tables(swarm)
    places["Redis"] = _redis(swarm.settings.get("REDIS_URL"))
    return places


def _add(
    swarm: Swarm,
    canaries: dict[str, str],
    commands: Commands,
    account: str,
    kind: str,
    has_passphrase: bool,
) -> None:
    given = {"key": _canary("key"), "secret": _canary("secret")}
    if has_passphrase:
        given["passphrase"] = _canary("phrase")
    canaries.update({f"{account}'s {what}": value for what, value in given.items()})
    words = ("account", "add", account, "--kind", kind)
    # Refused at first, because the venue cannot be asked: that says much, too.
    commands.run(swarm, "-v", *words, given=json.dumps(given))
    commands.run(swarm, "-v", *words, "--no-test", given=json.dumps(given))
    commands.run(swarm, "-v", "account", "test", account)


def _rotate(swarm: Swarm, canaries: dict[str, str], commands: Commands) -> None:
    given = {"key": _canary("key"), "secret": _canary("secret")}
    canaries.update({f"the rotated {what}": value for what, value in given.items()})
    words = ("account", "rotate", "binance:second", "--no-test")
    commands.run(swarm, "-v", *words, given=json.dumps(given))


def _fail(swarm: Swarm, canaries: dict[str, str], commands: Commands) -> None:
    """Commands of which each meets something broken that holds a secret."""
    canaries["a wrong database's password"] = wrong = _canary("wrong")
    port = free_port()
    url = f"postgresql://somebody:{wrong}@127.0.0.1:{port}/nothing"
    for words in (("status",), ("doctor",), ("ledger", "verify"), ("config", "show", "--origin")):
        commands.run(swarm, "-v", *words, DATABASE_URL=url)
    commands.run(swarm, "-v", "status", REDIS_URL=f"redis://:{wrong}@127.0.0.1:{port}/0")
    commands.run(swarm, "-v", "doctor", CLOUDAMQP_URL=f"amqp://somebody:{wrong}@127.0.0.1:{port}/")
    commands.run(swarm, "-v", "account", "list")
    commands.run(swarm, "-v", "account", "list", "--json")
    commands.run(swarm, "-v", "secrets", "status")
    commands.run(swarm, "config", "verify", BOTSWARM_MASTER_KEY=f"not a key {wrong}")
    commands.run(swarm, "-v", "account", "test", "kraken:main", BOTSWARM_MASTER_KEY=wrong)


# --- where it is looked for -----------------------------------------------------------------------


def _watch(folder: Path, seen: set[str], stop: threading.Event) -> None:
    """Command lines of all processes there are, not only of ours."""
    while not stop.wait(WATCH_EVERY_S):
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.cwd() == str(folder):
                    seen.add(" ".join(process.cmdline()))


def _watched_by_flower(swarm: Swarm, canaries: Mapping[str, str], port: int) -> str:
    """With events on, and another who prints every event."""
    environ = {
        "FLOWER_BASIC_AUTH": f"admin:{canaries[FLOWER]}",
        "FLOWER_PORT": str(port),
        "FLOWER_ADDRESS": "127.0.0.1",
        "FLOWER_UNAUTHENTICATED_API": "true",
    }
    if management := swarm.settings.get("BOTSWARM_BROKER_MANAGEMENT_URL"):
        environ["FLOWER_BROKER_API"] = management
    watched = Swarm(swarm.folder, {**swarm.settings, **environ}, swarm.shells)
    watched.open("celery", "-A", "botswarm", "flower", name="flower")
    watched.open("celery", "-A", "botswarm", "events", "--dump", name="events")
    until(lambda: _fetched(port, "/", canaries), "Flower to answer", 60)
    return str(port)


def _fetched(port: int, path: str, canaries: Mapping[str, str]) -> str:
    token = base64.b64encode(f"admin:{canaries[FLOWER]}".encode()).decode()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", path, headers={"Authorization": f"Basic {token}"})
        return connection.getresponse().read().decode(errors="replace")
    except OSError:
        return ""
    finally:
        connection.close()


def _tables(swarm: Swarm) -> str:
    """Every value of every row; bytes as text and in hexadecimal."""
    url = swarm.settings.get("DATABASE_URL", f"sqlite:///{swarm.state_dir / 'ledger.db'}")
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg2://"))
    lines = []
    with engine.connect() as connection:
        of_sqlite = "SELECT name FROM sqlite_master WHERE type = 'table'"
        of_postgresql = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        names = connection.execute(
            text(of_sqlite if url.startswith("sqlite") else of_postgresql)
        ).scalars()
        for name in list(names):
            everything = f'SELECT * FROM "{name}"'  # noqa: S608 - the database's own names
            for row in connection.execute(text(everything)):
                lines.append(f"{name}: {[_shown(value) for value in row]}")
    engine.dispose()
    return "\n".join(lines)


def _shown(value: object) -> str:
    if isinstance(value, bytes | memoryview):
        raw = bytes(value)
        return f"{raw.decode(errors='replace')} {raw.hex()}"
    return str(value)


def _redis(url: str | None) -> str:
    if url is None:
        return ""
    client = Redis.from_url(url)
    found = []
    for key in client.scan_iter():
        with contextlib.suppress(Exception):  # of another type than text
            found.append(f"{key!r}: {client.get(key)!r}")
    return "\n".join(found)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--embedded", action="store_true")
    parser.add_argument("--for", dest="run_s", type=float, default=10.0)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="canaries-") as folder:
        report = run(Path(folder), embedded=wanted.embedded, run_s=wanted.run_s)
    print(report)
    return 1 if report.leaks else 0


if __name__ == "__main__":
    sys.exit(main())
