"""Why a bot does what it does, from the ledger alone: the answer when everything else is down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from botswarm.bots.registry import Registry, markets_of
from botswarm.bots.silence import Trouble, broken, silence
from botswarm.bots.spec import BUDGET
from botswarm.domain.amount import plain, plain_or_none
from botswarm.domain.fill import Fill
from botswarm.domain.order import Order, OrderState
from botswarm.domain.permission import TradingState
from botswarm.ledger.audit import Entry
from botswarm.ledger.bots import Bot, BotState, Stand
from botswarm.ledger.halts import (
    SWARM,
    Halt,
    account_scope,
    bot_scope,
    market_scope,
    place_of,
    strategy_scope,
)
from botswarm.ledger.store import Ledger
from botswarm.strategies.registry import Catalog

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
    """How long ago the bot was last looked after, whether or not that brought anything new."""
    trouble: Trouble | None
    """Why it is not being evaluated although it runs."""
    stopped_by: Entry | None
    """Who moved it to where it does not run."""
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
        return _is_silent(self.stand.bot, self.age_s)

    @property
    def answer(self) -> str:
        """In one sentence."""
        bot, evaluation = self.stand.bot, self.evaluation or {}
        if bot.state is not BotState.RUNNING:
            return f"{bot.name} is {bot.state}: {bot.reason or 'it was never started'}{self._by}"
        if self.trouble is not None and self.trouble.kind == "strategy":
            return f"{bot.name} cannot decide: {self.trouble.words}"
        if self.halts:
            halt = self.halts[0]
            return f"{bot.name}: trading of {halt.scope} is {halt.state}: {halt.reason}"
        why = f": {self.trouble.words}" if self.trouble is not None else ""
        if self.age_s is None:
            return f"{bot.name} runs, and has not been evaluated yet{why}"
        if self.is_silent:
            return f"{bot.name} runs, and was last evaluated {self.age_s:.0f} s ago{why}"
        return f"{bot.name} {summary(evaluation)}"

    @property
    def _by(self) -> str:
        if self.stopped_by is None or self.stopped_by.action == "bot.create":
            return ""
        return f" ({self.stopped_by.actor}, {self.stopped_by.at:%Y-%m-%d %H:%M:%S})"


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


def explain(
    ledger: Ledger, name: str, now: datetime, catalog: Catalog | None = None
) -> Explanation:
    """Raises NotFound with the name that was probably meant.

    With ``catalog`` it also says whether the bot's strategy can still be used.
    """
    stand = Registry(ledger).stand(name)
    bot = stand.bot
    scopes = [SWARM, account_scope(bot.venue, bot.account), bot_scope(name)]
    scopes.append(strategy_scope(bot.strategy))
    scopes += [market_scope(bot.venue, symbol) for symbol in markets_of(bot)]
    age_s = _looked_after_s(ledger, bot, now)
    trouble = None
    if bot.state is BotState.RUNNING:
        trouble = broken(bot, catalog) if catalog is not None else None
        if trouble is None and _is_silent(bot, age_s):
            trouble = silence(ledger, bot, now)
    moves = [each for each in ledger.audit.of_bot(name, limit=50) if _is_move(each)]
    return Explanation(
        stand=stand,
        evaluation=bot.last_evaluation,
        age_s=age_s,
        trouble=trouble,
        stopped_by=moves[-1] if moves and bot.state is not BotState.RUNNING else None,
        halts=_halts(ledger, name, scopes, now),
        orders=ledger.orders.list(bot=name, limit=SHOWN),
        stopped_order=next(iter(ledger.orders.list(bot=name, states=STOPPED, limit=1)), None),
        fills=ledger.orders.fills(name, limit=SHOWN),
    )


def _halts(ledger: Ledger, name: str, scopes: Sequence[str], now: datetime) -> list[Halt]:
    """What holds it back: halts, and a share of the swarm that it is beyond."""
    said = [halt for halt in ledger.halts.all() if halt.scope in scopes]
    found = [halt for halt in said if halt.state_at(now) is not TradingState.ACTIVE]
    for halt in said:
        if halt.share is not None and halt not in found and place_of(name) >= halt.share:
            words = f"only {halt.share} % of the bots may grow a position, and it is not among them"
            found.append(replace(halt, state=TradingState.REDUCING, until=None, reason=words))
    return found


def _looked_after_s(ledger: Ledger, bot: Bot, now: datetime) -> float | None:
    """By the bot's own row or, where nothing was new, by its market's last pass after that."""
    if bot.last_evaluation is None:
        return None
    at = datetime.fromisoformat(bot.last_evaluation["at"])
    passed = ledger.stands.last_pass(bot.venue, bot.symbol)
    # A pass from before it ran, or was changed, says nothing of it.
    if passed is not None and bot.updated_at is not None and passed.at >= bot.updated_at:
        at = max(at, passed.at)
    return (now - at).total_seconds()


def _is_silent(bot: Bot, age_s: float | None) -> bool:
    return bot.state is BotState.RUNNING and (age_s is None or age_s > SILENT_AFTER_S)


def _is_move(entry: Entry) -> bool:
    return entry.action in ("bot.state", "bot.create")


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
        "trouble": found.trouble and {"kind": found.trouble.kind, "words": found.trouble.words},
        "version": bot.version,
        "is_shadow": bot.is_shadow,
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
        "limit_price": plain_or_none(order.limit_price),
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
