"""Create bots, let them run, stop them, and ask them why they do what they do."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from botswarm.cli.command import Group
from botswarm.cli.failures import NotConfirmed
from botswarm.cli.session import Answer, Session
from botswarm.cli.table import in_columns

if TYPE_CHECKING:
    from botswarm.bots.registry import Registry
    from botswarm.bots.why import Explanation
    from botswarm.ledger.bots import Bot, Stand
    from botswarm.ledger.store import Ledger

VERDICT_SHOWN = 60


@click.group(cls=Group)
def bot() -> None:
    """Create bots, start and stop them, and ask them why."""


@bot.command("create")
@click.argument("name")
@click.option("--strategy", required=True, help="See: botswarm strategy list.")
@click.option(
    "--market", required=True, metavar="[VENUE:]SYMBOL", help="Such as BTC-USDT; one venue's."
)
@click.option("--timeframe", metavar="LENGTH", help="Of its candles, such as 1m.")
@click.option(
    "--budget",
    metavar="AMOUNT",
    help="The most its position and open orders may be worth, in the quote asset (default: 200).",
)
@click.option("--account", help="Default: the account of the swarm's venue.")
@click.option(
    "--set",
    "parameters",
    multiple=True,
    metavar="NAME=VALUE",
    help="A parameter of its strategy; see: botswarm strategy show STRATEGY.",
)
@click.option("--start", "at_once", is_flag=True, help="Let it run at once.")
@click.pass_obj
def create_bot(
    session: Session,
    name: str,
    strategy: str,
    market: str,
    timeframe: str | None,
    budget: str | None,
    account: str | None,
    parameters: tuple[str, ...],
    at_once: bool,
) -> Answer:
    """Create a bot; without --start it does nothing until it is started."""
    from botswarm.bots.registry import Registry
    from botswarm.bots.spec import BUDGET_DEFAULT, BotSpec
    from botswarm.exchanges import registry as venues
    from botswarm.strategies.registry import load

    settings = session.settings()
    here = venues.venue_name(settings)
    venue, _, symbol = market.rpartition(":")
    catalog = load(settings.strategies_dir)
    spec = BotSpec.of(
        catalog,
        name=name,
        strategy=strategy,
        venue=venue or here,
        symbol=symbol.upper(),
        account=account or (venues.PAPER if here == venues.SIMULATED else venues.SPOT),
        timeframe=timeframe,
        budget=BUDGET_DEFAULT if budget is None else budget,
        parameters=dict(_pair(each) for each in parameters),
    )
    bots = Registry(_ledger(session))
    made = bots.create(spec, _now(), actor=_actor())
    if at_once:
        made = bots.start(name, _now(), actor=_actor())
    warnings = []
    if spec.venue != here:
        warnings.append(f"this swarm trades on {here}; nobody evaluates bots of {spec.venue} here")
    return Answer(
        data=_data(bots.stand(name)),
        text=f"{name} is {made.state}: {made.strategy} on {made.venue}:{made.symbol}.",
        warnings=warnings,
        next=[f"botswarm bot why {name}" if at_once else f"botswarm bot start {name}"],
    )


@bot.command("demo")
@click.option("--if-empty", is_flag=True, help="Do nothing where there are bots already.")
@click.pass_obj
def seed_demo(session: Session, if_empty: bool) -> Answer:
    """Create and start the demo's bots, on the simulated exchange only; safe to run again."""
    from botswarm.bots import demo
    from botswarm.errors import Refused
    from botswarm.exchanges import registry as venues
    from botswarm.strategies.registry import load

    settings = session.settings()
    if venues.venue_name(settings) != venues.SIMULATED:
        raise Refused(
            "the demo's bots are for the simulated exchange, and an account is configured",
            cure="create your own: botswarm bot create",
        )
    ledger = _ledger(session)
    if if_empty and ledger.bots.list():
        return Answer(data=[], text="There are bots already.")
    made = demo.seed(
        ledger, load(settings.strategies_dir), _now(), venue=venues.SIMULATED, account=venues.PAPER
    )
    strategies = len({each.strategy for each in made})
    text = f"{len(made)} demo bots on {strategies} strategies run." if made else "All run already."
    return Answer(data=[each.name for each in made], text=text, next=["botswarm bot list"])


@bot.command("list")
@click.option("--state", help="Only bots in this state: created, running, paused or stopped.")
@click.pass_obj
def list_bots(session: Session, state: str | None) -> Answer:
    """List all bots: what they hold and what they last thought."""
    from botswarm.ledger.bots import BotState

    wanted = _state(state, [each.value for each in BotState])
    ledger = _ledger(session)
    found = ledger.bots.list(state=BotState(wanted) if wanted else None)
    held = {each.bot: each.quantity for each in ledger.orders.positions()}
    rows = [
        (
            each.name,
            each.strategy,
            f"{each.venue}:{each.symbol}",
            each.state.value,
            _plain(held[each.name]) if each.name in held else "0",
            _thought(each),
        )
        for each in found
    ]
    heads = ["BOT", "STRATEGY", "MARKET", "STATE", "HOLDS", "LAST THOUGHT"]
    data = [
        {**_described(each), "position": _plain(held[each.name]) if each.name in held else "0"}
        for each in found
    ]
    none = "There are no bots."
    create = "botswarm bot create NAME --strategy sma-cross --market BTC-USDT --start"
    return Answer(
        data=data, text=in_columns(heads, rows) if rows else none, next=[] if rows else [create]
    )


