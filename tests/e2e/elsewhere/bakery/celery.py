# mypy: ignore-errors
"""The bakery's Celery app."""

import os

from celery import Celery

app = Celery("bakery", include=["bakery.tasks"])
app.conf.update(
    broker_url=os.environ.get("CELERY_BROKER_URL", "amqp://guest:guest@localhost//"),
    result_backend=os.environ.get("CELERY_RESULT_BACKEND", "db+sqlite:///bakery.sqlite"),
    broker_connection_retry_on_startup=True,
    broker_transport_options={"confirm_publish": True},
    task_default_queue="bakery",
    task_default_exchange="bakery",
    task_default_exchange_type="topic",
    task_default_routing_key="bakery",
    task_default_queue_type="quorum",
    worker_detect_quorum_queues=True,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    task_track_started=True,
    worker_send_task_events=True,
    task_send_sent_event=True,
    result_chord_retry_interval=0.2,
    beat_schedule={"wind-the-clock": {"task": "bakery.tasks.wind_clock", "schedule": 1.0}},
    beat_schedule_filename=os.environ.get("BAKERY_BEAT_FILE", "beat-schedule"),
)
