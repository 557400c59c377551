"""The ways to tell people: what each of them is sent, and when it counts as told."""

from __future__ import annotations

import base64
import http.client
import json
import smtplib
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from botswarm.alerts import wording
from botswarm.config import Secret, Settings
from botswarm.domain.alert import Notice, NoticeKind, Severity
from botswarm.errors import BotswarmError, Unreachable

LIMIT_S = 10.0
SAID_MAX = 200
PAGERDUTY_SEVERITY = {
    Severity.CRITICAL: "critical",
    Severity.HIGH: "error",
    Severity.WARNING: "warning",
    Severity.INFO: "info",
}


@dataclass(frozen=True, slots=True)
class Channel:
    name: str
    address: Secret
    send: Callable[[SplitResult, Sequence[Notice], str], None]
    at_once_max: int = 50
    """So many notices go into one message."""

    def tell(self, notices: Sequence[Notice], source: str) -> None:
        """Return once they were taken; raises Unreachable where they were not, or may not be.

        ``source`` is who speaks: several swarms may speak to one person.
        """
        try:
            self.send(urlsplit(self.address.reveal()), notices, source)
        except (OSError, http.client.HTTPException, smtplib.SMTPException) as error:
            raise Unreachable(
                f"{self.name} was not told: {_words(error)}",
                cure=f"check BOTSWARM_NOTIFY_{self.name.upper()}_URL: botswarm alert test",
            ) from error


class _NotTaken(http.client.HTTPException):
    """The other side answered, and did not take it."""


def of(settings: Settings) -> Mapping[str, Channel]:
    """Those that have an address."""
    addresses = {
        "email": (settings.notify_email_url, _send_email),
        "slack": (settings.notify_slack_url, _send_slack),
        "telegram": (settings.notify_telegram_url, _send_telegram),
        "pagerduty": (settings.notify_pagerduty_url, _send_pagerduty),
        "webhook": (settings.notify_webhook_url, _send_webhook),
    }
    # An incident of its own for each, so that each can be resolved.
    at_once = {"pagerduty": 1}
    return {
        name: Channel(name, address, send, at_once.get(name, 50))
        for name, (address, send) in addresses.items()
        if address is not None
    }


def _send_slack(url: SplitResult, notices: Sequence[Notice], source: str) -> None:
    _post(url, {"text": wording.text(notices, source)})


def _send_telegram(url: SplitResult, notices: Sequence[Notice], source: str) -> None:
    chat = parse_qs(url.query)["chat_id"][0]
    text = wording.text(notices, source)[: wording.TELEGRAM_MAX]
    body = {"chat_id": chat, "text": text, "disable_web_page_preview": True}
    _post(url._replace(query=""), body)


def _send_pagerduty(url: SplitResult, notices: Sequence[Notice], source: str) -> None:
    key = parse_qs(url.query)["routing_key"][0]
    for notice in notices:
        is_over = notice.kind is NoticeKind.ENDED
        body: dict[str, object] = {
            "routing_key": key,
            "event_action": "resolve" if is_over else "trigger",
            "dedup_key": f"botswarm/{source}/{notice.name}/{notice.subject}"[:255],
        }
        if not is_over:
            body["payload"] = {
                "summary": wording.line(notice)[:1024],
                "severity": PAGERDUTY_SEVERITY[notice.severity],
                "source": source,
                "component": notice.subject or "swarm",
                "group": notice.name,
                "custom_details": wording.facts(notice),
            }
        _post(url._replace(query=""), body)


def _send_webhook(url: SplitResult, notices: Sequence[Notice], source: str) -> None:
    found = [wording.facts(notice) for notice in notices]
    _post(url, {"version": 1, "source": source, "notices": found})


def _post(url: SplitResult, body: Mapping[str, object]) -> None:
    """No redirect is followed: an address that moved is for a person to look at."""
    connection = _connection(url)
    try:
        connection.request(
            "POST",
            url.path + (f"?{url.query}" if url.query else ""),
            body=json.dumps(body, ensure_ascii=False).encode(),
            headers={
                "Content-Type": "application/json; charset=utf-8",
                "User-Agent": "botswarm",
                **_authorization(url),
            },
        )
        answer = connection.getresponse()
        said = answer.read(1 << 16).decode(errors="replace").strip()
    finally:
        connection.close()
    if not 200 <= answer.status < 300:
        raise _NotTaken(f"it answered {answer.status} {said[:SAID_MAX]}".strip())


def _connection(url: SplitResult) -> http.client.HTTPConnection:
    assert url.hostname is not None
    if url.scheme == "https":
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(url.hostname, url.port, timeout=LIMIT_S, context=context)
    return http.client.HTTPConnection(url.hostname, url.port, timeout=LIMIT_S)


def _authorization(url: SplitResult) -> dict[str, str]:
    if url.username is None:
        return {}
    pair = f"{unquote(url.username)}:{unquote(url.password or '')}"
    return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


def _send_email(url: SplitResult, notices: Sequence[Notice], source: str) -> None:
    asked = parse_qs(url.query)
    receivers = [each for part in asked["to"] for each in part.split(",")]
    mail = EmailMessage()
    mail["Subject"] = wording.subject(notices, source)
    mail["From"], mail["To"] = asked["from"][0], ", ".join(receivers)
    if any(notice.severity is Severity.CRITICAL for notice in notices):
        mail["Importance"] = "high"
    mail.set_content(wording.text(notices, source))
    with _mail_server(url) as server:
        if url.username is not None:
            server.login(unquote(url.username), unquote(url.password or ""))
        refused = server.send_message(mail, to_addrs=receivers)
    if refused:
        raise _NotTaken(f"it refused {len(refused)} of {len(receivers)} addresses")


def _mail_server(url: SplitResult) -> smtplib.SMTP:
    assert url.hostname is not None
    context = ssl.create_default_context()
    if url.scheme == "smtps":
        return smtplib.SMTP_SSL(url.hostname, url.port or 465, timeout=LIMIT_S, context=context)
    server = smtplib.SMTP(url.hostname, url.port or 587, timeout=LIMIT_S)
    try:
        server.ehlo()
        if server.has_extn("starttls"):
            server.starttls(context=context)
        elif url.hostname not in ("127.0.0.1", "::1", "localhost"):
            raise _NotTaken("it offers no encryption, and is on another machine")
    except BaseException:
        server.close()
        raise
    return server


def _words(error: Exception) -> str:
    if isinstance(error, BotswarmError):
        return error.cause
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__)[:SAID_MAX]
