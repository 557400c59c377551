"""What a venue's error says about the order it answers, whichever the venue."""

from __future__ import annotations

from enum import StrEnum

from botswarm.errors import Unreachable


class Meaning(StrEnum):
    NOT_PLACED = "not placed"  # the request itself is at fault: again would not help
    LATER = "not placed, later perhaps"  # nothing was placed, and the same could work later
    UNKNOWN = "unknown"  # the order may be there: only asking for it tells
    NOT_FOUND = "not found"  # inconclusive until the request's time has passed
    ENDED = "ended unfilled"  # it was there, and ended long ago without a fill

    @property
    def is_definite(self) -> bool:
        """Nothing was placed, and nothing need be asked."""
        return self in (Meaning.NOT_PLACED, Meaning.LATER)


class VenueSaidNo(Unreachable):
    """A question was answered with an error; ``meaning`` is what the table makes of it."""

    def __init__(self, meaning: Meaning, code: int | str | None, text: str) -> None:
        super().__init__(text, cure="see the venue's list of error codes")
        self.meaning = meaning
        self.code = code
