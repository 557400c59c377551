"""The tables of what runs, and of how trading is opened step by step."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Index, Text
from sqlalchemy.orm import Mapped, mapped_column

from botswarm.ledger.models import RowNumber, Table


class ProcessRow(Table):
    """A process of the swarm, and of what it is made; the oldest are pruned."""

    __tablename__ = "processes"

    id: Mapped[str] = mapped_column(primary_key=True)
    """Another one with every start: a pid is soon given to somebody else."""
    name: Mapped[str]
    role: Mapped[str]
    host: Mapped[str]
    pid: Mapped[int]
    version: Mapped[str]
    build: Mapped[str]
    """Of the program's own files."""
    strategies: Mapped[str | None]
    """Of the folder of strategies, where the process runs any."""
    settings: Mapped[dict[str, Any]]
    """Those that must be the same everywhere, in words."""
    started_at: Mapped[datetime]
    changed_at: Mapped[datetime]
    """Since when it has been what it is."""
    seen_at: Mapped[datetime]
    own: Mapped[dict[str, Any] | None]
    """Settings that may differ from machine to machine, in words."""


class KnownSettingsRow(Table):
    """What was set when somebody looked last, for the swarm and for each machine."""

    __tablename__ = "known_settings"

    place: Mapped[str] = mapped_column(primary_key=True)
    settings: Mapped[dict[str, Any]]
    at: Mapped[datetime]


class UptimeRow(Table):
    """A span in which the swarm was seen well again and again; what lies between was down."""

    __tablename__ = "uptimes"

    id: Mapped[int] = mapped_column(RowNumber, primary_key=True)
    began_at: Mapped[datetime]
    until: Mapped[datetime]
    """When it was seen well last."""


class EnablingRow(Table):
    """Trading that is opened to ever more bots, while something watches."""

    __tablename__ = "enablings"
    __table_args__ = (Index(None, "state"),)

    id: Mapped[int] = mapped_column(RowNumber, primary_key=True)
    at: Mapped[datetime]
    actor: Mapped[str]
    reason: Mapped[str] = mapped_column(Text)
    plan: Mapped[dict[str, Any]]
    """Its stages, how long each is held, and what makes it step back."""
    state: Mapped[str]
    share: Mapped[int]
    """Of a hundred bots, so many may grow positions."""
    stage_at: Mapped[datetime]
    """Since when the share is what it is, or since when that was watched without a gap."""
    evaluated_at: Mapped[datetime | None]
    figures: Mapped[dict[str, Any] | None]
    """What was measured last."""
    baseline: Mapped[dict[str, Any]]
    """What had been won and lost before."""
    ended_at: Mapped[datetime | None]
    words: Mapped[str | None] = mapped_column(Text)
    """Why it stepped back, waits or ended."""
