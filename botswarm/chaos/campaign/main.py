"""One campaign from its options to its report."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import text

from botswarm.chaos.campaign.evidence import gather
from botswarm.chaos.campaign.invariants import judge
from botswarm.chaos.campaign.load import Load
from botswarm.chaos.campaign.outside import OUTSIDE_FAULTS
from botswarm.chaos.campaign.plan import LANES, Fault, counted, plan, rounds_within
from botswarm.chaos.campaign.processes import PROCESS_FAULTS, dead_letters
from botswarm.chaos.campaign.report import Report, counts_of, machine, now_words, struck
from botswarm.chaos.campaign.runner import DRAIN_MAX_S, Runner, Watcher, drain
from botswarm.chaos.campaign.servers import SERVER_FAULTS
from botswarm.chaos.campaign.stage import Stage, stage
from botswarm.errors import NotFound
from botswarm.ledger import processes
from botswarm.testing.servers import wait_until

FAULTS: Sequence[Fault] = sorted(
    (*PROCESS_FAULTS, *SERVER_FAULTS, *OUTSIDE_FAULTS), key=lambda fault: int(fault.code[1:])
)
FIRST_FILL_S = 300.0
ORDERS_PER_S = 7.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    faults: Sequence[str] = ()
    """Their codes; none are all."""
    seconds: float = 300.0
    rounds: int | None = None
    """How often each; without it as often as fits into the time."""
    seed: int = 1
    lanes: int = LANES
    """So many faults at once."""
    per_s: float = ORDERS_PER_S
    folder: Path | None = None
    """Kept afterwards, with every log."""
    plugin: str | None = None
    """A module that the workers load besides their own."""
    drain_max_s: float = DRAIN_MAX_S


def chosen(codes: Sequence[str]) -> list[Fault]:
    """Raises NotFound for a code that names none."""
    known = {fault.code: fault for fault in FAULTS}
    for code in codes:
        if code not in known:
            raise NotFound(f"there is no fault {code!r}", cure=f"name some of: {', '.join(known)}")
    return [known[code] for code in codes] if codes else list(FAULTS)


def run(options: Options, progress: Callable[[str], None] = lambda _: None) -> Report:
    faults = chosen(options.faults)
    began, began_at = time.monotonic(), now_words()
    with stage(folder=options.folder, plugin=options.plugin, progress=progress) as made:
        impossible = _impossible(faults, made)
        faults = [fault for fault in faults if fault.code not in impossible]
        rounds = options.rounds or rounds_within(
            faults, options.seconds, options.seed, options.lanes
        )
        strikes = plan(
            faults,
            rounds=rounds,
            seconds=options.seconds,
            seed=options.seed,
            lanes=options.lanes,
        )
        with Watcher(made) as watcher, Load(
            made, seed=options.seed, per_s=options.per_s
        ) as load:  # fmt: skip
            wait_until(lambda: _trades(made), "the first fill", FIRST_FILL_S)
            progress(f"trading; {len(strikes)} faults to come")
            runner = Runner(made, strikes, options.seed, progress)
            first = time.time()
            runner.run()
            drained_s, left = drain(made, load, progress, options.drain_max_s)
            watcher.look()
        dead = 0
        try:
            dead = dead_letters(made)
        except Exception as error:
            # An hour of evidence is worth more than this one number of it.
            load.troubles[f"dead letters are not counted: {error!r}"[:120]] += 1
        forgetful, builds = _durability(made), _builds(made)
        _stop_all(made, progress)
        found = gather(
            made,
            tally=load.tally,
            notes=sorted(runner.notes, key=lambda note: note.at_s),
            timeline=watcher.timeline,
            drained_s=drained_s,
            left=left,
            dead=dead,
            settings=forgetful,
            builds=builds,
            roles=list(made.roles),
            began=first,
        )
    progress("judging")
    counts, shares = counts_of(found)
    return Report(
        seed=options.seed,
        began_at=began_at,
        machine=machine(),
        seconds=round(time.monotonic() - began, 1),
        faults=struck(found, counted(strikes), {fault.code: fault.words for fault in FAULTS}),
        counts=counts,
        shares=shares,
        drained_s=round(drained_s, 1),
        breaches=judge(found),
        impossible=impossible,
        notes=[f"{what}: {count} times" for what, count in load.troubles.most_common(5)],
    )


def _impossible(faults: Sequence[Fault], made: Stage) -> dict[str, str]:
    why = {}
    if not all(room.can_fill for room in made.rooms.values()):
        why["mount"] = "a disk that is full takes the right to mount one"
    return {fault.code: why[fault.needs] for fault in faults if fault.needs in why}


def _trades(made: Stage) -> bool:
    return bool(made.exchange.journal("fill"))


def _builds(made: Stage) -> dict[str, list[str]]:
    """While all still run: who stops is forgotten."""
    found: dict[str, list[str]] = {}
    now = datetime.now(UTC)
    for each in made.ledger.database.read(lambda s: processes.seen(processes.asked_in(s), now)):
        settings = json.dumps(dict(each.made.settings), sort_keys=True, default=str)
        digest = hashlib.sha256(settings.encode()).hexdigest()[:12]
        found.setdefault(f"{each.made.build[:12]} with settings {digest}", []).append(each.name)
    return found


def _durability(made: Stage) -> dict[str, str]:
    names = ("fsync", "synchronous_commit", "full_page_writes")
    return made.ledger.database.read(
        lambda session: {name: str(session.scalar(text(f"SHOW {name}"))) for name in names}
    )


def _stop_all(made: Stage, progress: Callable[[str], None]) -> None:
    """As an operator would; the slowest end is a figure of its own."""
    slowest = 0.0
    for role in made.roles.values():
        made.keeper.forget(role)
        began = time.monotonic()
        role.stop()
        slowest = max(slowest, time.monotonic() - began)
    made.stops.append(slowest)
    progress(f"all processes ended; the slowest took {slowest:.1f} s")
