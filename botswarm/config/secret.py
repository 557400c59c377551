"""A value that does not show itself, and the mask for text that may carry one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NoReturn
from urllib.parse import unquote

MASK = "***"
LIKE_A_WORD = 11
"""So short a path may be an ordinary word."""

# Greedy up to the last "@" of the word: a password may hold "@" or "/" that somebody forgot to
# encode, and hiding too much of a line is the right side to err on.
_PASSWORD_IN_URL = re.compile(r"([a-zA-Z][a-zA-Z0-9+.\-]*://[^\s:/@'\"]*):([^\s'\"]*)@")
_PASSWORD_IN_QUERY = re.compile(r"([?&](?:password|passwd|token|secret)=)[^&\s'\"#]*", re.I)


class Secret:
    """Shows three stars wherever it is printed; only ``reveal()`` gives the value."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    @property
    def masked(self) -> str:
        """The value with its password hidden where it is a URL, else nothing but stars."""
        hidden = mask_urls(self._value)
        return hidden if "://" in hidden else MASK

    @property
    def hidden(self) -> tuple[str, ...]:
        """What nobody may see of it, as it is written."""
        # Of a URL only the password is worth hiding; its host is what a reader looks for.
        return (password_of(self._value) if "://" in self._value else self._value,)

    def __repr__(self) -> str:
        return f"Secret({MASK!r})"

    def __str__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(("Secret", self._value))

    # Copies are the same object: dataclasses.replace and copy.deepcopy stay possible, while
    # pickle, which would write the value into a message or a file, does not.
    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Secret:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is never pickled: send a reference to it instead")


class Address(Secret):
    """A URL to post to: whoever knows its path or its query may post there, too."""

    __slots__ = ()

    @property
    def masked(self) -> str:
        scheme, _, rest = self._value.partition("://")
        host = re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")[2]
        return f"{scheme}://{host}/{MASK}"

    @property
    def hidden(self) -> tuple[str, ...]:
        path, _, query = self._value.partition("://")[2].partition("/")[2].partition("?")
        parts = [path, *(part.partition("=")[2] for part in query.split("&"))]
        # A path such as "alerts" is no secret, and hiding the word would spoil every line.
        return (password_of(self._value), *(part for part in parts if len(part) > LIKE_A_WORD))


def mask_urls(text: str) -> str:
    """Hide the password of every URL in the text."""
    text = _PASSWORD_IN_URL.sub(rf"\1:{MASK}@", text)
    return _PASSWORD_IN_QUERY.sub(rf"\1{MASK}", text)


def password_of(url: str) -> str:
    """The password as it is written in the URL, still percent-encoded; empty where none is."""
    _, _, rest = url.partition("://")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    userinfo, _, _ = authority.rpartition("@")
    return userinfo.partition(":")[2]


class SecretMask:
    """Hides every URL password and a list of known values in any text it is shown."""

    # Shorter values would be found inside ordinary words and make every line unreadable.
    SHORTEST = 4

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        values: set[str] = set()
        for secret in secrets:
            for written in secret.hidden:
                values |= {written, unquote(written)}
        # Longest first, else a value that starts like another would leave the rest of it.
        self._values = sorted((v for v in values if len(v) >= self.SHORTEST), key=len, reverse=True)

    def __call__(self, text: str) -> str:
        text = mask_urls(text)
        for value in self._values:
            text = text.replace(value, MASK)
        return text
