"""What goes wrong with a request on its way in and out, whichever protocol it is made in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Generic, Literal, TypeVar

from botswarm.exchanges.simulated.faults import REQUEST_FAULTS, Faults
from botswarm.exchanges.simulated.http import Response

Delivery = Literal["whole", "half", "none", "garbage"]
Instead = Literal["", "timeout", "error"]
GARBAGE: Final = b"<html><body><h1>We will be right back</h1></body></html>"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Carried(Generic[T]):
    """What became of a request, and how much of the answer arrives."""

    result: T | None = None
    delivery: Delivery = "whole"
    instead: Instead = ""
    """The venue's own word for "nobody knows", or its server error, in place of the result."""


async def carry(
    faults: Faults, venue: str, action: str, run: Callable[[], T], again: Callable[[], T]
) -> Carried[T]:
    """Run it, or not, as ordered; ``again`` is the same bytes once more."""
    fault = faults.take(REQUEST_FAULTS, action, venue)
    if fault is None:
        return Carried(run())
    match fault.kind:
        case "drop_request":
            return Carried(delivery="none")
        case "timeout_not_executed":
            return Carried(instead="timeout")
        case "error_not_executed":
            return Carried(instead="error")
        case "hold":
            await asyncio.sleep(fault.seconds)
    result = run()
    match fault.kind:
        case "twice":
            again()
        case "drop_reply":
            return Carried(result, "none")
        case "truncate_reply":
            return Carried(result, "half")
        case "garbage_reply":
            return Carried(result, "garbage")
        case "timeout_executed":
            return Carried(instead="timeout")
        case "error_executed":
            return Carried(instead="error")
        case "slow":
            await asyncio.sleep(fault.seconds)
    return Carried(result)


def garbage(headers: Mapping[str, str] | None = None) -> Response:
    """Of a server that stands between, with the status of a success."""
    return Response(200, GARBAGE, dict(headers or {}), "text/html")
