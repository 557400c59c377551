"""What days came to: the reports that are made each night, and one made now."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from botswarm.cli.bot_choice import ledger_of
from botswarm.cli.command import Group
from botswarm.cli.schedule_words import data_of
from botswarm.cli.session import Answer, Session
from botswarm.cli.table import in_columns

if TYPE_CHECKING:
    from botswarm.ledger.reports import Report


@click.group(cls=Group)
def report() -> None:
    """See what days came to: orders, fills, results, alerts, what was missed."""


@report.command("list")
@click.option(
    "-n", "count", type=click.IntRange(1, 3650), default=14, show_default=True, help="How many."
)
@click.pass_obj
def list_reports(session: Session, count: int) -> Answer:
    """Print the latest days that were reported, a line each."""
    from botswarm.ledger.reports import Reports

    found = Reports(ledger_of(session).database).latest(count)
    rows = [
        (
            each.day,
            sum(each.data["orders"].values()),
            sum(each.data["fills"].values()),
            _spelled(each.data["realised"]) or "-",
            each.data["alerts"],
            sum(each.data["missed_slots"].values()),
        )
        for each in found
    ]
    heads = ["DAY", "ORDERS", "FILLS", "REALISED", "ALERTS", "MISSED"]
    return Answer(
        data=[data_of(each) for each in found],
        text=in_columns(heads, rows) if rows else "No day has been reported yet.",
        next=[] if rows else ["botswarm report show"],
    )


@report.command("show")
@click.argument("day", required=False, type=click.DateTime(["%Y-%m-%d"]))
@click.pass_obj
def show(session: Session, day: datetime | None) -> Answer:
    """Print what a day (UTC) came to; yesterday where none is named.

    A day that is not over, or was not reported, is added up now and not kept.
    """
    from botswarm.ledger.reports import Reports

    now = datetime.now(UTC)
    wanted: date = day.date() if day is not None else (now - timedelta(days=1)).date()
    reports = Reports(ledger_of(session).database)
    found = reports.of(wanted) or reports.now(wanted, now)
    return Answer(data=data_of(found), text=_in_words(found))


def _in_words(report: Report) -> str:
    data = report.data
    lines = [
        (f"{report.day} (UTC), added up {report.made_at:%Y-%m-%d %H:%M}", ""),
        ("orders", _spelled(data["orders"]) or "none"),
        ("fills", _spelled(data["fills"]) or "none"),
        ("realised", _spelled(data["realised"]) or "nothing"),
        ("commission", _spelled(data["commission"]) or "none"),
        ("events of risk", _spelled(data["risk_events"]) or "none"),
        ("alerts", str(data["alerts"])),
        ("trading halted or resumed", str(data["changes_of_trading_state"])),
        ("missed slots", _spelled(data["missed_slots"]) or "none"),
    ]
    return "\n".join(f"{head:<26} {words}".rstrip() for head, words in lines)


def _spelled(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in sorted(values.items()))
