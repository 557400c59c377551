"""What a worker tells of itself: without ever waiting for a broker that is away."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celery.app.events import Events as CeleryEvents
from celery.events.dispatcher import EventDispatcher

ONCE_MORE = {"max_retries": 1, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.2}
"""Over a new connection. The next heartbeat is two seconds away, and what was not sent is kept."""


class Dispatcher(EventDispatcher):  # type: ignore[misc]
    def _publish(
        self,
        event: Any,
        producer: Any,
        routing_key: str,
        retry: bool = False,
        retry_policy: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Celery would try for as long as the broker is away, in the worker's own loop: deaf to
        being told to end.
        """
        super()._publish(event, producer, routing_key, retry, retry_policy or ONCE_MORE, **kwargs)


class Events(CeleryEvents):  # type: ignore[misc]
    dispatcher_cls = "botswarm.queueing.events:Dispatcher"
