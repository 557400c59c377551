"""What a notice says: in one line, in a few, and as facts for machines."""

from __future__ import annotations

from collections.abc import Sequence

from botswarm.domain.alert import URGENCY, Notice, NoticeKind

TELEGRAM_MAX = 4096
LINES_MAX = 30
MARKS = {
    NoticeKind.FIRED: "",
    NoticeKind.REMINDED: "still: ",
    NoticeKind.ESCALATED: "nobody is at it: ",
    NoticeKind.ENDED: "over: ",
    NoticeKind.TEST: "test: ",
}


def line(notice: Notice) -> str:
    about = f" ({notice.subject})" if notice.subject else ""
    head = f"[{notice.severity.value}] {MARKS[notice.kind]}{notice.name}{about}"
    return f"{head}: {notice.words}" if notice.words else head


def text(notices: Sequence[Notice], source: str) -> str:
    """The most urgent first; of a storm only so many, and how many more there are."""
    ordered = sorted(notices, key=lambda each: -URGENCY[each.severity])
    lines = [f"botswarm {source}"]
    for notice in ordered[:LINES_MAX]:
        lines.append(line(notice))
        if notice.kind is NoticeKind.ENDED:
            continue
        if notice.cure:
            lines.append(f"  do: {notice.cure}")
        if notice.kind is not NoticeKind.TEST:
            lines.append(f"  since {_moment(notice)}; botswarm runbook {notice.name}")
    if len(ordered) > LINES_MAX:
        lines.append(f"and {len(ordered) - LINES_MAX} more: botswarm alert list")
    return "\n".join(lines)


def subject(notices: Sequence[Notice], source: str) -> str:
    first = max(notices, key=lambda each: URGENCY[each.severity])
    more = f" and {len(notices) - 1} more" if len(notices) > 1 else ""
    about = f" ({first.subject})" if first.subject else ""
    head = f"[{first.severity.value}] {MARKS[first.kind]}{first.name}{about}{more}"
    return f"{head} - botswarm {source}".replace("\n", " ")


def facts(notice: Notice) -> dict[str, object]:
    return {
        "id": notice.id,
        "kind": notice.kind.value,
        "name": notice.name,
        "subject": notice.subject,
        "severity": notice.severity.value,
        "words": notice.words,
        "cure": notice.cure,
        "value": notice.value,
        "began_at": notice.began_at.isoformat(),
        "at": notice.at.isoformat(),
        "runbook": f"botswarm runbook {notice.name}",
    }


def _moment(notice: Notice) -> str:
    return f"{notice.began_at:%Y-%m-%d %H:%M:%S} UTC"
