"""The way to the database: safe settings, transactions, and errors a person can act on."""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, make_url, or_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import DeclarativeBase, Session

from botswarm.config import Secret
from botswarm.errors import Misconfigured, Problem, TimedOut, Unreachable
from botswarm.ledger import prepared, slow
from botswarm.ledger.columns import to_json

ATTEMPTS_MAX = 5
PAUSE_MAX_S = 0.1
LOCK_TIMEOUT_S = 5
IDLE_IN_TRANSACTION_TIMEOUT_S = 30
NOTICE_A_LOST_HOST: Mapping[str, int] = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
"""A host that vanishes answers nothing, ever: by the system's own rules that takes minutes to see.
A server that only takes long still answers these."""
CONNECT_TIMEOUT_S = 5
POOL_SIZE = 5
POOL_OVERFLOW_MAX = 10

SERIALIZATION_FAILURE, DEADLOCK, LOCK_NOT_AVAILABLE = "40001", "40P01", "55P03"
CONFLICTS = frozenset((SERIALIZATION_FAILURE, DEADLOCK, LOCK_NOT_AVAILABLE))
UNDEFINED_TABLE, UNDEFINED_COLUMN = "42P01", "42703"
INSUFFICIENT_PRIVILEGE = "42501"

_READS = "botswarm_reads"

T = TypeVar("T")
Work = Callable[[Session], T]


class NotMigrated(Unreachable):
    """The database is there, but its tables are not those that this version works with."""

    def __init__(self) -> None:
        super().__init__(
            "the ledger's tables are missing, or older than this version of botswarm",
            cure="run: botswarm db migrate",
        )


class NotAllowed(Unreachable):
    """The user of the database has no right to that; whoever owns the tables has."""

    def __init__(self, words: str) -> None:
        super().__init__(
            f"the ledger's user may not do that: {words}",
            cure="run botswarm db migrate with BOTSWARM_DATABASE_ADMIN_URL (docs/ledger.md)",
        )


