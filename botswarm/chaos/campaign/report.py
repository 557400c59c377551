"""What a campaign found: counts as RabbitMQ's Jepsen suite prints them, faults, promises."""

from __future__ import annotations

import math
import os
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from botswarm.chaos.campaign.evidence import Evidence
from botswarm.chaos.campaign.invariants import CHECKS
from botswarm.domain.order import OrderState

BREACHES_SHOWN = 10


@dataclass(slots=True, kw_only=True)
class Struck:
    """How often one fault was to strike, did, and could not."""

    words: str
    planned: int = 0
    done: int = 0
    failed: list[str] = field(default_factory=list)
    took_s: float = 0.0
    did: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True, kw_only=True)
class Report:
    seed: int
    began_at: str
    machine: str
    seconds: float
    faults: dict[str, Struck]
    counts: Mapping[str, int]
    shares: Mapping[str, float]
    drained_s: float
    breaches: Mapping[str, Sequence[str]]
    impossible: Mapping[str, str]
    """Faults that this machine cannot have, and why."""
    notes: Sequence[str] = ()

    @property
    def is_clean(self) -> bool:
        return not any(self.breaches.values()) and not any(
            each.failed for each in self.faults.values()
        )

    def as_data(self) -> dict[str, Any]:
        # asdict takes a Counter apart and puts it together wrongly.
        did = {code: dict(each.did) for code, each in self.faults.items()}
        data = {**asdict(self), "is_clean": self.is_clean}
        for code, each in data["faults"].items():
            each["did"] = did[code]
        return data


def machine() -> str:
    kilobytes = int(Path("/proc/meminfo").read_text(encoding="ascii").split()[1])
    return f"{os.cpu_count()} cores, {kilobytes / 2**20:.0f} GB, {platform.system()} " + (
        f"{platform.release()}, Python {platform.python_version()}"
    )


def counts_of(found: Evidence) -> tuple[dict[str, int], dict[str, float]]:
    """Attempted, acknowledged, executed, lost, doubled, unexpected, recovered, orphaned."""
    states = {order_id: {e.after for e in events} for order_id, events in found.events.items()}
    sent = {order_id for order_id, each in found.attempts.items() if each}
    doubtful = {order_id for order_id, each in states.items() if "unknown" in each}
    ended = {each.id for each in found.orders.values() if OrderState(each.state).is_final}
    accepted, ended_at = found.accepted(), found.ended_at()
    told = found.verification.counts
    counts = {
        "attempted": found.tally.attempted,
        "acknowledged": len(found.tally.acknowledged),
        "orders": len(found.orders),
        "sent": len(sent),
        "attempts": sum(map(len, found.attempts.values())),
        "executed": len(accepted),
        "fills": len(found.fills),
        "lost": len(found.tally.acknowledged - found.orders.keys())
        + told.get("lost", 0)
        + told.get("missing", 0)
        + len(found.orders.keys() - ended),
        "doubled": sum(count > 1 for count in accepted.values()),
        "unexpected": told.get("unknown", 0),
        "orphaned": told.get("pending_fills", 0) + sum(map(math.isinf, ended_at.values())),
        "in doubt": len(doubtful),
        "recovered": len(doubtful & ended),
        "late bytes refused": found.refused.get("-1021", 0),
        "cancelled": sum(e["type"] == "cancel" for each in found.journal.values() for e in each),
        "wished to end": found.tally.wished,
        "dead letters": found.dead,
        "storms": len(found.storms),
    }
    share = len(doubtful & sent) / len(sent) if sent else 0.0
    return counts, {"in doubt": round(share, 3)}


def as_text(report: Report) -> str:
    """Markdown, which a terminal shows as well."""
    verdict = "every promise held" if report.is_clean else "FAILED"
    lines = [
        "# Fault campaign",
        "",
        f"{report.began_at}, {report.machine}. Seed {report.seed}, {report.seconds / 60:.1f} "
        f"minutes. **{verdict}**",
        "",
        f"`botswarm chaos run --seed {report.seed}` with the same options plays the same schedule "
        "and the same orders; docs/chaos.md says what each fault and promise is.",
        "",
        "## Orders",
        "",
        "| | |",
        "| --- | ---: |",
        *(f"| {name} | {count:,} |" for name, count in report.counts.items()),
        *(f"| share {name} | {share:.1%} |" for name, share in report.shares.items()),
        f"| seconds from the last fault until nothing was on its way | {report.drained_s:.1f} |",
        "",
        "## Faults",
        "",
        "| | fault | planned | struck | seconds, median | what it did |",
        "| --- | --- | ---: | ---: | ---: | --- |",
        *(_row(code, each) for code, each in report.faults.items()),
        "",
        *(f"- {code} could not be tried here: {why}" for code, why in report.impossible.items()),
        *(
            f"- {code} failed to strike: {words}"
            for code, each in report.faults.items()
            for words in each.failed
        ),
        "",
        "## Promises",
        "",
        "| | promise | breaches |",
        "| --- | --- | ---: |",
        *(
            f"| {name} | {CHECKS[name][0]} | {len(breaches) or 'none'} |"
            for name, breaches in report.breaches.items()
        ),
        "",
    ]
    for name, breaches in report.breaches.items():
        lines += [f"- **{name}** {words}" for words in breaches[:BREACHES_SHOWN]]
    lines += [f"- {note}" for note in report.notes]
    return "\n".join(lines).rstrip() + "\n"


def _row(code: str, each: Struck) -> str:
    often = ", ".join(f"{words} ({count})" for words, count in each.did.most_common(4))
    return f"| {code} | {each.words} | {each.planned} | {each.done} | {each.took_s:.1f} | {often} |"


def struck(
    found: Evidence, planned: Mapping[str, int], words: Mapping[str, str]
) -> dict[str, Struck]:
    faults = {
        code: Struck(words=words[code], planned=planned.get(code, 0))
        for code in sorted(planned, key=lambda code: int(code[1:]))
    }
    took: dict[str, list[float]] = {}
    for note in found.notes:
        each = faults[note.code]
        took.setdefault(note.code, []).append(note.took_s)
        if note.failed:
            each.failed.append(f"round {note.round}: {note.failed}")
        else:
            each.done += 1
            each.did[_kind(note.did)] += 1
    for code, seconds in took.items():
        faults[code].took_s = median(seconds)
    return faults


def _kind(did: str) -> str:
    """What was done without its numbers, so that the same things are counted together."""
    kept = "".join("#" if letter.isdigit() else letter for letter in did)
    while "##" in kept:
        kept = kept.replace("##", "#")
    return kept.replace("#.#", "#").replace("+#", "#").replace("-#", "#")[:60]


def now_words() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
