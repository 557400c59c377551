"""The venue of this swarm: the simulated exchange, unless an account's key is configured."""

from __future__ import annotations

from urllib.parse import urlsplit

from botswarm.clock import Clock
from botswarm.config import Secret, Settings
from botswarm.errors import Refused, Unreachable
from botswarm.exchanges.binance.market import BinanceMarketData
from botswarm.exchanges.binance.trading import BinanceTrading
from botswarm.exchanges.binance.user_data import UserData
from botswarm.exchanges.simulated import record

SIMULATED, PAPER = "simulated", "paper"
BINANCE, SPOT = "binance", "spot"
# Real money is not traded yet: these hosts move play money only.
TESTNET = ".binance.vision"
DEMO = ("demo-api.binance.com", "demo-ws-api.binance.com")
HERE = ("127.0.0.1", "::1", "localhost")


def trading_venue(settings: Settings, clock: Clock) -> BinanceTrading:
    """Raises Refused for a venue of real money, Unreachable where no exchange has been started."""
    if settings.binance_api_key is not None and settings.binance_api_secret is not None:
        _refuse_real_money(settings.binance_rest_url)
        return BinanceTrading(
            name=BINANCE,
            account=SPOT,
            url=settings.binance_rest_url,
            key=settings.binance_api_key,
            secret=settings.binance_api_secret,
            clock=clock,
        )
    card = _card(settings)
    return BinanceTrading(
        name=SIMULATED,
        account=PAPER,
        url=card.rest_url,
        key=Secret(card.api_key),
        secret=Secret(card.api_secret),
        clock=clock,
    )


def venue_name(settings: Settings) -> str:
    return SIMULATED if settings.binance_api_key is None else BINANCE


def market_data(settings: Settings) -> BinanceMarketData:
    """The public streams of the venue that orders go to; raises Unreachable as that one does."""
    if settings.binance_api_key is not None:
        return BinanceMarketData(
            name=BINANCE,
            rest_url=settings.binance_rest_url,
            stream_url=settings.binance_stream_url,
        )
    card = _card(settings)
    return BinanceMarketData(name=SIMULATED, rest_url=card.rest_url, stream_url=card.stream_url)


def user_data(settings: Settings, clock: Clock) -> UserData:
    """The stream of the same account's events."""
    if settings.binance_api_key is not None and settings.binance_api_secret is not None:
        _refuse_real_money(settings.binance_ws_api_url)
        return UserData(
            url=settings.binance_ws_api_url,
            key=settings.binance_api_key,
            secret=settings.binance_api_secret,
            clock=clock,
        )
    card = _card(settings)
    return UserData(
        url=card.ws_api_url, key=Secret(card.api_key), secret=Secret(card.api_secret), clock=clock
    )


def _card(settings: Settings) -> record.ExchangeRecord:
    card = record.read(settings.state_dir)
    if card is None:
        raise Unreachable(
            f"no account is configured, and no exchange was started in {settings.state_dir}",
            cure="start one: botswarm run exchange; or set BOTSWARM_BINANCE_API_KEY",
        )
    return card


def _refuse_real_money(url: str) -> None:
    host = urlsplit(url).hostname or ""
    if host not in (*HERE, *DEMO) and not host.endswith(TESTNET):
        raise Refused(
            f"{host} trades real money, and that cannot be armed yet",
            cure="use the testnet, demo mode or the simulated exchange",
        )
