"""Sweeps over what nobody looks after: old prices, stuck orders, accounts, processes, habits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from botswarm.domain.finding import Finding, Restriction
from botswarm.domain.order import OrderState
from botswarm.domain.permission import TradingState
from botswarm.ledger import halts, known_settings, process_guard
from botswarm.ledger.standing import RECONCILED_FOR
from botswarm.ledger.watched import FollowedMarket, StuckOrder
from botswarm.risk import patterns
from botswarm.sweeps.sweep import Report, Rules, Tools

YOUNG = timedelta(seconds=60)
"""So long a new bot's market, or a new account, may take until it is heard of."""
IN_DOUBT = (OrderState.SENDING, OrderState.UNKNOWN)
GRAVE_TIMES = 5
"""An order that is stuck for so many times as long is no delay any more."""


# --- prices ---------------------------------------------------------------------------------------


def feeds(tools: Tools, now: datetime) -> Report:
    """Markets in which bots run or positions stand, and whose price is old."""
    markets = tools.ledger.watched.markets()
    silent = [each for each in markets if _is_silent(each, tools.rules, now)]
    venues: dict[str, list[FollowedMarket]] = {}
    for each in silent:
        venues.setdefault(each.venue, []).append(each)
    findings: list[Finding] = []
    for venue, some in venues.items():
        of = sum(each.venue == venue for each in markets)
        if len(some) == of > 1:
            findings.append(_silent_venue(venue, some, now))
        else:
            findings += [_silent(each, now) for each in some]
    return Report(looked=len(markets), findings=findings, result={"silent": len(silent)})


def _is_silent(market: FollowedMarket, rules: Rules, now: datetime) -> bool:
    if market.since is not None and now - market.since < YOUNG:
        return False
    return market.marked_at is None or now - market.marked_at > rules.mark_age_max


def _silent(market: FollowedMarket, now: datetime) -> Finding:
    scope = halts.market_scope(market.venue, market.symbol)
    return Finding(
        kind="stale_feed",
        subject=scope,
        scope=scope,
        severity="breach" if market.positions else "warn",
        words=f"{_last_price(market, now)} of {market.venue}:{market.symbol}; "
        f"{market.bots} bots run there and {market.positions} positions stand",
        venue=market.venue,
        symbol=market.symbol,
        numbers=_numbers(market),
        restrictions=_while_silent([market]),
    )


def _while_silent(markets: Sequence[FollowedMarket]) -> tuple[Restriction, ...]:
    """Where nobody ever wrote prices down, nobody relies on them either."""
    scopes = [
        halts.market_scope(each.venue, each.symbol)
        for each in markets
        if each.marked_at is not None
    ]
    return tuple(
        Restriction(scope=scope, state=TradingState.REDUCING, is_of_a_limit=False)
        for scope in scopes
    )


def _silent_venue(venue: str, markets: Sequence[FollowedMarket], now: datetime) -> Finding:
    newest = max(markets, key=lambda each: each.marked_at.timestamp() if each.marked_at else 0.0)
    positions = sum(each.positions for each in markets)
    return Finding(
        kind="stale_feed",
        subject=f"venue:{venue}",
        scope=halts.SWARM,
        severity="breach" if positions else "warn",
        words=f"all {len(markets)} markets of {venue} are silent: {_last_price(newest, now)} of "
        f"{newest.symbol}; {positions} positions stand there",
        venue=venue,
        numbers={"markets": str(len(markets)), "positions": str(positions)},
        restrictions=_while_silent(markets),
    )


def _last_price(market: FollowedMarket, now: datetime) -> str:
    if market.marked_at is None:
        return "no price is known"
    return f"{(now - market.marked_at).total_seconds():.0f} s old is the last price"


def _numbers(market: FollowedMarket) -> dict[str, str]:
    found = {"bots": str(market.bots), "positions": str(market.positions)}
    if market.marked_at is not None:
        found["marked_at"] = market.marked_at.isoformat()
    return found


# --- orders ---------------------------------------------------------------------------------------


def orders(tools: Tools, now: datetime) -> Report:
    """Orders that should have moved on long ago."""
    found = tools.ledger.watched.stuck(now - tools.rules.stuck_after)
    return Report(
        looked=len(found),
        findings=[_stuck(each, tools.rules, now) for each in found],
        result={"stuck": len(found)},
    )


