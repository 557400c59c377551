"""``botswarm bot logs``: what was said and done about one bot."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from botswarm.cli.bot_choice import ledger_of
from botswarm.cli.command import Command
from botswarm.cli.log_choice import known_files
from botswarm.cli.session import Answer, Session

if TYPE_CHECKING:
    from botswarm.bots.logs import Line, Tail
    from botswarm.ledger.store import Ledger

POLL_S = 0.5
LATE = timedelta(seconds=10)
LINES_MAX = 100_000


@click.command("logs", cls=Command)
@click.argument("name")
@click.option(
    "-n",
    "count",
    type=click.IntRange(1, LINES_MAX),
    default=50,
    show_default=True,
    help="The last so many lines.",
)
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option(
    "--file",
    "files",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A log file to read; default: BOTSWARM_LOG_FILE and *.log in the state folder's logs.",
)
@click.pass_obj  # fmt: skip
def show_logs(
    session: Session, /, name: str, count: int, follow: bool, files: tuple[Path, ...]
) -> Answer:
    """Print the log lines about a bot, with its audit and its orders, by time.

    The audit and the orders are in the ledger and always there; log lines only where processes
    write files.
    """
    from botswarm.bots.logs import Tail, latest
    from botswarm.bots.registry import unknown

    ledger = ledger_of(session)
    found_files = list(files) or known_files(session.settings())
    tails = [Tail(file) for file in found_files]
    found = latest(ledger, found_files, name, count)
    if not found and name not in ledger.roster.names():
        raise unknown(ledger, [name])
    warnings = []
    if not found_files:
        warnings = ["no log file is written here (BOTSWARM_LOG_FILE): what follows is the ledger's"]
    answer = Answer(
        data=[_data(each) for each in found],
        text="\n".join(map(_in_words, found)) or f"Nothing was said of {name} yet.",
        warnings=warnings,
    )
    if not follow:
        return answer
    if session.json:
        for each in found:
            click.echo(json.dumps(_data(each)))
    else:
        session.answer(answer)
    for line in _coming(ledger, tails, name, found):
        click.echo(json.dumps(_data(line)) if session.json else _in_words(line))
    return Answer(data=None)


def _coming(ledger: Ledger, tails: list[Tail], name: str, found: list[Line]) -> Iterator[Line]:
    from botswarm.bots.logs import said_by

    told = set(found)
    since = max((each.at for each in found if each.source != "log"), default=None)
    while True:
        time.sleep(POLL_S)
        new = [line for tail in tails for line in tail.new(name)]
        # What was committed late may be older than what was seen already.
        after = since and since - LATE
        new += [each for each in said_by(ledger, name, after, LINES_MAX) if each not in told]
        told |= set(new)
        since = max((each.at for each in new if each.source != "log"), default=since)
        yield from sorted(new)


def _in_words(line: Line) -> str:
    level = f" {line.level}:" if line.level not in ("info", "debug") else ""
    return f"{line.at:%Y-%m-%d %H:%M:%S.%f}"[:-3] + f"  {line.source:<5} {level} {line.words}"


def _data(line: Line) -> dict[str, object]:
    return {
        "at": line.at.isoformat(),
        "source": line.source,
        "level": line.level,
        "words": line.words,
    }
