"""The trading adapters that are held to the same promises, each at its door of one exchange."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from botswarm.clock import SystemClock
from botswarm.config import Secret
from botswarm.exchanges.base import AccountStream, TradingVenue
from botswarm.exchanges.binance.trading import BinanceTrading
from botswarm.exchanges.binance.user_data import UserData
from botswarm.exchanges.ccxt_venue.trading import CcxtTrading
from botswarm.exchanges.coinbase.trading import CoinbaseTrading
from botswarm.exchanges.coinbase.user_data import CoinbaseUserData
from botswarm.exchanges.kraken.executions import Executions
from botswarm.exchanges.kraken.trading import KrakenTrading
from botswarm.testing.exchange import SimulatedExchangeServer

Server = SimulatedExchangeServer


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """A venue as the suite knows it: how to go in, and in what it may differ from the others."""

    name: str
    """The simulated exchange's own, at which mishaps are aimed."""
    road: str = ""
    """Where there is more than one to the same account."""
    account: str
    """The simulated exchange's own, under which its journal writes."""
    venue: Callable[[Server, Path], TradingVenue]
    stream: Callable[[Server, Path], AccountStream]
    window: timedelta
    """For so long after it was signed a request is taken."""
    answers_with_fills: bool = False
    """The answer to a placement tells what was traded at once."""
    is_late_declined: bool = True
    """What comes too late is declined; else it counts as unclear, and is asked about."""

    has_fence: bool = True
    """The venue itself refuses what comes too late; else an unknown outcome is a person's."""
    tells_permissions: bool = True

    def __repr__(self) -> str:
        return f"{self.name} {self.road}".strip()


def _binance(server: Server, folder: Path) -> TradingVenue:
    card = server.card
    return BinanceTrading(
        name="binance",
        account="spot",
        url=card.rest_url,
        key=Secret(card.api_key),
        secret=Secret(card.api_secret),
        clock=SystemClock(),
    )


def _binance_by_socket(server: Server, folder: Path) -> TradingVenue:
    card = server.card
    return BinanceTrading(
        name="binance",
        account="spot",
        url=card.rest_url,
        order_url=card.ws_api_url,
        key=Secret(card.api_key),
        secret=Secret(card.api_secret),
        clock=SystemClock(),
    )


def _ccxt(server: Server, folder: Path) -> TradingVenue:
    card = server.card
    return CcxtTrading(
        name="ccxt-binance",
        account="spot",
        key=Secret(card.api_key),
        secret=Secret(card.api_secret),
        clock=SystemClock(),
        urls={
            "public": f"{card.rest_url}/api/v3",
            "private": f"{card.rest_url}/api/v3",
            "sapi": f"{card.rest_url}/sapi/v1",
        },
        options={"fetchMarkets": {"types": ["spot"]}, "fetchCurrencies": False},
        keeps_pace=False,
    )


def _silence(server: Server, folder: Path) -> AccountStream:
    pytest.skip("through ccxt a venue says nothing by itself")


def _binance_stream(server: Server, folder: Path) -> AccountStream:
    card = server.card
    return UserData(
        url=card.ws_api_url,
        key=Secret(card.api_key),
        secret=Secret(card.api_secret),
        clock=SystemClock(),
    )


def _kraken(server: Server, folder: Path) -> TradingVenue:
    card = server.card
    return KrakenTrading(
        name="kraken",
        account="main",
        url=card.kraken_rest_url,
        stream_url=card.kraken_trading_url,
        key=Secret(card.api_key),
        secret=Secret(card.api_secret),
        clock=SystemClock(),
        state_dir=folder,
    )


def _kraken_stream(server: Server, folder: Path) -> AccountStream:
    card = server.card
    return Executions(
        url=card.kraken_rest_url,
        stream_url=card.kraken_trading_url,
        key=Secret(card.api_key),
        secret=Secret(card.api_secret),
        clock=SystemClock(),
        state_dir=folder,
    )


def _coinbase(server: Server, folder: Path) -> TradingVenue:
    card = server.card
    return CoinbaseTrading(
        name="coinbase",
        account="main",
        url=card.coinbase_rest_url,
        key=Secret(card.coinbase_api_key),
        secret=Secret(card.coinbase_api_secret),
        clock=SystemClock(),
    )


def _coinbase_stream(server: Server, folder: Path) -> AccountStream:
    card = server.card
    return CoinbaseUserData(
        url=card.coinbase_trading_url,
        key=Secret(card.coinbase_api_key),
        secret=Secret(card.coinbase_api_secret),
        clock=SystemClock(),
    )


DOORS = (
    Door(
        name="binance",
        account="paper",
        venue=_binance,
        stream=_binance_stream,
        window=timedelta(seconds=2),
        answers_with_fills=True,
    ),
    Door(
        name="binance",
        road="websocket",
        account="paper",
        venue=_binance_by_socket,
        stream=_binance_stream,
        window=timedelta(seconds=2),
        answers_with_fills=True,
    ),
    Door(
        name="binance",
        road="ccxt",
        account="paper",
        venue=_ccxt,
        stream=_silence,
        window=timedelta(seconds=5),
        has_fence=False,
        tells_permissions=False,
    ),
    Door(
        name="kraken",
        account="kraken",
        venue=_kraken,
        stream=_kraken_stream,
        window=timedelta(seconds=5),
        is_late_declined=False,
    ),
    Door(
        name="coinbase",
        account="coinbase",
        venue=_coinbase,
        stream=_coinbase_stream,
        # Ten seconds of the token, and five for which the exchange is lenient.
        window=timedelta(seconds=15),
    ),
)
