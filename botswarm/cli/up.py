"""Run the whole swarm on this machine: start it, look at its processes, stop it."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from botswarm.cli.command import Command
from botswarm.cli.session import Answer, Session
from botswarm.cli.table import in_columns
from botswarm.errors import NotFound, TimedOut

if TYPE_CHECKING:
    from botswarm.config import Configuration
    from botswarm.supervisor.up import Plan

PROCFILE = Path("Procfile")
DOWN_S = 150.0


@click.command(cls=Command)
@click.option(
    "--procfile",
    type=click.Path(path_type=Path, dir_okay=False),
    default=PROCFILE,
    show_default=True,
    help="What to run.",
)
@click.option("--no-demo", is_flag=True, help="Put no demo bots into an empty ledger.")
@click.pass_obj
def up(session: Session, procfile: Path, no_demo: bool) -> None:
    """Run the whole swarm in the foreground, until Ctrl-C.

    Starts what the Procfile lists, in order, and starts again what ends. Without a RabbitMQ URL
    it runs the embedded broker; without an exchange account the simulated exchange, and on an
    empty ledger twelve demo bots. Ctrl-C stops in order: a worker that is finishing an order
    is waited for.
    """
    from botswarm.supervisor import up as swarm
    from botswarm.supervisor.console import Console

    configuration = session.configuration()
    plan = _plan(session, configuration, procfile, with_demo=not no_demo)
    settings = configuration.settings
    is_terminal = sys.stdout.isatty()
    began = time.monotonic()
    seen: set[str] = set()

    def on_event(event: str, record: Mapping[str, Any]) -> None:
        if event == "fill" and event not in seen:
            seen.add(event)
            text = f"[{time.monotonic() - began:4.1f} s] first fill: {record['message']}"
            console.say("up", text)

    console = Console(
        sys.stdout,
        as_json=settings.log_format == "json"
        or (settings.log_format == "auto" and not is_terminal),
        coloured=is_terminal and session.color is not False,
        on_event=on_event,
    )
    swarm.run(plan, console.say)


def _plan(
    session: Session, configuration: Configuration, procfile: Path, *, with_demo: bool
) -> Plan:
    from botswarm.supervisor.plan import read_procfile
    from botswarm.supervisor.up import Plan

    settings = configuration.settings
    skip: dict[str, str] = {}
    if settings.broker_url is not None and not _is_embedded(configuration.origins["broker_url"]):
        skip["broker"] = f"the broker is {settings.broker_url.masked}"
    if settings.binance_api_key is not None:
        skip["exchange"] = "an exchange account is configured"
    return Plan(
        state_dir=settings.state_dir,
        lines=read_procfile(procfile),
        skip=skip,
        environment=_environment(session, configuration),
        ready={
            "broker": _accepts(settings.state_dir, "broker"),
            "exchange": _accepts(settings.state_dir, "exchange"),
        },
        seed=["botswarm", "bot", "demo"] if with_demo and "exchange" not in skip else None,
    )


def _is_embedded(origin: str) -> bool:
    return origin.startswith("embedded broker")


def _environment(session: Session, configuration: Configuration) -> dict[str, str]:
    """What the processes get: ours, with their programs on PATH and everyday lines only."""
    environment = dict(session.environ)
    programs = str(Path(sys.executable).parent)
    environment["PATH"] = programs + os.pathsep + environment.get("PATH", os.defpath)
    # The profile and the file that were named for us are named for them too.
    if session.profile is not None:
        environment["BOTSWARM_ENV"] = session.profile
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
        try:
            with socket.create_connection(card, timeout=1):
                return True
        except OSError:
            return False

    return is_ready


def _card(state_dir: Path, part: str) -> tuple[str, int] | None:
    if part == "broker":
        from botswarm.broker import record as broker

        found = broker.read(state_dir)
        return (found.host, found.port) if found else None
    from botswarm.exchanges.simulated import record as exchange

    card = exchange.read(state_dir)
    if card is None:
        return None
    parts = urlsplit(card.rest_url)
    return parts.hostname or card.host, parts.port or card.port


@click.command(cls=Command)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0),
    default=DOWN_S,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for it to have stopped.",
)
@click.pass_obj
def down(session: Session, timeout_s: float) -> Answer:
    """Stop the swarm that runs on this state folder, in order, and wait for it."""
    from botswarm.supervisor import record

    state_dir = session.settings().state_dir
    notes = record.read(state_dir)
    if notes is None:
        return Answer(data={"stopped": False}, text="No swarm runs here.")
    os.kill(notes.pid, signal.SIGTERM)
    deadline = time.monotonic() + timeout_s
    while record.read(state_dir) is not None:
        if time.monotonic() > deadline:
            raise TimedOut(
                f"the swarm (pid {notes.pid}) is still stopping after {timeout_s:g} s",
                cure="a worker may be finishing an order; look with botswarm ps",
            )
        time.sleep(0.1)
    return Answer(data={"stopped": True, "pid": notes.pid}, text="Stopped.")


@click.command(cls=Command)
@click.pass_obj
def ps(session: Session) -> Answer:
    """List the processes of the swarm that runs on this state folder."""
    from botswarm.supervisor import record

    state_dir = session.settings().state_dir
    notes = record.read(state_dir)
    if notes is None:
        raise NotFound(f"no swarm runs on {state_dir}", cure="start it with botswarm up")
    rows = [
        (note.name, note.state, note.pid, note.restarts, note.command) for note in notes.processes
    ]
    return Answer(
        data=asdict(notes),
        text=in_columns(("PROCESS", "STATE", "PID", "RESTARTS", "COMMAND"), rows),
    )
