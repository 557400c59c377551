"""The strategies that bots were given, each made once for all bots that say the same."""

from __future__ import annotations

import threading
from typing import Any
from weakref import WeakValueDictionary

from botswarm.bots.apart import NotAsked
from botswarm.bots.spec import parameters_of
from botswarm.ledger.bots import Bot
from botswarm.strategies.api import Strategy
from botswarm.strategies.origins import Origin
from botswarm.strategies.registry import Catalog, Changes


class Strategies:
    """Strategies by what was asked of them: bots that say the same share one.

    Of strangers' there is what they ask for, once their own processes have said it.
    """

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self._made: WeakValueDictionary[tuple[Any, ...], Strategy] = WeakValueDictionary()
        self._edition = 0
        self._lock = threading.Lock()

    def of(self, bot: Bot) -> Strategy:
        key = _key(bot)
        made = self._made.get(key)
        if made is None:
            if self.origin(bot) is not None:
                raise NotAsked(f"{bot.strategy} has not said yet what it needs")
            made = self.catalog.make(bot.strategy, parameters_of(bot))
            self._made[key] = made
        return made

    def keep(self, bot: Bot, made: Strategy, edition: int) -> None:
        """What stands for a stranger's, where it is of the files as they are now."""
        with self._lock:
            if edition == self._edition:
                self._made[_key(bot)] = made

    def edition(self) -> int:
        """Which one this is of all that the files have brought so far."""
        return self._edition

    def origin(self, bot: Bot) -> Origin | None:
        found = self.catalog.found.get(bot.strategy)
        return None if found is None or found.is_trusted else found.origin

    def refresh(self) -> Changes:
        """What has changed since the last look; strategies that did are made anew."""
        changes = self.catalog.refresh()
        if changes:
            with self._lock:
                self._edition += 1
                self._made.clear()
        return changes


def _key(bot: Bot) -> tuple[Any, ...]:
    parameters = parameters_of(bot)
    return (bot.strategy, *sorted((name, repr(value)) for name, value in parameters.items()))
