"""Real servers for tests and benches: each on its own port, with its own data, gone afterwards.

Each is a context manager. ``stop``, ``kill`` and ``start`` may follow one another in any order;
the data folder and the address stay the same until ``close``. ``close`` (or leaving the
``with`` block, or the death of this process) ends the server and forgets its data.
"""

from __future__ import annotations

import atexit
import base64
import contextlib
import http.client
import json
import os
import pwd
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from botswarm.broker import record
from botswarm.errors import NotFound, TimedOut, Unreachable
from botswarm.programs import find_postgresql, find_program, last_will

HOST = "127.0.0.1"

# The kernel hands out source ports from 32768 up. A server that listens there can lose its port
# to a client that retries it while it is down: the client then talks to itself.
PORTS = range(20000, 32000)

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
POLL_S = 0.02

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_handed_out: set[int] = set()
_open_servers: weakref.WeakSet[Server] = weakref.WeakSet()


def free_port() -> int:
    """A port nobody listens on, below the range from which the kernel takes source ports."""
    for _ in range(1000):
        port = random.choice(PORTS)  # noqa: S311 - spreads test runs apart, guards nothing
        if port in _handed_out or _somebody_listens(port):
            continue
        _handed_out.add(port)
        return port
    raise Unreachable(
        f"no free port between {PORTS.start} and {PORTS.stop}",
        cure="end the servers that earlier runs left behind",
    )


def _somebody_listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
    return False


class Server(ABC):
    """What every server here can do; a subclass says how it starts and when it is ready."""

    name: str
    stop_signal = signal.SIGTERM

    def __init__(self, data: Path | None = None) -> None:
        self.host = HOST
        self.port = free_port()
        self._owns_data = data is None
        self.data = data or Path(tempfile.mkdtemp(prefix=f"botswarm-{self.name}-"))
        self.data.mkdir(parents=True, exist_ok=True)
        self.log = self.data / f"{self.name}.log"
        self._processes: list[_Process] = []
        self._prepared = False
        _open_servers.add(self)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.host}:{self.port})"

    @property
    def running(self) -> bool:
        return bool(self._processes) and self._processes[-1].alive

    @property
    def pid(self) -> int:
        """The process that serves; raises Unreachable where none runs."""
        if not self.running:
            raise Unreachable(f"{self.name} is not running", cure="start it first")
        return self._processes[-1].pid

    @property
    def answers(self) -> bool:
        return self.running and self._is_ready()

    def start(self) -> None:
        """Return when clients can really connect; raises Unreachable or TimedOut otherwise."""
        if self.running:
            return
        self._end_processes(None)
        try:
            if not self._prepared:
                self._prepare()
                self._prepared = True
            self._launch()
            wait_until(self._ready_or_dead, f"{self.name} to be ready", START_TIMEOUT_S)
        except BaseException:
            self._end_processes(None)
            raise

    def stop(self) -> None:
        """End it as an operator would, and wait until it is gone."""
        self._end_processes(self.stop_signal)

    def kill(self) -> None:
        """End it as a power cut would: no signal handler runs."""
        self._end_processes(None)

    def restart(self) -> None:
        """Stop and start on the same data and address."""
        self.stop()
        self.start()

    def close(self) -> None:
        """End it and forget its data; a folder that the caller chose is kept in good order."""
        _open_servers.discard(self)
        if self._owns_data:
            self.kill()
            shutil.rmtree(self.data, ignore_errors=True)
        else:
            self.stop()

    def _prepare(self) -> None:  # noqa: B027 - most servers need no preparation
        """Write what must exist before the first start."""

    @abstractmethod
    def _launch(self) -> None:
        """Start the processes; the one that serves comes last."""

    @abstractmethod
    def _is_ready(self) -> bool:
        """Whether a client gets an answer."""

    def _run(
        self,
        command: Sequence[str | Path],
        *,
        environment: Mapping[str, str] | None = None,
        user: str | None = None,
    ) -> None:
        forget = self.data if self._owns_data else None
        self._processes.append(_Process(command, self.log, self.data, environment, user, forget))

    def _ready_or_dead(self) -> bool:
        for process in self._processes:
            if not process.alive:
                raise Unreachable(
                    f"{self.name} ended with code {process.returncode} before it was ready: "
                    f"{self._last_words()}",
                    cure=f"read {self.log}",
                )
        return self._is_ready()

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").split("\n") if self.log.exists() else []
        return " | ".join([line.strip() for line in lines if line.strip()][-5:])

    def _end_processes(self, signal_first: signal.Signals | None) -> None:
        # Last started, first ended: the one that serves needs the others to the end.
        while self._processes:
            self._processes[-1].end(signal_first)
            self._processes.pop()


