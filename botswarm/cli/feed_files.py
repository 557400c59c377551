"""Frames in files: normalise prints them as ticks."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

import click

from botswarm.cli.command import Command
from botswarm.cli.failures import CheckFailed
from botswarm.cli.session import Session
from botswarm.cli.stdout import lines_output

if TYPE_CHECKING:
    from botswarm.feed.normalising import Account, Gap, Normaliser


@click.command(cls=Command)
@click.option("--venue", required=True, metavar="VENUE", help="Whose frames they are.")
@click.option(
    "--market",
    metavar="BASE-QUOTE",
    help="The market of frames that name none, as Binance's raw partial books do.",
)
@click.option("--gaps", is_flag=True, help="Print a line of JSON for each gap, too.")
@click.option(
    "--strict", is_flag=True, help="Exit with 3 when a frame was dropped, or a gap found."
)
@click.argument("file", metavar="FILE")
@click.pass_obj
def normalise(
    session: Session, venue: str, market: str | None, gaps: bool, strict: bool, file: str
) -> None:
    """Print recorded frames as ticks, one line of JSON each.

    FILE has one frame a line, with or without a leading "<epoch seconds>: ", also compressed
    with gzip; - is standard input. No venue is asked. What was read, what was dropped and why,
    and which trades or book changes are missing is said on standard error, with --json as one
    line of JSON. The format is described in docs/feed-format.md.
    """
    from botswarm.exchanges.registry import recorded
    from botswarm.feed.normalising import Normaliser

    data = recorded(session.settings(), venue)
    with lines_output() as output:
        on_gap = (lambda gap: _print_gap(output, venue, gap)) if gaps else None
        normaliser = Normaliser(data, market=market, on_gap=on_gap)
        _print_ticks(normaliser, file, output)
    account = normaliser.account
    say(session, venue, account)
    if strict and not account.is_clean:
        # Not as an error's envelope: standard output has nothing but ticks.
        click.get_current_context().exit(CheckFailed.exit_code)


def _print_ticks(normaliser: Normaliser, file: str, output: IO[bytes]) -> None:
    from botswarm.feed import recording
    from botswarm.feed.ndjson import line

    stdin = sys.stdin.buffer
    assert isinstance(stdin, io.BufferedReader)
    with recording.opened(file, stdin) as opened:
        try:
            for tick in normaliser.ticks(recording.lines(opened)):
                output.write(line(tick))
        except recording.Truncated as error:
            normaliser.account.drop("torn_file", normaliser.account.lines + 1, error.cause)


def _print_gap(output: IO[bytes], venue: str, gap: Gap) -> None:
    import msgspec

    told = {"venue": venue, "symbol": gap.symbol, "channel": gap.channel, "gap": _told(gap)}
    output.write(msgspec.json.encode(told) + b"\n")


# --- the account ------------------------------------------------------------------------------


def say(session: Session, venue: str, account: Account) -> None:
    if session.json:
        import json

        click.echo(json.dumps(summary(venue, account)), err=True)
    else:
        for line in _in_words(account):
            click.echo(line, err=True)


def summary(venue: str, account: Account) -> dict[str, Any]:
    return {
        "venue": venue,
        "lines": account.lines,
        "empty": account.empty,
        "comments": account.comments,
        "frames": account.frames,
        "ticks": dict(account.ticks),
        "notices": dict(account.notices),
        "silent": account.silent,
        "dropped": {
            reason: {"count": found.count, "line": found.line, "words": found.words}
            for reason, found in account.dropped.items()
        },
        "gaps": account.gaps,
        "missing": account.missing,
        "gap_list": [_told(gap) for gap in account.gaps_shown],
        "duplicates": account.duplicates,
        "late": account.late,
    }


def _told(gap: Gap) -> dict[str, Any]:
    return {
        "line": gap.line,
        "symbol": gap.symbol,
        "channel": gap.channel,
        "reason": gap.reason,
        "from": gap.first,
        "to": gap.last,
        "missing": gap.missing,
        "words": gap.words,
    }


def _in_words(account: Account) -> Iterator[str]:
    ticks, notices = account.ticks, account.notices
    yield (
        f"read {account.lines} lines: {account.frames} frames, {account.comments} comments, "
        f"{account.empty} empty"
    )
    yield f"ticks {ticks.total()}{_each(ticks)}"
    yield f"notices {notices.total()}{_each(notices)}; {account.silent} frames say nothing we tell"
    yield f"dropped {_dropped(account)}"
    for reason, found in sorted(account.dropped.items()):
        yield f"  {reason} {found.count}, first in line {found.line}: {found.words}"
    yield (
        f"gaps {account.gaps}, with {account.missing} trades or frames missing; "
        f"{account.duplicates} came twice, {account.late} came late"
    )
    for gap in account.gaps_shown:
        stream = f"{gap.channel} {gap.symbol}" if gap.symbol else "connection"
        missing = "" if gap.missing is None else f", {gap.missing} missing"
        yield f"  line {gap.line}, {stream}: {gap.reason}, {gap.words}{missing}"
    if account.gaps > len(account.gaps_shown):
        yield f"  and {account.gaps - len(account.gaps_shown)} more"


def _each(counts: Any) -> str:
    found = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
    return f": {found}" if found else ""


def _dropped(account: Account) -> int:
    return sum(found.count for found in account.dropped.values())
