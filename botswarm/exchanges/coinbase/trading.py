"""Orders at Coinbase Advanced Trade: an id that was ever taken is never taken again."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from botswarm.clock import Clock
from botswarm.config import Secret
from botswarm.domain.fill import Fill
from botswarm.domain.instrument import Instrument
from botswarm.domain.order import Order, OrderKind, OrderState, Side, TimeInForce
from botswarm.errors import Malformed, Refused, Unreachable
from botswarm.exchanges.allowance import Allowance, Purpose
from botswarm.exchanges.answers import said, unreadable
from botswarm.exchanges.base import (
    Accepted,
    Answer,
    Declined,
    Permissions,
    Report,
    SignedRequest,
    TradingRules,
    Unclear,
    without_dead_man,
)
from botswarm.exchanges.coinbase import limits, order_errors, orders, products
from botswarm.exchanges.coinbase.private import (
    TOKEN_S,
    UNREADABLE,
    Private,
    error_of,
)
from botswarm.exchanges.known_ids import KnownIds
from botswarm.exchanges.meaning import Meaning, VenueSaidNo
from botswarm.exchanges.numbering import moment_of, named_trades
from botswarm.exchanges.reading import moment_of_text, number
from botswarm.exchanges.transport import NoAnswer, NotSent, Response

logger = logging.getLogger(__name__)

ORDERS = "/orders"
CANCEL = "/orders/batch_cancel"
HISTORY = "/orders/historical"
# How late the venue may still honour a token is not documented; libraries that check such tokens
# are known to allow half a minute.
FENCE_AFTER_TOKEN = timedelta(seconds=30)
CANCELS_PER_REQUEST = 100
FILLS_PAGE = 1000
BEFORE_DECISION = timedelta(minutes=1)
"""The venue's clock may be behind ours: its orders are looked for from so much earlier on."""
OVERLAP_MS = 1000
FILL = "FILL"
TIME_MAX = 2**53

NOT_YET_OPEN = ("PENDING", "QUEUED", "CANCEL_QUEUED", "EDIT_QUEUED")
"""Not among the open ones, and not to be asked for together with them."""

RULES = TradingRules(
    # The venue has no stop orders at market.
    kinds=frozenset(OrderKind) - {OrderKind.STOP},
    times_in_force=frozenset(TimeInForce),
    is_resend_safe=True,
    taken_within_s=TOKEN_S + FENCE_AFTER_TOKEN.total_seconds(),
    guarantees="proof: the venue answers a client order id that it ever took with the order it "
    "made then, so that the same request again cannot make a second one",
)


