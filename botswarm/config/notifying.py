"""The settings of the notifier: whom it tells, of what, and when it lets people sleep."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote, urlsplit
from zoneinfo import ZoneInfo, available_timezones

from botswarm.config import urls
from botswarm.config.kinds import Kind, Setting, whole_number
from botswarm.config.secret import Address
from botswarm.errors import Problem

CHANNELS = ("email", "slack", "telegram", "pagerduty", "webhook")
SEVERITIES = ("critical", "high", "warning", "info")
EVERYBODY = "all"


@dataclass(frozen=True, slots=True)
class QuietHours:
    """From a minute of the day to another, by the clocks of a time zone; it may span midnight."""

    begins: int
    ends: int
    zone: str

    def __str__(self) -> str:
        return f"{_clock(self.begins)}-{_clock(self.ends)} {self.zone}"


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


def _quiet_hours(text: str) -> object:
    match = re.fullmatch(r"([0-9]{1,2}):([0-9]{2})-([0-9]{1,2}):([0-9]{2})(?: +(\S+))?", text)
    cure = "write 22:00-07:00 Europe/Berlin; without a zone it is UTC"
    if match is None:
        return Problem(f"is {text!r}, which are no hours", cure)
    begins, ends = (int(match[i]) * 60 + int(match[i + 1]) for i in (1, 3))
    if max(begins, ends) >= 1440 or int(match[2]) > 59 or int(match[4]) > 59 or begins == ends:
        return Problem(f"is {text!r}, which is no span of a day", cure)
    zone = match[5] or "UTC"
    if zone not in available_timezones() | {"UTC"}:
        return Problem(f"names the time zone {zone!r}, which this machine does not know", cure)
    return QuietHours(begins, ends, ZoneInfo(zone).key)


def _routes(text: str) -> object:
    routes: dict[str, tuple[str, ...]] = {}
    cure = "write critical=all,high=slack+email,warning=slack,info=none"
    for pair in text.replace(" ", "").lower().split(","):
        severity, _, named = pair.partition("=")
        if severity not in SEVERITIES:
            return Problem(f"names the severity {severity!r}, which does not exist", cure)
        channels = named.split("+")
        if stray := [each for each in channels if each not in (*CHANNELS, EVERYBODY, "none")]:
            return Problem(f"sends {severity} to {stray[0]!r}, which is no channel", cure)
        wanted = CHANNELS if EVERYBODY in channels else channels
        routes[severity] = tuple(each for each in CHANNELS if each in wanted)
    return routes


def _https(example: str, needs: Callable[[str], Problem | None] = lambda _: None) -> Kind:
    """An address to post to. Its path or query is as good as a password."""

    def read(text: str) -> object:
        url = urls.server(text, ("https", "http"), example)
        if isinstance(url, Problem):
            return url
        if url.scheme == "http" and url.hostname not in urls.HERE:
            return Problem("is not encrypted and leaves this machine", "write https:// instead")
        return needs(text) or Address(text)

    return Kind(read=read, schema={"type": "string", "format": "uri"}, words=example)


def _query(name: str, example: str) -> Callable[[str], Problem | None]:
    def needs(text: str) -> Problem | None:
        if parse_qs(urlsplit(text).query).get(name):
            return None
        return Problem(f"does not say {name}=", f"write it as {example}")

    return needs


_EMAIL = "smtps://user:password@host:465/?from=swarm@example.org&to=you@example.org"


def _email(text: str) -> object:
    url = urls.server(text, ("smtp", "smtps"), _EMAIL)
    if isinstance(url, Problem):
        return url
    asked = parse_qs(url.query)
    for name in ("from", "to"):
        found = [part for each in asked.get(name, []) for part in each.split(",")]
        if not found:
            return Problem(f"does not say {name}=", f"write it as {_EMAIL}")
        if not all(re.fullmatch(r"[^\s@<>,]+@[^\s@<>,]+", unquote(each)) for each in found):
            return Problem(f"says {name}= with what is no address of email", f"write {_EMAIL}")
    return Address(text)


_TELEGRAM = "https://api.telegram.org/botTOKEN/sendMessage?chat_id=CHAT"
_PAGERDUTY = "https://events.pagerduty.com/v2/enqueue?routing_key=KEY"

NOTIFYING: tuple[Setting, ...] = (
    Setting(
        name="notify_email_url",
        kind=Kind(read=_email, schema={"type": "string", "format": "uri"}, words=_EMAIL),
        help="The mail server that takes alerts, and from whom to whom they go; smtp:// is "
        "encrypted by STARTTLS.",
        default_words="none",
        secret=True,
    ),
    Setting(
        name="notify_slack_url",
        kind=_https("https://hooks.slack.com/services/…"),
        help="An incoming webhook of Slack, or of what understands the same (Mattermost, Discord "
        "with /slack at its end).",
        default_words="none",
        secret=True,
    ),
    Setting(
        name="notify_telegram_url",
        kind=_https(_TELEGRAM, _query("chat_id", _TELEGRAM)),
        help="Telegram's sendMessage of a bot, with the chat that is told.",
        default_words="none",
        secret=True,
    ),
    Setting(
        name="notify_pagerduty_url",
        kind=_https(_PAGERDUTY, _query("routing_key", _PAGERDUTY)),
        help="PagerDuty's Events API v2, with the integration's key; an alert that is over "
        "resolves its incident.",
        default_words="none",
        secret=True,
    ),
    Setting(
        name="notify_webhook_url",
        kind=_https("https://example.org/path"),
        help="Gets every notice as a JSON document by POST.",
        default_words="none",
        secret=True,
    ),
    Setting(
        name="notify_routes",
        kind=Kind(
            read=_routes,
            schema={"type": "string"},
            words="severity=channels pairs, such as critical=all,high=slack+email,info=none",
        ),
        help="Which channels are told what, by severity. Severities that are not named are told "
        "as by default; channels without an address are left out.",
        default_words="critical=all,high=all,warning=email+slack+webhook,info=webhook",
    ),
    Setting(
        name="notify_quiet_hours",
        kind=Kind(
            read=_quiet_hours,
            schema={"type": "string"},
            words="hours of the day and a time zone, such as 22:00-07:00 Europe/Berlin",
        ),
        help="When nobody is told of anything that is not critical; the rest comes together "
        "afterwards.",
        default_words="none",
    ),
    Setting(
        name="notify_remind_minutes",
        kind=whole_number(0, 10_080, "minutes"),
        help="How long after the last notice of a critical or high alert it is told again, unless "
        "somebody has acknowledged it; 0 is never.",
        default=240,
    ),
    Setting(
        name="notify_escalate_minutes",
        kind=whole_number(0, 10_080, "minutes"),
        help="How long a critical or high alert may stand without anybody acknowledging it before "
        "every channel is told; 0 is for ever.",
        default=15,
    ),
)
