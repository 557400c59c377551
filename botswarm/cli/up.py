"""Run the whole swarm on this machine: start it, look at its processes, stop it."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from botswarm.cli import standby
from botswarm.cli.command import Command
from botswarm.cli.log_carrying import carried
from botswarm.cli.numbers import Seconds
from botswarm.cli.session import Answer, Session
from botswarm.cli.start import port_answers
from botswarm.cli.table import in_columns
from botswarm.errors import NotFound, Refused, TimedOut

if TYPE_CHECKING:
    from botswarm.config import Configuration
    from botswarm.supervisor.up import Plan

PROCFILE = Path("Procfile")
DOWN_S = 150.0
Callback = Callable[..., Any]


def options(command: Callback) -> Callback:
    command = click.option(
        "--no-demo", is_flag=True, help="Put no demo bots into an empty ledger."
    )(command)
    return click.option(
        "--procfile",
        type=click.Path(path_type=Path, dir_okay=False),
        help="What to run; else the Procfile of this folder, else the one that was installed.",
    )(command)


@click.command(cls=Command)
@options
@click.pass_obj
def up(session: Session, procfile: Path | None, no_demo: bool) -> None:
    """Run the whole swarm in the foreground, until Ctrl-C.

    Starts what the Procfile lists, in order, and starts again what ends. Without a RabbitMQ URL
    it runs the embedded broker; without an exchange account the simulated exchange, and on an
    empty ledger the demo's bots. For each real venue whose prices are fed, it runs what trades on
    paper there. Ctrl-C stops in order: a worker that is finishing an order
    is waited for.
    """
    start(session, procfile, with_demo=not no_demo)


def start(session: Session, procfile: Path | None, *, with_demo: bool) -> None:
    from botswarm import logs
    from botswarm.config import SecretMask
    from botswarm.ledger.presence import Presence
    from botswarm.supervisor import up as swarm
    from botswarm.supervisor.console import Console
    from botswarm.supervisor.logbook import Logbook

    configuration = session.configuration()
    settings = configuration.settings
    is_terminal = sys.stdout.isatty()
    plan = _plan(session, configuration, procfile, with_demo=with_demo)
    began = time.monotonic()
    seen: set[str] = set()

    def on_event(event: str, record: Mapping[str, Any]) -> None:
        if event == "fill" and event not in seen:
            seen.add(event)
            text = f"[{time.monotonic() - began:4.1f} s] first fill: {record['message']}"
            console.say("up", text)

    console = Console(
        sys.stdout,
        as_json=session.json
        or settings.log_format == "json"
        or (settings.log_format == "auto" and not is_terminal),
        coloured=is_terminal and session.color is not False,
        on_event=on_event,
        mask=SecretMask(settings.secrets),
        keep=Logbook(settings.state_dir / "logs", logs.keeping(settings)).keep,
    )
    for warning in session.warnings:
        console.say("up", f"warning: {warning}")
    presence = Presence(settings, "up", "up")
    presence.begin()
    try:
        with carried(settings, console.say):
            swarm.run(plan, console.say)
    finally:
        presence.end()


def _plan(
    session: Session, configuration: Configuration, procfile: Path | None, *, with_demo: bool
) -> Plan:
    from botswarm.exchanges.registry import paper_venues
    from botswarm.supervisor.plan import for_venues, read_procfile
    from botswarm.supervisor.up import Plan

    settings = configuration.settings
    found = {
        "broker": standby.broker_elsewhere(configuration),
        "exchange": standby.exchange_elsewhere(settings),
        "archive": None if settings.backup_archive else "the archive is switched off",
    }
    skip = {name: reason for name, reason in found.items() if reason is not None}
    return Plan(
        state_dir=settings.state_dir,
        lines=for_venues(read_procfile(procfile or _procfile()), paper_venues(settings)),
        skip=skip,
        environment=_environment(session, configuration),
        ready={
            "broker": _accepts(settings.state_dir, "broker"),
            "exchange": _accepts(settings.state_dir, "exchange"),
        },
        names={
            "broker": "broker     embedded, in " + str(settings.state_dir),
            "exchange": f"exchange   simulated, scenario {settings.exchange_scenario}",
            "seed": "swarm      demo bots; see them with botswarm bot list",
            "release": f"ledger     {settings.database_url.masked}",
        },
        seed=["botswarm", "bot", "demo", "--if-empty", "--quiet"]
        if with_demo and "exchange" not in skip
        else None,
    )


def _procfile() -> Path:
    if PROCFILE.exists():
        return PROCFILE
    import botswarm.supervisor

    return Path(botswarm.supervisor.__file__).with_name(PROCFILE.name)


def _environment(session: Session, configuration: Configuration) -> dict[str, str]:
    """What the processes get: ours, with their programs on PATH and everyday lines only."""
    environment = dict(session.environ)
    programs = str(Path(sys.executable).parent)
    environment["PATH"] = programs + os.pathsep + environment.get("PATH", os.defpath)
    # The profile and the file that were named for us are named for them too.
    if session.profile is not None:
        environment["BOTSWARM_ENV"] = session.profile
    # The console turns JSON into what the reader wants; what is text already it cannot.
    environment["BOTSWARM_LOG_FORMAT"] = "json"
    if session.verbose:
        environment["BOTSWARM_LOG_LEVEL"] = "debug"
    elif configuration.origins["log_level"].startswith("default"):
        environment["BOTSWARM_LOG_LEVEL"] = "info"
    return environment


def _accepts(state_dir: Path, part: str) -> Callable[[], bool]:
    """Whether the part's address card is this run's and its port answers."""
    began = time.time()

    def is_ready() -> bool:
        card = _card(state_dir, part)
        # The card of the run before may still lie there.
        if card is None or (state_dir / f"{part}.json").stat().st_mtime < began:
            return False
        return port_answers(*card, timeout_s=1)

    return is_ready


def _card(state_dir: Path, part: str) -> tuple[str, int] | None:
    from botswarm.broker import record as broker
    from botswarm.exchanges.simulated import record as exchange

    found = broker.read(state_dir) if part == "broker" else exchange.read(state_dir)
    return (found.host, found.port) if found else None


@click.command(cls=Command)
@click.option(
    "--timeout",
    "timeout_s",
    type=Seconds(0),
    default=DOWN_S,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for it to have stopped.",
)
@click.pass_obj
def down(session: Session, timeout_s: float) -> Answer:
    """Stop the swarm that runs on this machine, in order, and wait for it."""
    from botswarm.supervisor import record

    state_dir = session.settings().state_dir
    notes = record.read(state_dir)
    if notes is None:
        return Answer(data={"stopped": False}, text="No swarm runs here.")
    _tell_to_stop(notes.pid)
    deadline = time.monotonic() + timeout_s
    while record.read(state_dir) is not None:
        if time.monotonic() > deadline:
            raise TimedOut(
                f"the swarm (pid {notes.pid}) is still stopping after {timeout_s:g} s",
                cure="a worker may be finishing an order; look with botswarm ps",
            )
        time.sleep(0.1)
    return Answer(data={"stopped": True, "pid": notes.pid}, text="Stopped.")


def _tell_to_stop(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        pass  # it has just ended by itself
    except PermissionError as error:
        raise Refused(
            f"the swarm (pid {pid}) belongs to another user", cure="stop it as that user"
        ) from error


@click.command(cls=Command)
@click.option("--all", "of_all", is_flag=True, help="Of the whole swarm, on every machine.")
@click.pass_obj
def ps(session: Session, of_all: bool) -> Answer:
    """List the swarm's processes on this machine: those of this state folder.

    With --all those that sign in the ledger, what each is made of, and how some differ: trading
    is not opened while they do. Exits with 3 then.
    """
    from botswarm.supervisor import record

    if of_all:
        from botswarm.cli.presence import listed

        return listed(session.settings())
    state_dir = session.settings().state_dir
    notes = record.read(state_dir)
    if notes is None:
        raise NotFound(f"no swarm runs on {state_dir}", cure="start it with botswarm up")
    from botswarm.health import card

    addresses = {each.card.pid: each.card.address for each in card.found(state_dir)}
    rows = [
        (note.name, note.state, note.pid, note.restarts, addresses.get(note.pid or 0, ""),
         note.command)
        for note in notes.processes
    ]  # fmt: skip
    health = {note.name: addresses.get(note.pid or 0) for note in notes.processes}
    return Answer(
        data={**asdict(notes), "health": health},
        text=in_columns(("PROCESS", "STATE", "PID", "RESTARTS", "HEALTH", "COMMAND"), rows),
    )
