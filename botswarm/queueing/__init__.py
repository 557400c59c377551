"""The Celery app's machinery: queues, caps, slots, the beat that leads, and what is refused."""

from __future__ import annotations

from botswarm.queueing.app import App, make_app
from botswarm.queueing.task import current_settings, ring, task

__all__ = ["App", "current_settings", "make_app", "ring", "task"]
