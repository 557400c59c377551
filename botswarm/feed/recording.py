"""Files of frames as they came in, one frame a line (docs/feed-format.md)."""

from __future__ import annotations

import base64
import contextlib
import gzip
import io
import itertools
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, cast

import msgspec

from botswarm.domain.market import Book
from botswarm.errors import Unreachable
from botswarm.exchanges.reading import decoded, number, positive

LINE_MAX_BYTES = 64 * 1024 * 1024
"""Longer than any frame a venue sends; a longer line is passed over and counted."""
_GZIP = b"\x1f\x8b"
_BASE64 = b"base64:"
WHOLE = b'{"botswarm":"whole",'
HEADING = b"# botswarm frames 1, venue "
# The time, and in recordings of ours the connection; a frame begins with neither.
_STAMP = re.compile(rb"(\d{1,12})(?:\.(\d{1,9}))?(?: ([A-Za-z0-9_.-]{1,40}))?: ?")


@dataclass(frozen=True, slots=True)
class Line:
    number: int
    received_ms: int | None
    connection: str
    frame: bytes
    """As it came, without the stamp."""
    is_too_long: bool = False
    """Then the frame is only its beginning."""


class Truncated(Unreachable):
    """The compressed file ends in the middle of a block: what came before it was read."""


# --- reading ----------------------------------------------------------------------------------


@contextlib.contextmanager
def opened(path: str, stdin: io.BufferedReader | None = None) -> Iterator[IO[bytes]]:
    """``-`` is standard input; whether it is compressed is seen, whatever its name."""
    with contextlib.ExitStack() as stack:
        try:
            if path == "-" and stdin is not None:
                raw = stdin
            else:
                raw = stack.enter_context(Path(path).open("rb"))
            is_compressed = raw.peek(2)[:2] == _GZIP
        except OSError as error:
            raise Unreachable(
                f"{path} cannot be read: {error.strerror}",
                cure="name a file of frames, or - for standard input",
            ) from error
        if is_compressed:
            yield cast("IO[bytes]", stack.enter_context(gzip.open(raw)))
        else:
            yield raw


def lines(file: IO[bytes], *, line_max: int = LINE_MAX_BYTES) -> Iterator[Line]:
    """Each in turn, never more than one in memory. Raises Truncated at the end of a torn file."""
    for count in itertools.count(1):
        text = _readline(file, line_max + 1)
        if not text:
            return
        is_too_long = len(text) > line_max and not text.endswith(b"\n")
        if is_too_long:
            text = text[:200]
            while (rest := _readline(file, line_max)) and not rest.endswith(b"\n"):
                pass
        yield _line(count, text.rstrip(b"\r\n"), is_too_long)


def _readline(file: IO[bytes], limit: int) -> bytes:
    try:
        return file.readline(limit)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise Truncated(
            f"the compressed file is torn: {error}",
            cure="its writer was killed, or the copy is not whole; what came before was read",
        ) from error


def _line(count: int, text: bytes, is_too_long: bool) -> Line:
    stamp = _STAMP.match(text)
    if stamp is None:
        return Line(count, None, "", text, is_too_long)
    seconds, fraction, connection = stamp.groups()
    received_ms = int(seconds) * 1000 + int((fraction or b"").ljust(3, b"0")[:3])
    frame = text[stamp.end() :]
    if connection and frame.startswith(_BASE64):
        # What cannot be decoded is no frame, and the session says so.
        with contextlib.suppress(ValueError):
            frame = base64.b64decode(frame[len(_BASE64) :], validate=True)
    return Line(count, received_ms, (connection or b"").decode(), frame, is_too_long)


def venue_of(heading: bytes) -> str | None:
    """The venue that a recording of ours names in its first line."""
    if not heading.startswith(HEADING):
        return None
    return heading[len(HEADING) :].partition(b",")[0].decode(errors="replace").strip()


class _Whole(msgspec.Struct):
    """A whole book as REST told it, between the frames of the stream that it makes whole."""

    botswarm: Literal["whole"]
    symbol: str
    sequence: int
    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]


_whole = msgspec.json.Decoder(_Whole)


def whole_frame(book: Book) -> bytes:
    bids, asks = (
        [(f"{price:f}", f"{quantity:f}") for price, quantity in side]
        for side in (book.bids, book.asks)
    )
    return msgspec.json.encode(_Whole("whole", book.symbol, book.sequence, bids, asks))


def whole_of(frame: bytes, venue: str, received_ms: int) -> Book | None:
    """The book, where ``frame`` is one of ours. Raises Unreadable for one that is damaged."""
    if not frame.startswith(WHOLE):
        return None
    told = decoded(_whole, frame)
    return Book(
        venue=venue,
        symbol=told.symbol,
        sequence=told.sequence,
        bids=tuple((positive(price), number(quantity)) for price, quantity in told.bids),
        asks=tuple((positive(price), number(quantity)) for price, quantity in told.asks),
        exchange_ms=received_ms,
        received_ms=received_ms,
    )


def stamped(received_ms: int, connection: str, frame: bytes) -> bytes:
    """One line; a frame that would not fit into one is written in base64."""
    if b"\n" in frame or b"\r" in frame or frame.startswith(_BASE64):
        frame = _BASE64 + base64.b64encode(frame)
    stamp = f"{received_ms // 1000}.{received_ms % 1000:03d} {connection}: "
    return stamp.encode() + frame + b"\n"
