"""How Coinbase wants a request signed: a token that names it and ends within seconds."""

from __future__ import annotations

import base64
import binascii
import json
import secrets
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from botswarm.config import Secret
from botswarm.errors import Refused

ISSUER = "cdp"
PART_BYTES = 32
"""Of an ES256 signature's two numbers."""
BACK_S = 1
"""So much before now a token begins to hold: two clocks never agree to the second."""


class Signer:
    """One key of the developer platform: an EC key as PEM (ES256), or Ed25519 as base64."""

    def __init__(self, key: Secret, secret: Secret) -> None:
        """Raises Refused for a secret that is neither."""
        self._key = key
        self._private = _private_key(secret)

    def token(self, *, at_s: int, lifetime_s: int, uri: str | None = None) -> str:
        """Of a request, ``GET host/path`` without its query, or of a stream without one."""
        name = self._key.reveal()
        algorithm = "ES256" if isinstance(self._private, ec.EllipticCurvePrivateKey) else "EdDSA"
        header = {"alg": algorithm, "typ": "JWT", "kid": name, "nonce": secrets.token_hex(16)}
        claims: dict[str, Any] = {
            "sub": name,
            "iss": ISSUER,
            "nbf": at_s - BACK_S,
            "exp": at_s + lifetime_s,
        }
        if uri is not None:
            claims["uri"] = uri
        said = f"{_encoded(header)}.{_encoded(claims)}"
        return f"{said}.{_base64(self._sign(said.encode()))}"

    def _sign(self, said: bytes) -> bytes:
        if isinstance(self._private, Ed25519PrivateKey):
            return self._private.sign(said)
        r, s = decode_dss_signature(self._private.sign(said, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(PART_BYTES, "big") + s.to_bytes(PART_BYTES, "big")


def _private_key(secret: Secret) -> ec.EllipticCurvePrivateKey | Ed25519PrivateKey:
    text = secret.reveal().replace("\\n", "\n").strip()
    try:
        if text.startswith("-----BEGIN"):
            found = load_pem_private_key(text.encode(), password=None)
            if isinstance(found, ec.EllipticCurvePrivateKey) and found.curve.name == "secp256r1":
                return found
        else:
            # Seed and public half; the seed alone is the key.
            return Ed25519PrivateKey.from_private_bytes(base64.b64decode(text, validate=True)[:32])
    except (ValueError, TypeError, binascii.Error):
        # Its words could carry some of the secret.
        pass
    raise Refused(
        "the secret of the Coinbase key cannot be read as a private key",
        cure="give it as it was downloaded: the EC key in PEM, or the Ed25519 key in base64",
    )


def _encoded(part: Mapping[str, Any]) -> str:
    return _base64(json.dumps(part, separators=(",", ":")).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
