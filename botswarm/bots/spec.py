"""A bot as a person describes it: checked as a whole before the ledger hears of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from botswarm.domain.market import TIMEFRAMES_S
from botswarm.errors import BotswarmError
from botswarm.ledger.bot import MANUAL
from botswarm.ledger.bots import Bot
from botswarm.strategies.api import Strategy
from botswarm.strategies.registry import Catalog

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
PLACE = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
"""A venue, or an account there."""
SYMBOL = r"[A-Z0-9]{1,20}-[A-Z0-9]{1,20}"
TAG = r"[A-Za-z0-9][A-Za-z0-9._:-]{0,31}"
TAGS_MAX = 20
BUDGET = "budget"
"""Kept with the strategy's parameters, under this name; no strategy may use it for another."""
BUDGET_DEFAULT = Decimal(200)
BUDGET_MAX = Decimal(10**12)


class BadSpec(BotswarmError):
    """The description of a bot makes no sense; nothing was created."""

    exit_code = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class BotSpec:
    name: str
    strategy: str
    venue: str
    symbol: str
    account: str
    timeframe: str
    budget: Decimal
    """In the quote asset: the most its position and open orders may be worth."""
    parameters: Mapping[str, Any]
    """All of them, defaults included: a later version's defaults change no bot that exists."""
    others: tuple[str, ...] = ()
    """Further markets of its venue that its strategy looks at."""
    tags: tuple[str, ...] = ()
    is_shadow: bool = False

    @classmethod
    def of(
        cls,
        catalog: Catalog,
        *,
        name: str,
        strategy: str,
        venue: str,
        symbol: str,
        account: str,
        timeframe: str | None = None,
        budget: object = BUDGET_DEFAULT,
        parameters: Mapping[str, object] | None = None,
        tags: Sequence[str] = (),
        is_shadow: bool = False,
    ) -> BotSpec:
        """Raises BadSpec with every problem; alone, NotFound or BadParameters of the strategy."""
        problems = _problems(name, symbol, timeframe, budget, tags)
        for what, word in (("venue", venue), ("account", account)):
            if not re.fullmatch(PLACE, word):
                problems.append(f"{word!r} is no {what}: letters, digits, . _ and -")
        try:
            made = catalog.make(strategy, parameters or {})
        except BotswarmError as error:
            if not problems:
                raise
            raise BadSpec("; ".join([*problems, error.cause]), cure=error.cure) from None
        if any(each.name == BUDGET for each in made.parameters()):
            # Its default would take the place of what the bot was given.
            words = f"the strategy {strategy} calls a parameter {BUDGET}, which every bot has"
            problems.append(words)
        length = timeframe or made.timeframe
        amount = _amount(budget)
        if amount is None or problems:
            raise BadSpec("; ".join(problems), cure="see: botswarm bot create --help")
        return cls(
            name=name,
            strategy=made.name,
            venue=venue,
            symbol=symbol,
            account=account,
            timeframe=length,
            budget=amount,
            parameters=plain_parameters(made),
            others=tuple(other for other in made.needs().others if other != symbol),
            tags=tuple(sorted(set(tags))),
            is_shadow=is_shadow,
        )

    def bot(self) -> Bot:
        return Bot(
            name=self.name,
            strategy=self.strategy,
            venue=self.venue,
            symbol=self.symbol,
            account=self.account,
            timeframe=self.timeframe,
            parameters={BUDGET: format(self.budget, "f"), **self.parameters},
            others=self.others,
            tags=self.tags,
            is_shadow=self.is_shadow,
        )


def _problems(
    name: str, symbol: str, timeframe: str | None, budget: object, tags: Sequence[str]
) -> list[str]:
    problems = []
    if not re.fullmatch(NAME, name):
        problems.append(f"{name!r} is no name: letters, digits, . _ and -, at most 63 of them")
    if name == MANUAL:
        problems.append(f"{name!r} is the name of people's own orders: take another")
    if not re.fullmatch(SYMBOL, symbol):
        problems.append(f"{symbol!r} is no market: write it like BTC-USDT")
    if timeframe is not None and timeframe not in TIMEFRAMES_S:
        problems.append(f"{timeframe!r} is no timeframe: it is one of {', '.join(TIMEFRAMES_S)}")
    if _amount(budget) is None:
        problems.append(f"the budget is {budget!s}, not an amount over 0 such as 250 or 99.5")
    for tag in tags:
        if not re.fullmatch(TAG, tag):
            problems.append(f"{tag!r} is no tag: letters, digits, . _ : and -, at most 32 of them")
    if len(set(tags)) > TAGS_MAX:
        problems.append(f"{len(set(tags))} tags are over {TAGS_MAX}")
    return problems


def plain_parameters(strategy: Strategy) -> dict[str, Any]:
    values = {each.name: getattr(strategy, each.name) for each in strategy.parameters()}
    return {
        name: format(value, "f") if isinstance(value, Decimal) else value
        for name, value in values.items()
    }


def budget_of(bot: Bot) -> Decimal:
    """Raises BadSpec where something else wrote the bot's row."""
    amount = _amount(bot.parameters.get(BUDGET))
    if amount is None:
        raise BadSpec(
            f"the bot {bot.name} has no budget",
            cure="delete it and create it again with --budget",
        )
    return amount


def parameters_of(bot: Bot) -> dict[str, object]:
    """Those of its strategy."""
    return {name: value for name, value in bot.parameters.items() if name != BUDGET}


def _amount(given: object) -> Decimal | None:
    text = format(given, "f") if isinstance(given, Decimal) else str(given)
    if not re.fullmatch(r"[0-9]{1,13}(\.[0-9]{1,18})?", text, re.ASCII):
        return None
    amount = Decimal(text)
    return amount if 0 < amount <= BUDGET_MAX else None
