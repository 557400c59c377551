"""One screen that says how the swarm is, also when parts of it are down."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from botswarm.cli import presence, prices, standby
from botswarm.cli.command import Command
from botswarm.cli.failures import PartsMissing
from botswarm.cli.session import Answer, Session
from botswarm.cli.table import in_columns
from botswarm.clock import SystemClock
from botswarm.config.table import QUEUES
from botswarm.errors import BotswarmError

if TYPE_CHECKING:
    from botswarm.config import Configuration

PATIENCE_S = 3.0
HEALTH_S = 1.0
DIGEST_S = 0.35
"""Digests come four times a second while the market moves."""

# What feed and beat lead by. Written out because to import their rooms would take longer than all
# the rest of this command; a test asks real ones.
BEAT_LEADER = "botswarm.beat.leader"
RECONCILED_FOR_S = 600
"""As in botswarm/ledger/standing.py, which would take long to import."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    part: str
    state: str
    """``ok``, ``idle`` (nothing is wrong and nothing goes on), ``warn`` or ``missing``."""
    words: str


@dataclass(slots=True)
class View:
    """What was found out."""

    rows: list[Row] = field(default_factory=list)
    facts: dict[str, object] = field(default_factory=dict)

    def add(self, part: str, state: str, words: str, **facts: object) -> None:
        self.rows.append(Row(part=part, state=state, words=words))
        self.facts[part] = {"state": state, "words": words, **facts}


@click.command(cls=Command)
@click.pass_obj
def status(session: Session) -> Answer:
    """Say on one screen how the swarm is: what runs, what waits, what trades.

    It asks the supervisor's notes, the broker and the ledger, each by itself, so it answers when
    some of them are down and says which. Exits with 3 when a part is missing.
    """
    configuration = session.configuration()
    view, threads = View(), []
    looks: list[Callable[[Configuration, View], None]] = [_processes, _health, _broker, _ledger]
    views = [View() for _ in looks]
    for look, own in zip(looks, views, strict=True):
        thread = threading.Thread(target=look, args=(configuration, own), daemon=True)
        thread.start()
        threads.append(thread)
    deadline = time.monotonic() + PATIENCE_S
    for look, thread, own in zip(looks, threads, views, strict=True):
        thread.join(max(0.0, deadline - time.monotonic()))
        if thread.is_alive():
            view.add(look.__name__[1:], "missing", f"no answer within {PATIENCE_S:g} s")
        else:
            view.rows += own.rows
            view.facts |= own.facts
    missing = [row.part for row in view.rows if row.state == "missing"]
    failure = None
    if missing:
        failure = PartsMissing(
            f"missing: {', '.join(missing)}", cure="each row says what to do, or: botswarm doctor"
        )
    marks = {"ok": "ok", "idle": "-", "warn": "WARN", "missing": "MISSING"}
    lines = [(row.part, marks[row.state], row.words) for row in view.rows]
    return Answer(
        data={"parts": view.facts, "missing": missing},
        text=in_columns(["PART", "", "FOUND"], lines),
        failure=failure,
    )


# --- processes ------------------------------------------------------------------------------


def _processes(configuration: Configuration, view: View) -> None:
    from botswarm.supervisor import record

    notes = record.read(configuration.settings.state_dir)
    if notes is None:
        words = "no supervisor runs on this state folder; start one: botswarm up"
        view.add("processes", "idle", words)
        return
    down = [f"{note.name} is {note.state}" for note in notes.processes if note.state != "running"]
    restarts = sum(note.restarts for note in notes.processes)
    up = len(notes.processes) - len(down)
    words = f"{up} of {len(notes.processes)} run, {restarts} restarts, since {notes.started_at}"
    state = "warn" if down else "ok"
    view.add("processes", state, "; ".join([words, *down]), **asdict(notes))


def _health(configuration: Configuration, view: View) -> None:
    """What each process of this machine says of itself: what is missing, other rows say."""
    from botswarm.health import ask
    from botswarm.health.pages import HEALTH

    said = ask.processes(configuration.settings.state_dir, HEALTH, HEALTH_S)
    if not said:
        view.add("health", "idle", "no process of this machine can be asked")
        return
    troubles: dict[str, list[str]] = {}
    for each in said:
        for name, words in each.troubles.items():
            # What ails the machine is said by each of them, a bit later and a bit differently.
            troubles.setdefault(name or each.process.card.name, []).append(words)
    well = sum(each.status == "ok" for each in said)
    words = f"{well} of {len(said)} processes are well"
    for name, found in troubles.items():
        many = f" ({len(found)} processes)" if len(found) > 1 else ""
        words += f"; {name}: {found[0]}{many}"
    statuses = {each.process.card.name: each.status for each in said}
    view.add("health", "warn" if troubles else "ok", words, by_process=statuses)


