"""Flower as one process of the swarm: it waits for the broker, shows itself, and ends tidily."""

from __future__ import annotations

import logging

from botswarm import logs
from botswarm.cli import start
from botswarm.cli.session import Session
from botswarm.health.broker import Broker
from botswarm.health.process import Health
from botswarm.queueing import flower, make_app

logger = logging.getLogger(__name__)


def run(session: Session) -> None:
    start.await_broker(session.settings)
    settings = session.settings()
    logs.configure(settings, at_least=logging.WARNING if session.quiet else logging.DEBUG)
    # What Tornado has to say of each page that was asked for belongs into no log but its own.
    logging.getLogger("tornado.access").setLevel(logging.ERROR)

    def ready(record: flower.FlowerRecord) -> None:
        where = settings.state_dir / flower.FILE if record.password else "BOTSWARM_FLOWER_PASSWORD"
        logger.info(
            "Flower shows itself at %s to the user %s; the password: %s",
            record.url,
            record.user,
            where,
        )

    health = Health(settings, "flower")
    broker = Broker(lambda: session.settings().broker_url, "botswarm flower health")
    health.check("broker", broker.look, is_needed=True)
    with health:
        flower.serve(make_app(settings), settings, ready, health.pulse("the page").mark)
