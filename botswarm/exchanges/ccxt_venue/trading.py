"""Orders at a venue that only ccxt knows: each sent once, and never again whatever came of it."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

from botswarm.clock import Clock
from botswarm.config import Secret, SecretMask
from botswarm.domain.fill import Fill
from botswarm.domain.instrument import Instrument
from botswarm.domain.order import Order, OrderState, Side
from botswarm.errors import Refused, Unreachable
from botswarm.exchanges.allowance import Allowance, Purpose, Unlimited
from botswarm.exchanges.base import (
    Accepted,
    Answer,
    Declined,
    Permissions,
    Report,
    SignedRequest,
    Unclear,
)
from botswarm.exchanges.ccxt_venue import words
from botswarm.exchanges.ccxt_venue.asking import calling, camel, cancelling, class_of, rounded
from botswarm.exchanges.ccxt_venue.errors import meaning_of, was_never_sent
from botswarm.exchanges.ccxt_venue.words import UNREADABLE, theirs, unreadable
from botswarm.exchanges.known_ids import KnownIds
from botswarm.exchanges.meaning import Meaning, VenueSaidNo
from botswarm.exchanges.numbering import moment_of, named_trades
from botswarm.exchanges.offset import OffsetTracker
from botswarm.exchanges.transport import ANSWER_TIMEOUT_S

SEND_WITHIN = timedelta(seconds=5)
"""A process that slept for longer between committing and sending does not send any more. It narrows
what a venue without an expiry leaves open; it cannot close it."""
NEVER = timedelta(days=36_500)
"""The fence of a venue that never refuses a request for being old."""
BEFORE_DECISION = timedelta(minutes=1)
COST: Mapping[str, int] = {}
"""ccxt keeps to the venue's pace by itself, process by process; asked is whether there is a ban."""
BAN_S = 10.0

TIMELESS = True
"""Of a question that is not signed, and is how the clocks are compared."""

T = TypeVar("T")


