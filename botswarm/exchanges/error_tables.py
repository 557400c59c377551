"""What every error of every venue says about the order it answers, as one page for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from botswarm.exchanges.binance import errors as binance
from botswarm.exchanges.ccxt_venue import errors as ccxt
from botswarm.exchanges.coinbase import order_errors as coinbase
from botswarm.exchanges.kraken import errors as kraken
from botswarm.exchanges.meaning import Meaning


@dataclass(frozen=True, slots=True)
class Table:
    """One table of a venue: its codes, in its own words, and what becomes of the order."""

    venue: str
    title: str
    meanings: Mapping[str, Meaning]
    names: Mapping[str, str]

    def rows(self) -> Iterable[tuple[str, str, Meaning]]:
        order = list(Meaning)
        for code, meaning in sorted(self.meanings.items(), key=lambda row: order.index(row[1])):
            yield code, self.names.get(code, ""), meaning


def _table(
    venue: str,
    title: str,
    meanings: Mapping[int, Meaning] | Mapping[str, Meaning],
    names: Mapping[int, str] | None = None,
) -> Table:
    named = {str(code): name for code, name in (names or {}).items()}
    return Table(venue, title, {str(code): each for code, each in meanings.items()}, named)


TABLES: Sequence[Table] = (
    _table("Binance", "HTTP status, whatever the body says", binance.STATUSES),
    _table("Binance", "Codes", binance.MEANING, binance.NAMES),
    _table("Coinbase Advanced", "HTTP errors, by the field `error`", coinbase.REQUESTS),
    _table("Coinbase Advanced", "Placing: `success` is false", coinbase.PLACING),
    _table("Coinbase Advanced", "Cancelling: `success` is false", coinbase.CANCELLING),
    _table("Kraken", "Errors, by what they begin with", kraken.MEANING),
    _table("Any other venue", "Errors, by ccxt's class", ccxt.MEANING),
)
_WORDS: Mapping[Meaning, str] = {
    Meaning.NOT_PLACED: "nothing was placed, and the same again would fare the same: REJECTED",
    Meaning.LATER: "nothing was placed; another order may go through later: REJECTED",
    Meaning.UNKNOWN: "the order may be there: UNKNOWN, until a question or the fence proves it",
    Meaning.NOT_FOUND: "proves nothing before the request's own time has passed",
    Meaning.ENDED: "it was there, and ended long ago without a fill: EXPIRED",
}
_INTRODUCTION = """\
# What a venue's errors say about an order

<!-- Written by `botswarm help venue-errors`; a test fails when it is stale. -->

Every documented error of every venue is in one of five classes. What is not in these tables, an
answer that cannot be read, a timeout, a connection that ended and every HTTP status from 500 on are
*unknown*: then the venue is asked until the answer is proof ([orders.md](orders.md)).

| class | what becomes of the order |
| --- | --- |
"""
_NOTES: Mapping[str, str] = {
    "Binance": """\
`-2010` and `-1010` with the words "Duplicate order sent." are unknown: an order of this client
order id is open, so it is asked for.""",
    "Coinbase Advanced": """\
Reasons are written with and without `PREVIEW_` before them and mean the same. In one field
`UNKNOWN_FAILURE_REASON` says nothing where another field has a reason; alone it is unknown. 401 and
429 are *not placed, later perhaps*, 403 is *not placed*: they are said before anything else is
looked at.""",
    "Kraken": """\
HTTP 200 carries errors too. Of several errors the one that leaves the most open counts. Whatever
speaks of `cl_ord_id` or a duplicate is unknown: an order of this id may be open.""",
    "Any other venue": """\
Through ccxt (`ccxt-NAME`) errors come sorted into its classes; one that is not here means what its
nearest ancestor does. Whatever speaks of a duplicate or of client order ids is unknown. Where no
connection could be made at all, nothing was sent.""",
}


def markdown() -> str:
    parts = [_INTRODUCTION]
    parts += [f"| {meaning.value} | {words} |\n" for meaning, words in _WORDS.items()]
    venue = ""
    for table in TABLES:
        if table.venue != venue:
            venue = table.venue
            parts.append(f"\n## {venue}\n\n{_NOTES[venue]}\n")
        parts.append(f"\n### {table.title}\n\n| code | name | class |\n| --- | --- | --- |\n")
        parts += [
            f"| `{code}` | {name} | {meaning.value} |\n" for code, name, meaning in table.rows()
        ]
    return "".join(parts)
