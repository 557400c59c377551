"""Create, edit, move, arm and delete bots, one or ten thousand in one audited transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import delete, func, or_, select, text, update
from sqlalchemy.orm import Session

from botswarm.domain.order import OrderState
from botswarm.errors import NotFound, Problem, Refused
from botswarm.ledger import configurations
from botswarm.ledger.audit import audit_bots, one_or_all
from botswarm.ledger.bot import Bot, BotState
from botswarm.ledger.many import parts, several
from botswarm.ledger.models import BotRow, OrderRow
from botswarm.ledger.revisions import touch
from botswarm.ledger.session import Database

RUNNING_LOCK = 0x72756E73
"""Any number, as long as nobody else in this database uses it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What is known of a bot under its lock when somebody wants to move it."""

    name: str
    venue: str
    account: str
    state: BotState
    armed_until: datetime | None


Judge = Callable[[Standing], Problem | None]
"""Why this bot must not be moved so. Pure: a transaction may be run again."""


def anything_goes(_: Standing) -> Problem | None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    changed: Sequence[str]
    same: Sequence[str] = ()
    """They were there already."""
    refused: Mapping[str, Problem] = field(default_factory=dict)


class Changes:
    """Whatever one call changes is committed together, or not at all."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def save(
        self,
        now: datetime,
        *,
        new: Sequence[Bot] = (),
        edited: Sequence[Bot] = (),
        actor: str,
        reason: str,
        judge: Judge = anything_goes,
        running_max: int | None = None,
        forget: bool = False,
    ) -> None:
        """Create ``new`` as they are, and give ``edited`` a new version of their configuration.

        An edited bot says in ``version`` which one it was made from; its state stays what it
        is, and with ``forget`` its memory does not. Raises Refused for names that are taken,
        bots that were changed meanwhile or are gone, and what ``judge`` says of new ones that
        shall run at once.
        """

        def work(session: Session) -> None:
            touch(session, [bot.name for bot in edited])
            running = [_standing_of(bot) for bot in new if bot.state is BotState.RUNNING]
            _check_all_may(running, judge)
            _check_room(session, len(running), running_max)
            if new:
                configurations.create(session, new, now, actor=actor, reason=reason)
            if edited:
                configurations.edit(session, edited, now, actor=actor, reason=reason, forget=forget)

        self._database.write(work)

    def move(
        self,
        names: Sequence[str],
        state: BotState,
        now: datetime,
        *,
        actor: str,
        reason: str,
        judge: Judge = anything_goes,
        running_max: int | None = None,
        is_lenient: bool = False,
    ) -> Moved:
        """Those of ``names`` that are in another state and may.

        One that must not keeps all from moving, unless ``is_lenient`` leaves it out. Raises
        NotFound, and Refused with every objection; also where more than ``running_max`` would run.
        """

        def work(session: Session) -> Moved:
            touch(session, names)
            found = {each.name: each for each in _standings(session, names)}
            _check_all_found(names, found, is_lenient)
            same = [each.name for each in found.values() if each.state is state]
            asked = [each for each in found.values() if each.state is not state]
            refused = {each.name: why for each in asked if (why := judge(each)) is not None}
            if refused and not is_lenient:
                raise Refused(
                    several(problem.cause for problem in refused.values()),
                    cure=next(iter(refused.values())).cure,
                )
            moving = [each for each in asked if each.name not in refused]
            if state is BotState.RUNNING:
                _check_room(session, len(moving), running_max)
            changed = [each.name for each in moving]
            for part in parts(changed):
                session.connection().execute(
                    update(BotRow)
                    .where(BotRow.name.in_(part))
                    .values(state=state.value, reason=reason, updated_at=now)
                )
            before = Counter(each.state.value for each in moving)
            audit_bots(session, "bot.state", changed, one_or_all(before), state, actor, reason, now)
            return Moved(changed=changed, same=same, refused=refused)

        return self._database.write(work)

    def arm(
        self,
        names: Sequence[str],
        until: datetime | None,
        now: datetime,
        *,
        actor: str,
        reason: str,
    ) -> None:
        """Let them run on an account of real money until then; None takes that back."""

        def work(session: Session) -> None:
            touch(session, names)
            found = {each.name: each for each in _standings(session, names)}
            _check_all_found(names, found, False)
            for part in parts(list(found)):
                session.connection().execute(
                    update(BotRow).where(BotRow.name.in_(part)).values(armed_until=until)
                )
            action = "bot.disarm" if until is None else "bot.arm"
            after = {"armed_until": until and until.isoformat()}
            audit_bots(session, action, list(found), None, after, actor, reason, now)

        self._database.write(work)

    def delete(self, names: Sequence[str], now: datetime, *, actor: str, reason: str) -> None:
        """Their orders, fills, entries and versions stay: history outlives what it is about.

        Raises NotFound, and Refused while one runs or an order of it is not at its end.
        """

        def work(session: Session) -> None:
            # Before they are gone: it is their rows that say which market changes.
            touch(session, names)
            found = {each.name: each for each in _standings(session, names)}
            _check_all_found(names, found, False)
            problems = _kept_alive(session, found)
            if problems:
                raise Refused(several(problem.cause for problem in problems), cure=problems[0].cure)
            before = Counter(each.state.value for each in found.values())
            audit_bots(
                session, "bot.delete", list(found), one_or_all(before), None, actor, reason, now
            )
            for part in parts(list(found)):
                session.connection().execute(delete(BotRow).where(BotRow.name.in_(part)))

        self._database.write(work)


