"""What ledger and venue do not agree on, and what came of comparing them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

Balances = dict[str, Decimal]
"""By asset; what is nothing is left out."""


class Kind(StrEnum):
    """Whose it is."""

    LATE = "late"  # ours, and the ledger had not heard of it
    MISSING = "missing"  # ours by the ledger, and the venue does not have it
    EXTERNAL = "external"  # not ours: somebody else trades, deposits or withdraws there
    CORRECTION = "correction"  # a balance that no fill explains
    CONTRADICTION = "contradiction"  # the venue has what by the ledger cannot be there


class Fate(StrEnum):
    REPAIRED = "repaired"  # by proof: the ledger says now what the venue says
    NOTED = "noted"  # nothing has to be done about it
    RAISED = "raised"  # it stands, and stops trading, until it is gone or a person accepts it


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    kind: Kind
    subject: str
    """What it is about: the same thing has the same name in every look."""
    words: str
    fate: Fate
    asset: str | None = None
    amount: Decimal | None = None
    """What the venue has more of than the ledger."""

    @property
    def identity(self) -> tuple[str, str, Decimal | None]:
        """Two looks agree on a difference when they saw the same."""
        return self.kind.value, self.subject, self.amount


@dataclass(frozen=True, slots=True)
class Reckoned:
    """What an account has by the journal, all of it at one moment."""

    balances: Balances
    latest: tuple[Balances, ...]
    """What the latest fills did, the newest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What is known of an account's agreement with its venue."""

    opened_at: datetime | None = None
    """By the venue's clock: what happened before is part of the opening balances."""
    reconciled_at: datetime | None = None
    is_clean: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjustment:
    """What moves an account's balance in the ledger and is no fill."""

    kind: str
    """``opening``, ``external`` or ``correction``: where it came from, or went to."""
    asset: str
    amount: Decimal
    reason: str
    reference: str
    """What it is about, by name: the same is booked once."""
    actor: str = "reconciliation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    """The outcome of comparing one account with its venue."""

    venue: str
    account: str
    at: datetime
    differences: tuple[Difference, ...] = ()
    undecided: tuple[Difference, ...] = ()
    """Seen in the last look and not in the one before: the next reconciliation will tell."""
    counts: Mapping[str, int] = field(default_factory=dict)
    marks: Mapping[str, int] = field(default_factory=dict)
    """By market: up to which trade both agree, where they do."""

    @property
    def place(self) -> tuple[str, str]:
        return self.venue, self.account

    @property
    def raised(self) -> tuple[Difference, ...]:
        return tuple(each for each in self.differences if each.fate is Fate.RAISED)

    @property
    def agrees(self) -> bool:
        return not self.raised and not self.undecided
