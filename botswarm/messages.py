"""Every message that crosses the broker as a task: its fields, its task, its queue, its expiry."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Protocol


@dataclass(frozen=True, slots=True)
class Message:
    task: ClassVar[str]
    queue: ClassVar[str]
    expires_s: ClassVar[float | None] = None
    """How long it is worth anything; None where the ledger's row decides that."""


@dataclass(frozen=True, slots=True)
class EvaluateMarket(Message):
    """A market moved: every running bot of it may want to decide."""

    task: ClassVar[str] = "workers.strategy.evaluate_market"
    queue: ClassVar[str] = "strategy"
    expires_s: ClassVar[float | None] = 5.0

    venue: str
    symbol: str
    sequence: int
    """The feed's digest it speaks of; the evaluator waits, briefly, until its book has it."""


@dataclass(frozen=True, slots=True)
class PlaceOrder(Message):
    """An order row is READY: judge it and, if it passes, send it."""

    task: ClassVar[str] = "workers.orders.place"
    queue: ClassVar[str] = "orders"

    order_id: str
    venue: str | None = None
    account: str | None = None
    """Whose it is; None asks the ledger first."""


@dataclass(frozen=True, slots=True)
class SettleOrders(Message):
    """Ask the venues about orders that may be live or are unknown, and book their fills."""

    task: ClassVar[str] = "workers.orders.settle"
    queue: ClassVar[str] = "orders"
    expires_s: ClassVar[float | None] = 10.0

    order_id: str | None = None
    """The venue's own stream rang for this one; None is the periodic round over all."""
    venue: str | None = None
    account: str | None = None
    """None is every account that is configured."""


@dataclass(frozen=True, slots=True)
class CancelOrder(Message):
    """Somebody wants an order ended, and the ledger has it in writing: ask the venue for it."""

    task: ClassVar[str] = "workers.orders.cancel"
    queue: ClassVar[str] = "orders"

    order_id: str


@dataclass(frozen=True, slots=True)
class ReconcileAccount(Message):
    """Hold the ledger against what the venue says of an account, and repair what can be proven."""

    task: ClassVar[str] = "workers.orders.reconcile"
    queue: ClassVar[str] = "orders"
    expires_s: ClassVar[float | None] = 60.0

    venue: str | None = None
    account: str | None = None
    """None is every account that is configured."""


@dataclass(frozen=True, slots=True)
class GuardOrders(Message):
    """Is any order worker well? Else nobody watches over what is open at the venues."""

    task: ClassVar[str] = "workers.ops.guard_orders"
    queue: ClassVar[str] = "ops"
    expires_s: ClassVar[float | None] = 5.0


@dataclass(frozen=True, slots=True)
class SweepOutbox(Message):
    """Ring again for rows whose doorbell nobody heard."""

    task: ClassVar[str] = "workers.ops.sweep_outbox"
    queue: ClassVar[str] = "ops"
    expires_s: ClassVar[float | None] = 5.0


@dataclass(frozen=True, slots=True)
class SweepRisk(Message):
    """Look at the whole swarm for one kind of trouble: botswarm.sweeps.table names them."""

    task: ClassVar[str] = "workers.risk.sweep"
    queue: ClassVar[str] = "risk"
    expires_s: ClassVar[float | None] = 30.0

    name: str = "positions"


@dataclass(frozen=True, slots=True)
class StepEnabling(Message):
    """Look at what opens trading step by step: does it go on, wait or step back?"""

    task: ClassVar[str] = "workers.ops.step_enabling"
    queue: ClassVar[str] = "ops"
    expires_s: ClassVar[float | None] = 2.0


@dataclass(frozen=True, slots=True)
class WatchAlerts(Message):
    """Look what is wrong, and tell people of it."""

    task: ClassVar[str] = "workers.ops.watch_alerts"
    queue: ClassVar[str] = "ops"
    expires_s: ClassVar[float | None] = 5.0


@dataclass(frozen=True, slots=True)
class PruneAlerts(Message):
    """Delete alerts that were over long ago, and what was told of them."""

    task: ClassVar[str] = "workers.ops.prune_alerts"
    queue: ClassVar[str] = "ops"
    expires_s: ClassVar[float | None] = 600.0


