"""How the exchange's values look in Binance's messages: JSON shapes and eight decimals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal

from botswarm.exchanges.simulated.candles import Kline
from botswarm.exchanges.simulated.exchange import (
    Ended,
    Market,
    Opened,
    OwnTrade,
    Share,
    Traded,
    Triggered,
)
from botswarm.exchanges.simulated.filters import MarketRules, described
from botswarm.exchanges.simulated.orders import ZERO, SelfTrade, Status, VenueOrder
from botswarm.exchanges.simulated.tape import AggregateTrade, PublicTrade

Object = dict[str, object]


def amount(value: Decimal) -> str:
    return f"{value:.8f}"


def levels(pairs: Iterable[tuple[Decimal, Decimal]]) -> list[list[str]]:
    return [[amount(price), amount(quantity)] for price, quantity in pairs]


# --- market data ------------------------------------------------------------------------------


def symbol_info(rules: MarketRules) -> Object:
    return {
        "symbol": rules.symbol,
        "status": "TRADING" if rules.is_trading else "BREAK",
        "baseAsset": rules.base,
        "baseAssetPrecision": 8,
        "quoteAsset": rules.quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "baseCommissionPrecision": 8,
        "quoteCommissionPrecision": 8,
        "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS", "STOP_LOSS_LIMIT"],
        "icebergAllowed": False,
        "ocoAllowed": False,
        "otoAllowed": False,
        "opoAllowed": False,
        "quoteOrderQtyMarketAllowed": True,
        "allowTrailingStop": False,
        "cancelReplaceAllowed": False,
        "amendAllowed": False,
        "pegInstructionsAllowed": False,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": described(rules),
        "permissions": [],
        "permissionSets": [["SPOT"]],
        "defaultSelfTradePreventionMode": SelfTrade.EXPIRE_MAKER.value,
        "allowedSelfTradePreventionModes": [mode.value for mode in SelfTrade],
    }


def public_trade(trade: PublicTrade) -> Object:
    return {
        "id": trade.id,
        "price": amount(trade.price),
        "qty": amount(trade.quantity),
        "quoteQty": amount(trade.price * trade.quantity),
        "time": trade.at_ms,
        "isBuyerMaker": trade.buyer_is_maker,
        "isBestMatch": True,
    }


def aggregate_trade(trade: AggregateTrade) -> Object:
    return {
        "a": trade.id,
        "p": amount(trade.price),
        "q": amount(trade.quantity),
        "f": trade.first_id,
        "l": trade.last_id,
        "T": trade.at_ms,
        "m": trade.buyer_is_maker,
        "M": True,
    }


def kline_row(candle: Kline) -> list[object]:
    return [
        candle.open_ms,
        amount(candle.open),
        amount(candle.high),
        amount(candle.low),
        amount(candle.close),
        amount(candle.volume),
        candle.close_ms,
        amount(candle.quote_volume),
        candle.trades,
        amount(candle.taker_volume),
        amount(candle.taker_quote_volume),
        "0",
    ]


def day(market: Market, hours: Sequence[Kline], now_ms: int) -> Object:
    """The last day, by whole hours."""
    book, first, last = market.book, hours[0], market.last_price
    volume = sum((hour.volume for hour in hours), ZERO)
    quote_volume = sum((hour.quote_volume for hour in hours), ZERO)
    change = last - first.open
    bid, ask = book.bids.depth(1), book.asks.depth(1)
    return {
        "symbol": market.rules.symbol,
        "priceChange": amount(change),
        "priceChangePercent": f"{change / first.open * 100:.3f}",
        "weightedAvgPrice": amount(quote_volume / volume if volume else last),
        "prevClosePrice": amount(first.open),
        "lastPrice": amount(last),
        "lastQty": amount(ZERO),
        "bidPrice": amount(bid[0][0] if bid else ZERO),
        "bidQty": amount(bid[0][1] if bid else ZERO),
        "askPrice": amount(ask[0][0] if ask else ZERO),
        "askQty": amount(ask[0][1] if ask else ZERO),
        "openPrice": amount(first.open),
        "highPrice": amount(max(hour.high for hour in hours)),
        "lowPrice": amount(min(hour.low for hour in hours)),
        "volume": amount(volume),
        "quoteVolume": amount(quote_volume),
        "openTime": first.open_ms,
        "closeTime": now_ms,
        "firstId": -1,
        "lastId": market.last_trade_id,
        "count": sum(hour.trades for hour in hours),
    }


def ticker_event(shown: Object, now_ms: int) -> Object:
    return {
        "e": "24hrTicker",
        "E": now_ms,
        "s": shown["symbol"],
        "p": shown["priceChange"],
        "P": shown["priceChangePercent"],
        "w": shown["weightedAvgPrice"],
        "x": shown["prevClosePrice"],
        "c": shown["lastPrice"],
        "Q": shown["lastQty"],
        "b": shown["bidPrice"],
        "B": shown["bidQty"],
        "a": shown["askPrice"],
        "A": shown["askQty"],
        "o": shown["openPrice"],
        "h": shown["highPrice"],
        "l": shown["lowPrice"],
        "v": shown["volume"],
        "q": shown["quoteVolume"],
        "O": shown["openTime"],
        "C": shown["closeTime"],
        "F": shown["firstId"],
        "L": shown["lastId"],
        "n": shown["count"],
    }


def mini_ticker_event(shown: Object, now_ms: int) -> Object:
    full = ticker_event(shown, now_ms)
    return {"e": "24hrMiniTicker", **{key: full[key] for key in "Escohlvq"}}


def trade_event(symbol: str, trade: PublicTrade, now_ms: int) -> Object:
    return {
        "e": "trade",
        "E": now_ms,
        "s": symbol,
        "t": trade.id,
        "p": amount(trade.price),
        "q": amount(trade.quantity),
        "T": trade.at_ms,
        "m": trade.buyer_is_maker,
        "M": True,
    }


def aggregate_event(symbol: str, trade: AggregateTrade, now_ms: int) -> Object:
    return {"e": "aggTrade", "E": now_ms, "s": symbol, **aggregate_trade(trade)}


def kline_event(
    symbol: str, interval: str, candle: Kline, now_ms: int, *, is_closed: bool
) -> Object:
    return {
        "e": "kline",
        "E": now_ms,
        "s": symbol,
        "k": {
            "t": candle.open_ms,
            "T": candle.close_ms,
            "s": symbol,
            "i": interval,
            "f": candle.first_trade_id,
            "L": candle.last_trade_id,
            "o": amount(candle.open),
            "c": amount(candle.close),
            "h": amount(candle.high),
            "l": amount(candle.low),
            "v": amount(candle.volume),
            "n": candle.trades,
            "x": is_closed,
            "q": amount(candle.quote_volume),
            "V": amount(candle.taker_volume),
            "Q": amount(candle.taker_quote_volume),
            "B": "0",
        },
    }


# --- orders -----------------------------------------------------------------------------------


def order_result(order: VenueOrder) -> Object:
    return {
        "symbol": order.symbol,
        "orderId": order.id,
        "orderListId": -1,
        "clientOrderId": order.client_order_id,
        "price": amount(order.price),
        "origQty": amount(order.quantity),
        "executedQty": amount(order.filled),
        "cummulativeQuoteQty": amount(order.filled_quote),
        "status": order.status.value,
        "timeInForce": order.force.value,
        "type": order.type.value,
        "side": order.side.upper(),
        "stopPrice": amount(order.stop_price),
        "icebergQty": amount(ZERO),
        "time": order.placed_ms,
        "updateTime": order.updated_ms,
        "isWorking": order.is_working,
        "workingTime": order.placed_ms,
        "origQuoteOrderQty": amount(order.quote_quantity),
        "selfTradePreventionMode": order.self_trade.value,
    }


def placed(order: VenueOrder, trades: Sequence[OwnTrade], response: str) -> Object:
    answer: Object = {
        "symbol": order.symbol,
        "orderId": order.id,
        "orderListId": -1,
        "clientOrderId": order.client_order_id,
        "transactTime": order.updated_ms,
    }
    if response == "ACK":
        return answer
    answer |= _state(order) | {"workingTime": order.placed_ms}
    if response == "FULL":
        answer["fills"] = [
            {
                "price": amount(trade.price),
                "qty": amount(trade.quantity),
                "commission": amount(trade.commission),
                "commissionAsset": trade.commission_asset,
                "tradeId": trade.trade_id,
            }
            for trade in trades
        ]
    return answer


def cancelled(order: VenueOrder, cancel_id: str) -> Object:
    return {
        "symbol": order.symbol,
        "origClientOrderId": order.client_order_id,
        "orderId": order.id,
        "orderListId": -1,
        "clientOrderId": cancel_id,
        "transactTime": order.updated_ms,
    } | _state(order)


def _state(order: VenueOrder) -> Object:
    return {
        "price": amount(order.price),
        "origQty": amount(order.quantity),
        "executedQty": amount(order.filled),
        "origQuoteOrderQty": amount(order.quote_quantity),
        "cummulativeQuoteQty": amount(order.filled_quote),
        "status": order.status.value,
        "timeInForce": order.force.value,
        "type": order.type.value,
        "side": order.side.upper(),
        "selfTradePreventionMode": order.self_trade.value,
    }


def own_trade(trade: OwnTrade) -> Object:
    return {
        "symbol": trade.symbol,
        "id": trade.trade_id,
        "orderId": trade.order_id,
        "orderListId": -1,
        "price": amount(trade.price),
        "qty": amount(trade.quantity),
        "quoteQty": amount(trade.price * trade.quantity),
        "commission": amount(trade.commission),
        "commissionAsset": trade.commission_asset,
        "time": trade.at_ms,
        "isBuyer": trade.side == "buy",
        "isMaker": trade.is_maker,
        "isBestMatch": True,
    }


# --- user data --------------------------------------------------------------------------------


def opened_report(fact: Opened | Triggered, execution_id: int, now_ms: int) -> Object:
    return _report(fact.order, fact.at_ms, execution_id, now_ms, kind="NEW", status=Status.NEW) | {
        "z": amount(ZERO),
        "Z": amount(ZERO),
    }


def traded_report(fact: Traded, share: Share, execution_id: int, now_ms: int) -> Object:
    order = share.order
    return _report(order, fact.at_ms, execution_id, now_ms, kind="TRADE", status=share.status) | {
        "l": amount(fact.quantity),
        "L": amount(fact.price),
        "Y": amount(fact.quantity * fact.price),
        "z": amount(share.filled),
        "Z": amount(share.filled_quote),
        "n": amount(share.commission),
        "N": share.commission_asset,
        "t": fact.trade_id,
        "w": False,
        "m": share.is_maker,
        "M": True,
    }


def ended_report(fact: Ended, execution_id: int, now_ms: int) -> Object:
    order = fact.order
    kind = "CANCELED" if fact.status is Status.CANCELED else "EXPIRED"
    if fact.status is Status.EXPIRED_IN_MATCH:
        kind = "TRADE_PREVENTION"
    report = _report(order, fact.at_ms, execution_id, now_ms, kind=kind, status=fact.status)
    report["w"] = False
    if fact.cancel_id:
        report |= {"c": fact.cancel_id, "C": order.client_order_id}
    return report


def _report(
    order: VenueOrder, at_ms: int, execution_id: int, now_ms: int, *, kind: str, status: Status
) -> Object:
    return {
        "e": "executionReport",
        "E": now_ms,
        "s": order.symbol,
        "c": order.client_order_id,
        "S": order.side.upper(),
        "o": order.type.value,
        "f": order.force.value,
        "q": amount(order.quantity),
        "p": amount(order.price),
        "P": amount(order.stop_price),
        "F": amount(ZERO),
        "g": -1,
        "C": "",
        "x": kind,
        "X": status.value,
        "r": "NONE",
        "i": order.id,
        "l": amount(ZERO),
        "z": amount(order.filled),
        "L": amount(ZERO),
        "n": "0",
        "N": None,
        "T": at_ms,
        "t": -1,
        "I": execution_id,
        "w": order.is_working,
        "m": False,
        "M": False,
        "O": order.placed_ms,
        "Z": amount(order.filled_quote),
        "Y": amount(ZERO),
        "Q": amount(order.quote_quantity),
        "W": order.placed_ms,
        "V": order.self_trade.value,
    }
