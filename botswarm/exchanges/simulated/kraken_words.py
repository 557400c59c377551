"""How Kraken speaks of orders and trades: rows of REST, and frames of the channel executions."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

import msgspec

from botswarm.exchanges.simulated.exchange import Ended, Exchange, OwnTrade, Share, Traded
from botswarm.exchanges.simulated.feeds import moment, places
from botswarm.exchanges.simulated.kraken_book import QUANTITY_DIGITS, number
from botswarm.exchanges.simulated.kraken_rest import OWN_NAMES
from botswarm.exchanges.simulated.orders import Force, OrderType, Status, VenueOrder

Row = dict[str, Any]
ORDER_TYPES: Final[Mapping[OrderType, str]] = {
    OrderType.LIMIT: "limit",
    OrderType.LIMIT_MAKER: "limit",
    OrderType.MARKET: "market",
    OrderType.STOP_LOSS: "stop-loss",
    OrderType.STOP_LOSS_LIMIT: "stop-loss-limit",
}
STATES: Final[Mapping[Status, str]] = {
    Status.NEW: "open",
    Status.PARTIALLY_FILLED: "open",
    Status.FILLED: "closed",
    # What ends by itself, for lack of a counterpart or by self trade prevention, is canceled too;
    # expired are only those with a date.
    Status.CANCELED: "canceled",
    Status.EXPIRED: "canceled",
    Status.EXPIRED_IN_MATCH: "canceled",
}
STREAM_STATES: Final[Mapping[Status, str]] = {
    Status.NEW: "new",
    Status.PARTIALLY_FILLED: "partially_filled",
    Status.FILLED: "filled",
    Status.CANCELED: "canceled",
    Status.EXPIRED: "canceled",
    Status.EXPIRED_IN_MATCH: "canceled",
}
TRADES_OF_A_MARKET: Final = 10**11
"""Trades are numbered for each market; their names are of all markets."""


def name(letter: str, number_: int) -> str:
    """OQCLML-BW3P3-BUCMWZ, as it were: a number in base 36."""
    text = ""
    for _ in range(16):
        number_, digit = divmod(number_, 36)
        text = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"[digit] + text
    return f"{letter}{text[:5]}-{text[5:10]}-{text[10:]}"


def number_of(letter: str, text: str) -> int | None:
    bare = text.removeprefix(letter).replace("-", "")
    if len(bare) != 16 or not bare.isascii() or not bare.isalnum():
        return None
    return int(bare, 36)


def seconds(ms: int) -> msgspec.Raw:
    return msgspec.Raw(f"{ms // 1000}.{ms % 1000:03d}".encode())


class Words:
    def __init__(self, exchange: Exchange, pairs: Mapping[str, str]) -> None:
        """``pairs`` are the WebSocket's names by symbol."""
        self.exchange = exchange
        self.pairs = pairs
        self._markets = sorted(exchange.markets)

    def altname(self, symbol: str) -> str:
        return "".join(OWN_NAMES.get(asset, asset) for asset in self.pairs[symbol].split("/"))

    def _digits(self, symbol: str) -> int:
        return places(self.exchange.markets[symbol].rules.tick_size)

    def trades_of(self, order: VenueOrder) -> Sequence[OwnTrade]:
        trades = self.exchange.markets[order.symbol].trades.get(order.account, [])
        ids = order.trade_ids
        if not ids:
            return []
        first = bisect_left(trades, ids[0], key=lambda trade: trade.trade_id)
        return [trade for trade in trades[first:] if trade.order_id == order.id]

    # --- REST -----------------------------------------------------------------------------

    def order(self, order: VenueOrder, *, with_trades: bool = False) -> Row:
        digits, fees = self._digits(order.symbol), self._fees(order)
        state = STATES[order.status]
        first, second = order.price, Decimal(0)
        if order.type.waits_for_a_price:
            first, second = order.stop_price, order.price
        row: Row = {
            "refid": None,
            "userref": None,
            "cl_ord_id": order.client_order_id,
            "status": state,
            "opentm": seconds(order.placed_ms),
            "starttm": 0,
            "expiretm": 0,
            "descr": {
                "pair": self.altname(order.symbol),
                "type": order.side.value,
                "ordertype": ORDER_TYPES[order.type],
                "price": f"{first:.{digits}f}" if first else "0",
                "price2": f"{second:.{digits}f}" if second else "0",
                "leverage": "none",
                "order": self.described(order),
                "close": "",
            },
            "vol": f"{order.quantity:.{QUANTITY_DIGITS}f}",
            "vol_exec": f"{order.filled:.{QUANTITY_DIGITS}f}",
            "cost": f"{order.filled_quote:.{QUANTITY_DIGITS}f}",
            "fee": f"{fees:.{QUANTITY_DIGITS}f}",
            "price": f"{order.filled_quote / order.filled if order.filled else 0:.{digits}f}",
            "stopprice": f"{order.stop_price:.{digits}f}",
            "limitprice": f"{Decimal(0):.{digits}f}",
            "misc": "",
            "oflags": "fciq,post" if order.type is OrderType.LIMIT_MAKER else "fciq",
        }
        if with_trades:
            row["trades"] = [self.trade_name(each) for each in self.trades_of(order)]
        if not order.status.is_open:
            row["closetm"] = seconds(order.updated_ms)
            row["reason"] = "User requested" if order.status is Status.CANCELED else None
        return row

    def described(self, order: VenueOrder) -> str:
        digits = self._digits(order.symbol)
        at = f"@ {ORDER_TYPES[order.type].replace('-', ' ')}"
        if order.stop_price:
            at += f" {order.stop_price:.{digits}f}"
        if order.price:
            at += f"{' -> limit' if order.stop_price else ''} {order.price:.{digits}f}"
        volume = f"{order.quantity:.{QUANTITY_DIGITS}f}"
        return f"{order.side.value} {volume} {self.altname(order.symbol)} {at}"

    def trade(self, trade: OwnTrade) -> Row:
        digits = self._digits(trade.symbol)
        order = self.exchange.markets[trade.symbol].orders.get(trade.order_id)
        return {
            "ordertxid": name("O", trade.order_id),
            "postxid": "TKH2SE-M7IF5-CFI7LT",
            "pair": self.altname(trade.symbol),
            "time": seconds(trade.at_ms),
            "type": trade.side.value,
            "ordertype": ORDER_TYPES[order.type] if order is not None else "limit",
            "price": f"{trade.price:.{digits}f}",
            "cost": f"{trade.price * trade.quantity:.{QUANTITY_DIGITS}f}",
            "fee": f"{trade.commission:.{QUANTITY_DIGITS}f}",
            "vol": f"{trade.quantity:.{QUANTITY_DIGITS}f}",
            "margin": "0.00000",
            "leverage": "0",
            "misc": "",
            "trade_id": trade.trade_id,
            "maker": trade.is_maker,
        }

    def trade_name(self, trade: OwnTrade) -> str:
        market = self._markets.index(trade.symbol)
        return name("T", market * TRADES_OF_A_MARKET + trade.trade_id)

    def trade_named(self, text: str, account: str) -> OwnTrade | None:
        number_ = number_of("T", text)
        if number_ is None:
            return None
        market, trade_id = divmod(number_, TRADES_OF_A_MARKET)
        if market >= len(self._markets):
            return None
        trades = self.exchange.markets[self._markets[market]].trades.get(account, [])
        at = bisect_left(trades, trade_id, key=lambda trade: trade.trade_id)
        return trades[at] if at < len(trades) and trades[at].trade_id == trade_id else None

    def _fees(self, order: VenueOrder) -> Decimal:
        return sum((trade.commission for trade in self.trades_of(order)), Decimal(0))

    # --- the stream -----------------------------------------------------------------------

    def placed(self, order: VenueOrder, kind: str, at_ms: int) -> Row:
        """``pending_new`` and what a snapshot tells of one that is open: everything."""
        digits = self._digits(order.symbol)
        row = {
            **self._of(order, kind, at_ms),
            "symbol": self.pairs[order.symbol],
            "side": order.side.value,
            "order_type": ORDER_TYPES[order.type],
            "order_qty": number(order.quantity, QUANTITY_DIGITS),
            "time_in_force": "IOC" if order.force is Force.IOC else "GTC",
            "cum_qty": number(order.filled, QUANTITY_DIGITS),
            "cum_cost": number(order.filled_quote, QUANTITY_DIGITS),
            "fee_ccy_pref": "fciq",
            "post_only": order.type is OrderType.LIMIT_MAKER,
        }
        if order.price:
            row["limit_price"] = number(order.price, digits)
        if order.stop_price:
            row["triggers"] = {
                "price": number(order.stop_price, digits),
                "reference": "last",
                "status": "triggered" if order.is_working else "untriggered",
            }
        if kind == "pending_new":
            # As it was then: what has come of it since is told by what follows.
            nothing = number(Decimal(0), QUANTITY_DIGITS)
            row |= {"order_status": "pending_new", "cum_qty": nothing, "cum_cost": nothing}
        return row

    def changed(self, order: VenueOrder, kind: str, at_ms: int) -> Row:
        """Little more than what changed, as the venue does it: no market, no client's name."""
        row = self._of(order, kind, at_ms)
        del row["cl_ord_id"]
        return row

    def traded(self, trade: Traded, share: Share) -> Row:
        digits, order = self._digits(trade.symbol), share.order
        own = OwnTrade(
            symbol=trade.symbol,
            trade_id=trade.trade_id,
            order_id=order.id,
            side=order.side,
            price=trade.price,
            quantity=trade.quantity,
            commission=share.commission,
            commission_asset=share.commission_asset,
            is_maker=share.is_maker,
            at_ms=trade.at_ms,
        )
        return {
            **self._of(order, "trade", trade.at_ms),
            # A trade that fills the whole order is told as partial; that it is full is told next.
            "order_status": "partially_filled",
            "symbol": self.pairs[trade.symbol],
            "side": order.side.value,
            "order_type": ORDER_TYPES[order.type],
            "order_qty": number(order.quantity, QUANTITY_DIGITS),
            "exec_id": self.trade_name(own),
            "trade_id": trade.trade_id,
            "last_qty": number(trade.quantity, QUANTITY_DIGITS),
            "last_price": number(trade.price, digits),
            "liquidity_ind": "m" if share.is_maker else "t",
            "cost": number(trade.price * trade.quantity, QUANTITY_DIGITS),
            "cum_qty": number(share.filled, QUANTITY_DIGITS),
            "cum_cost": number(share.filled_quote, QUANTITY_DIGITS),
            "fees": [
                {"asset": share.commission_asset, "qty": number(share.commission, QUANTITY_DIGITS)}
            ],
        }

    def ended(self, fact: Ended) -> Row:
        row = self.changed(fact.order, "canceled", fact.at_ms)
        row["order_status"] = STREAM_STATES[fact.status]
        row["cum_qty"] = number(fact.order.filled, QUANTITY_DIGITS)
        row["reason"] = fact.reason or "User requested"
        return row

    def _of(self, order: VenueOrder, kind: str, at_ms: int) -> Row:
        return {
            "order_id": name("O", order.id),
            "cl_ord_id": order.client_order_id,
            "exec_type": kind,
            "order_status": STREAM_STATES[order.status],
            "timestamp": moment(at_ms),
        }
