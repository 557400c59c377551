"""One idle freqtrade process beside ours: what a bot costs where each has a process of its own."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

from botswarm.bench.loads import family, pss_mb
from botswarm.testing.servers import free_port

PACKAGE = "freqtrade"
INSTALL_S = 900.0
IDLE_S = 20.0
START_S = 90.0


def idle_freqtrade(cache: Path, progress: Callable[[str], None]) -> dict[str, Any]:
    """Never raises: where it cannot be installed or started, that is what is said."""
    try:
        program = _installed(cache, progress)
        return _measured(program, cache, progress)
    except (OSError, subprocess.SubprocessError, RuntimeError) as error:
        return {"failed": str(error), "text": f"freqtrade could not be measured: {error}"}


def _installed(cache: Path, progress: Callable[[str], None]) -> Path:
    folder = cache / "freqtrade"
    program = folder / "bin" / "freqtrade"
    if not program.exists():
        progress(f"installing {PACKAGE} into {folder}")
        venv.create(folder, with_pip=True, clear=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        done = subprocess.run(
            [*pip, "--disable-pip-version-check", "--prefer-binary", PACKAGE],
            capture_output=True,
            text=True,
            timeout=INSTALL_S,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"pip install {PACKAGE}: {done.stderr.strip()[-400:]}")
    return program


def _measured(program: Path, cache: Path, progress: Callable[[str], None]) -> dict[str, Any]:
    """Its web server mode: everything is imported and a worker answers, no exchange is asked."""
    port = free_port()
    config = cache / "freqtrade.json"
    config.write_text(json.dumps(_configuration(port)))
    folder = cache / "freqtrade-user"
    subprocess.run(
        [program, "create-userdir", "--userdir", folder],
        capture_output=True,
        check=True,
        timeout=START_S,
    )
    progress("freqtrade: starting it, to see what it takes when it has nothing to do")
    log = cache / "freqtrade.log"
    with log.open("wb") as output:
        child = subprocess.Popen(
            [program, "webserver", "--config", config, "--userdir", folder],
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        _wait_for(port, child, log)
        time.sleep(IDLE_S)
        mine = family(child.pid)
        pss, rss = sum(map(pss_mb, mine)), sum(map(_rss_mb, mine))
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(signal.SIGKILL)
        child.wait()
    version = subprocess.run(
        [program.with_name("python"), "-c", "import freqtrade; print(freqtrade.__version__)"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    return {
        "version": version,
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "mode": f"freqtrade webserver, idle for {IDLE_S:g} s: no exchange, no pairs, no bot loop",
        "rss_mb": round(rss, 1),
        "pss_mb": round(pss, 1),
        "mb_per_bot": round(rss, 1),
        "text": f"freqtrade {version}, one process for one bot, idle in its web server mode: "
        f"{rss:.0f} MB RSS, {pss:.0f} MB PSS",
    }


def _configuration(port: int) -> dict[str, Any]:
    return {
        "dry_run": True,
        "stake_currency": "USDT",
        "stake_amount": 100,
        "max_open_trades": 1,
        "entry_pricing": {"price_side": "same", "use_order_book": False},
        "exit_pricing": {"price_side": "same", "use_order_book": False},
        "exchange": {"name": "binance", "key": "", "secret": "", "pair_whitelist": ["BTC/USDT"]},
        "pairlists": [{"method": "StaticPairList"}],
        "api_server": {
            "enabled": True,
            "listen_ip_address": "127.0.0.1",
            "listen_port": port,
            "username": "bench",
            "password": "bench",  # loopback only, for a few seconds
            "jwt_secret_key": "bench-bench-bench-bench-bench-32",
        },
    }


def _wait_for(port: int, child: subprocess.Popen[bytes], log: Path) -> None:
    import socket

    deadline = time.monotonic() + START_S
    while True:
        if child.poll() is not None or time.monotonic() > deadline:
            said = log.read_text(errors="replace").strip().splitlines()[-3:]
            raise RuntimeError("freqtrade did not start: " + " | ".join(said))
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.2)


def _rss_mb(pid: int) -> float:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    return 0.0
