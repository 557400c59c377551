"""Wrong frames made from right ones: what a venue, a proxy or an enemy could send."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

STRANGERS = (
    "",
    " ",
    "\n",
    "null",
    "true",
    "[]",
    "{}",
    "[{}]",
    '""',
    "0",
    "-",
    "CloudFlare WebSocket proxy restarting",
    "<html><head><title>502 Bad Gateway</title></head></html>",
    '{"Error":"Exceeded msg rate"}',
    '{"error":{"code":2,"msg":"Invalid request"}}',
    '{"type":"error","message":"ErrSlowConsume"}',
    '{"method":"subscribe","success":false,"error":"Unsupported event"}',
    "\ufeff{}",
    "{'e':'trade'}",
    "ping",
    "\x00\x00",
    '{"e":"trade"',
    '{"e":"trade"}}',
    '{"stream":"x","data":null}',
    '{"channel":"book","type":"update","data":[]}',
)
NUMBERS = (
    "0", "-0", "-1", "1", "0.0", "1e400", "-1e400", "1e-400", "1e9", "1E+2", "NaN", "Infinity",
    "-Infinity", "00", "1.", ".5", "0x10", "1_000", "9007199254740993", "18446744073709551616",
    "340282366920938463463374607431768211456", "0.1" + "0" * 60, "1" * 41, "1" * 400, "1" * 5000,
    "99999999999999", "253402300800001", "1e18",
)  # fmt: skip
TEXTS = (
    "", " ", "\u0000", "\u202e", "💥", "这是测试币", "É", "\ud800", "a" * 300, "BTC-USDT", "../..",
    "' OR 1=1", "buy", "SELL", "trade", "nan", "None", "2021-04-17", "2021-04-17T16:43:30Z",
    "9999-12-31T23:59:59.999999999Z", "2021-02-30T00:00:00Z", "2021-04-17T16:43:30+99:99",
    "\uff11\uff12",
)  # fmt: skip
DEEP = 100_000
HUGE = 1_100_000
RARE = 1000
"""One in so many frames is a very large or very deep one: those alone would fill the time."""

Json = Any


class Literal(str):
    """A number with its digits, or any other text that is written without quotes."""

    __slots__ = ()


class Twice:
    """An object that says one of its keys twice."""

    def __init__(self, fields: dict[str, Json], key: str, value: Json) -> None:
        self.fields, self.key, self.value = fields, key, value


def parsed(text: str) -> Json:
    return json.loads(text, parse_float=Literal, parse_int=Literal, parse_constant=Literal)


def written(value: Json) -> str:
    if isinstance(value, Literal):
        return str(value)
    if isinstance(value, Twice):
        first = written(value.fields)[1:-1]
        return f"{{{first},{json.dumps(value.key)}:{written(value.value)}}}"
    if isinstance(value, dict):
        fields = ",".join(f"{json.dumps(key)}:{written(each)}" for key, each in value.items())
        return f"{{{fields}}}"
    if isinstance(value, list):
        return f"[{','.join(map(written, value))}]"
    return json.dumps(value, ensure_ascii=False)


class FeedMutator:
    """Every choice is the dice's: a seed gives the same frames again."""

    def __init__(self, dice: random.Random, corpus: Sequence[str]) -> None:
        self.dice = dice
        self._corpus = corpus
        self._shaped: Sequence[Callable[[Json], Json]] = (
            self._drop, self._retype, self._number, self._text, self._again, self._rename,
            self._swap, self._splice, self._grow, self._shift, self._nest,
        )  # fmt: skip
        self._raw: Sequence[Callable[[bytearray], None]] = (
            self._flip, self._cut, self._insert, self._delete, self._double, self._control,
        )  # fmt: skip

    def frame(self) -> tuple[str, str | bytes]:
        """The name of what was done, and the frame."""
        roll = self.dice.random()
        if roll < 1 / RARE:
            return self._monster()
        if roll < 0.03:
            return "stranger", self._stranger()
        text = self.dice.choice(self._corpus)
        names: list[str] = []
        if roll < 0.75:
            value = parsed(text)
            for _ in range(1 if self.dice.random() < 0.7 else self.dice.randint(2, 4)):
                change = self.dice.choice(self._shaped)
                names.append(change.__name__)
                value = change(value)
            text = written(value)
        if roll > 0.7:
            raw = bytearray(text.encode(errors="surrogatepass"))
            change_raw = self.dice.choice(self._raw)
            names.append(change_raw.__name__)
            change_raw(raw)
            return "+".join(names), bytes(raw)
        # Sockets give bytes; some tools give text.
        if self.dice.random() < 0.1:
            return "+".join(names), text
        return "+".join(names), text.encode(errors="surrogatepass")

    # --- whole frames -------------------------------------------------------------------------

    def _stranger(self) -> str | bytes:
        if self.dice.random() < 0.3:
            return self.dice.randbytes(self.dice.randint(0, 80))
        return self.dice.choice(STRANGERS)

    def _monster(self) -> tuple[str, str | bytes]:
        text = self.dice.choice(self._corpus)
        body = text[:-1] if text.endswith("}") else text
        kind = self.dice.choice(("deep_array", "deep_object", "huge_text", "huge_number", "keys"))
        inside = {
            "deep_array": "[" * DEEP,
            "deep_object": '{"a":' * (DEEP // 4),
            "huge_text": '"' + "x" * HUGE + '"}',
            "huge_number": "1" * 500_000 + "}",
            "keys": "{" + ",".join(f'"{number}":0' for number in range(20_000)) + "}}",
        }[kind]
        return kind, f'{body},"zz":{inside}'.encode()

    # --- its shape ----------------------------------------------------------------------------

    def _places(self, value: Json) -> list[tuple[Json, Any]]:
        """Every (container, key) there is."""
        found, ahead = list[tuple[Json, Any]](), [value]
        while ahead:
            here = ahead.pop()
            if isinstance(here, Twice):
                here = here.fields
            if isinstance(here, dict):
                found += [(here, key) for key in here]
                ahead += here.values()
            elif isinstance(here, list):
                found += [(here, index) for index in range(len(here))]
                ahead += here
        return found

    def _at(self, value: Json, change: Callable[[Json], Json]) -> Json:
        """``change`` at a place of the dice's."""
        if places := self._places(value):
            container, key = self.dice.choice(places)
            container[key] = change(container[key])
            return value
        return change(value)

    def _drop(self, value: Json) -> Json:
        if places := self._places(value):
            container, key = self.dice.choice(places)
            del container[key]
        return value

    def _retype(self, value: Json) -> Json:
        def change(old: Json) -> Json:
            new = self.dice.choice(("text", "number", "list", "object", None, True, False))
            match new:
                case "text":
                    return str(old) if isinstance(old, str) else written(old)
                case "number":
                    return Literal(old) if isinstance(old, str) and old else Literal("7")
                case "list":
                    return [old]
                case "object":
                    return {"a": old}
            return new

        return self._at(value, change)

    def _number(self, value: Json) -> Json:
        number = self.dice.choice(NUMBERS)
        as_text = self.dice.random() < 0.5
        return self._at(value, lambda old: number if as_text else Literal(number))

    def _text(self, value: Json) -> Json:
        return self._at(value, lambda old: self.dice.choice(TEXTS))

    def _again(self, value: Json) -> Json:
        """A key twice, or an element of a list."""

        def change(old: Json) -> Json:
            if isinstance(old, dict) and old:
                key = self.dice.choice(list(old))
                return Twice(old, key, self.dice.choice((old[key], None, Literal("1"), "x")))
            if isinstance(old, list) and old:
                return [*old, self.dice.choice(old)]
            return old

        return change(value) if self.dice.random() < 0.3 else self._at(value, change)

    def _rename(self, value: Json) -> Json:
        def change(old: Json) -> Json:
            if isinstance(old, dict) and old:
                key = self.dice.choice(list(old))
                old[self.dice.choice((key.upper(), key.lower(), key[::-1], "", "e", "s"))] = (
                    old.pop(key)
                )
            return old

        return change(value) if self.dice.random() < 0.5 else self._at(value, change)

    def _swap(self, value: Json) -> Json:
        if len(places := self._places(value)) >= 2:
            (one, first), (other, second) = self.dice.sample(places, 2)
            # One may lie within the other; a circle could not be written.
            if not isinstance(one[first], dict | list | Twice) and not isinstance(
                other[second], dict | list | Twice
            ):
                one[first], other[second] = other[second], one[first]
        return value

    def _splice(self, value: Json) -> Json:
        """A part of another frame, maybe of another venue's."""
        other = parsed(self.dice.choice(self._corpus))
        if places := self._places(other):
            container, key = self.dice.choice(places)
            other = container[key]
        return self._at(value, lambda old: other)

    def _grow(self, value: Json) -> Json:
        def change(old: Json) -> Json:
            times = self.dice.choice((0, 2, 50))
            if isinstance(old, list):
                return old * times
            return Literal(old * 3) if isinstance(old, Literal) else [old] * times

        return self._at(value, change)

    def _shift(self, value: Json) -> Json:
        """A whole number a little or much larger or smaller: ids, sequences, times."""
        places = [
            (container, key)
            for container, key in self._places(value)
            if isinstance(container[key], str) and container[key].isdigit()
            if len(container[key]) < 50
        ]
        if places:
            container, key = self.dice.choice(places)
            old = container[key]
            by = self.dice.choice((1, -1, 2, -2, 1000, -1000, 86_400_000, -86_400_000, 10**15))
            container[key] = type(old)(str(int(old) + by))
        return value

    def _nest(self, value: Json) -> Json:
        depth = self.dice.choice((1, 2, 60, 400))
        opening, closing = self.dice.choice((("[", "]"), ('{"a":', "}")))
        return self._at(
            value, lambda old: Literal(opening * depth + written(old) + closing * depth)
        )

    # --- its bytes ----------------------------------------------------------------------------

    def _flip(self, raw: bytearray) -> None:
        for _ in range(self.dice.randint(1, 4)):
            if raw:
                raw[self.dice.randrange(len(raw))] ^= 1 << self.dice.randrange(8)

    def _cut(self, raw: bytearray) -> None:
        del raw[self.dice.randrange(len(raw) + 1) :]

    def _insert(self, raw: bytearray) -> None:
        place = self.dice.randrange(len(raw) + 1)
        raw[place:place] = self.dice.choice(
            (b"\x00", b"\xff\xfe", b"\xed\xa0\x80", b'"', b"{", b"]", b",", b"\xef\xbb\xbf", b"-")
        )

    def _delete(self, raw: bytearray) -> None:
        place = self.dice.randrange(len(raw) + 1)
        del raw[place : place + self.dice.randint(1, 9)]

    def _double(self, raw: bytearray) -> None:
        raw += bytes(raw)

    def _control(self, raw: bytearray) -> None:
        if raw:
            raw[self.dice.randrange(len(raw))] = self.dice.randrange(32)
