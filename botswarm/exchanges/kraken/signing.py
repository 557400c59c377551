"""How Kraken wants a request signed: HMAC-SHA512 over its path and a hash of nonce and body."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

from botswarm.config import Secret
from botswarm.errors import Refused


def signature(path: str, nonce: int, body: str, secret: Secret) -> str:
    message = path.encode() + hashlib.sha256(f"{nonce}{body}".encode()).digest()
    try:
        key = base64.b64decode(secret.reveal(), validate=True)
    except binascii.Error:
        raise Refused(
            "the secret of this Kraken account is not base64",
            cure="give the private key exactly as Kraken showed it",
        ) from None
    return base64.b64encode(hmac.new(key, message, hashlib.sha512).digest()).decode()
