"""Results that took long, kept for all sessions of the app: the newest few by key."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Memory(Generic[T]):
    """At most `size` values, the longest unused dropped first.

    Not Streamlit's own cache: that one replays what a function drew, and ours draw their progress.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept: OrderedDict[Hashable, T] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value of `key`, made when it is not there. An exception of `make` keeps nothing."""
        found = self.peek(key)
        if found is None:
            found = make()
            with self._lock:
                self._kept[key] = found
                while len(self._kept) > self._size:
                    self._kept.popitem(last=False)
        return found

    def peek(self, key: Hashable) -> T | None:
        """The value of `key` if it is there."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def forget(self, key: Hashable) -> None:
        """Drop the value of `key`."""
        with self._lock:
            self._kept.pop(key, None)
