"""What a venue lets an address and an account ask for: taken from before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Protocol

from botswarm.exchanges.transport import NotSent


class Purpose(IntEnum):
    """What a request is for; the lower the number, the longer it still gets through."""

    CANCEL = 0
    RESOLVE = 1  # what became of an order whose outcome is unknown
    QUERY = 2
    PLACE = 3
    MARKET = 4  # public data, history


SHARES: Mapping[Purpose, float] = {
    Purpose.CANCEL: 1.0,
    Purpose.RESOLVE: 0.95,
    Purpose.QUERY: 0.9,
    Purpose.PLACE: 0.8,
    Purpose.MARKET: 0.6,
}
"""Up to which part of a limit each purpose may go: the rest waits for what is dearer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """One limit of a venue: so much in any period, or a counter that decays.

    ``name`` is its family, with its period after a dash where there are several: a cost of
    ``ORDERS`` is taken from ``ORDERS-10S`` and from ``ORDERS-1D``.
    """

    name: str
    most: float
    period_s: float = 0.0
    """The venue counts within so long. 0.0 where its counter decays instead."""
    decay_per_s: float = 0.0
    """What a counter loses a second; a bucket that fills again with tokens is the same thing."""
    of_account: bool = False
    """Counted for the account, whoever asks; else for the address, whatever account it asks for."""
    has_reserve: bool = True
    """Whether less urgent purposes leave a part of it (``SHARES``)."""

    @property
    def family(self) -> str:
        return self.name.partition("-")[0]


class TooSoon(NotSent):
    """The allowance is used up: nothing was sent. ``until`` is when it is worth trying again."""

    def __init__(self, cause: str, until: datetime) -> None:
        super().__init__(cause, cure="wait: it is used by all processes of this address")
        self.until = until


class Allowance(Protocol):
    """Shared by every process that asks this venue from this address, or for this account."""

    def spend(self, cost: Mapping[str, int], purpose: Purpose) -> None:
        """Take the cost, by families of limits; raises TooSoon, and took none.

        A family that is counted for each market by itself is followed by a colon and its name:
        ``TRADING:BTC-USD``.
        """
        ...

    def obey(self) -> None:
        """Raises TooSoon within a ban, whichever process was told of it; takes nothing."""
        ...

    def heard(self, used: Mapping[str, int]) -> None:
        """What the venue says is used up by now, by full names; its word outweighs ours.

        Said by the thread that spent for the question it answers: what others have spent since
        then is not in it yet.
        """
        ...

    def learn(self, limits: Sequence[Limit]) -> None:
        """The venue's word on how much there is: instead of what was believed before."""
        ...

    def banned(self, seconds: float, reason: str) -> None:
        """Nobody of this address asks anything for so long: the venue said so."""
        ...

    def note_offset(self, seconds: float) -> None:
        """How far the venue's clock was found to be from ours: kept for whoever looks."""
        ...


class Unlimited:
    """For questions to servers of one's own."""

    def spend(self, cost: Mapping[str, int], purpose: Purpose) -> None:
        pass

    def obey(self) -> None:
        pass

    def heard(self, used: Mapping[str, int]) -> None:
        pass

    def learn(self, limits: Sequence[Limit]) -> None:
        pass

    def banned(self, seconds: float, reason: str) -> None:
        pass

    def note_offset(self, seconds: float) -> None:
        pass