@dataclass(frozen=True, slots=True)
class PruneEvaluations(Message):
    """Delete evaluations that are older, or more, than what is to be kept."""

    task: ClassVar[str] = "workers.ops.prune_evaluations"
    queue: ClassVar[str] = "ops"
    expires_s: ClassVar[float | None] = 60.0


@dataclass(frozen=True, slots=True)
class PruneHistory(Message):
    """Delete what the ledger has kept long enough; orders and fills are never among it."""

    task: ClassVar[str] = "workers.ops.prune_history"
    queue: ClassVar[str] = "ops"


@dataclass(frozen=True, slots=True)
class KeepCandles(Message):
    """Delete candles that were kept long enough, and say which are missing."""

    task: ClassVar[str] = "workers.ops.keep_candles"
    queue: ClassVar[str] = "ops"


@dataclass(frozen=True, slots=True)
class CheckKeys(Message):
    """Say which keys are old or were not tested for long, and which certificates end soon."""

    task: ClassVar[str] = "workers.ops.check_keys"
    queue: ClassVar[str] = "ops"


@dataclass(frozen=True, slots=True)
class ReportDay(Message):
    """Add up the day before, and keep it."""

    task: ClassVar[str] = "workers.ops.report_day"
    queue: ClassVar[str] = "ops"


@dataclass(frozen=True, slots=True)
class BackUp(Message):
    """Save the ledger, try that out, and remove old backups."""

    task: ClassVar[str] = "workers.ops.back_up"
    queue: ClassVar[str] = "ops"


@dataclass(frozen=True, slots=True)
class RehearseRestore(Message):
    """Bring the newest backup back to the side: how long does it take, what would be lost?"""

    task: ClassVar[str] = "workers.ops.rehearse_restore"
    queue: ClassVar[str] = "ops"


@dataclass(frozen=True, slots=True)
class ReleaseRestored(Message):
    """Does everything in a restored ledger agree with the venues? Then it may trade again."""

    task: ClassVar[str] = "workers.ops.release_restored"
    queue: ClassVar[str] = "ops"
    expires_s: ClassVar[float | None] = 10.0


@dataclass(frozen=True, slots=True)
class TellTraces(Message):
    """Tell the collector, where there is one, of the orders that have ended."""

    task: ClassVar[str] = "workers.ops.tell_traces"
    queue: ClassVar[str] = "ops"
    expires_s: ClassVar[float | None] = 10.0


@dataclass(frozen=True, slots=True)
class Probe(Message):
    """Is anybody there? Answers with who ran it, for health checks and first steps."""

    task: ClassVar[str] = "workers.ops.probe"
    queue: ClassVar[str] = "ops"
    expires_s: ClassVar[float | None] = 60.0

    text: str = "hello"


ALL: tuple[type[Message], ...] = (
    *(EvaluateMarket, PlaceOrder, CancelOrder, SettleOrders, ReconcileAccount, GuardOrders),
    *(SweepOutbox, SweepRisk, StepEnabling, PruneEvaluations, Probe),
    *(WatchAlerts, PruneAlerts),
    *(BackUp, RehearseRestore, ReleaseRestored),
    *(PruneHistory, KeepCandles, CheckKeys, ReportDay, TellTraces),
)


class Sends(Protocol):
    """What is needed of a Celery app to send."""

    def send_task(self, name: str, **options: Any) -> Any: ...


def send(app: Sends, message: Message, *, task_id: str | None = None, **options: Any) -> str:
    """Return the task's id once the broker has confirmed the message.

    Raises NotFound where no queue takes it and Unreachable where nothing confirmed it: it may
    have arrived all the same, so send it again only under the same ``task_id``. ``options`` are
    Celery's, such as ``countdown``.
    """
    result = app.send_task(
        message.task,
        kwargs=asdict(message),
        queue=message.queue,
        task_id=task_id,
        # Nobody waits for an answer, so the broker need not prepare for one.
        **{"expires": message.expires_s, "ignore_result": True, **options},
    )
    return str(result.id)
