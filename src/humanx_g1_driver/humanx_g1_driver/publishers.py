"""Who publishes the joint targets: one policy, or somebody else as well.

A publisher that was killed stays in the ROS graph for up to 20 s, so its entry alone does not make it a second one.
ROS gives every message its publisher's own count: with one publisher it only grows (and starts over once when the
publisher is restarted); with two it jumps back and forth.
"""

from collections import deque


class PublisherCounts:
    """Watches the publication sequence numbers of received messages."""

    WINDOW_S = 1.0

    def __init__(self) -> None:
        self.stepped_back = False
        self._last: int | None = None
        self._steps_back: deque[float] = deque(maxlen=8)

    def add(self, count: int, now: float) -> bool:
        """A message with this publication count came; tell whether two publishers are mixed.

        ``now``: seconds, monotonic. A restart looks like one step back; two within a second are two publishers.
        :attr:`stepped_back` says whether this message made one.
        """
        self.stepped_back = self._last is not None and count <= self._last
        if self.stepped_back:
            self._steps_back.append(now)
        self._last = count
        return self.mixed(now)

    def mixed(self, now: float) -> bool:
        """Tell whether messages of two publishers came within the last second."""
        while self._steps_back and now - self._steps_back[0] > self.WINDOW_S:
            self._steps_back.popleft()
        return len(self._steps_back) >= 2
