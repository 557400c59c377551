"""A venue's public REST: asked, its JSON read exactly, its errors in our own words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

from botswarm import __version__
from botswarm.errors import Malformed, Unreachable
from botswarm.exchanges.reading import shown
from botswarm.exchanges.transport import Transport

# Coinbase refuses who does not say its name.
HEADERS = {"User-Agent": f"botswarm/{__version__}", "Accept": "application/json"}
WORDS_MAX = 200


class PublicRest:
    """Threads share it; it signs nothing and knows no secret."""

    def __init__(self, venue: str, base_url: str) -> None:
        self.venue = venue
        self._transport = Transport(base_url)

    def ask(self, target: str) -> Any:
        """The answer's JSON, decimal numbers as Decimal. Raises Unreachable."""
        response = self._transport.request("GET", target, HEADERS)
        if response.status != 200:
            words = response.body[:WORDS_MAX].decode(errors="replace")
            raise Unreachable(
                f"{self.venue} answered {response.status} to {target.partition('?')[0]}: {words}",
                cure="see the venue's status; it is asked again by itself",
            )
        try:
            return json.loads(response.body, parse_float=Decimal, parse_constant=_refuse)
        except (ValueError, RecursionError) as error:
            raise Unreachable(
                f"{self.venue}'s answer to {target.partition('?')[0]} is not JSON: "
                f"{shown(str(error))}",
                cure="see the venue's status; something may stand between it and us",
            ) from error

    @contextmanager
    def reading(self, what: str) -> Iterator[None]:
        """Within it, an answer of another shape than documented becomes Unreachable."""
        try:
            yield
        except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
            raise self._unread(what, error) from error
        except Malformed as error:
            raise self._unread(what, error) from error

    def _unread(self, what: str, error: Exception) -> Unreachable:
        return Unreachable(
            f"{self.venue}'s {what} cannot be read: {type(error).__name__}: {shown(str(error))}",
            cure="see whether the venue announced a change of its API",
        )

    def close(self) -> None:
        self._transport.close()


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")
