"""Orders go to play money only, and to the venue that the settings name."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from botswarm.clock import SystemClock
from botswarm.config import Secret
from botswarm.errors import NotFound, Refused, Unreachable
from botswarm.exchanges import accounts, registry
from botswarm.exchanges.accounts import Account
from botswarm.exchanges.binance.trading import BinanceTrading
from botswarm.exchanges.simulated import record
from botswarm.exchanges.simulated.record import ExchangeRecord
from tests.settings import settings_of

PAPER, SPOT = Account("simulated", "paper"), Account("binance", "spot")
KEYS = {"BOTSWARM_BINANCE_API_KEY": "some-key", "BOTSWARM_BINANCE_API_SECRET": "some-secret"}


@pytest.mark.parametrize(
    "url",
    [
        "https://api.binance.com",
        "https://api1.binance.com",
        "https://api.binance.us",
        "https://evil-binance.vision",
        "https://binance.vision.example.com",
        "https://demo-api.binance.com.example.com",
        "https://xdemo-api.binance.com",
    ],
)
def test_a_venue_of_real_money_is_refused(tmp_path: Path, url: str) -> None:
    given = settings_of(tmp_path, **KEYS, BOTSWARM_BINANCE_REST_URL=url)
    with pytest.raises(Refused, match=r"trades real money, and \S+ is not armed"):
        accounts.trading_venue(given, SystemClock(), accounts.default_account(given))


def test_a_venue_of_real_money_is_made_for_the_account_that_was_armed_and_no_other(
    tmp_path: Path,
) -> None:
    given = settings_of(tmp_path, **KEYS, BOTSWARM_BINANCE_REST_URL="https://api.binance.com")
    armed = {("binance", "spot")}

    def is_armed(venue: str, account: str) -> bool:
        return (venue, account) in armed

    made = accounts.trading_venue(given, SystemClock(), SPOT, None, is_armed)
    assert (made.name, made.account) == ("binance", "spot")
    made.close()
    other = Account("binance", "other")
    with pytest.raises(Refused, match="binance:other is not armed") as caught:
        accounts.trading_venue(given, SystemClock(), other, PlainKeys(), is_armed)
    assert "botswarm trading arm binance:other" in caught.value.cure


def test_the_stream_of_real_money_is_refused_too(tmp_path: Path) -> None:
    url = "wss://ws-api.binance.com:443/ws-api/v3"
    given = settings_of(tmp_path, **KEYS, BOTSWARM_BINANCE_WS_API_URL=url)
    with pytest.raises(Refused, match=r"trades real money, and \S+ is not armed"):
        accounts.account_stream(given, SystemClock(), SPOT)


@pytest.mark.parametrize(
    "url", ["https://testnet.binance.vision", "https://demo-api.binance.com", "http://127.0.0.1:80"]
)
def test_a_key_chooses_binance_where_money_is_play_money(tmp_path: Path, url: str) -> None:
    given = settings_of(tmp_path, **KEYS, BOTSWARM_BINANCE_REST_URL=url)
    venue = accounts.trading_venue(given, SystemClock(), accounts.default_account(given))
    assert (venue.name, venue.account) == ("binance", "spot")


def test_without_a_key_orders_go_to_the_simulated_exchange(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="no exchange was started"):
        accounts.trading_venue(settings_of(tmp_path), SystemClock(), PAPER)
    card = record.ExchangeRecord(
        host="127.0.0.1",
        port=9,
        rest_url="http://127.0.0.1:9",
        stream_url="ws://127.0.0.1:9",
        ws_api_url="ws://127.0.0.1:9/ws-api/v3",
        api_key="key",
        api_secret="secret",
        pid=1,
        started_at="2026-01-01T00:00:00+00:00",
    )
    record.write(tmp_path, card)
    venue = accounts.trading_venue(settings_of(tmp_path), SystemClock(), PAPER)
    assert (venue.name, venue.account) == ("simulated", "paper")


class CoinbaseKeys:
    key = Secret("organizations/one/apiKeys/two")
    # A public test key: nobody's money is behind it.
    secret = Secret(base64.b64encode(bytes(64)).decode())
    passphrase = None


def test_coinbase_is_traded_here_and_refused_where_it_is_real_money(tmp_path: Path) -> None:
    account, clock = Account("coinbase", "main"), SystemClock()
    with pytest.raises(Refused, match=r"trades real money, and \S+ is not armed"):
        accounts.trading_venue(settings_of(tmp_path), clock, account, CoinbaseKeys())
    with pytest.raises(Refused, match=r"trades real money, and \S+ is not armed"):
        accounts.account_stream(settings_of(tmp_path), clock, account, CoinbaseKeys())
    here = {
        "BOTSWARM_COINBASE_REST_URL": "http://127.0.0.1:9/coinbase",
        "BOTSWARM_COINBASE_USER_STREAM_URL": "ws://127.0.0.1:9/coinbase/user",
    }
    venue = accounts.trading_venue(settings_of(tmp_path, **here), clock, account, CoinbaseKeys())
    assert (venue.name, venue.account) == ("coinbase", "main")
    assert accounts.account_stream(settings_of(tmp_path, **here), clock, account, CoinbaseKeys())
    venue.close()


def test_kraken_is_traded_here_and_refused_where_it_is_real_money(tmp_path: Path) -> None:
    account, clock = Account("kraken", "main"), SystemClock()
    for real in ({}, {"BOTSWARM_KRAKEN_REST_URL": "http://127.0.0.1:9/kraken"}):
        with pytest.raises(Refused, match=r"trades real money, and \S+ is not armed"):
            accounts.trading_venue(settings_of(tmp_path, **real), clock, account, CoinbaseKeys())
        with pytest.raises(Refused, match=r"trades real money, and \S+ is not armed"):
            accounts.account_stream(settings_of(tmp_path, **real), clock, account, CoinbaseKeys())
    here = {
        "BOTSWARM_KRAKEN_REST_URL": "http://127.0.0.1:9/kraken",
        "BOTSWARM_KRAKEN_TRADING_URL": "ws://127.0.0.1:9/kraken/auth/v2",
    }
    venue = accounts.trading_venue(settings_of(tmp_path, **here), clock, account, CoinbaseKeys())
    assert (venue.name, venue.account) == ("kraken", "main")
    assert accounts.account_stream(settings_of(tmp_path, **here), clock, account, CoinbaseKeys())
    venue.close()


@pytest.mark.parametrize(
    ("road", "is_tried"), [("rest", False), ("websocket", True)], ids=["rest", "websocket"]
)
def test_the_road_of_orders_is_chosen_and_held_to_play_money_too(
    tmp_path: Path, road: str, is_tried: bool
) -> None:
    real = "wss://ws-api.binance.com:443/ws-api/v3"
    given = settings_of(
        tmp_path, **KEYS, BOTSWARM_BINANCE_ORDER_ROAD=road, BOTSWARM_BINANCE_WS_API_URL=real
    )
    if is_tried:
        with pytest.raises(Refused, match=r"trades real money, and \S+ is not armed"):
            accounts.trading_venue(given, SystemClock(), SPOT)
    else:
        accounts.trading_venue(given, SystemClock(), SPOT).close()


class PlainKeys:
    key, secret, passphrase = Secret("key"), Secret("secret"), Secret("phrase")


def test_any_other_venue_is_traded_through_ccxt_and_with_play_money_only(tmp_path: Path) -> None:
    given, clock = settings_of(tmp_path), SystemClock()
    account = Account("ccxt-binance", "main")
    venue = accounts.trading_venue(given, clock, account, PlainKeys())
    assert (venue.name, venue.account) == ("ccxt-binance", "main")
    assert accounts.account_stream(given, clock, account, PlainKeys()) is None
    venue.close()
    with pytest.raises(Refused, match="no play money"):
        accounts.trading_venue(given, clock, Account("ccxt-kraken", "main"), PlainKeys())
    with pytest.raises(NotFound, match="knows no venue"):
        accounts.trading_venue(given, clock, Account("ccxt-nowhere", "main"), PlainKeys())


def test_a_venue_that_takes_no_orders_is_named_with_those_that_do() -> None:
    with pytest.raises(NotFound) as caught:
        accounts.check_takes_orders("coinbase-exchange")
    assert "coinbase, kraken" in str(caught.value.cure)
    accounts.check_takes_orders("ccxt-okx")


def test_keys_of_another_account_never_open_one_on_paper(tmp_path: Path) -> None:
    given, account = settings_of(tmp_path), Account("kraken", "paper")
    with pytest.raises(Unreachable, match="nobody trades on paper at kraken here"):
        accounts.trading_venue(given, SystemClock(), account, PlainKeys())
    card = ExchangeRecord(
        host="127.0.0.1",
        port=18543,
        rest_url="http://127.0.0.1:18543",
        stream_url="ws://127.0.0.1:18543",
        ws_api_url="ws://127.0.0.1:18543/ws-api/v3",
        api_key="of paper",
        api_secret="of paper",
        pid=1,
        started_at="now",
    )
    record.write(tmp_path, card, "paper-kraken")
    assert accounts.accounts(given) == [account]
    venue = accounts.trading_venue(given, SystemClock(), account, PlainKeys())
    assert isinstance(venue, BinanceTrading)
    assert venue._key.reveal() == "of paper"
    venue.close()


@pytest.mark.parametrize(
    ("venue", "account", "url", "kind"),
    [
        ("kraken", "paper", "https://api.binance.com", "paper"),
        ("simulated", "paper", "https://api.binance.com", "paper"),
        ("simulated", "other", "https://testnet.binance.vision", "live"),
        ("binance", "spot", "https://testnet.binance.vision", "testnet"),
        ("binance", "kept", "https://testnet.binance.vision", "testnet"),
        ("binance", "kept", "http://127.0.0.1:18443", "testnet"),
        ("binance", "spot", "https://api.binance.com", "live"),
        ("binance", "kept", "https://api.binance.com.evil.example", "live"),
        ("kraken", "kept", "https://testnet.binance.vision", "live"),
        ("nowhere", "kept", "https://testnet.binance.vision", "live"),
        ("ccxt-okx", "kept", "https://api.binance.com", "testnet"),
    ],
)
def test_money_is_real_unless_the_venues_address_is_known_to_be_of_play_money(
    tmp_path: Path, venue: str, account: str, url: str, kind: str
) -> None:
    given = settings_of(tmp_path, BOTSWARM_BINANCE_REST_URL=url)
    assert registry.account_kind(given, venue, account).value == kind
