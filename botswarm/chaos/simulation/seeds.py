"""Histories by seed: fifty intents, and whatever can go wrong at the rates that the seed draws."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from datetime import timedelta
from functools import partial

from botswarm.chaos.simulation.links import Outcome, Trouble
from botswarm.chaos.simulation.play import Play, Result, an_order
from botswarm.chaos.simulation.world import Process
from botswarm.domain.order import Order
from botswarm.domain.permission import TradingState
from botswarm.testing.venue import BINANCE, COINBASE, KRAKEN, Fate

INTENTS = 50
SEMANTICS = (BINANCE, KRAKEN, COINBASE)
LASTS_S = 60.0
RINGS = (0, 1, 1, 1, 2, 3)
"""How often a message arrives: a broker may lose it, or bring it again."""
LAG_MAX_S = 15.0
FREEZE_S = (5.0, 90.0)
WRONG_CLOCKS_S = (-86_400.0, -3600.0, -10.0, -1.0, 0.4, 1.0, 10.0, 3600.0, 86_400.0)

Make = Callable[..., Play]


def play_seed(seed: int, *, intents: int = INTENTS, make: Make = Play) -> Result:
    """The same seed is the same history to the last step."""
    play = make(seed=seed, semantics=SEMANTICS[seed % len(SEMANTICS)])
    chance = play.chance
    _choose_the_weather(play, chance)
    _choose_accidents(play, chance)
    for number in range(1, 3):
        play.raise_worker(f"worker-{number}")
        play.raise_settler(f"settler-{number}")
    play.raise_sweeper()
    sells = chance.random() < 0.5
    unwanted, replaced = chance.choice([0.0, 0.1, 0.5]), chance.choice([0.0, 0.2])
    earlier: list[str] = []
    for number in range(intents):
        patience = chance.choice([2.0, 10.0, 60.0, 3600.0])
        order = an_order(number, chance, patience_s=patience, sells=sells)
        if earlier and chance.random() < replaced:
            order = dataclasses.replace(order, replaces=chance.choice(earlier))
        earlier.append(order.id)
        at = chance.uniform(0, LASTS_S)
        play.world.after(at, partial(_decide, play, order, chance.choice(RINGS)))
        if chance.random() < unwanted:
            at += chance.expovariate(0.2)
            play.world.after(at, partial(play.wish_cancel, order.id, rings=chance.choice(RINGS)))
    play.world.run(LASTS_S + chance.uniform(0, 60.0), play.has_ended)
    return play.finish()


def _decide(play: Play, order: Order, rings: int) -> None:
    replaced = order.replaces
    if replaced is not None and replaced in play.books.orders:
        play.wish_cancel(replaced, rings=rings)
    else:
        order = dataclasses.replace(order, replaces=None)
    play.decide(order, rings=rings)


def _choose_the_weather(play: Play, chance: random.Random) -> None:
    bad = chance.choice([0.1, 0.3, 0.6, 0.9])
    ledger, venue = chance.choice([0.0, 0.01, 0.05]), chance.choice([0.0, 0.02, 0.2])
    lag = chance.choice([0.0, 0.0, 2.0, LAG_MAX_S])
    troubles = {"ledger": ledger, "venue": venue}
    mishaps = [each for each in Outcome if each is not Outcome.ANSWERED]
    fates = list(Fate)

    def trouble(what: str) -> Trouble:
        if chance.random() >= troubles[what.partition(".")[0]]:
            return Trouble.NONE
        return Trouble.BEFORE if chance.random() < 0.5 else Trouble.AFTER

    play.weather.outcome = lambda: (
        chance.choice(mishaps) if chance.random() < bad else Outcome.ANSWERED
    )
    play.weather.trouble = trouble
    play.weather.fate = lambda: chance.choice(fates)
    play.weather.delay_s = lambda: chance.choice((0.001, 0.01, 0.05, 0.3))
    play.weather.lag_s = lambda: chance.uniform(0, lag)
    play.weather.hold_s = chance.uniform


def _choose_accidents(play: Play, chance: random.Random) -> None:
    deadly, freezing = chance.choice([0.0, 0.005, 0.03]), chance.choice([0.0, 0.003, 0.02])
    world = play.world

    def on_step(process: Process, what: str) -> None:
        if play.is_healed:
            return
        drawn = chance.random()
        if drawn < deadly:
            world.tell(process.name, "dies")
            world.after(chance.uniform(0.5, 5.0), lambda: play.raise_again(process))
            world.die()
        elif drawn < deadly + freezing:
            world.tell(process.name, "freezes")
            process.frozen_until = world.now_s + chance.uniform(*FREEZE_S)

    world.on_step = on_step
    if chance.random() < 0.3:
        _set_clocks_wrong(play, chance)
    if chance.random() < 0.3:
        _halt_now_and_then(play, chance)
    _move_the_market(play, chance)


def _set_clocks_wrong(play: Play, chance: random.Random) -> None:
    if play.is_healed:
        return
    process = chance.choice(play.alive) if play.alive else None
    if process is not None:
        process.clock.offset = timedelta(seconds=chance.choice(WRONG_CLOCKS_S))
    play.world.after(chance.uniform(1.0, 20.0), lambda: _set_clocks_wrong(play, chance))


def _halt_now_and_then(play: Play, chance: random.Random) -> None:
    if play.is_healed:
        return
    is_halted = play.books.trading_state is TradingState.HALTED
    play.books.trading_state = TradingState.ACTIVE if is_halted else TradingState.HALTED
    play.world.after(chance.uniform(2.0, 20.0), lambda: _halt_now_and_then(play, chance))


def _move_the_market(play: Play, chance: random.Random) -> None:
    if play.is_healed:
        return
    resting = [taken for taken in play.venue.orders if not taken.state.is_final]
    if resting:
        play.move_the_market(chance.choice(resting))
    play.world.after(chance.uniform(0.1, 2.0), lambda: _move_the_market(play, chance))
