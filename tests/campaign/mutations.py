"""Every way in which a frame can be wrong, made from frames that were right."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence
from typing import Any

from amqp.serialization import loads

from tests.campaign.frames import (
    BASIC_PUBLISH,
    BODY,
    CLIENT_METHODS,
    FRAME_END,
    HEAD,
    HEADER,
    HEARTBEAT,
    METHOD,
    PROTOCOL_HEADER,
    Frame,
    method,
)

Unit = Sequence[Frame]
"""A method, or a publish with its header and bodies: what is sent together."""

STRINGS = (
    b"",
    b"\xff\xfe\xc0\xaf",
    b"x" * 255,
    b"amq.forbidden",
    b"amq.topic",
    b"\0\0\0",
    b"no.such.thing",
    b"\xed\xa0\x80",
    b"a.*.#.b",
    "ünïcode".encode(),
)
NUMBERS = (0, 1, 2, 127, 128, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1)
WIDTHS = {"o": 1, "B": 2, "l": 4, "L": 8}
ARGUMENT_NAMES = (
    b"x-message-ttl",
    b"x-expires",
    b"x-max-length",
    b"x-max-length-bytes",
    b"x-max-priority",
    b"x-overflow",
    b"x-dead-letter-exchange",
    b"x-dead-letter-routing-key",
    b"x-dead-letter-strategy",
    b"x-queue-type",
    b"x-delivery-limit",
    b"x-single-active-consumer",
    b"x-priority",
    b"x-match",
    b"alternate-exchange",
    b"x-death",
    b"CC",
    b"BCC",
)
TABLE_TYPES = b"tbBsuIilLfdDTSAFVxUknZ?\0"


class Mutator:
    """Makes one wrong unit out of a right one; every choice follows from ``dice``."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice

    def mutate(self, unit: Unit) -> tuple[str, bytes]:
        """The kind of mutation and the bytes to send, one frame of which is wrong."""
        meaning = self.dice.random() < 0.8
        kinds = MEANING if meaning else FRAMING
        weights = MEANING_WEIGHTS if meaning else FRAMING_WEIGHTS
        chosen = self.dice.choices(kinds, weights)[0]
        return chosen.__name__, chosen(self, list(unit))

    # -- what it means is wrong, the framing is right

    def flip_bits(self, unit: list[Frame]) -> bytes:
        def flip(payload: bytearray) -> None:
            for _ in range(self.dice.randint(1, 4)):
                if payload:
                    payload[self.dice.randrange(len(payload))] ^= 1 << self.dice.randrange(8)

        return self._changed(unit, flip)

    def flip_an_argument_bit(self, unit: list[Frame]) -> bytes:
        """Leaves class and method alone, so that the handler itself is reached."""

        def flip(payload: bytearray) -> None:
            if len(payload) > 4:
                payload[self.dice.randrange(4, len(payload))] ^= 1 << self.dice.randrange(8)

        return self._changed(unit, flip)

    def insert_or_delete(self, unit: list[Frame]) -> bytes:
        def change(payload: bytearray) -> None:
            place = self.dice.randrange(len(payload) + 1)
            if self.dice.random() < 0.5:
                payload[place:place] = self.dice.randbytes(self.dice.randint(1, 9))
            else:
                del payload[place : place + self.dice.randint(1, 9)]

        return self._changed(unit, change)

    def argument(self, unit: list[Frame]) -> bytes:
        """One argument replaced by an extreme one of the same type; everything still parses."""
        frame = unit[0]
        name = frame.method
        letters = CLIENT_METHODS.get(name) if name else None
        if not letters or name is None:
            return self.flip_bits(unit)
        try:
            values, _ = loads(letters, frame.payload, 4)
        except Exception:  # py-amqp's parser raises whatever it meets; this is a foreign frame
            return self.flip_bits(unit)
        place = self.dice.randrange(len(letters))
        unit[0] = method(frame.channel, name, self._encode(letters, list(values), place))
        return _join(unit)

    def other_method(self, unit: list[Frame]) -> bytes:
        """The arguments of one method under the name of another, or of none."""
        if self.dice.random() < 0.7:
            name = self.dice.choice(list(CLIENT_METHODS))
        else:
            name = (self.dice.choice((0, 10, 20, 30, 60, 90, 110, 65535)), self.dice.randrange(200))
        unit[0] = method(unit[0].channel, name, unit[0].payload[4:])
        return _join(unit)

    def other_channel(self, unit: list[Frame]) -> bytes:
        place = self.dice.randrange(len(unit))
        frame = unit[place]
        channel = self.dice.choice((0, 1, 2, 900, 2047, 2048, 65535))
        unit[place] = Frame(frame.type, channel, frame.payload)
        return _join(unit)

    def duplicate(self, unit: list[Frame]) -> bytes:
        place = self.dice.randrange(len(unit))
        unit.insert(place, unit[place])
        return _join(unit)

    def swap_or_drop(self, unit: list[Frame]) -> bytes:
        if len(unit) == 1:
            return self.duplicate(unit)
        if self.dice.random() < 0.5:
            first, second = self.dice.sample(range(len(unit)), 2)
            unit[first], unit[second] = unit[second], unit[first]
        else:
            del unit[self.dice.randrange(len(unit))]
        return _join(unit)

    def body_size(self, unit: list[Frame]) -> bytes:
        """A content header that promises more, less or absurdly more than follows."""
        for place, frame in enumerate(unit):
            if frame.type == HEADER and len(frame.payload) >= 12:
                promised = int.from_bytes(frame.payload[4:12], "big")
                size = self.dice.choice((0, promised + 1, max(promised - 1, 0), *NUMBERS))
                payload = frame.payload[:4] + struct.pack(">Q", size) + frame.payload[12:]
                unit[place] = Frame(HEADER, frame.channel, payload)
                return _join(unit)
        return self.argument(unit)

    def property_flags(self, unit: list[Frame]) -> bytes:
        for place, frame in enumerate(unit):
            if frame.type == HEADER and len(frame.payload) >= 14:
                flags = self.dice.choice((0xFFFF, 0x0001, 0xFFFE, self.dice.randrange(65536)))
                payload = frame.payload[:12] + struct.pack(">H", flags) + frame.payload[14:]
                unit[place] = Frame(HEADER, frame.channel, payload)
                return _join(unit)
        return self.other_method(unit)

    def content_with_headers(self, unit: list[Frame]) -> bytes:
        """A publish whose header table is anything at all."""
        channel = unit[0].channel
        table = self._table(self.dice.choice((0, 1, 3)))
        body = self.dice.randbytes(self.dice.randrange(40))
        properties = struct.pack(">H", 0x2000) + table
        header = struct.pack(">HHQ", 60, 0, len(body)) + properties
        publish = method(channel, BASIC_PUBLISH, b"\0\0\x09amq.topic\x03a.b\0")
        frames = [publish, Frame(HEADER, channel, header)]
        if body:
            frames.append(Frame(BODY, channel, body))
        return _join(frames)

    def stray_content(self, unit: list[Frame]) -> bytes:
        """A header or a body that no method announced."""
        channel = unit[0].channel
        if self.dice.random() < 0.5:
            return bytes(Frame(BODY, channel, self.dice.randbytes(20)))
        return bytes(Frame(HEADER, channel, struct.pack(">HHQH", 60, 0, 5, 0)))

    def heartbeat(self, unit: list[Frame]) -> bytes:
        payload = self.dice.randbytes(self.dice.choice((0, 1, 100)))
        return bytes(Frame(HEARTBEAT, self.dice.choice((0, unit[0].channel)), payload))

    # -- the framing is wrong

    def frame_end(self, unit: list[Frame]) -> bytes:
        wrong = bytearray(bytes(unit[-1]))
        wrong[-1] = self.dice.choice((0, 0xCD, 0xFF))
        return _join(unit[:-1]) + bytes(wrong)

    def frame_type(self, unit: list[Frame]) -> bytes:
        place = self.dice.randrange(len(unit))
        frame = unit[place]
        other = self.dice.choice((0, METHOD, HEADER, BODY, 4, 5, 7, HEARTBEAT, 9, 65, 255))
        unit[place] = Frame(other, frame.channel, frame.payload)
        return _join(unit)

    def frame_size(self, unit: list[Frame]) -> bytes:
        frame = unit[0]
        size = len(frame.payload)
        wrong = self.dice.choice((0, size + 1, max(size - 1, 0), 131_065, *NUMBERS[:12])) % 2**32
        head = HEAD.pack(frame.type, frame.channel, wrong)
        return head + frame.payload + bytes((FRAME_END,)) + _join(unit[1:])

    def oversized(self, unit: list[Frame]) -> bytes:
        """Really that large, not only in the size field."""
        size = self.dice.choice((131_065, 140_000))
        return bytes(Frame(self.dice.choice((METHOD, HEADER, BODY)), unit[0].channel, b"\1" * size))

    def truncated(self, unit: list[Frame]) -> bytes:
        whole = _join(unit)
        return whole[: self.dice.randrange(1, len(whole))]

    def greeting_again(self, unit: list[Frame]) -> bytes:
        return PROTOCOL_HEADER + _join(unit)

    def noise(self, unit: list[Frame]) -> bytes:
        return self.dice.randbytes(self.dice.randint(1, 64))

    # -- parts

    def _changed(self, unit: list[Frame], change: Callable[[bytearray], None]) -> bytes:
        place = self.dice.randrange(len(unit))
        frame = unit[place]
        payload = bytearray(frame.payload)
        change(payload)
        unit[place] = Frame(frame.type, frame.channel, bytes(payload))
        return _join(unit)

    def _encode(self, letters: str, values: list[Any], wrong: int) -> bytes:
        """All arguments, the one at ``wrong`` replaced."""
        parts: list[bytes] = []
        bits = 0
        for place, (letter, value) in enumerate(zip(letters, values, strict=False)):
            if letter == "b":
                bit = not value if place == wrong else bool(value)
                if bits % 8 == 0:
                    parts.append(b"\0")
                parts[-1] = bytes((parts[-1][0] | bit << bits % 8,))
                bits += 1
                continue
            bits = 0
            parts.append(self._wrong(letter) if place == wrong else _right(letter, value))
        return b"".join(parts)

    def _wrong(self, letter: str) -> bytes:
        if letter in WIDTHS:
            width = WIDTHS[letter]
            number = self.dice.choice(NUMBERS) % (1 << 8 * width)
            return number.to_bytes(width, "big")
        if letter == "s":
            text = self.dice.choice(STRINGS)
            length = len(text) if self.dice.random() < 0.8 else self.dice.randrange(256)
            return bytes((length,)) + text
        if letter == "S":
            text = self.dice.choice(STRINGS)
            length = len(text) if self.dice.random() < 0.8 else self.dice.choice(NUMBERS) % 2**32
            return length.to_bytes(4, "big") + text
        return self._table(self.dice.choice((1, 2, 3, 30, 300)))

    def _table(self, depth: int) -> bytes:
        """A field table: plausible names, any types, lengths that sometimes lie."""
        if depth > 3:
            return _nested(depth, self.dice.random() < 0.5)
        parts = []
        for _ in range(self.dice.randrange(4)):
            name = self.dice.choice((*ARGUMENT_NAMES, *STRINGS))
            parts.append(bytes((len(name),)) + name + self._field(depth))
        table = b"".join(parts)
        length = len(table)
        if self.dice.random() < 0.1:
            length = self.dice.choice(NUMBERS) % 2**32
        return length.to_bytes(4, "big") + table

    def _field(self, depth: int) -> bytes:
        letter = self.dice.choice(TABLE_TYPES)
        kind = bytes((letter,))
        if kind == b"F":
            return kind + self._table(max(depth - 1, 0))
        if kind == b"A":
            inner = b"".join(self._field(0) for _ in range(self.dice.randrange(3)))
            return kind + len(inner).to_bytes(4, "big") + inner
        if kind in b"Sx":
            return kind + self._wrong("S")
        if kind == b"s" and self.dice.random() < 0.5:
            return kind + self._wrong("s")
        width = {b"t": 1, b"b": 1, b"B": 1, b"s": 2, b"u": 2, b"U": 2, b"D": 5, b"V": 0}.get(kind)
        if width is None:
            width = 4 if kind in b"Iif" else 8
        return kind + self.dice.choice((bytes(width), b"\xff" * width, self.dice.randbytes(width)))


