"""Work that may hang is given a while, and then left behind: whoever waits has others to tell."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from botswarm.errors import TimedOut

T = TypeVar("T")


class _Errand(threading.Thread, Generic[T]):
    """Not to be waited for at the end of the process either: it may never come back."""

    def __init__(self, work: Callable[[], T]) -> None:
        super().__init__(name="ledger of alerts", daemon=True)
        self._work = work
        self.answer: T
        self.error: BaseException | None = None
        self.is_wanted = True

    def run(self) -> None:
        try:
            self.answer = self._work()
        except BaseException as error:  # raised again where it was asked for
            self.error = error


class Patience:
    """A ledger that is frozen answers nothing, for ever, and no error says so."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._late: threading.Thread | None = None

    @property
    def is_free(self) -> bool:
        return self._late is None or not self._late.is_alive()

    def go_on(self) -> None:
        """For the work itself, before it changes anything: raises TimedOut where it was left
        behind, and somebody else has done it another way meanwhile.
        """
        errand = threading.current_thread()
        if isinstance(errand, _Errand) and not errand.is_wanted:
            raise TimedOut("the answer came too late to be of use", cure="nothing to do")

    def wait(self, work: Callable[[], T]) -> T:
        """What ``work`` answers; raises TimedOut where it is late, or the last one still is."""
        if not self.is_free:
            raise TimedOut("the ledger has not answered the last question yet", cure="mend it")
        self._late = None
        errand = _Errand(work)
        errand.start()
        errand.join(self._limit_s)
        if errand.is_alive():
            errand.is_wanted = False
            self._late = errand
            raise TimedOut(
                f"the ledger did not answer within {self._limit_s:g} s",
                cure="see whether it hangs: botswarm doctor --only database",
            )
        if errand.error is not None:
            raise errand.error
        return errand.answer
