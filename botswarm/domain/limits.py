"""What may be risked: the kinds of limits there are, the levels they are set at, and what holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from botswarm.errors import Refused


class Level(StrEnum):
    """From the widest to the narrowest; a scope begins with the name of its level."""

    SWARM = "swarm"
    ACCOUNT = "account"
    STRATEGY = "strategy"
    MARKET = "market"
    BOT = "bot"


Chain = Mapping[Level, str]
"""The scopes that an order is in, by level."""


class LimitKind(StrEnum):
    ORDER_VALUE = "order_value"
    ORDER_QUANTITY = "order_quantity"
    PRICE_COLLAR = "price_collar"
    SLIPPAGE = "slippage"
    POSITION = "position"
    OPEN_VALUE = "open_value"
    GROSS_EXPOSURE = "gross_exposure"
    NET_EXPOSURE = "net_exposure"
    CONCENTRATION = "concentration"
    GROUP_EXPOSURE = "group_exposure"
    OPEN_ORDERS = "open_orders"
    ORDERS_PER_SECOND = "orders_per_second"
    ORDERS_PER_MINUTE = "orders_per_minute"
    REPEATED_EXECUTIONS = "repeated_executions"
    DAILY_LOSS = "daily_loss"
    DRAWDOWN = "drawdown"
    LOSING_STREAK = "losing_streak"
    DATA_AGE = "data_age"
    CLOCK_OFFSET = "clock_offset"
    LEVERAGE = "leverage"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What a kind of limit is about.

    A *total* is what belongs to a scope together, so every limit of the chain is judged by itself;
    anything else is judged for each order or bot alone, and the strictest limit of the chain
    holds. ``level`` is where the settings' default stands, and what is said there replaces it.
    """

    words: str
    unit: str
    """``quote`` and ``base`` are the market's assets."""
    is_total: bool
    level: Level
    setting: str | None = None
    subject: Level = Level.BOT
    """Of what is no total: whose value it is."""
    halts: bool = False
    """From a breach on only what shrinks a position passes, until a person resumes."""


_SWARM, _ACCOUNT, _BOT = Level.SWARM, Level.ACCOUNT, Level.BOT


def _each(
    words: str,
    unit: str,
    setting: str | None = None,
    *,
    subject: Level = _BOT,
    halts: bool = False,
) -> Rule:
    return Rule(
        words=words,
        unit=unit,
        is_total=False,
        level=_SWARM,
        setting=setting,
        subject=subject,
        halts=halts,
    )


def _total(
    words: str, unit: str, level: Level, setting: str | None = None, *, halts: bool = False
) -> Rule:
    return Rule(words=words, unit=unit, is_total=True, level=level, setting=setting, halts=halts)


_K = LimitKind
RULES: Mapping[LimitKind, Rule] = {
    _K.ORDER_VALUE: _each("order notional", "quote", "limit_order_notional_max"),
    _K.ORDER_QUANTITY: _each("order quantity", "base"),
    _K.PRICE_COLLAR: _each(
        "distance of its price beyond the market", "%", "limit_price_collar_percent"
    ),
    _K.SLIPPAGE: _each("slippage since its decision", "%"),
    _K.POSITION: _each("position", "quote", "limit_position_notional_max"),
    _K.OPEN_VALUE: _total("open notional", "quote", _ACCOUNT, "limit_open_notional_max"),
    _K.GROSS_EXPOSURE: _total("gross exposure", "quote", _ACCOUNT),
    _K.NET_EXPOSURE: _total("net exposure", "quote", _ACCOUNT),
    _K.CONCENTRATION: _each(
        "share of the account's equity in one market", "%", subject=_ACCOUNT
    ),
    _K.GROUP_EXPOSURE: _each(
        "exposure of its group of markets", "quote", subject=_ACCOUNT
    ),
    _K.OPEN_ORDERS: _total("open orders", "orders", _ACCOUNT, "limit_open_orders_max"),
    _K.ORDERS_PER_SECOND: _total("orders of the last second", "orders", _ACCOUNT),
    _K.ORDERS_PER_MINUTE: _total(
        "orders of the last minute", "orders", _BOT, "limit_orders_per_minute_max"
    ),
    _K.REPEATED_EXECUTIONS: _each(
        "orders of one side in the last minute", "orders", halts=True
    ),
    _K.DAILY_LOSS: _total("today's loss", "quote", _ACCOUNT, "limit_daily_loss_max", halts=True),
    _K.DRAWDOWN: _total("loss from the peak", "quote", _ACCOUNT, halts=True),
    _K.LOSING_STREAK: _total("losses in a row", "losses", _BOT),
    _K.DATA_AGE: _each("age of the price it was decided on", "s"),
    _K.CLOCK_OFFSET: _each(
        "distance between the venue's clock and ours",
        "s",
        "limit_clock_offset_max_s",
        subject=_ACCOUNT,
    ),
    _K.LEVERAGE: _each(
        "what the account's exposure borrows", "times its equity", subject=_ACCOUNT
    ),
}  # fmt: skip
AT_ITS_EDGE = frozenset({_K.DAILY_LOSS, _K.DRAWDOWN, _K.LOSING_STREAK})
"""Broken by what has come to the line already; of the others what goes beyond it."""
WARN_SHARE = Decimal("0.8")
"""Of a limit: where its warning line stands unless somebody says another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    scope: str
    kind: LimitKind
    breach: Decimal
    warn: Decimal | None = None
    setting: str | None = None
    """Whose default it is; None where a person has set it."""

    @property
    def rule(self) -> Rule:
        return RULES[self.kind]

    def is_broken_by(self, value: Decimal) -> bool:
        return value >= self.breach if self.kind in AT_ITS_EDGE else value > self.breach

    def is_near(self, value: Decimal) -> bool:
        """At or past the warning line; nothing at all is never near."""
        return self.warn is not None and value >= self.warn and value > 0

    @property
    def source(self) -> str:
        """Where a person changes it."""
        return self.setting or f"limit {self.kind} of {self.scope}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A line that an order's numbers have come to."""

    limit: Limit
    scope: str
    """Whose value it is."""
    value: Decimal | None
    """None where it is not known."""
    words: str
    is_breach: bool


