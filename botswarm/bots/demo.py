"""A dozen bots for the simulated market, set so that a person sees them trade within seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from botswarm.bots.registry import Registry, Rules
from botswarm.bots.spec import BotSpec
from botswarm.ledger.bots import Bot, BotState
from botswarm.ledger.store import Ledger
from botswarm.strategies.registry import Catalog

SYMBOLS = ("BTC-USDT", "ETH-USDT", "SOL-USDT")
TIMEFRAME = "1s"
ACTOR = "demo"

# Name, strategy, budget and parameters; each in every market. Their open orders together stay
# under the default limits, also when all of them buy at once. And they are small: bots that trade
# every few seconds pay for it in commissions, and with budgets of 250 the default limit on a
# day's loss ends the show after an hour.
EVERYWHERE: Sequence[tuple[str, str, int, Mapping[str, object]]] = (
    ("trend", "sma-cross", 50, {"fast": 5, "slow": 15}),
    ("dip", "rsi-reversion", 50, {"length": 7, "enter_below": "42", "leave_above": "58"}),
    ("grid", "grid", 60, {"levels": 5, "step_percent": "0.06"}),
)
VARIANTS: Sequence[tuple[str, str, str, int, Mapping[str, object]]] = (
    (
        "trend-slow",
        "BTC-USDT",
        "sma-cross",
        80,
        {"fast": 15, "slow": 60, "margin_percent": "0.01"},
    ),
    ("dip-deep", "ETH-USDT", "rsi-reversion", 80, {"length": 14, "enter_below": "30"}),
    ("grid-wide", "SOL-USDT", "grid", 80, {"levels": 8, "step_percent": "0.25"}),
)


def specs(catalog: Catalog, *, venue: str, account: str) -> list[BotSpec]:
    wanted = [
        (f"{word}-{_base(symbol)}", symbol, strategy, budget, parameters)
        for word, strategy, budget, parameters in EVERYWHERE
        for symbol in SYMBOLS
    ]
    wanted += [
        (f"{word}-{_base(symbol)}", symbol, strategy, budget, parameters)
        for word, symbol, strategy, budget, parameters in VARIANTS
    ]
    return [
        BotSpec.of(
            catalog,
            name=name,
            strategy=strategy,
            venue=venue,
            symbol=symbol,
            account=account,
            timeframe=TIMEFRAME,
            budget=budget,
            parameters=parameters,
        )
        for name, symbol, strategy, budget, parameters in wanted
    ]


def seed(
    ledger: Ledger,
    catalog: Catalog,
    now: datetime,
    *,
    venue: str,
    account: str,
    rules: Rules | None = None,
) -> Sequence[Bot]:
    """Create and start those that are not there yet; answers the new ones. Safe to run again."""
    there = set(ledger.roster.names())
    new = [
        replace(each.bot(), state=BotState.RUNNING, reason="started")
        for each in specs(catalog, venue=venue, account=account)
        if each.name not in there
    ]
    if new:
        Registry(ledger, rules).save(now, new=new, actor=ACTOR, reason="created")
    return new


def _base(symbol: str) -> str:
    return symbol.partition("-")[0].lower()
