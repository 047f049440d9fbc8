"""One thread that works on the newest item, and drops what it has no time for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class LatestWorker(Generic[Item]):
    """Runs one function on one thread, on one item at a time; a slot of size one waits meanwhile.

    A newer item takes the slot from an older one, so an overloaded worker is late by one item at most.
    """

    def __init__(self, work: Callable[[Item], None]) -> None:
        """Start the thread; `work` must not raise."""
        self._work = work
        self._slot: Item | None = None
        self._stopping = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)
        self._thread.start()

    def submit(self, item: Item) -> Item | None:
        """Hand over an item; gives back the one that it pushes out of the slot, or None."""
        with self._changed:
            pushed_out, self._slot = self._slot, item
            self._changed.notify()
            return pushed_out

    def stop(self) -> None:
        """Finish the item at hand, forget the waiting one and end the thread."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or self._slot is not None)
                if self._stopping:
                    return
                item, self._slot = self._slot, None
            if item is not None:
                self._work(item)
