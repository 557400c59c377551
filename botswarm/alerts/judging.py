"""From what is seen now to what has begun, is still so and is over, and who is told of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from botswarm.alerts.quiet import due
from botswarm.config import QuietHours
from botswarm.domain.alert import Episode, Notice, NoticeKind, Seen, Severity, Silence

CLEARS_AFTER = timedelta(seconds=30)
"""Not seen for so long, it is over. Rounds are seconds apart, and several machines make them."""
LASTS_MAX = timedelta(minutes=15)
"""What happened once is held to be so for no longer than that."""
NAGGING = (Severity.CRITICAL, Severity.HIGH)
"""Told again, and on every channel, where nobody says that they are at it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Who is told what, and when."""

    routes: Mapping[Severity, Sequence[str]] = field(default_factory=dict)
    """Channels by severity; only those that have an address."""
    channels: Sequence[str] = ()
    quiet: QuietHours | None = None
    remind_after: timedelta | None = timedelta(hours=4)
    escalate_after: timedelta | None = timedelta(minutes=15)
    clears_after: timedelta = CLEARS_AFTER
    explained_by: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """By name of an alert, those that make it no news: while one of them holds, only it is told."""
    settles_after: timedelta = timedelta(seconds=6)
    """What could be explained waits for so long: checks are made one after the other, and the
    one that explains may be seen a round later.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    episodes: Sequence[Episode]
    """New ones, which have no id, and those that are otherwise than before."""
    passed: Sequence[Episode]
    """Was so, but not for long enough to be told: as if it had never been."""
    notices: Sequence[Notice]


def judge(
    before: Sequence[Episode],
    seen: Sequence[Seen],
    silences: Sequence[Silence],
    policy: Policy,
    now: datetime,
) -> Changes:
    """``before`` are the episodes that are not over yet."""
    episodes = {each.key: _by_this_clock(each, now) for each in before}
    passed = []
    for what in seen:
        key = (what.name, what.subject)
        episodes[key] = _go_on(episodes.get(key), what, now)
    for key, episode in list(episodes.items()):
        if episode.seen_at + policy.clears_after > now:
            continue
        if episode.fired_at is None:
            passed.append(episodes.pop(key))
        else:
            episodes[key] = replace(episode, ended_at=now)
    notices: list[Notice] = []
    told = [_tell(each, episodes, silences, policy, now, notices) for each in episodes.values()]
    known = {each.key: each for each in before}
    return Changes(
        episodes=[each for each in told if known.get(each.key) != each],
        passed=passed,
        notices=notices,
    )


def _by_this_clock(episode: Episode, now: datetime) -> Episode:
    """A clock that was ahead has been set back: what it wrote down would hold until it is there
    again, and nothing would begin, go on or end meanwhile.
    """
    moments = {
        name: min(at, now)
        for name in ("began_at", "fired_at", "told_at", "escalated_at")
        if (at := getattr(episode, name)) is not None
    }
    seen_at = now if episode.seen_at > now + LASTS_MAX else episode.seen_at
    return replace(episode, seen_at=seen_at, **moments)


def _go_on(episode: Episode | None, what: Seen, now: datetime) -> Episode:
    if episode is None:
        episode = Episode(
            name=what.name,
            subject=what.subject,
            severity=what.severity,
            words=what.words,
            cure=what.cure,
            value=what.value,
            began_at=now,
            seen_at=now,
        )
    episode = replace(
        episode,
        severity=what.severity,
        words=what.words,
        cure=what.cure,
        value=what.value,
        seen_at=max(episode.seen_at, now + timedelta(seconds=what.lasts_s)),
    )
    if episode.fired_at is None and now - episode.began_at >= timedelta(seconds=what.for_s):
        episode = replace(episode, fired_at=now)
    return episode


def _tell(
    episode: Episode,
    all_of_them: Mapping[tuple[str, str], Episode],
    silences: Sequence[Silence],
    policy: Policy,
    now: datetime,
    notices: list[Notice],
) -> Episode:
    kind = _news(episode, policy, now)
    if kind is None or any(each.covers(*episode.key, now) for each in silences):
        return episode
    if kind is NoticeKind.FIRED and _may_be_explained(episode, policy, now):
        return episode
    if kind is not NoticeKind.ENDED and _is_explained(episode, all_of_them, policy):
        return episode
    notices += notices_of(episode, kind, policy, now)
    if kind is NoticeKind.ESCALATED:
        return replace(episode, told_at=now, escalated_at=now)
    return replace(episode, told_at=now)


def _news(episode: Episode, policy: Policy, now: datetime) -> NoticeKind | None:
    if episode.fired_at is None:
        return None
    if episode.ended_at is not None:
        return NoticeKind.ENDED if episode.told_at is not None else None
    if episode.told_at is None:
        return NoticeKind.FIRED
    if episode.severity not in NAGGING or episode.acknowledged_at is not None:
        return None
    escalate, remind = policy.escalate_after, policy.remind_after
    if escalate and episode.escalated_at is None and now - episode.fired_at >= escalate:
        return NoticeKind.ESCALATED
    if remind and now - episode.told_at >= remind:
        return NoticeKind.REMINDED
    return None


def _may_be_explained(episode: Episode, policy: Policy, now: datetime) -> bool:
    assert episode.fired_at is not None
    is_new = now - episode.fired_at < policy.settles_after
    return is_new and bool(policy.explained_by.get(episode.name))


def _is_explained(
    episode: Episode, all_of_them: Mapping[tuple[str, str], Episode], policy: Policy
) -> bool:
    """Whether another one says it better: of the same subject, or of the whole swarm."""
    subjects = {"", episode.subject}
    return any(
        (other := all_of_them.get((name, subject))) is not None
        and other.fired_at is not None
        and other.ended_at is None
        for name in policy.explained_by.get(episode.name, ())
        for subject in subjects
    )


def notices_of(
    episode: Episode, kind: NoticeKind, policy: Policy, now: datetime
) -> Iterator[Notice]:
    is_for_all = kind is NoticeKind.ESCALATED or (
        kind is NoticeKind.ENDED and episode.escalated_at is not None
    )
    for channel in policy.channels if is_for_all else policy.routes.get(episode.severity, ()):
        yield Notice(
            kind=kind,
            channel=channel,
            severity=episode.severity,
            name=episode.name,
            subject=episode.subject,
            words=episode.words,
            cure=episode.cure,
            value=episode.value,
            at=now,
            due_at=due(policy.quiet, episode.severity, now),
            began_at=episode.began_at,
        )
