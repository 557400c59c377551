"""Break things on purpose and see whether an order is lost or doubled by it."""

from __future__ import annotations

import random
import re
from pathlib import Path

import click

from botswarm.cli.chaos_simulate import simulate
from botswarm.cli.command import Group
from botswarm.cli.session import Answer, Session
from botswarm.errors import BotswarmError

UNITS_S = {"s": 1, "m": 60, "h": 3600}


class Length(click.ParamType):  # type: ignore[type-arg]  # generic in some versions only
    name = "length"

    def convert(self, value: object, _: object, __: object) -> float:
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", str(value))
        if found is None:
            self.fail(f"{value!r} is no length of time; write 90s, 5m or 1h")
        return float(found[1]) * UNITS_S[found[2]]


@click.group(cls=Group)
def chaos() -> None:
    """Break things on purpose and see whether an order is lost or doubled by it."""


chaos.add_command(simulate)


@chaos.command("run")
@click.option(
    "--faults", default="all", show_default=True, metavar="CODES", help="Such as F2,F12,F18."
)
@click.option(
    "--for",
    "seconds",
    type=Length(),
    default="5m",
    show_default=True,
    help="How long faults strike, such as 90s, 5m or 90m; the end comes after that.",
)
@click.option(
    "--rounds",
    type=click.IntRange(1, 1000),
    help="How often each strikes.  [default: as often as fits]",
)
@click.option("--seed", type=click.IntRange(0), help="Replays a schedule.  [default: a new one]")
@click.option(
    "--orders-per-s", "per_s", type=click.FloatRange(0.1, 50), default=7, show_default=True
)
@click.option(
    "--at-once",
    "lanes",
    type=click.IntRange(1, 8),
    default=2,
    show_default=True,
    help="So many faults may strike at once, where they do not touch the same thing.",
)
@click.option(
    "--report",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the report there too, as Markdown.",
)
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the state folder and every log there.",
)
@click.pass_obj
def run(
    session: Session,
    faults: str,
    seconds: float,
    rounds: int | None,
    seed: int | None,
    per_s: float,
    lanes: int,
    path: Path | None,
    folder: Path | None,
) -> Answer:
    """Run a swarm of real processes, break everything in turn, and hold it to its promises.

    It starts RabbitMQ, PostgreSQL, Redis, the simulated exchange and a swarm of its own, all with
    data of their own, drives orders through it and judges the ledger by the exchange's journal.
    The exit code is 1 where a promise was broken. docs/chaos.md has the list.
    """
    from botswarm.chaos.campaign import main, report

    progress = session.progress
    drawn = random.randrange(1_000_000) if seed is None else seed  # noqa: S311 - no secret
    progress(f"seed {drawn}")
    codes = [] if faults == "all" else [code.strip().upper() for code in faults.split(",")]
    options = main.Options(
        faults=codes,
        seconds=seconds,
        rounds=rounds,
        seed=drawn,
        per_s=per_s,
        lanes=lanes,
        folder=None if folder is None else folder.resolve(),
    )
    done = main.run(options, progress)
    text = report.as_text(done)
    if path is not None:
        path.write_text(text)
    failure = None
    if not done.is_clean:
        broken = [name for name, breaches in done.breaches.items() if breaches]
        failure = BotswarmError(
            f"the campaign failed: {', '.join(broken) or 'a fault could not strike'}",
            cure=f"play it again with --seed {drawn} --folder FOLDER and read the logs there",
        )
    return Answer(data=done.as_data(), text=text, failure=failure)
