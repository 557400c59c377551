"""Faults of processes: killed, frozen, doubled, poisoned, starved of memory, restarted in turn."""

from __future__ import annotations

import contextlib
import random
import resource
import time

import psutil
from amqp.exceptions import AMQPError
from sqlalchemy import select

from botswarm.chaos.campaign import clocks
from botswarm.chaos.campaign.plan import Fault
from botswarm.chaos.campaign.poison import TASK
from botswarm.chaos.campaign.roles import Role, kill, thaw
from botswarm.chaos.campaign.stage import CLOCKED, Stage, clock_file
from botswarm.chaos.campaign.waiting import until
from botswarm.errors import BotswarmError, TimedOut
from botswarm.ledger.models import OrderRow
from botswarm.queueing import App, make_app
from botswarm.testing.proxy import CLEAN, Toxics

AIM_S = 10.0
AIMS_MAX = 6
"""What else is broken just now may keep orders from moving for so long."""
RECENT_BYTES = 1 << 18
LATE_REPLY_S = 0.4
"""How late the ledger's replies are while a worker is to be met between commit and send."""


# --- aiming ---------------------------------------------------------------------------------------


def sending(stage: Stage) -> set[str]:
    """Client order ids of which the ledger says that their bytes may be on the way."""
    question = select(OrderRow.client_order_id).where(OrderRow.state == "sending")
    with contextlib.suppress(BotswarmError):
        return set(stage.ledger.database.read(lambda session: session.scalars(question).all()))
    return set()


def at_venue(stage: Stage, client_order_id: str, since: int) -> bool:
    path = stage.exchange.journal_path
    with path.open("rb") as journal:
        journal.seek(since)
        return client_order_id.encode() in journal.read()


def _journal_size(stage: Stage) -> int:
    return stage.exchange.journal_path.stat().st_size


def caught_before_send(stage: Stage, role: Role) -> list[psutil.Process] | None:
    """Freeze a worker whose attempt is committed and whose bytes have not left.

    Its ledger answers late, so what it has just committed is known here before it knows itself.
    """
    link = stage.links[f"ledger-{role.name}"]
    link.set(down=Toxics(latency_s=LATE_REPLY_S))
    try:
        # What was accepted before, and is not booked yet, has left long ago.
        since = max(0, _journal_size(stage) - RECENT_BYTES)
        deadline = time.monotonic() + AIM_S
        while time.monotonic() < deadline:
            before = sending(stage)
            time.sleep(0.02)
            # An order that another worker sends is through by now.
            found = [each for each in before & sending(stage) if not at_venue(stage, each, since)]
            if not found:
                continue
            frozen = role.freeze()
            if any(each in sending(stage) and not at_venue(stage, each, since) for each in found):
                return frozen
            thaw(frozen)
    finally:
        link.set(down=CLEAN)
    return None


# --- F2 to F6 -------------------------------------------------------------------------------------


def _kill_worker(stage: Stage, dice: random.Random) -> str:
    role = dice.choice(stage.workers)
    children = role.children()
    victim, who = (dice.choice(children), "child") if children and dice.random() < 0.6 else (
        psutil.Process(role.pid), "parent")  # fmt: skip
    if dice.random() < 0.5:
        with contextlib.suppress(TimedOut):
            until(lambda: sending(stage), "an order to be on its way", 2)
    kill(victim)
    until(lambda: role.running, f"{role.name} to be back", 60)
    time.sleep(dice.uniform(0.5, 2.0))
    return f"{role.name} {who}"


def _kill_between(stage: Stage, dice: random.Random) -> str:
    strike, words = dice.choice(
        (
            (_kill_before_send, "between commit and send"),
            (_kill_before_reply, "between send and reply"),
        )
    )
    for _ in range(AIMS_MAX):
        if strike(stage, dice):
            until(lambda: all(role.running for role in stage.workers), "the workers to be back", 60)
            return words
    raise TimedOut(f"no order was met {words}")


def _kill_before_send(stage: Stage, dice: random.Random) -> bool:
    caught = caught_before_send(stage, dice.choice(stage.workers)) or []
    for process in caught:
        kill(process)
    return bool(caught)


def _kill_before_reply(stage: Stage, _: random.Random) -> bool:
    since = _journal_size(stage)
    if not stage.arm("slow", on="place", seconds=3):
        raise TimedOut("the exchange took no order to be slow")
    try:
        until(
            lambda: any(at_venue(stage, each, since) for each in sending(stage)),
            "an order to be at the venue without an answer",
            AIM_S,
        )
    except TimedOut:
        return False
    children = [child for role in stage.workers for child in role.children()]
    for child in children:
        kill(child)
    return bool(children)


def _frozen_s(dice: random.Random) -> float:
    return dice.choice((5, 5, 8, 8, 12, 20, 60))


def _freeze(stage: Stage, dice: random.Random) -> str:
    seconds = _frozen_s(dice)
    if dice.random() < 0.65:
        role = dice.choice(stage.workers)
        frozen = caught_before_send(stage, role)
        words = f"{role.name} with unsent bytes for {seconds} s"
        if frozen is None:
            frozen, words = role.freeze(), f"{role.name} for {seconds} s"
    else:
        role = stage.roles[dice.choice(("feed", "beat", "strategy", "ops"))]
        frozen, words = role.freeze(), f"{role.name} for {seconds} s"
    try:
        time.sleep(seconds)
    finally:
        thaw(frozen)
    return words


