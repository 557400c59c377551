"""What exists: declarations checked against the protocol, and their form in the journal."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from botswarm.broker.journal import SNAPSHOT
from botswarm.broker.queues import QueueTraits
from botswarm.broker.wire import AmqpError

# Ten years, as in RabbitMQ. Celery's delayed delivery declares queues of up to four.
TIME_MAX_MS: Final = 315_360_000_000
OVERFLOWS: Final = ("drop-head", "reject-publish", "reject-publish-dlx")

Check = Callable[[Any], str | None]


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _whole(low: int, high: int = 2**63) -> Check:
    def check(value: Any) -> str | None:
        if not _is_int(value):
            return f"unacceptable type {type(value).__name__}"
        if value < low:
            return "value negative" if low == 0 else "value zero or negative"
        return f"value too large: {value}" if value > high else None

    return check


def _text(value: Any) -> str | None:
    return None if isinstance(value, str) else f"unacceptable type {type(value).__name__}"


def _flag(value: Any) -> str | None:
    return None if isinstance(value, bool) else f"unacceptable type {type(value).__name__}"


def _one_of(*allowed: str) -> Check:
    def check(value: Any) -> str | None:
        return None if value in allowed else f"{value!r} is none of {', '.join(allowed)}"

    return check


# Every queue argument that has a meaning, and what its value must be. Others are carried along.
QUEUE_ARGUMENTS: Final[Mapping[str, Check]] = {
    "x-expires": _whole(1, TIME_MAX_MS),
    "x-message-ttl": _whole(0, TIME_MAX_MS),
    "x-dead-letter-exchange": _text,
    "x-dead-letter-routing-key": _text,
    "x-dead-letter-strategy": _one_of("at-most-once", "at-least-once"),
    "x-max-length": _whole(0),
    "x-max-length-bytes": _whole(0),
    "x-max-in-memory-length": _whole(0),
    "x-max-in-memory-bytes": _whole(0),
    "x-max-priority": _whole(0, 255),
    "x-overflow": _one_of(*OVERFLOWS),
    "x-queue-mode": _one_of("default", "lazy"),
    "x-queue-type": _one_of("classic", "quorum"),
    "x-single-active-consumer": _flag,
    "x-delivery-limit": _whole(0),
    "x-quorum-initial-group-size": _whole(1),
    "x-queue-leader-locator": _text,
    "x-queue-master-locator": _text,
    "x-queue-version": _whole(1, 2),
}
NOT_FOR_QUORUM: Final = ("x-max-priority", "x-queue-mode", "x-queue-master-locator")


def check_queue(
    what: str, arguments: Mapping[str, Any], *, durable: bool, exclusive: bool, auto_delete: bool
) -> QueueTraits:
    """Read a queue's arguments; ``what`` names the queue in the refusal."""
    if arguments.get("x-queue-type") == "stream":
        raise AmqpError(540, "the embedded broker has no streams: use RabbitMQ for them")
    for name, check in QUEUE_ARGUMENTS.items():
        if name in arguments and (objection := check(arguments[name])):
            raise AmqpError(406, f"invalid arg '{name}' for {what}: {objection}")
    if "x-dead-letter-routing-key" in arguments and "x-dead-letter-exchange" not in arguments:
        raise AmqpError(
            406,
            f"invalid arg 'x-dead-letter-routing-key' for {what}: routing_key_but_no_dlx_defined",
        )
    quorum = arguments.get("x-queue-type") == "quorum"
    if quorum:
        _check_quorum(what, arguments, durable, exclusive, auto_delete)
    return QueueTraits(
        quorum=quorum,
        max_priority=arguments.get("x-max-priority", 0),
        ttl_ms=arguments.get("x-message-ttl"),
        expires_ms=arguments.get("x-expires"),
        max_length=arguments.get("x-max-length"),
        max_length_bytes=arguments.get("x-max-length-bytes"),
        overflow=arguments.get("x-overflow", "drop-head"),
        dead_letter_exchange=arguments.get("x-dead-letter-exchange"),
        dead_letter_routing_key=arguments.get("x-dead-letter-routing-key"),
        delivery_limit=arguments.get("x-delivery-limit") if quorum else None,
        single_active_consumer=arguments.get("x-single-active-consumer", False),
    )


def _check_quorum(
    what: str, arguments: Mapping[str, Any], durable: bool, exclusive: bool, auto_delete: bool
) -> None:
    for wrong, prop in (
        (not durable, "non-durable"),
        (exclusive, "exclusive-owner"),
        (auto_delete, "auto-delete"),
    ):
        if wrong:
            raise AmqpError(406, f"invalid property '{prop}' for {what}")
    for name in NOT_FOR_QUORUM:
        if name in arguments:
            raise AmqpError(406, f"invalid arg '{name}' for {what} of queue type quorum")
    if arguments.get("x-overflow") == "reject-publish-dlx":
        raise AmqpError(406, f"invalid arg 'x-overflow' for {what} of queue type quorum")


def check_same(what: str, name: str, received: Any, current: Any) -> None:
    """A redeclaration must say what the first declaration said."""
    if received == current and isinstance(received, bool) == isinstance(current, bool):
        return
    raise AmqpError(
        406,
        f"inequivalent arg '{name}' for {what}: received {_shown(received)} "
        f"but current is {_shown(current)}",
    )


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return f"'{str(value).lower()}'"
    kind = {"int": "signedint", "str": "longstr"}.get(type(value).__name__, type(value).__name__)
    return f"the value '{value}' of type '{kind}'"


# --- in the journal ---------------------------------------------------------------------------

Op = dict[str, Any]


def raw_to_text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def text_to_raw(text: str) -> bytes:
    return base64.b64decode(text)


def encode_ops(ops: Iterable[Op]) -> bytes:
    # ensure_ascii keeps the surrogates that stand for bytes that are no UTF-8.
    return json.dumps(list(ops), separators=(",", ":")).encode()


@dataclass(slots=True)
class Definitions:
    """What a replay has read of the definitions so far: the last word on each thing."""

    things: dict[tuple[str, ...], Op] = field(default_factory=dict)
    last_queue_id: int = 0
    last_message_id: int = 0

    def read(self, kind: int, payload: bytes) -> None:
        if kind == SNAPSHOT:
            self.things.clear()
        for op in json.loads(payload):
            self._apply(op)

    def _apply(self, op: Op) -> None:
        if op["op"] == "last":
            self.last_queue_id = max(self.last_queue_id, op["queue_id"])
            self.last_message_id = max(self.last_message_id, op["message_id"])
            return
        if op["op"].startswith("queue"):
            self.last_queue_id = max(self.last_queue_id, op["id"])
        thing, sign = op["op"][:-1], op["op"][-1]
        key = (thing, *(str(op[part]) for part in KEYS[thing]))
        if sign == "+":
            self.things[key] = op
        else:
            self.things.pop(key, None)

    def of(self, thing: str) -> Iterator[Op]:
        return (op for key, op in self.things.items() if key[0] == thing)


KEYS: Final = {
    "vhost": ("name",),
    "exchange": ("vhost", "name"),
    "queue": ("vhost", "name"),
    "binding": ("vhost", "source", "to", "destination", "routing_key", "arguments"),
}