class CoinbaseTrading:
    """One account, by its key. Threads may share it; a forked child makes its own connections."""

    rules = RULES

    def __init__(
        self,
        *,
        name: str,
        account: str,
        url: str,
        key: Secret,
        secret: Secret,
        clock: Clock,
        allowance: Allowance | None = None,
    ) -> None:
        self.name = name
        self.account = account
        self._rest = Private(url=url, key=key, secret=secret, clock=clock, allowance=allowance)
        self._ids = KnownIds()
        self._corrections: set[str] = set()

    def close(self) -> None:
        self._rest.close()

    # --- public questions -----------------------------------------------------------------------

    def instruments(self) -> Sequence[Instrument]:
        told = self._rest.ask_public("/market/products?product_type=SPOT", Purpose.QUERY)
        try:
            return [products.advanced_instrument(self.name, each) for each in told["products"]]
        except (*UNREADABLE, Malformed) as error:
            raise unreadable("products", error) from error

    def server_time(self) -> datetime:
        return self._rest.server_time()

    # --- placing --------------------------------------------------------------------------------

    def ready(self) -> None:
        self._rest.warm()
        self._rest.offset.check()

    def clock_offset_s(self) -> float | None:
        return self._rest.offset.known_s()

    def sign(self, order: Order, instrument: Instrument, now: datetime) -> SignedRequest:
        """Raises Unreachable or Refused when it should not even be tried: nothing is lost then."""
        wanted = orders.configuration(order)
        self.ready()
        self._rest.allowance.spend(limits.ASKING, Purpose.PLACE)
        signed_at = self._rest.offset.to_venue(now)
        at_s = int(signed_at.timestamp())
        wish = {
            "client_order_id": order.client_order_id,
            "product_id": instrument.symbol,
            "side": order.side.value.upper(),
            "order_configuration": wanted,
        }
        body = json.dumps(wish, separators=(",", ":"))
        token = self._rest.token("POST", ORDERS, at_s)
        ends_at = datetime.fromtimestamp(at_s + TOKEN_S, UTC)
        return SignedRequest(
            payload=f"{token}\n{body}".encode("ascii"),
            signed_at=signed_at,
            fence_at=ends_at + FENCE_AFTER_TOKEN,
        )

    def send(self, request: SignedRequest) -> Answer:
        token, _, body = request.payload.partition(b"\n")
        try:
            response = self._rest.post(ORDERS, token.decode("ascii"), body)
        except NotSent as error:
            return Declined("not sent", error.cause)
        except NoAnswer as error:
            return Unclear(error.cause)
        if response.status == 200:
            return self._placed(response, body)
        return self._refused(response)

    def _placed(self, response: Response, body: bytes) -> Answer:
        try:
            told = said(response)
            if told["success"] is not True:
                return orders.declined(told["error_response"])
            taken = told["success_response"]
            client_id, order_id = str(taken["client_order_id"]), str(taken["order_id"])
            is_ours = client_id == json.loads(body)["client_order_id"]
        except UNREADABLE as error:
            return Unclear(f"HTTP 200 that cannot be read ({type(error).__name__})")
        if not (is_ours and order_id):
            return Unclear("HTTP 200 about another order")
        self._ids.keep(client_id, order_id)
        # The answer does not tell what became of it since; its account's stream does.
        return Accepted(orders.report(client_id, order_id, OrderState.LIVE, Decimal(0)))

    def _refused(self, response: Response) -> Answer:
        word, details = error_of(response)
        self._rest.note(response)
        text = f"HTTP {response.status}, {word}: {details}"
        if order_errors.of_request(response.status, word, details).is_definite:
            return Declined(word or str(response.status), details or text)
        return Unclear(text)

    # --- ending ---------------------------------------------------------------------------------

    def cancel(self, order: Order) -> Answer:
        """By the venue's own id, and it only takes note: what came of it is asked at once."""
        try:
            order_id = order.venue_order_id or self._ids.of_venue(order.client_order_id)
            if order_id is None:
                found = self._named(order, Purpose.CANCEL)
                if found is None:
                    return Unclear("the venue does not know the order yet")
                order_id = found.venue_order_id
            reasons = self._cancel([order_id])
        except NotSent as error:
            return Declined("not sent", error.cause)
        except (Unreachable, Refused) as error:
            return Unclear(error.cause)
        if reasons:
            return Unclear("; ".join(reasons))
        try:
            report = self._numbered(order_id, Purpose.CANCEL)
        except (Unreachable, Refused) as error:
            return Unclear(f"it was asked to end; {error.cause}")
        return Unclear("it was asked to end") if report is None else Accepted(report)

    def cancel_all(self, symbol: str) -> None:
        ids = [report.venue_order_id for report in self._open(symbol, Purpose.CANCEL)]
        for start in range(0, len(ids), CANCELS_PER_REQUEST):
            self._cancel(ids[start : start + CANCELS_PER_REQUEST])

    def _cancel(self, ids: Sequence[str]) -> list[str]:
        """Why some were not taken note of. Raises Unreachable."""
        self._rest.allowance.spend(limits.ASKING, Purpose.CANCEL)
        body = json.dumps({"order_ids": list(ids)}).encode()
        token = self._rest.token("POST", CANCEL, self._rest.now_s())
        response = self._rest.post(CANCEL, token, body)
        if response.status != 200:
            word, details = error_of(response)
            self._rest.note(response)
            meaning = order_errors.of_request(response.status, word, details)
            raise VenueSaidNo(meaning, word, f"HTTP {response.status}, {word}: {details}")
        try:
            results = said(response)["results"]
            return [str(each["failure_reason"]) for each in results if each["success"] is not True]
        except UNREADABLE as error:
            raise unreadable("cancelling", error) from error

    def hold_dead_man(self, timeout_s: float) -> None:
        raise without_dead_man(self.name)

    # --- questions ------------------------------------------------------------------------------

    def permissions(self) -> Permissions:
        told = self._rest.ask("/key_permissions")
        try:
            # Whoever may transfer may withdraw.
            return Permissions(
                can_trade=told["can_trade"] is True, can_withdraw=told["can_transfer"] is not False
            )
        except UNREADABLE as error:
            raise unreadable("key_permissions", error) from error

    def query(self, order: Order) -> Report | None:
        is_in_doubt = order.state in (OrderState.SENDING, OrderState.UNKNOWN)
        purpose = Purpose.RESOLVE if is_in_doubt else Purpose.QUERY
        order_id = order.venue_order_id or self._ids.of_venue(order.client_order_id)
        if order_id:
            return self._numbered(order_id, purpose)
        return self._named(order, purpose)

    def _numbered(self, order_id: str, purpose: Purpose) -> Report | None:
        try:
            told = self._rest.ask(f"{HISTORY}/{order_id}", (), purpose)
        except VenueSaidNo as error:
            if error.meaning is Meaning.NOT_FOUND:
                return None
            raise
        try:
            return self._read_report(told["order"])
        except UNREADABLE as error:
            raise unreadable("an order", error) from error

    def _named(self, order: Order, purpose: Purpose) -> Report | None:
        """No question takes a client order id: every order since its decision is looked at."""
        since = _rfc3339(order.created_at - BEFORE_DECISION)
        query = [("product_ids", order.symbol), ("start_date", since)]
        for rows in self._rest.pages(f"{HISTORY}/batch", query, "orders", purpose):
            for row in rows:
                report = self._read_report(row)
                if report.client_order_id == order.client_order_id:
                    return report
        return None

    def open_orders(self, symbol: str | None = None) -> Sequence[Report]:
        return self._open(symbol, Purpose.QUERY)

    def _open(self, symbol: str | None, purpose: Purpose) -> list[Report]:
        scope = [("product_type", "SPOT")] if symbol is None else [("product_ids", symbol)]
        found: dict[str, Report] = {}
        for statuses in (NOT_YET_OPEN, ("OPEN",)):
            # In this order: what opens in between is seen the second time.
            query = [*scope, *(("order_status", each) for each in statuses)]
            for rows in self._rest.pages(f"{HISTORY}/batch", query, "orders", purpose):
                reports = [self._read_report(row) for row in rows]
                found |= {each.venue_order_id: each for each in reports}
        return list(found.values())

    def fills(
        self,
        symbol: str,
        *,
        after_trade_id: int | None = None,
        venue_order_id: str | None = None,
    ) -> Sequence[Fill]:
        """The venue begins with the newest, so that the oldest are had by asking for all."""
        query = [("product_ids", symbol)]
        if venue_order_id is not None:
            query.append(("order_ids", venue_order_id))
        if after_trade_id is not None:
            since = _EPOCH + timedelta(milliseconds=moment_of(after_trade_id) - OVERLAP_MS)
            query.append(("start_sequence_timestamp", _rfc3339(since)))
        pages = self._rest.pages(f"{HISTORY}/fills", query, "fills")
        rows = [row for page in pages for row in page]
        try:
            times = [(moment_of_text(row["trade_time"], TIME_MAX), row) for row in rows]
            numbers = named_trades((at_ms, str(row["trade_id"])) for at_ms, row in times)
            found = {
                numbers[row["trade_id"]]: (at_ms, row)
                for at_ms, row in times
                if row["trade_type"] == FILL and row["product_id"] == symbol
            }
            self._tell_of_corrections(rows)
            first = 0 if after_trade_id is None else after_trade_id + 1
            chosen = [each for each in sorted(found) if each >= first][:FILLS_PAGE]
            return [self._fill(each, symbol, *found[each]) for each in chosen]
        except (*UNREADABLE, Malformed) as error:
            raise unreadable("fills", error) from error

    def _tell_of_corrections(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """A reversal or a correction is no trade of ours; reconciliation sees what it did."""
        for row in rows:
            name = str(row["entry_id"])
            if row["trade_type"] != FILL and name not in self._corrections:
                self._corrections.add(name)
                words = (
                    f"{row['trade_type']} of the trade {row['trade_id']}, order {row['order_id']}"
                )
                logger.warning("%s tells a %s", self.name, words)

    def balances(self) -> dict[str, Decimal]:
        found: dict[str, Decimal] = {}
        for rows in self._rest.pages("/accounts", [], "accounts"):
            try:
                for row in rows:
                    amounts = (row["available_balance"]["value"], row["hold"]["value"])
                    total = sum((number(each) for each in amounts), Decimal(0))
                    found[row["currency"]] = found.get(row["currency"], Decimal(0)) + total
            except (*UNREADABLE, Malformed) as error:
                raise unreadable("accounts", error) from error
        return {asset: total for asset, total in found.items() if total}

    # --- answers --------------------------------------------------------------------------------

    def _read_report(self, row: Any) -> Report:
        found = orders.read(row)
        self._ids.keep(found.client_order_id, found.venue_order_id)
        return found

    def _fill(self, trade_id: int, symbol: str, at_ms: int, row: Mapping[str, Any]) -> Fill:
        price, size = number(row["price"]), number(row["size"])
        return Fill(
            venue=self.name,
            symbol=symbol,
            trade_id=trade_id,
            client_order_id=self._client_id(str(row["order_id"])),
            side=Side(row["side"].lower()),
            price=price,
            # Orders of ours never say what they are worth; those placed by hand may.
            quantity=size / price if row.get("size_in_quote") is True else size,
            commission=number(row["commission"]),
            commission_asset=symbol.rpartition("-")[2],
            at=_EPOCH + timedelta(milliseconds=at_ms),
        )

    def _client_id(self, order_id: str) -> str:
        """Trades name the venue's order only: what is not known from before is asked for."""
        known = self._ids.of_client(order_id)
        if known is not None:
            return known
        report = self._numbered(order_id, Purpose.QUERY)
        if report is None:
            raise Unreachable(
                f"the venue tells fills of the order {order_id} and not the order itself",
                cure="it is asked again by itself",
            )
        return report.client_order_id


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _rfc3339(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
