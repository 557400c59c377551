"""How Binance wants a request signed: HMAC-SHA256 over its percent-encoded parameters."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from urllib.parse import quote

from botswarm.config import Secret


def encoded(parameters: Mapping[str, str]) -> str:
    """Percent-encoded first: what is signed is what is sent, byte for byte."""
    return "&".join(f"{name}={quote(value, safe='')}" for name, value in parameters.items())


def signature(payload: str, secret: Secret) -> str:
    return hmac.new(secret.reveal().encode(), payload.encode(), hashlib.sha256).hexdigest()


def signed(parameters: Mapping[str, str], secret: Secret) -> str:
    """A query string that ends in its own signature."""
    payload = encoded(parameters)
    return f"{payload}&signature={signature(payload, secret)}"
