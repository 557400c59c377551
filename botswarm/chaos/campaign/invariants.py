"""The promises a campaign is held to: one function each, which answers every breach it finds."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal

from botswarm.chaos.campaign.evidence import Evidence, Order
from botswarm.domain.order import OrderState

DRAIN_MAX_S = 60.0
STOP_MAX_S = 30.0
FEED_MB_MAX = 300.0
ASKED_MAX = 12
"""Requests that were on their way when a storm broke: at most one of each process that asks."""
CLOCK_MAX_S = 2.5
"""How far a signature may be ahead of the exchange's time."""
LATE_MAX_S = 120.0
"""How long the commit of an attempt may take: locks are waited for, and processes are frozen."""
TOO_MANY_REQUESTS, TOO_MANY_ORDERS, FILTER = -1003, -1015, -1013

FORESEEN = ("MemoryError", "SoftTimeLimitExceeded")
"""What taking its memory or its time from a process does to whatever it is at."""

ELSEWHERE = frozenset(
    ("doubled", "unknown", "lost", "missing", "position", "order", "result", "fill")
)
"""Findings of the books that another promise speaks of."""
LIVELY = 0.15
"""Of what moves at other times, so much goes on while the cache is broken, at the least."""

Check = Callable[[Evidence], Iterator[str]]


def one_intent_one_order(found: Evidence) -> Iterator[str]:
    yield from _findings(found, "doubled")
    for client_id, count in found.accepted().items():
        if count > 1:
            yield f"order {client_id} was accepted {count} times"


def every_intent_ends(found: Evidence) -> Iterator[str]:
    for order in found.orders.values():
        if not OrderState(order.state).is_final or order.is_open:
            yield f"order {order.id} is {order.state}, minutes after the last fault"


def no_orphan(found: Evidence) -> Iterator[str]:
    yield from _findings(found, "unknown", "lost", "missing")
    ids = {order.client_order_id: order for order in found.orders.values()}
    for client_id, at in found.ended_at().items():
        if math.isinf(at):
            yield f"order {client_id} is live at the venue, and everything was ended"
        elif (order := ids.get(client_id)) is not None and (
            early := _early_s(found, order, at)
        ) > 0:
            yield f"order {client_id} was {order.state} {early:.1f} s before the venue ended it"


def fills_and_balances_agree(found: Evidence) -> Iterator[str]:
    yield from _findings(found, "position", "order", "result", "fill")
    for asset in sorted({*found.balances, *found.deposits, *found.money}):
        ours = found.deposits.get(asset, Decimal(0)) + found.money.get(asset, Decimal(0))
        theirs = found.balances.get(asset, Decimal(0))
        if ours != theirs:
            yield f"{asset}: the ledger gives {ours}, the exchange has {theirs}"


def each_fill_once(found: Evidence) -> Iterator[str]:
    counts = Counter(
        (venue, symbol, trade, order) for venue, _, trade, symbol, order in found.fills
    )
    for key, count in counts.items():
        if count > 1:
            yield f"fill {key} is booked {count} times"
    told = sum(entry["type"] == "fill" for each in found.journal.values() for entry in each)
    if told != len(found.fills):
        yield f"the exchange told of {told} fills of ours, {len(found.fills)} are booked"


def proof_not_guess(found: Evidence) -> Iterator[str]:
    """Nothing unknown was taken for "not placed" before the venue's own expiry had passed."""
    for order_id, events in found.events.items():
        attempts, number = found.attempts.get(order_id, ()), 0
        for event in events:
            number += event.after == "sending"
            if (event.before, event.after) != ("unknown", "approved"):
                continue
            _, at = found.timeline.around(event.id)
            for attempt in attempts[:number][-1:]:
                fence = attempt.fence_at.timestamp()
                if all(at + offset < fence for offset in found.offset_at(at)):
                    yield f"order {order_id} was given up {fence - at:.1f} s before its fence"


def bytes_were_frozen(found: Evidence) -> Iterator[str]:
    """What the exchange took is one of the committed requests, and it came in its time."""
    ids = {order.client_order_id: order for order in found.orders.values()}
    for client_id, entries in found.journal.items():
        order = ids.get(client_id)
        for entry in entries:
            if entry["type"] != "order" or order is None:
                continue
            frozen = [
                sent
                for sent in found.attempts.get(order.id, ())
                if Decimal(sent.said["quantity"]) == Decimal(entry["quantity"])
                and sent.said["side"].lower() == entry["side"]
                and -1000 <= entry["at"] - sent.timestamp_ms <= sent.window_ms
            ]
            if not frozen:
                yield f"order {client_id} was taken with bytes that no attempt explains"


