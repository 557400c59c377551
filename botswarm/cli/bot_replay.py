"""``botswarm bot replay``: whether a bot would decide again what it decided then."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from botswarm.cli.bot_choice import catalog_of, ledger_of, now, pair
from botswarm.cli.command import Command
from botswarm.cli.failures import CheckFailed
from botswarm.cli.moments import MOMENT
from botswarm.cli.session import Answer, Session
from botswarm.cli.table import in_columns

if TYPE_CHECKING:
    from botswarm.bots.replay import Difference, Replay

SHOWN = 50
CELL_MAX = 60


@click.command("replay", cls=Command)
@click.argument("name")
@click.option(
    "--from",
    "first",
    type=MOMENT,
    default="1h",
    show_default="an hour ago",
    help="Such as 12:00 or 2h for two hours ago.",
)
@click.option("--to", "last", type=MOMENT, default="now", show_default="now")
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="NAME=VALUE",
    help="What if: with this parameter, or budget, instead.",
)
@click.pass_obj  # fmt: skip
def replay_bot(
    session: Session, /, name: str, first: datetime, last: datetime, changes: tuple[str, ...]
) -> Answer:
    """Decide again over what was recorded, and show every difference from what was decided then.

    Each recorded change is decided again on the very same inputs, by the version that decided.
    In between, the closes of candles show whether a decision is missing. Ends with 3 where
    anything differs, unless --set asked for it.
    """
    from botswarm.bots.replay import replay

    if last <= first:
        raise click.UsageError(f"--to {last:%H:%M:%S} is not after --from {first:%H:%M:%S}")
    found = replay(
        ledger_of(session),
        catalog_of(session.settings()),
        name,
        first,
        min(last, now()),
        dict(pair(each) for each in changes),
    )
    failure = None
    if found.differences and not changes:
        failure = CheckFailed(
            f"{name} would decide otherwise now: {len(found.differences)} differences",
            cure="see which code or strategy file changed, or whether the swarm was down then",
        )
    return Answer(data=_data(found), text=_in_words(found), failure=failure)


def _data(found: Replay) -> dict[str, Any]:
    return {
        "bot": found.bot,
        "from": found.first.isoformat(),
        "to": found.last.isoformat(),
        "decided_again": found.decided_again,
        "not_asked": found.not_asked,
        "lost": dict(found.lost),
        "closes": {
            "checked": found.closes.checked,
            "brief": found.closes.brief,
            "not_covered": found.closes.not_covered,
        },
        "differences": [_difference(each) for each in found.differences],
    }


def _difference(each: Difference) -> dict[str, Any]:
    return {
        "at": each.at.isoformat(),
        "sequence": each.sequence,
        "what": each.what,
        "then": each.then,
        "again": each.again,
    }


def _in_words(found: Replay) -> str:
    closes = found.closes
    lines = [
        f"{found.bot}, {found.first:%Y-%m-%d %H:%M:%S} to {found.last:%Y-%m-%d %H:%M:%S}: "
        f"{len(found.differences)} differences.",
        f"{found.decided_again} changed decisions were made again on their own inputs.",
        f"{closes.checked} closes between them agree; {closes.not_covered} say nothing, "
        f"{closes.brief} were brief.",
    ]
    if found.not_asked:
        lines.append(f"{found.not_asked} times it was stopped before it was asked.")
    lines += [f"{count} could not be made again: {why}." for why, count in found.lost.items()]
    if found.differences:
        rows = [
            (f"{each.at:%H:%M:%S}", each.what, _short(each.then), _short(each.again))
            for each in found.differences[:SHOWN]
        ]
        lines += ["", in_columns(["AT", "WHAT", "THEN", "NOW"], rows)]
        if (more := len(found.differences) - SHOWN) > 0:
            lines.append(f"and {more} more; all of them with --json")
    return "\n".join(lines)


def _short(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict) and "side" in value[0]:
        words = ", ".join(f"{each['side']} {each['quantity']}" for each in value)
    else:
        words = "-" if value in (None, [], {}) else str(value)
    return words if len(words) <= CELL_MAX else words[: CELL_MAX - 3] + "..."
