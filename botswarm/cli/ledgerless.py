"""An emergency stop that the ledger cannot be told of: word left for this machine's workers."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from botswarm.cli.emergency import Press
from botswarm.cli.failures import CheckFailed
from botswarm.cli.session import Answer
from botswarm.errors import BotswarmError

if TYPE_CHECKING:
    from botswarm.trading.stop_file import Pulled, StopFile

POLL_S = 0.1
WATCHDOG_S = 15.0
"""Order workers look for the file each second; a venue may take a while to answer."""


class LeftWord:
    """The stop file of one press."""

    def __init__(self, press: Press, *, is_cancelling: bool) -> None:
        self._press = press
        self._is_cancelling = is_cancelling
        self._pulled_ms: int | None = None

    def pull(self) -> None:
        """Once; raises Refused where it cannot be written."""
        if self._pulled_ms is None:
            self._file.pull(self._pulled)
            self._pulled_ms = self._press.ms()
            words = "the ledger does not answer: the stop file is pulled"
            self._press.say(f"{self._pulled_ms:6d} ms  {words}")

    def take_back(self) -> None:
        """The ledger was told after all."""
        if self._pulled_ms is not None:
            self._file.lift()

    def answer(self, error: BotswarmError) -> Answer:
        """What the order workers did about it."""
        is_committed = self._press.done is not None
        try:
            self.pull()
        except BotswarmError as unwritten:
            halted = "the halt is committed" if is_committed else "NOTHING is halted by this"
            return Answer(
                data={"halted": is_committed, "stop_file": None},
                text=f"{halted}, and no order worker was told",
                failure=CheckFailed(
                    f"{halted}: the ledger could not be told of the stop: {error.cause}; "
                    f"nor the order workers: {unwritten.cause}",
                    cure=f"{unwritten.cure}; or stop the order workers: botswarm down",
                ),
            )
        found = self._answers()
        words = "without the ledger no order is judged or sent"
        if is_committed:
            words = "the halt is committed"
        lines = [_in_words(each) for each in found] or [
            "no order worker of this machine has answered"
        ]
        return Answer(
            data={
                "halted": is_committed,
                "stop_file": str(self._file.path),
                "pulled_ms": self._pulled_ms,
                "answered_ms": self._press.ms() if _is_all_done(found) else None,
                "answers": list(found),
            },
            text="\n".join([f"{words}; stop file after {self._pulled_ms} ms", *lines]),
            failure=CheckFailed(
                f"the ledger could not be told of the stop: {error.cause}",
                cure="the order workers tell it when it is back; see: botswarm doctor",
            ),
            next=["botswarm trading status"],
        )

    def _answers(self) -> Sequence[Mapping[str, Any]]:
        deadline = time.monotonic() + WATCHDOG_S
        while True:
            found = self._file.answers(self._pulled)
            if _is_all_done(found) or time.monotonic() >= deadline:
                return found
            time.sleep(POLL_S)

    @property
    def _file(self) -> StopFile:
        from botswarm.trading.stop_file import StopFile

        return StopFile.of(self._press.settings.state_dir)

    @property
    def _pulled(self) -> Pulled:
        from botswarm.trading.stop_file import Pulled

        return Pulled(
            at=self._press.pressed_at,
            actor=self._press.actor,
            reason=self._press.reason,
            is_cancelling=self._is_cancelling,
        )


def _in_words(said: Mapping[str, Any]) -> str:
    words = f"{said['process']}: cancelled {', '.join(said['done']) or 'nothing'}"
    return words + (f", not yet {', '.join(said['left'])}" if said["left"] else "")


def _is_all_done(found: Sequence[Mapping[str, Any]]) -> bool:
    return bool(found) and not any(each["left"] for each in found)