# --- broker, queues, feed and beat ------------------------------------------------------------


def _broker(configuration: Configuration, view: View) -> None:
    from botswarm.cli.amqp import channel

    settings = configuration.settings
    if settings.broker_url is None:
        words = "none is configured, and none was started here; start one: botswarm up"
        view.add("broker", "missing", words)
        return
    kind = "embedded" if standby.broker_elsewhere(configuration) is None else "RabbitMQ"
    began = time.monotonic()
    try:
        with channel(settings.broker_url, start_hint="start it: botswarm up") as first:
            answered_ms = round((time.monotonic() - began) * 1000)
            where = settings.broker_url.masked
            view.add(
                "broker",
                "ok",
                f"{kind}, {where}, answers in {answered_ms} ms",
                answered_ms=answered_ms,
            )
            ask = Asking(first.connection)
            venue = "simulated" if standby.exchange_elsewhere(settings) is None else "binance"
            ear = prices.Ear(first.connection, venue)
            _queues(ask, view)
            _feed(ask, view, settings, venue, ear)
            _beat(ask, view)
    except BotswarmError as error:
        view.add("broker", "missing", f"{error.cause}; {error.cure}")


class Asking:
    """Short questions to a broker over one connection."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def counts(self, queue: str) -> tuple[int, int] | None:
        """Messages that wait and consumers; None where there is no such queue."""
        from amqp.exceptions import NotFound

        channel = self._connection.channel()
        try:
            answer = channel.queue_declare(queue, passive=True)
        except NotFound:
            return None  # its channel is closed by that
        channel.close()
        return answer.message_count, answer.consumer_count

    def is_held(self, queue: str) -> bool:
        """Whether somebody's connection owns this exclusive queue."""
        from amqp.exceptions import NotFound, ResourceLocked

        channel = self._connection.channel()
        try:
            channel.queue_declare(queue, passive=True)
        except ResourceLocked:
            return True
        except NotFound:
            return False
        channel.close()
        return True


def _queues(ask: Asking, view: View) -> None:
    found: dict[str, object] = {}
    unserved, dead, shown = [], {}, []
    for name in QUEUES:
        waiting, workers = ask.counts(name) or (0, 0)
        letters = ask.counts(f"{name}.dead") or (0, 0)
        found[name] = {"waiting": waiting, "workers": workers, "dead": letters[0]}
        shown.append(f"{name} {waiting}")
        if not workers:
            unserved.append(name)
        if letters[0]:
            dead[name] = letters[0]
    words = "waiting: " + ", ".join(shown)
    if dead:
        words += "; dead letters: " + ", ".join(f"{name} {many}" for name, many in dead.items())
    if unserved:
        words += f"; no worker listens to {', '.join(unserved)}: "
        words += f"celery -A botswarm worker -Q {','.join(unserved)}"
    view.add("queues", "missing" if unserved else "warn" if dead else "ok", words, queues=found)


def _feed(ask: Asking, view: View, settings: Any, venue: str, ear: prices.Ear) -> None:
    from botswarm.feed.lead import lead_queue

    # The feeds of a venue stand in a row there, and the first leads.
    if not (ask.counts(lead_queue(venue)) or (0, 0))[1]:
        view.add("feed", "missing", f"no feed of {venue} leads; start one: botswarm run feed")
        return
    found, trouble = None, ""
    try:
        found = prices.shown(settings, venue)
    except BotswarmError as error:
        trouble = f"; {error.cause}"
    if found is not None and not found.prices:
        trouble = "; Redis has no live price"
    if found is None or not found.prices:
        heard = ear.listen(DIGEST_S, until_first=True)
        found = prices.Prices(source="ticks", prices=heard, missing=())
    facts = {"venue": venue, "source": found.source, "missing": list(found.missing)}
    now = prices.now_ms()
    ages = sorted(price.age_s(now) for price in found.prices)
    if not ages:
        words = f"leads on {venue}; no market moved within {DIGEST_S:g} s{trouble}"
        view.add("feed", "warn", words, age_s=None, **facts)
        return
    stale = sum(price.is_stale(now) for price in found.prices)
    if found.source == "ticks":
        words = f"{len(ages)} markets moved"
    else:
        words = f"live prices of {len(ages)} markets in Redis, {stale} stale"
    if found.missing:
        trouble = f"; no price of {', '.join(found.missing)}"
    age_s = round(ages[0], 1)
    words = f"leads on {venue}; {words}, the newest tick is {age_s} s old{trouble}"
    is_well = stale < len(ages) and not trouble
    view.add("feed", "ok" if is_well else "warn", words, age_s=age_s, **facts)


