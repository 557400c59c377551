"""What changes about bots: edited in place, copied under other names, and compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from botswarm.bots.spec import BUDGET, BadSpec, BotSpec, parameters_of
from botswarm.errors import BotswarmError
from botswarm.ledger.bot import Bot
from botswarm.ledger.configurations import configuration
from botswarm.ledger.many import several
from botswarm.strategies.registry import Catalog


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """What shall be another way; None and nothing leave it as it is."""

    parameters: Mapping[str, object] = field(default_factory=dict)
    budget: str | None = None
    timeframe: str | None = None
    tags_more: tuple[str, ...] = ()
    tags_less: tuple[str, ...] = ()
    is_shadow: bool | None = None

    @property
    def is_empty(self) -> bool:
        return self == Edit()


def edited(catalog: Catalog, bots: Sequence[Bot], edit: Edit) -> Sequence[Bot]:
    """Those that would not be the same afterwards; raises BadSpec with every bot's problems."""
    done, complaints = [], []
    for bot in bots:
        try:
            new = _made(catalog, bot, edit)
        except BotswarmError as error:
            if len(bots) == 1:
                raise
            complaints.append(f"{bot.name}: {error.cause}")
            continue
        if configuration(new) != configuration(bot):
            done.append(new)
    if complaints:
        raise BadSpec(
            several(complaints), cure="nothing was changed; choose fewer bots, or mend it"
        )
    return done


def cloned(catalog: Catalog, bot: Bot, name: str, market: str | None, edit: Edit) -> Bot:
    """Under another name, in another market where one is said; it has done nothing yet."""
    copy = replace(bot, name=name, symbol=market or bot.symbol, version=1, armed_until=None)
    return _made(catalog, copy, edit)


def _made(catalog: Catalog, bot: Bot, edit: Edit) -> Bot:
    spec = BotSpec.of(
        catalog,
        name=bot.name,
        strategy=bot.strategy,
        venue=bot.venue,
        symbol=bot.symbol,
        account=bot.account,
        timeframe=edit.timeframe or bot.timeframe,
        budget=bot.parameters.get(BUDGET) if edit.budget is None else edit.budget,
        parameters={**_known(catalog, bot), **edit.parameters},
        tags=sorted({*bot.tags, *edit.tags_more} - {*edit.tags_less}),
        is_shadow=bot.is_shadow if edit.is_shadow is None else edit.is_shadow,
    )
    return replace(spec.bot(), version=bot.version)


def _known(catalog: Catalog, bot: Bot) -> dict[str, object]:
    """Without those that a newer version of its strategy has no longer: they mean nothing."""
    there = {each.name for each in catalog.get(bot.strategy).parameters()}
    return {name: value for name, value in parameters_of(bot).items() if name in there}


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """By name, what two configurations say differently; parameters each for itself."""
    flat_one, flat_other = _flat(one), _flat(other)
    return {
        key: (flat_one.get(key), flat_other.get(key))
        for key in dict.fromkeys([*flat_one, *flat_other])
        if flat_one.get(key) != flat_other.get(key)
    }


def _flat(said: Mapping[str, Any]) -> dict[str, Any]:
    flat = {key: value for key, value in said.items() if key != "parameters"}
    return {**flat, **said.get("parameters", {})}
