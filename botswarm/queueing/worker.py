"""The worker Celery starts for us: sized, checked, and hard to end in the middle of an order."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from typing import Any

from celery import signals
from celery.apps.beat import Beat as CeleryBeat
from celery.apps.worker import Worker as CeleryWorker
from celery.platforms import EX_FAILURE
from celery.worker import state

from botswarm import stopping
from botswarm.queueing import caps, safety
from botswarm.queueing.link import Silence
from botswarm.queueing.table import BY_NAME

M_ARENA_MAX = -8
"""glibc's; elsewhere there is no such."""
BEAT_PATIENCE_S = 5.0
FAILED_END_S = 5.0
SILENT_S = 12.0
"""Two heartbeats of the broker are missing."""
SILENT_AGAIN_S = 1.0
FRAMES_TOLD = 12
LATE_END_S = 20.0
"""So long after it was told to end a worker says what it still waits for."""
LAST_END_S = 24.0
"""And so long after it, it waits no more, unless a task runs: platforms kill after thirty."""
IDLE_S = 3.0
GOODBYE_S = 2.0
PREFORK = "botswarm.queueing.prefork:Pool"

logger = logging.getLogger(__name__)


# Subclasses, not signal handlers: Celery logs what a handler raises and starts all the same.
class Worker(CeleryWorker):  # type: ignore[misc]
    flags: dict[str, Any]
    running: Worker | None = None
    """The one of this process."""

    def __init__(self, app: Any = None, hostname: Any = None, **flags: Any) -> None:
        """Loads only the tasks of its queues: what it never runs costs each of its processes
        memory. A task that comes over another queue than its own is a dead letter.
        """
        conf = (app or self.app).conf
        conf.include = [name for name in conf.include if _is_wanted(name, flags)]
        super().__init__(app, hostname, **flags)

    def on_before_init(self, **flags: Any) -> None:
        self.flags = flags
        super().on_before_init(**flags)

    def setup_instance(self, **flags: Any) -> None:
        # Chatter between workers that nothing here listens to; mingling alone costs a second of
        # every start.
        super().setup_instance(**{**flags, "without_mingle": True, "without_gossip": True})
        # Everything is imported and nothing is forked: what the collector never looks at again
        # stays shared with the children, and so does what they would all find out anew.
        if (mapping := sys.modules.get("sqlalchemy.orm")) is not None:
            mapping.configure_mappers()
        gc.collect()
        gc.freeze()

    def setup_queues(self, include: Any, exclude: Any = None) -> None:
        """Called once -Q is known and before there is a pool."""
        super().setup_queues(include, exclude)
        self.app.log.setup(self.loglevel)
        queues = sorted(self.app.amqp.queues.consume_from)
        safety.check_worker(self.flags, self._stray_pool(queues))
        tasks = [task for task in self.app.tasks.values() if task.name.startswith("workers.")]
        safety.check(self.app.conf, tasks)
        self.pool_cls = caps.pool_for(queues)
        if self.pool_cls == "threads":
            _keep_few_arenas()
        if not self.flags.get("concurrency"):
            self.concurrency = max(1, sum(self.app.caps[name] for name in queues))
        limits = ", ".join(f"{name} {self.app.caps[name]}" for name in queues)
        logger.info("pool %s of %d; at most: %s", self.pool_cls, self.concurrency, limits)
        if self.pool_cls == "prefork":
            self.pool_cls = PREFORK

    def start(self) -> None:
        Worker.running = self
        super().start()

    def stop(self, in_sighandler: bool = False, exitcode: int | None = None) -> None:
        """After an error that ended the loop nobody hears its children any more: Celery would wait
        for them for ever. They are ended as by a machine that fails, which loses and doubles
        nothing, and whoever keeps this worker starts another.
        """
        if exitcode == EX_FAILURE:
            logger.critical("the worker's own loop has ended: so do its children, at once")
            self._kill_children()
            end = threading.Timer(FAILED_END_S, os._exit, (EX_FAILURE,))
            end.daemon = True
            end.start()
        super().stop(in_sighandler, exitcode)

    def wait_for_soft_shutdown(self) -> None:
        """Called at SIGQUIT and the second Ctrl-C: whoever has not ended after it is ended."""
        super().wait_for_soft_shutdown()
        self._kill_children()

    def terminate(self, in_sighandler: bool = False) -> None:
        self._kill_children()
        super().terminate(in_sighandler)

    def _kill_children(self) -> None:
        """Celery's own way is SIGTERM, which they ignore, and then to wait for them for ever."""
        inner = getattr(self.pool, "_pool", None)
        for process in list(getattr(inner, "_pool", None) or ()):
            with contextlib.suppress(ProcessLookupError, AttributeError):
                os.kill(process.pid, signal.SIGKILL)

    def _stray_pool(self, queues: list[str]) -> str | None:
        """The pool somebody asked for, where it is not one these queues can use."""
        asked = self.pool_cls
        name = asked if isinstance(asked, str) else asked.__module__.rpartition(".")[2]
        fine = {"prefork"}
        if {BY_NAME[queue].pool for queue in queues} == {"threads"}:
            fine |= {"thread", "threads"}
        return None if name in fine else name