# --- states ---------------------------------------------------------------------------------------


def _standings(session: Session, names: Sequence[str]) -> Iterator[Standing]:
    for part in parts(sorted(set(names))):
        question = (
            select(BotRow.name, BotRow.venue, BotRow.account, BotRow.state, BotRow.armed_until)
            .where(BotRow.name.in_(part))
            .order_by(BotRow.name)
        )
        for name, venue, account, state, armed_until in session.execute(question):
            yield Standing(
                name=name,
                venue=venue,
                account=account,
                state=BotState(state),
                armed_until=armed_until,
            )


def _standing_of(bot: Bot) -> Standing:
    return Standing(
        name=bot.name,
        venue=bot.venue,
        account=bot.account,
        state=BotState.CREATED,
        armed_until=bot.armed_until,
    )


def _check_all_may(bots: Sequence[Standing], judge: Judge) -> None:
    problems = [problem for bot in bots if (problem := judge(bot)) is not None]
    if problems:
        raise Refused(several(each.cause for each in problems), cure=problems[0].cure)


def _check_all_found(names: Sequence[str], found: Mapping[str, object], is_lenient: bool) -> None:
    missing = [name for name in names if name not in found]
    if missing and not is_lenient:
        raise NotFound(
            several(f"there is no bot {name!r}" for name in missing), cure="see: botswarm bot list"
        )


def _check_room(session: Session, more: int, running_max: int | None) -> None:
    """Raises Refused where more than ``running_max`` bots would run."""
    if running_max is None or more == 0:
        return
    if session.get_bind().dialect.name != "sqlite":
        # Two who count at once would both find room; on SQLite only one writes at all.
        session.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": RUNNING_LOCK})
    question = select(func.count()).where(BotRow.state == BotState.RUNNING.value)
    running = session.execute(question).scalar_one()
    if running + more > running_max:
        raise Refused(
            f"{running} bots run and {more} more would be over {running_max}",
            cure="stop others first, or raise BOTSWARM_BOT_MAX_CONCURRENT",
        )


def _kept_alive(session: Session, found: Mapping[str, Standing]) -> list[Problem]:
    """Why some of them cannot be deleted."""
    problems = [
        Problem(f"the bot {each.name} runs", f"first: botswarm bot stop {each.name}")
        for each in found.values()
        if each.state is BotState.RUNNING
    ]
    under_way = or_(OrderRow.is_open, OrderRow.state == OrderState.READY.value)
    for part in parts(list(found)):
        question = (
            select(OrderRow.bot, func.count())
            .where(OrderRow.bot.in_(part), under_way)
            .group_by(OrderRow.bot)
            .order_by(OrderRow.bot)
        )
        for name, count in session.execute(question):
            words = f"{count} orders of {name} are not at their end"
            problems.append(Problem(words, f"wait for them: botswarm order list --bot {name}"))
    return problems
