"""Try each enabled venue as the feed would, without feed, broker or ledger."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from botswarm.cli.command import Command
from botswarm.cli.failures import CheckFailed
from botswarm.cli.session import Answer, Session
from botswarm.cli.table import in_columns
from botswarm.errors import BotswarmError

if TYPE_CHECKING:
    from botswarm.config import Settings
    from botswarm.feed.trial import Trial

MARKETS_MAX = 5
POLL_S = 0.2


@click.command(cls=Command)
@click.option("--venue", "names", multiple=True, metavar="NAME", help="Instead of all enabled.")
@click.option("--market", "markets", multiple=True, metavar="BASE-QUOTE", help="To try.")
@click.option(
    "--for",
    "seconds",
    type=click.FloatRange(0.5, 600),
    default=5.0,
    show_default=True,
    help="Seconds to listen to each venue.",
)
@click.pass_obj
def validate(
    session: Session, names: tuple[str, ...], markets: tuple[str, ...], seconds: float
) -> Answer:
    """Connect to each enabled venue, subscribe, receive, and measure.

    All venues at once, over one connection each, which counts towards the venue's budget. No
    broker and no ledger is needed, and a feed that runs does not notice. The delay includes what
    the venue's clock and ours differ. Exits with 3 when a venue is not well.
    """
    from botswarm.exchanges.registry import fed_venues

    settings = session.settings()
    chosen = names or tuple(fed_venues(settings))
    stop = threading.Event()
    with ThreadPoolExecutor(len(chosen)) as pool:
        try:
            tried = [pool.submit(_tried, settings, name, markets, seconds, stop) for name in chosen]
            # Where another thread is interrupted first, a wait without end would not notice.
            while wait(tried, timeout=POLL_S).not_done:
                pass
            trials = [each.result() for each in tried]
        except BaseException:
            # Ctrl-C: the threads are waited for, so they are told.
            stop.set()
            raise
    problems = [f"{each.venue}: {problem}" for each in trials for problem in each.problems]
    failure = None
    if problems:
        failure = CheckFailed(
            "; ".join(problems), cure="check the network, the addresses and the venue's status page"
        )
    return Answer(
        data=[{**asdict(each), "is_well": each.is_well} for each in trials],
        text=_table(trials),
        failure=failure,
    )


def _tried(
    settings: Settings,
    venue: str,
    markets: Sequence[str],
    seconds: float,
    stop: threading.Event,
) -> Trial:
    from botswarm.exchanges.registry import fed_markets, market_data
    from botswarm.feed.budget import Budget, attempts_file
    from botswarm.feed.pace import pace_of_address
    from botswarm.feed.rules import PoolRules
    from botswarm.feed.trial import Trial, Validation

    try:
        data = market_data(settings, venue)
    except BotswarmError as error:
        return Trial(
            venue=venue, problems=[f"{error} ({error.cure})" if error.cure else str(error)]
        )
    file = attempts_file(settings.state_dir, venue)
    budget = Budget(data.rules.connects_max, data.rules.connects_period_s, file=file)
    pace = pace_of_address(data, file)
    symbols = [market.upper() for market in markets] or fed_markets(settings, venue)[:MARKETS_MAX]
    validation = Validation(data, PoolRules.of(settings), budget, stop, pace=pace)
    return validation.run(symbols, seconds)


def _table(trials: Sequence[Trial]) -> str:
    rows: list[Sequence[object]] = [
        (
            each.venue,
            "ok" if each.is_well else "NOT WELL",
            f"{each.served}/{each.streams}",
            _ms(each.connect_ms),
            _ms(each.tls_ms) if each.tls else "-",
            _ms(each.handshake_ms),
            _ms(each.acknowledged_ms),
            _ms(each.first_trade_ms),
            _ms(each.ping_ms),
            _ms(each.lag_ms),
            f"{each.messages_per_s:.1f}",
            "-" if each.certificate_days is None else f"{each.certificate_days:.0f} days",
        )
        for each in trials
    ]
    heads = ["VENUE", "", "STREAMS", "CONNECT", "TLS", "HANDSHAKE", "ANSWERED", "FIRST TRADE"]
    return in_columns([*heads, "PING", "DELAY", "MSG/S", "CERTIFICATE"], rows)


def _ms(value: float | None) -> str | None:
    return None if value is None else f"{value:.1f} ms"
