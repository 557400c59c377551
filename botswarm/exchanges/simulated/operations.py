"""What can be asked of the exchange, whichever way it is asked: REST or WebSocket API."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal

from botswarm.exchanges.simulated import refusal, wire
from botswarm.exchanges.simulated.accounts import Account
from botswarm.exchanges.simulated.candles import INTERVALS_MS
from botswarm.exchanges.simulated.options import ACCOUNT
from botswarm.exchanges.simulated.orders import OrderType, VenueOrder
from botswarm.exchanges.simulated.parameters import Parameters, generated_id, read_new_order
from botswarm.exchanges.simulated.publisher import Board, day, quote, snapshot
from botswarm.exchanges.simulated.refusal import Refusal
from botswarm.exchanges.simulated.service import Service
from botswarm.exchanges.simulated.streams import VENUE

Action = Literal["place", "cancel", "query", "market"]
Run = Callable[["Operations", Parameters], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    run: Run
    weight: Callable[[Mapping[str, str]], int]
    action: Action = "market"
    is_signed: bool = False
    is_free_when_done: bool = False
    """Its weight is given back on success."""


class Operations:
    def __init__(self, service: Service) -> None:
        self.service = service
        self.exchange = service.exchange

    # --- market ---------------------------------------------------------------------------

    def ping(self, parameters: Parameters) -> object:
        return {}

    def time(self, parameters: Parameters) -> object:
        return {"serverTime": self.service.now_ms()}

    def exchange_info(self, parameters: Parameters) -> object:
        one, several = parameters.text("symbol"), parameters.text("symbols")
        if one is not None and several is not None:
            raise Refusal(-1128, "Combination of optional parameters invalid.")
        markets = self.exchange.markets
        names = markets if one is several is None else _wanted(one, several)
        return {
            "timezone": "UTC",
            "serverTime": self.service.now_ms(),
            "rateLimits": self.service.options.limits.described(),
            "exchangeFilters": [],
            "symbols": [wire.symbol_info(self.exchange.market(name).rules) for name in names],
        }

    def depth(self, parameters: Parameters) -> object:
        board = self._board(parameters)
        limit = parameters.limit(100, 5000)
        return snapshot(board, limit, is_stale=self.service.publisher.is_to_be_stale(board))

    def trades(self, parameters: Parameters) -> object:
        board, limit = self._board(parameters), parameters.limit(500, 1000)
        return [wire.public_trade(trade) for trade in list(board.tape.trades)[-limit:]]

    def old_trades(self, parameters: Parameters) -> object:
        """From an id on; without one the latest."""
        board, limit = self._board(parameters), parameters.limit(500, 1000)
        first = parameters.integer("fromId")
        if first is None:
            found = list(board.tape.trades)[-limit:]
        else:
            found = [trade for trade in board.tape.trades if trade.id >= first][:limit]
        return [wire.public_trade(trade) for trade in found]

    def aggregates(self, parameters: Parameters) -> object:
        board, limit = self._board(parameters), parameters.limit(500, 1000)
        first = parameters.integer("fromId")
        start, end = parameters.integer("startTime"), parameters.integer("endTime")
        if first is not None and (start is not None or end is not None):
            raise Refusal(-1128, "Combination of optional parameters invalid.")
        found = [
            trade
            for trade in board.tape.aggregates
            if (first is None or trade.id >= first)
            and (start is None or trade.at_ms >= start)
            and (end is None or trade.at_ms <= end)
        ]
        chosen = found[-limit:] if first is None and start is None else found[:limit]
        return [wire.aggregate_trade(trade) for trade in chosen]

    def klines(self, parameters: Parameters) -> object:
        board = self._board(parameters)
        interval = parameters.required("interval")
        if interval not in INTERVALS_MS:
            raise Refusal(-1120, "Invalid interval.")
        candles = board.candles.between(
            interval,
            self.service.now_ms(),
            start_ms=parameters.integer("startTime"),
            end_ms=parameters.integer("endTime"),
            limit=parameters.limit(500, 1000),
        )
        return [wire.kline_row(candle) for candle in candles]

    def price(self, parameters: Parameters) -> object:
        return self._for_each(
            parameters,
            lambda board: {
                "symbol": board.market.rules.symbol,
                "price": wire.amount(board.market.last_price),
            },
        )

    def book_ticker(self, parameters: Parameters) -> object:
        def shown(board: Board) -> object:
            best = quote(board)
            return {
                "symbol": best["s"],
                "bidPrice": best["b"],
                "bidQty": best["B"],
                "askPrice": best["a"],
                "askQty": best["A"],
            }

        return self._for_each(parameters, shown)

    def day_ticker(self, parameters: Parameters) -> object:
        return self._for_each(parameters, lambda board: day(board, self.service.now_ms()))

    def average_price(self, parameters: Parameters) -> object:
        board, now_ms = self._board(parameters), self.service.now_ms()
        minutes = board.candles.between("1m", now_ms, limit=5)
        volume = sum((each.volume for each in minutes), Decimal(0))
        worth = sum((each.quote_volume for each in minutes), Decimal(0))
        average = worth / volume if volume else board.market.last_price
        return {"mins": 5, "price": wire.amount(average), "closeTime": now_ms}

    # --- orders ---------------------------------------------------------------------------

    def place(self, parameters: Parameters) -> object:
        request = read_new_order(parameters, ACCOUNT)
        response = parameters.text("newOrderRespType") or (
            "ACK" if request.type is OrderType.LIMIT_MAKER else "FULL"
        )
        if response not in ("ACK", "RESULT", "FULL"):
            raise Refusal(-1130, "Data sent for parameter 'newOrderRespType' is not valid.")
        parameters.check_all_read()
        order = self.service.place(request, VENUE)
        return wire.placed(order, self.service.trades_of(order), response)

    def test_place(self, parameters: Parameters) -> object:
        request = read_new_order(parameters, ACCOUNT)
        parameters.text("newOrderRespType")
        parameters.check_all_read()
        self.exchange.check(request)
        return {}

    def cancel(self, parameters: Parameters) -> object:
        symbol = parameters.required("symbol")
        order = self._named(parameters, symbol)
        cancel_id = parameters.client_id("newClientOrderId") or generated_id()
        restriction = parameters.text("cancelRestrictions")
        parameters.check_all_read()
        if order is None or not order.status.is_open:
            raise refusal.unknown_order()
        if restriction not in (None, "ONLY_NEW", "ONLY_PARTIALLY_FILLED"):
            raise Refusal(-1145, "Invalid cancelRestrictions")
        if restriction is not None and restriction != f"ONLY_{order.status.value}":
            raise Refusal(-2011, "Order was not canceled due to cancel restrictions.")
        return self._cancel(order, cancel_id)

    def cancel_all(self, parameters: Parameters) -> object:
        symbol = parameters.required("symbol")
        parameters.check_all_read()
        orders = self.exchange.open_orders(ACCOUNT, symbol)
        if not orders:
            raise refusal.unknown_order()
        return [self._cancel(order, generated_id()) for order in orders]

    def _cancel(self, order: VenueOrder, cancel_id: str) -> dict[str, object]:
        self.service.cancel(order, cancel_id)
        return wire.cancelled(order, cancel_id)

    def query(self, parameters: Parameters) -> object:
        order = self._named(parameters, parameters.required("symbol"))
        if order is None or not self.service.is_visible(order):
            raise refusal.no_such_order()
        return wire.order_result(order)

    def open_orders(self, parameters: Parameters) -> object:
        orders = self.exchange.open_orders(ACCOUNT, parameters.text("symbol"))
        return [wire.order_result(order) for order in orders if self.service.is_visible(order)]

    def all_orders(self, parameters: Parameters) -> object:
        market = self.exchange.market(parameters.required("symbol"))
        first, limit = parameters.integer("orderId"), parameters.limit(500, 1000)
        start, end = parameters.integer("startTime"), parameters.integer("endTime")
        found = [
            order
            for order in market.orders.values()
            if order.account == ACCOUNT
            and self.service.is_visible(order)
            and (first is None or order.id >= first)
            and (start is None or order.placed_ms >= start)
            and (end is None or order.placed_ms <= end)
        ]
        chosen = found[-limit:] if first is None and start is None else found[:limit]
        return [wire.order_result(order) for order in chosen]

    def my_trades(self, parameters: Parameters) -> object:
        market = self.exchange.market(parameters.required("symbol"))
        order_id, first = parameters.integer("orderId"), parameters.integer("fromId")
        start, end = parameters.integer("startTime"), parameters.integer("endTime")
        limit = parameters.limit(500, 1000)
        found = [
            trade
            for trade in market.trades.get(ACCOUNT, [])
            if self.service.is_visible(market.orders.get(trade.order_id))
            and (order_id is None or trade.order_id == order_id)
            and (first is None or trade.trade_id >= first)
            and (start is None or trade.at_ms >= start)
            and (end is None or trade.at_ms <= end)
        ]
        chosen = found[-limit:] if first is None and start is None else found[:limit]
        return [wire.own_trade(trade) for trade in chosen]

    # --- account --------------------------------------------------------------------------

    def account(self, parameters: Parameters) -> object:
        account = self.exchange.accounts[ACCOUNT]
        omit = parameters.text("omitZeroBalances") == "true"
        fees = account.fees
        return {
            "makerCommission": int(fees.maker * 10_000),
            "takerCommission": int(fees.taker * 10_000),
            "buyerCommission": 0,
            "sellerCommission": 0,
            "commissionRates": {
                "maker": wire.amount(fees.maker),
                "taker": wire.amount(fees.taker),
                "buyer": wire.amount(Decimal(0)),
                "seller": wire.amount(Decimal(0)),
            },
            "canTrade": True,
            "canWithdraw": False,
            "canDeposit": False,
            "brokered": False,
            "requireSelfTradePrevention": False,
            "preventSor": False,
            "updateTime": self.service.now_ms(),
            "accountType": "SPOT",
            "balances": _balances(account, omit=omit),
            "permissions": ["SPOT"],
            "uid": 1,
        }

    def order_counts(self, parameters: Parameters) -> object:
        return self.service.order_limits.described(self.service.now_ms())

    def key_restrictions(self, parameters: Parameters) -> object:
        """What the account's key may do; spot orders, and nothing that takes money away."""
        return {
            "ipRestrict": False,
            "createTime": self.service.last_step_ms,
            "enableReading": True,
            "enableWithdrawals": False,
            "enableInternalTransfer": False,
            "enableMargin": False,
            "enableFutures": False,
            "permitsUniversalTransfer": False,
            "enableVanillaOptions": False,
            "enableFixApiTrade": False,
            "enableFixReadOnly": False,
            "enableSpotAndMarginTrading": True,
        }

    def no_margin_pairs(self, parameters: Parameters) -> object:
        """Asked for by client libraries before they trade anything else."""
        return []

    # --- finding --------------------------------------------------------------------------

    def _board(self, parameters: Parameters) -> Board:
        symbol = parameters.required("symbol")
        self.exchange.market(symbol)
        return self.service.publisher.boards[symbol]

    def _boards(self, one: str | None, several: str | None) -> list[Board]:
        boards = self.service.publisher.boards
        if one is None and several is None:
            return list(boards.values())
        names = _wanted(one, several)
        for name in names:
            self.exchange.market(name)
        return [boards[name] for name in names]

    def _for_each(self, parameters: Parameters, show: Callable[[Board], object]) -> object:
        one, several = parameters.text("symbol"), parameters.text("symbols")
        shown = [show(board) for board in self._boards(one, several)]
        return shown[0] if one is not None else shown

    def _named(self, parameters: Parameters, symbol: str) -> VenueOrder | None:
        order_id = parameters.integer("orderId")
        client_id = parameters.client_id("origClientOrderId")
        if order_id is None and client_id is None:
            raise Refusal(
                -1102,
                "Param 'origClientOrderId' or 'orderId' must be sent, but both were empty/null!",
            )
        return self.exchange.find(ACCOUNT, symbol, order_id=order_id, client_id=client_id)


