"""A bot as it was told to be, and as it stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

NEVER = -1
MANUAL = "manual"
"""Whom people's own orders and positions belong to; no bot may have that name."""


class BotState(StrEnum):
    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bot:
    name: str
    strategy: str
    venue: str
    symbol: str
    account: str
    timeframe: str
    parameters: Mapping[str, Any]
    state: BotState = BotState.CREATED
    reason: str | None = None
    last_sequence: int = NEVER
    """Of its last committed decision; a new one says which it has seen."""
    memory: Mapping[str, Any] = field(default_factory=dict)
    last_evaluation: Mapping[str, Any] | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    version: int = 1
    """Of its configuration: market, account, timeframe, parameters, tags, shadow or not."""
    others: tuple[str, ...] = ()
    """Further symbols of its venue that its strategy looks at; the feed follows them too."""
    tags: tuple[str, ...] = ()
    is_shadow: bool = False
    """It decides and is recorded, and never orders."""
    armed_until: datetime | None = None
    """Until when it may run on an account of real money."""
