"""A PostgreSQL ledger: dumped at one moment, restored to a database beside it, and swapped in."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, make_url, text
from sqlalchemy.orm import Session

from botswarm.backup import facts
from botswarm.backup.facts import Facts
from botswarm.config import Secret, mask_urls
from botswarm.errors import NotFound, Refused, Unreachable
from botswarm.ledger.session import CONNECT_TIMEOUT_S, Database
from botswarm.programs import find_postgresql

JOBS = max(2, min(4, os.cpu_count() or 2))
NAME_MAX = 63
STARTING = ("postgres", "template1")
"""Where one connects to work on the other databases."""
FASTER = "-c maintenance_work_mem=256MB -c synchronous_commit=off -c lock_timeout=0"
"""For filling a database nobody uses yet; the commit that swaps it in forces all of it."""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Server:
    """The server that a URL names, and the programs that speak to it."""

    def __init__(self, url: str | Secret) -> None:
        self.url: URL = make_url(url.reveal() if isinstance(url, Secret) else url)
        self.name = self.url.database or str(self.url.username or "postgres")

    def url_of(self, name: str) -> str:
        return self.url.set(database=name).render_as_string(hide_password=False)

    # --- programs -----------------------------------------------------------------------------

    def environment(self, options: str = "") -> dict[str, str]:
        """The password goes where no list of processes shows it."""
        environment = {"PATH": PATH, "LC_ALL": "C", "PGCONNECT_TIMEOUT": str(CONNECT_TIMEOUT_S)}
        if self.url.password is not None:
            environment["PGPASSWORD"] = str(self.url.password)
        return environment | ({"PGOPTIONS": options} if options else {})

    def plain_url(self, name: str | None = None) -> str:
        """As libpq writes it, without the password."""
        url = self.url.set(drivername="postgresql", database=name or self.name)
        return url._replace(password=None).render_as_string()

    def run(self, program: str, *words: str, options: str = "") -> None:
        """Raises Unreachable with what the program said last."""
        found = find_postgresql(program, package="postgresql-client")
        done = subprocess.run(
            [str(found), *words],
            env=self.environment(options),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise Unreachable(
                f"{program} failed: {_last_words(done.stderr)}",
                cure="mend what it says: room on the disk, the user's rights, or the connection",
            )

    def dump(self, target: Path, snapshot: str) -> None:
        self.run(
            "pg_dump",
            *("--format=custom", "--compress=1", "--no-owner", "--no-privileges"),
            *("--no-password", "--snapshot", snapshot, "--file", str(target)),
            *("--dbname", self.plain_url()),
        )

    def dump_apart(self, target: Path) -> None:
        """Into a folder, by several connections at once; of a server that nobody writes to."""
        self.run(
            "pg_dump",
            *("--format=directory", "--compress=0", "--no-owner", "--no-privileges"),
            *("--no-password", "--jobs", str(JOBS), "--no-sync", "--file", str(target)),
            *("--dbname", self.plain_url()),
        )

    def fill(self, source: Path, name: str) -> None:
        self.run(
            "pg_restore",
            *("--no-owner", "--no-privileges", "--exit-on-error", "--jobs", str(JOBS)),
            *("--no-password", "--dbname", self.plain_url(name), str(source)),
            options=FASTER,
        )

    # --- databases ----------------------------------------------------------------------------

    def exists(self, name: str) -> bool:
        with self._cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
            return cursor.fetchone() is not None

    def names(self, prefix: str) -> Sequence[str]:
        """Of the databases whose names begin so."""
        with self._cursor() as cursor:
            cursor.execute(
                "SELECT datname FROM pg_database WHERE starts_with(datname::text, %s)", (prefix,)
            )
            return [str(row[0]) for row in cursor.fetchall()]

    def create(self, name: str) -> None:
        """Empty, and as the ledger's own is spelled and sorted."""
        with self._cursor() as cursor:
            cursor.execute(
                "SELECT pg_encoding_to_char(encoding), datcollate, datctype FROM pg_database "
                "WHERE datname IN (%s, 'template0') ORDER BY datname = 'template0' LIMIT 1",
                (self.name,),
            )
            like = cursor.fetchone()
            cursor.execute(
                f"CREATE DATABASE {_quoted(name)} TEMPLATE template0 "
                "ENCODING %s LC_COLLATE %s LC_CTYPE %s",
                like,
            )

    def drop(self, name: str) -> None:
        with self._cursor() as cursor:
            cursor.execute(f"DROP DATABASE IF EXISTS {_quoted(name)} WITH (FORCE)")

    def swap(self, side: str, old: str) -> str | None:
        """Give ``side`` the ledger's name; what had it is kept as ``old``, which is answered.

        Whoever is connected is thrown out, and finds the other one when he comes again.
        """
        live_is_there = self.exists(self.name)
        with self._cursor() as cursor:
            if live_is_there:
                cursor.execute(f"ALTER DATABASE {_quoted(self.name)} ALLOW_CONNECTIONS false")
            try:
                cursor.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname IN (%s, %s) AND pid <> pg_backend_pid()",
                    (self.name, side),
                )
                cursor.execute("BEGIN")
                if live_is_there:
                    cursor.execute(f"ALTER DATABASE {_quoted(self.name)} RENAME TO {_quoted(old)}")
                cursor.execute(f"ALTER DATABASE {_quoted(side)} RENAME TO {_quoted(self.name)}")
                cursor.execute("COMMIT")
            except BaseException:
                cursor.execute("ROLLBACK")
                if live_is_there:
                    cursor.execute(f"ALTER DATABASE {_quoted(self.name)} ALLOW_CONNECTIONS true")
                raise
            if live_is_there:
                cursor.execute(f"ALTER DATABASE {_quoted(old)} ALLOW_CONNECTIONS true")
        return old if live_is_there else None

    @contextmanager
    def _cursor(self) -> Iterator[Any]:
        """Of the server itself, every statement a transaction of its own."""
        import psycopg2

        last: Exception | None = None
        for name in (each for each in STARTING if each != self.name):
            try:
                url = self.url.set(drivername="postgresql", database=name)
                connection = psycopg2.connect(
                    url.render_as_string(hide_password=False), connect_timeout=CONNECT_TIMEOUT_S
                )
            except psycopg2.Error as error:
                last = error
                continue
            with closing(connection), spoken_by_server():
                connection.autocommit = True
                with connection.cursor() as cursor:
                    yield cursor
            return
        raise Unreachable(
            f"the server of the ledger cannot be used: {_last_words(str(last))}",
            cure="run: botswarm doctor --only database",
        ) from last


