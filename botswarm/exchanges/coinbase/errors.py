"""What the words of Coinbase's error messages mean, on both of its feeds."""

from __future__ import annotations

import re

from botswarm.exchanges.reading import shown
from botswarm.exchanges.streams import GoingAway

GOING = ("slow", "too big", "going away", "maintenance", "shutting down")
"""What the venue ends connections for."""
WORDS_SHOWN_MAX = 200


def going_away(words: str) -> GoingAway | None:
    if any(sign in words.lower() for sign in GOING):
        return GoingAway(reason=reason(words))
    return None


def named(words: str) -> set[str]:
    """What may be products among them."""
    return set(re.findall(r"[\w-]+", words))


def reason(words: str) -> str:
    return shown(words, WORDS_SHOWN_MAX)
