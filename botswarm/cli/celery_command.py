"""Celery's worker and beat without the rest of its command line, which takes 20 MB a process."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from celery.bin.base import CLIContext

from botswarm.celery import app


def main(words: Sequence[str]) -> None:
    """As ``celery --quiet -A botswarm`` with these words: ``worker`` or ``beat``, and options.

    Celery's own program loads its shell, Flower and whatever else is installed for it first.
    """
    name, *options = words
    if name == "worker":
        from celery.bin.worker import worker as command
    else:
        from celery.bin.beat import beat as command
    context = CLIContext(app=app, no_color=False, workdir=None, quiet=True)
    command.main(args=options, prog_name=f"celery -A botswarm {name}", obj=context)


if __name__ == "__main__":
    main(sys.argv[1:])
