"""What Kraken's private side can be asked, whichever way: place, cancel, query, switch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from botswarm.domain.order import Side
from botswarm.exchanges.simulated.exchange import OwnTrade
from botswarm.exchanges.simulated.feeds import Wrong, moment
from botswarm.exchanges.simulated.kraken_guard import Guard, cost_of_cancelling
from botswarm.exchanges.simulated.kraken_rest import LEGACY
from botswarm.exchanges.simulated.kraken_words import Words, name, number_of
from botswarm.exchanges.simulated.orders import Force, NewOrder, OrderType, SelfTrade, VenueOrder
from botswarm.exchanges.simulated.parameters import generated_id
from botswarm.exchanges.simulated.refusal import Refusal
from botswarm.exchanges.simulated.service import Service

ACCOUNT: Final = "kraken"
PAGE: Final = 50
ORDERS_ASKED_MAX: Final = 50
TRADES_ASKED_MAX: Final = 20
DEADLINE_USUAL_MS: Final = 5_000
DEADLINE_MAX_MS: Final = 60_000
DEAD_MAN_MAX_S: Final = 86_400
TYPES: Final[Mapping[str, OrderType]] = {
    "limit": OrderType.LIMIT,
    "market": OrderType.MARKET,
    "stop-loss": OrderType.STOP_LOSS,
    "stop-loss-limit": OrderType.STOP_LOSS_LIMIT,
}
SELF_TRADES: Final[Mapping[str, SelfTrade]] = {
    "cancel_newest": SelfTrade.EXPIRE_TAKER,
    "cancel_oldest": SelfTrade.EXPIRE_MAKER,
    "cancel_both": SelfTrade.EXPIRE_BOTH,
}
REFUSALS: Final[Mapping[str, str]] = {
    "Filter failure: PRICE_FILTER": "EOrder:Tick size check failed",
    "Filter failure: LOT_SIZE": "EOrder:Order minimum not met",
    "Filter failure: MARKET_LOT_SIZE": "EGeneral:Invalid arguments:volume",
    "Filter failure: NOTIONAL": "EOrder:Cost minimum not met",
    "Filter failure: MAX_NUM_ORDERS": "EOrder:Orders limit exceeded",
    "Account has insufficient balance for requested action.": "EOrder:Insufficient funds",
    "Duplicate order sent.": "EGeneral:Invalid arguments:cl_ord_id",
    "Order would immediately match and take.": "EOrder:Post only order",
    "Stop price would trigger immediately.": "EOrder:Invalid price",
    "Unknown order sent.": "EOrder:Unknown order",
    "Invalid symbol.": "EQuery:Unknown asset pair",
}
_NUMBER: Final = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?")
_CLIENT_ID: Final = re.compile(
    r"[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[ -~]{1,18}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    order: NewOrder
    deadline_ms: int
    is_for_trial: bool

    def check(self, now_ms: int) -> None:
        """On arrival, and once more before the engine: what waited on the way may be too late."""
        if now_ms > self.deadline_ms:
            raise Wrong("EService:Deadline elapsed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """An order as REST and WebSocket both say it, in the WebSocket's names."""

    symbol: str
    side: object
    order_type: object
    quantity: object
    limit_price: object = None
    trigger_price: object = None
    time_in_force: object = None
    self_trade: object = None
    client_id: object = None
    deadline: object = None
    is_post_only: bool = False
    is_for_trial: bool = False

    def wish(self, now_ms: int) -> Wish:
        return Wish(
            order=self._order(),
            deadline_ms=_deadline(self.deadline, now_ms),
            is_for_trial=self.is_for_trial,
        )

    def _order(self) -> NewOrder:
        kind = TYPES.get(str(self.order_type))
        if kind is None:
            raise Wrong("EGeneral:Invalid arguments:ordertype")
        if self.is_post_only:
            if kind is not OrderType.LIMIT:
                raise Wrong("EGeneral:Invalid arguments:post only")
            kind = OrderType.LIMIT_MAKER
        if self.side not in ("buy", "sell"):
            raise Wrong("EGeneral:Invalid arguments:type")
        force = str(self.time_in_force or "gtc").upper()
        if force not in Force.__members__:
            raise Wrong("EGeneral:Invalid arguments:timeinforce")
        self_trade = str(self.self_trade or "cancel_newest").replace("-", "_")
        if self_trade not in SELF_TRADES:
            raise Wrong("EGeneral:Invalid arguments:stptype")
        return NewOrder(
            account=ACCOUNT,
            symbol=self.symbol,
            side=Side(str(self.side)),
            type=kind,
            client_order_id=_client_id(self.client_id),
            quantity=_number(self.quantity, "volume"),
            price=_number(self.limit_price, "price") if kind.is_priced else None,
            stop_price=_number(self.trigger_price, "price") if kind.waits_for_a_price else None,
            force=Force(force) if kind is not OrderType.MARKET else Force.GTC,
            self_trade=SELF_TRADES[self_trade],
            fee_in_quote=True,
        )