class Database:
    """A pool of connections with safe settings; in a forked child call ``dispose_after_fork``."""

    def __init__(self, url: str | Secret, *, foreign_keys: bool = True) -> None:
        """``url`` as botswarm.config gives it; without ``foreign_keys`` SQLite checks none."""
        self.url = make_url(url.reveal() if isinstance(url, Secret) else url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._foreign_keys = foreign_keys
        self._engine = self._sqlite() if self.is_sqlite else self._postgresql()
        slow.listen(self._engine)
        self._writing = threading.Lock()
        self._reader = self._engine.execution_options(**{_READS: True})
        if not self.is_sqlite:
            # One snapshot for all statements of a read: what it answers was true at one moment.
            self._reader = self._reader.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )

    @property
    def path(self) -> Path | None:
        """The file, where the database is one."""
        return Path(self.url.database) if self.is_sqlite and self.url.database else None

    def write(self, work: Work[T]) -> T:
        """Run ``work`` in one transaction and commit it.

        All of ``work`` is run again, at most ATTEMPTS_MAX times, where the database asks for
        that; so it must change nothing but the database.
        """
        return self._again(lambda: self._write_once(work))

    def read(self, work: Work[T]) -> T:
        """Run ``work`` on one snapshot of the ledger."""
        return self._again(lambda: self._read_once(work))

    def _write_once(self, work: Work[T]) -> T:
        if not self.is_sqlite:
            return self._written(work)
        # SQLite has one writer, and lets the others look again ever more seldom: threads of one
        # process had better wait for each other.
        if not self._writing.acquire(timeout=LOCK_TIMEOUT_S):
            raise _Conflict("another thread is writing")
        try:
            return self._written(work)
        finally:
            self._writing.release()

    def _written(self, work: Work[T]) -> T:
        with self._session() as session:
            with self._errors():
                answer = work(session)
                session.flush()
            # A connection that is lost from here on leaves open whether this was committed.
            with self._errors(is_certain=False):
                began = time.perf_counter()
                session.commit()
                slow.ended(slow.COMMIT, began)
            return answer

    @contextmanager
    def _session(self) -> Iterator[Session]:
        session = Session(self._engine, expire_on_commit=False)
        try:
            yield session
        except BaseException:
            # Its connection may have gone meanwhile; why the work failed says more than that.
            with suppress(DBAPIError):
                session.close()
            raise
        with self._errors():
            session.close()

    def _read_once(self, work: Work[T]) -> T:
        with self._errors(), Session(self._reader, expire_on_commit=False) as session:
            return work(session)

    def _again(self, once: Callable[[], T]) -> T:
        for attempt in range(1, ATTEMPTS_MAX + 1):
            try:
                return once()
            except _Conflict as error:
                if attempt == ATTEMPTS_MAX:
                    raise TimedOut(
                        f"the ledger stayed locked by others: {error}",
                        cure="see what else is writing to it; nothing was changed, so try again",
                    ) from error
            time.sleep(random.uniform(0, PAUSE_MAX_S))  # noqa: S311 - spreads writers apart
        raise AssertionError("unreachable")

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """For migrations: a connection on which nothing has begun."""
        try:
            with self._errors(), self._engine.connect() as connection:
                yield connection
        except _Conflict as error:
            raise TimedOut(
                f"the ledger is locked by others, or went away meanwhile: {error}",
                cure="try again",
            ) from error

    def dispose_after_fork(self) -> None:
        """Forget the parent's connections without closing them: the parent still uses them."""
        self._engine.dispose(close=False)
        self._writing = threading.Lock()

    def close(self) -> None:
        self._engine.dispose()

    def _sqlite(self) -> Engine:
        engine = create_engine(
            self.url,
            json_serializer=to_json,
            connect_args={"timeout": LOCK_TIMEOUT_S},
            pool_size=POOL_SIZE,
            max_overflow=POOL_OVERFLOW_MAX,
        )

        @event.listens_for(engine, "do_connect")
        def look_first(*_: object) -> None:
            # SQLite would make an empty file, readable by everybody, and complain later.
            if self.path is not None and not self.path.exists():
                raise NotMigrated

        @event.listens_for(engine, "connect")
        def prepare(connection: Any, _: object) -> None:
            # The driver would begin transactions by its own rules, and too late.
            connection.isolation_level = None
            with self._raw_errors(sqlite3.Error):
                for pragma in (
                    "journal_mode=WAL",
                    "synchronous=FULL",
                    f"foreign_keys={'ON' if self._foreign_keys else 'OFF'}",
                ):
                    connection.execute(f"PRAGMA {pragma}")

        @event.listens_for(engine, "begin")
        def begin(connection: Connection) -> None:
            # A writer that begins as a reader fails when another has written in between.
            reads = connection.get_execution_options().get(_READS)
            connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

        return engine

    def _postgresql(self) -> Engine:
        # Not on top: commands that use SQLite start sooner without it.
        import psycopg2

        engine = create_engine(
            self.url,
            json_serializer=to_json,
            connect_args={
                "connect_timeout": CONNECT_TIMEOUT_S,
                "application_name": "botswarm",
                **NOTICE_A_LOST_HOST,
            },
            pool_size=POOL_SIZE,
            max_overflow=POOL_OVERFLOW_MAX,
            executemany_mode="values_plus_batch",
        )
        prepared.listen(engine)

        @event.listens_for(engine, "connect")
        def prepare(connection: Any, _: object) -> None:
            with self._raw_errors(psycopg2.Error), connection.cursor() as cursor:
                cursor.execute(f"SET lock_timeout = '{LOCK_TIMEOUT_S}s'")
                cursor.execute(
                    f"SET idle_in_transaction_session_timeout = '{IDLE_IN_TRANSACTION_TIMEOUT_S}s'"
                )
                _refuse_forgetful(cursor)
                connection.commit()

        return engine

    @contextmanager
    def _errors(self, *, is_certain: bool = True) -> Iterator[None]:
        """Say what the driver's errors mean; those that ask for another try become _Conflict."""
        try:
            yield
        except PoolTimeout as error:
            raise Unreachable(
                "no connection to the ledger became free", cure="lower the number of threads"
            ) from error
        except DBAPIError as error:
            raise self._meaning(error, is_certain) from error

    @contextmanager
    def _raw_errors(self, kind: type[Exception]) -> Iterator[None]:
        """The same for what goes wrong before SQLAlchemy has taken the connection over."""
        try:
            yield
        except kind as error:
            raise OperationalError(None, None, error) from error

    def _meaning(self, error: DBAPIError, is_certain: bool) -> Exception:
        words = str(error.orig).strip().partition("\n")[0]
        code = getattr(error.orig, "pgcode", None)
        if code in CONFLICTS or "database is locked" in words:
            return _Conflict(words)
        # The pool has forgotten its connections: another try makes a new one, or says it cannot.
        if error.connection_invalidated and is_certain:
            return _Conflict(words)
        if code in (UNDEFINED_TABLE, UNDEFINED_COLUMN) or words.startswith(
            ("no such table", "no such column")
        ):
            return NotMigrated()
        if code == INSUFFICIENT_PRIVILEGE:
            return NotAllowed(words)
        if "not a database" in words or "malformed" in words:
            return Unreachable(
                f"{self.path} is not a database, or is damaged",
                cure="restore it from a backup, or name another file in BOTSWARM_DATABASE_URL",
            )
        if isinstance(error, OperationalError) or error.connection_invalidated:
            where = self.url.render_as_string(hide_password=True)
            return Unreachable(
                f"the ledger at {where} cannot be used: {words}", cure="run: botswarm doctor"
            )
        return error


class _Conflict(Exception):
    """Nothing was changed; the same work may succeed when it is run again."""


def insert_new(
    session: Session, table: type[DeclarativeBase], rows: Sequence[Mapping[str, Any]]
) -> None:
    """Insert the rows that are not there yet, and leave those that are."""
    insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    session.flush()
    # Past the ORM, which would look at each of very many rows by itself.
    session.connection().execute(insert(table).on_conflict_do_nothing(), list(rows))


def save_latest(
    session: Session, table: type[DeclarativeBase], rows: Sequence[Mapping[str, Any]]
) -> None:
    """Insert the rows, and put right those that are there and say something else."""
    insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    new = insert(table)
    identity = [column.name for column in table.__table__.primary_key]
    others = [name for name in rows[0] if name not in identity]
    session.flush()
    session.connection().execute(
        new.on_conflict_do_update(
            index_elements=identity,
            set_={name: getattr(new.excluded, name) for name in others},
            where=or_(
                *(
                    getattr(table, name).is_distinct_from(getattr(new.excluded, name))
                    for name in others
                )
            ),
        ),
        list(rows),
    )


def _refuse_forgetful(cursor: Any) -> None:
    """A commit that a power cut undoes would let an order be sent that nobody remembers."""
    problems = []
    for setting in ("fsync", "synchronous_commit", "full_page_writes"):
        cursor.execute("SELECT current_setting(%s)", (setting,))
        if cursor.fetchone()[0] == "off":
            problems.append(
                Problem(f"PostgreSQL runs with {setting}=off", f"set {setting} = on for the ledger")
            )
    if problems:
        raise Misconfigured(*problems)
