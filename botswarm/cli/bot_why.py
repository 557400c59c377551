"""``botswarm bot why``: what a bot saw, thought and did, or why it does nothing."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from botswarm.cli.bot_choice import catalog_of, ledger_of, now
from botswarm.cli.command import Command
from botswarm.cli.moments import MOMENT
from botswarm.cli.session import Answer, Session
from botswarm.cli.table import in_columns
from botswarm.domain.amount import plain

if TYPE_CHECKING:
    from botswarm.bots.then import Then
    from botswarm.bots.why import Explanation
    from botswarm.ledger.store import Ledger

Rows = list[tuple[str, object]]


@click.command("why", cls=Command)
@click.argument("name")
@click.option(
    "--at", "at", type=MOMENT, help="Then instead of now, such as 14:05 or 10m for ten minutes ago."
)
@click.pass_obj  # fmt: skip
def explain_bot(session: Session, /, name: str, at: datetime | None) -> Answer:
    """Say why a bot does what it does, or does nothing.

    It shows what the bot last saw and thought, each rule with how far it is from turning, each
    gate, what stopped its last order, and its last orders and fills. It asks the ledger only, so
    it answers while everything else is down.
    """
    from botswarm.bots import why

    ledger = ledger_of(session)
    if at is not None:
        return _then(ledger, name, at)
    found = why.explain(ledger, name, now(), catalog_of(session.settings()))
    following = []
    if found.is_silent:
        following = ["botswarm status", "celery -A botswarm worker -Q strategy"]
    return Answer(data=why.data(found), text=_in_words(found), next=following)


def _then(ledger: Ledger, name: str, at: datetime) -> Answer:
    from botswarm.bots import then

    found = then.explain_at(ledger, name, at)
    until = found.next_at and f"{found.next_at:%Y-%m-%d %H:%M:%S}"
    rows: Rows = [
        ("evaluated", f"{found.kept.at:%Y-%m-%d %H:%M:%S.%f}"[:-3] + _age(found.kept.record)),
        ("held until", until or "now"),
        ("version", found.kept.version),
        *_record_rows(found.kept.record),
    ]
    return Answer(
        data=then.data(found),
        text=f"{found.answer}.\n\n{_aligned(rows)}",
        next=_next_then(found),
    )


def _next_then(found: Then) -> list[str]:
    orders = [each["id"] for each in found.kept.record.get("orders") or ()]
    return [f"botswarm order why {order_id}" for order_id in orders[:1]]


def _in_words(found: Explanation) -> str:
    told, stand = found.stand.bot, found.stand
    base, _, quote = told.symbol.partition("-")
    rows: Rows = [
        ("bot", f"{told.strategy} on {told.venue}:{told.symbol}, {told.timeframe} candles, "
         f"version {told.version}{', a shadow' if told.is_shadow else ''}"),
        ("state", f"{told.state}: {told.reason}" if told.reason else told.state.value),
        ("holds", f"{plain(stand.position)} {base}, open orders: {len(stand.orders)}, budget "
         f"{told.parameters.get('budget')} {quote}"),
    ]  # fmt: skip
    if found.trouble is not None:
        rows.append(("trouble", f"{found.trouble.kind}: {found.trouble.words}"))
    if found.evaluation is None or found.age_s is None:
        rows.append(("evaluated", "never"))
    else:
        rows.append(("evaluated", f"{found.age_s:.1f} s ago{_age(found.evaluation)}"))
        rows += _record_rows(found.evaluation)
    for halt in found.halts:
        rows.append(("halt", f"{halt.scope} is {halt.state}: {halt.reason} ({halt.actor})"))
    if (order := found.stopped_order) is not None:
        rows.append(("last stopped", f"{_order_words(order)}: {order.state}, {order.reason}"))
    lines = [f"{found.answer}.", "", _aligned(rows)]
    if found.orders:
        lines += ["", _orders_table(found)]
    if found.fills:
        lines += ["", _fills_table(found)]
    return "\n".join(lines)


def _age(evaluation: Mapping[str, Any]) -> str:
    age_ms = evaluation.get("data_age_ms")
    return "" if age_ms is None else f", on data {age_ms} ms old"


def _record_rows(evaluation: Mapping[str, Any]) -> Rows:
    rows: Rows = []
    if evaluation.get("price"):
        bid, ask = evaluation.get("bid"), evaluation.get("ask")
        rows.append(("market", f"last {evaluation['price']}, bid {bid}, ask {ask}"))
    for symbol, other in (evaluation.get("others") or {}).items():
        words = f"last {other['price']}, bid {other['bid']}, ask {other['ask']}"
        rows.append((symbol.lower(), f"{words}, holds {other['position']}"))
    if evaluation.get("verdict"):
        rows.append(("verdict", evaluation["verdict"]))
    if evaluation.get("nearest"):
        rows.append(("nearest", evaluation["nearest"]))
    if evaluation.get("indicators"):
        rows.append(("seen", "  ".join(_seen(*pair) for pair in evaluation["indicators"].items())))
    rows += [("rule", _rule(rule)) for rule in evaluation.get("rules") or ()]
    gates = evaluation.get("gates") or ()
    if passed := [gate["gate"] for gate in gates if gate["passed"]]:
        rows.append(("gates passed", ", ".join(passed)))
    if stopped := evaluation.get("stopped"):
        rows.append(("gate", f"{stopped['gate']}: {stopped['words']}"))
    rows += [("ordered", _wish(order)) for order in evaluation.get("orders") or ()]
    rows += [("would have", _wish(order)) for order in evaluation.get("wanted") or ()]
    return rows


def _rule(rule: Mapping[str, Any]) -> str:
    word = "pass" if rule["passed"] else "fail"
    off = "" if rule["distance"] is None else f" ({rule['distance'] * 100:.3g} % away)"
    value = "no number" if rule["value"] is None else f"{rule['value']:.7g}"
    return f"{word}  {rule['words']} {value}, needs {rule['needs']}{off}"


def _wish(order: Mapping[str, Any]) -> str:
    price = f" at {order['limit_price']}" if order.get("limit_price") else ""
    stop = f", stop {order['stop_price']}" if order.get("stop_price") else ""
    where = f" {order['symbol']}" if order.get("symbol") else ""
    return f"{order['side']} {order['quantity']}{where}{price}{stop} ({order['kind']})"


def _seen(name: str, value: object) -> str:
    return f"{name} {value:.8g}" if isinstance(value, float) else f"{name} {value}"


def _aligned(rows: Rows) -> str:
    return "\n".join(f"{head:<13} {words}" for head, words in rows)


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
