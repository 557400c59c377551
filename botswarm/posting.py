"""Post bytes to a server, and say what it answered."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult

from botswarm.errors import Unreachable

LIMIT_S = 5.0
SAID_MAX = 200


@dataclass(frozen=True, slots=True)
class Posted:
    status: int
    retry_after_s: float
    """What the server asks for where it is busy; 0 where it asks for nothing."""
    said: str

    @property
    def is_taken(self) -> bool:
        return 200 <= self.status < 300


def post(url: SplitResult, path: str, body: bytes, headers: Mapping[str, str]) -> Posted:
    """Raises Unreachable where no answer came: it may have arrived all the same."""
    try:
        connection = _connection(url)
        try:
            connection.request("POST", path, body, dict(headers))
            response = connection.getresponse()
            said = response.read(SAID_MAX).decode(errors="replace")
            return Posted(response.status, _seconds(response.headers.get("Retry-After")), said)
        finally:
            connection.close()
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(
            f"{url.hostname} did not answer: {str(error) or type(error).__name__}",
            cure="check the address and this machine's network",
        ) from error


def _connection(url: SplitResult) -> http.client.HTTPConnection:
    host = url.hostname or "localhost"
    if url.scheme == "https":
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(host, url.port, timeout=LIMIT_S, context=context)
    return http.client.HTTPConnection(host, url.port, timeout=LIMIT_S)


def _seconds(text: str | None) -> float:
    try:
        return max(0.0, float(text or 0))
    except ValueError:
        return 0.0
