"""Trading that is opened to ever more of the bots: its plan, what is measured, how it stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from itertools import pairwise

from botswarm.errors import Problem

ALL = 100
NONE = 0
ORDERS_LOOKED_AT = 100
"""The latest of a stage: a burst shows in them, however many went well before."""
FILLED_MIN = 5
"""Of the fills of fewer orders no slippage is reckoned."""
TROUBLED_MIN = 3
"""So many orders in trouble are a burst; one or two among few are none, whatever their share."""


class Watched(StrEnum):
    """What makes a stage step back when it is over its limit."""

    ERROR_RATE = "error_rate"
    """Orders without a clear answer, or that grew old on their way, in percent."""
    REJECTS = "rejects"
    """Orders that the venue refused, in percent."""
    SLIPPAGE = "slippage"
    """How much worse fills were than the prices decided on, in percent of these."""
    LOSS = "loss"
    """Since the beginning, realised and unrealised, in any one quote asset."""
    DATA_AGE = "data_age"
    """Seconds since anything was heard of the venue that has been silent for longest."""


UNITS: Mapping[Watched, str] = {
    Watched.ERROR_RATE: " %",
    Watched.REJECTS: " %",
    Watched.SLIPPAGE: " %",
    Watched.LOSS: "",
    Watched.DATA_AGE: " s",
}
OF_ORDERS = frozenset({Watched.ERROR_RATE, Watched.REJECTS, Watched.SLIPPAGE})
DEFAULT_LIMITS: Mapping[Watched, Decimal] = {
    Watched.ERROR_RATE: Decimal(5),
    Watched.REJECTS: Decimal(5),
    Watched.SLIPPAGE: Decimal(1),
    Watched.DATA_AGE: Decimal(60),
}
DEFAULT_STAGES = (10, 25, 50, ALL)


class EnablingState(StrEnum):
    RUNNING = "running"
    STEPPED_BACK = "stepped_back"  # watched on, and not opened further
    DONE = "done"
    CANCELLED = "cancelled"  # by a person
    OVERRULED = "overruled"  # somebody halted trading, or opened it otherwise
    FAILED = "failed"  # it stepped back until nothing was left

    @property
    def is_over(self) -> bool:
        return self not in (EnablingState.RUNNING, EnablingState.STEPPED_BACK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    stages: tuple[int, ...] = DEFAULT_STAGES
    """Percent of the bots, rising to all."""
    hold: timedelta
    """How long each is watched before the next begins; the last one, too."""
    abort_on: Mapping[Watched, Decimal] = field(default_factory=lambda: DEFAULT_LIMITS)

    def problem(self) -> Problem | None:
        rises = all(one < other for one, other in pairwise((NONE, *self.stages)))
        if not self.stages or not rises or self.stages[-1] != ALL:
            words = ",".join(map(str, self.stages))
            return Problem(f"the stages {words} do not rise to 100", "write them as 10,25,50,100")
        if self.hold <= timedelta(0):
            return Problem("a stage of no time is none", "hold each for a while, such as 15m")
        return None

    def after(self, share: int) -> int | None:
        return next((stage for stage in self.stages if stage > share), None)

    def before(self, share: int) -> int:
        return max((stage for stage in self.stages if stage < share), default=NONE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What was measured of a stage; None is not known."""

    orders: int = 0
    """How many the shares are of."""
    error_rate: Decimal | None = None
    rejects: Decimal | None = None
    errors: int = 0
    rejected: int = 0
    slippage: Decimal | None = None
    losses: Mapping[str, Decimal] | None = field(default_factory=dict)
    """By quote asset; a gain is negative."""
    data_age: Decimal | None = None
    silent: str | None = None
    """The venue whose prices are the oldest."""

    @property
    def loss(self) -> Decimal | None:
        if self.losses is None:
            return None
        return max(self.losses.values(), default=Decimal(0))

    def is_burst(self, watched: Watched) -> bool:
        """Whether a share is of enough orders to mean anything."""
        counts = {Watched.ERROR_RATE: self.errors, Watched.REJECTS: self.rejected}
        return counts.get(watched, TROUBLED_MIN) >= TROUBLED_MIN

    def of(self, watched: Watched) -> Decimal | None:
        value: Decimal | None = getattr(self, watched.value)
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Enabling:
    id: int
    at: datetime
    actor: str
    reason: str
    plan: Plan
    state: EnablingState
    share: int
    stage_at: datetime
    """Since when the share is what it is, and was watched without a gap."""
    evaluated_at: datetime | None = None
    figures: Figures | None = None
    ended_at: datetime | None = None
    words: str | None = None

    @property
    def next_at(self) -> datetime | None:
        """When the next stage begins, if nothing happens."""
        if self.state is not EnablingState.RUNNING:
            return None
        return self.stage_at + self.plan.hold
