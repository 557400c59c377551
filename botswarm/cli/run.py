"""Run one process of the swarm in the foreground, until it is told to stop."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from botswarm.cli import standby, up
from botswarm.cli.backup_archive import archive
from botswarm.cli.command import Group
from botswarm.cli.session import Session
from botswarm.config.table import BY_NAME

Callback = Callable[..., Any]


@click.group(cls=Group)
def run() -> None:
    """Run one process of the swarm in the foreground."""


run.add_command(archive)

EXCHANGE_FLAGS = {
    "state_dir": "--state-dir",
    "exchange_port": "--port",
    "exchange_scenario": "--scenario",
    "exchange_seed": "--seed",
    "exchange_orders_per_10s_max": "--orders-per-10s-max",
}


def _exchange_flags(command: Callback) -> Callback:
    for name, flag in reversed(EXCHANGE_FLAGS.items()):
        help = f"{BY_NAME[name].kind.words}; stronger than {BY_NAME[name].variable}."
        command = click.option(flag, name, metavar="VALUE", help=help)(command)
    return command


@run.command("exchange")
@_exchange_flags
@click.option(
    "--stream-journal",
    "writes_streams",
    is_flag=True,
    help="Write down every trade told on every connection, for campaigns that compare.",
)
@click.option(
    "--kraken-tier",
    type=click.Choice(["starter", "intermediate", "pro", "unlimited"]),
    default="pro",
    show_default=True,
    help="How much Kraken's private side lets the key ask for.",
)
@click.option(
    "--coinbase-per-s",
    type=click.IntRange(min=1),
    default=30,
    show_default=True,
    help="Requests a second that Coinbase's private side takes of a key.",
)
@click.option(
    "--weight-per-minute",
    type=click.IntRange(min=100),
    default=6_000,
    show_default=True,
    help="Request weight a minute that Binance's side takes of an address.",
)
@standby.if_needed
@click.pass_obj
def exchange(
    session: Session,
    /,
    if_needed: bool,
    writes_streams: bool,
    kraken_tier: str,
    coinbase_per_s: int,
    weight_per_minute: int,
    **given: str | None,
) -> None:
    """Run the simulated exchange: a market of its own, over Binance's spot protocols.

    The public feeds of Coinbase and Kraken tell of the same market on paths of their own.

    It listens on 127.0.0.1 only, keeps its journal in the state folder and writes its address
    and keys there. A restart goes on with every balance and open order of the last run.
    """
    flags: dict[str, tuple[str, object]] = {
        name: (EXCHANGE_FLAGS[name], value) for name, value in given.items()
    }
    flags["log_level"] = ("-v", "debug" if session.verbose else None)
    settings = session.settings(**flags)
    if if_needed and (reason := standby.exchange_elsewhere(settings)):
        standby.stand_by(settings, "exchange", reason)
        return

    from botswarm import logs
    from botswarm.exchanges.simulated.limits import RateLimits
    from botswarm.exchanges.simulated.options import ExchangeOptions
    from botswarm.exchanges.simulated.server import serve
    from botswarm.health.process import Health

    logs.configure(settings, at_least=logging.WARNING if session.quiet else logging.DEBUG)
    options = ExchangeOptions(
        state_dir=settings.state_dir,
        port=settings.exchange_port,
        scenario=settings.exchange_scenario,
        seed=settings.exchange_seed,
        writes_streams=writes_streams,
        kraken_tier=kraken_tier,
        coinbase_per_s=coinbase_per_s,
        limits=RateLimits(
            weight_per_minute=weight_per_minute,
            orders_per_10s=settings.exchange_orders_per_10s_max,
        ),
    )
    with Health(settings, "exchange") as health:
        serve(options, turned=health.pulse("the market").mark)


@run.command("feed")
@click.option("--state-dir", metavar="FOLDER", help="Stronger than BOTSWARM_STATE_DIR.")
@click.option("--venues", metavar="VALUE", help="Stronger than BOTSWARM_FEED_VENUES.")
@click.option("--markets", metavar="VALUE", help="Stronger than BOTSWARM_FEED_MARKETS.")
@click.pass_obj
def feed(session: Session, state_dir: str | None, venues: str | None, markets: str | None) -> None:
    """Run the feed: the streams of its venues in, ticks and digests for all bots out.

    It follows the markets of running bots, those of --markets and those of botswarm feed
    subscribe. Several feeds may run: of each venue one leads, the others stand by and take over
    within a second or two.
    """
    flags: dict[str, tuple[str, object]] = {
        "state_dir": ("--state-dir", state_dir),
        "feed_venues": ("--venues", venues),
        "feed_markets": ("--markets", markets),
        "log_level": ("-v", "debug" if session.verbose else None),
    }
    settings = session.settings(**flags)

    from botswarm import logs
    from botswarm.cli import feed as feeding

    logs.configure(settings, at_least=logging.WARNING if session.quiet else logging.DEBUG)
    feeding.run(settings, lambda: session.settings(**flags))


@run.command("paper")
@click.option("--venue", metavar="NAME", help="At whose prices; needed where several are fed.")
@click.option("--port", type=click.IntRange(1, 65_535), help="Where it listens, on 127.0.0.1.")
@click.option("--state-dir", metavar="FOLDER", help="Stronger than BOTSWARM_STATE_DIR.")
@click.option(
    "--balances", metavar="VALUE", help="Stronger than BOTSWARM_PAPER_BALANCES; of a new account."
)
@standby.if_needed
@click.pass_obj
def paper(
    session: Session,
    /,
    venue: str | None,
    port: int | None,
    state_dir: str | None,
    balances: str | None,
    if_needed: bool,
) -> None:
    """Trade on paper at a real venue's live prices: the account VENUE:paper.

    Orders walk the venue's own book and rest behind its own queue; no order leaves this machine.
    The prices are the feed's, so the feed must follow the venue. A restart goes on with every
    balance and open order of the last run.
    """
    flags: dict[str, tuple[str, object]] = {
        "state_dir": ("--state-dir", state_dir),
        "paper_balances": ("--balances", balances),
        "log_level": ("-v", "debug" if session.verbose else None),
    }
    settings = session.settings(**flags)

    from botswarm import logs
    from botswarm.exchanges import registry

    if venue is None:
        fed = registry.paper_venues(settings)
        if not fed and if_needed:
            standby.stand_by(settings, "paper", "no venue is fed but the simulated exchange")
            return
        if len(fed) != 1:
            raise click.UsageError(f"name one with --venue: {', '.join(fed) or 'none is fed'}")
        venue = fed[0]
    if venue == registry.SIMULATED:
        raise click.UsageError("that venue is on paper already: botswarm run exchange")

    from botswarm.cli import paper as trading

    logs.configure(settings, at_least=logging.WARNING if session.quiet else logging.DEBUG)
    trading.run(settings, lambda: session.settings(**flags), venue, port)


@run.command("worker")
@click.option("--queues", "-Q", required=True, metavar="NAMES", help="Such as orders,risk.")
@click.pass_obj
def worker(session: Session, queues: str) -> None:
    """Run a worker for some queues, once the broker answers.

    The same as celery -A botswarm worker -Q NAMES, which needs a broker that is there already.
    """
    from botswarm.cli import start

    level = session.settings().log_level
    # A name of its own: two workers of one name on one machine answer for each other.
    name = f"{queues.replace(',', '-')}@%h"
    words = ["worker", "-Q", queues, "-n", name, "--loglevel", level]
    start.celery(words, session.settings)


@run.command("beat")
@click.pass_obj
def beat(session: Session) -> None:
    """Run beat, once the broker answers: the periodic tasks are sent by whichever beat leads."""
    from botswarm.cli import start

    start.celery(["beat", "--loglevel", session.settings().log_level], session.settings)


@run.command("flower")
@click.pass_obj
def flower(session: Session) -> None:
    """Run Flower, once the broker answers: its pages show queues, workers and tasks.

    On this machine only, and only to who knows the password: docs/flower.md.
    """
    from botswarm.cli import flower as watching

    watching.run(session)


@run.command("all")
@up.options
@click.pass_obj
def run_all(session: Session, procfile: Path | None, no_demo: bool) -> None:
    """Run the whole swarm in one container, until it is told to stop: the same as botswarm up."""
    up.start(session, procfile, with_demo=not no_demo)