def _beat(ask: Asking, view: View) -> None:
    if ask.is_held(BEAT_LEADER):
        view.add("beat", "ok", "leads")
    else:
        view.add("beat", "missing", "none leads; start one: celery -A botswarm beat")


# --- ledger ---------------------------------------------------------------------------------


def _ledger(configuration: Configuration, view: View) -> None:
    from botswarm.ledger import glance

    url, now = configuration.settings.database_url, SystemClock().now()
    began = time.monotonic()
    try:
        found = glance.look(url, now)
    except BotswarmError as error:
        view.add("ledger", "missing", f"{error.cause}; {error.cure}")
        return
    answered_ms = round((time.monotonic() - began) * 1000)
    words = f"{url.masked}, answers in {answered_ms} ms"
    view.add("ledger", "ok", words, answered_ms=answered_ms)
    state, reason = found.trading.get("swarm", ("halted", "the ledger does not say"))
    others = {scope: said[0] for scope, said in found.trading.items() if scope != "swarm"}
    others = {scope: said for scope, said in others.items() if said != "active"}
    words = state if state == "active" else f"{state}: {reason}; botswarm trading resume"
    if found.share is not None:
        words += f", for {found.share} % of the bots: botswarm trading enable --status"
    words += "".join(f"; {scope} {said}" for scope, said in others.items())
    is_free = state == "active" and not others and found.share is None
    facts: dict[str, object] = {"swarm": state, "share": found.share, "others": others}
    view.add("trading", "ok" if is_free else "warn", words, **facts)
    _accounts(found, now, view)
    built, words, facts = presence.summary(found.processes, now)
    view.add("builds", built, words, **facts)
    words = _counted(found.bots) or "none; create one: botswarm bot create"
    view.add("bots", "ok" if found.bots.get("running") else "idle", words, by_state=found.bots)
    _orders(found, now, view)


def _accounts(found: Any, now: datetime, view: View) -> None:
    """Whether each agrees with its venue: where one does not, none of its orders pass."""
    told, differing = [], []
    for name, (is_clean, at) in sorted(found.accounts.items()):
        age = "never compared" if at is None else f"compared {_age_s(now, at)} s ago"
        told.append(f"{name} {'agrees' if is_clean else 'does not agree'}, {age}")
        if not is_clean or _age_s(now, at) > RECONCILED_FOR_S:
            differing.append(name)
    words = "; ".join(told) or "none was compared with its venue yet"
    if differing:
        words += "; botswarm ledger reconcile"
    if found.armed:
        words += f"; armed for real money: {', '.join(found.armed)}"
    state = "warn" if differing else "ok" if told else "idle"
    by_account = {name: is_clean for name, (is_clean, _) in found.accounts.items()}
    view.add("accounts", state, words, by_account=by_account, armed=list(found.armed))


def _age_s(now: datetime, at: datetime) -> int:
    return max(0, round((now.astimezone(UTC) - at).total_seconds()))


def _orders(found: Any, now: datetime, view: View) -> None:
    words = f"last hour: {_counted(found.orders_recent) or 'none'}"
    words += f"; open: {_counted(found.orders_open) or 'none'}"
    if found.last_fill_at is not None:
        words += f"; last fill {_age_s(now, found.last_fill_at)} s ago"
    if found.doorbells_waiting:
        words += f"; {found.doorbells_waiting} doorbells not rung"
    doubt = found.orders_open.get("unknown", 0)
    view.add(
        "orders",
        "warn" if doubt else "ok" if found.orders_recent else "idle",
        words,
        open=found.orders_open,
        recent=found.orders_recent,
        last_fill_at=found.last_fill_at,
        doorbells_waiting=found.doorbells_waiting,
    )


def _counted(by_state: Mapping[str, int]) -> str:
    return ", ".join(f"{many} {state}" for state, many in sorted(by_state.items()))