class Desk:
    def __init__(self, service: Service, guard: Guard, words: Words) -> None:
        self.service = service
        self.exchange = service.exchange
        self.guard = guard
        self.words = words
        self.dead_man_ms = 0
        """When everything is cancelled; 0 is never."""

    # --- orders ---------------------------------------------------------------------------

    def place(self, wish: Wish) -> VenueOrder | None:
        """None is one that was only tried."""
        now_ms = self.service.now_ms()
        wish.check(now_ms)
        self.guard.count_order(wish.order.symbol, 1, now_ms)
        try:
            if wish.is_for_trial:
                self.exchange.check(wish.order)
                return None
            return self.service.place(wish.order, ACCOUNT)
        except Refusal as why:
            raise Wrong(REFUSALS.get(why.text, "EGeneral:Invalid arguments:volume")) from why

    def named(self, *, txid: str | None = None, client_id: str | None = None) -> VenueOrder:
        """An open one; raises Wrong."""
        for order in self.open_orders():
            if txid == name("O", order.id) or client_id == order.client_order_id:
                return order
        raise Wrong("EOrder:Unknown order")

    def cancel(self, order: VenueOrder) -> None:
        now_ms = self.service.now_ms()
        self.guard.count_order(order.symbol, cost_of_cancelling(now_ms - order.placed_ms), now_ms)
        self.service.cancel(order)

    def cancel_all(self) -> int:
        orders = self.open_orders()
        for order in orders:
            self.service.cancel(order)
        return len(orders)

    def hold_dead_man(self, timeout: object) -> dict[str, object]:
        text = str(timeout)
        if not (text.isascii() and text.isdecimal()) or int(text) >= DEAD_MAN_MAX_S:
            raise Wrong("EGeneral:Invalid arguments:timeout")
        now_ms = self.service.now_ms()
        self.dead_man_ms = now_ms + int(text) * 1000 if int(text) else 0
        until = moment(self.dead_man_ms)[:19] + "Z" if self.dead_man_ms else "0"
        return {"currentTime": moment(now_ms)[:19] + "Z", "triggerTime": until}

    def on_second(self, now_ms: int) -> None:
        if self.dead_man_ms and now_ms >= self.dead_man_ms:
            self.dead_man_ms = 0
            self.cancel_all()

    # --- questions ------------------------------------------------------------------------

    def open_orders(self) -> list[VenueOrder]:
        return self.exchange.open_orders(ACCOUNT)

    def told_open(self, client_id: str | None) -> dict[str, object]:
        return {
            name("O", order.id): self.words.order(order)
            for order in self.open_orders()
            if self.service.is_visible(order) and client_id in (None, order.client_order_id)
        }

    def told_closed(self, client_id: str | None, offset: int) -> dict[str, object]:
        """The newest first, fifty of them."""
        found = [
            order
            for market in self.exchange.markets.values()
            for order in market.orders.values()
            if order.account == ACCOUNT and not order.status.is_open
            if self.service.is_visible(order) and client_id in (None, order.client_order_id)
        ]
        found.sort(key=lambda order: (order.updated_ms, order.id), reverse=True)
        page = found[offset : offset + PAGE]
        closed = {name("O", order.id): self.words.order(order) for order in page}
        return {"closed": closed, "count": len(found)}

    def told_orders(self, names: Sequence[str], *, with_trades: bool) -> dict[str, object]:
        if len(names) > ORDERS_ASKED_MAX:
            raise Wrong("EGeneral:Invalid arguments:txid")
        found: dict[str, object] = {}
        for each in names:
            number = number_of("O", each)
            for market in self.exchange.markets.values():
                order = market.orders.get(number or 0)
                if order is None or order.account != ACCOUNT:
                    continue
                if self.service.is_visible(order):
                    found[each] = self.words.order(order, with_trades=with_trades)
        if not found:
            raise Wrong("EOrder:Invalid order")
        return found

    def told_history(self, *, offset: int, start_s: Decimal, is_consolidated: bool) -> object:
        trades = [
            trade
            for market in self.exchange.markets.values()
            for trade in market.trades.get(ACCOUNT, [])
            if self.service.is_visible(market.orders.get(trade.order_id))
            if trade.at_ms > start_s * 1000
        ]
        trades.sort(key=lambda trade: (trade.at_ms, trade.symbol, trade.trade_id), reverse=True)
        rows = self._rows(trades)
        if is_consolidated:
            rows = _consolidated(rows)
        page = dict(list(rows.items())[offset : offset + PAGE])
        return {"trades": page, "count": len(rows)}

    def told_trades(self, names: Sequence[str]) -> dict[str, object]:
        if len(names) > TRADES_ASKED_MAX:
            raise Wrong("EGeneral:Invalid arguments:txid")
        found = [self.words.trade_named(each, ACCOUNT) for each in names]
        if None in found:
            raise Wrong("EQuery:Unknown trade")
        return dict(self._rows(trade for trade in found if trade is not None))

    def _rows(self, trades: Iterable[OwnTrade]) -> dict[str, dict[str, Any]]:
        return {self.words.trade_name(trade): self.words.trade(trade) for trade in trades}

    def balances(self) -> dict[str, dict[str, str]]:
        account = self.exchange.accounts[ACCOUNT]
        return {
            LEGACY.get(asset, asset): {
                "balance": f"{account.total(asset):.10f}",
                "hold_trade": f"{account.locked[asset]:.10f}",
            }
            for asset in account.assets
        }