class _Process:
    """A process group that dies with us, however we die."""

    def __init__(
        self,
        command: Sequence[str | Path],
        log: Path,
        folder: Path,
        environment: Mapping[str, str] | None,
        user: str | None,
        forget: Path | None,
    ) -> None:
        identity: dict[str, Any] = {}
        if user is not None:
            identity = {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}
        with log.open("ab") as output:
            self._child = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=folder,
                env=None if environment is None else dict(environment),
                start_new_session=True,
                **identity,
            )
        self._watcher = last_will(self._child.pid, forget)

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def alive(self) -> bool:
        return self._child.poll() is None

    @property
    def returncode(self) -> int | None:
        return self._child.poll()

    def end(self, signal_first: signal.Signals | None) -> None:
        if signal_first is not None and self.alive:
            self._child.send_signal(signal_first)
            # Whoever outlives this had its chance: the group is killed below.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(STOP_TIMEOUT_S)
        # A group's number is not given out again while anybody is left in it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()
        self._watcher.kill()
        self._watcher.communicate()


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float) -> None:
    """Ask again and again until the answer is yes; raises TimedOut."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimedOut(f"waited {timeout_s:g} s for {what}", cure="see the server's log")
        time.sleep(POLL_S)


def _accepts(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


def _answers_amqp(port: int) -> bool:
    """Whether the broker greets: the first frame is a method frame (Connection.Start)."""
    try:
        with socket.create_connection((HOST, port), timeout=2) as connection:
            connection.sendall(b"AMQP\x00\x00\x09\x01")
            return connection.recv(1) == b"\x01"
    except OSError:
        return False


class AmqpServer(Server):
    """A broker: what the embedded one and RabbitMQ have in common for a client."""

    user: str
    password: str
    management_port: int

    def __init__(self, data: Path | None = None) -> None:
        super().__init__(data)
        self.management_port = free_port()

    def url(self, vhost: str = "/") -> str:
        """An AMQP URL; the vhost "/" is spelled as no path, which every client understands."""
        path = "" if vhost == "/" else "/" + quote(vhost, safe="")
        return f"amqp://{self.user}:{self.password}@{self.host}:{self.port}{path}"

    @property
    def management_url(self) -> str:
        return f"http://{self.user}:{self.password}@{self.host}:{self.management_port}/api/"

    def manage(self, method: str, path: str, body: object | None = None) -> tuple[int, Any]:
        """Ask the management API: ``manage("GET", "queues/%2F")``; status and decoded answer."""
        token = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}
        connection = http.client.HTTPConnection(self.host, self.management_port, timeout=30)
        try:
            connection.request(
                method,
                f"/api/{path}",
                body=None if body is None else json.dumps(body),
                headers=headers,
            )
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        try:
            return response.status, json.loads(text) if text else None
        except ValueError:
            return response.status, text

    def add_vhost(self, name: str) -> None:
        self._must("PUT", f"vhosts/{quote(name, safe='')}")

    def delete_vhost(self, name: str) -> None:
        self._must("DELETE", f"vhosts/{quote(name, safe='')}")

    @abstractmethod
    def raise_memory_alarm(self) -> None:
        """Make the broker block its publishers."""

    @abstractmethod
    def clear_memory_alarm(self) -> None:
        """Let publishers go on."""

    def _must(self, method: str, path: str, body: object | None = None) -> Any:
        status, answer = self.manage(method, path, body)
        if status >= 300:
            raise Unreachable(
                f"{method} /api/{path} was answered {status}: {answer}", cure=f"read {self.log}"
            )
        return answer

    def _is_ready(self) -> bool:
        return _answers_amqp(self.port) and self._answers_http()

    def _answers_http(self) -> bool:
        try:
            return self.manage("GET", "overview")[0] == 200
        except (OSError, http.client.HTTPException):
            return False


class RabbitMQServer(AmqpServer):
    """The machine's RabbitMQ with everything it writes inside ``data``; needs no rights."""

    name = "rabbitmq"

    def __init__(
        self, data: Path | None = None, *, settings: Mapping[str, str] | None = None
    ) -> None:
        """``settings`` are further lines of rabbitmq.conf, by key."""
        super().__init__(data)
        self.user = "botswarm"
        self.password = secrets.token_hex(12)
        self._settings = dict(settings or {})
        self._epmd_port = free_port()
        self._distribution_port = free_port()
        self._node = f"botswarm{self.port}@localhost"
        self._plugins = self.data / "enabled_plugins"
        self._configuration = self.data / "rabbitmq.conf"

    def control(self, *arguments: str) -> str:
        """Run rabbitmqctl on this node and return what it printed."""
        done = subprocess.run(
            [str(self._program("rabbitmqctl")), "--quiet", *arguments],
            # With no node up it would start a name server in the place of the next node's.
            env={**self._environment(), "ERL_FLAGS": "-start_epmd false"},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        if done.returncode != 0:
            raise Unreachable(
                f"rabbitmqctl {' '.join(arguments)} failed: {done.stderr.strip()}",
                cure=f"read {self.log}",
            )
        return done.stdout

    def raise_memory_alarm(self) -> None:
        self.control("set_vm_memory_high_watermark", "0")

    def clear_memory_alarm(self) -> None:
        self.control("set_vm_memory_high_watermark", "0.4")

    def _prepare(self) -> None:
        settings = {
            "listeners.tcp.default": f"{HOST}:{self.port}",
            "management.tcp.ip": HOST,
            "management.tcp.port": str(self.management_port),
            "default_user": self.user,
            "default_pass": self.password,
            "disk_free_limit.absolute": "50MB",
            "log.file.level": "warning",
        } | self._settings
        lines = [f"{key} = {value}\n" for key, value in settings.items()]
        self._configuration.write_text("".join(lines))
        self._plugins.write_text("[rabbitmq_management].\n")

    def _launch(self) -> None:
        server = self._program("rabbitmq-server")
        epmd = find_program("epmd", package="erlang-base")
        # Erlang would start a name server that outlives everything; ours is here first.
        self._run(
            [epmd, "-address", HOST, "-port", str(self._epmd_port)],
            environment=self._environment(),
        )
        wait_until(lambda: _accepts(self._epmd_port), "epmd to listen", START_TIMEOUT_S)
        self._run([server, "-noinput"], environment=self._environment())

    def _program(self, name: str) -> Path:
        # What is on PATH is Debian's wrapper: it insists on the user rabbitmq and on /var.
        folders = ["/usr/lib/rabbitmq/bin", *sorted(map(str, Path("/opt").glob("rabbitmq*/sbin")))]
        return find_program(name, package="rabbitmq-server", folders=folders)

    def _environment(self) -> dict[str, str]:
        erlang = find_program("erl", package="erlang-base")
        return {
            "PATH": f"{erlang.parent}:{SYSTEM_PATH}",
            "HOME": str(self.data),
            "LANG": "C.UTF-8",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": HOST,
            "ERL_CRASH_DUMP": "/dev/null",
            "RABBITMQ_ALLOW_INPUT": "1",  # no shell in between: our child is Erlang itself
            "RABBITMQ_CONF_ENV_FILE": str(self.data / "rabbitmq-env.conf"),
            "RABBITMQ_CONFIG_FILE": str(self._configuration),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.data / "advanced.config"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(self.data / "generated"),
            "RABBITMQ_SCHEMA_DIR": str(self.data / "schema"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._plugins),
            "RABBITMQ_NODENAME": self._node,
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_NODE_IP_ADDRESS": HOST,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_MNESIA_BASE": str(self.data / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.data / "log"),
            "RABBITMQ_PID_FILE": str(self.data / "rabbitmq.pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": ("-kernel inet_dist_use_interface {127,0,0,1}"),
        }


class EmbeddedBrokerServer(AmqpServer):
    """``botswarm broker run`` as a process of its own."""

    name = "embedded-broker"

    def __init__(
        self,
        data: Path | None = None,
        *,
        options: Sequence[str] = (),
        python: Path | None = None,
    ) -> None:
        """``options`` are further words of the command line, such as ``--fsync always``."""
        super().__init__(data)
        self.state_dir = self.data / "state"
        self._options = list(options)
        self._python = python or Path(sys.executable)

    @property
    def user(self) -> str:  # type: ignore[override] # chosen by the broker, not by us
        return self._record().user

    @property
    def password(self) -> str:  # type: ignore[override] # as above
        return self._record().password

    def raise_memory_alarm(self) -> None:
        self._must("PUT", "botswarm/limits", {"memory_high_mb": 0})

    def clear_memory_alarm(self) -> None:
        self._must("PUT", "botswarm/limits", {"memory_high_mb": 512})

    def _record(self) -> record.BrokerRecord:
        found = record.read(self.state_dir)
        if found is None:
            raise Unreachable(f"no broker has run in {self.state_dir}", cure="start it first")
        return found

    def _launch(self) -> None:
        self._run(
            [
                self._python,
                *("-m", "botswarm", "broker", "run"),
                *("--state-dir", self.state_dir),
                *("--port", str(self.port)),
                *("--management-port", str(self.management_port)),
                *self._options,
            ]
        )

    def _is_ready(self) -> bool:
        # The record of the run before may still lie there, with another password.
        found = record.read(self.state_dir)
        return found is not None and found.pid == self.pid and super()._is_ready()


class RedisServer(Server):
    """A Redis that keeps its data in an append-only file."""

    name = "redis"

    def url(self, database: int = 0) -> str:
        return f"redis://{self.host}:{self.port}/{database}"

    def _launch(self) -> None:
        program = find_program("redis-server", package="redis-server")
        self._run(
            [
                program,
                *("--bind", HOST),
                *("--port", str(self.port)),
                *("--dir", self.data),
                *("--save", ""),
                *("--appendonly", "yes"),
                *("--daemonize", "no"),
            ]
        )

    def _is_ready(self) -> bool:
        try:
            with socket.create_connection((HOST, self.port), timeout=2) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(7) == b"+PONG\r\n"
        except OSError:
            return False


class PostgreSQLServer(Server):
    """A PostgreSQL cluster of its own; as root it runs as the user ``postgres``."""

    name = "postgresql"
    stop_signal = signal.SIGINT  # "fast": do not wait for clients to leave

    def __init__(self, data: Path | None = None) -> None:
        super().__init__(data)
        self.user = "botswarm"
        self.password = secrets.token_hex(12)
        self._cluster = self.data / "cluster"
        # PostgreSQL refuses to run as root.
        self._run_as = "postgres" if os.geteuid() == 0 else None

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://{self.user}:{self.password}@{self.host}:{self.port}/{database}"

    def ledger_url(self, database: str = "postgres") -> str:
        """With the name of the driver, as a ledger that is opened without settings takes it."""
        return self.url(database).replace("postgresql://", "postgresql+psycopg2://")

    def create_database(self, name: str) -> None:
        self._query(f'CREATE DATABASE "{name}"')

    def copy_database(self, source: str, name: str) -> None:
        """Nobody may be connected to ``source``."""
        self._query(f'CREATE DATABASE "{name}" TEMPLATE "{source}"')

    def _prepare(self) -> None:
        if self._run_as is not None:
            try:
                shutil.chown(self.data, self._run_as)
            except LookupError:
                raise NotFound(
                    "PostgreSQL refuses to run as root, and there is no user postgres to run it "
                    "(Debian package postgresql)",
                    cure="apt-get install postgresql, or run as an ordinary user",
                ) from None
        secret = self.data / "password"
        secret.write_text(self.password)
        if self._run_as is not None:
            shutil.chown(secret, self._run_as)
        shutil.rmtree(self._cluster, ignore_errors=True)
        self._call(
            self._program("initdb"),
            *("--pgdata", self._cluster),
            *("--username", self.user),
            *("--pwfile", secret),
            *("--auth", "scram-sha-256"),
            *("--encoding", "UTF8", "--no-locale", "--no-sync"),
        )

    def _launch(self) -> None:
        # A killed server's children hold its shared memory for a moment, and it will not start
        # before they are gone.
        pid_file = self._cluster / "postmaster.pid"
        wait_until(
            lambda: not pid_file.exists() or not _children_hold(self._cluster),
            "the last server's processes to end",
            STOP_TIMEOUT_S,
        )
        self._run(
            [
                self._program("postgres"),
                *("-D", self._cluster),
                *("-h", HOST),
                *("-p", str(self.port)),
                *("-k", self.data),
            ],
            environment=self._environment(),
            user=self._run_as,
        )

    def _is_ready(self) -> bool:
        try:
            self._query("SELECT 1")
        except Unreachable:
            return False
        return True

    def _query(self, statement: str) -> None:
        self._call(
            self._program("psql", package="postgresql-client"),
            *("--no-psqlrc", "--quiet", "--dbname", self.url(), "--command", statement),
        )

    def _call(self, program: Path, *arguments: str | Path) -> None:
        done = subprocess.run(
            [str(program), *map(str, arguments)],
            cwd=self.data,
            env=self._environment(),
            user=self._run_as,
            capture_output=True,
            text=True,
            check=False,
            timeout=START_TIMEOUT_S,
        )
        if done.returncode != 0:
            raise Unreachable(
                f"{program.name} failed: {done.stderr.strip()}", cure=f"read {self.log}"
            )

    def _program(self, name: str, *, package: str = "postgresql") -> Path:
        return find_postgresql(name, package=package)

    def _environment(self) -> dict[str, str]:
        return {"PATH": SYSTEM_PATH, "HOME": str(self.data), "LC_ALL": "C"}


def _children_hold(cluster: Path) -> bool:
    """Whether a process still works in this folder (PostgreSQL's processes all do)."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if (entry / "cwd").resolve(strict=True) == cluster.resolve():
                return True
        except OSError:
            continue
    return False


@atexit.register
def _close_all() -> None:
    for server in list(_open_servers):
        server.close()
