"""Bytes in, values out: never a crash, never a changed value."""

from __future__ import annotations

import contextlib
import struct
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botswarm.broker import wire

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(max_size=30),
    st.binary(max_size=30),
    st.integers(0, 2**64 - 1).map(wire.Timestamp),
)
NAMES = st.text(max_size=40).filter(lambda name: len(name.encode()) < 256)
TABLES = st.dictionaries(
    NAMES,
    st.recursive(
        SCALARS,
        lambda inner: st.one_of(
            st.lists(inner, max_size=4), st.dictionaries(NAMES, inner, max_size=4)
        ),
        max_leaves=12,
    ),
    max_size=6,
)


@given(TABLES)
def test_a_table_written_is_read_back_the_same(table: dict[str, Any]) -> None:
    assert wire.read_table(wire.write_table(table)) == table


@given(TABLES)
def test_a_table_taken_apart_and_joined_is_byte_for_byte_the_same(table: dict[str, Any]) -> None:
    raw = wire.write_table(table)
    assert wire.join_table(wire.split_table(raw)) == raw


@given(st.binary(max_size=200))
def test_any_bytes_are_a_table_or_malformed(raw: bytes) -> None:
    with contextlib.suppress(wire.Malformed):
        wire.read_table(raw)


@given(st.binary(max_size=120))
def test_the_quick_reading_of_a_header_agrees_with_the_thorough_one(raw: bytes) -> None:
    head = bytes(12) + raw
    try:
        thorough: dict[str, bytes] | None = wire.split_properties(head)
    except wire.Malformed:
        thorough = None
    try:
        quick: wire.Essentials | None = wire.essentials(head)
    except wire.Malformed:
        quick = None
    assert (quick is None) == (thorough is None)
    if quick is not None and thorough is not None:
        persistent, priority, expiration, headers, user = quick
        assert persistent == (thorough.get("delivery_mode") == b"\x02")
        assert priority == (thorough.get("priority") or b"\0")[0]
        assert expiration == thorough.get("expiration")
        assert headers == thorough.get("headers")
        assert user == thorough.get("user_id")


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "content_type": st.binary(max_size=20),
            "headers": st.binary(max_size=40),
            "delivery_mode": st.binary(min_size=1, max_size=1),
            "priority": st.binary(min_size=1, max_size=1),
            "expiration": st.binary(max_size=10),
            "timestamp": st.binary(min_size=8, max_size=8),
            "cluster_id": st.binary(max_size=10),
        },
    )
)
def test_properties_joined_are_split_the_same(properties: dict[str, bytes]) -> None:
    head = wire.join_properties(5, properties)
    assert wire.split_properties(head) == properties
    assert head[:12] == struct.pack(">HHQ", 60, 0, 5)


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b"b\xff", -1),
        (b"B\xff", 255),
        (b"s\xff\xfe", -2),  # a 16-bit integer, as RabbitMQ and aio-pika have it
        (b"u\xff\xfe", 65534),
        (b"I\xff\xff\xff\xff", -1),
        (b"i\xff\xff\xff\xff", 2**32 - 1),
        (b"l" + b"\xff" * 8, -1),
        (b"D\x02\x00\x00\x04\xd2", Decimal("12.34")),
        (b"D\x02\xff\xff\xff\xff", Decimal("-0.01")),
        (b"f\x3f\x80\x00\x00", 1.0),
        (b"t\x01", True),
        (b"V", None),
    ],
)
def test_field_types_are_read_as_rabbitmq_reads_them(raw: bytes, value: object) -> None:
    assert wire.read_table(b"\x01k" + raw) == {"k": value}


def test_a_table_nested_without_end_is_malformed_not_a_crash() -> None:
    raw = b""
    for _ in range(5000):
        raw = b"\x01kF" + struct.pack(">I", len(raw)) + raw
    with pytest.raises(wire.Malformed, match="too deep"):
        wire.read_table(raw)


@given(st.binary())
def test_names_that_are_no_utf8_survive(raw: bytes) -> None:
    assert wire.to_bytes(wire.to_text(raw)) == raw
