"""Trades on paper: a venue's live ticks in, and before them the simulated exchange's engine."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal

from botswarm.cli.broker_url import broker_url_of
from botswarm.config import Settings
from botswarm.domain.instrument import Instrument
from botswarm.errors import NotFound, Unreachable
from botswarm.exchanges import registry
from botswarm.exchanges.simulated import record
from botswarm.exchanges.simulated.accounts import FEES, Fees
from botswarm.exchanges.simulated.live import LiveMarket
from botswarm.exchanges.simulated.options import ACCOUNT, ExchangeOptions
from botswarm.exchanges.simulated.server import serve
from botswarm.health.broker import Broker
from botswarm.health.process import Health
from botswarm.market.consumer import Listener
from botswarm.market.wire import Batch, Digest, tick_key

logger = logging.getLogger(__name__)

CHANNELS = ("trade", "quote", "book", "status")
PORT = 18543
"""Each venue's is the next: that of the last run is kept."""
VENUE_PAUSE_S = 2.0
FIRST_BALANCES = {name: Decimal(100_000) for name in ("USDT", "USDC", "USD", "EUR")}
MESSAGES_WAITING_MAX = 10_000
FEE_IN_QUOTE = ("coinbase", "coinbase-exchange", "kraken")
"""There a buyer pays it on top."""
FEES_LIKE = {"coinbase-exchange": "coinbase"}


def run(settings: Settings, reread: Callable[[], Settings], venue: str, port: int | None) -> None:
    """Until SIGTERM or SIGINT."""
    market = _market(settings, venue)
    listener = Listener(
        lambda: broker_url_of(reread()).reveal(),
        [tick_key(venue, "*", channel) for channel in CHANNELS],
        lambda message: _hear(market, message),
        name=f"paper market of {venue}",
        waiting_max=MESSAGES_WAITING_MAX,
    )
    listener.start()
    health = Health(settings, "paper", f"paper-{venue}")
    broker = Broker(lambda: reread().broker_url, f"botswarm paper {venue} health")
    health.check("broker", broker.look, is_needed=True)
    try:
        with health:
            serve(_options(settings, venue, port, market), market, health.pulse("the market").mark)
    finally:
        listener.stop()


def _hear(market: LiveMarket, message: Digest | Batch) -> None:
    # What a gap held back is older than what came since: who would have traded is not known.
    if isinstance(message, Batch) and not message.is_recovered:
        market.hear(message.ticks)


def _market(settings: Settings, venue: str) -> LiveMarket:
    market = LiveMarket(
        venue,
        _instruments(settings, venue),
        stale_ms=settings.paper_stale_s * 1000,
        delay_ms=settings.paper_latency_ms,
    )
    if not market.exchange.markets:
        raise NotFound(f"{venue} names no market that can be traded", cure="name another venue")
    if market.left_out:
        logger.warning(
            "%d markets of %s are left out: their steps are finer than 0.00000001",
            market.left_out,
            venue,
        )
    return market


def _instruments(settings: Settings, venue: str) -> Sequence[Instrument]:
    """The venue's own; one that does not answer is waited for."""
    data, said = registry.market_data(settings, venue), ""
    while True:
        try:
            return data.instruments()
        except Unreachable as error:
            if str(error) != said:
                logger.warning("waiting for the markets of %s: %s", venue, error)
            said = str(error)
            time.sleep(VENUE_PAUSE_S)


def _options(
    settings: Settings, venue: str, port: int | None, market: LiveMarket
) -> ExchangeOptions:
    known = {each.rules.base for each in market.exchange.markets.values()}
    known |= {each.rules.quote for each in market.exchange.markets.values()}
    return ExchangeOptions(
        state_dir=settings.state_dir,
        part=record.PAPER + venue,
        port=port,
        first_port=PORT,
        balances=_of(settings.paper_balances or FIRST_BALANCES, known),
        fees={ACCOUNT: fees_of(settings, venue)},
        fee_in_quote=venue in FEE_IN_QUOTE,
    )


def _of(balances: Mapping[str, Decimal], known: set[str]) -> Mapping[str, Decimal]:
    return {asset: amount for asset, amount in balances.items() if asset in known}


def fees_of(settings: Settings, venue: str) -> Fees:
    if (named := (settings.paper_fees or {}).get(venue)) is not None:
        return Fees(maker=named[0], taker=named[1])
    return FEES.get(FEES_LIKE.get(venue, venue), Fees())
