"""Which accounts are configured, and what trades each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, cast

from botswarm.clock import Clock
from botswarm.config import Secret, Settings
from botswarm.domain.order import OrderKind
from botswarm.errors import NotFound
from botswarm.exchanges import allowances
from botswarm.exchanges.base import AccountStream, TradingRules, TradingVenue
from botswarm.exchanges.registry import (
    BINANCE,
    CCXT,
    PAPER,
    SIMULATED,
    SPOT,
    card,
    check_money,
    paper_card,
)
from botswarm.exchanges.simulated import record

Urls = Callable[[Settings], Mapping[str, str]]
IsArmed = Callable[[str, str], bool]
"""Of venue and account, whether a person ever let real money be traded there."""


def nobody(venue: str, account: str) -> bool:
    return False


def anybody(venue: str, account: str) -> bool:
    """For whoever only looks or cancels, and may have no ledger to ask."""
    return True


@dataclass(frozen=True, slots=True, order=True)
class Account:
    """One account at one venue, as people write it: ``binance:spot``."""

    venue: str
    name: str

    def __str__(self) -> str:
        return f"{self.venue}:{self.name}"


class Keys(Protocol):
    """What opens an account."""

    @property
    def key(self) -> Secret: ...
    @property
    def secret(self) -> Secret: ...
    @property
    def passphrase(self) -> Secret | None: ...


@dataclass(frozen=True, slots=True)
class _Pair:
    key: Secret
    secret: Secret
    passphrase: Secret | None = None


@dataclass(frozen=True, slots=True)
class _Part:
    """A class of a venue; its module is imported when it is needed."""

    module: str
    kind: str
    urls: Urls
    keeps_state: bool = False
    """It shares more with the other processes of this machine than allowances."""
    takes_passphrase: bool = False

    def made(
        self, settings: Settings, place: Account, is_armed: IsArmed, /, **given: object
    ) -> object:
        """Raises Refused where one of its addresses is of real money that nobody ever armed."""
        urls = self.urls(settings)
        for url in urls.values():
            check_money(url, str(place), lambda: is_armed(place.venue, place.name))
        if self.keeps_state:
            given["state_dir"] = settings.state_dir
        return getattr(import_module(self.module), self.kind)(**given, **urls)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Traded:
    venue: _Part
    stream: _Part | None = None


_BINANCE = "botswarm.exchanges.binance.trading", "BinanceTrading"
_BINANCE_STREAM = "botswarm.exchanges.binance.user_data", "UserData"
_COINBASE = "botswarm.exchanges.coinbase.trading", "CoinbaseTrading"
_COINBASE_STREAM = "botswarm.exchanges.coinbase.user_data", "CoinbaseUserData"
_KRAKEN = "botswarm.exchanges.kraken.trading", "KrakenTrading"
_KRAKEN_STREAM = "botswarm.exchanges.kraken.executions", "Executions"


def _kraken_urls(settings: Settings) -> Mapping[str, str]:
    return {"url": settings.kraken_rest_url, "stream_url": settings.kraken_trading_url}


def _binance_urls(settings: Settings) -> Mapping[str, str]:
    if settings.binance_order_road == "rest":
        return {"url": settings.binance_rest_url}
    return {"url": settings.binance_rest_url, "order_url": settings.binance_ws_api_url}


def _simulated_urls(settings: Settings) -> Mapping[str, str]:
    return _urls_on(card(settings), settings)


def _urls_on(found: record.ExchangeRecord, settings: Settings) -> Mapping[str, str]:
    if settings.binance_order_road == "rest":
        return {"url": found.rest_url}
    return {"url": found.rest_url, "order_url": found.ws_api_url}


def _on_paper(venue: str) -> _Traded:
    """At another venue's prices, in Binance's words."""
    return _Traded(
        venue=_Part(*_BINANCE, lambda settings: _urls_on(paper_card(settings, venue), settings)),
        stream=_Part(
            *_BINANCE_STREAM, lambda settings: {"url": paper_card(settings, venue).ws_api_url}
        ),
    )


TRADED: Mapping[str, _Traded] = {
    SIMULATED: _Traded(
        venue=_Part(*_BINANCE, _simulated_urls),
        stream=_Part(*_BINANCE_STREAM, lambda settings: {"url": card(settings).ws_api_url}),
    ),
    BINANCE: _Traded(
        venue=_Part(*_BINANCE, _binance_urls),
        stream=_Part(*_BINANCE_STREAM, lambda settings: {"url": settings.binance_ws_api_url}),
    ),
    "coinbase": _Traded(
        venue=_Part(*_COINBASE, lambda settings: {"url": settings.coinbase_rest_url}),
        stream=_Part(
            *_COINBASE_STREAM, lambda settings: {"url": settings.coinbase_user_stream_url}
        ),
    ),
    "kraken": _Traded(
        venue=_Part(*_KRAKEN, _kraken_urls, keeps_state=True),
        stream=_Part(*_KRAKEN_STREAM, _kraken_urls, keeps_state=True),
    ),
}
"""The venues that take orders from here."""
ANY_OTHER = _Traded(
    venue=_Part(
        "botswarm.exchanges.ccxt_venue.trading",
        "CcxtTrading",
        # It finds the addresses by itself, and only those of play money.
        lambda settings: {},
        takes_passphrase=True,
    )
)
"""A venue by ccxt's name for it: ``ccxt-okx``."""


