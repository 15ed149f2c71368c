"""News for every tab: an edit, whoever made it, a step of a job, a new view. As server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.concurrency import run_in_threadpool

_HEARTBEAT = 15.0  # seconds after which a line tells that the server still lives
_LOOK = 1.0  # seconds between two looks at what others have changed


class Events:
    """What there is to tell, told again to each listener when it changes. `state` may be called in a thread."""

    def __init__(self, state: Callable[[], dict[str, Any]]) -> None:
        self._state = state
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed: asyncio.Event | None = None
        self._last, self._closed = "", False

    async def watch(self) -> None:
        """Look every second for edits of other processes."""
        self._loop, self._changed = asyncio.get_running_loop(), asyncio.Event()
        while True:
            await self._look()
            await asyncio.sleep(_LOOK)

    async def _look(self) -> None:
        try:
            told = json.dumps(await run_in_threadpool(self._state), ensure_ascii=False)
        except Exception:  # while another process replaces a file, say; the next look sees it
            return
        if told != self._last and self._changed:
            self._last = told
            self._changed.set()
            self._changed = asyncio.Event()

    def tell(self) -> None:
        """Look at once. From any thread."""
        if self._loop and not self._loop.is_closed():
            asyncio.run_coroutine_threadsafe(self._look(), self._loop)

    def close(self) -> None:
        self._closed = True
        if self._changed:
            self._changed.set()

    async def stream(self) -> AsyncIterator[str]:
        yield "retry: 1000\n\n"
        seen = None
        while not self._closed and self._changed:
            changed = self._changed
            if self._last and self._last != seen:
                seen = self._last
                yield f"data: {seen}\n\n"
                continue
            try:
                await asyncio.wait_for(changed.wait(), _HEARTBEAT)
            except TimeoutError:
                yield ": still here\n\n"
