"""Orders at Binance, by REST or its WebSocket API: sent once, every answer one of three kinds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from botswarm.clock import Clock
from botswarm.config import Secret
from botswarm.domain.fill import Fill
from botswarm.domain.instrument import Instrument
from botswarm.domain.order import Order, OrderState, Side, TimeInForce
from botswarm.errors import Refused, Unreachable
from botswarm.exchanges.allowance import Allowance, Purpose, Unlimited
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
from botswarm.exchanges.binance import limits, symbols
from botswarm.exchanges.binance.answers import (
    STATES,
    UNREADABLE,
    a_list,
    error_of,
    moment,
    ms_of,
    number,
    read_permissions,
    to_ms,
)
from botswarm.exchanges.binance.errors import meaning_of
from botswarm.exchanges.binance.order_socket import OrderSocket
from botswarm.exchanges.binance.orders import TYPES, wish
from botswarm.exchanges.binance.signing import encoded, signature, signed
from botswarm.exchanges.known_ids import KnownIds
from botswarm.exchanges.meaning import Meaning, VenueSaidNo
from botswarm.exchanges.offset import OffsetTracker
from botswarm.exchanges.transport import NoAnswer, NotSent, Response, Transport

RECEIVE_WINDOW = timedelta(milliseconds=2000)
# Binance checks the window again just before its engine, which gives up after ten seconds; two
# more for what it takes an accepted order to show up in an answer.
FENCE_AFTER_WINDOW = timedelta(seconds=12)
FILLS_PAGE = 500
NOTHING_TO_CANCEL = -2011
OVER_SOCKET = "order.place"
WHOLE_NUMBERS = ("recvWindow", "timestamp")  # in JSON; amounts and prices are text there too

RULES = TradingRules(
    kinds=frozenset(TYPES),
    times_in_force=frozenset(TimeInForce),
    taken_within_s=RECEIVE_WINDOW.total_seconds(),
    guarantees="proof: the venue refuses a request whose window has passed, so what it does not "
    "know by then was never placed",
)


class BinanceTrading:
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
        order_url: str = "",
    ) -> None:
        """``order_url`` is the WebSocket API's, where orders shall be placed over that."""
        self.name = name
        self.account = account
        self._key = key
        self._secret = secret
        self._clock = clock
        self._allowance = Unlimited() if allowance is None else allowance
        self._transport = Transport(url, self._allowance)
        self._order_socket = OrderSocket(order_url, key, self._allowance) if order_url else None
        self._offset = OffsetTracker(clock, self.server_time, self._allowance.note_offset)
        self._symbols: dict[str, str] = {}
        self._ids = KnownIds()

    def close(self) -> None:
        self._transport.close()
        if self._order_socket is not None:
            self._order_socket.close()

    # --- public questions -----------------------------------------------------------------------

    def instruments(self) -> Sequence[Instrument]:
        answer = self._ask("GET", "/api/v3/exchangeInfo", {}, is_signed=False)
        try:
            self._allowance.learn(limits.told(answer))
            return symbols.instruments(self.name, answer)
        except UNREADABLE as error:
            raise unreadable("exchangeInfo", error) from error

    def server_time(self) -> datetime:
        path, purpose = "/api/v3/time", Purpose.RESOLVE
        answer = self._ask("GET", path, {}, is_signed=False, purpose=purpose)
        try:
            return moment(answer["serverTime"])
        except UNREADABLE as error:
            raise unreadable("time", error) from error

    # --- placing and cancelling -----------------------------------------------------------------

    def ready(self) -> None:
        road = self._transport if self._order_socket is None else self._order_socket
        road.warm()
        self._offset.check()

    def clock_offset_s(self) -> float | None:
        return self._offset.known_s()

    def sign(self, order: Order, instrument: Instrument, now: datetime) -> SignedRequest:
        """Raises Unreachable or Refused when it should not even be tried: nothing is lost then."""
        self.ready()
        # The last that may say no: what is committed after this is sent without asking.
        self._allowance.spend(limits.PLACING, Purpose.PLACE)
        signed_at = to_ms(self._offset.to_venue(now))
        parameters = wish(order, self._market(instrument.symbol))
        return SignedRequest(
            payload=self._frozen(parameters | self._window(signed_at)).encode("ascii"),
            signed_at=signed_at,
            fence_at=signed_at + RECEIVE_WINDOW + FENCE_AFTER_WINDOW,
        )

    def _frozen(self, parameters: Mapping[str, str]) -> str:
        if self._order_socket is None:
            return f"POST /api/v3/order?{signed(parameters, self._secret)}"
        # There the parameters are signed by rising name, the key's public half among them.
        keyed = {**parameters, "apiKey": self._key.reveal()}
        payload = encoded(dict(sorted(keyed.items())))
        wanted: dict[str, object] = {**parameters, "signature": signature(payload, self._secret)}
        wanted |= {name: int(parameters[name]) for name in WHOLE_NUMBERS}
        return f"{OVER_SOCKET} {json.dumps(wanted)}"

    def send(self, request: SignedRequest) -> Answer:
        method, _, asked = request.payload.decode("ascii").partition(" ")
        if method != OVER_SOCKET:
            return self._order_answer(asked, lambda: self._request(method, asked))
        road = self._order_socket
        if road is None:
            return Declined("not sent", "it was signed for the WebSocket API, which is not used")
        return self._order_answer(asked, lambda: road.request(method, json.loads(asked)))

    def cancel(self, order: Order) -> Answer:
        parameters = {
            "symbol": self._market(order.symbol),
            "origClientOrderId": order.client_order_id,
        }
        try:
            target = self._signed_target("/api/v3/order", parameters)
            self._spend("DELETE", "/api/v3/order", parameters, Purpose.CANCEL)
        except (Unreachable, Refused) as error:
            return Declined("not sent", error.cause)
        return self._order_answer(target, lambda: self._request("DELETE", target))

    def cancel_all(self, symbol: str) -> None:
        parameters = {"symbol": self._market(symbol)}
        try:
            self._ask("DELETE", "/api/v3/openOrders", parameters, purpose=Purpose.CANCEL)
        except VenueSaidNo as error:
            if error.code != NOTHING_TO_CANCEL:
                raise

    def hold_dead_man(self, timeout_s: float) -> None:
        raise without_dead_man(self.name)

    def permissions(self) -> Permissions:
        answer = self._ask("GET", "/sapi/v1/account/apiRestrictions", {})
        try:
            return read_permissions(answer)
        except UNREADABLE as error:
            raise unreadable("apiRestrictions", error) from error

    def _order_answer(self, request: str, ask: Callable[[], Response]) -> Answer:
        """What became of a request that changes something; whatever is in doubt is Unclear."""
        try:
            response = ask()
        except NotSent as error:
            return Declined("not sent", error.cause)
        except NoAnswer as error:
            return Unclear(error.cause)
        if response.status == 200:
            return self._accepted(response, request)
        code, message = error_of(response)
        meaning = meaning_of(response.status, code, message)
        text = f"HTTP {response.status}, {code}: {message}"
        if code == -1021:
            self._offset.forget()
        if meaning in (Meaning.NOT_PLACED, Meaning.LATER):
            return Declined(str(code if code is not None else response.status), message or text)
        return Unclear(text)

    def _accepted(self, response: Response, request: str) -> Answer:
        try:
            report = self._report(said(response))
            is_ours = report.client_order_id in request
        except UNREADABLE as error:
            return Unclear(f"HTTP 200 that cannot be read ({type(error).__name__})")
        if not is_ours:
            return Unclear("HTTP 200 about another order")
        return Accepted(report)

    # --- questions about orders -----------------------------------------------------------------

    def query(self, order: Order) -> Report | None:
        parameters = {
            "symbol": self._market(order.symbol),
            "origClientOrderId": order.client_order_id,
        }
        is_in_doubt = order.state in (OrderState.SENDING, OrderState.UNKNOWN)
        purpose = Purpose.RESOLVE if is_in_doubt else Purpose.QUERY
        try:
            answer = self._ask("GET", "/api/v3/order", parameters, purpose=purpose)
            return self._read_report(answer)
        except VenueSaidNo as error:
            if error.meaning is Meaning.NOT_FOUND:
                return None
            if error.meaning is Meaning.ENDED:
                return Report(
                    client_order_id=order.client_order_id,
                    venue_order_id=order.venue_order_id or "",
                    state=OrderState.EXPIRED,
                    filled_quantity=Decimal(0),
                )
            raise

    def open_orders(self, symbol: str | None = None) -> Sequence[Report]:
        parameters = {} if symbol is None else {"symbol": self._market(symbol)}
        rows = a_list(self._ask("GET", "/api/v3/openOrders", parameters), "openOrders")
        return [self._read_report(row) for row in rows]

    def fills(
        self,
        symbol: str,
        *,
        after_trade_id: int | None = None,
        venue_order_id: str | None = None,
    ) -> Sequence[Fill]:
        first = 0 if after_trade_id is None else after_trade_id + 1
        parameters = {
            "symbol": self._market(symbol),
            "fromId": str(first),
            "limit": str(FILLS_PAGE),
        }
        if venue_order_id is not None:
            parameters["orderId"] = venue_order_id
        rows = a_list(self._ask("GET", "/api/v3/myTrades", parameters), "myTrades")
        try:
            found = [self._fill(symbol, row) for row in rows]
        except UNREADABLE as error:
            raise unreadable("myTrades", error) from error
        return sorted(
            (fill for fill in found if fill.trade_id >= first), key=lambda fill: fill.trade_id
        )

    def balances(self) -> dict[str, Decimal]:
        answer = self._ask("GET", "/api/v3/account", {"omitZeroBalances": "true"})
        try:
            return {
                row["asset"]: number(row["free"]) + number(row["locked"])
                for row in answer["balances"]
            }
        except UNREADABLE as error:
            raise unreadable("account", error) from error

    # --- requests -------------------------------------------------------------------------------

    def _ask(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str],
        *,
        is_signed: bool = True,
        purpose: Purpose = Purpose.QUERY,
    ) -> Any:
        if is_signed:
            target = self._signed_target(path, parameters)
        else:
            target = f"{path}?{encoded(parameters)}" if parameters else path
        self._spend(method, path, parameters, purpose)
        response = self._request(method, target)
        if response.status == 200:
            try:
                return said(response)
            except ValueError as error:
                raise unreadable(path, error) from error
        code, message = error_of(response)
        if code == -1021:
            self._offset.forget()
        meaning = meaning_of(response.status, code, message)
        raise VenueSaidNo(meaning, code, f"{path}: HTTP {response.status}, {code}: {message}")

    def _spend(
        self, method: str, path: str, parameters: Mapping[str, str], purpose: Purpose
    ) -> None:
        self._allowance.spend(limits.cost(method, path, parameters), purpose)

    def _request(self, method: str, target: str) -> Response:
        response = self._transport.request(method, target, self._headers())
        self._allowance.heard(limits.used(response.headers))
        return response

    def _signed_target(self, path: str, parameters: Mapping[str, str]) -> str:
        now = to_ms(self._offset.to_venue(self._clock.now()))
        return f"{path}?{signed({**parameters, **self._window(now)}, self._secret)}"

    def _window(self, signed_at: datetime) -> dict[str, str]:
        return {
            "recvWindow": str(RECEIVE_WINDOW // timedelta(milliseconds=1)),
            "timestamp": str(ms_of(signed_at)),
        }

    def _headers(self) -> dict[str, str]:
        return {"X-MBX-APIKEY": self._key.reveal()}

    # --- answers --------------------------------------------------------------------------------

    def _read_report(self, row: Any) -> Report:
        try:
            return self._report(row)
        except UNREADABLE as error:
            raise unreadable("an order", error) from error

    def _report(self, row: Mapping[str, Any]) -> Report:
        # The answer to a cancellation has an id of its own; the order's is the original one.
        client_order_id = str(row.get("origClientOrderId") or row["clientOrderId"])
        venue_order_id = str(row["orderId"])
        market = row["symbol"]
        self._ids.keep(client_order_id, venue_order_id, market)
        return Report(
            client_order_id=client_order_id,
            venue_order_id=venue_order_id,
            state=STATES[row["status"]],
            filled_quantity=number(row["executedQty"]),
            fills=tuple(self._carried_fills(row, client_order_id)),
        )

    def _carried_fills(self, row: Mapping[str, Any], client_order_id: str) -> Iterator[Fill]:
        """Those that the answer to a placement brings along, which is all it had by then."""
        symbol = self._symbols.get(row["symbol"])
        for fill in row.get("fills", ()) if symbol is not None else ():
            assert symbol is not None
            yield Fill(
                venue=self.name,
                symbol=symbol,
                trade_id=int(fill["tradeId"]),
                client_order_id=client_order_id,
                side=Side(row["side"].lower()),
                price=number(fill["price"]),
                quantity=number(fill["qty"]),
                commission=number(fill["commission"]),
                commission_asset=fill["commissionAsset"],
                at=moment(row["transactTime"]),
            )

    def _market(self, symbol: str) -> str:
        market = symbols.to_venue(symbol)
        self._symbols[market] = symbol
        return market

    def _fill(self, symbol: str, row: Mapping[str, Any]) -> Fill:
        return Fill(
            venue=self.name,
            symbol=symbol,
            trade_id=int(row["id"]),
            client_order_id=self._client_id(symbol, str(row["orderId"])),
            side=Side.BUY if row["isBuyer"] else Side.SELL,
            price=number(row["price"]),
            quantity=number(row["qty"]),
            commission=number(row["commission"]),
            commission_asset=row["commissionAsset"],
            at=moment(row["time"]),
        )

    def _client_id(self, symbol: str, venue_order_id: str) -> str:
        """Trades name the venue's order only: what is not known from before is asked for."""
        market = symbols.to_venue(symbol)
        known = self._ids.of_client(venue_order_id, market)
        if known is not None:
            return known
        parameters = {"symbol": market, "orderId": venue_order_id}
        answer = self._ask("GET", "/api/v3/order", parameters)
        return self._read_report(answer).client_order_id
