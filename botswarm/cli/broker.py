"""Run the embedded broker, or look at it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from botswarm.cli import standby
from botswarm.cli.command import Group
from botswarm.cli.failures import NotInProduction
from botswarm.cli.session import Answer, Session
from botswarm.config.table import BY_NAME

Callback = Callable[..., Any]


@click.group(cls=Group)
def broker() -> None:
    """Run the embedded AMQP broker, or look at it."""


# The settings that this command alone reads are its flags too.
FLAGS = tuple(
    name
    for name, setting in BY_NAME.items()
    if name == "state_dir" or (name.startswith("broker_") and not setting.secret)
)


def _flag(name: str) -> str:
    return "--" + name.removeprefix("broker_").replace("_", "-")


def _flags(command: Callback) -> Callback:
    for name in reversed(FLAGS):
        help = f"{BY_NAME[name].kind.words}; stronger than {BY_NAME[name].variable}."
        command = click.option(_flag(name), name, metavar="VALUE", help=help)(command)
    return command


@broker.command("run")
@_flags
@standby.if_needed
@click.pass_obj
def run(session: Session, /, if_needed: bool, **given: str | None) -> None:
    """Run the embedded broker until it is told to stop.

    It listens on 127.0.0.1 only, keeps its journal in the state folder and writes its address
    and random password there. Production needs RabbitMQ and refuses it.
    """
    flags: dict[str, tuple[str, object]] = {
        name: (_flag(name), value) for name, value in given.items()
    }
    flags["log_level"] = ("-v", "debug" if session.verbose else None)
    if not if_needed:
        refuse_in_production(session)
    configuration = session.configuration(**flags)
    settings = configuration.settings
    if if_needed and (reason := standby.broker_elsewhere(configuration)):
        standby.stand_by(settings, "broker", reason)
        return
    refuse_in_production(session)

    from botswarm import logs
    from botswarm.broker.options import BrokerOptions
    from botswarm.broker.server import serve
    from botswarm.health.process import Health

    logs.configure(settings, at_least=logging.WARNING if session.quiet else logging.DEBUG)
    for warning in session.warnings:
        logging.getLogger(__name__).warning(warning)
    options = BrokerOptions(
        state_dir=settings.state_dir,
        port=settings.broker_port,
        management_port=settings.broker_management_port,
        fsync=settings.broker_fsync,
        memory_high_mb=settings.broker_memory_high_mb,
        disk_free_low_mb=settings.broker_disk_free_low_mb,
        consumer_timeout_s=settings.broker_consumer_timeout_s,
    )
    with Health(settings, "broker") as health:
        serve(options, health.pulse("the loop that serves").mark)


def refuse_in_production(session: Session) -> None:
    """Said before anything else about production's settings: here it is the whole answer."""
    from botswarm.config.load import profile_of

    profile = session.profile or profile_of(session.environ, session.config_file, Path())
    if profile == "production":
        raise NotInProduction(
            "the embedded broker does not run in production: it is for one machine",
            cure="start RabbitMQ and set BOTSWARM_BROKER_URL, or choose another BOTSWARM_ENV",
        )


@broker.command("status")
@click.option("--show-url", is_flag=True, help="Show the password in the URL, for scripts.")
@click.option("--state-dir", metavar="FOLDER", help="Stronger than BOTSWARM_STATE_DIR.")
@click.pass_obj
def status(session: Session, show_url: bool, state_dir: str | None) -> Answer:
    """Say whether the embedded broker runs, where, and what it holds (exit 5 if it does not)."""
    from botswarm.cli.broker_status import look

    settings = session.settings(state_dir=("--state-dir", state_dir))
    return look(settings.state_dir, show_url)
