"""What a sweep finds wrong, with the numbers that say so and what has to hold while it stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Literal

from botswarm.domain.permission import TradingState

Gravity = Literal["info", "warn", "breach"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Restriction:
    """What has to hold while a finding stands."""

    scope: str
    state: TradingState
    is_of_a_limit: bool
    """Then only a person lifts it; anything else ends by itself."""
    until: datetime | None = None
    """Without one it ends with the finding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something a sweep found wrong, with the numbers that say so."""

    kind: str
    subject: str
    """What it is about: with the kind its identity from one sweep to the next."""
    scope: str
    severity: Gravity
    words: str
    limit_value: Decimal | None = None
    value: Decimal | None = None
    venue: str | None = None
    account: str | None = None
    symbol: str | None = None
    bot: str | None = None
    order_id: str | None = None
    numbers: Mapping[str, str] = field(default_factory=dict)
    restrictions: tuple[Restriction, ...] = ()
