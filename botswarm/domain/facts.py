"""What a limit may need to know of an order's surroundings, beyond what all are judged by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from botswarm.domain.limits import Chain, Level, Limit, LimitKind
from botswarm.domain.standing import AtRisk, Mark

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """Of a scope's other orders that are or may be live, in the market's quote asset."""

    open_orders: int = 0
    open_buys: Decimal = ZERO
    open_sells: Decimal = ZERO

    @property
    def open_value(self) -> Decimal:
        return self.open_buys + self.open_sells


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How many other orders of a scope passed the gate."""

    last_second: int = 0
    last_minute: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """A scope as the last sweep reckoned it, and what its fills have moved since.

    ``at_risk`` is None where the scope had nothing; ``unknown`` says why nobody knows.
    """

    at_risk: AtRisk | None = None
    moved: Decimal = ZERO
    """Of each bot and market by itself, so it is never too low."""
    moved_net: Decimal = ZERO
    unknown: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Read in the transaction that judges the order; what no limit asks for is left out."""

    chain: Chain
    limits: tuple[Limit, ...] = ()
    """That were set for a scope of the chain."""
    unread: str | None = None
    """Why nobody knows what was set; nothing may grow then."""
    warned: frozenset[tuple[str, str]] = frozenset()
    """Warning lines that are crossed already: the scope whose value it is, and the kind."""
    totals: Mapping[Level, Total] = field(default_factory=dict)
    paces: Mapping[Level, Pace] = field(default_factory=dict)
    repeated: int | None = None
    """Other orders of the bot in this market, of the same side, that passed in the last minute."""
    stands: Mapping[Level, Stand] = field(default_factory=dict)
    held: Mapping[str, Decimal | None] | None = None
    """What the account holds or may come to hold, by market with the same quote asset."""
    mark: Mark | None = None
    priced_at: datetime | None = None
    """When the price it was decided on was made, by the venue's clock."""
    lowest_own_sell: Decimal | None = None
    highest_own_buy: Decimal | None = None
    """Limits of our own orders in this market and account."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What has to be read for a table of limits."""

    totals: frozenset[Level] = frozenset()
    shared: frozenset[Level] = frozenset()
    """Of scopes in which orders of several accounts count together."""
    stands: frozenset[Level] = frozenset()
    paces: bool = False
    held: bool = False
    mark: bool = False

    @classmethod
    def of(cls, limits: Iterable[Limit], chain: Chain) -> Needs:
        levels = {scope: level for level, scope in chain.items()}
        totals, stands, shared = set[Level](), set[Level](), set[Level]()
        kinds = set[LimitKind]()
        for limit in limits:
            kinds.add(limit.kind)
            level = levels[limit.scope]
            if limit.kind in COUNT_OPEN_ORDERS:
                totals.add(level)
            if limit.kind in REST_ON_A_SWEEP:
                stands.add(level)
            if level in ACROSS_ACCOUNTS and limit.kind in RESERVED:
                shared.add(level)
        if kinds & REST_ON_THE_ACCOUNT:
            stands.add(Level.ACCOUNT)
        return cls(
            totals=frozenset(totals),
            shared=frozenset(shared),
            stands=frozenset(stands),
            paces=bool(kinds & COUNT_PASSED_ORDERS),
            held=bool(kinds & REST_ON_HOLDINGS),
            mark=bool(kinds & REST_ON_A_PRICE),
        )


_K = LimitKind
COUNT_OPEN_ORDERS = {_K.OPEN_VALUE, _K.OPEN_ORDERS, _K.GROSS_EXPOSURE, _K.NET_EXPOSURE}
COUNT_PASSED_ORDERS = {_K.ORDERS_PER_SECOND, _K.ORDERS_PER_MINUTE, _K.REPEATED_EXECUTIONS}
ACROSS_ACCOUNTS = {Level.SWARM, Level.STRATEGY, Level.MARKET}
RESERVED = {*COUNT_OPEN_ORDERS, _K.ORDERS_PER_SECOND, _K.ORDERS_PER_MINUTE}
REST_ON_A_SWEEP = {
    *(_K.GROSS_EXPOSURE, _K.NET_EXPOSURE),
    *(_K.DAILY_LOSS, _K.DRAWDOWN, _K.LOSING_STREAK),
}
REST_ON_THE_ACCOUNT = {_K.CONCENTRATION, _K.GROUP_EXPOSURE, _K.LEVERAGE}
REST_ON_HOLDINGS = {_K.CONCENTRATION, _K.GROUP_EXPOSURE}
REST_ON_A_PRICE = {_K.PRICE_COLLAR, _K.SLIPPAGE, _K.DATA_AGE}
