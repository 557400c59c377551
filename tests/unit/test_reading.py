"""Numbers and frames of venues are exact, or they are left out for a reason that is named."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from botswarm.domain.market import Level
from botswarm.exchanges import reading
from botswarm.exchanges.ladder import Ladder
from botswarm.exchanges.streams import Unreadable

NOW_MS = 1_700_000_000_000


class Frame(msgspec.Struct):
    a: int = 0
    x: Any = None


decoder = msgspec.json.Decoder(Frame)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b" " * (reading.FRAME_MAX_BYTES + 1), "too_large"),
        ('{"x":' + "[" * 100_000, "too_deep"),
        ('{"unknown":' + "[" * 100_000, "too_deep"),
        (b"\xff\xfe\x00", "not_text"),
        (b'{"x":"\xff"}', "not_text"),
        ('{"x":"\ud800"}', "not_text"),
        ("", "not_json"),
        ("\ufeff{}", "not_json"),
        ('{"x":NaN}', "not_json"),
        ("CloudFlare WebSocket proxy restarting", "not_json"),
        ("<html>", "not_json"),
        ("{}{}", "not_json"),
        ('{"a":"1"}', "wrong_shape"),
        ("[]", "wrong_shape"),
        ("null", "wrong_shape"),
        ('{"x":' + "1" * 10_000 + "}", "bad_number"),
        ('{"x":1e400}', "bad_number"),
    ],
)
def test_a_frame_that_cannot_be_decoded_says_why(frame: str | bytes, reason: str) -> None:
    with pytest.raises(Unreadable) as refused:
        reading.decoded(decoder, frame)
    assert refused.value.reason == reason
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("text", ["0", "1", "0.10000000", "58.00000000", "0" * 40, "1e-8", "1E+2"])
def test_a_number_keeps_its_digits(text: str) -> None:
    assert reading.number(text) == Decimal(text)
    assert str(reading.number(text)) == str(Decimal(text))


@pytest.mark.parametrize(
    "value",
    ["", ".", "-1", "-0", "+1", " 1", "1 ", "1_0", "NaN", "sNaN", "Infinity", "1e400", "1e-99",
     "١٢", "²", "1" * 41, "1,5", "0x1", None, 1, 1.5, True, [], Decimal(1)],
)  # fmt: skip
def test_what_is_no_number_is_refused(value: object) -> None:
    with pytest.raises(Unreadable) as refused:
        reading.number(value)
    assert refused.value.reason == "bad_number"


def test_nothing_is_not_above_zero() -> None:
    with pytest.raises(Unreadable):
        reading.positive("0.000")


@pytest.mark.parametrize("value", [True, 1.0, "1", -1, 2**53 + 1, None, 2**300])
def test_an_id_is_a_whole_number_that_json_can_hold(value: object) -> None:
    with pytest.raises(Unreadable):
        reading.whole(value)


def test_ids_may_be_written_as_text_where_the_venue_does() -> None:
    assert reading.whole_text("995098700") == reading.whole_text(995098700) == 995098700
    for wrong in ("", "-1", "1.0", "²", "9" * 39, None):
        with pytest.raises(Unreadable):
            reading.whole_text(wrong)


@pytest.mark.parametrize(
    ("text", "at_ms"),
    [
        ("2021-04-17T16:44:05.540848Z", 1618677845540),
        ("2024-05-17T11:12:00.000000000Z", 1715944320000),
        ("2026-04-07 14:30:10.123999999+00:00", 1775572210123),
        ("2014-11-07T08:19:28Z", 1415348368000),
    ],
)
def test_a_time_in_words_is_read_to_the_millisecond(text: str, at_ms: int) -> None:
    assert reading.moment_of_text(text, 2 * NOW_MS) == at_ms


@pytest.mark.parametrize(
    "text", ["", "2021-04-17", "2021-04-17T16:44:05", "yesterday", "9999-12-31T23:59:59Z",
             "0001-01-01T00:00:00+23:59", "1969-12-31T23:59:59Z", None, 5, "2" * 100],
)  # fmt: skip
def test_a_time_that_cannot_be_is_refused(text: object) -> None:
    with pytest.raises(Unreadable) as refused:
        reading.moment_of_text(text, NOW_MS)
    assert refused.value.reason == "bad_time"


def test_microseconds_and_milliseconds_are_told_apart() -> None:
    assert reading.moment(1_672_515_782_136, NOW_MS) == 1_672_515_782_136
    assert reading.moment(1_672_515_782_136_999, NOW_MS) == 1_672_515_782_136
    for wrong in (NOW_MS + reading.AHEAD_MAX_MS + 1, -1, True, 1.5, "1", None):
        with pytest.raises(Unreadable):
            reading.moment(wrong, NOW_MS)


@pytest.mark.parametrize("highest_first", [True, False])
def test_a_ladder_is_what_a_sorted_dictionary_would_be(highest_first: bool) -> None:
    dice, ladder = random.Random(7), Ladder(highest_first=highest_first)
    plain: dict[Decimal, Decimal] = {}
    for step in range(3000):
        price, quantity = Decimal(dice.randrange(1, 60)), Decimal(dice.choice([0, 0, 1, 2, 3]))
        ladder.put(price, quantity)
        plain[price] = quantity
        if not quantity:
            del plain[price]
        if step % 50 == 0:
            ladder.cut(20)
            plain = dict(ordered(plain, highest_first)[:20])
        assert len(ladder) == len(plain)
        assert ladder.best(10) == tuple(ordered(plain, highest_first)[:10])
    assert ladder.best(1000) == tuple(ordered(plain, highest_first))


def ordered(plain: dict[Decimal, Decimal], highest_first: bool) -> list[Level]:
    return sorted(plain.items(), reverse=highest_first)


def test_a_level_keeps_the_digits_it_was_written_with_last() -> None:
    ladder = Ladder(highest_first=False, levels=[(Decimal("1.0"), Decimal("2.0"))])
    ladder.put(Decimal("1.00"), Decimal("3.000"))
    ((price, quantity),) = ladder.best(5)
    assert (str(price), str(quantity)) == ("1.00", "3.000")