def cancelled_orders_keep_their_fills(found: Evidence) -> Iterator[str]:
    ids = {order.client_order_id: order for order in found.orders.values()}
    for client_id, entries in found.journal.items():
        for entry in entries:
            order = ids.get(client_id)
            if entry["type"] not in ("cancel", "expire") or order is None:
                continue
            if order.filled != Decimal(entry["filled"]):
                yield f"order {order.id} ended with {entry['filled']} filled, not {order.filled}"


def orders_fit_the_market(found: Evidence) -> Iterator[str]:
    for order in found.orders.values():
        rules = found.instruments.get(order.symbol)
        for sent in found.attempts.get(order.id, ()):
            quantity = Decimal(sent.said["quantity"])
            price = Decimal(sent.said.get("price", "0"))
            if rules is None or quantity % rules.lot_size or price % rules.tick_size:
                yield f"order {order.id} was sent as {quantity} at {price}"
            if any("e" in sent.said.get(name, "").lower() for name in ("quantity", "price")):
                yield f"order {order.id} was sent with a number that is no plain decimal"
    if found.rejects[FILTER]:
        yield f"the exchange's filters refused {found.rejects[FILTER]} orders"


def limits_are_kept(found: Evidence) -> Iterator[str]:
    for storm in found.storms:
        if storm["asked"] > ASKED_MAX:
            yield f"{storm['asked']} requests came while everybody was told to stay away"
    ordered = sum(storm["asked"] for storm in found.storms)
    if (more := found.refused.get(str(TOO_MANY_REQUESTS), 0) - ordered) > 0:
        yield f"{more} requests were above the venue's limits"
    if found.rejects[TOO_MANY_ORDERS]:
        yield f"{found.rejects[TOO_MANY_ORDERS]} orders were above the venue's limits"


def books_are_chained(found: Evidence) -> Iterator[str]:
    yield from _findings(found, *({each.check for each in found.verification.findings} - ELSEWHERE))


def commits_are_durable(found: Evidence) -> Iterator[str]:
    for order_id in sorted(found.tally.acknowledged - found.orders.keys()):
        yield f"order {order_id} was committed and is not there"
    for name, value in found.settings.items():
        if value == "off":
            yield f"PostgreSQL ran with {name}=off"


def clocks_move_nothing(found: Evidence) -> Iterator[str]:
    """A process whose clock is wrong signs nothing, and nothing is sent for a stale signal."""
    for order_id, events in found.events.items():
        sending = [each for each in events if each.after == "sending"]
        for event, attempt in zip(sending, found.attempts.get(order_id, ()), strict=False):
            since, until = found.timeline.around(event.id)
            signed = attempt.signed_at.timestamp()
            offsets = [*found.offset_at(since), *found.offset_at(until)]
            is_early = all(signed < since + offset - LATE_MAX_S for offset in offsets)
            if is_early or all(signed > until + offset + CLOCK_MAX_S for offset in offsets):
                yield f"order {order_id} was signed for {attempt.signed_at}, which it was not"
            if since > found.orders[order_id].signal_expires_at.timestamp() + LATE_MAX_S:
                yield f"order {order_id} was sent after its signal had expired"


def backups_are_true(found: Evidence) -> Iterator[str]:
    for note in found.notes:
        if note.code == "F28" and (note.failed or "UNNOTICED" in note.did):
            yield f"backup {note.round}: {note.failed or note.did}"


def cache_decides_nothing(found: Evidence) -> Iterator[str]:
    """Orders went out while the cache was broken, where nothing else was; in a campaign that left
    no such moment, as good as usually.
    """
    # Garbage lasts for as long as nobody writes over it: what took time was to find keys.
    broken = [n for n in found.notes if n.code == "F15" and not n.did.startswith("garbage")]
    windows = [(note.at_s, note.at_s + note.took_s) for note in broken if note.took_s > 1]
    hard = [note for note in found.notes if note.code not in ("F5", "F6", "F15", "F25", "F28")]
    quiet = [
        (start, end)
        for start, end in windows
        if not any(note.at_s - 3 < end and start < note.at_s + note.took_s + 8 for note in hard)
    ]
    if _seconds(quiet) > 10 and not _moved(found, quiet):
        yield "no order moved while only the cache was broken"
    whole = [(0.0, max((note.at_s + note.took_s for note in found.notes), default=0.0))]
    if _seconds(windows) > 20:
        usual = _moved(found, whole) / _seconds(whole) * _seconds(windows)
        if (moved := _moved(found, windows)) < LIVELY * usual:
            yield f"{moved} events of orders while the cache was broken; usual are {usual:.0f}"


def nothing_passes_by_itself(found: Evidence) -> Iterator[str]:
    """Every order at the venue was approved, committed and frozen before."""
    ids = {order.client_order_id: order.id for order in found.orders.values()}
    for client_id in found.journal:
        order_id = ids.get(client_id, "")
        states = [event.after for event in found.events.get(order_id, ())]
        if "sending" not in states or not found.attempts.get(order_id):
            yield f"order {client_id} is at the venue without a committed attempt"
        elif "approved" not in states[: states.index("sending")]:
            yield f"order {client_id} was sent and never approved"


