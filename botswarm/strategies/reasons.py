"""An evaluation in plain values, as it is kept: enough to say later what was seen and why."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from botswarm.domain.amount import plain, plain_or_none
from botswarm.domain.order import Order, Side
from botswarm.strategies.api import Decision
from botswarm.strategies.gates import DATA_GATES, data_age_ms
from botswarm.strategies.sizing import opened
from botswarm.strategies.stand import Evaluation, Holding, Market, Neighbour, Stop, Subject


def seen(market: Market, now: datetime) -> dict[str, Any]:
    """What a record says of the market itself."""
    trade, quote = market.trade, market.quote
    return {
        "at": now.isoformat(),
        "sequence": market.sequence,
        "data_age_ms": data_age_ms(market, now) if trade else None,
        "exchange_ms": market.exchange_ms,
        "received_ms": max(trade.received_ms, quote.received_ms) if trade and quote else None,
        "price": plain(trade.price) if trade else None,
        "bid": plain(quote.bid) if quote else None,
        "ask": plain(quote.ask) if quote else None,
    }


def record(
    evaluation: Evaluation,
    subject: Subject,
    market: Market,
    now: datetime,
    others: Mapping[str, Neighbour] | None = None,
    *,
    saw: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Plain values only; NaN becomes None. ``saw`` is what ``seen`` said for all of its bots."""
    decision = evaluation.decision
    own = [order for order in subject.orders if order.symbol == market.instrument.symbol]
    said = {
        **(saw or seen(market, now)),
        "position": plain(subject.position),
        "average_price": plain_or_none(subject.average_price),
        "open_buys": plain(opened(own, Side.BUY)),
        "open_sells": plain(opened(own, Side.SELL)),
        "budget": plain(subject.budget),
        "verdict": decision.verdict if decision else None,
        "nearest": decision.nearest_words if decision else None,
        "indicators": _indicators(decision),
        "rules": [rule.plain() for rule in decision.rules] if decision else [],
        "gates": _gates(evaluation.stopped, is_asked=decision is not None),
        "stopped": None,
        "orders": [_wanted(order) for order in evaluation.orders],
    }
    if evaluation.stopped is not None:
        said["stopped"] = {"gate": evaluation.stopped.gate, "words": evaluation.stopped.words}
    if evaluation.cancels:
        said["cancels"] = list(evaluation.cancels)
    if others:
        said["others"] = {
            symbol: _other(other, subject.others.get(symbol, Holding()))
            for symbol, other in others.items()
        }
    return said


def _gates(stopped: Stop | None, *, is_asked: bool) -> list[dict[str, Any]]:
    """Each that was looked at, with whether it let the bot through; the others were not reached."""
    passed = list(DATA_GATES)
    if not is_asked and stopped is not None and stopped.gate in DATA_GATES:
        passed = passed[: passed.index(stopped.gate)]
    gates: list[dict[str, Any]] = [{"gate": gate, "passed": True, "words": None} for gate in passed]
    if stopped is not None:
        gates.append({"gate": stopped.gate, "passed": False, "words": stopped.words})
    return gates


def _other(other: Neighbour, holding: Holding) -> dict[str, Any]:
    trade, quote = other.market.trade, other.market.quote
    return {
        "sequence": other.market.sequence,
        "price": plain(trade.price) if trade else None,
        "bid": plain(quote.bid) if quote else None,
        "ask": plain(quote.ask) if quote else None,
        "position": plain(holding.position),
    }


def _indicators(decision: Decision | None) -> dict[str, float | int | str | None]:
    shown: dict[str, float | int | str | None] = {}
    for name, value in (decision.indicators if decision else {}).items():
        if isinstance(value, Decimal):
            shown[name] = plain(value)
        elif isinstance(value, int):
            shown[name] = value
        else:
            # Whatever float a plugin's library made: JSON knows no numpy and no NaN.
            shown[name] = float(value) if math.isfinite(value) else None
    return shown


def _wanted(order: Order) -> dict[str, Any]:
    replaces = {} if order.replaces is None else {"replaces": order.replaces}
    return {
        **replaces,
        "id": order.id,
        "symbol": order.symbol,
        "side": order.side.value,
        "kind": order.kind.value,
        "quantity": plain(order.quantity),
        "limit_price": plain_or_none(order.limit_price),
        "stop_price": plain_or_none(order.stop_price),
    }
