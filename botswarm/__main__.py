"""`python -m botswarm` is the command `botswarm`."""

from __future__ import annotations

from botswarm.cli import main

if __name__ == "__main__":
    main()
