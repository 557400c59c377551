"""What is at stake and what is wrong now, what was found before, and a sweep by hand."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

from botswarm.cli.bot_choice import actor, ledger_of, now
from botswarm.cli.command import Command
from botswarm.cli.moments import MOMENT
from botswarm.cli.order_cancel import confirm
from botswarm.cli.risk_limits import scope_option
from botswarm.cli.session import Answer, Session
from botswarm.cli.table import in_columns
from botswarm.domain.amount import plain, plain_or_none

if TYPE_CHECKING:
    from botswarm.domain.standing import AtRisk
    from botswarm.ledger.findings import Standing, SweepDone
    from botswarm.ledger.risk_events import RiskEvent

CENTS = Decimal("0.01")
SEVERITIES = ("info", "warn", "breach")


@click.command("status", cls=Command)
@scope_option("Only of this scope.")
@click.option("--bots", "is_bots", is_flag=True, help="A line for each bot, too.")
@click.pass_obj
def show_status(session: Session, scope: str | None, is_bots: bool) -> Answer:
    """Print profit, loss and exposure by scope, what is wrong now, and when it was looked last.

    Sums rest on the last prices that the swarm has heard; what rests on one that is missing or
    too old is unknown, and said to be.
    """
    ledger = ledger_of(session)
    standings = [
        each
        for each in ledger.risk_standings.all()
        if (each.scope == scope if scope else is_bots or not each.scope.startswith("bot:"))
    ]
    standings.sort(key=lambda each: (each.scope != "swarm", each.scope, each.quote))
    findings = [each for each in ledger.findings.standing() if scope in (None, each.finding.scope)]
    last = ledger.findings.last_sweeps(_names())
    parts = [
        _standings_table(standings) if standings else "Nothing is held, and nothing was.",
        _findings_table(findings) if findings else "Nothing is wrong.",
        _sweeps_table(last),
    ]
    return Answer(
        data={
            "standings": [_standing_data(each) for each in standings],
            "findings": [_finding_data(each) for each in findings],
            "sweeps": {name: _sweep_data(each) for name, each in last.items()},
        },
        text="\n\n".join(parts),
        warnings=[*_late(last), *_failed(last)],
    )


@click.command("history", cls=Command)
@scope_option("Only of this scope.")
@click.option("--kind", help="Only of this kind of limit, finding or protection.")
@click.option("--severity", type=click.Choice(SEVERITIES), help="Only of this severity.")
@click.option("--since", type=MOMENT, help="Only after this.")
@click.option("--limit", "most", type=click.IntRange(1, 10_000), default=50, show_default=True)
@click.pass_obj
def show_history(
    session: Session,
    scope: str | None,
    kind: str | None,
    severity: str | None,
    since: datetime | None,
    most: int,
) -> Answer:
    """Print what was found against limits and protections, with its numbers; the latest first."""
    from botswarm.ledger import risk_events
    from botswarm.ledger.risk_events import Severity

    found = ledger_of(session).database.read(
        lambda ledger: risk_events.latest(
            ledger,
            scope=scope,
            kind=kind,
            severity=None if severity is None else Severity(severity),
            after=since,
            limit=most,
        )
    )
    rows = [
        (f"{each.at:%Y-%m-%d %H:%M:%S}", each.severity.value, each.kind, each.scope, each.words)
        for each in found
    ]
    text = in_columns(["AT", "SEVERITY", "KIND", "SCOPE", "WHAT"], rows) if rows else "Nothing."
    return Answer(data=[_event_data(each) for each in found], text=text)


@click.command("sweep", cls=Command)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.pass_obj
def run_sweeps(session: Session, names: tuple[str, ...]) -> Answer:
    """Run risk sweeps now, in this process: all of them, or those that are named.

    What they find is kept, told and enforced as if beat had sent them. It works without broker
    and workers.
    """
    from botswarm.clock import SystemClock
    from botswarm.errors import Unreachable
    from botswarm.exchanges import accounts
    from botswarm.exchanges.accounts import Account
    from botswarm.sweeps.sweep import Rules, Tools
    from botswarm.sweeps.table import SWEEPS, sweep
    from botswarm.trading.limits import limits_of

    settings, ledger = session.settings(), ledger_of(session)
    tools = Tools(
        ledger=ledger,
        clock=SystemClock(),
        rules=Rules.of(settings, limits_of(settings).defaults),
        kinds=lambda venue, account: accounts.kinds(Account(venue, account)),
    )
    done = [sweep(name, tools) for name in names or [each.name for each in SWEEPS]]
    failed = next((each for each in done if each.error is not None), None)
    return Answer(
        data=[_sweep_data(each) for each in done],
        text=_sweeps_table({each.name: each for each in done}),
        next=["botswarm risk status"],
        failure=None
        if failed is None
        else Unreachable(f"the sweep {failed.name} failed: {failed.error}"),
    )


@click.command("reset", cls=Command)
@scope_option("Of which the peak and the trading day begin anew.", "swarm")
@click.option("--reason", default="reset from the command line", help="Kept in the audit log.")
@click.pass_obj
def reset_scope(session: Session, scope: str, reason: str) -> Answer:
    """Let the peak and the trading day of a scope begin anew, with what it stands at now.

    After a drawdown that is known and accepted, or after money was taken out of an account: else
    the next sweep holds again what somebody resumed. It resumes nothing itself.
    """
    from botswarm.errors import NotFound

    confirm(session, f"forget the peak and today's losses of {scope}", "")
    count = ledger_of(session).sweeping.reset(scope, now(), actor=actor(), reason=reason)
    if not count:
        raise NotFound(f"nothing is known of {scope}", cure="see: botswarm risk status --bots")
    return Answer(data={"scope": scope, "reset": count}, text=f"{scope}: begins anew")


# --- words ----------------------------------------------------------------------------------------


def _names() -> list[str]:
    from botswarm.sweeps.table import SWEEPS

    return [each.name for each in SWEEPS]


def _late(last: dict[str, SweepDone]) -> list[str]:
    found = last.get("positions")
    if found is None:
        return ["nothing was swept yet: do beat and a worker of the queue risk run?"]
    age = (now() - found.at).total_seconds()
    if age > 60:
        return [f"positions were last looked at {age:.0f} s ago: do beat and a risk worker run?"]
    return []


def _failed(last: dict[str, SweepDone]) -> list[str]:
    return [f"the sweep {each.name} failed: {each.error}" for each in last.values() if each.error]


def _standings_table(standings: list[AtRisk]) -> str:
    rows = [
        (
            each.scope,
            each.quote,
            str(each.positions),
            _money(each.realised),
            _money(each.unrealised),
            _money(each.today),
            _money(each.drawdown),
            _money(each.gross),
            _money(each.net),
            str(each.losing_streak),
            each.unknown or "",
        )
        for each in standings
    ]
    heads = ["SCOPE", "IN", "POSITIONS", "REALISED", "UNREALISED", "TODAY", "FROM PEAK"]
    return in_columns([*heads, "GROSS", "NET", "LOSSES", "UNKNOWN"], rows)


def _findings_table(findings: list[Standing]) -> str:
    rows = [
        (
            each.finding.severity,
            each.finding.kind,
            f"{each.first_at:%Y-%m-%d %H:%M:%S}",
            each.finding.words,
        )
        for each in findings
    ]
    return in_columns(["SEVERITY", "KIND", "SINCE", "WHAT"], rows)


def _sweeps_table(done: dict[str, SweepDone]) -> str:
    rows = [
        (
            each.name,
            f"{each.at:%Y-%m-%d %H:%M:%S}",
            f"{each.took_ms} ms",
            str(each.looked),
            str(each.found),
            each.error or ", ".join(each.result.get("restricted", ())),
        )
        for each in done.values()
    ]
    return in_columns(["SWEEP", "LAST", "TOOK", "LOOKED AT", "FOUND", "DID"], rows)


def _money(value: Decimal | None) -> str:
    return "?" if value is None else plain(value.quantize(CENTS))


def _moment(value: datetime | None) -> str | None:
    return None if value is None else value.isoformat()


def _standing_data(each: AtRisk) -> dict[str, Any]:
    amounts = ("realised", "unrealised", "today", "result", "peak", "drawdown", "equity")
    more = ("equity_peak", "equity_drawdown", "gross", "net")
    return {
        "scope": each.scope,
        "quote": each.quote,
        "at": each.at.isoformat(),
        "day": each.day,
        "positions": each.positions,
        **{name: plain_or_none(getattr(each, name)) for name in (*amounts, *more)},
        "losing_streak": each.losing_streak,
        "lost_at": _moment(each.lost_at),
        "marked_at": _moment(each.marked_at),
        "unknown": each.unknown,
    }


def _finding_data(each: Standing) -> dict[str, Any]:
    finding = each.finding
    return {
        "sweep": each.sweep,
        "kind": finding.kind,
        "subject": finding.subject,
        "scope": finding.scope,
        "severity": finding.severity,
        "since": each.first_at.isoformat(),
        "last_at": each.last_at.isoformat(),
        "limit": plain_or_none(finding.limit_value),
        "value": plain_or_none(finding.value),
        "words": finding.words,
        "numbers": dict(finding.numbers),
    }


def _sweep_data(each: SweepDone) -> dict[str, Any]:
    return {
        "name": each.name,
        "at": each.at.isoformat(),
        "took_ms": each.took_ms,
        "looked": each.looked,
        "found": each.found,
        "result": each.result,
        "error": each.error,
    }


def _event_data(each: RiskEvent) -> dict[str, Any]:
    return {
        "id": each.id,
        "at": each.at.isoformat(),
        "scope": each.scope,
        "kind": each.kind,
        "severity": each.severity.value,
        "limit": plain_or_none(each.limit_value),
        "value": plain_or_none(each.value),
        "venue": each.venue,
        "account": each.account,
        "symbol": each.symbol,
        "bot": each.bot,
        "order_id": each.order_id,
        "words": each.words,
        "numbers": each.numbers,
    }
