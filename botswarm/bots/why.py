"""Why a bot does what it does, from the ledger alone: the answer when everything else is down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from botswarm.bots.registry import Registry
from botswarm.bots.spec import BUDGET
from botswarm.domain.fill import Fill
from botswarm.domain.order import Order, OrderState
from botswarm.domain.permission import TradingState
from botswarm.ledger.bots import BotState, Stand
from botswarm.ledger.halts import SWARM, Halt, account_scope, bot_scope, market_scope
from botswarm.ledger.store import Ledger

SHOWN = 5
SILENT_AFTER_S = 90
"""That a market was evaluated is written down every few seconds; who is silent is not asked."""
STOPPED = (OrderState.REFUSED, OrderState.STALE, OrderState.REJECTED, OrderState.EXPIRED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    stand: Stand
    evaluation: Mapping[str, Any] | None
    """The last one that was written down, with what the bot saw."""
    age_s: float | None
    halts: Sequence[Halt]
    """What holds the bot back, whatever it decides."""
    orders: Sequence[Order]
    """The latest, newest first."""
    stopped_order: Order | None
    """The last that came to nothing; its reason names the gate, or what the venue said."""
    fills: Sequence[Fill]

    @property
    def is_silent(self) -> bool:
        """It runs, and nobody has evaluated it for long: no data, no feed or no worker."""
        is_running = self.stand.bot.state is BotState.RUNNING
        return is_running and (self.age_s is None or self.age_s > SILENT_AFTER_S)

    @property
    def answer(self) -> str:
        """In one sentence."""
        bot, evaluation = self.stand.bot, self.evaluation or {}
        if bot.state is not BotState.RUNNING:
            return f"{bot.name} is {bot.state}: {bot.reason or 'it was never started'}"
        if self.halts:
            halt = self.halts[0]
            return f"{bot.name}: trading of {halt.scope} is {halt.state}: {halt.reason}"
        if self.age_s is None:
            return f"{bot.name} runs, and has not been evaluated yet"
        if self.is_silent:
            return f"{bot.name} runs, and was last evaluated {self.age_s:.0f} s ago"
        return f"{bot.name} {summary(evaluation)}"


def summary(evaluation: Mapping[str, Any]) -> str:
    """What an evaluation came to, with what was nearest to another verdict."""
    stopped = evaluation.get("stopped")
    parts = []
    if evaluation.get("verdict"):
        parts.append(evaluation["verdict"])
    if stopped:
        acts = "does not act" if not evaluation.get("orders") else "does not do all of it"
        parts.append(f"{acts}: {stopped['words']} ({stopped['gate']})")
    if evaluation.get("nearest"):
        parts.append(evaluation["nearest"])
    return "; ".join(parts) or "decided nothing"


def explain(ledger: Ledger, name: str, now: datetime) -> Explanation:
    """Raises NotFound with the name that was probably meant."""
    stand = Registry(ledger).stand(name)
    bot = stand.bot
    scopes = [SWARM, account_scope(bot.venue, bot.account), bot_scope(name)]
    scopes.append(market_scope(bot.venue, bot.symbol))
    evaluation = bot.last_evaluation
    at = datetime.fromisoformat(evaluation["at"]) if evaluation else None
    passed = ledger.stands.last_pass(bot.venue, bot.symbol)
    if at is not None and passed is not None and bot.state is BotState.RUNNING:
        # A pass that finds nothing new of a bot writes nothing of it.
        at = max(at, passed.at)
    return Explanation(
        stand=stand,
        evaluation=evaluation,
        age_s=(now - at).total_seconds() if at else None,
        halts=[
            halt
            for halt in ledger.halts.all()
            if halt.scope in scopes and halt.state is not TradingState.ACTIVE
        ],
        orders=ledger.orders.list(bot=name, limit=SHOWN),
        stopped_order=next(iter(ledger.orders.list(bot=name, states=STOPPED, limit=1)), None),
        fills=ledger.orders.fills(name, limit=SHOWN),
    )


def plain(value: Decimal) -> str:
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def data(found: Explanation) -> dict[str, Any]:
    """For programs: plain values, amounts as text."""
    bot, stand = found.stand.bot, found.stand
    return {
        "bot": bot.name,
        "strategy": bot.strategy,
        "market": f"{bot.venue}:{bot.symbol}",
        "account": bot.account,
        "timeframe": bot.timeframe,
        "parameters": dict(bot.parameters),
        "state": bot.state.value,
        "reason": bot.reason,
        "answer": found.answer,
        "is_silent": found.is_silent,
        "evaluated_s_ago": None if found.age_s is None else round(found.age_s, 3),
        "evaluation": found.evaluation,
        "position": plain(stand.position),
        "budget": bot.parameters.get(BUDGET),
        "working_orders": len(stand.orders),
        "halts": [
            {"scope": halt.scope, "state": halt.state.value, "reason": halt.reason}
            for halt in found.halts
        ],
        "stopped_order": found.stopped_order and order_data(found.stopped_order),
        "orders": [order_data(order) for order in found.orders],
        "fills": [fill_data(fill) for fill in found.fills],
    }


def order_data(order: Order) -> dict[str, Any]:
    return {
        "id": order.id,
        "created_at": order.created_at.isoformat(),
        "side": order.side.value,
        "kind": order.kind.value,
        "quantity": plain(order.quantity),
        "limit_price": None if order.limit_price is None else plain(order.limit_price),
        "reference_price": plain(order.reference_price),
        "state": order.state.value,
        "filled_quantity": plain(order.filled_quantity),
        "reason": order.reason,
    }


def fill_data(fill: Fill) -> dict[str, Any]:
    return {
        "at": fill.at.isoformat(),
        "trade_id": fill.trade_id,
        "side": fill.side.value,
        "quantity": plain(fill.quantity),
        "price": plain(fill.price),
        "commission": plain(fill.commission),
        "commission_asset": fill.commission_asset,
    }
