"""A secret in its envelope: sealed by a key of its own, which a master key wraps (AES-256-GCM)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botswarm.config import Secret
from botswarm.errors import Refused, Unreachable

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
NONCE_BYTES = 12


class Unsealable(Refused):
    """Somebody changed what was kept, or put it where something else was: it is never used."""


class NoMaster(Unreachable):
    """The master key that wraps it is not the one that this process was given."""


class MasterKey:
    """Thirty-two random bytes; only ``id`` is ever shown or kept."""

    __slots__ = ("_key", "id")

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"a master key has {KEY_BYTES} bytes")
        self._key = key
        self.id = hashlib.sha256(b"botswarm master key " + key).hexdigest()[:16]

    @classmethod
    def new(cls) -> MasterKey:
        return cls(os.urandom(KEY_BYTES))

    @classmethod
    def read(cls, text: str) -> MasterKey:
        """Base64, as ``written`` gives it. Raises ValueError for anything else."""
        try:
            return cls(base64.b64decode(text.strip(), validate=True))
        except binascii.Error as error:
            raise ValueError("not base64") from error

    def written(self) -> Secret:
        return Secret(base64.b64encode(self._key).decode("ascii"))

    def wrap(self, nonce: bytes, data_key: bytes, identity: bytes) -> bytes:
        return _cipher(self._key).encrypt(nonce, data_key, identity)

    def unwrap(self, nonce: bytes, wrapped: bytes, identity: bytes) -> bytes:
        return _opened(self._key, nonce, wrapped, identity)

    def __repr__(self) -> str:
        return f"MasterKey(id={self.id!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """What is kept. Every part is bound to the identity of the row it stands in."""

    master_id: str
    wrap_nonce: bytes
    wrapped_key: bytes
    nonce: bytes
    sealed: bytes


def identity(*parts: object) -> bytes:
    """Of a row; no two rows have the same, whatever stands in their columns."""
    return json.dumps(["botswarm keys 1", *map(str, parts)]).encode()


def seal(plain: bytes, row: bytes, master: MasterKey) -> Envelope:
    """With a new data key, which seals nothing else: its nonce can never come a second time."""
    data_key, nonce, wrap_nonce = os.urandom(KEY_BYTES), *_nonces()
    return Envelope(
        master_id=master.id,
        wrap_nonce=wrap_nonce,
        wrapped_key=master.wrap(wrap_nonce, data_key, _wrapping(row, master.id)),
        nonce=nonce,
        sealed=_cipher(data_key).encrypt(nonce, plain, row),
    )


def unseal(envelope: Envelope, row: bytes, masters: Iterable[MasterKey]) -> bytes:
    """Raises NoMaster without the right master key, Unsealable when anything does not fit."""
    data_key = _data_key(envelope, row, masters)
    return _opened(data_key, envelope.nonce, envelope.sealed, row)


def rewrap(
    envelope: Envelope, row: bytes, masters: Iterable[MasterKey], new: MasterKey
) -> Envelope:
    """The same secret under another master key. What was sealed is opened once, to be sure."""
    data_key = _data_key(envelope, row, masters)
    _opened(data_key, envelope.nonce, envelope.sealed, row)
    wrap_nonce, _ = _nonces()
    return Envelope(
        master_id=new.id,
        wrap_nonce=wrap_nonce,
        wrapped_key=new.wrap(wrap_nonce, data_key, _wrapping(row, new.id)),
        nonce=envelope.nonce,
        sealed=envelope.sealed,
    )


def _data_key(envelope: Envelope, row: bytes, masters: Iterable[MasterKey]) -> bytes:
    known = {master.id: master for master in masters}
    master = known.get(envelope.master_id)
    if master is None:
        ours = ", ".join(sorted(known)) or "none"
        raise NoMaster(
            f"the keys are wrapped by master key {envelope.master_id}, and this process has {ours}",
            cure="give it that one: BOTSWARM_MASTER_KEY_FILE, or master.key in the state folder",
        )
    return master.unwrap(
        envelope.wrap_nonce, envelope.wrapped_key, _wrapping(row, envelope.master_id)
    )


def _wrapping(row: bytes, master_id: str) -> bytes:
    return row + b" by " + master_id.encode()


def _nonces() -> tuple[bytes, bytes]:
    return os.urandom(NONCE_BYTES), os.urandom(NONCE_BYTES)


def _opened(key: bytes, nonce: bytes, sealed: bytes, row: bytes) -> bytes:
    from cryptography.exceptions import InvalidTag

    try:
        return _cipher(key).decrypt(nonce, sealed, row)
    except (InvalidTag, ValueError) as error:
        raise Unsealable(
            "a kept key was changed, or stands in a row that is not its own",
            cure="find out who wrote to the database; then remove the account and add it again",
        ) from error


def _cipher(key: bytes) -> AESGCM:
    # Imported when a key is opened: it weighs much, and most processes open none.
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key)
