"""Who may enter Coinbase's private side: tokens that are genuine, for this request, and young."""

from __future__ import annotations

import base64
import json
from hashlib import sha256
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from botswarm.exchanges.simulated.feeds import Wrong, bucket

LIFETIME_MAX_S: Final = 120
LEEWAY_S: Final = 5
"""So much later a token is still taken, and so much earlier."""
ISSUERS: Final = ("cdp", "coinbase-cloud")
_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Of the curve: private keys are below it."""


class Guard:
    """The account's key pair follows from the exchange's secret: it is the same after a restart."""

    def __init__(self, key: str, secret: str, per_s: int) -> None:
        self.per_s = per_s
        self.name = f"organizations/simulated/apiKeys/{key[:36]}"
        number = int.from_bytes(sha256(f"coinbase {secret}".encode()).digest(), "big")
        self._private = ec.derive_private_key(number % (_ORDER - 1) + 1, ec.SECP256R1())
        self._public = self._private.public_key()
        self._spent: dict[str, tuple[float, float]] = {}

    def __repr__(self) -> str:
        return f"Guard({self.name})"

    @property
    def pem(self) -> str:
        """What the customer keeps secret."""
        kind = PrivateFormat.TraditionalOpenSSL
        return self._private.private_bytes(Encoding.PEM, kind, NoEncryption()).decode()

    def admit(self, token: str, now_ms: int, *, method: str = "", path: str = "") -> None:
        """Without a method it is a stream's token. Raises Wrong."""
        claims = self._claims(token)
        begins, ends, now_s = claims.get("nbf"), claims.get("exp"), now_ms / 1000
        if type(begins) is not int or type(ends) is not int:
            raise Wrong("Unauthorized", 401)
        if ends - begins > LIFETIME_MAX_S + LEEWAY_S:
            raise Wrong("Unauthorized", 401)
        if not begins - LEEWAY_S <= now_s <= ends + LEEWAY_S:
            raise Wrong("Unauthorized", 401)
        if method:
            # The address in it is whatever the customer believes ours to be.
            asked, _, where = str(claims.get("uri") or "").partition(" ")
            if asked != method or not where.endswith(path):
                raise Wrong("Unauthorized", 401)

    def count(self, now_ms: int) -> None:
        if not bucket(self._spent, self.name, now_ms / 1000, rate=self.per_s, burst=self.per_s):
            raise Wrong("rate_limit_exceeded", 429)

    def _claims(self, token: str) -> dict[str, Any]:
        try:
            head, body, signature = token.split(".")
            header, claims = json.loads(_decoded(head)), json.loads(_decoded(body))
            numbers = _decoded(signature)
            if header["alg"] != "ES256" or header["kid"] != self.name or len(numbers) != 64:
                raise Wrong("Unauthorized", 401)
            r, s = int.from_bytes(numbers[:32], "big"), int.from_bytes(numbers[32:], "big")
            said = f"{head}.{body}".encode()
            self._public.verify(encode_dss_signature(r, s), said, ec.ECDSA(hashes.SHA256()))
            if claims["sub"] != self.name or claims["iss"] not in ISSUERS:
                raise Wrong("Unauthorized", 401)
        except (ValueError, KeyError, TypeError, InvalidSignature) as error:
            raise Wrong("Unauthorized", 401) from error
        return dict(claims)


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