def _stuck(order: StuckOrder, rules: Rules, now: datetime) -> Finding:
    lasted = now - order.since
    is_grave = lasted > GRAVE_TIMES * rules.stuck_after
    what = {
        OrderState.READY: "nobody has judged it: do order workers run?",
        OrderState.APPROVED: "it was judged and not sent",
        OrderState.SENDING: "nobody knows whether it left",
        OrderState.UNKNOWN: "nobody knows what became of it",
    }.get(order.state, "its end was asked for" if order.is_ending else "it should have filled")
    scope = halts.bot_scope(order.bot)
    held = Restriction(scope=scope, state=TradingState.REDUCING, is_of_a_limit=False)
    return Finding(
        kind="stuck_order",
        subject=order.id,
        scope=scope,
        severity="breach" if is_grave else "warn",
        words=f"order {order.id} of {order.bot} in {order.venue}:{order.symbol} has been "
        f"{order.state} for {lasted.total_seconds():.0f} s: {what}",
        venue=order.venue,
        account=order.account,
        symbol=order.symbol,
        bot=order.bot,
        order_id=order.id,
        numbers={"state": order.state.value, "since": order.since.isoformat()},
        # What it holds in the end nobody knows: more of it would be a guess.
        restrictions=(held,) if is_grave and order.state in IN_DOUBT else (),
    )


# --- accounts -------------------------------------------------------------------------------------


def accounts(tools: Tools, now: datetime) -> Report:
    """Accounts that trade, and were not held against their venue or do not agree with it."""
    found = tools.ledger.watched.accounts()
    findings: list[Finding] = []
    for each in found:
        scope = halts.account_scope(each.venue, each.account)
        words: str | None = None
        if each.reconciled_at is None:
            if now - each.created_at > YOUNG:
                words = f"{scope} was never compared with its venue"
        elif abs(now - each.reconciled_at) > RECONCILED_FOR:
            ago = (now - each.reconciled_at).total_seconds()
            words = f"{scope} was last compared with its venue {ago:.0f} s ago"
        elif not each.is_clean:
            why = each.raised[0] if each.raised else "see: botswarm ledger reconcile"
            words = f"{scope} does not agree with its venue: {why}"
        if words is not None:
            findings.append(
                Finding(
                    kind="unreconciled",
                    subject=scope,
                    scope=scope,
                    severity="breach",
                    words=f"{words}; none of its orders is sent until then",
                    venue=each.venue,
                    account=each.account,
                )
            )
    return Report(looked=len(found), findings=findings)


# --- processes ------------------------------------------------------------------------------------


def processes(tools: Tools, now: datetime) -> Report:
    """Whether all processes are made of the same; what differs is held and told there. So is what
    all of them have set otherwise than before.
    """
    found = process_guard.guard(tools.ledger.database, now)
    changed = known_settings.note(tools.ledger.database, now)
    result = {
        "differences": [each.words for each in found],
        "changes": [each.words for each in changed],
    }
    return Report(looked=1, result=result)


# --- habits ---------------------------------------------------------------------------------------


def habits(tools: Tools, now: datetime) -> Report:
    """Bots whose trading is unusual."""
    begun = now - patterns.WINDOW
    traded = tools.ledger.watched.traded(begun)
    busy = patterns.busy(traded)
    before = tools.ledger.watched.counted(busy, now - patterns.NORMAL_OVER, begun) if busy else {}
    found = patterns.unusual(traded, before, now)
    return Report(looked=len(traded), findings=list(_habits(found)))


def _habits(found: Sequence[patterns.Unusual]) -> Iterator[Finding]:
    for each in found:
        scope = halts.bot_scope(each.bot)
        held = Restriction(scope=scope, state=TradingState.REDUCING, is_of_a_limit=True)
        yield Finding(
            kind=each.pattern.kind,
            subject=scope,
            scope=scope,
            severity="breach" if each.is_grave else "warn",
            words=each.words,
            bot=each.bot,
            numbers={"count": str(each.count), "of": str(each.of)},
            restrictions=(held,) if each.is_grave else (),
        )
