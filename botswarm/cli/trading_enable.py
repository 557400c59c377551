"""``trading enable``: open trading to all bots at once, or to ever more of them while watching."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from botswarm.cli.bot_choice import actor, ledger_of, now
from botswarm.cli.command import Command
from botswarm.cli.moments import Duration
from botswarm.cli.session import Answer, Session
from botswarm.cli.table import in_columns
from botswarm.cli.typed import have_typed

if TYPE_CHECKING:
    from botswarm.config import Settings
    from botswarm.domain.enabling import Enabling, Figures, Plan, Watched
    from botswarm.ledger.store import Ledger

_BY_A_PERSON = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)
SILENT_S = 15.0
"""A look is due every two seconds."""


class Stages(click.ParamType[tuple[int, ...]]):
    name = "PERCENT,…"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        found = [each.strip().removesuffix("%") for each in str(value).split(",")]
        if not all(re.fullmatch(r"[0-9]{1,3}", each) for each in found):
            self.fail(f"{value!r} are no stages: write 10,25,50,100", param, ctx)
        return tuple(int(each) for each in found)


@click.command("enable", cls=Command)
@click.option("--gradual", is_flag=True, help="To ever more of the bots, while something watches.")
@click.option(
    "--stages",
    type=Stages(),
    default="10,25,50,100",
    show_default=True,
    help="Percent of bots.",
)
@click.option(
    "--hold", type=Duration(), default="15m", show_default=True, help="How long each is watched."
)
@click.option(
    "--abort-on",
    "limits",
    multiple=True,
    metavar="WHAT=LIMIT,…",
    help="What makes it step back: error_rate=5%, rejects=5%, slippage=1%, data_age=60s, which "
    "hold unless said otherwise, and loss=AMOUNT; WHAT=off does not watch it.",
)
@click.option("--reason", default="enabled from the command line", help="Kept in the audit log.")
@click.option("--status", "of_status", is_flag=True, help="Show how it goes, and how others went.")
@click.option("--cancel", "of_cancel", is_flag=True, help="Open no further; leave it as it is.")
@click.pass_obj
def enable(
    session: Session,
    gradual: bool,
    stages: tuple[int, ...],
    hold: float,
    limits: tuple[str, ...],
    reason: str,
    of_status: bool,
    of_cancel: bool,
) -> Answer:
    """Open the swarm's trading, to all bots or step by step. Asks for the word "enable".

    With --gradual the bots of a share that their names choose may grow positions, the others only
    shrink theirs. Each stage is watched for a while: where orders fail, are refused or filled
    badly, where money is lost or prices grow old, it steps back by itself and says why. It goes
    on whatever restarts, and ends when somebody halts or opens trading otherwise.

    Refused while processes are of different builds or settings: botswarm ps --all.
    """
    if sum((gradual, of_status, of_cancel)) > 1:
        raise click.UsageError("name one of --gradual, --status and --cancel")
    if not gradual and (strange := _of_gradual()):
        raise click.UsageError(
            f"{strange} belongs to --gradual, without which trading opens to all bots at once"
        )
    ledger = ledger_of(session)
    if of_status:
        return _status(ledger)
    if of_cancel:
        done = ledger.enablings.cancel(actor=actor(), reason=reason, now=now())
        text = f"Enabling {done.id} is cancelled; trading stays open to {done.share} % of the bots."
        return Answer(data=described(done), text=text, next=["botswarm trading enable"])
    plan = _plan(stages, hold, limits) if gradual else None
    _confirm(session, plan)
    if plan is not None:
        return _begun(session, ledger, plan, reason)
    ledger.enablings.open_all(actor=actor(), reason=reason, now=now())
    _lift_stop_file(session.settings())
    return Answer(data={"share": 100}, text="Trading is open to all bots.")


def _of_gradual() -> str | None:
    """An option that was given and says nothing without --gradual."""
    context = click.get_current_context()
    options = {"stages": "--stages", "hold": "--hold", "limits": "--abort-on"}
    given = (name for name in options if context.get_parameter_source(name) in _BY_A_PERSON)
    return next((options[name] for name in given), None)


def _begun(session: Session, ledger: Ledger, plan: Plan, reason: str) -> Answer:
    begun = ledger.enablings.begin(plan, actor=actor(), reason=reason, now=now())
    _lift_stop_file(session.settings())
    when = f"{begun.next_at:%H:%M:%S}Z"
    return Answer(
        data=described(begun),
        text=f"Trading is open to {begun.share} % of the bots; the next stage begins at {when}.",
        warnings=_missing(session.settings()),
        next=["botswarm trading enable --status"],
    )


def _lift_stop_file(settings: Settings) -> None:
    """As ``trading resume`` does: else a worker that starts later would obey it once more."""
    from botswarm.trading.stop_file import StopFile

    StopFile.of(settings.state_dir).lift()


def _missing(settings: Settings) -> Sequence[str]:
    """Who has to run for a stage to go on, or back."""
    from botswarm.ledger.plain import asking
    from botswarm.ledger.processes import seen

    with asking(settings.database_url) as ask:
        roles = {each.role for each in seen(ask, now())}
    return [
        f"no {role} has signed in the ledger lately: nobody looks, so it stays as it is"
        for role in ("beat", "worker")
        if role not in roles
    ]


def _plan(stages: tuple[int, ...], hold_s: float, limits: Sequence[str]) -> Plan:
    from botswarm.domain.enabling import DEFAULT_LIMITS, Plan

    plan = Plan(
        stages=stages,
        hold=timedelta(seconds=hold_s),
        abort_on=_limits(dict(DEFAULT_LIMITS), limits),
    )
    if (problem := plan.problem()) is not None:
        raise click.UsageError(f"{problem.cause}; {problem.cure}")
    return plan


def _limits(known: dict[Watched, Decimal], given: Sequence[str]) -> Mapping[Watched, Decimal]:
    from botswarm.domain.enabling import UNITS, Watched

    for pair in ",".join(given).split(","):
        if not pair.strip():
            continue
        name, _, text = pair.strip().partition("=")
        if name not in list(Watched):
            words = ", ".join(Watched)
            raise click.UsageError(f"--abort-on names {name!r}; there are {words}")
        watched = Watched(name)
        if text == "off":
            known.pop(watched, None)
            continue
        number = text.removesuffix(UNITS[watched].strip() or " ")
        if not re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", number, re.ASCII):
            raise click.UsageError(f"--abort-on gives {name} the limit {text!r}; write {name}=5")
        known[watched] = Decimal(number)
    return known


def _confirm(session: Session, plan: Plan | None) -> None:
    what = "all bots" if plan is None else f"{plan.stages[0]} % of the bots, then ever more"
    have_typed(session, "enable", f"open trading to {what}")


# --- as it is shown -------------------------------------------------------------------------------


def _status(ledger: Ledger) -> Answer:
    found, at = ledger.enablings.latest(), now()
    if not found:
        return Answer(data=[], text="Trading was never opened step by step.")
    rows = [
        (
            str(each.id),
            f"{each.at:%Y-%m-%d %H:%M:%S}",
            each.actor,
            each.state.value.replace("_", " "),
            f"{each.share} %",
            "-" if each.next_at is None else f"{each.next_at:%H:%M:%S}Z",
            each.words or "-",
        )
        for each in found
    ]
    heads = ["NO.", "BEGUN", "BY", "STATE", "SHARE", "NEXT", "WHY"]
    lines = [in_columns(heads, rows)]
    latest, warnings = found[0], list[str]()
    if latest.figures is not None:
        lines.append(f"measured last: {in_words(latest.figures)}")
    if not latest.state.is_over:
        warnings = _unwatched(latest, at)
    return Answer(
        data=[described(each) for each in found], text="\n".join(lines), warnings=warnings
    )


def _unwatched(enabling: Enabling, at: datetime) -> list[str]:
    last = enabling.evaluated_at or enabling.stage_at
    silent_s = (at - last).total_seconds()
    if silent_s <= SILENT_S:
        return []
    return [f"nobody has looked for {silent_s:.0f} s: is there a beat, and a worker of ops?"]


def in_words(figures: Figures) -> str:
    from botswarm.domain.enabling import UNITS, Watched

    told = [f"{figures.orders} orders"]
    for watched in Watched:
        value = figures.of(watched)
        shown = "-" if value is None else f"{value:.6g}{UNITS[watched]}"
        told.append(f"{watched} {shown}")
    return ", ".join(told)


def described(each: Enabling) -> dict[str, object]:
    from botswarm.domain.enabling import Watched

    figures = each.figures
    return {
        "id": each.id,
        "at": each.at.isoformat(),
        "actor": each.actor,
        "reason": each.reason,
        "stages": list(each.plan.stages),
        "hold_s": each.plan.hold.total_seconds(),
        "abort_on": {watched.value: str(limit) for watched, limit in each.plan.abort_on.items()},
        "state": each.state.value,
        "share": each.share,
        "stage_at": each.stage_at.isoformat(),
        "next_at": each.next_at and each.next_at.isoformat(),
        "evaluated_at": each.evaluated_at and each.evaluated_at.isoformat(),
        "figures": None
        if figures is None
        else {
            "orders": figures.orders,
            **{
                watched.value: None if (value := figures.of(watched)) is None else str(value)
                for watched in Watched
            },
        },
        "ended_at": each.ended_at and each.ended_at.isoformat(),
        "words": each.words,
    }
