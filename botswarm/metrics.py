"""Every Prometheus metric, declared once with its help text."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

TASKS = Counter(
    "botswarm_tasks_total",
    "Tasks that ended in this process, by how: done, failed, retried or no_slot.",
    ("task", "outcome"),
)
TASK_SECONDS = Histogram(
    "botswarm_task_seconds",
    "How long a task ran, without its wait for a slot.",
    ("task",),
    buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30, 120, 600),
)
SLOT_WAIT_SECONDS = Histogram(
    "botswarm_slot_wait_seconds",
    "How long a task waited for one of its queue's slots in the swarm.",
    ("queue",),
    buckets=(0.001, 0.01, 0.1, 1, 10, 30),
)
BEAT_SENT = Counter("botswarm_beat_sent_total", "Periodic tasks this beat sent.", ("entry",))
