"""What the user of the ledger may do, where its tables belong to another user (PostgreSQL)."""

from __future__ import annotations

from sqlalchemy import Connection, make_url, text

from botswarm.config import Secret, Settings
from botswarm.errors import NotFound

ADD_ONLY = frozenset(
    (
        *("audit", "audit_bots", "bot_versions"),
        *("order_events", "fills", "adjustments", "entries", "postings"),
    )
)
"""Who did what and where the money went: rows are added, and never changed or deleted."""
OWNERS_OWN = frozenset(("alembic_version",))
"""The user of the ledger only reads it: at which revision the tables are."""

_TABLES = text(
    "SELECT tablename FROM pg_tables WHERE schemaname = current_schema() "
    "AND tableowner = current_user ORDER BY tablename"
)
_SEQUENCES = text(
    "SELECT sequencename FROM pg_sequences WHERE schemaname = current_schema() "
    "AND sequenceowner = current_user ORDER BY sequencename"
)
_IS_THERE = text("SELECT 1 FROM pg_roles WHERE rolname = :name")


def owner_url(settings: Settings) -> Secret:
    """The ledger as the user who owns its tables."""
    return settings.database_admin_url or settings.database_url


def tenant(settings: Settings) -> str | None:
    """Who works with tables that another user owns; None where they belong to who uses them."""
    if settings.database_admin_url is None:
        return None
    owner = make_url(settings.database_admin_url.reveal()).username
    user = make_url(settings.database_url.reveal()).username
    return None if user == owner else user


def check(connection: Connection, user: str) -> None:
    """Raises NotFound where the server knows no such user."""
    if connection.execute(_IS_THERE, {"name": user}).first() is None:
        raise NotFound(
            f"PostgreSQL knows no user {user}, whom BOTSWARM_DATABASE_URL names",
            cure=f"as its administrator: CREATE ROLE {_quoted(user)} LOGIN PASSWORD '…'",
        )


def give(connection: Connection, user: str) -> None:
    """As their owner: what this version needs of the tables there are, and no more.

    What others own in the same schema is not ours to give.
    """
    quoted = connection.dialect.identifier_preparer.quote_identifier
    who, tables = quoted(user), list(connection.execute(_TABLES).scalars())
    for table in tables:
        connection.exec_driver_sql(f"REVOKE ALL ON {quoted(table)} FROM {who}, PUBLIC")
        connection.exec_driver_sql(f"GRANT {_of(table)} ON {quoted(table)} TO {who}")
    for sequence in list(connection.execute(_SEQUENCES).scalars()):
        connection.exec_driver_sql(f"GRANT USAGE, SELECT ON SEQUENCE {quoted(sequence)} TO {who}")


def _of(table: str) -> str:
    if table in OWNERS_OWN:
        return "SELECT"
    return "SELECT, INSERT" if table in ADD_ONLY else "SELECT, INSERT, UPDATE, DELETE"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
