"""``botswarm bot why``: what a bot saw, thought and did, or why it does nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from botswarm.cli.bot_choice import ledger_of, now
from botswarm.cli.bot_words import plain
from botswarm.cli.command import Command
from botswarm.cli.session import Answer, Session
from botswarm.cli.table import in_columns

if TYPE_CHECKING:
    from botswarm.bots.why import Explanation


@click.command("why", cls=Command)
@click.argument("name")
@click.pass_obj
def explain_bot(session: Session, /, name: str) -> Answer:
    """Say why a bot does what it does, or does nothing.

    It shows what the bot last saw and thought, what was nearest to another verdict, what stopped
    its last order, and its last orders and fills. It asks the ledger only, so it answers while
    everything else is down.
    """
    from botswarm.bots import why

    found = why.explain(ledger_of(session), name, now())
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
        ("holds", f"{plain(stand.position)} {base}, open orders: {len(stand.orders)}, budget "
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
    price = f" at {plain(order.limit_price)}" if order.limit_price is not None else ""
    return f"{order.created_at:%H:%M:%S} {order.side} {plain(order.quantity)}{price}"


def _orders_table(found: Explanation) -> str:
    rows = [
        (
            f"{each.created_at:%H:%M:%S}",
            each.side.value,
            plain(each.quantity),
            each.kind.value if each.limit_price is None else plain(each.limit_price),
            each.state.value,
            plain(each.filled_quantity),
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
            plain(each.quantity),
            plain(each.price),
            f"{plain(each.commission)} {each.commission_asset}",
        )
        for each in found.fills
    ]
    return in_columns(["FILLED", "SIDE", "QUANTITY", "PRICE", "COMMISSION"], rows)