def _right(letter: str, value: Any) -> bytes:
    if letter in WIDTHS:
        width = WIDTHS[letter]
        return (int(value) % (1 << 8 * width)).to_bytes(width, "big")
    if letter == "F":
        return b"\0\0\0\0"
    text = value.encode() if isinstance(value, str) else bytes(value or b"")
    return len(text).to_bytes(1 if letter == "s" else 4, "big") + text


def _nested(depth: int, arrays: bool) -> bytes:
    """Tables (or arrays) in one another, with honest lengths all the way down."""
    inner = b""
    for _ in range(depth):
        kind = b"A" if arrays else b"F"
        inner = (b"" if arrays else b"\1k") + kind + len(inner).to_bytes(4, "big") + inner
    if arrays:
        inner = b"\1k" + inner
    return len(inner).to_bytes(4, "big") + inner


def _join(unit: Unit) -> bytes:
    return b"".join(bytes(frame) for frame in unit)


Mutation = Callable[[Mutator, list[Frame]], bytes]
MEANING: tuple[Mutation, ...] = (
    Mutator.flip_bits,
    Mutator.flip_an_argument_bit,
    Mutator.insert_or_delete,
    Mutator.argument,
    Mutator.other_method,
    Mutator.other_channel,
    Mutator.duplicate,
    Mutator.swap_or_drop,
    Mutator.body_size,
    Mutator.property_flags,
    Mutator.content_with_headers,
    Mutator.stray_content,
    Mutator.heartbeat,
)
MEANING_WEIGHTS: tuple[int, ...] = (6, 10, 5, 20, 6, 4, 6, 5, 5, 5, 10, 2, 3)
FRAMING: tuple[Mutation, ...] = (
    Mutator.frame_end,
    Mutator.frame_type,
    Mutator.frame_size,
    Mutator.oversized,
    Mutator.truncated,
    Mutator.greeting_again,
    Mutator.noise,
)
FRAMING_WEIGHTS: tuple[int, ...] = (4, 6, 6, 1, 4, 1, 2)
