"""For how long the certificates of the servers we talk to are still good."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

from botswarm.config import Settings
from botswarm.health.worker import addresses

LIMIT_S = 5.0
DAY_S = 86_400
PORTS = {"https": 443, "wss": 443, "amqps": 5671, "rediss": 6379}
"""Of servers that begin with TLS; PostgreSQL's begins in the middle of its own talk."""

Endpoint = tuple[str, int]


def endpoints(settings: Settings) -> Iterator[Endpoint]:
    """The broker, Redis and every account's venue, as far as they are encrypted; each once."""
    urls = [url for _, url in addresses(settings)]
    urls += [
        secret.reveal()
        for secret in (settings.broker_url, settings.broker_management_url, settings.redis_url)
        if secret is not None
    ]
    seen: set[Endpoint] = set()
    for url in urls:
        parts = urlsplit(url)
        if parts.scheme not in PORTS or parts.hostname is None:
            continue
        endpoint = parts.hostname, parts.port or PORTS[parts.scheme]
        if endpoint not in seen:
            seen.add(endpoint)
            yield endpoint


def ending(endpoint: Endpoint, days_min: int, context: ssl.SSLContext | None = None) -> str | None:
    """What is to be said of it; None where it is good for long enough."""
    host, port = endpoint
    try:
        days = _days_left(host, port, context or ssl.create_default_context())
    except ssl.SSLCertVerificationError as error:
        return f"the certificate of {host}:{port} is not good: {error.verify_message}"
    except OSError as error:
        return f"the certificate of {host}:{port} cannot be seen: {error.strerror or error}"
    if days >= days_min:
        return None
    return f"the certificate of {host}:{port} ends in {days:.0f} days: have it renewed"


def _days_left(host: str, port: int, context: ssl.SSLContext) -> float:
    with (
        socket.create_connection((host, port), timeout=LIMIT_S) as plain,
        context.wrap_socket(plain, server_hostname=host) as encrypted,
    ):
        ends = (encrypted.getpeercert() or {}).get("notAfter")
    if not isinstance(ends, str):
        return float("inf")  # nobody verifies it here, so nobody is told when it ends
    return (ssl.cert_time_to_seconds(ends) - time.time()) / DAY_S
