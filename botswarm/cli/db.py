"""Bring the ledger's tables to the shape this version works with, and look at their history."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from botswarm.cli.command import Group
from botswarm.cli.failures import NotConfirmed
from botswarm.cli.numbers import Seconds
from botswarm.cli.session import Answer, Session
from botswarm.cli.table import in_columns

if TYPE_CHECKING:
    from botswarm.ledger.session import Database

WAIT_MAX_S = 3600


@click.group(cls=Group)
def db() -> None:
    """Create and upgrade the ledger's tables."""


@db.command("migrate")
@click.option(
    "--wait",
    "wait_s",
    type=Seconds(0, WAIT_MAX_S),
    default=0.0,
    metavar="SECONDS",
    help="How long to wait for the server to answer and for others that migrate.",
)
@click.option("--dry-run", is_flag=True, help="Print the SQL and change nothing.")
@click.pass_obj
def migrate_tables(session: Session, wait_s: float, dry_run: bool) -> Answer:
    """Bring the tables to the latest revision.

    Safe to run at every start and from several processes at once: one migrates, the others
    wait for it (see --wait) and find nothing left to do.

    With BOTSWARM_DATABASE_ADMIN_URL it works as that user, who then owns the tables, and grants
    the user of BOTSWARM_DATABASE_URL what the swarm needs of them.
    """
    from botswarm.ledger import migrate, rights

    database = _owned(session)
    if dry_run:
        sql = migrate.sql(database)
        return Answer(data={"sql": sql}, text=sql or "-- nothing to do")
    moved = migrate.migrate(database, wait_s=wait_s, tenant=rights.tenant(session.settings()))
    if moved.before == moved.after:
        text = f"The ledger is at revision {moved.after} already."
    else:
        text = f"The ledger went from revision {moved.before or 'nothing'} to {moved.after}."
    return Answer(data={"before": moved.before, "after": moved.after}, text=text)


@db.command("current")
@click.pass_obj
def show_current(session: Session) -> Answer:
    """Print the revision the tables are at, and the latest there is."""
    from botswarm.ledger import migrate

    now, latest = migrate.current(_database(session)), migrate.latest()
    data = {"current": now, "latest": latest, "is_latest": now == latest}
    following = [] if now == latest else ["botswarm db migrate"]
    return Answer(data=data, text=f"{now or 'nothing'} (latest: {latest})", next=following)


@db.command("history")
@click.pass_obj
def show_history(session: Session) -> Answer:
    """List all revisions, oldest first, and which of them are applied."""
    from botswarm.ledger import migrate

    steps = migrate.history(_database(session))
    rows = [(step.revision, "yes" if step.is_applied else "no", step.words) for step in steps]
    data = [
        {"revision": step.revision, "applied": step.is_applied, "words": step.words}
        for step in steps
    ]
    return Answer(data=data, text=in_columns(["REVISION", "APPLIED", "WHAT"], rows))


@db.command("rollback")
@click.option("--to", "revision", required=True, help="A revision of the history, or base.")
@click.pass_obj
def roll_back_tables(session: Session, revision: str) -> Answer:
    """Take the tables back to an earlier revision: what only later ones hold is lost.

    --to base drops every table of the ledger. Must be confirmed with --yes; stop the swarm and
    make a backup first.
    """
    from botswarm.ledger import migrate

    if not session.yes:
        raise NotConfirmed(
            f"going back to {revision} deletes what later revisions added, and nobody confirmed it",
            cure=f"if that is meant: botswarm db rollback --to {revision} --yes",
        )
    moved = migrate.roll_back(_owned(session), revision)
    data = {"before": moved.before, "after": moved.after}
    text = f"The ledger went back from revision {moved.before} to {moved.after or 'nothing'}."
    return Answer(data=data, text=text)


def _owned(session: Session) -> Database:
    from botswarm.ledger import rights
    from botswarm.ledger.session import Database

    return Database(rights.owner_url(session.settings()))


def _database(session: Session) -> Database:
    from botswarm.ledger.session import Database

    return Database(session.settings().database_url)
