"""Whether the ledger's PostgreSQL gives its user no more than is needed, and nobody reads along."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from botswarm.cli.checks import CONNECT_LIMIT_S, Finding, Subject
from botswarm.cli.management import reason
from botswarm.config import Settings, urls
from botswarm.errors import Problem

BOOTSTRAP_OID = 10
"""The user that initdb made: nobody can take anything from it."""
ENCRYPTED = ("require", "verify-ca", "verify-full")
POWERS: Mapping[str, str] = {
    "rolsuper": "SUPERUSER",
    "rolcreaterole": "CREATEROLE",
    "rolcreatedb": "CREATEDB",
    "rolreplication": "REPLICATION",
    "rolbypassrls": "BYPASSRLS",
}
_ROLE = f"SELECT rolname, oid, {', '.join(POWERS)} FROM pg_roles WHERE rolname = current_user"  # noqa: S608 - our own
_OWNED = (
    "SELECT count(*) FROM pg_tables "
    "WHERE schemaname = current_schema() AND tableowner = current_user"
)
_CHANGEABLE = (
    "SELECT relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace "
    "WHERE nspname = current_schema() AND relname = ANY(%s) "
    "AND has_table_privilege(pg_class.oid, 'UPDATE, DELETE, TRUNCATE') ORDER BY relname"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Who the swarm is for its PostgreSQL."""

    name: str
    is_first: bool = False
    powers: tuple[str, ...] = ()
    tables_owned: int = 0
    changeable: tuple[str, ...] = ()
    """Tables of which rows are only ever added, and which it could change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    host: str
    mode: str
    """What the URL says of encryption."""
    is_encrypted: bool
    asked_for_password: bool

    @property
    def is_by_network(self) -> bool:
        return bool(self.host) and not self.host.startswith("/")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user has to have, by the settings."""

    has_owner: bool
    """Somebody else owns the tables."""
    powers: frozenset[str] = field(default_factory=frozenset)

    @classmethod
    def by(cls, settings: Settings) -> Wanted:
        if settings.database_admin_url is not None:
            return cls(has_owner=True)
        archives = {"REPLICATION"} if settings.backup_archive else set()
        # A backup is tried out in a database of its own.
        return cls(has_owner=False, powers=frozenset({"CREATEDB"} | archives))


def ledger_rights(subject: Subject) -> Finding:
    """Warnings only: the swarm trades as well with too many rights as with few."""
    if subject.configuration is None:
        return Finding("skip", "the configuration is invalid", "mend it first")
    settings = subject.configuration.settings
    if urls.is_sqlite(settings.database_url):
        return Finding("skip", "the ledger is a file: who may read it is said by its permissions")
    import psycopg2

    plain = settings.database_url.reveal().replace("postgresql+psycopg2://", "postgresql://", 1)
    try:
        with closing(psycopg2.connect(plain, connect_timeout=CONNECT_LIMIT_S)) as connection:
            user, link = _user(connection), _link(connection)
    except psycopg2.Error as error:
        return Finding("skip", f"cannot be asked ({reason(error)})", "see the row database")
    return finding(user, link, Wanted.by(settings))


def finding(user: User, link: Link, wanted: Wanted) -> Finding:
    problems = [*_too_much(user, wanted), *_readable(link)]
    if problems:
        return Finding(
            "warn",
            "; ".join(problem.cause for problem in problems),
            "; ".join(problem.cure for problem in problems),
        )
    owner = "it owns the tables" if user.tables_owned else "it owns no table"
    way = "encrypted" if link.is_encrypted else "on this machine"
    return Finding("ok", f"{user.name} can do no more than it needs, {owner}; the link is {way}")


def _too_much(user: User, wanted: Wanted) -> Iterator[Problem]:
    if "SUPERUSER" in user.powers and user.is_first:
        yield Problem(
            f"{user.name} is PostgreSQL's first superuser",
            "make it the owner (BOTSWARM_DATABASE_ADMIN_URL) and write another into "
            "BOTSWARM_DATABASE_URL: CREATE ROLE swarm LOGIN PASSWORD '…'",
        )
        return
    extra = [power for power in user.powers if power not in wanted.powers]
    if extra:
        yield Problem(
            f"{user.name} has {', '.join(extra)}, which it does not need",
            f"ALTER ROLE {_quoted(user.name)} {' '.join(f'NO{power}' for power in extra)};",
        )
    if wanted.has_owner and user.tables_owned:
        yield Problem(
            f"{user.name} owns {user.tables_owned} tables, though another user is to own them",
            f"REASSIGN OWNED BY {_quoted(user.name)} TO the_owner; and then botswarm db migrate",
        )
    elif user.changeable and not user.tables_owned:
        yield Problem(
            f"{user.name} may change rows of {', '.join(user.changeable)}",
            f"REVOKE UPDATE, DELETE, TRUNCATE ON {', '.join(user.changeable)} FROM "
            f"{_quoted(user.name)}; or botswarm db migrate",
        )


def _readable(link: Link) -> Iterator[Problem]:
    if not link.is_by_network:
        return
    if link.host not in urls.HERE and not (link.is_encrypted and link.mode in ENCRYPTED):
        now = "may go" if link.is_encrypted else "goes"
        yield Problem(
            f"what is said to {link.host} {now} over the network unencrypted (sslmode={link.mode})",
            "switch ssl on at the server, and end BOTSWARM_DATABASE_URL in ?sslmode=verify-full",
        )
    if not link.asked_for_password:
        yield Problem(
            f"{link.host} lets it in without a password",
            "write scram-sha-256 for trust in pg_hba.conf, then ALTER ROLE … PASSWORD '…'",
        )


def _user(connection: Any) -> User:
    from botswarm.ledger.rights import ADD_ONLY

    with connection.cursor() as cursor:
        cursor.execute(f"SET statement_timeout = {CONNECT_LIMIT_S * 1000}")
        name, oid, *flags = _row(cursor, _ROLE)
        (owned,) = _row(cursor, _OWNED)
        cursor.execute(_CHANGEABLE, (sorted(ADD_ONLY),))
        changeable = tuple(str(row[0]) for row in cursor.fetchall())
    powers = tuple(word for word, has in zip(POWERS.values(), flags, strict=True) if has)
    return User(
        name=name,
        is_first=oid == BOOTSTRAP_OID,
        powers=powers,
        tables_owned=owned,
        changeable=changeable,
    )


def _row(cursor: Any, question: str) -> Iterable[Any]:
    cursor.execute(question)
    return tuple(cursor.fetchone())


def _link(connection: Any) -> Link:
    info = connection.info
    return Link(
        host=info.host or "",
        mode=str(info.dsn_parameters.get("sslmode", "prefer")),
        is_encrypted=bool(info.ssl_in_use),
        asked_for_password=bool(info.used_password),
    )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
