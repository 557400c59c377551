"""Check the ledger, hold it against venues, and export it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from botswarm.cli.command import Group
from botswarm.cli.exporting import export, export_options
from botswarm.cli.failures import BooksWrong
from botswarm.cli.ledger_reconcile import reconcile
from botswarm.cli.session import Answer, Session
from botswarm.cli.table import in_columns

if TYPE_CHECKING:
    from botswarm.ledger.verify import Verification

FINDINGS_SHOWN = 50
ENTRY_COLUMNS = ("sequence", "fill", "adjustment", "postings", "previous_hash", "hash")


@click.group(cls=Group)
def ledger() -> None:
    """Check the ledger, hold it against venues, and export it."""


ledger.add_command(reconcile)


@ledger.command("verify")
@click.option(
    "--journal",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Compare with the journal of the simulated exchange, too.",
)
@click.pass_obj
def verify_ledger(session: Session, journal: Path | None) -> Answer:
    """Check that the books balance and that nothing in them was changed.

    Every entry sums to zero, the chain of hashes is whole, positions and results are what the
    fills add up to, and every order went a lawful way. With --journal: no order or fill of the
    exchange is lost, doubled or unknown. May run while the swarm trades; exits with 3 when
    something is wrong.
    """
    from botswarm.ledger.exchange_journal import verify_against
    from botswarm.ledger.session import Database
    from botswarm.ledger.verify import verify

    database = Database(session.settings().database_url)
    done = verify(database) if journal is None else verify_against(database, journal)
    data = {
        "clean": done.is_clean,
        "counts": done.counts,
        "head": {"sequence": done.head_sequence, "hash": done.head_hash},
        "findings": [asdict(finding) for finding in done.findings],
    }
    failure = None
    if not done.is_clean:
        count = len(done.findings)
        failure = BooksWrong(
            f"the ledger has {count} thing{'s'[: count != 1]} wrong",
            cure="halt trading, keep a copy of the database, and compare with a backup",
        )
    return Answer(data=data, text=_in_words(done), failure=failure)


@ledger.command("export")
@click.option(
    "--after", type=click.IntRange(0), default=0, metavar="ENTRY", help="Only later entries."
)
@export_options
@click.pass_obj
def export_ledger(session: Session, after: int, form: str, out: Path | None) -> Answer | None:
    """Write the journal: each entry with its legs, word for word, and the hash of it.

    Anybody can check it: a hash is SHA-256 over the one before and the entry's own words, as
    docs/ledger.md says.
    """
    from botswarm.ledger.store import Ledger

    entries = Ledger(session.settings().database_url).trades.entries(after)
    return export(entries, ENTRY_COLUMNS, form, out)


def _in_words(done: Verification) -> str:
    lines = [in_columns(["WHAT", "COUNT"], list(done.counts.items()))]
    lines.append(f"The chain ends at entry {done.head_sequence}: {done.head_hash}")
    if done.is_clean:
        lines.append("Nothing is wrong.")
    else:
        rows = [(each.check, each.subject, each.words) for each in done.findings]
        lines.append(in_columns(["CHECK", "WHERE", "WHAT IS WRONG"], rows[:FINDINGS_SHOWN]))
        if len(rows) > FINDINGS_SHOWN:
            lines.append(f"... and {len(rows) - FINDINGS_SHOWN} more (--json lists all)")
    return "\n\n".join(lines)