@contextmanager
def spoken_by_server() -> Iterator[None]:
    """Say what the server says."""
    import psycopg2
    from psycopg2 import errors

    try:
        yield
    except errors.InsufficientPrivilege as error:
        raise Refused(
            f"the ledger's user may not do that: {_last_words(str(error))}",
            cure="name who owns its tables in BOTSWARM_DATABASE_ADMIN_URL, or, as the server's "
            "administrator: ALTER ROLE the_user CREATEDB",
        ) from error
    except errors.InvalidCatalogName as error:
        raise NotFound(_last_words(str(error)), cure="see which databases there are") from error
    except psycopg2.Error as error:
        raise Unreachable(
            f"the server of the ledger refused: {_last_words(str(error))}",
            cure="mend what it says, then try again",
        ) from error


def dump(database: Database, target: Path) -> Facts:
    """Into a file of pg_dump's own format; the facts are those of the very same snapshot."""
    server = Server(database.url.render_as_string(hide_password=False))

    def work(session: Session) -> Facts:
        # This transaction only holds the snapshot while pg_dump reads.
        session.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        snapshot = session.scalars(text("SELECT pg_export_snapshot()")).one()
        target.unlink(missing_ok=True)
        server.dump(target, snapshot)
        return facts.of_ledger(session)

    return database.read(work)


def analyze(database: Database) -> None:
    """Tell the planner what is there: a database that was just filled knows nothing of itself."""
    with database.connection() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql("ANALYZE")


def side_name(live: str, what: str) -> str:
    """Of a database beside the ledger's."""
    return f"{live[: NAME_MAX - len(what) - 1]}_{what}"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _last_words(said: str) -> str:
    lines: Sequence[str] = [line.strip() for line in said.split("\n") if line.strip()]
    return mask_urls(lines[-1] if lines else "it said nothing")
