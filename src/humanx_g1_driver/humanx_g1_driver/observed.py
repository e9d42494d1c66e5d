"""Which robot states were shown to the policy, and when they arrived: so that its answers can be dated.

Dating an answer by the tick it echoes, on the monotonic clock, needs no agreement of clocks between processes.
"""

import numpy as np


class ObservedStates:
    """The last states given to the ROS side: their ticks and arrival times (s, monotonic)."""

    def __init__(self, size: int = 512) -> None:
        """512 states are at least one second at 500 Hz."""
        self._at: dict[int, float] = {}
        self._order = [-1] * size
        self._next = 0

    def add(self, tick: int, received_at: float) -> None:
        oldest = self._order[self._next]
        if oldest in self._at:
            del self._at[oldest]
        self._order[self._next] = tick
        self._next = (self._next + 1) % len(self._order)
        self._at[tick] = received_at

    def received_at(self, tick: int) -> float | None:
        """Return when the state with this tick arrived, or None if it is not one of the last."""
        return self._at.get(tick)


class ResponseTimes:
    """Delay from a state's arrival to the targets that answer it: the last answers (about one second), and all."""

    BIN_S, BINS = 1e-4, 2000

    def __init__(self, window: int = 100) -> None:
        self._ring = np.zeros(window)
        self._count = 0
        self._histogram = np.zeros(self.BINS, dtype=np.int64)
        self._max = 0.0

    def add(self, seconds: float) -> None:
        self._ring[self._count % len(self._ring)] = seconds
        self._count += 1
        self._histogram[min(int(seconds / self.BIN_S), self.BINS - 1)] += 1
        self._max = max(self._max, seconds)

    def summary(self) -> tuple[float, float]:
        """Return the 99th percentile and the maximum of the last answers in seconds, zeros if nothing came."""
        values = self._ring[: min(self._count, len(self._ring))]
        return (float(np.percentile(values, 99)), float(values.max())) if len(values) else (0.0, 0.0)

    def total(self) -> tuple[int, float, float]:
        """Return number, 99th percentile (to 0.1 ms) and maximum of all answers."""
        if not self._count:
            return 0, 0.0, 0.0
        bin_99 = int(np.searchsorted(np.cumsum(self._histogram), 0.99 * self._count))
        return self._count, (bin_99 + 1) * self.BIN_S, self._max
