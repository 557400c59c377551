"""The least a feed can do: ten threads that read frames and decode them, and no more."""

from __future__ import annotations

import json
import sys
import threading
import time

import msgspec
import websocket


class _Data(msgspec.Struct):
    s: str
    t: int | None = None
    p: str | None = None
    q: str | None = None


class _Frame(msgspec.Struct):
    data: _Data | None = None


def main() -> None:
    """Words: the stream's URL, the number of markets, of connections. Prints frames read so far."""
    url, markets, connections = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    counts = [0] * connections
    decode = msgspec.json.Decoder(_Frame).decode

    def read(number: int) -> None:
        line = websocket.create_connection(f"{url}/stream", skip_utf8_validation=True)
        names = [f"m{each:04d}usdt" for each in range(number, markets, connections)]
        streams = [f"{name}@{channel}" for name in names for channel in ("trade", "bookTicker")]
        line.send(json.dumps({"method": "SUBSCRIBE", "params": streams, "id": 1}))
        while True:
            _, frame = line.recv_data()
            decode(frame)
            counts[number] += 1

    for number in range(connections):
        threading.Thread(target=read, args=(number,), daemon=True).start()
    while True:
        time.sleep(0.25)
        print(sum(counts), flush=True)


if __name__ == "__main__":
    main()