def _wanted(one: str | None, several: str | None) -> list[str]:
    return [one] if one is not None else _names(several or "")


def _names(several: str) -> list[str]:
    inner = several.strip()
    if not (inner.startswith("[") and inner.endswith("]")):
        raise refusal.illegal("symbols", '^\\[("[A-Z0-9]{1,20}"(,"[A-Z0-9]{1,20}")*)\\]$')
    return [name.strip().strip('"') for name in inner[1:-1].split(",") if name.strip()]


def _balances(account: Account, *, omit: bool) -> list[dict[str, str]]:
    return [
        {
            "asset": asset,
            "free": wire.amount(account.free[asset]),
            "locked": wire.amount(account.locked[asset]),
        }
        for asset in account.assets
        if not omit or account.total(asset)
    ]


def _fixed(weight: int) -> Callable[[Mapping[str, str]], int]:
    return lambda values: weight


def _by_symbol(one: int, all_of_them: int) -> Callable[[Mapping[str, str]], int]:
    return lambda values: one if "symbol" in values else all_of_them


def _by_depth(values: Mapping[str, str]) -> int:
    limit = values.get("limit", "100")
    size = int(limit) if limit.isascii() and limit.isdecimal() else 100
    return 5 if size <= 100 else 25 if size <= 500 else 50 if size <= 1000 else 250


