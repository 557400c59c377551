"""What must not be under way while this process forks, and what its children leave to it."""

from __future__ import annotations

import importlib
import logging  # before the hooks below: what is registered later is asked first
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

PATIENCE_S = 5.0
"""A fork waits no longer than this: a thread that hangs must not stop a worker from working."""

logger = logging.getLogger(__name__)


class Inherited(Protocol):
    def leave_to_parent(self) -> None:
        """Called in the child: close what is the parent's, without touching its state."""
        ...


def _await_imports() -> None:
    """A module that another thread imports just now could never be imported by the child: it would
    wait for a thread that it has not.
    """
    until = time.monotonic() + PATIENCE_S
    while _others_import():
        if time.monotonic() > until:
            logger.warning("forked while a module was being imported for %g s", PATIENCE_S)
            return
        time.sleep(0.005)


def _others_import() -> bool:
    ours = threading.get_ident()
    locks = [known() for known in list(_module_locks.values())]
    return any(getattr(lock, "owner", None) not in (None, ours) for lock in locks)


# Python tells nobody else which modules are being imported.
_module_locks: dict[str, Callable[[], object]] = getattr(
    importlib._bootstrap,
    "_module_locks",
    {},
)


class _Turnstile:
    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.is_held = False

    def before(self) -> None:
        self.is_held = self.lock.acquire(timeout=PATIENCE_S)
        if not self.is_held:
            logger.warning("forked while a check or a scrape was under way for %g s", PATIENCE_S)
        _await_imports()

    def after_in_parent(self) -> None:
        if self.is_held:
            self.is_held = False
            self.lock.release()

    def after_in_child(self) -> None:
        self.lock, self.is_held = threading.RLock(), False
        for each in list(_inherited):
            each.leave_to_parent()
        _inherited.clear()


_inherited: weakref.WeakSet[Inherited] = weakref.WeakSet()
_turnstile = _Turnstile()
os.register_at_fork(
    before=_turnstile.before,
    after_in_parent=_turnstile.after_in_parent,
    after_in_child=_turnstile.after_in_child,
)


@contextmanager
def held_off() -> Iterator[None]:
    """No fork happens inside: for locks and files that a child must not find half open."""
    lock = _turnstile.lock
    with lock:
        yield


def not_for_children(each: Inherited) -> None:
    """From now on every forked child leaves it to us."""
    _inherited.add(each)
