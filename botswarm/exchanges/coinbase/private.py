"""Coinbase Advanced Trade about one account: each request with a token of its own, sent once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlsplit

from botswarm.clock import Clock
from botswarm.config import Secret
from botswarm.errors import Unreachable
from botswarm.exchanges.allowance import Allowance, Purpose, Unlimited
from botswarm.exchanges.answers import said, unreadable
from botswarm.exchanges.coinbase import limits, order_errors
from botswarm.exchanges.coinbase.tokens import Signer
from botswarm.exchanges.meaning import VenueSaidNo
from botswarm.exchanges.offset import OffsetTracker
from botswarm.exchanges.rest import HEADERS
from botswarm.exchanges.transport import Response, Transport

ROOT = "/api/v3/brokerage"
TOKEN_S = 10
"""For how long a request is good: the venue refuses its token from then on."""
BUCKET_FILLS_S = 1.0
"""A 429 says that the bucket of the second is empty, and nothing else."""
PAGE = 250
PAGES_MAX = 400
WORDS_MAX = 200

UNREADABLE = (KeyError, AttributeError, TypeError, ValueError, ArithmeticError)
"""What comes of reading an answer that has another shape than it should."""
Query = Sequence[tuple[str, str]]


class Private:
    """Threads may share it; a forked child makes its own connections."""

    def __init__(
        self, *, url: str, key: Secret, secret: Secret, clock: Clock, allowance: Allowance | None
    ) -> None:
        self.allowance = Unlimited() if allowance is None else allowance
        self.offset = OffsetTracker(clock, self.server_time, self.allowance.note_offset)
        self._clock = clock
        self._signer = Signer(key, secret)
        self._transport = Transport(url, self.allowance, ban_default_s=BUCKET_FILLS_S)
        parts = urlsplit(url)
        self._host = parts.netloc + parts.path.rstrip("/")

    def warm(self) -> None:
        self._transport.warm()

    def close(self) -> None:
        self._transport.close()

    def server_time(self) -> datetime:
        told = self.ask_public("/time", Purpose.RESOLVE)
        with_what = "time"
        try:
            return _EPOCH + timedelta(milliseconds=int(told["epochMillis"]))
        except UNREADABLE as error:
            raise unreadable(with_what, error) from error

    # --- asking ---------------------------------------------------------------------------------

    def ask(self, path: str, query: Query = (), purpose: Purpose = Purpose.QUERY) -> Any:
        """Raises Unreachable, and VenueSaidNo for an error that the venue names."""
        self.allowance.spend(limits.ASKING, purpose)
        return self._read(path, self._request("GET", path, encoded(query), self.now_s()))

    def ask_public(self, path: str, purpose: Purpose) -> Any:
        self.allowance.spend({limits.PUBLIC: 1}, purpose)
        return self._read(path, self._transport.request("GET", ROOT + path, HEADERS))

    def pages(
        self, path: str, query: Query, rows: str, purpose: Purpose = Purpose.QUERY
    ) -> Iterator[Sequence[Any]]:
        """Page after page, as the venue orders them."""
        cursor = ""
        for _ in range(PAGES_MAX):
            asked = [*query, ("limit", str(PAGE))]
            told = self.ask(path, [*asked, ("cursor", cursor)] if cursor else asked, purpose)
            try:
                found, cursor_then = told[rows], str(told.get("cursor") or "")
                if not isinstance(found, list):
                    raise TypeError("not a list")
            except UNREADABLE as error:
                raise unreadable(path, error) from error
            yield found
            if not cursor_then or cursor_then == cursor or told.get("has_next") is False:
                return
            cursor = cursor_then
        raise Unreachable(
            f"{path} did not end after {PAGES_MAX} pages", cure="ask for a shorter time"
        )

    # --- placing and cancelling -----------------------------------------------------------------

    def now_s(self) -> int:
        """By the venue's clock."""
        return int(self.offset.to_venue(self._clock.now()).timestamp())

    def token(self, method: str, path: str, at_s: int) -> str:
        uri = f"{method} {self._host}{ROOT}{path}"
        return self._signer.token(at_s=at_s, lifetime_s=TOKEN_S, uri=uri)

    def post(self, path: str, token: str, body: bytes) -> Response:
        """What its allowance was has been asked. Raises NotSent or NoAnswer."""
        headers = {**self._headers(token), "Content-Type": "application/json"}
        return self._transport.request("POST", ROOT + path, headers, body)

    def _request(self, method: str, path: str, query: str, at_s: int) -> Response:
        target = f"{ROOT}{path}?{query}" if query else ROOT + path
        headers = self._headers(self.token(method, path, at_s))
        return self._transport.request(method, target, headers)

    def _headers(self, token: str) -> dict[str, str]:
        return {**HEADERS, "Authorization": f"Bearer {token}"}

    # --- answers --------------------------------------------------------------------------------

    def _read(self, path: str, response: Response) -> Any:
        if response.status == 200:
            try:
                return said(response)
            except ValueError as error:
                raise unreadable(path, error) from error
        word, details = error_of(response)
        self.note(response)
        meaning = order_errors.of_request(response.status, word, details)
        text = f"{path}: HTTP {response.status}, {word}: {details}"
        raise VenueSaidNo(meaning, word or str(response.status), text)

    def note(self, response: Response) -> None:
        """A token that was refused may have been stamped by a wrong clock."""
        if response.status == 401:
            self.offset.forget()


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def encoded(query: Query) -> str:
    return "&".join(f"{name}={quote(value, safe='')}" for name, value in query)


def error_of(response: Response) -> tuple[str, str]:
    """The venue's word for it, and its explanation; of some errors there is plain text only."""
    try:
        told: Mapping[str, Any] = said(response)
        details = told.get("error_details") or told.get("message") or ""
        return str(told.get("error") or ""), str(details)[:WORDS_MAX]
    except UNREADABLE:
        return "", response.body[:WORDS_MAX].decode(errors="replace").strip()
