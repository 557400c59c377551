"""The keys of exchange accounts: kept sealed, opened for whoever signs, never shown again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from botswarm.config import Secret, Settings
from botswarm.errors import NotFound
from botswarm.keys import envelope
from botswarm.keys.envelope import Envelope, MasterKey, Unsealable
from botswarm.keys.master import master, masters
from botswarm.ledger.exchange_keys import ExchangeKeys, KeptKey, Sealed


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKeys:
    """What opens an account at its venue."""

    key: Secret
    secret: Secret
    passphrase: Secret | None = None


class KeyRing:
    """Every call reads the ledger: a key that was changed is the one that is opened next."""

    def __init__(self, settings: Settings, kept: ExchangeKeys) -> None:
        self._settings = settings
        self._kept = kept

    def open(self, venue: str, account: str) -> ApiKeys:
        """Raises NotFound without a key, NoMaster without its master key, and Unsealable where
        somebody touched the row.
        """
        row = self._kept.get(venue, account)
        plain = envelope.unseal(_envelope(row.envelope), _identity(row), masters(self._settings))
        return _parsed(plain)

    def find(self, venue: str, account: str) -> ApiKeys | None:
        """The same; None where only the settings may know some."""
        try:
            return self.open(venue, account)
        except NotFound:
            return None

    def kept(self) -> Sequence[KeptKey]:
        return self._kept.all()

    def add(
        self, venue: str, account: str, kind: str, keys: ApiKeys, *, now: datetime, actor: str
    ) -> KeptKey:
        row = envelope.identity(venue, account, kind, 1)
        sealed = _sealed(envelope.seal(_written(keys), row, master(self._settings)))
        return self._kept.add(venue, account, kind, sealed, now=now, actor=actor)

    def rotate(
        self, venue: str, account: str, keys: ApiKeys, *, now: datetime, actor: str
    ) -> KeptKey:
        """Another exchange key; processes that hold the old one go on with it until they open it
        again.
        """
        before = self._kept.get(venue, account)
        row = envelope.identity(venue, account, before.kind, before.version + 1)
        sealed = _sealed(envelope.seal(_written(keys), row, master(self._settings)))
        return self._kept.rotate(venue, account, before.version, sealed, now=now, actor=actor)

    def rewrap(self, new: MasterKey, *, now: datetime, actor: str) -> int:
        """Everything under another master key; how many. Nothing is changed where one fails."""
        known = [*masters(self._settings), new]

        def change(row: KeptKey) -> Sealed:
            done = envelope.rewrap(_envelope(row.envelope), _identity(row), known, new)
            return _sealed(done)

        return self._kept.rewrap(change, now=now, actor=actor)


def _identity(row: KeptKey) -> bytes:
    return envelope.identity(row.venue, row.account, row.kind, row.version)


def _written(keys: ApiKeys) -> bytes:
    said = {"key": keys.key.reveal(), "secret": keys.secret.reveal()}
    if keys.passphrase is not None:
        said["passphrase"] = keys.passphrase.reveal()
    return json.dumps(said).encode()


def _parsed(plain: bytes) -> ApiKeys:
    try:
        said = json.loads(plain)
        passphrase = said.get("passphrase")
        return ApiKeys(
            key=Secret(said["key"]),
            secret=Secret(said["secret"]),
            passphrase=None if passphrase is None else Secret(passphrase),
        )
    except (ValueError, KeyError, AttributeError):
        # Not chained: what could not be read is shown in the message of the one before.
        raise Unsealable("a kept key is of a form that is not known", cure="add it again") from None


def _envelope(row: Sealed) -> Envelope:
    return Envelope(
        master_id=row.master_id,
        wrap_nonce=row.wrap_nonce,
        wrapped_key=row.wrapped_key,
        nonce=row.nonce,
        sealed=row.sealed,
    )


def _sealed(made: Envelope) -> Sealed:
    return Sealed(
        master_id=made.master_id,
        wrap_nonce=made.wrap_nonce,
        wrapped_key=made.wrapped_key,
        nonce=made.nonce,
        sealed=made.sealed,
    )