def _signed(
    run: Run, weight: Callable[[Mapping[str, str]], int], action: Action = "query"
) -> Operation:
    return Operation(
        run=run,
        weight=weight,
        action=action,
        is_signed=True,
        is_free_when_done=action in ("place", "cancel"),
    )


def _public(run: Run, weight: Callable[[Mapping[str, str]], int]) -> Operation:
    return Operation(run=run, weight=weight)


PING: Final = _public(Operations.ping, _fixed(1))
TIME: Final = _public(Operations.time, _fixed(1))
EXCHANGE_INFO: Final = _public(Operations.exchange_info, _fixed(20))
DEPTH: Final = _public(Operations.depth, _by_depth)
TRADES: Final = _public(Operations.trades, _fixed(25))
OLD_TRADES: Final = _public(Operations.old_trades, _fixed(25))
AGGREGATES: Final = _public(Operations.aggregates, _fixed(4))
KLINES: Final = _public(Operations.klines, _fixed(2))
AVERAGE_PRICE: Final = _public(Operations.average_price, _fixed(2))
PRICE: Final = _public(Operations.price, _by_symbol(2, 4))
BOOK_TICKER: Final = _public(Operations.book_ticker, _by_symbol(2, 4))
DAY_TICKER: Final = _public(Operations.day_ticker, _by_symbol(2, 80))
PLACE: Final = _signed(Operations.place, _fixed(1), "place")
TEST_PLACE: Final = _signed(Operations.test_place, _fixed(1))
CANCEL: Final = _signed(Operations.cancel, _fixed(1), "cancel")
CANCEL_ALL: Final = _signed(Operations.cancel_all, _fixed(1), "cancel")
QUERY: Final = _signed(Operations.query, _fixed(4))
OPEN_ORDERS: Final = _signed(Operations.open_orders, _by_symbol(6, 80))
ALL_ORDERS: Final = _signed(Operations.all_orders, _fixed(20))
MY_TRADES: Final = _signed(Operations.my_trades, lambda values: 5 if "orderId" in values else 20)
ACCOUNT_STATUS: Final = _signed(Operations.account, _fixed(20))
ORDER_COUNTS: Final = _signed(Operations.order_counts, _fixed(40))
KEY_RESTRICTIONS: Final = _signed(Operations.key_restrictions, _fixed(1))
MARGIN_PAIRS: Final = _public(Operations.no_margin_pairs, _fixed(1))

