"""The accounts a command may trade: those of the settings, and those whose keys are kept."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from botswarm.config import Settings
    from botswarm.exchanges.accounts import Account
    from botswarm.keys.ring import ApiKeys, KeyRing
    from botswarm.ledger.store import Ledger


def configured(settings: Settings, ledger: Ledger) -> Sequence[Account]:
    from botswarm.exchanges import accounts
    from botswarm.exchanges.accounts import Account

    kept = _ring(settings, ledger).kept()
    return accounts.accounts(settings, [Account(each.venue, each.account) for each in kept])


def opened(settings: Settings, ledger: Ledger, account: Account) -> ApiKeys | None:
    """Its kept keys; None where only the settings may know some."""
    return _ring(settings, ledger).find(account.venue, account.name)


def _ring(settings: Settings, ledger: Ledger) -> KeyRing:
    from botswarm.keys.ring import KeyRing

    return KeyRing(settings, ledger.exchange_keys)


def kinds(settings: Settings) -> Callable[[str, str], str]:
    """Of venue and account, whose money it is: it stands beside everything that is shown of one."""
    from botswarm.exchanges.registry import account_kind

    @functools.lru_cache(maxsize=1000)
    def kind_of(venue: str, account: str) -> str:
        return account_kind(settings, venue, account).value

    return kind_of
