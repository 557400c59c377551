"""Traces on their way to an OpenTelemetry collector, in OTLP's JSON over HTTP."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from botswarm import __version__
from botswarm.config import Secret
from botswarm.errors import Unreachable
from botswarm.posting import post

INTERNAL = 1
OK, ERROR = 1, 2
PATH = "/v1/traces"


@dataclass(frozen=True, slots=True)
class Span:
    name: str
    began: datetime
    ended: datetime
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Trace:
    """A span with others inside. Told again it is the same: its ids come from what it is about."""

    id: str
    """32 characters of hex."""
    whole: Span
    parts: Sequence[Span]
    is_error: bool = False


def send(traces: Sequence[Trace], url: str, headers: Secret | None, instance_id: str) -> None:
    """Return once they were taken; raises Unreachable where they were not, or may not be."""
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    path = path if path.endswith(PATH) else path + PATH
    body = json.dumps(payload(traces, instance_id)).encode()
    given = {"Content-Type": "application/json", **_headers(headers)}
    answer = post(parts, path, body, given)
    if not answer.is_taken:
        raise Unreachable(
            f"the collector at {parts.hostname} answered {answer.status}: {answer.said}",
            cure="check BOTSWARM_OTLP_URL and BOTSWARM_OTLP_HEADERS",
        )


def _headers(given: Secret | None) -> dict[str, str]:
    """As OpenTelemetry writes them: ``name=value,name=value``."""
    if given is None:
        return {}
    pairs = (pair.partition("=") for pair in given.reveal().split(",") if "=" in pair)
    return {name.strip(): value.strip() for name, _, value in pairs}


def payload(traces: Sequence[Trace], instance_id: str) -> dict[str, Any]:
    resource = {
        "service.name": "botswarm",
        "service.version": __version__,
        "service.instance.id": instance_id,
    }
    spans = [span for trace in traces for span in _spans(trace)]
    return {
        "resourceSpans": [
            {
                "resource": {"attributes": _attributes(resource)},
                "scopeSpans": [{"scope": {"name": "botswarm.orders"}, "spans": spans}],
            }
        ]
    }


def _spans(trace: Trace) -> list[dict[str, Any]]:
    whole = _span_id(trace.id, "whole")
    status = {"code": ERROR if trace.is_error else OK}
    made = [_span(trace.id, whole, "", trace.whole) | {"status": status}]
    for number, part in enumerate(trace.parts):
        made.append(_span(trace.id, _span_id(trace.id, f"{number}/{part.name}"), whole, part))
    return made


def _span(trace_id: str, span_id: str, parent: str, span: Span) -> dict[str, Any]:
    return {
        "traceId": trace_id,
        "spanId": span_id,
        "parentSpanId": parent,
        "name": span.name,
        "kind": INTERNAL,
        "startTimeUnixNano": _nanoseconds(span.began),
        # By two clocks, the venue's and ours, it may seem to end before it began.
        "endTimeUnixNano": _nanoseconds(max(span.began, span.ended)),
        "attributes": _attributes(span.attributes),
    }


def _span_id(trace_id: str, name: str) -> str:
    return hashlib.sha256(f"{trace_id}/{name}".encode()).hexdigest()[:16]


def _nanoseconds(at: datetime) -> str:
    return str(round(at.timestamp() * 1_000_000) * 1_000)


def _attributes(values: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"key": key, "value": {"stringValue": value}} for key, value in values.items()]
