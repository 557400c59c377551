"""Ask every process of this machine how it is, or wait until all are well."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from botswarm.cli.command import Command
from botswarm.cli.failures import CheckFailed
from botswarm.cli.numbers import Seconds
from botswarm.cli.session import Answer, Session
from botswarm.cli.table import in_columns
from botswarm.errors import BotswarmError, NotFound, TimedOut
from botswarm.health import ask, card
from botswarm.health.ask import Said
from botswarm.health.check import worst_of

LIVE, READY, HEALTHY, DETAILED = "/livez", "/readyz", "/health", "/health/detailed"
PAGES = {"live": LIVE, "ready": READY, "healthy": HEALTHY}
AGAIN_S = 0.5
WAIT_S = 120.0
MARKS = {"ok": "ok", "warn": "WARN", "fail": "FAIL"}
WORDS = {"ok": "healthy", "warn": "degraded", "fail": "unhealthy"}
DEFAULT_FOLDER = ".botswarm"


@click.command(cls=Command)
@click.option("--detailed", is_flag=True, help="Every check of every process, with its cure.")
@click.option(
    "--wait",
    type=click.Choice(list(PAGES)),
    help="Ask again until all processes are: alive, ready for work, or healthy.",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=Seconds(0),
    default=WAIT_S,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait with --wait.",
)
@click.option("--process", "names", multiple=True, metavar="NAME", help="Only this one.")
@click.option("--forget", metavar="NAME", help="Miss a process no longer that is gone for good.")
@click.pass_obj
def health(
    session: Session,
    detailed: bool,
    wait: str | None,
    timeout_s: float,
    names: tuple[str, ...],
    forget: str | None,
) -> Answer:
    """Ask every process of this machine how it is.

    Exit 0 where none is unhealthy, 3 where one is or has died, 4 where none runs, and 7 where
    --wait waited in vain. For a container's own check there is python -m botswarm.health, which
    takes even less.
    """
    folder = _state_dir(session)
    if forget is not None:
        return _forgotten(folder, forget)
    deadline = time.monotonic() + timeout_s
    page = DETAILED if detailed else PAGES.get(wait or "", HEALTHY)
    while True:
        said = _asked(folder, page, names)
        is_well = bool(said) and all(each.code == 200 for each in said)
        if wait is None or is_well:
            break
        if time.monotonic() > deadline:
            return _told(said, detailed, _in_vain(said, wait, timeout_s))
        time.sleep(AGAIN_S)
    if not said:
        raise NotFound(f"no process runs on {folder}", cure="start them: botswarm up")
    return _told(said, detailed, _failure(said))


def _state_dir(session: Session) -> Path:
    """Without the settings where nothing but the environment can say it: that takes time."""
    files = (Path(".env"), Path("botswarm.toml"))
    if session.config_file is None and not any(path.exists() for path in files):
        return Path(session.environ.get("BOTSWARM_STATE_DIR") or DEFAULT_FOLDER)
    return session.settings().state_dir


def _asked(folder: Path, page: str, names: Sequence[str]) -> Sequence[Said]:
    found = card.found(folder)
    unknown = sorted(set(names) - {each.card.name for each in found})
    if unknown:
        known = ", ".join(each.card.name for each in found) or "none"
        raise NotFound(f"no process is named {', '.join(unknown)}", cure=f"those are: {known}")
    return ask.ask([each for each in found if not names or each.card.name in names], page)


def _told(said: Sequence[Said], detailed: bool, failure: BotswarmError | None) -> Answer:
    status = worst_of(each.status for each in said)
    data = {"status": WORDS[status], "processes": [_row(each) for each in said]}
    if detailed:
        lines = [line for each in said for line in _checks(each)]
        text = in_columns(["PROCESS", "", "CHECK", "FOUND"], lines)
    else:
        lines = [
            (each.process.card.name, MARKS[each.status], each.process.card.address, each.words)
            for each in said
        ]
        text = in_columns(["PROCESS", "", "ADDRESS", "FOUND"], lines)
    return Answer(data=data, text=text, failure=failure)


def _row(said: Said) -> dict[str, Any]:
    found = said.process.card
    row: dict[str, Any] = {
        "name": found.name,
        "role": found.role,
        "queues": list(found.queues),
        "pid": found.pid,
        "address": found.address,
        "code": said.code,
        "status": WORDS[said.status],
    }
    if said.trouble:
        row["trouble"] = said.trouble
    for name in ("checks", "trouble", "missing", "uptime", "swarm_uptime", "network"):
        if name in said.page:
            row[name] = said.page[name]
    return row


def _checks(said: Said) -> list[tuple[str, str, str, str]]:
    name = said.process.card.name
    if said.trouble:
        return [(name, MARKS["fail"], "", said.words)]
    return [
        (
            name,
            MARKS[each.status],
            each.name,
            f"{each.words}; {each.cure}" if each.cure else each.words,
        )
        for each in said.checks
    ] + [(name, "", what, words) for what, words in _figures(said.page)]


def _figures(page: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What is measured beside the checks, with what it is held to."""
    if far := page.get("network"):
        trips = ", ".join(f"{peer} {ms:g} ms" for peer, ms in far["round_trip_ms"].items())
        yield "network", f"{trips} away; {far['limit_ms']:g} ms at most is usual"
    if up := page.get("swarm_uptime"):
        shares = ", ".join(f"{share:g} % of {window}" for window, share in up["percent"].items())
        since = f"known since {up['known_since']}"
        yield "uptime", f"{shares}; {up['promised_percent']:g} % is promised; {since}"


def _failure(said: Sequence[Said]) -> BotswarmError | None:
    bad = [each.process.card.name for each in said if each.status == "fail"]
    if not bad:
        return None
    return CheckFailed(
        f"unhealthy: {', '.join(bad)}", cure="botswarm health --detailed says what to do"
    )


def _in_vain(said: Sequence[Said], wait: str, timeout_s: float) -> BotswarmError:
    bad = [each.process.card.name for each in said if each.code != 200]
    words = f"not {wait} after {timeout_s:g} s: {', '.join(bad)}" if bad else "no process runs"
    return TimedOut(words, cure="botswarm health --detailed says what to do")


def _forgotten(folder: Path, name: str) -> Answer:
    for each in card.found(folder):
        if each.card.name != name:
            continue
        if each.is_alive:
            raise NotFound(f"{name} runs (pid {each.card.pid})", cure="stop it: botswarm down")
        card.forget(folder, each.card)
        return Answer(data={"forgotten": name}, text=f"{name} is missed no longer.")
    raise NotFound(f"no process is named {name}", cure="those there are: botswarm health")
