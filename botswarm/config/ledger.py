"""The settings of the ledger beside where it is: who owns its tables, and what is slow."""

from __future__ import annotations

from botswarm.config.kinds import Kind, Setting, whole_number


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
