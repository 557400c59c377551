"""What bots are told to be, in versions: each change of it is a row that stays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import and_, bindparam, func, or_, select, update
from sqlalchemy.orm import Session

from botswarm.domain.amount import plain
from botswarm.domain.order import OrderState
from botswarm.errors import Refused
from botswarm.ledger.audit import audit_bots, one_or_all
from botswarm.ledger.bot import Bot
from botswarm.ledger.many import insert_all, parts, several
from botswarm.ledger.models import BotRow, BotVersionRow, InstrumentRow, OrderRow, PositionRow
from botswarm.ledger.revisions import touch


def configuration(bot: Bot) -> dict[str, Any]:
    """All that a version is about, in plain values."""
    return {
        "strategy": bot.strategy,
        "venue": bot.venue,
        "symbol": bot.symbol,
        "account": bot.account,
        "timeframe": bot.timeframe,
        "parameters": dict(bot.parameters),
        "others": list(bot.others),
        "tags": list(bot.tags),
        "is_shadow": bot.is_shadow,
    }


def create(
    session: Session, bots: Sequence[Bot], now: datetime, *, actor: str, reason: str
) -> None:
    """Raises Refused for names that are taken."""
    names = [bot.name for bot in bots]
    taken = [
        name
        for part in parts(sorted(names))
        for name in session.scalars(select(BotRow.name).where(BotRow.name.in_(part)))
    ]
    if taken:
        raise Refused(
            several(f"there is a bot {name} already" for name in taken),
            cure=f"choose another name, or see: botswarm bot show {taken[0]}",
        )
    if len(set(names)) < len(names):
        twice = sorted(name for name, count in Counter(names).items() if count > 1)
        raise Refused(
            several(f"{name} would be created twice" for name in twice),
            cure="give each a name of its own",
        )
    before = _last_versions(session, names)
    numbers = {name: before.get(name, 0) + 1 for name in names}
    insert_all(session, BotRow, [_row(bot, numbers[bot.name], now) for bot in bots])
    insert_all(
        session,
        BotVersionRow,
        [_version(bot, numbers[bot.name], now, actor, reason) for bot in bots],
    )
    after = one_or_all(Counter(bot.state.value for bot in bots))
    audit_bots(session, "bot.create", names, None, after, actor, reason, now)
    touch(session, names)


def _row(bot: Bot, version: int, now: datetime) -> dict[str, Any]:
    return {
        "name": bot.name,
        "strategy": bot.strategy,
        "venue": bot.venue,
        "symbol": bot.symbol,
        "account": bot.account,
        "timeframe": bot.timeframe,
        "parameters": dict(bot.parameters),
        "state": bot.state.value,
        "reason": bot.reason,
        "last_sequence": bot.last_sequence,
        "memory": dict(bot.memory),
        "last_evaluation": None,
        "created_at": now,
        "updated_at": now,
        "version": version,
        "others": list(bot.others) or None,
        "tags": list(bot.tags) or None,
        "is_shadow": bot.is_shadow,
        "armed_until": bot.armed_until,
    }


def edit(
    session: Session,
    bots: Sequence[Bot],
    now: datetime,
    *,
    actor: str,
    reason: str,
    forget: bool,
) -> None:
    """Raises Refused where a bot is gone, or has another version than the one that is edited."""
    names = [bot.name for bot in bots]
    there = _configured(session, names)
    problems = [
        f"{bot.name} is gone"
        if bot.name not in there
        else f"{bot.name} was changed meanwhile, to version {there[bot.name].version}"
        for bot in bots
        if bot.name not in there or there[bot.name].version != bot.version
    ]
    if problems:
        raise Refused(several(problems), cure="nothing was changed: look again, and try again")
    if left := _left_behind(session, bots, there):
        raise Refused(several(left), cure="let it sell that first, or clone it under another name")
    known = _last_versions(session, names)
    insert_all(
        session,
        BotVersionRow,
        [
            # Of bots that are older than the table of versions, or were changed by other means.
            _version(there[name], there[name].version, now, "ledger", "as it was before")
            for name in names
            if known.get(name, 0) < there[name].version
        ],
    )
    insert_all(
        session, BotVersionRow, [_version(bot, bot.version + 1, now, actor, reason) for bot in bots]
    )
    changed: dict[str, Any] = {
        name: bindparam(f"new_{name}")
        for name in ("timeframe", "parameters", "others", "tags", "is_shadow", "version")
    }
    rows = [
        {
            "bot": bot.name,
            "new_timeframe": bot.timeframe,
            "new_parameters": dict(bot.parameters),
            "new_others": list(bot.others) or None,
            "new_tags": list(bot.tags) or None,
            "new_is_shadow": bot.is_shadow,
            "new_version": bot.version + 1,
        }
        for bot in bots
    ]
    values = {**changed, "updated_at": now, **({"memory": {}} if forget else {})}
    session.connection().execute(
        update(BotRow).where(BotRow.name == bindparam("bot")).values(values), rows
    )
    _audit_edit(session, bots, there, actor, reason, now)


def _left_behind(session: Session, bots: Sequence[Bot], there: Mapping[str, Bot]) -> Sequence[str]:
    """What bots hold or have open in markets that they would look at no more: nobody would count
    it to their budgets.
    """
    gone = {bot.name: {*there[bot.name].others} - {bot.symbol, *bot.others} for bot in bots}
    found = []
    for part in parts(sorted(name for name, symbols in gone.items() if symbols)):
        held = select(PositionRow.bot, PositionRow.symbol, PositionRow.quantity, InstrumentRow)
        here = and_(
            InstrumentRow.venue == PositionRow.venue, InstrumentRow.symbol == PositionRow.symbol
        )
        held = held.outerjoin(InstrumentRow, here).where(PositionRow.bot.in_(part))
        for name, symbol, quantity, instrument in session.execute(held):
            # What commissions leave over cannot be sold, and must not bind it for ever.
            least = instrument.quantity_min if instrument is not None else 0
            if symbol in gone[name] and quantity > 0 and quantity >= least:
                found.append(f"{name} holds {plain(quantity)} of {symbol}, its market until now")
        under_way = or_(OrderRow.is_open, OrderRow.state == OrderState.READY.value)
        open_ones = select(OrderRow.bot, OrderRow.symbol).where(OrderRow.bot.in_(part), under_way)
        found += [
            f"{name} has an order open in {symbol}, its market until now"
            for name, symbol in sorted({(row[0], row[1]) for row in session.execute(open_ones)})
            if symbol in gone[name]
        ]
    return found


def _audit_edit(
    session: Session,
    bots: Sequence[Bot],
    there: Mapping[str, Bot],
    actor: str,
    reason: str,
    now: datetime,
) -> None:
    names = [bot.name for bot in bots]
    if len(bots) > 1:
        audit_bots(session, "bot.edit", names, None, {}, actor, reason, now)
        return
    old, new = configuration(there[names[0]]), configuration(bots[0])
    keys = [key for key in new if old[key] != new[key]]
    before = {key: old[key] for key in keys}
    after = {**{key: new[key] for key in keys}, "version": bots[0].version + 1}
    audit_bots(session, "bot.edit", names, before, after, actor, reason, now)


def _version(bot: Bot, number: int, now: datetime, actor: str, reason: str) -> dict[str, Any]:
    return {
        "bot": bot.name,
        "version": number,
        "at": now,
        "actor": actor,
        "reason": reason,
        "configuration": configuration(bot),
    }


def _last_versions(session: Session, names: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for part in parts(names):
        question = (
            select(BotVersionRow.bot, func.max(BotVersionRow.version))
            .where(BotVersionRow.bot.in_(part))
            .group_by(BotVersionRow.bot)
        )
        found |= dict(session.execute(question).all())
    return found


def _configured(session: Session, names: Sequence[str]) -> dict[str, Bot]:
    columns = (
        *(BotRow.name, BotRow.strategy, BotRow.venue, BotRow.symbol, BotRow.account),
        *(BotRow.timeframe, BotRow.parameters, BotRow.version, BotRow.others, BotRow.tags),
        BotRow.is_shadow,
    )
    found: dict[str, Bot] = {}
    for part in parts(names):
        for row in session.execute(select(*columns).where(BotRow.name.in_(part))).mappings():
            others, tags = tuple(row["others"] or ()), tuple(row["tags"] or ())
            found[row["name"]] = Bot(**{**row, "others": others, "tags": tags})
    return found
