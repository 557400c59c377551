"""Bring the ledger's tables to the shape this version works with, one migrator at a time."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, text

from botswarm.errors import NotFound, TimedOut, Unreachable
from botswarm.ledger import rights
from botswarm.ledger.session import Database, NotAllowed

# Any number, as long as nobody else in this database uses it.
ADVISORY_LOCK = 0x626F7473
POLL_S = 0.2
OWNER_ONLY = 0o600
LATEST = "head"
NOTHING = "base"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    revision: str
    words: str
    is_applied: bool
    is_latest: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    before: str | None
    after: str | None


def migrate(database: Database, *, wait_s: float = 0.0, tenant: str | None = None) -> Moved:
    """Go to the latest revision; waits up to ``wait_s`` for the server and other migrators.

    ``tenant`` is who works with these tables without owning them: he is given what that needs.
    """
    return _move(database, lambda config: command.upgrade(config, LATEST), wait_s, tenant)


def roll_back(database: Database, revision: str, *, wait_s: float = 0.0) -> Moved:
    """Go back to ``revision``, or to ``base``, which drops every table and all that is in them."""
    return _move(database, lambda config: command.downgrade(config, revision), wait_s)


def current(database: Database) -> str | None:
    if database.path is not None and not database.path.exists():
        return None
    with database.connection() as connection:
        return _revision(connection)


def latest() -> str | None:
    return ScriptDirectory.from_config(_config()).get_current_head()


def history(database: Database) -> list[Step]:
    """All steps there are, oldest first."""
    now = current(database)
    steps = list(ScriptDirectory.from_config(_config()).walk_revisions())[::-1]
    known = [step.revision for step in steps]
    done = known[: known.index(now) + 1] if now in known else []
    return [
        Step(
            revision=step.revision,
            words=(step.doc or "").rstrip("."),
            is_applied=step.revision in done,
            is_latest=step is steps[-1],
        )
        for step in steps
    ]


def sql(database: Database) -> str:
    """What ``migrate`` would run, as SQL; nothing is changed."""
    config = _config(dialect="sqlite" if database.is_sqlite else "postgresql")
    config.output_buffer = io.StringIO()
    before = current(database)
    if before == latest():
        return ""
    command.upgrade(config, f"{before or NOTHING}:{LATEST}", sql=True)
    return config.output_buffer.getvalue()


def _move(
    database: Database, move: Callable[[Config], None], wait_s: float, tenant: str | None = None
) -> Moved:
    deadline = time.monotonic() + wait_s
    _prepare_file(database)
    patient = Database(
        database.url.render_as_string(hide_password=False),
        # SQLite alters a table by making it anew, which a foreign key to it would forbid.
        foreign_keys=False,
    )
    try:
        while True:
            try:
                return _moved(patient, move, deadline, tenant)
            except NotAllowed:
                raise  # by waiting nobody is given rights
            except (Unreachable, TimedOut):
                # Whatever was begun is undone: it is begun anew, all of it.
                if time.monotonic() >= deadline:
                    raise
                time.sleep(POLL_S)
    finally:
        patient.close()


def _moved(
    database: Database, move: Callable[[Config], None], deadline: float, tenant: str | None
) -> Moved:
    """In one transaction, which nobody else migrates beside."""
    # On SQLite this alone shuts out every other writer.
    with database.connection() as connection, connection.begin():
        if not database.is_sqlite:
            _take_lock(connection, deadline)
        before = _revision(connection)
        if tenant is not None:
            rights.check(connection, tenant)
        try:
            move(_config(connection=connection))
        except CommandError as error:
            raise NotFound(
                f"the ledger cannot be moved from {before or NOTHING}: {error}",
                cure="see: botswarm db history",
            ) from error
        if tenant is not None:
            rights.give(connection, tenant)
        return Moved(before=before, after=_revision(connection))


def _take_lock(connection: Connection, deadline: float) -> None:
    question = text("SELECT pg_try_advisory_xact_lock(:number)")
    while not connection.execute(question, {"number": ADVISORY_LOCK}).scalar_one():
        if time.monotonic() >= deadline:
            raise TimedOut(
                "another process is migrating the ledger", cure="wait for it: --wait SECONDS"
            )
        time.sleep(POLL_S)


def _prepare_file(database: Database) -> None:
    """The folder and an empty file that only its owner may read, where there are none."""
    path = database.path
    if path is None or path.exists():
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=OWNER_ONLY, exist_ok=True)
    except OSError as error:
        raise Unreachable(
            f"cannot create {path}: {error.strerror}",
            cure="mend the folder's rights, or set BOTSWARM_DATABASE_URL",
        ) from error


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _config(**attributes: Any) -> Config:
    # No alembic.ini: where the steps are is known, and where the database is, is a setting.
    config = Config(attributes=attributes)
    config.set_main_option("script_location", "botswarm:ledger/migrations")
    config.set_main_option("path_separator", "os")
    return config
