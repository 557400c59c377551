"""Orders at Kraken: placed over WebSocket v2, asked about by REST, fenced by their deadline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from botswarm.clock import Clock
from botswarm.config import Secret
from botswarm.domain.fill import Fill
from botswarm.domain.instrument import Instrument
from botswarm.domain.order import Order, OrderState, TimeInForce
from botswarm.errors import Refused, Unreachable
from botswarm.exchanges.allowance import Allowance, Purpose, Unlimited
from botswarm.exchanges.base import (
    Accepted,
    Answer,
    Declined,
    Permissions,
    Report,
    SignedRequest,
    TradingRules,
    Unclear,
)
from botswarm.exchanges.kraken import answers, limits, placing, symbols
from botswarm.exchanges.kraken.errors import (
    INVALID_SESSION,
    NO_SUCH_ORDER,
    ORDERS_EXCEEDED,
    UNKNOWN_ORDER,
    meaning_of,
)
from botswarm.exchanges.kraken.history import History
from botswarm.exchanges.kraken.nonces import Nonces
from botswarm.exchanges.kraken.private import FULL, PrivateRest, reading
from botswarm.exchanges.kraken.trading_socket import TradingSocket
from botswarm.exchanges.meaning import Meaning, VenueSaidNo
from botswarm.exchanges.offset import OffsetTracker
from botswarm.exchanges.rest import PublicRest
from botswarm.exchanges.socket_pool import Told
from botswarm.exchanges.transport import NotSent

FENCE_AFTER_DEADLINE = timedelta(seconds=2)
DEAD_MAN_MAX_S = 86_399.0
ORDERS_AT_ONCE = 50

TO_WITHDRAW = frozenset({"withdraw-funds", "add-withdraw-address", "update-withdraw-address"})
TO_TRADE = frozenset({"modify-trades", "create-ws-token", "query-open-trades"})
RULES = TradingRules(
    kinds=frozenset(placing.TYPES),
    times_in_force=frozenset(TimeInForce),
    dead_man_max_s=DEAD_MAN_MAX_S,
    taken_within_s=placing.DEADLINE.total_seconds(),
    guarantees="proof: the venue's engine refuses an order whose deadline has passed, so what the "
    "venue does not know by then was never placed",
)


class KrakenTrading:
    """One account, by its key. Threads may share it; a forked child makes its own connections.

    ``url`` is that of REST, ``stream_url`` of the authenticated WebSocket, and ``state_dir`` where
    all processes of this machine keep the key's nonces.
    """

    rules = RULES

    def __init__(
        self,
        *,
        name: str,
        account: str,
        url: str,
        stream_url: str,
        key: Secret,
        secret: Secret,
        clock: Clock,
        state_dir: Path,
        allowance: Allowance | None = None,
    ) -> None:
        self.name = name
        self.account = account
        self._clock = clock
        self._allowance = Unlimited() if allowance is None else allowance
        self._public = PublicRest(
            name,
            url,
            per_s=1.0,
            burst=5,
            allowance=self._allowance,
            cost=lambda weight: {limits.PUBLIC: weight},
        )
        self._rest = PrivateRest(
            url=url,
            key=key,
            secret=secret,
            nonces=Nonces(state_dir, key, clock),
            allowance=self._allowance,
        )
        self._socket = TradingSocket(stream_url, self.session_token)
        self._offset = OffsetTracker(clock, self.server_time, self._allowance.note_offset)
        self._names: answers.Names | None = None
        self._history = History(name, self._rest)

    def close(self) -> None:
        """End the connections that rest; the next request makes new ones."""
        self._socket.close()
        self._rest.close()
        self._public.close()

    # --- public questions -----------------------------------------------------------------------

    def instruments(self) -> Sequence[Instrument]:
        told = self._pairs()
        with reading("pairs"):
            found = ((symbols.of_rest(described), described) for described in told.values())
            return [
                symbols.instrument(self.name, symbol, described)
                for symbol, described in found
                if symbol is not None
            ]

    def _pairs(self) -> Mapping[str, Mapping[str, Any]]:
        told = self._public.ask("/0/public/AssetPairs")
        with reading("pairs"):
            if told.get("error"):
                raise Unreachable(f"Kraken answered AssetPairs with {told['error']}")
            pairs: Mapping[str, Mapping[str, Any]] = told["result"]
            self._names = answers.Names(pairs)
            return pairs

    def names(self) -> answers.Names:
        if self._names is None:
            self._pairs()
        assert self._names is not None
        return self._names

    def server_time(self) -> datetime:
        return self._socket.server_time()

    def session_token(self) -> str:
        """For connections of this account: what it says of orders is told to who has one."""
        told = self._rest.ask("GetWebSocketsToken", purpose=Purpose.RESOLVE)
        with reading("token"):
            return str(told["token"])

    # --- placing --------------------------------------------------------------------------------

    def ready(self) -> None:
        # Asked once; orders by REST are said in other names of markets.
        self.names()
        self._socket.warm()
        self._offset.check()

    def clock_offset_s(self) -> float | None:
        return self._offset.known_s()

    def sign(self, order: Order, instrument: Instrument, now: datetime) -> SignedRequest:
        """Raises Unreachable or Refused when it should not even be tried: nothing is lost then."""
        pair = ""
        if placing.is_by_rest(order):
            pair = self.names().theirs(instrument.symbol)
            self._rest.warm()
        else:
            self._socket.warm()
        self._offset.check()
        # The last that may say no: what is committed after this is sent without asking.
        self._allowance.spend(limits.placing(order.symbol), Purpose.PLACE)
        signed_at = placing.cut(self._offset.to_venue(now))
        deadline = signed_at + placing.DEADLINE
        return SignedRequest(
            payload=placing.for_rest(order, pair, deadline)
            if pair
            else placing.for_socket(order, deadline),
            signed_at=signed_at,
            fence_at=deadline + FENCE_AFTER_DEADLINE,
        )

    def send(self, request: SignedRequest) -> Answer:
        try:
            if request.payload.startswith(placing.REST_ROAD):
                return self._sent_by_rest(request.payload)
            told = self._socket.send(request.payload)[0]
        except NotSent as error:
            return Declined("not sent", error.cause)
        except VenueSaidNo as error:
            return _refused(error)
        except (Unreachable, Refused) as error:
            return Unclear(error.cause)
        if told.get("success") is not True:
            return self._said_no(told)
        return self._placed(told.get("result"), request.payload)

    def _sent_by_rest(self, payload: bytes) -> Answer:
        told = self._rest.send(
            "AddOrder", dict(parse_qsl(payload.removeprefix(placing.REST_ROAD).decode("ascii")))
        )
        if told.errors:
            return _refused(_no("AddOrder", told.errors))
        result = told.result
        is_whole = isinstance(result, dict) and isinstance(result.get("txid"), list)
        if not is_whole or len(result["txid"]) != 1:
            return Unclear("an answer to AddOrder that names no order")
        said = {"order_id": result["txid"][0], "cl_ord_id": result.get("cl_ord_id")}
        return self._placed(said, payload)

    def _placed(self, result: Any, payload: bytes) -> Answer:
        """The answer tells that it was taken and no more; what came of it tells the stream."""
        venue_order_id = result.get("order_id") if isinstance(result, dict) else None
        if not isinstance(venue_order_id, str) or not venue_order_id:
            return Unclear("an answer that names no order")
        client_order_id = result.get("cl_ord_id") or placing.client_id_in(payload)
        if str(client_order_id).encode() not in payload:
            return Unclear("an answer about another order")
        self._history.remember(venue_order_id, str(client_order_id))
        return Accepted(
            Report(
                client_order_id=str(client_order_id),
                venue_order_id=venue_order_id,
                state=OrderState.LIVE,
                filled_quantity=Decimal(0),
            )
        )

    def _said_no(self, told: Told) -> Answer:
        words = str(told.get("error"))
        if words == INVALID_SESSION:
            self._socket.forget_token()
        return _refused(_no(str(told.get("method")), (words,)))

    # --- ending ---------------------------------------------------------------------------------

    def cancel(self, order: Order) -> Answer:
        try:
            self._cancel({"cl_ord_id": [order.client_order_id]}, [order.symbol])
        except NotSent as error:
            return Declined("not sent", error.cause)
        except VenueSaidNo as error:
            return _refused(error)
        except (Unreachable, Refused) as error:
            return Unclear(error.cause)
        # The cancellation's own answer does not say how much was traded until then.
        try:
            found = self.query(order)
        except (Unreachable, Refused) as error:
            return Unclear(f"cancelled, and then: {error.cause}")
        return Unclear("cancelled, and not found yet") if found is None else Accepted(found)

    def cancel_all(self, symbol: str) -> None:
        wanted = [found.venue_order_id for found in self.open_orders(symbol)]
        for start in range(0, len(wanted), ORDERS_AT_ONCE):
            chosen = wanted[start : start + ORDERS_AT_ONCE]
            try:
                self._cancel({"order_id": chosen}, [symbol] * len(chosen))
            except VenueSaidNo as error:
                if error.code != UNKNOWN_ORDER:
                    raise

    def _cancel(self, named: Mapping[str, Sequence[str]], markets: Sequence[str]) -> None:
        """Raises VenueSaidNo with the first error of any, when all have been answered."""
        for symbol in markets:
            self._allowance.spend(limits.cancelling(symbol), Purpose.CANCEL)
        message = msgspec.json.encode({"method": "cancel_order", "params": named})
        told = self._socket.send(message, answers=len(markets))
        refused = [each for each in told if each.get("success") is not True]
        for each in refused:
            words = str(each.get("error"))
            if words == INVALID_SESSION:
                self._socket.forget_token()
            if words == ORDERS_EXCEEDED:
                full = FULL[limits.TRADING]
                self._allowance.heard({f"{limits.TRADING}:{symbol}": full for symbol in markets})
        worst = [each for each in refused if each.get("error") != UNKNOWN_ORDER] or refused
        if worst:
            raise _no("cancel_order", (str(worst[0].get("error")),))

    def hold_dead_man(self, timeout_s: float) -> None:
        self._allowance.spend({}, Purpose.CANCEL)
        parameters = {"timeout": min(int(timeout_s), int(DEAD_MAN_MAX_S))}
        message = {"method": "cancel_all_orders_after", "params": parameters}
        told = self._socket.send(msgspec.json.encode(message))[0]
        if told.get("success") is not True:
            raise _no("cancel_all_orders_after", (str(told.get("error")),))

    # --- questions ------------------------------------------------------------------------------

    def permissions(self) -> Permissions:
        told = self._rest.ask("GetApiKeyInfo")
        with reading("key info"):
            rights = {str(each) for each in told["permissions"]}
            return Permissions(
                can_trade=rights >= TO_TRADE,
                can_withdraw=bool(rights & TO_WITHDRAW),
                is_address_bound=bool(told.get("ipAllowlist")),
            )

    def query(self, order: Order) -> Report | None:
        is_in_doubt = order.state in (OrderState.SENDING, OrderState.UNKNOWN)
        purpose = Purpose.RESOLVE if is_in_doubt else Purpose.QUERY
        if order.venue_order_id is not None:
            try:
                found = self._history.order(order.venue_order_id, purpose)
            except VenueSaidNo as error:
                if error.code not in NO_SUCH_ORDER:
                    raise
            else:
                if found.client_order_id == order.client_order_id:
                    return found
        return self._named(order, purpose)

    def _named(self, order: Order, purpose: Purpose) -> Report | None:
        """Among the open ones first: what ends meanwhile is among the closed ones after."""
        named = {"cl_ord_id": order.client_order_id}
        for question, part in (("OpenOrders", "open"), ("ClosedOrders", "closed")):
            parameters = named if part == "open" else {**named, "consolidate_taker": "false"}
            told = self._rest.ask(question, parameters, purpose)
            with reading(question):
                newest = answers.newest(
                    {
                        name: row
                        for name, row in told[part].items()
                        if row.get("cl_ord_id") == order.client_order_id
                    }
                )
                if newest is not None:
                    return self._history.report(*newest)
        return None

    def open_orders(self, symbol: str | None = None) -> Sequence[Report]:
        names = self.names()
        told = self._rest.ask("OpenOrders")
        with reading("OpenOrders"):
            return [
                self._history.report(name, row)
                for name, row in told["open"].items()
                if symbol is None or names.ours(row["descr"]["pair"]) == symbol
            ]

    def balances(self) -> dict[str, Decimal]:
        told = self._rest.ask("BalanceEx")
        with reading("balances"):
            return answers.balances(told)

    def fills(
        self,
        symbol: str,
        *,
        after_trade_id: int | None = None,
        venue_order_id: str | None = None,
    ) -> Sequence[Fill]:
        return self._history.fills(symbol, self.names(), after_trade_id, venue_order_id)


# --- refusals -----------------------------------------------------------------------------------


def _no(what: str, errors: Sequence[str]) -> VenueSaidNo:
    return VenueSaidNo(meaning_of(errors), errors[0], f"{what}: {', '.join(errors)}")


def _refused(error: VenueSaidNo) -> Answer:
    if error.meaning in (Meaning.NOT_PLACED, Meaning.LATER):
        return Declined(str(error.code), error.cause)
    return Unclear(error.cause)
