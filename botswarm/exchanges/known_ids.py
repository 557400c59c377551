"""Which of a venue's orders is which of ours, as far as it was told here lately."""

from __future__ import annotations

import threading

KEPT_MAX = 10_000


class KnownIds:
    """Threads share it. What is forgotten can be asked for."""

    def __init__(self) -> None:
        self._by_client: dict[str, str] = {}
        self._by_venue: dict[tuple[str, str], str] = {}
        self._lock = threading.Lock()

    def keep(self, client_id: str, venue_id: str, market: str = "") -> None:
        """``market`` where the venue numbers the orders of each market by itself."""
        with self._lock:
            if len(self._by_client) >= KEPT_MAX:
                del self._by_client[next(iter(self._by_client))]
            if len(self._by_venue) >= KEPT_MAX:
                del self._by_venue[next(iter(self._by_venue))]
            self._by_client[client_id] = venue_id
            self._by_venue[market, venue_id] = client_id

    def of_venue(self, client_id: str) -> str | None:
        with self._lock:
            return self._by_client.get(client_id)

    def of_client(self, venue_id: str, market: str = "") -> str | None:
        with self._lock:
            return self._by_venue.get((market, venue_id))