def level_of(scope: str) -> Level:
    """Raises Refused for what names no scope."""
    word, colon, rest = scope.partition(":")
    parts = {"account": 2, "market": 2, "strategy": 1, "bot": 1}.get(word)
    is_whole = rest.count(":") == (parts or 0) - 1 and all(rest.split(":")) if colon else False
    if scope == Level.SWARM or (parts is not None and is_whole):
        return Level(word)
    raise Refused(
        f"{scope!r} is no scope",
        cure="write swarm, account:VENUE:ACCOUNT, strategy:NAME, market:VENUE:SYMBOL or bot:NAME",
    )


def in_force(chain: Chain, said: Iterable[Limit], defaults: Sequence[Limit]) -> list[Limit]:
    """What an order of this chain is held against, each default where nothing replaces it.

    ``said`` may be of other scopes too. The scope of a default is that of its chain's level.
    """
    scopes = {scope: level for level, scope in chain.items()}
    here = [limit for limit in said if limit.scope in scopes]
    replaced = {(limit.kind, scopes[limit.scope]) for limit in here}
    for default in defaults:
        level = default.rule.level
        if level in chain and (default.kind, level) not in replaced:
            here.append(_at(default, chain[level]))
    strictest: dict[LimitKind, Limit] = {}
    totals: list[Limit] = []
    for limit in here:
        if limit.rule.is_total:
            totals.append(limit)
        else:
            other = strictest.get(limit.kind)
            strictest[limit.kind] = limit if other is None else stricter(limit, other)
    order = {kind: number for number, kind in enumerate(LimitKind)}
    return sorted([*strictest.values(), *totals], key=lambda limit: order[limit.kind])


def stricter(one: Limit, other: Limit) -> Limit:
    """The one that is broken first, and the earlier of their warning lines."""
    first, second = (one, other) if one.breach < other.breach else (other, one)
    lines = [limit.warn for limit in (first, second) if limit.warn is not None]
    return Limit(
        scope=first.scope,
        kind=first.kind,
        breach=first.breach,
        warn=min(lines, default=None),
        setting=first.setting,
    )


def default(kind: LimitKind, breach: Decimal | int) -> Limit:
    """What a setting says, for every scope of its rule's level."""
    amount = Decimal(breach)
    rule = RULES[kind]
    return Limit(
        scope=rule.level,
        kind=kind,
        breach=amount,
        warn=warning_line(amount),
        setting=rule.setting,
    )


def warning_line(breach: Decimal) -> Decimal | None:
    return breach * WARN_SHARE if breach > 0 else None


def _at(default: Limit, scope: str) -> Limit:
    return Limit(
        scope=scope,
        kind=default.kind,
        breach=default.breach,
        warn=default.warn,
        setting=default.setting,
    )
