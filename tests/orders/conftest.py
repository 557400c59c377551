"""A simulated exchange, a ledger of each kind, and orders to try on them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from botswarm.clock import SystemClock
from botswarm.config import Secret
from botswarm.domain.order import Order, OrderKind, OrderState, Side, TimeInForce
from botswarm.exchanges.binance.trading import BinanceTrading
from botswarm.ledger import migrate
from botswarm.ledger.store import Ledger
from botswarm.risk.limits import Limits
from botswarm.testing.exchange import SimulatedExchangeServer
from botswarm.testing.servers import PostgreSQLServer
from tests.standing import reconciled

MUCH = Decimal(10**9)
NO_LIMITS = Limits(
    order_notional_max=MUCH,
    open_notional_max=MUCH,
    position_notional_max=MUCH,
    open_orders_max=10**6,
    orders_per_minute_max=10**6,
    daily_loss_max=MUCH,
    signal_age_max_s=3600,
)


def an_order(**changes: Any) -> Order:
    """A limit order that rests far below the market, unless told otherwise."""
    now = datetime.now(UTC)
    values: dict[str, Any] = {
        "id": str(uuid.uuid4()),
        "bot": "turtle",
        "venue": "simulated",
        "account": "paper",
        "symbol": "BTC-USDT",
        "side": Side.BUY,
        "kind": OrderKind.LIMIT,
        "quantity": Decimal("0.001"),
        "limit_price": Decimal(50_000),
        "time_in_force": TimeInForce.GTC,
        "reference_price": Decimal(100_000),
        "state": OrderState.READY,
        "created_at": now,
        "signal_expires_at": now + timedelta(seconds=10),
    }
    return Order(**values | changes)


def a_market_order(**changes: Any) -> Order:
    return an_order(**{"kind": OrderKind.MARKET, "limit_price": None} | changes)


def a_venue(server: SimulatedExchangeServer) -> BinanceTrading:
    card = server.card
    return BinanceTrading(
        name="simulated",
        account="paper",
        url=card.rest_url,
        key=Secret(card.api_key),
        secret=Secret(card.api_secret),
        clock=SystemClock(),
    )


@pytest.fixture(scope="session")
def exchange() -> Iterator[SimulatedExchangeServer]:
    with SimulatedExchangeServer() as server:
        yield server


@pytest.fixture
def sqlite_ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    migrate.migrate(ledger.database)
    reconciled(ledger, datetime.now(UTC))
    yield ledger
    ledger.close()


@pytest.fixture
def postgresql_ledger() -> Iterator[Ledger]:
    with PostgreSQLServer() as server:
        url = server.ledger_url()
        ledger = Ledger(url)
        migrate.migrate(ledger.database)
        reconciled(ledger, datetime.now(UTC))
        yield ledger
        ledger.close()
