"""Of whom a command about the trading state is, and until when: options that its verbs share."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from botswarm.cli.moments import MOMENT, Duration
from botswarm.cli.order_words import pair_of


def scoped(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--bot --strategy --market --account``: one of them, or the swarm."""
    for option in (
        click.option("--account", metavar="VENUE:ACCOUNT", help="Of this account only."),
        click.option("--market", metavar="VENUE:SYMBOL", help="In this market only."),
        click.option("--strategy", metavar="NAME", help="Of the bots of this strategy only."),
        click.option("--bot", metavar="NAME", help="Of this bot only."),
    ):
        function = option(function)
    return function


def ending(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--until --for``: by itself, and when."""
    for option in (
        click.option("--for", "duration", type=Duration(), help="For so long, such as 30m or 2h."),
        click.option("--until", type=MOMENT, help="Up to then, such as 14:05 (today, UTC)."),
    ):
        function = option(function)
    return function


def scope_of(options: dict[str, Any]) -> str:
    """Take what ``scoped`` put there out of a command's options; raises Refused for no scope."""
    from botswarm.domain.limits import level_of

    scope = _scope_of(options)
    level_of(scope)
    return scope


def _scope_of(options: dict[str, Any]) -> str:
    from botswarm.ledger import halts

    given = {name: options.pop(name) for name in ("bot", "strategy", "market", "account")}
    named = {name: value for name, value in given.items() if value is not None}
    if len(named) > 1:
        raise click.UsageError("name one of --bot, --strategy, --market and --account")
    match named:
        case {"bot": bot}:
            return halts.bot_scope(bot)
        case {"strategy": strategy}:
            return halts.strategy_scope(strategy)
        case {"market": market}:
            venue, symbol = pair_of(market, "--market", "simulated:BTC-USDT")
            return halts.market_scope(venue, symbol.upper())
        case {"account": account}:
            return halts.account_scope(*pair_of(account, "--account", "simulated:paper"))
    return halts.SWARM


def until_of(options: dict[str, Any]) -> datetime | None:
    """Take what ``ending`` put there out of a command's options."""
    until, duration = options.pop("until"), options.pop("duration")
    if until is not None and duration is not None:
        raise click.UsageError("--until and --for say the same: give one of them")
    if duration is not None:
        return datetime.now(UTC) + timedelta(seconds=duration)
    return until if until is None else until.astimezone(UTC)