@bot.command("show")
@click.argument("name")
@click.pass_obj
def show_bot(session: Session, name: str) -> Answer:
    """Show what a bot was told: its market, budget and parameters."""
    stand = _registry(session).stand(name)
    found = stand.bot
    rows: list[tuple[str, object]] = [
        ("strategy", found.strategy),
        ("market", f"{found.venue}:{found.symbol}"),
        ("account", found.account),
        ("timeframe", found.timeframe),
        ("state", f"{found.state} ({found.reason})" if found.reason else found.state),
        ("holds", _plain(stand.position)),
        ("open orders", str(len(stand.orders))),
        *((name, str(value)) for name, value in found.parameters.items()),
    ]
    return Answer(
        data=_data(stand),
        text=in_columns([found.name, ""], rows),
        next=[f"botswarm bot why {name}"],
    )


def _changing(verb: str, words: str) -> Callable[[Callable[..., Answer]], click.Command]:
    def decorate(function: Callable[..., Answer]) -> click.Command:
        reason = click.option("--reason", help="Kept with the change, for those who ask later.")
        wrapped = click.argument("name")(reason(click.pass_obj(function)))
        return bot.command(verb, help=words)(wrapped)

    return decorate


@_changing("start", "Let a bot run; one that runs already goes on.")
def start_bot(session: Session, name: str, reason: str | None) -> Answer:
    bots = _registry(session)
    bots.start(name, _now(), actor=_actor(), reason=reason or "started")
    return _moved(bots.stand(name), next=[f"botswarm bot why {name}"])


@_changing("stop", "Stop a bot: it decides nothing more, and keeps what it holds.")
def stop_bot(session: Session, name: str, reason: str | None) -> Answer:
    bots = _registry(session)
    bots.stop(name, _now(), actor=_actor(), reason=reason or "stopped")
    return _moved(bots.stand(name))


@_changing("pause", "Pause a bot that runs; resume lets it go on.")
def pause_bot(session: Session, name: str, reason: str | None) -> Answer:
    bots = _registry(session)
    bots.pause(name, _now(), actor=_actor(), reason=reason or "paused")
    return _moved(bots.stand(name), next=[f"botswarm bot resume {name}"])


@_changing("resume", "Let a paused bot go on.")
def resume_bot(session: Session, name: str, reason: str | None) -> Answer:
    bots = _registry(session)
    bots.resume(name, _now(), actor=_actor(), reason=reason or "resumed")
    return _moved(bots.stand(name))


@bot.command("delete")
@click.argument("name")
@click.pass_obj
def delete_bot(session: Session, name: str) -> Answer:
    """Delete a bot that is stopped; its orders, fills and entries stay in the ledger.

    One that still holds something is deleted only with --yes: nobody trades its position then.
    """
    bots = _registry(session)
    stand = bots.stand(name)
    if stand.position and not session.yes:
        base = stand.bot.symbol.partition("-")[0]
        raise NotConfirmed(
            f"{name} still holds {_plain(stand.position)} {base}, which no bot would look after",
            cure=f"if that is meant: botswarm bot delete {name} --yes",
        )
    bots.delete(name, _now(), actor=_actor())
    return Answer(data={"name": name, "deleted": True}, text=f"{name} is deleted.")


@bot.command("why")
@click.argument("name")
@click.pass_obj
def explain_bot(session: Session, name: str) -> Answer:
    """Say why a bot does what it does, or does nothing.

    It shows what the bot last saw and thought, what was nearest to another verdict, what stopped
    its last order, and its last orders and fills. It asks the ledger only, so it answers while
    everything else is down.
    """
    from botswarm.bots import why

    found = why.explain(_ledger(session), name, _now())
    following = []
    if found.is_silent:
        following = ["botswarm status", "celery -A botswarm worker -Q strategy"]
    return Answer(data=why.data(found), text=_in_words(found), next=following)


# --- words ----------------------------------------------------------------------------------------


def _in_words(found: Explanation) -> str:
    told, stand = found.stand.bot, found.stand
    base, _, quote = told.symbol.partition("-")
    lines = [f"{found.answer}.", ""]
    rows: list[tuple[str, object]] = [
        ("bot", f"{told.strategy} on {told.venue}:{told.symbol}, {told.timeframe} candles"),
        ("state", f"{told.state}: {told.reason}" if told.reason else told.state.value),
        ("holds", f"{_plain(stand.position)} {base}, open orders: {len(stand.orders)}, budget "
         f"{told.parameters.get('budget')} {quote}"),
    ]  # fmt: skip
    rows += _evaluation_rows(found)
    for halt in found.halts:
        rows.append(("halt", f"{halt.scope} is {halt.state}: {halt.reason} ({halt.actor})"))
    if (order := found.stopped_order) is not None:
        rows.append(("last stopped", f"{_order_words(order)}: {order.state}, {order.reason}"))
    lines.append("\n".join(f"{head:<13} {words}" for head, words in rows))
    if found.orders:
        lines += ["", _orders_table(found)]
    if found.fills:
        lines += ["", _fills_table(found)]
    return "\n".join(lines)


