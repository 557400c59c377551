"""The sweep over positions: each valued at the market, and losses and exposures held to limits."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from botswarm.domain.amount import plain
from botswarm.domain.finding import Finding, Gravity, Restriction
from botswarm.domain.limits import Chain, Level, Limit, LimitKind, in_force, level_of
from botswarm.domain.permission import TradingState
from botswarm.domain.standing import AtRisk, HeldPosition, MarketExposure
from botswarm.ledger import halts
from botswarm.ledger.halts import Cause
from botswarm.ledger.limits import chain_of
from botswarm.ledger.sweeping import Snapshot
from botswarm.risk.marking import Facts, Scopes, Streak, reckon
from botswarm.sweeps.closing import close
from botswarm.sweeps.sweep import Report, Rules, Tools

READS_MAX = 5
"""Of the journal in one sweep; after an outage the next sweeps go on from there."""
BOTS_MAX = 500
"""Of so many each has its own line in every sweep; of more those that have limits do, and the
others take turns.
"""
TURNS = 12
CENTS = Decimal("0.01")
CLOSING = frozenset(f"limit:{kind}" for kind in (LimitKind.DAILY_LOSS, LimitKind.DRAWDOWN))
"""Who holds a scope whose positions are closed, where that is wanted."""
SCOPES = Scopes(
    swarm=halts.SWARM,
    account=halts.account_scope,
    market=halts.market_scope,
    strategy=halts.strategy_scope,
    bot=halts.bot_scope,
)
VALUES: Mapping[LimitKind, Callable[[AtRisk], Decimal | None]] = {
    LimitKind.GROSS_EXPOSURE: lambda each: each.gross,
    LimitKind.NET_EXPOSURE: lambda each: None if each.net is None else abs(each.net),
    LimitKind.DAILY_LOSS: lambda each: None if each.today is None else -each.today,
    LimitKind.DRAWDOWN: lambda each: each.drawdown,
    LimitKind.LOSING_STREAK: lambda each: Decimal(each.losing_streak),
}


def sweep(tools: Tools, now: datetime) -> Report:
    closed = _read_on(tools, now)
    seen = tools.ledger.sweeping.look()
    bots = _bots(seen, now)
    standings, exposures = reckon(
        _facts(seen, bots, closed, tools, now), SCOPES, frozenset(bots).__contains__
    )
    is_kept = tools.ledger.sweeping.keep(standings, exposures, now)
    findings = list(_findings(seen, standings, exposures, tools))
    broken = {one.scope for each in findings for one in each.restrictions}
    return Report(
        then=(lambda: _close(broken, seen, tools, now)) if tools.rules.closes_on_breach else None,
        looked=len(seen.positions),
        findings=findings,
        result={
            "standings": len(standings),
            "unknown": sum(each.unknown is not None for each in standings),
            "outcomes": len(closed),
            "is_newest": is_kept,
        },
    )


def _close(
    broken: Collection[str], seen: Snapshot, tools: Tools, now: datetime
) -> Mapping[str, object]:
    """For as long as the limit holds the scope: a price that comes back is no reason to stop.

    Who held it already when the limit broke is still named as its holder, so ``broken`` counts.
    """
    held = {
        halt.scope
        for halt in tools.ledger.halts.all()
        if halt.state_at(now) is TradingState.REDUCING
        and (halt.scope in broken or (halt.cause is Cause.LIMIT and halt.actor in CLOSING))
    }
    return close(held, seen, tools, now) if held else {}


def day_of(now: datetime, begins: timedelta) -> tuple[str, datetime]:
    """The trading day, and when it began."""
    day = (now.astimezone(UTC) - begins).date()
    return day.isoformat(), datetime(day.year, day.month, day.day, tzinfo=UTC) + begins


# --- what it rests on -----------------------------------------------------------------------------


def _read_on(tools: Tools, now: datetime) -> frozenset[str]:
    """Scopes that have closed something since the last sweep."""
    closed: set[str] = set()
    for _ in range(READS_MAX):
        read = tools.ledger.outcomes.read_on(now)
        closed |= {scope for each in read.outcomes for scope in each.scopes}
        if read.is_all:
            break
    return frozenset(closed)


def _bots(seen: Snapshot, now: datetime) -> Sequence[str]:
    names = sorted({held.bot for held in seen.positions})
    if len(names) <= BOTS_MAX:
        return names
    turn = int(now.timestamp()) // 5 % TURNS
    return [
        name
        for name in names
        if halts.bot_scope(name) in seen.limited or zlib.crc32(name.encode()) % TURNS == turn
    ]


def _facts(
    seen: Snapshot, bots: Sequence[str], closed: frozenset[str], tools: Tools, now: datetime
) -> Facts:
    sweeping, rules = tools.ledger.sweeping, tools.rules
    day, began = day_of(now, rules.day_begins)
    before = sweeping.before(bots)
    known = {scope for scope, _ in before}
    wanted = {halts.bot_scope(bot) for bot in bots}
    moved = [
        scope for scope in sorted(closed) if level_of(scope) is not Level.BOT or scope in wanted
    ]
    streaks = sweeping.streaks(moved)
    # Of a ledger that was never swept all are new; later only now and then a bot.
    new = None if halts.SWARM not in known else _new(bots, known)
    return Facts(
        now=now,
        day=day,
        sequence=seen.sequence,
        positions=seen.positions,
        marks=seen.marks,
        mark_age_max=rules.mark_age_max,
        before=before,
        streaks={
            scope: Streak(losing=losing, lost_at=lost_at)
            for scope, (losing, lost_at) in streaks.items()
        },
        realised_today={} if new == [] else sweeping.realised_since(began, new),
        balances=seen.balances,
    )


def _new(bots: Sequence[str], known: Collection[str]) -> list[str]:
    return [bot for bot in bots if halts.bot_scope(bot) not in known]


# --- what is held against limits ------------------------------------------------------------------


@dataclass(slots=True)
class _Limits:
    """Those in force, by chain: of ten thousand bots most share theirs."""

    said: Mapping[str, Sequence[Limit]]
    """By scope."""
    rules: Rules
    known: dict[tuple[str, ...], Sequence[Limit]]

    def of(self, chain: Chain) -> Sequence[Limit]:
        key = tuple(sorted(chain.values()))
        found = self.known.get(key)
        if found is None:
            here = [limit for scope in key for limit in self.said.get(scope, ())]
            found = self.known[key] = in_force(chain, here, self.rules.defaults)
        return found


def _findings(
    seen: Snapshot,
    standings: Sequence[AtRisk],
    exposures: Sequence[MarketExposure],
    tools: Tools,
) -> Iterator[Finding]:
    said: dict[str, list[Limit]] = {}
    for each in tools.ledger.limits.all():
        said.setdefault(each.limit.scope, []).append(each.limit)
    limits = _Limits(said, tools.rules, {})
    for standing in standings:
        chain = {level_of(standing.scope): standing.scope}
        for limit in limits.of(chain):
            value = VALUES.get(limit.kind)
            if value is None or not limit.rule.is_total:
                continue
            yield from _held_against(limit, standing, value(standing))
    equities = {(each.scope, each.quote): each.equity for each in standings}
    for exposure in exposures:
        yield from _concentrated(exposure, equities, limits)
    yield from _too_big(seen, exposures, limits)


def _held_against(limit: Limit, standing: AtRisk, value: Decimal | None) -> Iterator[Finding]:
    if value is None:
        if standing.unknown is not None and limit.setting is None:
            yield _unknown(limit, standing)
        return
    severity = _severity(limit, value)
    if severity is None:
        return
    is_breach = severity == "breach"
    amount = f"{_money(value)} {_unit(limit, standing.quote)}"
    words = (
        f"{limit.rule.words} of {standing.scope} is {amount}, "
        f"{'at or over' if is_breach else 'near'} the limit of {_money(limit.breach)}"
        f" ({limit.source})"
    )
    held = Restriction(scope=standing.scope, state=TradingState.REDUCING, is_of_a_limit=True)
    yield Finding(
        kind=limit.kind.value,
        subject=f"{standing.scope} {standing.quote}",
        scope=standing.scope,
        severity=severity,
        words=words,
        limit_value=limit.breach if is_breach else limit.warn,
        value=value,
        numbers=numbers_of(standing),
        restrictions=(held,) if is_breach and limit.rule.halts else (),
    )


def _severity(limit: Limit, value: Decimal) -> Gravity | None:
    if limit.is_broken_by(value):
        return "breach"
    return "warn" if limit.is_near(value) else None


def _unknown(limit: Limit, standing: AtRisk) -> Finding:
    words = (
        f"{limit.rule.words} of {standing.scope} is unknown, so nothing of it may grow: "
        f"{standing.unknown}"
    )
    return Finding(
        kind=f"{limit.kind}_unknown",
        subject=f"{standing.scope} {standing.quote}",
        scope=standing.scope,
        severity="warn",
        words=words,
        limit_value=limit.breach,
        numbers=numbers_of(standing),
    )


def _concentrated(
    exposure: MarketExposure, equities: Mapping[tuple[str, str], Decimal | None], limits: _Limits
) -> Iterator[Finding]:
    account = halts.account_scope(exposure.venue, exposure.account)
    market = halts.market_scope(exposure.venue, exposure.symbol)
    equity = equities.get((account, exposure.quote))
    if not equity or equity < 0 or exposure.gross is None:
        return
    chain = {Level.SWARM: halts.SWARM, Level.ACCOUNT: account, Level.MARKET: market}
    for limit in limits.of(chain):
        if limit.kind is not LimitKind.CONCENTRATION:
            continue
        value = 100 * exposure.gross / equity
        severity = _severity(limit, value)
        if severity is not None:
            yield Finding(
                kind=limit.kind.value,
                subject=f"{account} {exposure.symbol}",
                scope=account,
                severity=severity,
                words=f"{market} is {value:.1f} % of what {account} has, "
                f"{'over' if severity == 'breach' else 'near'} {_money(limit.breach)} %"
                f" ({limit.source})",
                limit_value=limit.breach,
                value=value,
                venue=exposure.venue,
                account=exposure.account,
                symbol=exposure.symbol,
                numbers={"gross": _money(exposure.gross), "equity": _money(equity)},
            )


def _too_big(
    seen: Snapshot, exposures: Iterable[MarketExposure], limits: _Limits
) -> Iterator[Finding]:
    """Positions that prices have carried over their limit: nobody ordered that, so nobody asked."""
    prices = {(each.venue, each.symbol): each.price for each in exposures}
    for held in seen.positions:
        price = prices.get((held.venue, held.symbol))
        if not held.quantity or price is None:
            continue
        limit = _limit_of_position(held, seen, limits)
        if limit is None:
            continue
        value = abs(held.quantity) * price
        severity = _severity(limit, value)
        if severity == "breach":
            yield Finding(
                kind=limit.kind.value,
                subject=f"{halts.bot_scope(held.bot)} {held.venue}:{held.symbol}",
                scope=halts.bot_scope(held.bot),
                severity="warn",
                words=f"the position of {held.bot} in {held.venue}:{held.symbol} has grown to "
                f"{_money(value)} {held.quote}, over {_money(limit.breach)} ({limit.source})",
                limit_value=limit.breach,
                value=value,
                venue=held.venue,
                account=held.account,
                symbol=held.symbol,
                bot=held.bot,
                numbers={"quantity": plain(held.quantity), "price": plain(price)},
            )


def _limit_of_position(held: HeldPosition, seen: Snapshot, limits: _Limits) -> Limit | None:
    chain = dict(chain_of(held.venue, held.account, held.strategy, held.symbol, held.bot))
    if halts.bot_scope(held.bot) not in seen.limited:
        # What was said of other bots is no business of this one: its chain is shared.
        del chain[Level.BOT]
    found = (each for each in limits.of(chain) if each.kind is LimitKind.POSITION)
    return next(found, None)


# --- words ----------------------------------------------------------------------------------------


def numbers_of(standing: AtRisk) -> dict[str, str]:
    amounts = {
        "realised": standing.realised,
        "unrealised": standing.unrealised,
        "today": standing.today,
        "peak": standing.peak,
        "equity": standing.equity,
        "gross": standing.gross,
        "net": standing.net,
    }
    found = {name: plain(_cents(value)) for name, value in amounts.items() if value is not None}
    found |= {"positions": str(standing.positions), "losing_streak": str(standing.losing_streak)}
    if standing.marked_at is not None:
        found["marked_at"] = standing.marked_at.isoformat()
    return found


def _unit(limit: Limit, quote: str) -> str:
    return quote if limit.rule.unit == "quote" else limit.rule.unit


def _money(value: Decimal) -> str:
    return plain(_cents(value))


def _cents(value: Decimal) -> Decimal:
    return value.quantize(CENTS) if abs(value) >= 1 else value.quantize(Decimal("0.00000001"))
