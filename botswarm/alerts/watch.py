"""One round of the night watch: look, judge, keep, tell; with the ledger or without it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

from botswarm.alerts.channels import Channel
from botswarm.alerts.judging import Changes, Policy, judge
from botswarm.alerts.patience import Patience
from botswarm.alerts.spool import Kept, Spool
from botswarm.clock import Clock
from botswarm.domain.alert import Episode, Notice, Seen, Severity, Silence
from botswarm.errors import BotswarmError
from botswarm.ledger.alerts import Alerts
from botswarm.ledger.risk_events import RiskEvent

logger = logging.getLogger(__name__)

AGAIN_S = 10
AGAIN_MAX_S = 600
GIVE_UP_AFTER = timedelta(days=3)
LEDGER_LIMIT_S = 5.0

Look = Callable[[], Sequence[Seen]]
Read = Callable[[Sequence[RiskEvent]], Sequence[Seen]]
"""What events of risk have to be told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What became of it."""

    is_judged: bool
    """False where somebody else on this machine was at it."""
    with_ledger: bool = True
    open: int = 0
    firing: frozenset[str] = frozenset()
    """Names of those that have been so for long enough."""
    told: int = 0
    failed: int = 0


class Watch:
    def __init__(
        self,
        *,
        alerts: Alerts,
        spool: Spool,
        look: Look,
        read: Read,
        policy: Policy,
        channels: Mapping[str, Channel],
        source: str,
        clock: Clock,
    ) -> None:
        self._alerts = alerts
        self._spool = spool
        self._look = look
        self._read = read
        self._policy = policy
        self._channels = channels
        self._source = source
        self._clock = clock
        self._ledger = Patience(LEDGER_LIMIT_S)
        self._had_ledger = True

    def round(self) -> Round:
        """Two at once do no harm: one judges, and a notice is told by whoever claims it."""
        with self._spool.sole_judge() as is_ours:
            if not is_ours:
                return Round(is_judged=False)
            seen = list(self._look())
            now = self._clock.now()
            try:
                episodes = self._ledger.wait(lambda: self._judge_in_ledger(seen, now))
                with_ledger = True
            except BotswarmError as error:
                if self._had_ledger:
                    logger.warning("alerts are judged without the ledger: %s", error)
                episodes = self._judge_in_spool(seen, now)
                with_ledger = False
            self._had_ledger = with_ledger
            self._spool.mark()
            # The file is ours alone, and what it holds must not be told twice.
            told, failed = (0, 0) if with_ledger else self._tell_from_spool(now)
        if with_ledger:
            try:
                told, failed = self.tell()
            except BotswarmError as error:
                logger.warning("what was told was not written down: %s", error)
        return Round(
            is_judged=True,
            with_ledger=with_ledger,
            open=len(episodes),
            firing=frozenset(each.name for each in episodes if each.fired_at is not None),
            told=told,
            failed=failed,
        )

    # --- judging --------------------------------------------------------------------------

    def _judge_in_ledger(self, seen: Sequence[Seen], now: datetime) -> Sequence[Episode]:
        kept = self._spool.read()
        if kept.is_owed:
            self._alerts.take_over(kept.episodes, kept.notices)
            self._ledger.go_on()
            kept = replace(kept, is_owed=False, notices=[])
            self._spool.write(kept)
            logger.info("the ledger is back, and knows what happened meanwhile")
        standing = self._alerts.standing()
        self._ledger.go_on()
        if seen or standing.has_events or standing.episodes:
            _say(self._alerts.advance(self._judged(seen, now), now), now)
        # For the day on which the ledger is away: what was told already is not told again.
        episodes, silences = self._alerts.open(), self._alerts.silences(now)
        self._ledger.go_on()
        known = Kept(episodes=list(episodes), silences=list(silences))
        if known != kept:
            self._spool.write(known)
        return episodes

    def _judged(
        self, seen: Sequence[Seen], now: datetime
    ) -> Callable[[Sequence[Episode], Sequence[Silence], Sequence[RiskEvent]], Changes]:
        def judged(
            before: Sequence[Episode], silences: Sequence[Silence], events: Sequence[RiskEvent]
        ) -> Changes:
            self._ledger.go_on()
            return judge(before, [*seen, *self._read(events)], silences, self._policy, now)

        return judged

    def _judge_in_spool(self, seen: Sequence[Seen], now: datetime) -> Sequence[Episode]:
        kept = self._spool.read()
        before = [each for each in kept.episodes if each.ended_at is None]
        over = [each for each in kept.episodes if each.ended_at is not None]
        changes = judge(before, seen, kept.silences, self._policy, now)
        _say(changes, now)
        changed = {each.key: each for each in changes.episodes}
        gone = {each.key for each in changes.passed}
        after = [changed.pop(each.key, each) for each in before if each.key not in gone]
        after += changed.values()
        self._spool.write(
            replace(
                kept,
                episodes=[*over, *after],
                notices=[*kept.notices, *changes.notices],
                is_owed=True,
            )
        )
        return [each for each in after if each.ended_at is None]

    # --- telling --------------------------------------------------------------------------

    def tell(self) -> tuple[int, int]:
        """Deliver what is due: how many were told, and how many were not. No lock is held.

        A channel that does not take one is left alone until the next round: the others wait.
        """
        now = self._clock.now()
        told = failed = 0
        names = list(self._channels)
        left: list[Notice] = []
        refused: set[str] = set()
        notices = self._ledger.wait(lambda: self._alerts.claim(now, channels=names))
        for channel, batch in self._batches(notices):
            if channel.name in refused:
                left += batch
                continue
            error = self._try(channel, batch)
            self._ledger.wait(partial(self._note, batch, error, now))
            if error is None:
                told += len(batch)
            else:
                refused.add(channel.name)
                failed += len(batch)
        if left:
            self._ledger.wait(lambda: self._alerts.release(_ids(left)))
        return told, failed + len(left)

    def _note(self, batch: Sequence[Notice], error: str | None, now: datetime) -> None:
        if error is None:
            self._alerts.sent(_ids(batch), now)
            return
        for each in batch:
            assert each.id is not None
            self._alerts.failed([each.id], error, _again_at(each, now), now)

    def _tell_from_spool(self, now: datetime) -> tuple[int, int]:
        kept = self._spool.read()
        notices = list(kept.notices)
        places = {id(each): place for place, each in enumerate(notices)}
        due = [
            each
            for each in notices
            if each.sent_at is None and each.gave_up_at is None and each.due_at <= now
        ]
        told = failed = 0
        refused: set[str] = set()
        for channel, batch in self._batches(due):
            if channel.name in refused:
                failed += len(batch)
                continue
            error = self._try(channel, batch)
            for each in batch:
                notices[places[id(each)]] = (
                    replace(each, sent_at=now, attempts=each.attempts + 1, error="")
                    if error is None
                    else _put_off(each, error, now)
                )
            if error is None:
                told += len(batch)
            else:
                refused.add(channel.name)
                failed += len(batch)
            self._spool.write(replace(kept, notices=notices))
        return told, failed

    def _batches(self, notices: Sequence[Notice]) -> Sequence[tuple[Channel, Sequence[Notice]]]:
        """By channel, as many together as one message may hold."""
        found = []
        for name, channel in self._channels.items():
            mine = [each for each in notices if each.channel == name]
            size = channel.at_once_max
            found += [(channel, mine[i : i + size]) for i in range(0, len(mine), size)]
        return found

    def _try(self, channel: Channel, batch: Sequence[Notice]) -> str | None:
        """None once it was taken, else why not."""
        try:
            channel.tell(batch, self._source)
        except BotswarmError as error:
            logger.error("%s; %d notices wait; %s", error, len(batch), error.cure)
            return error.cause
        return None


def _ids(notices: Sequence[Notice]) -> Sequence[int]:
    return [each.id for each in notices if each.id is not None]


def _put_off(notice: Notice, error: str, now: datetime) -> Notice:
    again_at = _again_at(notice, now)
    notice = replace(notice, attempts=notice.attempts + 1, error=error)
    if again_at is None:
        return replace(notice, gave_up_at=now)
    return replace(notice, due_at=again_at)


def _again_at(notice: Notice, now: datetime) -> datetime | None:
    """At growing distances, and for days: an address may be mended on Monday."""
    if now - notice.at > GIVE_UP_AFTER:
        return None
    pause_s = min(AGAIN_MAX_S, AGAIN_S * (1 << min(notice.attempts, 10)))
    return now + timedelta(seconds=pause_s)


def _say(changes: Changes, now: datetime) -> None:
    """In the log as well: who has set no channel still finds it there."""
    for episode in changes.episodes:
        extra = {"event": "alert", "alert": episode.name, "subject": episode.subject}
        if episode.ended_at is not None:
            logger.info("alert is over: %s", episode.words, extra=extra)
        elif episode.fired_at == now:
            level = logging.INFO if episode.severity is Severity.INFO else logging.ERROR
            words = "alert: %s; botswarm runbook %s"
            logger.log(level, words, episode.words, episode.name, extra=extra)
