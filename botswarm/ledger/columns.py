"""Column types that hold exactly the same value in PostgreSQL and in SQLite."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

import msgspec
from sqlalchemy import JSON, DateTime, Dialect, Numeric, String, TypeDecorator
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeEngine

from botswarm.domain.amount import plain
from botswarm.errors import BotswarmError

DECIMALS = 18
WHOLE_DIGITS = 20
LARGEST = Decimal(10) ** WHOLE_DIGITS


class NotExact(BotswarmError):
    """A bug or a mad venue: the amount cannot be kept to its last digit, so it is not kept."""


def exact(value: object) -> str:
    """``value`` as it is stored; raises NotExact for what would lose a digit on the way."""
    if not isinstance(value, Decimal):
        raise NotExact(f"{value!r} is not a Decimal, so it is no amount of money")
    if not value.is_finite():
        raise NotExact(f"{value} is no amount of money")
    if abs(value) >= LARGEST:
        raise NotExact(f"{value} has more than {WHOLE_DIGITS} digits before the point")
    text = plain(value)
    if len(text.partition(".")[2]) > DECIMALS:
        raise NotExact(f"{value} has more than {DECIMALS} decimals")
    return text


class Money(TypeDecorator[Decimal]):
    """Prices, quantities and sums: NUMERIC in PostgreSQL; in SQLite, which has no such, text."""

    impl = Numeric
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "sqlite":
            return dialect.type_descriptor(String())
        return dialect.type_descriptor(Numeric(WHOLE_DIGITS + DECIMALS, DECIMALS))

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        text = exact(value)
        return text if dialect.name == "sqlite" else Decimal(text)

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:
        if value is None:
            return None
        # PostgreSQL pads with zeros: the same amount must look the same wherever it was kept.
        return Decimal(plain(Decimal(value)))


class AsKept(TypeDecorator[Any]):
    """Money as the database hands it over: with its zeros, and in SQLite as text.

    For reading many rows of which few amounts are looked at; ``Decimal`` makes it one.
    """

    impl = Numeric
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return Money().load_dialect_impl(dialect)


class Moment(TypeDecorator[datetime]):
    """Aware and in UTC on both sides; a naive datetime is refused."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(DateTime(timezone=dialect.name != "sqlite"))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise NotExact(f"{value} says no time zone")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


Json = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
"""Plain values. Amounts and moments in it come back as text; NaN is refused."""


class Written(dict[str, Any]):
    """Plain values and the text they are kept as, which is made once and kept in many places.

    Not to be changed: the text would not follow.
    """

    __slots__ = ("text",)

    def __init__(self, values: Mapping[str, Any], text: str) -> None:
        super().__init__(values)
        self.text = text


def as_kept(values: Mapping[str, Any]) -> dict[str, Any]:
    return values if isinstance(values, Written) else dict(values)


def fast_json(value: object) -> str:
    """For plain values that we made, and that hold no NaN: it would become null."""
    try:
        return _encoder.encode(value).decode()
    except TypeError:
        # A subclass of text or number, which only the other one knows.
        return to_json(value)


_encoder = msgspec.json.Encoder()


def to_json(value: object) -> str:
    if isinstance(value, Written):
        return value.text
    return json.dumps(value, allow_nan=False, separators=(",", ":"), default=_in_words)


def _in_words(value: object) -> str:
    match value:
        case Decimal():
            return plain(value)
        case datetime():
            return value.isoformat()
        case StrEnum():
            return value.value
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