def _kill_and_double(name: str) -> Fault:
    code, words = {"beat": ("F5", "beat: kill -9, two at once"),
                   "feed": ("F6", "feed: kill -9, two at once")}[name]  # fmt: skip

    def strike(stage: Stage, dice: random.Random) -> str:
        role = stage.roles[name]
        if dice.random() < 0.5:
            kill(psutil.Process(role.pid))
            until(lambda: role.running, f"{name} to be back", 60)
            time.sleep(1)
            return "killed"
        second = Role(f"{name}-2", role._words[2:], role.environment, stage.folder)
        with second:
            time.sleep(dice.uniform(2, 4))
            kill(psutil.Process(role.pid))
            time.sleep(2)
        return "two at once, the first killed"

    return Fault(code=code, words=words, strike=strike, about_s=6, holds=(name,))


# --- F11, F23, F27, F29 ---------------------------------------------------------------------------


def _poison(stage: Stage, _: random.Random) -> str:
    app = make_app(stage.settings, set_as_current=False)
    try:
        until(lambda: _has_dead(app), "the workers to have declared their queues", 120)
        poison = app.send_task(TASK, queue="orders", ignore_result=True).id
        until(_Dead(app, poison).is_there, "the poison to be put aside", 120)
    finally:
        app.close()
    return "put aside as a dead letter"


def dead_letters(stage: Stage) -> int:
    app = make_app(stage.settings, set_as_current=False)
    try:
        return _dead(app)
    finally:
        app.close()


def _has_dead(app: App) -> bool:
    """After the broker's whole state was lost they come with the first worker."""
    with contextlib.suppress(OSError, AMQPError):
        return _dead(app) >= 0
    return False


def _dead(app: App) -> int:
    with app.connection_for_read() as connection:
        return int(connection.channel().queue_declare("orders.dead", passive=True).message_count)


class _Dead:
    """Whether this very message is among the dead letters; others come and go."""

    def __init__(self, app: App, task_id: str) -> None:
        self._app, self._task_id = app, task_id
        self._looked_at = -1

    def is_there(self) -> bool:
        count = _dead(self._app)
        is_news, self._looked_at = count != self._looked_at, count
        return is_news and self._look()

    def _look(self) -> bool:
        # What is taken and not acknowledged is there again when the connection ends.
        with self._app.connection_for_read() as connection:
            channel = connection.channel()
            while (message := channel.basic_get("orders.dead", no_ack=False)) is not None:
                if (message.headers or {}).get("id") == self._task_id:
                    return True
        return False


def _jump(stage: Stage, dice: random.Random) -> str:
    name = dice.choice(CLOCKED)
    by = dice.choice((-86_400, -3_600, -10, -1, 1, 10, 3_600, 86_400))
    path = clock_file(stage.folder, name)
    seconds = dice.uniform(3, 6)
    clocks.tell(path, by)
    try:
        time.sleep(seconds)
    finally:
        clocks.tell(path, 0)
    time.sleep(1.5)
    return f"{name} by {by:+d} s for {seconds:.0f} s"


def _roll(stage: Stage, _: random.Random) -> str:
    migrated = stage.command("db", "migrate")
    names = ("orders-1", "orders-2", "ops", "strategy", "feed", "beat")
    slowest, which = max((stage.keeper.restart(stage.roles[name]), name) for name in names)
    stage.stops.append(slowest)
    said = "" if migrated.returncode == 0 else f", migrate said {migrated.stderr.strip()[:80]}"
    return f"slowest end {which} {slowest:.1f} s{said}"


def _starve(stage: Stage, dice: random.Random) -> str:
    role = dice.choice(stage.workers)
    children = role.children()
    if not children:
        raise TimedOut(f"{role.name} has no children to starve")
    child = dice.choice(children)
    limit = child.memory_info().vms + dice.choice((0, 1 << 20, 4 << 20))
    _, hard = child.rlimit(resource.RLIMIT_AS)
    child.rlimit(resource.RLIMIT_AS, (limit, hard))
    # It may have died of it before it is killed or let go on.
    with contextlib.suppress(psutil.Error):
        time.sleep(dice.uniform(2, 4))
        if dice.random() < 0.5:
            kill(child)  # as the kernel does when memory is out
        else:
            child.rlimit(resource.RLIMIT_AS, (hard, hard))
    return f"a child of {role.name}"


PROCESS_FAULTS = (
    Fault(code="F2", words="kill -9 of an order worker, parent or child", strike=_kill_worker,
          about_s=4, holds=("orders",)),
    Fault(code="F3", words="kill -9 between commit and send, between send and reply",
          strike=_kill_between, about_s=8, holds=("orders", "exchange")),
    Fault(code="F4", words="frozen and continued: late senders, half-dead processes",
          strike=_freeze, about_s=20, holds=("orders", "feed", "beat"),
          lasts=lambda dice: _frozen_s(dice) + 4),
    _kill_and_double("beat"),
    _kill_and_double("feed"),
    Fault(code="F11", words="a task that kills its worker", strike=_poison, about_s=10,
          holds=("orders", "broker")),
    Fault(code="F23", words="clock jumps of one process", strike=_jump, about_s=7,
          holds=("beat", "orders")),
    Fault(code="F27", words="rolling restart of everything, migration under load",
          strike=_roll, about_s=28, holds=("orders", "feed", "beat")),
    Fault(code="F29", words="memory limit on a worker's child", strike=_starve, about_s=5,
          holds=("orders",)),
)  # fmt: skip
