"""What a worker is asked: what it needs, what runs in it, and, where it works on ops, the swarm."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence

from celery.worker import state

from botswarm import metrics
from botswarm.config import Settings
from botswarm.errors import BotswarmError
from botswarm.exchanges import accounts
from botswarm.exchanges.accounts import Account
from botswarm.exchanges.allowances import clock_offsets
from botswarm.exchanges.venue_meters import VenueMeters
from botswarm.health.broker import Broker
from botswarm.health.celery_app import App, queue_of
from botswarm.health.machine import WallClock
from botswarm.health.process import Health
from botswarm.health.servers import LedgerLook, Redis, VenuesLook
from botswarm.health.swarm import Swarm
from botswarm.ledger import plain

logger = logging.getLogger(__name__)

OPS, ORDERS = "ops", "orders"


def made(app: App, hostname: str) -> Health:
    queues = sorted(app.amqp.queues.consume_from)
    health = Health(app.settings, "worker", _name_of(hostname, queues), queues=queues)
    _add_servers(health, app.settings)
    health.check("clock", WallClock(functools.partial(clock_offsets, app.settings.state_dir)))
    health.source(Running(app.caps, queues))
    if ORDERS in queues:
        health.source(VenueMeters(app.settings.state_dir), is_sampled=True)
        asked = functools.partial(addresses, app.settings)
        health.check("venues", VenuesLook(asked, health.round_trips.took))
    if OPS in queues:
        Swarm(app.settings, app.slots, app.swarm_caps).join(health)
    return health


def _name_of(hostname: str, queues: Sequence[str]) -> str:
    """As it was started: ``botswarm run worker`` names it by its queues."""
    name = hostname.partition("@")[0]
    return "-".join(queues) if name == "celery" else name


def _add_servers(health: Health, settings: Settings) -> None:
    health.check("ledger", LedgerLook(settings.database_url), is_needed=True)
    broker = Broker(lambda: settings.broker_url, f"botswarm {health.card.name} health")
    health.check("broker", broker.look, is_needed=True)
    if settings.redis_url is not None:
        health.check("redis", Redis(settings.redis_url).look)


def addresses(settings: Settings) -> Iterator[tuple[str, str]]:
    """Every account whose keys are here, and where its orders go; those that cannot be told are
    left out: the order worker says why.
    """
    with plain.asking(settings.database_url) as ask:
        kept = [Account(*row) for row in ask("SELECT venue, account FROM exchange_keys", ())]
    for account in accounts.accounts(settings, kept):
        try:
            url = accounts.address(settings, account)
        except BotswarmError as error:
            logger.debug("%s has no address yet: %s", account, error)
            continue
        if url:
            yield str(account), url


class Running:
    """How many tasks of each queue run in this worker."""

    def __init__(self, caps: Mapping[str, int], queues: Sequence[str]) -> None:
        self._caps, self._queues = caps, queues

    def collect(self) -> Iterable[metrics.Samples]:
        running = dict.fromkeys(self._queues, 0)
        for request in list(state.active_requests):
            queue = queue_of(request)
            running[queue] = running.get(queue, 0) + 1
        rows: metrics.Rows = [((queue,), float(many)) for queue, many in running.items()]
        yield metrics.Samples(metrics.WORKER_RUNNING, rows)
        caps: metrics.Rows = [((queue,), float(self._caps[queue])) for queue in self._queues]
        yield metrics.Samples(metrics.WORKER_CAP, caps)