class Beat(CeleryBeat):  # type: ignore[misc]
    def run(self) -> None:
        # It sends tasks by their names and runs none.
        self.app.conf.include = []
        safety.check(self.app.conf)
        super().run()

    def install_sync_handler(self, service: Any) -> None:
        """Told to end, it ends between two ticks. Celery's own handler ends it wherever it is: in
        the middle of an answer of the broker, to which it then says goodbye and waits for ever.
        """

        def stop(*_: object) -> None:
            service._is_shutdown.set()
            signal.setitimer(signal.ITIMER_REAL, BEAT_PATIENCE_S)

        def give_up(*_: object) -> None:
            # Nothing is lost: what was sent is in the broker, and so is the mark.
            logger.warning("the broker does not let go of beat: ending all the same")
            raise SystemExit

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        signal.signal(signal.SIGALRM, give_up)


def _keep_few_arenas() -> None:
    """Each thread would get a heap of its own, and Python's threads run one at a time anyway."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


def _is_wanted(module: str, flags: Mapping[str, Any]) -> bool:
    """Ours go by the queue of their name; what somebody else includes is theirs to know."""
    queue = module.removeprefix("workers.")
    if queue not in BY_NAME or queue == module:
        return True
    asked, left_out = (_names(flags.get(which)) for which in ("queues", "exclude_queues"))
    return (not asked or queue in asked) and queue not in left_out


def _names(given: Any) -> list[str]:
    return given.split(",") if isinstance(given, str) else list(given or ())


@signals.worker_shutting_down.connect(weak=False)
def _tell_children(**_: Any) -> None:
    """What they are at may be a wait of half a minute between two looks at a venue."""
    stopping.tell()
    threading.Thread(target=_see_to_the_end, daemon=True).start()


def _see_to_the_end() -> None:
    """To end, a worker tells and asks its broker several things, and waits for each answer."""
    consumer = getattr(Worker.running, "consumer", None)
    dispatcher = getattr(consumer, "event_dispatcher", None)
    links = [getattr(each, "connection", None) for each in (consumer, dispatcher)]
    silences = [Silence(link) for link in links if link is not None]
    told_at = worked_at = time.monotonic()
    patience_s, is_said = SILENT_S, False
    while True:
        time.sleep(0.5)
        for silence in silences:
            if silence.lasts_s() > patience_s:
                logger.warning("the broker is silent: ending without its answer")
                # What comes up anew is as silent as this one was.
                patience_s = SILENT_AGAIN_S
                silence.end()
        now = time.monotonic()
        if state.active_requests:
            worked_at = now
        if not is_said and now - told_at > LATE_END_S:
            is_said = True
            _say_what_is_waited_for()
        if now - told_at > LAST_END_S and now - worked_at > IDLE_S:
            _end_at_once()


def _say_what_is_waited_for() -> None:
    stack = sys._current_frames().get(threading.main_thread().ident or 0)
    frames = [] if stack is None else list(reversed(traceback.extract_stack(stack)))
    logger.warning(
        "told to end %g s ago, and still here: %s runs; the worker is at: %s",
        LATE_END_S,
        ", ".join(sorted(request.name for request in state.active_requests)) or "no task",
        " < ".join(f"{each.filename}:{each.lineno} {each.name}" for each in frames[:FRAMES_TOLD]),
    )


def _end_at_once() -> None:
    """No task runs, and what was not acknowledged comes again: nothing is lost but goodbyes."""
    logger.warning("told to end %g s ago: ending without what is waited for", LAST_END_S)
    if Worker.running is not None:
        Worker.running._kill_children()
    # What others are to know of its end is written at exit.
    goodbye = threading.Thread(target=atexit._run_exitfuncs, daemon=True)
    goodbye.start()
    goodbye.join(GOODBYE_S)
    os._exit(os.EX_OK)


@signals.worker_process_init.connect(weak=False)
def _let_the_parent_decide(**_: Any) -> None:
    """A signal to the whole group must not end a child in the middle of an order.

    The parent hears it too, takes no more tasks, waits, and ends its children by itself. What
    has to be ended by force (time limits) is, by SIGKILL.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