def backlog_drains(found: Evidence) -> Iterator[str]:
    if found.drained_s > DRAIN_MAX_S:
        yield f"orders were on their way {found.drained_s:.0f} s after the last fault"
    for state, count in found.left.items():
        yield f"{count} orders were still {state} at the end"


def every_error_was_foreseen(found: Evidence) -> Iterator[str]:
    for kind, count in found.unexpected.items():
        if kind not in FORESEEN:
            yield f"{count} tasks, processes or rounds ended in {kind}"


def memory_is_bounded(found: Evidence) -> Iterator[str]:
    for weight in found.feed_mb:
        if weight > FEED_MB_MAX:
            yield f"the feed weighed {weight:.0f} MB before a consumer that slept"


def stops_are_graceful(found: Evidence) -> Iterator[str]:
    for took in found.stops:
        if took >= STOP_MAX_S:
            yield f"a process took {took:.0f} s to end"


def everybody_is_made_of_the_same(found: Evidence) -> Iterator[str]:
    told = [name for names in found.builds.values() for name in names]
    for role in found.roles:
        # A worker's name tells its host as well.
        if not any(name.partition("@")[0] == role for name in told):
            yield f"nobody heard what {role} is made of"
    if len(found.builds) != 1:
        yield f"processes told {len(found.builds)} builds and configurations: " + "; ".join(
            f"{', '.join(sorted(names))}: {made}" for made, names in found.builds.items()
        )


CHECKS: Mapping[str, tuple[str, Check]] = {
    "I1": ("one intent, at most one order at the venue", one_intent_one_order),
    "I2": ("every accepted intent comes to its end", every_intent_ends),
    "I3": ("no orphan at the venue", no_orphan),
    "I4": ("fills, positions and balances agree to the last digit", fills_and_balances_agree),
    "I5": ("each fill booked once", each_fill_once),
    "I6": ("unknown is resolved by proof, never before the fence", proof_not_guess),
    "I7": ("what the venue took are the committed bytes, in their time", bytes_were_frozen),
    "I8": ("a cancel keeps the fills it raced with", cancelled_orders_keep_their_fills),
    "I9": ("orders fit tick, lot and minimum", orders_fit_the_market),
    "I13": ("the venue's limits and bans are obeyed", limits_are_kept),
    "I18": ("the feed's memory is bounded", memory_is_bounded),
    "I19": ("double entry, chained, every state on its path", books_are_chained),
    "I20": ("an acknowledged commit is durable", commits_are_durable),
    "I21": ("clock jumps send, lose and reorder nothing", clocks_move_nothing),
    "I22": ("a backup is whole or is not called one", backups_are_true),
    "I23": ("the cache changes no order's outcome", cache_decides_nothing),
    "I27": ("closed by default: no order without approval and commit", nothing_passes_by_itself),
    "I28": ("the backlog drains within a minute of the last fault", backlog_drains),
    "errors": ("nothing ends in an error nobody had thought of", every_error_was_foreseen),
    "I29": ("all processes tell one build and configuration", everybody_is_made_of_the_same),
    "I30": ("a graceful stop within 30 s", stops_are_graceful),
}


def judge(found: Evidence) -> dict[str, Sequence[str]]:
    """By promise: its breaches."""
    return {name: list(check(found)) for name, (_, check) in CHECKS.items()}


def _findings(found: Evidence, *checks: str) -> Iterator[str]:
    for finding in found.verification.findings:
        if finding.check in checks:
            yield f"{finding.check} {finding.subject}: {finding.words}"


def _early_s(found: Evidence, order: Order, ended_at: float) -> float:
    """How long before the venue ended an order the ledger had it at its end, at the least."""
    if not OrderState(order.state).is_final or not found.events.get(order.id):
        return 0.0
    _, seen = found.timeline.around(found.events[order.id][-1].id)
    # The venue may have ended it when its clock was another one than it is now.
    late = [seconds for at, seconds in found.skews if seen - LATE_MAX_S < at <= seen]
    return ended_at - seen - max(*found.offset_at(seen), *late, 0.0) - 1


def _seconds(windows: Sequence[tuple[float, float]]) -> float:
    return sum(end - start for start, end in windows)


def _moved(found: Evidence, windows: Sequence[tuple[float, float]]) -> int:
    """How many events of orders came within these seconds of the campaign."""
    count = 0
    for start, end in windows:
        since, until = found.began + start, found.began + end
        ids = [last for at, last in found.timeline.rows if since <= at <= until]
        count += ids[-1] - ids[0] if ids else 0
    return count
