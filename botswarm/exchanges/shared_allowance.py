"""The allowance that the processes of this machine share at one venue."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Protocol

from botswarm.clock import Clock, SystemClock
from botswarm.exchanges.allowance import SHARES, Limit, Purpose, TooSoon
from botswarm.exchanges.board import Board, Used

logger = logging.getLogger(__name__)

GRACE_S = 2.0
"""A request may be on its way for so long before the venue counts it."""
LOCKED_AGAIN_S = 0.2
BAN_MAX_S = 7 * 86_400.0
"""The longest that a venue documents is three days. What says more is no number of seconds."""


class Wish(NamedTuple):
    """So much of one limit, up to a part of it."""

    name: str
    """Of the count: the account's own, or the address'."""
    limit: Limit
    amount: float
    share: float


class Short(NamedTuple):
    """What there is too little of, in words, and for how long."""

    wait_s: float
    of: str


class Answer(Protocol):
    @property
    def wait_s(self) -> float: ...
    @property
    def ban_s(self) -> float: ...


class Elsewhere(Protocol):
    """What other machines have asked, too. Nothing here raises: None is "not to be had now"."""

    machines: int

    def take(self, counts: Sequence[dict[str, Any]]) -> Answer | None: ...
    def hear(self, counts: Sequence[dict[str, Any]]) -> None: ...
    def learn(self, counts: Sequence[dict[str, Any]]) -> None: ...
    def ban(self, seconds: float) -> None: ...
    def count(self, name: str, limit: Limit, **more: float) -> dict[str, Any]: ...


class SharedAllowance:
    """Of one venue, for one account of it or, without an account, for its public side.

    It counts within sliding periods, so that no period of the venue's, wherever it begins, ever
    holds more than the limit.
    """

    def __init__(
        self,
        venue: str,
        limits: Sequence[Limit],
        board: Board,
        *,
        account: str = "",
        clock: Clock | None = None,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        """With ``elsewhere`` it is shared with other machines; the board then only knows what this
        one did, for when the others cannot be heard.
        """
        self.venue, self.account = venue, account
        self._elsewhere = elsewhere
        self._board = board
        self._clock = SystemClock() if clock is None else clock
        self._families: dict[str, list[Limit]] = {}
        self._names: dict[str, Limit] = {}
        self._asked = threading.local()
        self._learn(limits)

    # --- Allowance --------------------------------------------------------------------------------

    def spend(self, cost: Mapping[str, int], purpose: Purpose) -> None:
        self.obey()
        short = self._take(list(self._wishes(cost, purpose)), purpose)
        if short is not None:
            words = (
                f"{self.venue} allows no more for now ({short.of}; again in {short.wait_s:.1f} s)"
            )
            raise TooSoon(words, self._until(short.wait_s))
        self._asked.at = self._board.now()

    def heard(self, used: Mapping[str, int]) -> None:
        asked_at: float | None = getattr(self._asked, "at", None)
        self._asked.at = None
        with self._board.held() as is_held:
            if is_held:
                since = None if asked_at is None else asked_at - GRACE_S
                for full_name, amount in used.items():
                    name, _, market = full_name.partition(":")
                    if (limit := self._names.get(name)) is not None:
                        self._board.count(self._named(limit, market), limit).hear(amount, since)
        if self._elsewhere is not None and used:
            self._hear_elsewhere(self._elsewhere, used, asked_at)

    def learn(self, limits: Sequence[Limit]) -> None:
        known = {limit.name: limit for limit in self._names.values()}
        told = [
            # How it is counted is ours to know, how much there is the venue's to say.
            Limit(
                name=limit.name,
                most=limit.most,
                period_s=limit.period_s,
                decay_per_s=limit.decay_per_s,
                of_account=known[limit.name].of_account,
                has_reserve=known[limit.name].has_reserve,
            )
            if limit.name in known
            else limit
            for limit in limits
        ]
        self._learn(told)
        with self._board.held() as is_held:
            if is_held:
                for limit in told:
                    self._board.count(self._named(limit), limit).learn(limit)
        if self._elsewhere is not None and told:
            at = self._elsewhere
            at.learn([at.count(self._named(limit), limit) for limit in told])

    def banned(self, seconds: float, reason: str) -> None:
        seconds = min(seconds, BAN_MAX_S)
        if self._board.ban(seconds, reason):
            logger.warning("%s asks for no requests for %.0f s: %s", self.venue, seconds, reason)
            if self._elsewhere is not None:
                self._elsewhere.ban(seconds)

    def obey(self) -> None:
        left_s = self._board.ban_left_s()
        if left_s > 0:
            raise TooSoon(
                f"{self.venue} asked for no requests for another {left_s:.0f} s",
                self._until(left_s),
            )

    def note_offset(self, seconds: float) -> None:
        self._board.note_offset(seconds)

    # --- for others -------------------------------------------------------------------------------

    def used(self) -> list[Used]:
        """Everything that is counted at this venue, for all its accounts."""
        return self._board.used()

    def ban(self) -> tuple[float, str]:
        """How long one still lasts, and the venue's words."""
        return self._board.ban_left_s(), self._board.ban_words()

    def close(self) -> None:
        self._board.close()

    # --- taking -----------------------------------------------------------------------------------

    def _take(self, wishes: Sequence[Wish], purpose: Purpose) -> Short | None:
        """None and everything is taken, or what there is too little of and nothing is."""
        at = self._elsewhere
        if at is None:
            return self._take_here(wishes, purpose)
        said = at.take(
            [
                at.count(wish.name, wish.limit, amount=wish.amount, share=wish.share)
                for wish in wishes
            ]
        )
        if said is None:
            # As if all the others did as this one does: together they stay below the limit.
            times = at.machines
            return self._take_here(
                [wish._replace(amount=wish.amount * times) for wish in wishes], purpose
            )
        if said.ban_s:
            self._board.ban(said.ban_s, "told to another machine")
        elif not said.wait_s:
            self._keep(wishes)
        names = ", ".join(wish.name for wish in wishes)
        return Short(said.wait_s, f"one of {names}") if said.wait_s else None

    def _keep(self, wishes: Sequence[Wish]) -> None:
        with self._board.held() as is_held:
            if is_held:
                for wish in wishes:
                    self._board.count(wish.name, wish.limit).add(wish.amount)

    def _take_here(self, wishes: Sequence[Wish], purpose: Purpose) -> Short | None:
        short: Short | None = None
        with self._board.held() as is_held:
            if not is_held:
                # What looks after orders that are there goes on; a new one can wait.
                is_patient = purpose >= Purpose.PLACE
                return Short(LOCKED_AGAIN_S, "its counts are locked") if is_patient else None
            counts = [self._board.count(wish.name, wish.limit) for wish in wishes]
            now = self._board.now()
            for wish, count in zip(wishes, counts, strict=True):
                # The limit as anybody of this machine last heard it from the venue.
                ceiling = count.most * wish.share
                wait_s = count.wait_s(wish.amount, ceiling, now)
                if wait_s > (short.wait_s if short else 0.0):
                    of = f"{wish.name}: {count.used:.0f} of {ceiling:.0f} for this purpose"
                    short = Short(wait_s, of)
            if short is None:
                for wish, count in zip(wishes, counts, strict=True):
                    count.add(wish.amount)
        return short

    def _wishes(self, cost: Mapping[str, int], purpose: Purpose) -> Iterator[Wish]:
        for wanted, amount in cost.items():
            family, _, market = wanted.partition(":")
            for limit in self._families[family]:
                share = SHARES[purpose] if limit.has_reserve else 1.0
                name = self._named(limit, market)
                yield Wish(name, limit, float(amount), share)

    def _hear_elsewhere(
        self, at: Elsewhere, used: Mapping[str, int], asked_at: float | None
    ) -> None:
        age = {} if asked_at is None else {"age": self._board.now() - asked_at + GRACE_S}
        counts = []
        for full_name, amount in used.items():
            name, _, market = full_name.partition(":")
            if (limit := self._names.get(name)) is not None:
                counts.append(at.count(self._named(limit, market), limit, amount=amount, **age))
        at.hear(counts)

    def _named(self, limit: Limit, market: str = "") -> str:
        name = f"{limit.name}:{market}" if market else limit.name
        return f"{self.account}/{name}" if limit.of_account else name

    def _learn(self, limits: Sequence[Limit]) -> None:
        # New values, never changed in place: other threads are reading the old ones.
        names = self._names | {limit.name: limit for limit in limits}
        families: dict[str, list[Limit]] = {}
        for limit in names.values():
            families.setdefault(limit.family, []).append(limit)
        self._names, self._families = names, families

    def _until(self, seconds: float) -> datetime:
        return self._clock.now() + timedelta(seconds=seconds)
