"""The settings of the ledger beside where it is: who owns its tables, and what is slow."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

from botswarm.config import urls
from botswarm.config.kinds import Kind, Setting, whole_number
from botswarm.config.secret import Secret
from botswarm.errors import Problem


def ledger_settings(url: Kind) -> tuple[Setting, ...]:
    return (
        Setting(
            name="database_admin_url",
            kind=url,
            help="The same PostgreSQL database by the user who owns its tables, for db migrate, db "
            "rollback and backups: the user of database_url then needs no more than it is granted. "
            "Give it to no other process.",
            default_words="none: the user of database_url owns them",
            secret=True,
        ),
        Setting(
            name="ledger_slow_ms",
            kind=whole_number(0, 600_000, "milliseconds"),
            help="Workers, beat, feed and archive log a warning, without values, of each statement "
            "of the ledger that takes longer, its waits for locks included, and count it; 0 is "
            "never.",
            default=50,
        ),
    )


def contradictions(values: Mapping[str, object]) -> list[Problem]:
    """Of the two addresses. Backups work by the owner's: of another database they would be good,
    and hold nothing.
    """
    owned, used = values["database_admin_url"], values["database_url"]
    if not isinstance(owned, Secret) or not isinstance(used, Secret):
        return []
    if urls.is_sqlite(used):
        return [Problem("BOTSWARM_DATABASE_ADMIN_URL stands beside a SQLite ledger", "unset it")]
    if _database_of(owned) != _database_of(used):
        return [
            Problem(
                "BOTSWARM_DATABASE_ADMIN_URL and BOTSWARM_DATABASE_URL name two databases",
                "name the ledger's in both: they differ in the user only",
            )
        ]
    return []


def _database_of(url: Secret) -> str:
    return unquote(urlsplit(url.reveal()).path.strip("/"))