class CcxtTrading:
    """One account. Threads take turns; a forked child makes a client of its own."""

    def __init__(
        self,
        *,
        name: str,
        account: str,
        key: Secret,
        secret: Secret,
        clock: Clock,
        passphrase: Secret | None = None,
        allowance: Allowance | None = None,
        urls: Mapping[str, str] | None = None,
        options: Mapping[str, Any] | None = None,
        keeps_pace: bool = True,
    ) -> None:
        """``name`` is ``ccxt-`` and ccxt's own name of the venue: ``ccxt-okx``.

        ``urls``, ``options`` and asking as fast as one likes are for servers of one's own; without
        ``urls`` the venue's play money is traded.
        Raises Refused where it has none, NotFound where ccxt or the venue is not there.
        """
        self.name = name
        self.account = account
        self._key, self._secret, self._passphrase = key, secret, passphrase
        # ccxt says which address it asked, and some venues want the key in that.
        self._mask = SecretMask(each for each in (key, secret, passphrase) if each is not None)
        self._clock = clock
        self._allowance = Unlimited() if allowance is None else allowance
        self._urls, self._options, self._keeps_pace = urls, dict(options or {}), keeps_pace
        self._lock = threading.RLock()
        self._ids = KnownIds()
        self._offset = OffsetTracker(clock, self.server_time, self._allowance.note_offset)
        self._client, self._pid = self._made(), os.getpid()
        self.rules = words.rules(getattr(self._client, "features", None) or {})

    def close(self) -> None:
        with self._lock:
            self._client.session.close()
            self._client = self._made()

    # --- placing --------------------------------------------------------------------------------

    def instruments(self) -> Sequence[Instrument]:
        load = calling("load_markets")
        markets = self._ask("markets", load, Purpose.QUERY, TIMELESS)
        try:
            mode = int(self._client.precisionMode)
            return words.instruments(self.name, markets.values(), mode)
        except UNREADABLE as error:
            raise unreadable("markets", error) from error

    def server_time(self) -> datetime:
        """Ours, where the venue does not tell its own."""
        if not self._has_time:
            return self._clock.now()
        told = self._ask("time", lambda client: client.fetch_time(), Purpose.RESOLVE, TIMELESS)
        try:
            return words.moment(int(told))
        except UNREADABLE as error:
            raise unreadable("time", error) from error

    def ready(self) -> None:
        if not self._client.markets:
            self.instruments()
        if self._has_time:
            self._offset.check()
            self._follow_clock()

    def clock_offset_s(self) -> float | None:
        return self._offset.known_s()

    def sign(self, order: Order, instrument: Instrument, now: datetime) -> SignedRequest:
        """Frozen is what is asked for: ccxt signs as it sends, and by its own clock."""
        payload = json.dumps(words.wish(order)).encode("ascii")
        self.ready()
        self._allowance.spend(COST, Purpose.PLACE)
        return SignedRequest(payload=payload, signed_at=now, fence_at=now + NEVER)

    def send(self, request: SignedRequest) -> Answer:
        wish = json.loads(request.payload)
        client_id = wish["params"]["clientOrderId"]
        try:
            with self._lock:
                if objection := self._objection(wish, request.signed_at):
                    return Declined("not sent", objection)
                row = self._once(lambda client: client.create_order(**wish))
            report = words.report(row, client_id)
        except UNREADABLE as error:
            return Unclear(f"an answer that cannot be read ({type(error).__name__}: {error})")
        except Exception as error:
            # Another's code: whatever it raises, the order may have been sent.
            return self._said_no(error)
        if report.client_order_id != client_id or not report.venue_order_id:
            return Unclear("an answer about another order")
        self._ids.keep(client_id, report.venue_order_id)
        return Accepted(report)

    def _objection(self, wish: Mapping[str, Any], signed_at: datetime) -> str:
        """Asked when it is this order's turn: others may have taken long."""
        try:
            changed = self._once(lambda client: rounded(client, wish))
        except Exception as error:
            # Another's code, and it has sent nothing yet.
            return f"ccxt cannot write it: {type(error).__name__}: {self._text_of(error)}"
        if self._clock.now() > signed_at + SEND_WITHIN:
            return "too much time has passed since it was to be sent"
        return changed

    def _said_no(self, error: Exception) -> Answer:
        name, text = type(error).__name__, self._text_of(error)
        if was_never_sent(error):
            return Declined("not sent", text)
        if meaning_of(error).is_definite:
            return Declined(name, text)
        return Unclear(f"{name}: {text}")

    # --- ending ---------------------------------------------------------------------------------

    def cancel(self, order: Order) -> Answer:
        try:
            found = self._found(order, Purpose.CANCEL)
            if found is None:
                return Unclear("the venue does not name the order")
            order_id, symbol = found.venue_order_id, theirs(order.symbol)
            self._ask("cancelling", lambda c: c.cancel_order(order_id, symbol), Purpose.CANCEL)
        except (Unreachable, Refused) as error:
            return Unclear(error.cause)
        try:
            report = self._numbered(order_id, order, Purpose.CANCEL)
        except Unreachable as error:
            return Unclear(f"it was asked to end; {error.cause}")
        return Unclear("it was asked to end") if report is None else Accepted(report)

    def cancel_all(self, symbol: str) -> None:
        for report in self.open_orders(symbol):
            order_id, market = report.venue_order_id, theirs(symbol)
            try:
                self._ask("cancelling", cancelling(order_id, market), Purpose.CANCEL)
            except VenueSaidNo as error:
                if error.meaning is not Meaning.NOT_FOUND:
                    raise

    def hold_dead_man(self, timeout_s: float) -> None:
        raise Refused(
            f"nobody knows of a switch at {self.name} that cancels orders by itself",
            cure="use the watchdog of the order worker",
        )

    def permissions(self) -> Permissions:
        raise Refused(
            f"{self.name} cannot be asked through ccxt what a key may do",
            cure="make sure at the venue that it may not withdraw, then add it with --no-test",
        )

    # --- questions ------------------------------------------------------------------------------

    def query(self, order: Order) -> Report | None:
        is_in_doubt = order.state in (OrderState.SENDING, OrderState.UNKNOWN)
        return self._found(order, Purpose.RESOLVE if is_in_doubt else Purpose.QUERY)

    def _found(self, order: Order, purpose: Purpose) -> Report | None:
        order_id = order.venue_order_id or self._ids.of_venue(order.client_order_id)
        if order_id:
            return self._numbered(order_id, order, purpose)
        symbol = theirs(order.symbol)
        since = int((order.created_at - BEFORE_DECISION).timestamp() * 1000)
        for question in ("fetch_open_orders", "fetch_orders", "fetch_closed_orders"):
            if not self._client.has.get(camel(question)):
                continue
            asked = (symbol,) if question == "fetch_open_orders" else (symbol, since)
            rows = self._ask("orders", calling(question, *asked), purpose)
            for report in self._reports(rows):
                if report.client_order_id == order.client_order_id:
                    return report
        return None

    def _numbered(self, order_id: str, order: Order, purpose: Purpose) -> Report | None:
        try:
            asked = calling("fetch_order", order_id, theirs(order.symbol))
            row = self._ask("an order", asked, purpose)
        except VenueSaidNo as error:
            if error.meaning is Meaning.NOT_FOUND:
                return None
            raise
        try:
            return words.report(row, order.client_order_id)
        except UNREADABLE as error:
            raise unreadable("an order", error) from error

    def open_orders(self, symbol: str | None = None) -> Sequence[Report]:
        asked = () if symbol is None else (theirs(symbol),)
        return self._reports(
            self._ask("open orders", calling("fetch_open_orders", *asked), Purpose.QUERY)
        )

    def _reports(self, rows: Any) -> list[Report]:
        try:
            found = [words.report(row) for row in rows]
        except UNREADABLE as error:
            raise unreadable("orders", error) from error
        for report in found:
            if report.client_order_id:
                self._ids.keep(report.client_order_id, report.venue_order_id)
        return found

    def fills(
        self,
        symbol: str,
        *,
        after_trade_id: int | None = None,
        venue_order_id: str | None = None,
    ) -> Sequence[Fill]:
        """As many as the venue tells at once; of the past it may tell the newest only."""
        market = theirs(symbol)
        since = None if after_trade_id is None else moment_of(after_trade_id)
        rows = self._ask("trades", calling("fetch_my_trades", market, since), Purpose.QUERY)
        try:
            wanted = [
                row for row in rows if venue_order_id is None or row["order"] == venue_order_id
            ]
            numbers = named_trades((int(row["timestamp"]), str(row["id"])) for row in rows)
            by_number = {numbers[str(row["id"])]: row for row in wanted}
            first = 0 if after_trade_id is None else after_trade_id + 1
            chosen = [each for each in sorted(by_number) if each >= first]
            return [self._fill(each, symbol, by_number[each]) for each in chosen]
        except UNREADABLE as error:
            raise unreadable("trades", error) from error

    def _fill(self, trade_id: int, symbol: str, row: Mapping[str, Any]) -> Fill:
        cost, asset = words.commission(row, symbol.rpartition("-")[2])
        return Fill(
            venue=self.name,
            symbol=symbol,
            trade_id=trade_id,
            client_order_id=self._client_id(str(row["order"]), symbol),
            side=Side(row["side"]),
            price=words.amount(row["price"]),
            quantity=words.amount(row["amount"]),
            commission=cost,
            commission_asset=asset,
            at=words.moment(int(row["timestamp"])),
        )

    def _client_id(self, order_id: str, symbol: str) -> str:
        known = self._ids.of_client(order_id)
        if known is not None:
            return known
        asked = calling("fetch_order", order_id, theirs(symbol))
        client_id = str(self._ask("an order", asked, Purpose.QUERY).get("clientOrderId") or "")
        self._ids.keep(client_id, order_id)
        return client_id

    def balances(self) -> dict[str, Decimal]:
        told = self._ask("balances", lambda client: client.fetch_balance(), Purpose.QUERY)
        try:
            found = {asset: words.amount(total) for asset, total in told["total"].items() if total}
        except UNREADABLE as error:
            raise unreadable("balances", error) from error
        return {asset: total for asset, total in found.items() if total}

    # --- ccxt -----------------------------------------------------------------------------------

    def _ask(
        self,
        what: str,
        question: Callable[[Any], T],
        purpose: Purpose,
        is_timeless: bool = False,
    ) -> T:
        self._allowance.spend(COST, purpose)
        if not is_timeless and self._has_time:
            self._follow_clock()
        try:
            return self._once(question)
        except Exception as error:
            # ccxt lets out what its parsers trip over, too.
            meaning, name = meaning_of(error), type(error).__name__
            text = f"{what}: {name}: {self._text_of(error)}"
            raise VenueSaidNo(meaning, name, text) from error

    def _text_of(self, error: Exception) -> str:
        return self._mask(str(error))[:500]

    @property
    def _has_time(self) -> bool:
        return bool(self._client.has.get("fetchTime"))

    def _follow_clock(self) -> None:
        """ccxt stamps what it signs with this machine's clock, less this."""
        now = self._clock.now()
        ahead = self._offset.to_venue(now) - now
        self._client.options["timeDifference"] = -(ahead // timedelta(milliseconds=1))

    def _once(self, question: Callable[[Any], T]) -> T:
        with self._lock:
            if self._pid != os.getpid():
                # The parent's connections: two processes would mix their requests in one.
                self._client, self._pid = self._made(), os.getpid()
            try:
                return question(self._client)
            except Exception as error:
                if type(error).__name__ == "RateLimitExceeded":
                    self._allowance.banned(BAN_S, f"{self.name} says that it was asked too much")
                raise

    def _made(self) -> Any:
        kind = class_of(self.name)
        given = {
            "apiKey": self._key.reveal(),
            "secret": self._secret.reveal(),
            "timeout": int(ANSWER_TIMEOUT_S * 1000),
            "enableRateLimit": self._keeps_pace,
            "options": {
                "defaultType": "spot",
                "warnOnFetchOpenOrdersWithoutSymbol": False,
                "maxRetriesOnFailure": 0,
                **self._options,
            },
        }
        if self._passphrase is not None:
            given["password"] = self._passphrase.reveal()
        client = kind(given)
        # Numbers as they are written, where ccxt would make them binary.
        client.number = str
        if self._urls is not None:
            client.urls["api"] = {**client.urls["api"], **self._urls}
            client.has["fetchCurrencies"] = False
        elif client.has.get("sandbox"):
            client.set_sandbox_mode(True)
        else:
            raise Refused(
                f"ccxt knows of no play money at {self.name}, and real money is not traded by it",
                cure="choose a venue with a sandbox",
            )
        return client
