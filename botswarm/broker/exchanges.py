"""Exchanges and bindings: which queues a message goes to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from botswarm.broker import wire

KINDS: Final = ("direct", "fanout", "topic", "headers")


@dataclass(frozen=True, slots=True)
class Binding:
    """From one exchange to a queue or to another exchange."""

    to: Literal["queue", "exchange"]
    destination: str
    routing_key: str
    raw_arguments: bytes = b""


@dataclass(slots=True)
class Exchange:
    name: str
    kind: str
    durable: bool
    auto_delete: bool
    internal: bool
    raw_arguments: bytes
    arguments: dict[str, Any] = field(default_factory=dict)
    bindings: dict[Binding, object] = field(default_factory=dict)
    by_key: dict[str, list[Binding]] = field(default_factory=dict)
    had_binding: bool = False

    def __post_init__(self) -> None:
        self.arguments = wire.read_table(self.raw_arguments)

    @property
    def alternate(self) -> str | None:
        name = self.arguments.get("alternate-exchange")
        return name if isinstance(name, str) else None

    def add(self, binding: Binding) -> bool:
        """False where the same binding is there already."""
        if binding in self.bindings:
            return False
        self.bindings[binding] = self._prepare(binding)
        self.by_key.setdefault(binding.routing_key, []).append(binding)
        self.had_binding = True
        return True

    def remove(self, binding: Binding) -> bool:
        if self.bindings.pop(binding, self) is self:
            return False
        same_key = self.by_key[binding.routing_key]
        same_key.remove(binding)
        if not same_key:
            del self.by_key[binding.routing_key]
        return True

    def _prepare(self, binding: Binding) -> object:
        if self.kind == "topic":
            return topic_pattern(binding.routing_key)
        if self.kind == "headers":
            return HeaderMatch.of(wire.read_table(binding.raw_arguments))
        return None

    def matches(self, routing_key: str, headers: dict[str, Any]) -> Iterable[Binding]:
        if self.kind == "direct":
            return self.by_key.get(routing_key, ())
        if self.kind == "fanout":
            return self.bindings
        if self.kind == "topic":
            words = routing_key.split(".") if routing_key else []
            return [
                binding
                for binding, pattern in self.bindings.items()
                if isinstance(pattern, tuple) and topic_matches(pattern, words)
            ]
        return [
            binding
            for binding, match in self.bindings.items()
            if isinstance(match, HeaderMatch) and match.holds(headers)
        ]


def topic_pattern(routing_key: str) -> tuple[str, ...]:
    """The pattern's words; a run of ``#`` means what one does."""
    words: list[str] = []
    for word in routing_key.split(".") if routing_key else []:
        if word != "#" or not words or words[-1] != "#":
            words.append(word)
    return tuple(words)


def topic_matches(pattern: tuple[str, ...], words: list[str]) -> bool:
    """All places the pattern may have reached, word by word: no input makes this explode."""
    reached = _past_hashes({0}, pattern)
    for word in words:
        following = set()
        for at in reached:
            if at == len(pattern):
                continue
            if pattern[at] == "#":
                following.add(at)
            elif pattern[at] in ("*", word):
                following.add(at + 1)
        reached = _past_hashes(following, pattern)
        if not reached:
            return False
    return len(pattern) in reached


def _past_hashes(reached: set[int], pattern: tuple[str, ...]) -> set[int]:
    return reached | {at + 1 for at in reached if at < len(pattern) and pattern[at] == "#"}


@dataclass(frozen=True, slots=True)
class HeaderMatch:
    """A headers binding, read once."""

    every: bool
    wanted: tuple[tuple[str, Any], ...]

    @classmethod
    def of(cls, arguments: dict[str, Any]) -> HeaderMatch:
        mode = arguments.get("x-match", "all")
        with_x = mode in ("all-with-x", "any-with-x")
        wanted = tuple(
            (name, value)
            for name, value in arguments.items()
            if name != "x-match" and (with_x or not name.startswith("x-"))
        )
        return cls(mode not in ("any", "any-with-x"), wanted)

    def holds(self, headers: dict[str, Any]) -> bool:
        results = (
            # A void value asks only that the header be there.
            name in headers and (value is None or same_value(headers[name], value))
            for name, value in self.wanted
        )
        return all(results) if self.every else any(results)


def same_value(left: Any, right: Any) -> bool:
    """Equal and of one kind: ``True`` is not 1, and "1" is not 1."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    return type(left) is type(right) and bool(left == right)
