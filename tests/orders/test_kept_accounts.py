"""An account whose keys are kept in the ledger is traded by an order worker like any other."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from botswarm.clock import SystemClock
from botswarm.config import Secret, load
from botswarm.domain.order import OrderState
from botswarm.exchanges import accounts
from botswarm.exchanges.accounts import Account
from botswarm.exchanges.base import Permissions
from botswarm.keys.ring import ApiKeys, KeyRing
from botswarm.ledger import migrate
from botswarm.ledger.store import Ledger
from botswarm.messages import PlaceOrder, send
from botswarm.testing.exchange import SimulatedExchangeServer
from botswarm.testing.servers import EmbeddedBrokerServer
from botswarm.testing.venue import FakeVenue
from tests.integration.swarm import Swarm, until
from tests.orders.conftest import a_market_order
from tests.orders.test_venue_contract import BTC
from tests.settings import settings_of
from workers import orders
from workers.desks import Desks


@pytest.fixture
def swarm(exchange: SimulatedExchangeServer, tmp_path: Path) -> Iterator[Swarm]:
    """Binance's protocol at the exchange's addresses, and none of Binance's keys in a setting."""
    card = exchange.card
    settings = {
        "BOTSWARM_BINANCE_REST_URL": card.rest_url,
        "BOTSWARM_BINANCE_WS_API_URL": card.ws_api_url,
        # Of the simulated exchange's own account nothing is started here.
        "BOTSWARM_DATABASE_URL": f"sqlite:///{tmp_path / 'ledger.db'}",
    }
    with EmbeddedBrokerServer() as broker:
        vhost = f"k-{uuid.uuid4().hex[:8]}"
        broker.add_vhost(vhost)
        made = Swarm(broker, vhost, tmp_path, settings)
        yield made
        made.close()


@pytest.mark.timeout(180)
def test_an_order_of_a_kept_account_is_signed_with_its_key_and_filled(
    swarm: Swarm, exchange: SimulatedExchangeServer
) -> None:
    settings = load(environ=swarm.environment, folder=swarm.folder).settings
    ledger = Ledger(settings.database_url)
    migrate.migrate(ledger.database)
    card, now = exchange.card, datetime.now(UTC)
    keys = ApiKeys(key=Secret(card.api_key), secret=Secret(card.api_secret))
    ring = KeyRing(settings, ledger.exchange_keys)
    ring.add("binance", "main", "testnet", keys, now=now, actor="ann")
    worker = swarm.worker("orders")

    order = a_market_order(
        venue="binance",
        account="main",
        quantity=Decimal("0.001"),
        signal_expires_at=now + timedelta(hours=1),
    )
    ledger.orders.add(order, now)

    def is_filled() -> bool:
        message = PlaceOrder(order_id=order.id, venue="binance", account="main")
        send(swarm.app, message)
        return ledger.orders.get(order.id).state is OrderState.FILLED

    until(is_filled, f"the fill; worker: {worker.text[-3000:]}", 90)
    for secret in (card.api_key, card.api_secret):
        assert secret not in worker.text
    ledger.close()


class Withdrawing(FakeVenue):
    def permissions(self) -> Permissions:
        return Permissions(can_trade=True, can_withdraw=True)


def test_a_key_that_may_withdraw_places_nothing(
    sqlite_ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(tmp_path)
    venue = Withdrawing(SystemClock(), [BTC])
    made = Desks(settings, sqlite_ledger, SystemClock())
    monkeypatch.setattr(accounts, "trading_venue", lambda *_: venue)
    monkeypatch.setattr(orders, "desks", lambda: made)
    order = a_market_order(signal_expires_at=datetime.now(UTC) + timedelta(hours=1))
    sqlite_ledger.orders.add(order, datetime.now(UTC))
    assert orders._placed(order.id, made.of(Account("simulated", "paper"))) == "refused"
    assert "may withdraw money" in (sqlite_ledger.orders.get(order.id).reason or "")
    assert venue.orders == []
