"""News for the pages that are open."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from typing import Any

WAITING = 200
"""News that a page may be behind; one that is farther behind loads everything anew."""
ALIVE = 15.0
"""Seconds after which a page that heard nothing is told so, so that a broken connection is noticed."""


class Events:
    """Told from any thread, heard by every open page as server-sent events."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pages: list[tuple[asyncio.AbstractEventLoop, asyncio.Queue[str | None]]] = []

    def tell(self, kind: str, **values: Any) -> None:
        """Send one event, its values as JSON."""
        message = f"event: {kind}\ndata: {json.dumps(values)}\n\n"
        with self._lock:
            for loop, queue in self._pages:
                loop.call_soon_threadsafe(_put, queue, message)

    def close(self) -> None:
        """End every stream."""
        with self._lock:
            for loop, queue in self._pages:
                loop.call_soon_threadsafe(_put, queue, None)

    async def listen(self) -> AsyncIterator[str]:
        """The events from now on, for one page."""
        page = (asyncio.get_running_loop(), asyncio.Queue[str | None](WAITING))
        with self._lock:
            self._pages.append(page)
        try:
            yield "event: hello\ndata: {}\n\n"
            while True:
                try:
                    message = await asyncio.wait_for(page[1].get(), ALIVE)
                except TimeoutError:
                    message = ": alive\n\n"
                if message is None:
                    return
                yield message
        finally:
            with self._lock:
                self._pages.remove(page)


def _put(queue: asyncio.Queue[str | None], message: str | None) -> None:
    if queue.full():  # the page is asleep: it is told to begin anew instead of what it missed
        while not queue.empty():
            queue.get_nowait()
        message = None if message is None else "event: hello\ndata: {}\n\n"
    queue.put_nowait(message)
