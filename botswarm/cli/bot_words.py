"""Bots as the command line shows them, to programs and to people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from botswarm.domain.amount import plain

if TYPE_CHECKING:
    from botswarm.ledger.bot import Bot
    from botswarm.ledger.bots import Stand
    from botswarm.ledger.roster import Line

VERDICT_SHOWN = 60


def stand_data(stand: Stand) -> dict[str, object]:
    return {
        **bot_data(stand.bot),
        "position": plain(stand.position),
        "working_orders": len(stand.orders),
    }


def bot_data(bot: Bot) -> dict[str, object]:
    return {
        "name": bot.name,
        "strategy": bot.strategy,
        "market": f"{bot.venue}:{bot.symbol}",
        "others": list(bot.others),
        "account": bot.account,
        "timeframe": bot.timeframe,
        "parameters": dict(bot.parameters),
        "tags": list(bot.tags),
        "is_shadow": bot.is_shadow,
        "version": bot.version,
        "state": bot.state.value,
        "reason": bot.reason,
        "armed_until": bot.armed_until and bot.armed_until.isoformat(),
        "last_evaluation": bot.last_evaluation,
    }


def line_data(line: Line) -> dict[str, object]:
    return {
        "name": line.name,
        "strategy": line.strategy,
        "market": f"{line.venue}:{line.symbol}",
        "account": line.account,
        "timeframe": line.timeframe,
        "tags": list(line.tags),
        "is_shadow": line.is_shadow,
        "version": line.version,
        "state": line.state,
        "reason": line.reason,
        "position": plain(line.position),
        "verdict": line.verdict,
        "gate": line.gate,
        "nearest": line.nearest,
        "evaluated_at": line.evaluated_at,
    }


def thought(line: Line) -> str:
    """What it last made of its market, or why it does not look."""
    if line.state in ("paused", "stopped") and line.reason:
        words = line.reason
    else:
        said = [line.verdict]
        if line.gate:
            said.append(f"does not act: {line.words} ({line.gate})")
        words = "; ".join(each for each in [*said, line.nearest] if each) or "-"
    return words if len(words) <= VERDICT_SHOWN else words[: VERDICT_SHOWN - 3] + "..."