def _evaluation_rows(found: Explanation) -> list[tuple[str, object]]:
    evaluation = found.evaluation
    if evaluation is None or found.age_s is None:
        return [("evaluated", "never")]
    on = ""
    if evaluation.get("data_age_ms") is not None:
        on = f", on data {evaluation['data_age_ms']} ms old"
    rows: list[tuple[str, object]] = [("evaluated", f"{found.age_s:.1f} s ago{on}")]
    if evaluation.get("price"):
        bid, ask = evaluation.get("bid"), evaluation.get("ask")
        rows.append(("market", f"last {evaluation['price']}, bid {bid}, ask {ask}"))
    if evaluation.get("verdict"):
        rows.append(("verdict", evaluation["verdict"]))
    if evaluation.get("nearest"):
        rows.append(("nearest", evaluation["nearest"]))
    if evaluation.get("indicators"):
        rows.append(("seen", "  ".join(_seen(*pair) for pair in evaluation["indicators"].items())))
    if stopped := evaluation.get("stopped"):
        rows.append(("gate", f"{stopped['gate']}: {stopped['words']}"))
    return rows


def _seen(name: str, value: object) -> str:
    return f"{name} {value:.8g}" if isinstance(value, float) else f"{name} {value}"


def _order_words(order: Any) -> str:
    price = f" at {_plain(order.limit_price)}" if order.limit_price is not None else ""
    return f"{order.created_at:%H:%M:%S} {order.side} {_plain(order.quantity)}{price}"


def _orders_table(found: Explanation) -> str:
    rows = [
        (
            f"{each.created_at:%H:%M:%S}",
            each.side.value,
            _plain(each.quantity),
            each.kind.value if each.limit_price is None else _plain(each.limit_price),
            each.state.value,
            _plain(each.filled_quantity),
            each.reason,
        )
        for each in found.orders
    ]
    return in_columns(["ORDERED", "SIDE", "QUANTITY", "PRICE", "STATE", "FILLED", "REASON"], rows)


def _fills_table(found: Explanation) -> str:
    rows = [
        (
            f"{each.at:%H:%M:%S}",
            each.side.value,
            _plain(each.quantity),
            _plain(each.price),
            f"{_plain(each.commission)} {each.commission_asset}",
        )
        for each in found.fills
    ]
    return in_columns(["FILLED", "SIDE", "QUANTITY", "PRICE", "COMMISSION"], rows)


def _thought(told: Bot) -> str:
    from botswarm.bots.why import summary

    if told.state.value in ("paused", "stopped") and told.reason:
        words = told.reason
    elif told.last_evaluation is None:
        words = "-"
    else:
        words = summary(told.last_evaluation)
    return words if len(words) <= VERDICT_SHOWN else words[: VERDICT_SHOWN - 3] + "..."


def _moved(stand: Stand, *, next: Sequence[str] = ()) -> Answer:
    told, warnings = stand.bot, []
    if told.state.value != "running" and stand.orders:
        count = len(stand.orders)
        warnings.append(
            f"{count} order{'s'[: count != 1]} of {told.name} stay open at the exchange and may "
            "still be filled"
        )
    return Answer(
        data=_data(stand), text=f"{told.name} is {told.state}.", warnings=warnings, next=next
    )


def _data(stand: Stand) -> dict[str, object]:
    return {
        **_described(stand.bot),
        "position": _plain(stand.position),
        "working_orders": len(stand.orders),
    }


def _described(told: Bot) -> dict[str, object]:
    return {
        "name": told.name,
        "strategy": told.strategy,
        "market": f"{told.venue}:{told.symbol}",
        "account": told.account,
        "timeframe": told.timeframe,
        "parameters": dict(told.parameters),
        "state": told.state.value,
        "reason": told.reason,
        "last_evaluation": told.last_evaluation,
    }


def _plain(value: Any) -> str:
    from botswarm.bots.why import plain

    return plain(value)


# --- what commands need ---------------------------------------------------------------------------


def _registry(session: Session) -> Registry:
    from botswarm.bots.registry import Registry

    return Registry(_ledger(session))


def _ledger(session: Session) -> Ledger:
    from botswarm.ledger.store import Ledger

    return Ledger(session.settings().database_url)


def _pair(given: str) -> tuple[str, str]:
    name, mark, value = given.partition("=")
    if not mark:
        raise click.UsageError(f"--set {given} is not NAME=VALUE")
    return name, value


def _state(given: str | None, states: Sequence[str]) -> str | None:
    if given is not None and given not in states:
        raise click.UsageError(f"{given!r} is no state of a bot; those are {', '.join(states)}")
    return given


def _now() -> datetime:
    from botswarm.clock import SystemClock

    return SystemClock().now()


def _actor() -> str:
    """Who types, for the audit."""
    try:
        return f"cli:{pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:
        return f"cli:{os.getuid()}"
