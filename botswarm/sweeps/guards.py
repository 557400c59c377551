"""The sweep of stops: each guarded position has its stop at the venue, or is watched here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal, localcontext

from botswarm.domain.finding import Finding
from botswarm.domain.instrument import Instrument
from botswarm.domain.order import (
    Order,
    OrderKind,
    OrderState,
    Side,
    protective_id,
)
from botswarm.domain.permission import TradingState
from botswarm.domain.protections import Protection, ProtectionKind
from botswarm.domain.standing import HeldPosition
from botswarm.errors import NotFound
from botswarm.ledger import halts
from botswarm.ledger.fold import EXACT, QUANTUM
from botswarm.ledger.halts import Halt
from botswarm.ledger.limits import chain_of
from botswarm.ledger.protections import Guard, Place
from botswarm.ledger.sweeping import Snapshot
from botswarm.risk.guarding import Do, Held, Plan, Stop, plan
from botswarm.sweeps import placing
from botswarm.sweeps.orders import place_of, reducing_order, under_way
from botswarm.sweeps.sweep import Report, Tools

ACTOR = "guards"
AGAIN = timedelta(seconds=30)
"""A stop that was refused is tried again after this."""
PLACED_MAX = 200
"""Orders of one sweep; the next goes on from there."""
CAME_TO_NOTHING = (OrderState.REFUSED, OrderState.REJECTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    seen: Snapshot
    protections: Mapping[str, Sequence[Protection]]
    """By scope."""
    guards: Mapping[Place, Guard]
    orders: Mapping[Place, Sequence[Order]]
    halts: Mapping[str, Halt]


@dataclass(slots=True)
class _Done:
    guards: list[Guard]
    placed: list[Order]
    cancelled: list[str]
    findings: list[Finding]


def sweep(tools: Tools, now: datetime) -> Report:
    said = [each.protection for each in tools.ledger.protections.all()]
    said = [each for each in said if each.is_of_stops]
    guards = tools.ledger.protections.guards()
    if not said and not any(each.quantity for each in guards.values()):
        return Report(looked=0)
    facts = _facts(tools, said, guards)
    done = _Done([], [], [], [])
    with localcontext(EXACT):
        for place, held in _positions(facts):
            if len(done.placed) < PLACED_MAX:
                _guard(place, held, facts, tools, now, done)
    # The number of an order first: who dies in between skips one, and never uses one twice.
    tools.ledger.protections.keep_guards(done.guards)
    if done.cancelled:
        reason = "the position is not guarded any more"
        tools.ledger.cancels.wish(done.cancelled, now, actor=ACTOR, reason=reason)
        tools.ring(now)
    placed = placing.place(done.placed, tools)
    return Report(
        looked=len(facts.seen.positions),
        findings=done.findings,
        result={"placed": placed, "cancelled": len(done.cancelled)},
    )


def _facts(tools: Tools, said: Sequence[Protection], guards: Mapping[Place, Guard]) -> _Facts:
    by_scope: dict[str, list[Protection]] = {}
    for each in said:
        by_scope.setdefault(each.scope, []).append(each)
    seen = tools.ledger.sweeping.look()
    bots = {held.bot for held in seen.positions if held.quantity} | {p[0] for p in guards}
    return _Facts(
        seen=seen,
        protections=by_scope,
        guards=guards,
        orders=under_way(bots, tools),
        halts={each.scope: each for each in tools.ledger.halts.all()},
    )


def _positions(facts: _Facts) -> Sequence[tuple[Place, HeldPosition]]:
    """Those without a stop first: stops that only move must not take up all that one sweep does."""
    found = ((place_of(held), held) for held in facts.seen.positions)
    guarded = [each for each in found if each[1].quantity or each[0] in facts.guards]
    return sorted(guarded, key=lambda each: _has_stop(each[0], facts))


def _has_stop(place: Place, facts: _Facts) -> bool:
    return any(order.is_protective for order in facts.orders.get(place, ()))


def _guard(
    place: Place, held: HeldPosition, facts: _Facts, tools: Tools, now: datetime, done: _Done
) -> None:
    before = facts.guards.get(place)
    wanted = _wanted(held, facts)
    if not wanted and (before is None or not before.quantity):
        return
    instrument = _instrument(tools, held)
    if instrument is None:
        if wanted and held.quantity:
            gone = "its venue lists no such market any more"
            done.findings.append(_unguarded(held, None, gone))
        return
    mark = facts.seen.marks.get((held.venue, held.symbol))
    is_known = mark is not None and mark.is_fresh(now, tools.rules.mark_age_max)
    is_same = before is not None and before.quantity * held.quantity > 0
    found = plan(
        Held(
            quantity=held.quantity,
            cost=held.cost,
            price=mark.price if mark is not None and is_known else None,
            best_price=before.best_price if before is not None and is_same else None,
            orders=facts.orders.get(place, ()),
            kinds=tools.kinds(held.venue, held.account),
        ),
        wanted,
        instrument,
    )
    words = found.words
    if found.do in (Do.ARM, Do.MOVE, Do.CLOSE):
        words = _hindrance(place, held, before, found, facts, tools, now)
    number = 0 if before is None else before.number
    order_id = found.current.id if found.current is not None else None
    if found.do is Do.CANCEL and found.current is not None:
        done.cancelled.append(found.current.id)
        order_id = None
    elif found.do is not Do.NOTHING and words is None:
        number += 1
        order = _order(held, found, number, now, mark.price if mark is not None else None)
        done.placed.append(order)
        order_id = order.id
    elif found.do is not Do.NOTHING and before is not None:
        order_id = before.order_id
    if found.take_over and not _halted(held, facts, now):
        number += 1
        done.placed += [
            _taking_over(held, each, number, index, now, found)
            for index, each in enumerate(found.take_over)
        ]
    done.guards.append(_kept(place, held, found, before, number, order_id, words, now))
    if words is not None and held.quantity:
        done.findings.append(_unguarded(held, found.stop, words))


def _wanted(held: HeldPosition, facts: _Facts) -> Sequence[Protection]:
    """The nearest of each kind that holds for the position."""
    chain = chain_of(held.venue, held.account, held.strategy, held.symbol, held.bot)
    nearest: dict[ProtectionKind, Protection] = {}
    for scope in chain.values():
        for each in facts.protections.get(scope, ()):
            known = nearest.get(each.kind)
            if known is None or each.parameters["percent"] < known.parameters["percent"]:
                nearest[each.kind] = each
    return list(nearest.values())


def _instrument(tools: Tools, held: HeldPosition) -> Instrument | None:
    try:
        return tools.ledger.books.instrument(held.venue, held.symbol)
    except NotFound:
        return None


def _hindrance(
    place: Place,
    held: HeldPosition,
    before: Guard | None,
    found: Plan,
    facts: _Facts,
    tools: Tools,
    now: datetime,
) -> str | None:
    """Why nothing can be sent now, where that is so."""
    if (halted := _halted(held, facts, now)) is not None:
        return halted
    if before is None or before.order_id is None or found.current is not None:
        return None
    if now - before.at >= AGAIN:
        return None
    try:
        last = tools.ledger.orders.get(before.order_id)
    except NotFound:
        return None
    if last.state in CAME_TO_NOTHING:
        return f"its last stop was {last.state}: {last.reason}"
    return None


def _halted(held: HeldPosition, facts: _Facts, now: datetime) -> str | None:
    scopes = chain_of(held.venue, held.account, held.strategy, held.symbol, held.bot).values()
    for scope in scopes:
        halt = facts.halts.get(scope)
        if halt is not None and halt.state_at(now) is TradingState.HALTED:
            return f"trading of {scope} is halted"
    return None


def _taking_over(
    held: HeldPosition, own: Order, number: int, index: int, now: datetime, found: Plan
) -> Order:
    """At market, in place of an order of the bot that rests too far away."""
    assert found.stop is not None
    return reducing_order(
        held,
        protective_id(*place_of(held), number, index),
        now,
        side=own.side,
        kind=OrderKind.MARKET,
        quantity=own.quantity,
        reference_price=found.stop.price,
        replaced=own,
    )


def _order(
    held: HeldPosition, found: Plan, number: int, now: datetime, price: Decimal | None
) -> Order:
    assert found.stop is not None
    assert found.order_kind is not None
    is_stop = found.order_kind.has_stop
    replaced = found.current
    return reducing_order(
        held,
        protective_id(*place_of(held), number),
        now,
        side=Side.closing(held.quantity),
        kind=found.order_kind,
        quantity=found.stop.quantity + (replaced.filled_quantity if replaced else 0),
        reference_price=price if price is not None else found.stop.price,
        replaced=replaced,
        limit_price=found.limit_price,
        stop_price=found.stop.price if is_stop else None,
    )


def _kept(
    place: Place,
    held: HeldPosition,
    found: Plan,
    before: Guard | None,
    number: int,
    order_id: str | None,
    words: str | None,
    now: datetime,
) -> Guard:
    bot, venue, account, symbol = place
    stop = found.stop
    is_new = before is None or number != before.number
    return Guard(
        bot=bot,
        venue=venue,
        account=account,
        symbol=symbol,
        kind=stop.kind.value if stop is not None else before.kind if before is not None else "",
        best_price=None if stop is None else stop.best_price.quantize(QUANTUM, context=EXACT),
        stop_price=stop.price if stop is not None else Decimal(0),
        quantity=held.quantity,
        order_id=order_id,
        number=number,
        at=now if is_new or before is None else before.at,
        words=words,
    )


def _unguarded(held: HeldPosition, wanted: Stop | None, words: str) -> Finding:
    market = f"{held.venue}:{held.symbol}"
    stop = "" if wanted is None else f"; it belongs at {wanted.price:f}"
    return Finding(
        kind="unguarded",
        subject=f"{halts.bot_scope(held.bot)} {held.account} {market}",
        scope=halts.bot_scope(held.bot),
        severity="warn",
        words=f"the position of {held.bot} in {market} has no stop at the venue: {words}{stop}",
        venue=held.venue,
        account=held.account,
        symbol=held.symbol,
        bot=held.bot,
        numbers={"quantity": f"{held.quantity:f}"},
    )
