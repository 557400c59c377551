"""Faults of the network and of the venue: broken links, replies that lie, clocks that differ."""

from __future__ import annotations

import contextlib
import random
import time

import psutil

from botswarm.chaos.campaign.load import LOST_REPLIES, QUANTITIES
from botswarm.chaos.campaign.plan import Fault
from botswarm.chaos.campaign.stage import LINKS, Stage
from botswarm.chaos.campaign.waiting import until
from botswarm.errors import TimedOut
from botswarm.exchanges.binance.trading import RECEIVE_WINDOW
from botswarm.testing.proxy import Toxics

CANCELLED_S = 60.0

TOXICS = {
    "50 ms late": Toxics(latency_s=0.05, jitter_s=0.04),
    "500 ms late": Toxics(latency_s=0.5, jitter_s=0.3),
    "5 s late": Toxics(latency_s=5.0),
    "10 KB/s": Toxics(bytes_per_s=10_000),
    "silent": Toxics(is_black_hole=True),
    "one byte at a time": Toxics(slice_bytes=1, slice_pause_s=0.0005),
    "cut in the middle": Toxics(cut_after_bytes=700),
    "slow to close": Toxics(close_after_s=3.0),
}


def _spoil_link(stage: Stage, dice: random.Random) -> str:
    name, words = dice.choice(LINKS), dice.choice([*TOXICS, "reset"])
    link = stage.links[name]
    if words == "reset":
        link.reset()
        return f"{name}: reset"
    way = dice.choice(("up", "down", "both"))
    toxics = TOXICS[words]
    link.set(up=toxics if way != "down" else None, down=toxics if way != "up" else None)
    try:
        time.sleep(dice.uniform(2, 5))
    finally:
        link.heal()
        if words in ("silent", "5 s late"):
            link.reset()  # what was swallowed would be waited for
    return f"{name}: {words} ({way})"


def _swizzle(stage: Stage, dice: random.Random) -> str:
    names = dice.sample(LINKS, dice.randint(2, len(LINKS)))
    down = []
    try:
        for name in names:
            stage.links[name].down()
            down.append(name)
            time.sleep(dice.uniform(0.1, 0.8))
    finally:
        dice.shuffle(down)
        for name in down:
            time.sleep(dice.uniform(0.1, 0.8))
            stage.links[name].up()
    return f"{len(names)} links, one by one"


def _lose_replies(stage: Stage, dice: random.Random) -> str:
    kind, times = dice.choice(LOST_REPLIES), dice.randint(4, 10)
    _armed(stage.arm(kind, on="place", times=times))
    time.sleep(1)
    return f"{times} times {kind}"


def _lag(stage: Stage, dice: random.Random) -> str:
    seconds, times = dice.randint(1, 15), dice.randint(5, 15)
    kind = dice.choice(("query_lag", "lose_event", "repeat_event", "disconnect_users"))
    if kind == "disconnect_users":
        _armed(stage.arm(kind))
        return "account streams cut"
    _armed(stage.arm(kind, times=times, seconds=seconds))
    _armed(stage.arm(dice.choice(LOST_REPLIES), on="place", times=3))
    time.sleep(1)
    return f"{times} times {kind}, {seconds} s"


COPIES_AFTER_S = RECEIVE_WINDOW.total_seconds() + 1.5


def _hold(stage: Stage, dice: random.Random) -> str:
    """What is held for longer than its time window is refused; of everything a copy comes late.

    Within the window no venue tells a market order's copy from a second order: only TLS keeps it
    away. So the copy of what was sent at the very end of the hold has to wait.
    """
    seconds = dice.uniform(2.5, 8)
    if dice.random() < 0.4:
        held_s = dice.choice((1.5, 1.8, 3, 10, 60))
        _armed(stage.arm("hold", on="place", times=6, seconds=held_s))
        return f"six requests held by the venue for {held_s:g} s"
    link = stage.links["venue"]
    link.hold()
    try:
        time.sleep(seconds)
    finally:
        link.release(copies_after_s=COPIES_AFTER_S)
    time.sleep(COPIES_AFTER_S + 0.5)
    return f"all requests held for {seconds:.1f} s, and delivered once more"


