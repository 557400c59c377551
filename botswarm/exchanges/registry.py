"""Which venues there are whose markets can be followed, and whose money an account is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import cast, overload
from urllib.parse import urlsplit

from botswarm.config import Settings
from botswarm.errors import NotFound, Refused, Unreachable
from botswarm.exchanges import allowances
from botswarm.exchanges.binance.market import BinanceMarketData
from botswarm.exchanges.simulated import record
from botswarm.exchanges.streams import MarketData

SIMULATED, PAPER = "simulated", "paper"
BINANCE, SPOT = "binance", "spot"
CCXT = "ccxt-"
"""A venue by ccxt's name for it: ``ccxt-okx``."""
PLUGINS = "botswarm.venues"
"""The entry point group: its names are venues, its values callables that give a MarketData."""
# These hosts move play money only; any other needs to be armed.
TESTNET = ".binance.vision"
DEMO = ("demo-api.binance.com", "demo-ws-api.binance.com")
HERE = ("127.0.0.1", "::1", "localhost")


class AccountKind(StrEnum):
    PAPER = "paper"  # ours: at prices that are made up, or at a real venue's
    TESTNET = "testnet"  # a real venue's play money
    LIVE = "live"  # real money


def account_kind(settings: Settings, venue: str, account: str) -> AccountKind:
    """Whose money it is. What is not known to be play money counts as real money."""
    if account == PAPER:
        # The name is kept for it: whatever the venue, its orders never leave this machine.
        return AccountKind.PAPER
    if venue.startswith(CCXT):
        # Sandboxes only: the adapter knows no other address.
        return AccountKind.TESTNET
    # Whatever account it is, and wherever its keys are: the address leads to no other money.
    if venue in STREAMED and _is_play_money(STREAMED[venue].rest_url(settings)):
        return AccountKind.TESTNET
    return AccountKind.LIVE


def is_live(settings: Settings, venue: str, account: str) -> bool:
    """Whether it is real money."""
    return account_kind(settings, venue, account) is AccountKind.LIVE


def venue_name(settings: Settings) -> str:
    return SIMULATED if settings.binance_api_key is None else BINANCE


@dataclass(frozen=True, slots=True)
class _Streamed:
    """A venue of which we know the markets and nothing else."""

    module: str
    kind: str
    rest_url: Callable[[Settings], str]
    stream_url: Callable[[Settings], str]

    def made(self, name: str, settings: Settings) -> MarketData:
        make = getattr(import_module(self.module), self.kind)
        rest_url, stream_url = self.rest_url(settings), self.stream_url(settings)
        allowance = allowances.shared(settings, name, rest_url)
        made = make(name=name, rest_url=rest_url, stream_url=stream_url, allowance=allowance)
        return cast("MarketData", made)


_COINBASE = "botswarm.exchanges.coinbase.market"
_KRAKEN = "botswarm.exchanges.kraken.market"
STREAMED = {
    BINANCE: _Streamed(
        "botswarm.exchanges.binance.market",
        "BinanceMarketData",
        lambda settings: settings.binance_rest_url,
        lambda settings: settings.binance_stream_url,
    ),
    "coinbase": _Streamed(
        _COINBASE,
        "CoinbaseMarketData",
        lambda settings: settings.coinbase_rest_url,
        lambda settings: settings.coinbase_stream_url,
    ),
    "coinbase-exchange": _Streamed(
        _COINBASE,
        "CoinbaseExchangeMarketData",
        lambda settings: settings.coinbase_exchange_rest_url,
        lambda settings: settings.coinbase_exchange_stream_url,
    ),
    "kraken": _Streamed(
        _KRAKEN,
        "KrakenMarketData",
        lambda settings: settings.kraken_rest_url,
        lambda settings: settings.kraken_stream_url,
    ),
}


def venues() -> Sequence[str]:
    """All whose markets can be followed, ours first."""
    return [SIMULATED, *STREAMED, *sorted(set(_plugins()) - {SIMULATED, *STREAMED})]


def fed_venues(settings: Settings) -> Sequence[str]:
    """Those whose streams the feed reads."""
    return settings.feed_venues or (venue_name(settings),)


