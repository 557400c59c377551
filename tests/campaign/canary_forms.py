"""The forms in which a secret could leave: as it is, encoded, or within something encoded."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from urllib.parse import quote, quote_plus

SHORTEST = 8
"""What is left of shorter ones, within base64, could be found anywhere."""


def forms(secret: str) -> set[str]:
    plain = secret.encode()
    found = {
        secret,
        json.dumps(secret)[1:-1],
        quote(secret, safe=""),
        quote_plus(secret),
        plain.hex(),
        plain.hex().upper(),
        plain.hex(":"),
        repr(secret)[1:-1],
        secret[::-1],
    }
    for encode in (base64.standard_b64encode, base64.urlsafe_b64encode):
        # Wherever it begins within what was encoded, as in "user:password".
        for before in range(3):
            coded = encode(b"\0" * before + plain).decode()
            first = -(-before * 8 // 6)
            last = (before + len(plain)) * 8 // 6
            found.add(coded[first:last])
    return {each for each in found if len(each) >= SHORTEST}


def leaks(places: Mapping[str, str], secrets: Mapping[str, str]) -> list[str]:
    """Which secret stands where, never itself."""
    return [
        f"{name} stands in {place} ({_words(place_text, form)})"
        for name, secret in secrets.items()
        for form in forms(secret)
        for place, place_text in places.items()
        if form in place_text
    ]


def _words(text: str, form: str) -> str:
    """What stands around it, which helps to find who wrote it there."""
    at = text.index(form)
    return repr(f"{text[max(0, at - 60) : at]}***{text[at + len(form) : at + len(form) + 20]}")