def _storm(stage: Stage, dice: random.Random) -> str:
    kind, seconds = dice.choice(("too_many", "banned")), dice.randint(1, 15)
    stage.hush.set()
    try:
        time.sleep(0.2)
        _armed(stage.arm(kind, seconds=seconds))
        time.sleep(seconds + 0.5)
    finally:
        stage.hush.clear()
    return f"{'429' if kind == 'too_many' else '418'} for {seconds} s"


def _maintain(stage: Stage, dice: random.Random) -> str:
    how = dice.choice(("killed", "restarted", "shutdown", "cancel all", "garbage", "outage"))
    if how in ("killed", "restarted"):
        stage.note_exchange()
        (stage.exchange.kill if how == "killed" else stage.exchange.stop)()
        time.sleep(dice.uniform(0, 4))
        stage.exchange.start()
        stage.tell_offset(0)
    elif how == "cancel all":
        until(lambda: _cancel_all(stage), "an order to be cancelled by the venue", CANCELLED_S)
    elif how == "garbage":
        _armed(stage.arm("garbage_reply", on="any", times=dice.randint(3, 15)))
    else:
        _armed(stage.arm(how, seconds=dice.randint(1, 4)))
    return how


def _cancel_all(stage: Stage) -> bool:
    """Whether any was open."""
    path = "/api/v3/openOrders"
    markets = [symbol.replace("-", "") for symbol in QUANTITIES]
    replies = [stage.exchange.signed("DELETE", path, symbol=market) for market in markets]
    return any(reply.status == 200 for reply in replies)


def _skew(stage: Stage, dice: random.Random) -> str:
    seconds = dice.choice((-5, -2, -1, 1, 2, 5)) + round(dice.uniform(-0.5, 0.5), 2)
    _armed(stage.arm("clock_offset", seconds=seconds))
    stage.tell_offset(seconds)
    try:
        time.sleep(dice.uniform(3, 8))
    finally:
        deadline = time.monotonic() + 20
        while not stage.arm("clock_offset", seconds=0) and time.monotonic() < deadline:
            time.sleep(0.1)
        stage.tell_offset(0)
    return f"by {seconds:+.1f} s"


def _slow_consumer(stage: Stage, dice: random.Random) -> str:
    frozen = stage.roles["strategy"].freeze()
    seconds = dice.uniform(4, 10)
    try:
        time.sleep(seconds)
        weight = sum(_mb(process) for process in stage.roles["feed"].family())
    finally:
        for process in frozen:
            with contextlib.suppress(psutil.Error):
                process.resume()
    stage.feed_mb.append(weight)
    return f"strategy worker asleep for {seconds:.0f} s, feed {weight:.0f} MB"


def _mb(process: psutil.Process) -> float:
    with contextlib.suppress(psutil.Error):
        return float(process.memory_info().rss) / 1e6
    return 0.0


def _burst(stage: Stage, dice: random.Random) -> str:
    many = dice.randint(40, 120)
    stage.burst.append(many)
    time.sleep(2)
    return f"{many} orders at once"


def _armed(is_armed: bool) -> None:
    if not is_armed:
        raise TimedOut("the exchange took no order to misbehave")


OUTSIDE_FAULTS = (
    Fault(code="F16", words="links late, slow, silent, sliced, cut, reset", strike=_spoil_link,
          about_s=4, holds=("links",)),
    Fault(code="F17", words="links stopped one by one, released in another order",
          strike=_swizzle, about_s=6, holds=("links",)),
    Fault(code="F18", words="replies lost, torn, lying", strike=_lose_replies, about_s=1.5,
          holds=("exchange",)),
    Fault(code="F19", words="queries that lag, events late, doubled and missing", strike=_lag,
          about_s=1.5, holds=("exchange",)),
    Fault(code="F20", words="requests held by the network and delivered twice", strike=_hold,
          about_s=9, holds=("links", "exchange")),
    Fault(code="F21", words="429 and 418 storms", strike=_storm, about_s=8,
          holds=("exchange",)),
    Fault(code="F22", words="venue killed, restarted, shutting down, cancelling all, garbled",
          strike=_maintain, about_s=4, holds=("exchange",)),
    Fault(code="F24", words="the exchange's clock off by seconds", strike=_skew, about_s=7,
          holds=("exchange", "orders")),
    Fault(code="F25", words="a consumer that sleeps", strike=_slow_consumer, about_s=8,
          holds=("feed",)),
    Fault(code="F26", words="bursts of orders", strike=_burst, about_s=3, holds=("burst",)),
)  # fmt: skip
