"""Kraken's private questions by REST: signed, one after the other, errors out of HTTP 200."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from botswarm.config import Secret
from botswarm.errors import Unreachable
from botswarm.exchanges.allowance import Allowance, Purpose
from botswarm.exchanges.kraken import limits
from botswarm.exchanges.kraken.errors import CALLS_EXCEEDED, INVALID_NONCE, meaning_of
from botswarm.exchanges.kraken.nonces import Nonces
from botswarm.exchanges.kraken.signing import signature
from botswarm.exchanges.meaning import Meaning, VenueSaidNo
from botswarm.exchanges.reading import shown
from botswarm.exchanges.transport import Transport

ATTEMPTS = 4
NONCE_JUMP_MS = 1000
WORDS_MAX = 200
FULL: Mapping[str, int] = {limit.name: int(limit.most) for limit in limits.LIMITS}
UNREADABLE = (LookupError, AttributeError, TypeError, ValueError, ArithmeticError, Unreachable)
"""What comes of reading an answer that has another shape than it should."""


@dataclass(frozen=True, slots=True)
class Told:
    """An answer that could be read: a result, or the errors in its place."""

    result: Any
    errors: tuple[str, ...] = ()


class PrivateRest:
    """Threads share it, and processes its nonces."""

    def __init__(
        self, *, url: str, key: Secret, secret: Secret, nonces: Nonces, allowance: Allowance
    ) -> None:
        self._key = key
        self._secret = secret
        self._nonces = nonces
        self._allowance = allowance
        self._transport = Transport(url, allowance)

    def close(self) -> None:
        self._transport.close()

    def warm(self) -> None:
        self._transport.warm()

    def ask(
        self,
        question: str,
        parameters: Mapping[str, str] | None = None,
        purpose: Purpose = Purpose.QUERY,
    ) -> Any:
        """Its result. Raises VenueSaidNo for an error, Unreachable where there is no answer."""
        self._allowance.spend(limits.asking(question), purpose)
        told = self.send(question, parameters or {})
        if told.errors:
            words = ", ".join(told.errors)
            raise VenueSaidNo(
                meaning_of(told.errors), told.errors[0], f"{question}: {shown(words, WORDS_MAX)}"
            )
        return told.result

    def send(self, question: str, parameters: Mapping[str, str]) -> Told:
        """Without asking the allowance. Raises NotSent, NoAnswer or, unreadable, VenueSaidNo.

        A refused nonce proves that nothing was done, so the same is asked with another.
        """
        path, jump = f"/0/private/{question}", 0
        for attempt in range(ATTEMPTS):
            with self._nonces.turn(jump) as nonce:
                told = self._posted(path, nonce, parameters)
            if INVALID_NONCE not in told.errors:
                break
            # Somebody else's clock goes ahead of ours, or ours was set back.
            jump = nonce + NONCE_JUMP_MS * 10**attempt
        if CALLS_EXCEEDED in told.errors:
            self._allowance.heard({limits.COUNTER: FULL[limits.COUNTER]})
        return told

    def _posted(self, path: str, nonce: int, parameters: Mapping[str, str]) -> Told:
        body = urlencode({"nonce": str(nonce), **parameters})
        headers = {
            "API-Key": self._key.reveal(),
            "API-Sign": signature(path, nonce, body, self._secret),
            "Content-Type": "application/x-www-form-urlencoded",
        }
        response = self._transport.request("POST", path, headers, body.encode("ascii"))
        try:
            said = json.loads(response.body, parse_float=Decimal)
            errors = tuple(str(each) for each in said.get("error") or ())
            if not errors:
                return Told(said["result"])
        except (*UNREADABLE, RecursionError):
            words = shown(response.body[:WORDS_MAX].decode(errors="replace"), WORDS_MAX)
            raise VenueSaidNo(
                Meaning.LATER if response.status in (403, 418, 429) else Meaning.UNKNOWN,
                None,
                f"{path}: HTTP {response.status}: {words}",
            ) from None
        return Told(None, errors)


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Within it, an answer of another shape than documented becomes Unreachable."""
    try:
        yield
    except UNREADABLE as error:
        raise Unreachable(
            f"the venue's {what} cannot be read ({type(error).__name__}: {shown(str(error))})",
            cure="see whether Kraken announced a change of its API",
        ) from error
