"""What the journal says of the exchange's facts, and the exchange that a journal tells of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from botswarm.domain.order import Side
from botswarm.errors import Unreachable
from botswarm.exchanges.numbering import named_trades
from botswarm.exchanges.simulated import coinbase_words
from botswarm.exchanges.simulated.accounts import Fees
from botswarm.exchanges.simulated.exchange import (
    HOUSES,
    Ended,
    Exchange,
    Fact,
    Market,
    Opened,
    OwnTrade,
    Share,
    Traded,
    Triggered,
    given,
    is_customer,
)
from botswarm.exchanges.simulated.journal import Entry
from botswarm.exchanges.simulated.orders import (
    Force,
    NewOrder,
    OrderType,
    SelfTrade,
    Status,
    VenueOrder,
)
from botswarm.exchanges.simulated.refusal import Refusal


def entries_of(facts: Iterable[Fact]) -> list[Entry]:
    """Those that concern customers, in order; the house's own trades are nobody's business."""
    entries: list[Entry] = []
    for fact in facts:
        if isinstance(fact, Traded):
            entries += [
                _fill(fact, share) for share in fact.shares if is_customer(share.order.account)
            ]
        elif is_customer(fact.order.account):
            entries.append(_of_order(fact))
    return entries


def _of_order(fact: Opened | Triggered | Ended) -> Entry:
    match fact:
        case Opened():
            return _opened(fact)
        case Triggered():
            return {"type": "trigger", "at": fact.at_ms, **_identity(fact.order)}
        case Ended():
            return _ended(fact)


def _opened(fact: Opened) -> Entry:
    order = fact.order
    return {
        "type": "order",
        "at": fact.at_ms,
        **_identity(order),
        "order_type": order.type.value,
        "time_in_force": order.force.value,
        "self_trade": order.self_trade.value,
        "price": order.price,
        "stop_price": order.stop_price,
        "quantity": order.quantity,
        "quote_quantity": order.quote_quantity,
        **({"fee_in_quote": True} if order.fee_in_quote else {}),
    }


def _fill(fact: Traded, share: Share) -> Entry:
    order = share.order
    named = {}
    if order.account == coinbase_words.ACCOUNT:
        name = coinbase_words.trade_name(order.symbol, fact.trade_id, order.id)
        named = {"named_trade": named_trades([(fact.at_ms, name)])[name]}
    return {
        "type": "fill",
        "at": fact.at_ms,
        **_identity(share.order),
        "trade_id": fact.trade_id,
        "price": fact.price,
        "quantity": fact.quantity,
        "commission": share.commission,
        "commission_asset": share.commission_asset,
        "is_maker": share.is_maker,
        "status": share.status.value,
        **named,
    }


def _ended(fact: Ended) -> Entry:
    entry: Entry = {
        "type": "cancel" if fact.status is Status.CANCELED else "expire",
        "at": fact.at_ms,
        **_identity(fact.order),
        "status": fact.status.value,
        "filled": fact.order.filled,
    }
    if fact.cancel_id:
        entry["cancel_id"] = fact.cancel_id
    if fact.reason:
        entry["reason"] = fact.reason
    return entry


def _identity(order: VenueOrder) -> Entry:
    return {
        "account": order.account,
        "symbol": order.symbol,
        "side": order.side.value,
        "order_id": order.id,
        "client_order_id": order.client_order_id,
    }


def rejection(request: NewOrder, why: Refusal, now_ms: int) -> Entry:
    return {
        "type": "reject",
        "at": now_ms,
        "account": request.account,
        "symbol": request.symbol,
        "side": request.side.value,
        "client_order_id": request.client_order_id,
        "code": why.code,
        "reason": why.text,
    }


@dataclass(slots=True)
class Ids:
    """Numbers handed out, or set aside, before the journal ends."""

    trades: dict[str, int] = field(default_factory=dict)
    aggregates: dict[str, int] = field(default_factory=dict)

    def entry(self, kind: str, now_ms: int) -> Entry:
        return {
            "type": kind,
            "at": now_ms,
            "trade_ids": dict(self.trades),
            "aggregate_ids": dict(self.aggregates),
        }

    def take(self, entry: Entry) -> None:
        self.trades.update(entry["trade_ids"])
        self.aggregates.update(entry["aggregate_ids"])


@dataclass(slots=True)
class Restored:
    """What was found; ``repairs`` are to be written before anything else happens."""

    ids: Ids
    repairs: Sequence[Fact]


def restore(
    exchange: Exchange, entries: Iterable[Entry], fees: Mapping[str, Fees], now_ms: int
) -> Restored:
    """Do to a new exchange what the journal says was done to the last one."""
    ids = Ids()
    for count, entry in enumerate(entries, 1):
        try:
            _restore_entry(exchange, entry, fees, ids)
        except (KeyError, TypeError, ValueError, ArithmeticError, Refusal) as error:
            raise Unreachable(
                f"line {count} of the exchange's journal makes no sense: {error!r}",
                cure="restore the file from a backup, or move it away to start anew",
            ) from error
    for symbol, last in ids.trades.items():
        if symbol in exchange.markets:
            exchange.markets[symbol].last_trade_id = last
    return Restored(ids, _reopen(exchange, now_ms))


def _restore_entry(exchange: Exchange, entry: Entry, fees: Mapping[str, Fees], ids: Ids) -> None:
    kind = entry["type"]
    if kind in ("reserve", "stop"):
        ids.take(entry)
    elif kind == "deposit":
        _restore_deposit(exchange, entry, fees)
    elif kind == "order":
        _restore_order(exchange, entry)
    elif kind == "fill":
        _restore_fill(exchange, entry)
    elif kind == "trigger":
        _restore_trigger(exchange, entry)
    elif kind in ("cancel", "expire"):
        _restore_end(exchange, entry)


def _restore_deposit(exchange: Exchange, entry: Entry, fees: Mapping[str, Fees]) -> None:
    name = entry["account"]
    if name not in exchange.accounts:
        exchange.open_account(name, fees.get(name, Fees()))
    exchange.deposit(name, entry["asset"], Decimal(entry["amount"]))


def _restore_order(exchange: Exchange, entry: Entry) -> None:
    market = exchange.markets[entry["symbol"]]
    order = VenueOrder(
        id=entry["order_id"],
        account=entry["account"],
        symbol=entry["symbol"],
        client_order_id=entry["client_order_id"],
        side=Side(entry["side"]),
        type=(kind := OrderType(entry["order_type"])),
        force=Force(entry["time_in_force"]),
        self_trade=SelfTrade(entry["self_trade"]),
        price=Decimal(entry["price"]),
        stop_price=Decimal(entry.get("stop_price", 0)),
        fee_in_quote=entry.get("fee_in_quote", False),
        is_working=not kind.waits_for_a_price,
        quantity=Decimal(entry["quantity"]),
        quote_quantity=Decimal(entry["quote_quantity"]),
        placed_ms=entry["at"],
        updated_ms=entry["at"],
    )
    exchange.last_order_id = max(exchange.last_order_id, order.id)
    exchange.remember(market, order)


def _restore_fill(exchange: Exchange, entry: Entry) -> None:
    market = exchange.markets[entry["symbol"]]
    order = market.orders[entry["order_id"]]
    price, quantity = Decimal(entry["price"]), Decimal(entry["quantity"])
    commission = Decimal(entry["commission"])
    rules = market.rules
    paid_asset = given(order, rules)
    received_asset = rules.base if order.side is Side.BUY else rules.quote
    paid, received = price * quantity, quantity
    if order.side is Side.SELL:
        paid, received = received, paid
    account, house = exchange.accounts[order.account], exchange.accounts[HOUSES[0]]
    account.free[paid_asset] -= paid
    account.free[received_asset] += received
    account.free[entry["commission_asset"]] -= commission
    exchange.accounts.earned[entry["commission_asset"]] += commission
    # Where two customers traded, the house gives and takes the same: both have an entry.
    house.free[paid_asset] += paid
    house.free[received_asset] -= received
    order.filled += quantity
    order.filled_quote += price * quantity
    order.updated_ms = entry["at"]
    order.trade_ids.append(entry["trade_id"])
    _set_status(market, order, Status(entry["status"]))
    market.note_trade(
        order.account,
        OwnTrade(
            symbol=order.symbol,
            trade_id=entry["trade_id"],
            order_id=order.id,
            side=order.side,
            price=price,
            quantity=quantity,
            commission=commission,
            commission_asset=entry["commission_asset"],
            is_maker=entry["is_maker"],
            at_ms=entry["at"],
        ),
    )


def _restore_trigger(exchange: Exchange, entry: Entry) -> None:
    market = exchange.markets[entry["symbol"]]
    order = market.stops.pop(entry["order_id"])
    order.is_working, order.updated_ms = True, entry["at"]


def _restore_end(exchange: Exchange, entry: Entry) -> None:
    market = exchange.markets[entry["symbol"]]
    order = market.orders[entry["order_id"]]
    order.updated_ms = entry["at"]
    _set_status(market, order, Status(entry["status"]))


def _set_status(market: Market, order: VenueOrder, status: Status) -> None:
    order.status = status
    if not status.is_open:
        market.open.pop(order.id, None)
        market.stops.pop(order.id, None)


def _reopen(exchange: Exchange, now_ms: int) -> list[Fact]:
    """Put what is still open back into the books, in the order it came."""
    repairs: list[Fact] = []
    for market in exchange.markets.values():
        for order in list(market.open.values()):
            if not order.is_working:
                exchange.set_aside(market, order)
                continue
            if not order.is_limited or order.force is not Force.GTC:
                # Its line was written and, by a power cut, not the lines of what came of it.
                order.updated_ms = now_ms
                _set_status(market, order, Status.EXPIRED)
                repairs.append(
                    Ended(order=order, status=Status.EXPIRED, at_ms=now_ms, reason="RESTART")
                )
                continue
            amount = order.open_quantity
            if order.side is Side.BUY:
                amount = exchange.cost(order, order.price * amount)
            exchange.accounts[order.account].lock(given(order, market.rules), amount)
            order.locked = amount
            market.book.side(order.side).add(order)
    return repairs