def accounts(settings: Settings, kept: Iterable[Account] = ()) -> Sequence[Account]:
    """All that are configured; ``kept`` are those whose keys are kept elsewhere.

    The simulated exchange's account is one of them where it runs here, or nothing else is.
    """
    named = {*kept}
    if settings.binance_api_key is not None:
        named.add(Account(BINANCE, SPOT))
    named |= {Account(venue, PAPER) for venue in record.paper_venues(settings.state_dir)}
    if not named or record.read(settings.state_dir) is not None:
        named.add(Account(SIMULATED, PAPER))
    return sorted(named)


def default_account(settings: Settings) -> Account:
    """Where orders go that name no account."""
    if settings.binance_api_key is not None:
        return Account(BINANCE, SPOT)
    return Account(SIMULATED, PAPER)


def address(settings: Settings, account: Account) -> str:
    """Where its orders go; raises NotFound or Unreachable where that is not known."""
    return next(iter(_traded(account).venue.urls(settings).values()), "")


def trading_venue(
    settings: Settings,
    clock: Clock,
    account: Account,
    keys: Keys | None = None,
    is_armed: IsArmed = nobody,
) -> TradingVenue:
    """What trades an account.

    Raises Refused for real money that was never armed: where it once was, orders may have to be
    looked after, and whether new ones pass is asked where they begin. Raises NotFound for an
    account without keys or a venue that takes no orders, and Unreachable where no exchange has
    been started.
    """
    opened = _opened(settings, account, keys)
    part = _traded(account).venue
    url = next(iter(part.urls(settings).values()), "")
    given = {"passphrase": opened.passphrase} if part.takes_passphrase else {}
    made = part.made(
        settings,
        account,
        is_armed,
        **given,
        name=account.venue,
        account=account.name,
        key=opened.key,
        secret=opened.secret,
        clock=clock,
        allowance=allowances.shared(settings, _asked(account), url, account.name),
    )
    return cast("TradingVenue", made)


def account_stream(
    settings: Settings,
    clock: Clock,
    account: Account,
    keys: Keys | None = None,
    is_armed: IsArmed = nobody,
) -> AccountStream | None:
    """What the venue says of the account by itself; None where it says nothing."""
    stream = _traded(account).stream
    if stream is None:
        return None
    opened = _opened(settings, account, keys)
    given: dict[str, object] = {"key": opened.key, "secret": opened.secret, "clock": clock}
    if stream.keeps_state:
        # It asks by REST for leave to listen.
        url = next(iter(stream.urls(settings).values()))
        given["allowance"] = allowances.shared(settings, _asked(account), url, account.name)
    return cast("AccountStream", stream.made(settings, account, is_armed, **given))


def check_takes_orders(venue: str) -> None:
    """Raises NotFound for a venue that takes no orders from here."""
    _traded_at(venue)


def kinds(account: Account) -> frozenset[OrderKind] | None:
    """Which orders its venue takes; None where only the venue itself can tell."""
    try:
        rules = _rules(account)
    except NotFound:
        return frozenset()
    return None if rules is None else rules.kinds


def taken_within_s(account: Account) -> float | None:
    """So long after it was signed its venue may take an order; None where nothing bounds that."""
    try:
        rules = _rules(account)
    except NotFound:
        return None
    return None if rules is None else rules.taken_within_s


def _rules(account: Account) -> TradingRules | None:
    """Those that hold for all accounts of its venue; None where only the venue itself can tell."""
    part = _traded(account).venue
    found: TradingRules | None = getattr(
        getattr(import_module(part.module), part.kind), "rules", None
    )
    return found


def is_at_prices_of_another(account: Account) -> bool:
    """Whether it is one on paper at a real venue's prices."""
    return account.name == PAPER and account.venue != SIMULATED


def _asked(account: Account) -> str:
    """Whose limits count: on paper nobody asks the venue."""
    return allowances.PAPER + account.venue if is_at_prices_of_another(account) else account.venue


def _traded(account: Account) -> _Traded:
    if is_at_prices_of_another(account):
        return _on_paper(account.venue)
    return _traded_at(account.venue)


def _traded_at(venue: str) -> _Traded:
    if venue.startswith(CCXT):
        return ANY_OTHER
    if venue not in TRADED:
        raise NotFound(
            f"{venue} takes no orders from here",
            cure=f"venues that do: {', '.join(TRADED)}, and {CCXT}NAME for those that ccxt knows",
        )
    return TRADED[venue]


def _opened(settings: Settings, account: Account, keys: Keys | None) -> Keys:
    _traded(account)
    if is_at_prices_of_another(account):
        # Keys that are kept under its name are for something else, and open nothing here.
        found = paper_card(settings, account.venue)
        return _Pair(Secret(found.api_key), Secret(found.api_secret))
    if keys is not None:
        return keys
    if account == Account(SIMULATED, PAPER):
        found = card(settings)
        return _Pair(Secret(found.api_key), Secret(found.api_secret))
    key, secret = settings.binance_api_key, settings.binance_api_secret
    if account == Account(BINANCE, SPOT) and key is not None and secret is not None:
        return _Pair(key, secret)
    raise NotFound(
        f"the account {account} has no keys here",
        cure=f"botswarm account add {account}; or set BOTSWARM_BINANCE_API_KEY for binance:spot",
    )
