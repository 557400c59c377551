"""Read the log files of all processes of this machine as one: the end of it, and any time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from botswarm.cli.command import Group
from botswarm.cli.failures import LogsBad
from botswarm.cli.log_archive import archive, fetch
from botswarm.cli.log_choice import Choice, choosing, log_files, name_of
from botswarm.cli.moments import MOMENT
from botswarm.cli.session import Answer, Session
from botswarm.cli.table import in_columns

if TYPE_CHECKING:
    from botswarm.logfiles import Line

POLL_S = 0.3
LINES_MAX = 100_000
SHOWN_BESIDE = ("bot_id", "order_id", "task_id", "error")


@click.group(cls=Group)
def logs() -> None:
    """Read the log files of all processes as one, and check them."""


logs.add_command(archive)
logs.add_command(fetch)


@logs.command("tail")
@choosing
@click.option(
    "-n",
    "count",
    type=click.IntRange(1, LINES_MAX),
    default=30,
    show_default=True,
    help="The last so many lines that fit.",
)
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.pass_obj
def tail(
    session: Session, /, count: int, follow: bool, files: tuple[Path, ...], **given: Any
) -> Answer:
    """Print the last lines of all log files together, by time.

    With --json and --follow each line is printed as it is in its file.
    """
    from botswarm.logfiles import Follower, last

    paths, choice = log_files(session.settings(), files), Choice(**given)
    followers = [(path.stem, Follower(path)) for path in paths]
    found = last(paths, count, choice.is_worth_it, choice.fits)
    if not follow:
        return _answer(found)
    for line in found:
        _print(session, line)
    for line in _coming(followers, choice):
        _print(session, line)
    return Answer(data=None)


def _coming(followers: list[tuple[str, Any]], choice: Choice) -> Iterator[Line]:
    from botswarm.logfiles import fitting

    while True:
        new = [
            line
            for source, follower in followers
            for line in fitting(follower.new(), source, choice.is_worth_it, choice.fits)
        ]
        yield from sorted(new, key=lambda line: line.at)
        time.sleep(POLL_S)


@logs.command("search")
@click.argument("text", required=False)
@choosing
@click.option("--since", type=MOMENT, default="24h", show_default=True, help="From when on.")
@click.option("--until", type=MOMENT, default="now", show_default=True, help="Up to when.")
@click.option(
    "-n",
    "count",
    type=click.IntRange(1, LINES_MAX),
    default=1000,
    show_default=True,
    help="No more than so many, the first that fit.",
)
@click.pass_obj
def search(
    session: Session,
    /,
    text: str | None,
    since: datetime,
    until: datetime,
    count: int,
    files: tuple[Path, ...],
    **given: Any,
) -> Answer:
    """Print every line of a time that fits, also of files that were put aside, by time.

    TEXT is looked for in the whole line, whatever its case: a message, an error, an id of an order,
    a task or a trace.
    """
    from itertools import islice

    from botswarm.logfiles import through

    paths, choice = log_files(session.settings(), files), Choice(**given, text=text)
    lines = through(paths, since, until, choice.is_worth_it, choice.fits)
    found = list(islice(lines, count + 1))
    warnings = (
        [f"there are more than {count}: narrow it, or raise -n"] if len(found) > count else []
    )
    return _answer(found[:count], warnings)


@logs.command("check")
@click.option("--since", type=MOMENT, default="15m", show_default=True, help="From when on.")
@click.option("--strict", is_flag=True, help="Fail on warnings, too.")
@click.option("--file", "files", multiple=True, type=click.Path(path_type=Path, exists=True))
@click.pass_obj
def check(session: Session, /, since: datetime, strict: bool, files: tuple[Path, ...]) -> Answer:
    """Look for what should not be there: errors, tracebacks, orders that failed, rate limits.

    Exits with 3 where something is over its line.
    """
    from botswarm.cli.log_patterns import judge
    from botswarm.logfiles import through

    paths = log_files(session.settings(), files)
    now = datetime.now(UTC)
    lines = through(paths, since, now, lambda _: True, lambda _: True)
    counts = judge(line.record for line in lines)
    rows = [
        (each.pattern.name, each.status, each.count, each.pattern.what, each.sample)
        for each in counts.found
    ]
    too_bad = ("fail", "warn") if strict else ("fail",)
    failing = [each for each in counts.found if each.status in too_bad]
    failure = None
    if failing:
        named = ", ".join(f"{each.pattern.name} ({each.count})" for each in failing)
        failure = LogsBad(
            f"the logs since {since:%Y-%m-%d %H:%M:%S} say: {named}", cure=failing[0].pattern.cure
        )
    data = [
        {
            "name": each.pattern.name,
            "status": each.status,
            "count": each.count,
            "warn_above": each.pattern.warn_above,
            "fail_above": each.pattern.fail_above,
            "first": each.sample,
        }
        for each in counts.found
    ]
    heads = ["PATTERN", "STATUS", "LINES", "WHAT IT IS", "THE FIRST"]
    text = f"{in_columns(heads, rows)}\n{counts.lines} lines of {len(paths)} files were read."
    return Answer(data={"patterns": data, "lines": counts.lines}, text=text, failure=failure)


def _answer(found: list[Line], warnings: list[str] | None = None) -> Answer:
    return Answer(
        data=[{"file": line.source, **line.record} for line in found],
        text="\n".join(map(_in_words, found)) or "No line fits.",
        warnings=warnings or [],
    )


def _print(session: Session, line: Line) -> None:
    as_json: Callable[[], str] = lambda: json.dumps({"file": line.source, **line.record})  # noqa: E731
    click.echo(as_json() if session.json else _in_words(line))


def _in_words(line: Line) -> str:
    record = line.record
    level = str(record.get("level", "info"))
    shown = f" {level}:" if level not in ("info", "debug") else ""
    beside = " ".join(f"{name}={record[name]}" for name in SHOWN_BESIDE if record.get(name))
    words = f"{line.at:%Y-%m-%d %H:%M:%S.%f}"[:-3]
    return f"{words} {name_of(line):<16}{shown} {record.get('message', '')} {beside}".rstrip()
