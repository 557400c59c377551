"""What every venue's frames are held to: size, depth, and numbers that are exact and possible."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

import msgspec

from botswarm.exchanges.streams import Unreadable

# Longer numbers are somebody's mistake, and arithmetic with them would take for ever.
DIGITS_MAX = 40
ID_MAX = 2**53
AHEAD_MAX_MS = 3_600_000
"""A venue's clock further ahead of ours is a garbled number: candles up to it would be closed."""
FRAME_MAX_BYTES = 67_108_864
"""The most that anybody can set: connections hold frames to what is set, and to their venue's."""
TEXT_SHOWN_MAX = 50
WORDS_SHOWN_MAX = 200
"""An error names the way to its place, which is as long as the frame is deep."""
MILLISECONDS_END = 10**14
"""The year 5138: larger times are not in milliseconds but in microseconds."""

# No sign: prices, quantities and counts have none. Exponents come where a venue sends floats.
_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)

T = TypeVar("T")


def decoded(decoder: msgspec.json.Decoder[T], frame: str | bytes) -> T:
    """The frame's JSON; raises Unreadable with the reason why there is none."""
    if len(frame) > FRAME_MAX_BYTES:
        raise Unreadable("too_large", f"a frame of {len(frame)} bytes, over {FRAME_MAX_BYTES}")
    try:
        return decoder.decode(frame)
    except msgspec.ValidationError as error:
        # Integers over 64 bits and floats like 1e400 are told as validation errors too.
        reason = "bad_number" if "out of range" in str(error) else "wrong_shape"
        raise Unreadable(reason, str(error)[:WORDS_SHOWN_MAX]) from error
    except RecursionError as error:
        raise Unreadable("too_deep", "more nested than anything the venue sends") from error
    except UnicodeError as error:
        raise Unreadable("not_text", f"not UTF-8: {error}") from error
    except msgspec.DecodeError as error:
        raise _not_json(frame, error) from error


def _not_json(frame: str | bytes, error: msgspec.DecodeError) -> Unreadable:
    try:
        text = frame if isinstance(frame, str) else frame.decode()
    except UnicodeDecodeError:
        return Unreadable("not_text", "bytes that are no UTF-8")
    return Unreadable("not_json", f"{error}: {shown(text)}")


def number(text: Any) -> Decimal:
    """Not negative and finite, with every digit of the text."""
    if type(text) is str and len(text) <= DIGITS_MAX:
        # Digits and at most one point is what venues write; Decimal alone would also take
        # "1_000", " 1" and digits of other alphabets.
        if text.isascii() and text.replace(".", "", 1).isdigit():
            return Decimal(text)
        if _NUMBER.fullmatch(text) and abs((value := Decimal(text)).adjusted()) < DIGITS_MAX:
            return value
    raise Unreadable("bad_number", f"not a price or quantity: {shown(text)}")


def positive(text: Any) -> Decimal:
    if value := number(text):
        return value
    raise Unreadable("bad_number", f"not above zero: {shown(text)}")


def whole(value: Any) -> int:
    """An id or a count, exactly as JSON's integer; ``True`` and ``1.0`` are none."""
    if type(value) is int and 0 <= value <= ID_MAX:
        return value
    raise Unreadable("bad_number", f"not an id or a count: {shown(value)}")


def whole_text(value: Any) -> int:
    """An id that some venues write as text and others as a number."""
    if type(value) is str and len(value) <= DIGITS_MAX and value.isascii() and value.isdigit():
        return whole(int(value))
    return whole(value)


def moment(value: Any, received_ms: int) -> int:
    """Milliseconds since 1970 of a number of milliseconds or microseconds."""
    if type(value) is not int or value < 0:
        raise Unreadable("bad_time", f"not a time: {shown(value)}")
    return _come(value if value < MILLISECONDS_END else value // 1000, received_ms)


def _come(at_ms: int, received_ms: int) -> int:
    if 0 <= at_ms <= received_ms + AHEAD_MAX_MS:
        return at_ms
    raise Unreadable("bad_time", f"before 1970, or not yet come: {at_ms} ms")


def moment_of_text(text: Any, received_ms: int) -> int:
    """Milliseconds since 1970 of RFC 3339, with as many digits of the second as there are."""
    if type(text) is not str or len(text) > DIGITS_MAX:
        raise Unreadable("bad_time", f"not a time: {shown(text)}")
    try:
        at_ms = (datetime.fromisoformat(text) - _EPOCH) // _MILLISECOND
    except (ValueError, TypeError, OverflowError) as error:
        # TypeError is a time without its zone.
        raise Unreadable("bad_time", f"not a time: {shown(text)}") from error
    return _come(at_ms, received_ms)


def shown(value: Any, most: int = TEXT_SHOWN_MAX) -> str:
    """What a person may see of it, however long or strange it is."""
    return ascii(value[:most] if isinstance(value, str) else _short(value, most))


def _short(value: Any, most: int) -> str:
    if isinstance(value, int) and value.bit_length() > 256:
        return "a number of very many digits"
    return str(value)[:most]