def fed_markets(settings: Settings, venue: str) -> Sequence[str]:
    """The configured ones of one venue: those named for it, and those named for all."""
    named = (name.rpartition(":") for name in settings.feed_markets)
    return [symbol for whose, _, symbol in named if whose in ("", venue)]


@overload
def market_data(settings: Settings) -> BinanceMarketData: ...
@overload
def market_data(settings: Settings, venue: str) -> MarketData: ...
def market_data(settings: Settings, venue: str | None = None) -> MarketData:
    """A venue's public side; without a name, of the one that orders go to.

    Raises Unreachable where no simulated exchange has been started, NotFound for an unknown one.
    """
    name = venue_name(settings) if venue is None else venue
    if name == SIMULATED:
        found = card(settings)
        return BinanceMarketData(
            name=name,
            rest_url=found.rest_url,
            stream_url=found.stream_url,
            allowance=allowances.shared(settings, name, found.rest_url),
        )
    if name in STREAMED:
        return STREAMED[name].made(name, settings)
    return _plugged(name)


def recorded(settings: Settings, venue: str) -> MarketData:
    """For frames that were received some time: nobody is asked, so none needs to run."""
    if venue == SIMULATED:
        return STREAMED[BINANCE].made(venue, settings)
    return market_data(settings, venue)


def _plugins() -> dict[str, EntryPoint]:
    return {found.name: found for found in entry_points(group=PLUGINS)}


def _plugged(name: str) -> MarketData:
    found = _plugins().get(name)
    if found is None:
        raise NotFound(
            f"there is no venue {name!r}", cure=f"name one of these: {', '.join(venues())}"
        )
    try:
        made = found.load()()
    except Exception as error:
        # Another's code: whatever it raises, the person on call needs to know whose it is.
        raise Unreachable(
            f"the venue {name} of {_origin(found)} cannot be loaded: "
            f"{type(error).__name__}: {error}",
            cure="mend or uninstall that package",
        ) from error
    missing = [part for part in ("name", "rules", "session") if not hasattr(made, part)]
    if missing:
        raise Unreachable(
            f"the venue {name} of {_origin(found)} lacks {', '.join(missing)}",
            cure="mend it after botswarm/exchanges/streams.py: MarketData",
        )
    return cast("MarketData", made)


def _origin(found: EntryPoint) -> str:
    package = "an unknown package" if found.dist is None else found.dist.name
    return f"{package} ({found.value})"


def card(settings: Settings) -> record.ExchangeRecord:
    """Of the simulated exchange that was started here; raises Unreachable where none was."""
    found = record.read(settings.state_dir)
    if found is None:
        raise Unreachable(
            f"no account is configured, and no exchange was started in {settings.state_dir}",
            cure="start one: botswarm run exchange; or set BOTSWARM_BINANCE_API_KEY",
        )
    return found


def paper_card(settings: Settings, venue: str) -> record.ExchangeRecord:
    """Of the process that trades on paper at a venue's prices; raises Unreachable where none is."""
    found = record.read(settings.state_dir, record.PAPER + venue)
    if found is None:
        raise Unreachable(
            f"nobody trades on paper at {venue} here: none was started in {settings.state_dir}",
            cure=f"start it: botswarm run paper --venue {venue}",
        )
    return found


def paper_venues(settings: Settings) -> Sequence[str]:
    """Those that are fed and have prices of their own: each has an account on paper."""
    return [venue for venue in fed_venues(settings) if venue != SIMULATED]


def check_money(url: str, account: str, is_armed: Callable[[], bool]) -> None:
    """Raises Refused for an address that no play money is known to be at, unless it is armed."""
    if _is_play_money(url) or is_armed():
        return
    raise Refused(
        f"{urlsplit(url).hostname} trades real money, and {account} is not armed",
        cure=f"use the testnet, demo mode or paper; if real money is meant: "
        f"botswarm trading arm {account} --reason WHY",
    )


def _is_play_money(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host in (*HERE, *DEMO) or host.endswith(TESTNET)
