"""``botswarm bot create|edit|clone|demo``: what bots are told to be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from botswarm.cli.bot_choice import (
    actor,
    catalog_of,
    choosing,
    confirm,
    found,
    ledger_of,
    market_of,
    named,
    now,
    number,
    pair,
    preview,
    registry_of,
    rules_of,
    taken,
)
from botswarm.cli.bot_words import stand_data
from botswarm.cli.command import Command
from botswarm.cli.session import Answer, Session

if TYPE_CHECKING:
    from botswarm.bots.edit import Edit
    from botswarm.config import Settings
    from botswarm.ledger.bot import Bot
    from botswarm.ledger.roster import Roster

SET_HELP = "A parameter of its strategy; see: botswarm strategy show STRATEGY."


@click.command("create", cls=Command)
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
@click.option("--set", "parameters", multiple=True, metavar="NAME=VALUE", help=SET_HELP)
@click.option("--tag", "tags", multiple=True, help="To find it by; several may be given.")
@click.option("--shadow", is_flag=True, help="It decides and is recorded, and never orders.")
@click.option("--start", "at_once", is_flag=True, help="Let it run at once.")
@click.pass_obj
def create(
    session: Session,
    /,
    name: str,
    strategy: str,
    market: str,
    timeframe: str | None,
    budget: str | None,
    account: str | None,
    parameters: tuple[str, ...],
    tags: tuple[str, ...],
    shadow: bool,
    at_once: bool,
) -> Answer:
    """Create a bot; without --start it does nothing until it is started."""
    from dataclasses import replace

    from botswarm.bots.spec import BUDGET_DEFAULT, BotSpec
    from botswarm.ledger.bot import BotState

    settings = session.settings()
    venue, symbol = market_of(market)
    here, own_account = place_of(settings, venue)
    spec = BotSpec.of(
        catalog_of(settings),
        name=name,
        strategy=strategy,
        venue=here,
        symbol=symbol,
        account=account or own_account,
        timeframe=timeframe,
        budget=BUDGET_DEFAULT if budget is None else budget,
        parameters=dict(pair(each) for each in parameters),
        tags=tags,
        is_shadow=shadow,
    )
    ledger = ledger_of(session)
    bot = spec.bot()
    if at_once:
        if settings.bot_require_confirmation:
            confirm(session, "create and start 1 bot", [name], f"botswarm bot create {name}")
        bot = replace(bot, state=BotState.RUNNING, reason="started")
    registry_of(settings, ledger).save(now(), new=[bot], actor=actor(), reason="created")
    return Answer(
        data=stand_data(ledger.bots.stand(name)),
        text=f"{name} is {bot.state}: {bot.strategy} on {bot.venue}:{bot.symbol}.",
        warnings=elsewhere([bot], settings),
        next=[f"botswarm bot why {name}" if at_once else f"botswarm bot start {name}"],
    )


def _editing(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--shadow/--no-shadow", "shadow", default=None,
                     help="Whether it decides and never orders."),
        click.option("--remove-tag", "tags_less", multiple=True, metavar="TAG"),
        click.option("--add-tag", "tags_more", multiple=True, metavar="TAG"),
        click.option("--timeframe", metavar="LENGTH", help="Of its candles, such as 1m."),
        click.option("--budget", metavar="AMOUNT", help="In the quote asset."),
        click.option("--set", "parameters", multiple=True, metavar="NAME=VALUE", help=SET_HELP),
    ):  # fmt: skip
        function = option(function)
    return function


def _edit_of(options: dict[str, Any]) -> Edit:
    from botswarm.bots.edit import Edit

    return Edit(
        parameters=dict(pair(each) for each in options.pop("parameters")),
        budget=options.pop("budget"),
        timeframe=options.pop("timeframe"),
        tags_more=options.pop("tags_more"),
        tags_less=options.pop("tags_less"),
        is_shadow=options.pop("shadow"),
    )


@click.command("edit", cls=Command)
@choosing
@_editing
@click.option("--forget", is_flag=True, help="Also clear what its strategy remembers.")
@click.option("--reason", default="edited", help="Kept with the new version.")
@click.pass_obj
def edit(session: Session, /, forget: bool, reason: str, preview: bool, **options: Any) -> Answer:
    """Change parameters, budget, timeframe, tags or shadow of one bot or many.

    Each change is a new version; one that runs decides by it from its next evaluation on.
    """
    return _edit(session, forget, reason, preview, options)


def _edit(
    session: Session, forget: bool, reason: str, is_preview: bool, options: dict[str, Any]
) -> Answer:
    from botswarm.bots import edit as editing

    change = _edit_of(options)
    if change.is_empty:
        raise click.UsageError("nothing is changed: give --set, --budget, --timeframe or a tag")
    chosen, settings, ledger = taken(options), session.settings(), ledger_of(session)
    there = _bots(ledger.roster, list(found(ledger, chosen)))
    done = editing.edited(catalog_of(settings), there, change)
    names = [bot.name for bot in done]
    what = f"edit {number(names)}"
    if is_preview:
        return preview(what, names, "botswarm bot edit")
    if names and (len(names) > 1 or not chosen.is_by_name or settings.bot_require_confirmation):
        confirm(session, what, names, "botswarm bot edit")
    if names:
        registry_of(settings, ledger).save(
            now(), edited=done, actor=actor(), reason=reason, forget=forget
        )
    same = len(there) - len(names)
    before = {bot.name: bot for bot in there}
    data = {
        "edited": [
            {"name": bot.name, "version": bot.version + 1, "changes": _changes(before, bot)}
            for bot in done
        ],
        "unchanged": same,
    }
    none = "Nothing is edited." if there else "No bot fits."
    lines = [f"{named(names)}: {number(names)} edited." if names else none]
    lines += [f"{same} of them are so already."] if same and len(there) > 1 else []
    following = [f"botswarm bot history {names[0]}"] if names else []
    return Answer(data=data, text="\n".join(lines), next=following)


def _changes(before: Any, bot: Bot) -> dict[str, list[object]]:
    from botswarm.bots.edit import differences
    from botswarm.ledger.configurations import configuration

    changed = differences(configuration(before[bot.name]), configuration(bot))
    return {key: list(values) for key, values in changed.items()}


@click.command("clone", cls=Command)
@click.argument("name")
@click.option("--as", "new_names", multiple=True, metavar="NAME", help="Several may be given.")
@click.option(
    "--market",
    "markets",
    multiple=True,
    metavar="SYMBOL",
    help="In this market of the same venue; several may be given.",
)
@_editing
@click.option("--start", "at_once", is_flag=True, help="Let them run at once.")
@click.option("--dry-run", "--preview", "preview", is_flag=True, help="Only say which.")
@click.pass_obj  # fmt: skip
def clone(
    session: Session,
    /,
    name: str,
    new_names: tuple[str, ...],
    markets: tuple[str, ...],
    at_once: bool,
    preview: bool,
    **options: Any,
) -> Answer:
    """Make bots that are told what this one is: under other names, or in other markets.

    With several markets and no names each is called after its market: NAME-eth-usdt.
    """
    wanted = _copies(name, new_names, markets)
    return _clone(session, name, wanted, at_once, preview, _edit_of(options))


def _clone(
    session: Session,
    name: str,
    wanted: Sequence[tuple[str, str | None]],
    at_once: bool,
    is_preview: bool,
    change: Edit,
) -> Answer:
    from dataclasses import replace

    from botswarm.bots import edit as editing
    from botswarm.ledger.bot import BotState

    settings, ledger = session.settings(), ledger_of(session)
    bots = registry_of(settings, ledger)
    original = bots.stand(name).bot
    state = BotState.RUNNING if at_once else BotState.CREATED
    catalog = catalog_of(settings)
    copies = [
        replace(editing.cloned(catalog, original, copy, market, change), state=state)
        for copy, market in wanted
    ]
    names = [copy.name for copy in copies]
    what = f"create {'and start ' if at_once else ''}{number(names)} like {name}"
    if is_preview:
        return preview(what, names, f"botswarm bot clone {name}")
    if len(names) > 1 or (at_once and settings.bot_require_confirmation):
        confirm(session, what, names, f"botswarm bot clone {name}")
    bots.save(now(), new=copies, actor=actor(), reason=f"cloned from {name}")
    return Answer(
        data=[stand_data(ledger.bots.stand(copy)) for copy in names],
        text=f"{named(names)}: {number(names)} created{' and started' if at_once else ''}.",
        warnings=elsewhere(copies, settings),
        next=[f"botswarm bot {'why' if at_once else 'start'} {names[0]}"],
    )


def _copies(
    name: str, names: Sequence[str], markets: Sequence[str]
) -> Sequence[tuple[str, str | None]]:
    symbols = [market_of(each)[1] for each in markets]
    if not names and not symbols:
        raise click.UsageError("give --as NAME, or --market, or both")
    if not names:
        return [(f"{name}-{symbol.lower()}", symbol) for symbol in symbols]
    if not symbols:
        return [(each, None) for each in names]
    if len(names) != len(symbols):
        raise click.UsageError("as many --as as --market are needed, in the same order")
    return list(zip(names, symbols, strict=True))


@click.command("demo", cls=Command)
@click.option("--if-empty", is_flag=True, help="Do nothing where there are bots already.")
@click.pass_obj
def demo(session: Session, /, if_empty: bool) -> Answer:
    """Create and start the demo's bots, on the simulated exchange only; safe to run again."""
    from botswarm.bots import demo as bots
    from botswarm.errors import Refused
    from botswarm.exchanges import registry as venues
    from botswarm.ledger.roster import Choice

    settings = session.settings()
    if venues.venue_name(settings) != venues.SIMULATED:
        raise Refused(
            "the demo's bots are for the simulated exchange, and an account is configured",
            cure="create your own: botswarm bot create",
        )
    ledger = ledger_of(session)
    if if_empty and ledger.roster.count(Choice()):
        return Answer(data=[], text="There are bots already.")
    made = bots.seed(
        ledger,
        catalog_of(settings),
        now(),
        venue=venues.SIMULATED,
        account=venues.PAPER,
        rules=rules_of(settings),
    )
    strategies = len({each.strategy for each in made})
    text = f"{len(made)} demo bots on {strategies} strategies run." if made else "All run already."
    return Answer(data=[each.name for each in made], text=text, next=["botswarm bot list"])


def place_of(settings: Settings, venue: str | None = None) -> tuple[str, str]:
    """Where bots go that do not say it: on paper, unless the settings hold a key for the venue."""
    from botswarm.exchanges import registry as venues

    here = venue or venues.venue_name(settings)
    has_key = here == venues.BINANCE and settings.binance_api_key is not None
    return here, venues.SPOT if has_key else venues.PAPER


def elsewhere(bots: Sequence[Bot], settings: Settings) -> Sequence[str]:
    from botswarm.exchanges import registry as venues

    away = sorted({bot.venue for bot in bots} - set(venues.fed_venues(settings)))
    return (
        [
            f"no feed of this swarm reads {', '.join(away)}, so nobody evaluates bots there; "
            "name it in BOTSWARM_FEED_VENUES"
        ]
        if away
        else []
    )


def _bots(roster: Roster, names: Sequence[str]) -> Sequence[Bot]:
    from botswarm.ledger.roster import Choice

    return roster.bots(Choice(names=tuple(names))) if names else []
