"""Which settings must be the same in every process of a swarm, and how they are compared."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from decimal import Decimal
from urllib.parse import urlsplit

from botswarm.config.secret import Secret
from botswarm.config.settings import Settings
from botswarm.config.table import SETTINGS
from botswarm.config.urls import HERE

NAMES = (
    "env",
    "swarm_caps",
    # Whose account is traded; a key that was changed here and not there is two accounts.
    "binance_api_key",
    "bot_enable",
    "cancel_on_disconnect_s",
)
PREFIXES = (
    # What may be risked, and what is watched over.
    "limit_",
    "protection_",
    "risk_",
    # Where orders go, and where prices come from.
    "binance_",
    "coinbase_",
    "kraken_",
)
EXCEPT = ("binance_api_secret",)
"""It belongs to the key, and nothing of it is written down anywhere."""
A_NAME = "instance_id"
"""It says which machine that is, and is another one with every start of a container."""
SECRET_LENGTH = 8


def alike() -> tuple[str, ...]:
    """Their names, in the order of the table of settings."""
    return tuple(
        setting.name
        for setting in SETTINGS
        if (setting.name in NAMES or setting.name.startswith(PREFIXES))
        and setting.name not in EXCEPT
    )


def compared(settings: Settings) -> dict[str, str]:
    """By name, in words that are the same for the same value; of a secret a piece of its hash."""
    return {name: _words(getattr(settings, name)) for name in alike()}


def _words(value: object) -> str:
    match value:
        case None:
            return "not set"
        case Secret():
            hashed = hashlib.sha256(value.reveal().encode()).hexdigest()
            return f"a secret ({hashed[:SECRET_LENGTH]})"
        case bool():
            return "on" if value else "off"
        case Decimal():
            return f"{value.normalize():f}"
        case Mapping():
            return ",".join(f"{key}={_words(each)}" for key, each in sorted(value.items()))
        case tuple() | list():
            return ",".join(_words(each) for each in value)
    return str(value)


def others(settings: Settings, key: bytes) -> dict[str, str]:
    """Of those that may differ from machine to machine, in words; of a secret only whether it is
    the same as before, by a hash that says nothing to whoever has not got ``key``.
    """
    unwanted = {*alike(), *EXCEPT, A_NAME}
    wanted = [each.name for each in SETTINGS if each.name not in unwanted]
    found = {name: getattr(settings, name) for name in wanted}
    return {name: _told(each, key) for name, each in found.items() if not _is_found(each)}


def _told(value: object, key: bytes) -> str:
    if not isinstance(value, Secret):
        return _words(value)
    hashed = hashlib.blake2b(value.reveal().encode(), key=key).hexdigest()
    return f"a secret ({hashed[:SECRET_LENGTH]})"


def _is_found(value: object) -> bool:
    """A broker on this machine may be our own, which takes a free port: nobody has set that."""
    try:
        return isinstance(value, Secret) and urlsplit(value.reveal()).hostname in HERE
    except ValueError:
        return False  # a password, and no address
