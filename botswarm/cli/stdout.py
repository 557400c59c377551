"""Standard output for lines of bytes, which may be more than the disk behind it can take."""

from __future__ import annotations

import io
import sys
from typing import IO, Any

from botswarm.errors import Unreachable

BUFFER_BYTES = 64 * 1024


def lines_output() -> IO[bytes]:
    """A line at a time on a terminal, whole blocks into a file or a pipe."""
    raw = _Output(sys.stdout.fileno(), "wb", closefd=False)
    return raw if sys.stdout.isatty() else io.BufferedWriter(raw, BUFFER_BYTES)


class _Output(io.FileIO):
    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise  # whoever read it has gone: nobody is to be told
        except OSError as error:
            raise Unreachable(
                f"what was read cannot be written: {error.strerror}",
                cure="write it where there is room, or only a part of it",
            ) from error