def _consolidated(rows: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """A taker's trades of one order as one, which is what the venue does unless told not to."""
    made: dict[str, dict[str, Any]] = {}
    names: dict[tuple[str, bytes], str] = {}
    for each, row in rows.items():
        key = row["ordertxid"], bytes(row["time"])
        if row["maker"] or key not in names:
            made[each] = dict(row)
            if not row["maker"]:
                names[key] = each
            continue
        whole = made[names[key]]
        for field in ("cost", "fee", "vol"):
            whole[field] = f"{Decimal(whole[field]) + Decimal(row[field]):.8f}"
        whole["price"] = f"{Decimal(whole['cost']) / Decimal(whole['vol']):.5f}"
    return made


def _client_id(said: object) -> str:
    if said is None:
        return generated_id()[:18]
    if not isinstance(said, str) or not _CLIENT_ID.fullmatch(said):
        raise Wrong("EGeneral:Invalid arguments:cl_ord_id")
    return said


def _number(said: object, field: str) -> Decimal:
    text = f"{said:f}" if isinstance(said, Decimal) else str(said)
    if isinstance(said, bool) or not _NUMBER.fullmatch(text):
        raise Wrong(f"EGeneral:Invalid arguments:{field}")
    return Decimal(text)


def _deadline(said: object, now_ms: int) -> int:
    if said is None:
        return now_ms + DEADLINE_USUAL_MS
    try:
        at = datetime.fromisoformat(str(said))
    except ValueError:
        raise Wrong("EGeneral:Invalid arguments:deadline") from None
    if at.tzinfo is None:
        raise Wrong("EGeneral:Invalid arguments:deadline")
    deadline_ms = int(at.astimezone(UTC).timestamp() * 1000)
    if deadline_ms > now_ms + DEADLINE_MAX_MS:
        raise Wrong("EGeneral:Invalid arguments:deadline")
    return deadline_ms
