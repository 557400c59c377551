"""Whether the servers answer: the ledger, Redis, and those of the venues."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from botswarm import forks
from botswarm.config import Secret
from botswarm.errors import Unreachable
from botswarm.health.check import Status
from botswarm.health.watch import Finding
from botswarm.ledger import plain

LIMIT_S = 2.0
CLIENTS_WARN_SHARE = 0.8
ENCRYPTED_EVERY_S = 15.0
"""A venue is not asked more often: it is heard of by its streams and by reconciliation, too."""


class LedgerLook:
    """PostgreSQL over one connection that is kept. SQLite is opened and closed each time, while
    nobody forks: a child would believe that its parent's locks are its own.
    """

    def __init__(self, url: Secret) -> None:
        self._url = url
        self._connection: Any = None

    def __call__(self) -> Finding:
        began = time.monotonic()
        if plain.is_sqlite(self._url):
            with forks.held_off(), plain.asking(self._url) as ask:
                ask("SELECT name FROM sqlite_master LIMIT 1", ())
        else:
            self._ask()
        took_ms = (time.monotonic() - began) * 1000
        return Finding(words=f"answers in {took_ms:.1f} ms", value=round(took_ms, 1))

    def _ask(self) -> None:
        import psycopg2

        try:
            if self._connection is None:
                self._connection = self._connected()
            with self._connection.cursor() as cursor:
                cursor.execute("SELECT 1")
        except psycopg2.Error as error:
            self._forget()
            words = str(error).strip().partition("\n")[0]
            raise Unreachable(
                f"the ledger at {self._url.masked} does not answer: {words}",
                cure="start it, or correct BOTSWARM_DATABASE_URL: botswarm doctor --only database",
            ) from error

    def _connected(self) -> Any:
        import psycopg2

        connection = psycopg2.connect(
            self._url.reveal().replace("postgresql+psycopg2", "postgresql", 1),
            connect_timeout=2,
            application_name="botswarm health",
            # A server that vanished without a word is noticed, too.
            options=f"-c statement_timeout={int(LIMIT_S * 1000)}",
            tcp_user_timeout=int(LIMIT_S * 1000),
        )
        connection.autocommit = True
        return connection

    def _forget(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.close()


# --- Redis ----------------------------------------------------------------------------------------


class Redis:
    """The few words of its protocol that a check needs: its client would cost megabytes."""

    def __init__(self, url: Secret) -> None:
        self._url = url
        self._socket: socket.socket | None = None
        self._rest = b""

    def look(self) -> Finding:
        began = time.monotonic()
        answer = self.ask("PING")
        took_ms = (time.monotonic() - began) * 1000
        if answer != b"PONG":
            raise self._unusable(f"it answers {answer!r}")
        told = self.info()
        words = [f"answers in {took_ms:.1f} ms"]
        status: Status | None = None
        clients, clients_max = int(told.get("connected_clients", 0)), int(told.get("maxclients", 0))
        if clients_max and clients > CLIENTS_WARN_SHARE * clients_max:
            words.append(f"{clients} of {clients_max} clients")
            status = "warn"
        for name in ("rdb_last_bgsave_status", "aof_last_write_status"):
            if told.get(name, "ok") != "ok":
                words.append(f"{name} is {told[name]}")
                status = "warn"
        return Finding(words=", ".join(words), value=round(took_ms, 1), status=status)

    def info(self) -> Mapping[str, str]:
        answer = self.ask("INFO")
        if not isinstance(answer, bytes):
            return {}
        pairs = (line.split(":", 1) for line in answer.decode(errors="replace").splitlines())
        return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}

    def ask(self, *words: str) -> object:
        """Raises Unreachable; the next question makes another connection then."""
        try:
            if self._socket is None:
                self._connect()
            return self._exchange(*words)
        except (OSError, ValueError) as error:
            self.forget()
            raise self._unusable(str(getattr(error, "strerror", None) or error).lower()) from error

    def _connect(self) -> None:
        parts = urlsplit(self._url.reveal())
        host, port = parts.hostname or "localhost", parts.port or 6379
        made = socket.create_connection((host, port), timeout=LIMIT_S)
        if parts.scheme == "rediss":
            made = ssl.create_default_context().wrap_socket(made, server_hostname=host)
        self._socket, self._rest = made, b""
        if parts.password:
            name = [unquote(parts.username)] if parts.username else []
            self._exchange("AUTH", *name, unquote(parts.password))

    def _exchange(self, *words: str) -> object:
        assert self._socket is not None
        coded = [word.encode() for word in words]
        said = b"*%d\r\n" % len(coded)
        self._socket.sendall(said + b"".join(b"$%d\r\n%b\r\n" % (len(c), c) for c in coded))
        line = self._line()
        kind, rest = line[:1], line[1:]
        if kind == b"+":
            return rest
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self._bytes(int(rest))
        raise ValueError(rest.decode(errors="replace") or "it speaks no Redis")

    def _line(self) -> bytes:
        while b"\r\n" not in self._rest:
            self._more()
        line, _, self._rest = self._rest.partition(b"\r\n")
        return line

    def _bytes(self, length: int) -> bytes:
        while len(self._rest) < length + 2:
            self._more()
        answer, self._rest = self._rest[:length], self._rest[length + 2 :]
        return answer

    def _more(self) -> None:
        assert self._socket is not None
        heard = self._socket.recv(65536)
        if not heard:
            raise ConnectionError("it hung up")
        self._rest += heard

    def forget(self) -> None:
        made, self._socket = self._socket, None
        if made is not None:
            made.close()

    def _unusable(self, words: str) -> Unreachable:
        return Unreachable(
            f"Redis at {self._url.masked} cannot be used ({words})",
            cure="start it, or correct BOTSWARM_REDIS_URL; bots go on without it",
        )


# --- venues ---------------------------------------------------------------------------------------

Addresses = Callable[[], Iterable[tuple[str, str]]]
"""Accounts and the addresses that take their orders."""
Took = Callable[[str, float | None], None]
"""Told how many milliseconds the way to a machine and back takes; None where it is away."""


class VenuesLook:
    """Any answer to a plain request will do: whether it takes orders, reconciliation finds out."""

    def __init__(self, addresses: Addresses, took: Took = lambda peer, took_ms: None) -> None:
        self._addresses = addresses
        self._took = took
        self._known: dict[str, tuple[float, str]] = {}

    def __call__(self) -> Finding:
        silent: list[str] = []
        seen: list[str] = []
        asked: dict[str, str] = {}
        for account, url in self._addresses():
            trouble = asked.get(url)
            if trouble is None:
                trouble = asked[url] = self._asked(url)
            (silent if trouble else seen).append(f"{account} ({trouble})" if trouble else account)
        self._forget_others(asked)
        if silent:
            return Finding(words=f"no answer: {', '.join(silent)}", value=len(silent))
        return Finding(words=f"{', '.join(seen) or 'no account'} can be reached", value=0)

    def _asked(self, url: str) -> str:
        """What is wrong, or nothing."""
        known = self._known.get(url)
        is_young = known is not None and time.monotonic() - known[0] < ENCRYPTED_EVERY_S
        if is_young and known is not None and not known[1] and url.startswith("https:"):
            return ""
        trouble, took_ms = _looked_at(url)
        self._took(_machine_of(url), took_ms)
        self._known[url] = time.monotonic(), trouble
        return trouble

    def _forget_others(self, asked: Collection[str]) -> None:
        """An account that is gone takes with it how far its machine was."""
        here = {_machine_of(url) for url in asked}
        for url in self._known.keys() - set(asked):
            del self._known[url]
            if (machine := _machine_of(url)) not in here:
                self._took(machine, None)


def _machine_of(url: str) -> str:
    return urlsplit(url).hostname or url


def _looked_at(url: str) -> tuple[str, float | None]:
    """What is wrong, or nothing; and how many milliseconds the machine took to take the call."""
    took_ms: float | None = None
    parts = urlsplit(url)
    host, encrypted = parts.hostname or "", parts.scheme in ("https", "wss")
    port = parts.port or (443 if encrypted else 80)
    began = time.monotonic()
    try:
        with socket.create_connection((host, port), timeout=LIMIT_S) as plain_socket:
            took_ms = (time.monotonic() - began) * 1000
            way = plain_socket
            if encrypted:
                way = ssl.create_default_context().wrap_socket(plain_socket, server_hostname=host)
            way.sendall(f"HEAD / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            return "" if way.recv(1) else "it hung up", took_ms
    except OSError as error:
        return (error.strerror or str(error)).lower(), took_ms