REST: Final[Mapping[tuple[str, str], Operation]] = {
    ("GET", "/api/v3/ping"): PING,
    ("GET", "/api/v3/time"): TIME,
    ("GET", "/api/v3/exchangeInfo"): EXCHANGE_INFO,
    ("GET", "/api/v3/depth"): DEPTH,
    ("GET", "/api/v3/trades"): TRADES,
    ("GET", "/api/v3/historicalTrades"): OLD_TRADES,
    ("GET", "/api/v3/aggTrades"): AGGREGATES,
    ("GET", "/api/v3/klines"): KLINES,
    ("GET", "/api/v3/avgPrice"): AVERAGE_PRICE,
    ("GET", "/api/v3/ticker/price"): PRICE,
    ("GET", "/api/v3/ticker/bookTicker"): BOOK_TICKER,
    ("GET", "/api/v3/ticker/24hr"): DAY_TICKER,
    ("POST", "/api/v3/order"): PLACE,
    ("POST", "/api/v3/order/test"): TEST_PLACE,
    ("DELETE", "/api/v3/order"): CANCEL,
    ("DELETE", "/api/v3/openOrders"): CANCEL_ALL,
    ("GET", "/api/v3/order"): QUERY,
    ("GET", "/api/v3/openOrders"): OPEN_ORDERS,
    ("GET", "/api/v3/allOrders"): ALL_ORDERS,
    ("GET", "/api/v3/myTrades"): MY_TRADES,
    ("GET", "/api/v3/account"): ACCOUNT_STATUS,
    ("GET", "/api/v3/rateLimit/order"): ORDER_COUNTS,
    ("GET", "/sapi/v1/account/apiRestrictions"): KEY_RESTRICTIONS,
    ("GET", "/sapi/v1/margin/allPairs"): MARGIN_PAIRS,
    ("GET", "/sapi/v1/margin/isolated/allPairs"): MARGIN_PAIRS,
}
WS_API: Final[Mapping[str, Operation]] = {
    "ping": PING,
    "time": TIME,
    "exchangeInfo": EXCHANGE_INFO,
    "depth": DEPTH,
    "trades.recent": TRADES,
    "trades.historical": OLD_TRADES,
    "trades.aggregate": AGGREGATES,
    "klines": KLINES,
    "avgPrice": AVERAGE_PRICE,
    "ticker.price": PRICE,
    "ticker.book": BOOK_TICKER,
    "ticker.24hr": DAY_TICKER,
    "order.place": PLACE,
    "order.test": TEST_PLACE,
    "order.cancel": CANCEL,
    "openOrders.cancelAll": CANCEL_ALL,
    "order.status": QUERY,
    "openOrders.status": OPEN_ORDERS,
    "allOrders": ALL_ORDERS,
    "myTrades": MY_TRADES,
    "account.status": ACCOUNT_STATUS,
    "account.rateLimits.orders": ORDER_COUNTS,
}
