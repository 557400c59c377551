"""See what is wrong, say that somebody is at it, silence it, and try whether people are told."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from botswarm.cli.command import Group
from botswarm.cli.moments import Duration
from botswarm.cli.numbers import ROW
from botswarm.cli.session import Answer, Session
from botswarm.cli.table import in_columns
from botswarm.cli.trading import person
from botswarm.errors import BotswarmError, NotFound

if TYPE_CHECKING:
    from botswarm.config import Settings
    from botswarm.domain.alert import Episode, Notice
    from botswarm.ledger.alerts import Alerts

DAYS_SHOWN = 7
SHOWN_MAX = 200
WATCH = "watch-alerts"
WATCHED_WITHIN = timedelta(seconds=90)
"""Workers write down every half minute that they looked."""


@click.group(cls=Group)
def alert() -> None:
    """See what is wrong, silence it, and try who is told."""


@alert.command("list")
@click.option("--all", "with_past", is_flag=True, help="Also what was over within seven days.")
@click.option("--notices", is_flag=True, help="What people were told, or will be.")
@click.option("--silences", is_flag=True, help="What nobody is told of at the moment.")
@click.pass_obj
def list_alerts(session: Session, with_past: bool, notices: bool, silences: bool) -> Answer:
    """List what is wrong now, the most urgent first.

    While the ledger is away this is what the watch knows on this machine.
    """
    if notices and silences:
        raise click.UsageError("--notices and --silences are two lists")
    settings = session.settings()
    alerts = _alerts(settings)
    if notices:
        return _told(alerts)
    if silences:
        return _silenced(alerts)
    now = datetime.now(UTC)
    looked_at, warnings = _looked_here(settings, now), []
    try:
        looked_at = max(filter(None, (looked_at, _looked_elsewhere(settings))), default=None)
        if alerts.silences(now):
            warnings.append("some alerts are told to nobody; see: botswarm alert list --silences")
        episodes = list(alerts.open())
        if with_past:
            since = now - timedelta(days=DAYS_SHOWN)
            episodes += alerts.history(since=since, limit=SHOWN_MAX)
    except BotswarmError as error:
        episodes = _known_here(settings)
        warnings.append(f"{error.cause}; shown is what this machine's watch knows")
    is_watched = looked_at is not None and now - looked_at < WATCHED_WITHIN
    if not is_watched:
        warnings.append(_unwatched(looked_at))
    return _listed(episodes, warnings, is_watched=is_watched)


def _unwatched(looked_at: datetime | None) -> str:
    when = "yet" if looked_at is None else f"since {looked_at:%Y-%m-%d %H:%M:%S}"
    return f"nobody has looked for it {when}: does a beat run, and a worker of ops? botswarm ps"


def _looked_here(settings: Settings, now: datetime) -> datetime | None:
    from botswarm.alerts.spool import Spool

    age_s = Spool(settings.state_dir).age_s(now.timestamp())
    return None if age_s is None else now - timedelta(seconds=age_s)


def _looked_elsewhere(settings: Settings) -> datetime | None:
    """Workers of other machines say so in the ledger."""
    from botswarm.ledger.schedules import Schedules
    from botswarm.ledger.session import Database

    known = Schedules(Database(settings.database_url)).known().get(WATCH)
    return None if known is None else known.ended_at


def _listed(episodes: list[Episode], warnings: list[str], *, is_watched: bool) -> Answer:
    from botswarm.domain.alert import URGENCY

    ordered = sorted(
        episodes, key=lambda each: (each.ended_at is not None, -URGENCY[each.severity])
    )
    rows = [
        (
            each.severity.value,
            each.name,
            each.subject or "-",
            _state(each),
            f"{each.began_at:%m-%d %H:%M:%S}",
            each.words,
        )
        for each in ordered
    ]
    heads = ["SEVERITY", "ALERT", "ABOUT", "STATE", "SINCE", "WHAT"]
    nothing = "Nothing is wrong." if is_watched else "Nothing is known to be wrong."
    first = next((each for each in ordered if each.ended_at is None), None)
    return Answer(
        data=[_described(each) for each in ordered],
        text=in_columns(heads, rows) if rows else nothing,
        warnings=warnings,
        next=[f"botswarm runbook {first.name}"] if first is not None else (),
    )


def _state(episode: Episode) -> str:
    if episode.ended_at is not None:
        return "over"
    if episode.fired_at is None:
        return "pending"
    if episode.acknowledged_by is not None:
        return f"taken by {episode.acknowledged_by}"
    return "firing" if episode.told_at is not None else "silent"


def _told(alerts: Alerts) -> Answer:
    found = alerts.notices(waiting=False, limit=SHOWN_MAX)
    rows = [
        (
            f"{each.at:%m-%d %H:%M:%S}",
            each.channel,
            each.kind.value,
            each.name,
            each.subject or "-",
            _fate(each),
        )
        for each in found
    ]
    heads = ["WRITTEN", "CHANNEL", "KIND", "ALERT", "ABOUT", "TOLD"]
    text = in_columns(heads, rows) if rows else "Nobody was told of anything yet."
    return Answer(data=[asdict(each) for each in found], text=text)


def _fate(notice: Notice) -> str:
    if notice.sent_at is not None:
        return f"{notice.sent_at:%m-%d %H:%M:%S}"
    if notice.gave_up_at is not None:
        return f"given up after {notice.attempts} attempts: {notice.error}"
    if notice.error:
        return f"attempt {notice.attempts + 1} at {notice.due_at:%H:%M:%S}: {notice.error}"
    return f"due {notice.due_at:%m-%d %H:%M:%S}"


def _silenced(alerts: Alerts) -> Answer:
    found = alerts.silences(datetime.now(UTC))
    rows = [
        (
            each.id,
            each.name or "every alert",
            each.subject or "-",
            f"{each.until:%m-%d %H:%M:%S}",
            each.actor,
            each.reason,
        )
        for each in found
    ]
    heads = ["NUMBER", "ALERT", "ABOUT", "UNTIL", "BY", "REASON"]
    text = in_columns(heads, rows) if rows else "Nothing is silenced."
    return Answer(data=[asdict(each) for each in found], text=text)


@alert.command("rules")
@click.pass_obj
def rules(session: Session) -> Answer:
    """List every alert there is: how urgent, after how long, and what it says."""
    from botswarm.alerts.rules import RULES

    rows = [
        (
            rule.name,
            rule.severity.value,
            f"{rule.for_s} s",
            "both" if rule.probe is not None else "Prometheus",
            rule.expression,
        )
        for rule in RULES
    ]
    data = [
        {
            "name": rule.name,
            "severity": rule.severity.value,
            "for_s": rule.for_s,
            "has_probe": rule.probe is not None,
            "expression": rule.expression,
            "says": rule.says,
            "explained_by": list(rule.explained_by),
        }
        for rule in RULES
    ]
    heads = ["ALERT", "SEVERITY", "FOR", "SEEN BY", "EXPRESSION"]
    return Answer(data=data, text=in_columns(heads, rows))


@alert.command("test")
@click.option("--channel", metavar="NAME", help="Only this one: email, slack, telegram, …")
@click.pass_obj
def test(session: Session, channel: str | None) -> Answer:
    """Tell every channel something harmless, and say which of them took it."""
    from botswarm.alerts import channels

    settings = session.settings()
    found = channels.of(settings)
    if channel is not None and channel not in found:
        raise NotFound(
            f"no channel {channel} has an address",
            cure=f"set BOTSWARM_NOTIFY_{channel.upper()}_URL, or name one of: "
            f"{', '.join(found) or 'none has'}",
        )
    if not found:
        raise NotFound(
            "nobody is told of anything: no channel has an address",
            cure="set BOTSWARM_NOTIFY_SLACK_URL, _EMAIL_URL, _TELEGRAM_URL, _PAGERDUTY_URL or "
            "_WEBHOOK_URL",
        )
    results: dict[str, str] = {}
    failure: BotswarmError | None = None
    for name in [channel] if channel is not None else list(found):
        try:
            found[name].tell([_harmless(name)], f"{settings.env} {settings.instance_id}")
            results[name] = "told"
        except BotswarmError as error:
            results[name], failure = error.cause, error
    text = in_columns(["CHANNEL", "RESULT"], list(results.items()))
    return Answer(data=results, text=text, failure=failure)


def _harmless(channel: str) -> Notice:
    from botswarm.domain.alert import Notice, NoticeKind, Severity

    now = datetime.now(UTC)
    return Notice(
        kind=NoticeKind.TEST,
        channel=channel,
        severity=Severity.INFO,
        name="TestAlert",
        subject="",
        words=f"{person()} tries whether you are told; nothing is wrong",
        cure="",
        value="",
        at=now,
        due_at=now,
        began_at=now,
    )


@alert.command("silence")
@click.argument("name")
@click.option("--about", default="", metavar="WHAT", help="Only of this, as ABOUT in the list.")
@click.option("--for", "for_s", type=Duration(), default="2h", show_default=True, help="How long.")
@click.option("--reason", required=True, help="Kept in the audit log.")
@click.pass_obj
def silence(session: Session, name: str, about: str, for_s: float, reason: str) -> Answer:
    """Tell nobody of the alert NAME for a while; "all" is every alert.

    It is still seen and listed. Whatever still holds when the silence ends is told then.
    """
    from botswarm.alerts.rules import BY_NAME
    from botswarm.domain.alert import Silence

    if name != "all" and name not in BY_NAME:
        raise NotFound(f"there is no alert {name}", cure="see: botswarm alert rules")
    now = datetime.now(UTC)
    kept = _alerts(session.settings()).silence(
        Silence(
            name="" if name == "all" else name,
            subject=about,
            at=now,
            until=now + timedelta(seconds=for_s),
            actor=person(),
            reason=reason,
        )
    )
    text = f"{name} is silenced until {kept.until:%Y-%m-%d %H:%M:%S} UTC (number {kept.id})"
    return Answer(data=asdict(kept), text=text, next=[f"botswarm alert unsilence {kept.id}"])


@alert.command("unsilence")
@click.argument("number", type=ROW)
@click.pass_obj
def unsilence(session: Session, number: int) -> Answer:
    """End a silence before its time; NUMBER is that of alert list --silences."""
    done = _alerts(session.settings()).unsilence(number, actor=person(), now=datetime.now(UTC))
    return Answer(data=asdict(done), text=f"{done.name or 'every alert'} is told again")


@alert.command("ack")
@click.argument("name")
@click.option("--about", metavar="WHAT", help="Only of this, as ABOUT in the list.")
@click.pass_obj
def acknowledge(session: Session, name: str, about: str | None) -> Answer:
    """Say that you are at the alert NAME: nobody is reminded of it any more.

    While the ledger is away the watch on this machine is told, and the ledger when it is back.
    """
    from botswarm.alerts.spool import Spool

    settings, now, warnings = session.settings(), datetime.now(UTC), []
    try:
        done = _alerts(settings).acknowledge(name, about, actor=person(), now=now)
    except NotFound:
        raise
    except BotswarmError as error:
        done = Spool(settings.state_dir).acknowledge(name, about, actor=person(), now=now)
        words = "this machine's watch knows, and tells the ledger when it is back"
        warnings.append(f"{error.cause}; {words}")
    text = "\n".join(f"{each.name} {each.subject}: taken by {person()}" for each in done)
    return Answer(data=[_described(each) for each in done], text=text, warnings=warnings)


@alert.command("files")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=Path("docker"))
@click.pass_obj
def files(session: Session, folder: Path) -> Answer:
    """Write the files for Prometheus, Alertmanager and Grafana below FOLDER.

    The compose file's processes are labelled production, or what --profile names: thresholds follow
    that label.
    """
    from botswarm.alerts import boards, prometheus
    from botswarm.errors import Unreachable

    made = {**prometheus.files(session.profile or "production"), **boards.files()}
    try:
        for place, text in made.items():
            path = folder / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    except OSError as error:
        raise Unreachable(
            f"{error.filename} cannot be written: {error.strerror}", cure="name another folder"
        ) from error
    names = [str(folder / place) for place in made]
    return Answer(data=names, text="\n".join(names))


def _alerts(settings: Settings) -> Alerts:
    from botswarm.ledger.alerts import Alerts
    from botswarm.ledger.session import Database

    return Alerts(Database(settings.database_url))


def _known_here(settings: Settings) -> list[Episode]:
    from botswarm.alerts.spool import Spool

    kept = Spool(settings.state_dir).read()
    return [each for each in kept.episodes if each.ended_at is None]


def _described(episode: Episode) -> dict[str, object]:
    return {**asdict(episode), "state": _state(episode)}
