"""A child is forked at a moment at which no other thread leaves it something half done."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FORK_WHILE_IMPORTING = """
import os, sys, threading, time
if "unguarded" not in sys.argv:
    from botswarm import forks
started = threading.Event()
sys.modules["__main__"].started = started
thread = threading.Thread(target=lambda: __import__("slow_to_import"))
thread.start()
started.wait(20)
child = os.fork()
if child == 0:
    import slow_to_import
    os._exit(slow_to_import.ANSWER)
deadline = time.monotonic() + 15
while time.monotonic() < deadline:
    done, status = os.waitpid(child, os.WNOHANG)
    if done:
        print(os.waitstatus_to_exitcode(status))
        break
    time.sleep(0.01)
else:
    os.kill(child, 9)
    print("stuck")
thread.join()
"""
SLOW = "import __main__, time\n__main__.started.set()\ntime.sleep(0.5)\nANSWER = 42\n"


def forked(folder: Path, *words: str) -> str:
    (folder / "slow_to_import.py").write_text(SLOW)
    done = subprocess.run(
        [sys.executable, "-c", FORK_WHILE_IMPORTING, *words],
        env={"PYTHONPATH": f"{Path(__file__).parents[2]}:{folder}"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_a_child_imports_what_another_thread_was_importing(tmp_path: Path) -> None:
    assert forked(tmp_path) == "42"
