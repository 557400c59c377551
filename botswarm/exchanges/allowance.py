"""What a venue lets an address and an account ask for: taken from before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping
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


class TooSoon(NotSent):
    """The allowance is used up: nothing was sent. ``until`` is when it is worth trying again."""

    def __init__(self, cause: str, until: datetime) -> None:
        super().__init__(cause, cure="wait: it is used by all processes of this address")
        self.until = until


class Allowance(Protocol):
    """Shared by every process that asks this venue from this address, or for this account."""

    def spend(self, cost: Mapping[str, int], purpose: Purpose) -> None:
        """Take the cost, by the venue's own names of its limits; raises TooSoon, and took none."""
        ...

    def heard(self, used: Mapping[str, int]) -> None:
        """What the venue says is used up by now, by the same names; its word outweighs ours."""
        ...

    def banned(self, seconds: float, reason: str) -> None:
        """Nobody of this address asks anything for so long: the venue said so."""
        ...


class Unlimited:
    """For questions to servers of one's own."""

    def spend(self, cost: Mapping[str, int], purpose: Purpose) -> None:
        pass

    def heard(self, used: Mapping[str, int]) -> None:
        pass

    def banned(self, seconds: float, reason: str) -> None:
        pass
