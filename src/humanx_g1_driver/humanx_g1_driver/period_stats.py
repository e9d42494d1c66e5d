"""Statistics of the control loop's period: over the last second, and over the whole run."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PeriodSummary:
    """Seconds; ``error`` is ``|period - nominal|``, a miss is a period over twice the nominal."""

    samples: int
    mean: float
    p99: float
    max: float
    error_p50: float
    error_p99: float
    misses: int


class PeriodStats:
    """Collects periods in preallocated arrays; :meth:`add` costs about a microsecond."""

    BIN_NS = 2_000
    BINS = 5_000  # up to 10 ms; longer ones count in the last bin

    def __init__(self, nominal_ns: int, window: int = 1000) -> None:
        self._nominal = nominal_ns
        self._ring = np.zeros(window)
        self._count = 0
        self._histogram = np.zeros(self.BINS, dtype=np.int64)  # of the error, the whole run
        self._max_ns = 0
        self._sum_ns = 0
        self.misses = 0

    @property
    def cycles(self) -> int:
        return self._count

    def add(self, period_ns: int) -> None:
        self._ring[self._count % len(self._ring)] = period_ns
        self._count += 1
        self._sum_ns += period_ns
        if period_ns > self._max_ns:
            self._max_ns = period_ns
        if period_ns > 2 * self._nominal:
            self.misses += 1
        self._histogram[min(abs(period_ns - self._nominal) // self.BIN_NS, self.BINS - 1)] += 1

    def window(self) -> PeriodSummary:
        """Return the statistics of the last periods (about one second)."""
        periods = self._ring[: min(self._count, len(self._ring))]
        if not len(periods):
            return PeriodSummary(0, 0.0, 0.0, 0.0, 0.0, 0.0, 0)
        errors = np.abs(periods - self._nominal)
        return PeriodSummary(
            len(periods),
            float(periods.mean()) * 1e-9,
            float(np.percentile(periods, 99)) * 1e-9,
            float(periods.max()) * 1e-9,
            float(np.percentile(errors, 50)) * 1e-9,
            float(np.percentile(errors, 99)) * 1e-9,
            int((periods > 2 * self._nominal).sum()),
        )

    def total(self) -> PeriodSummary:
        """Return the statistics since the start; percentiles to 2 us. ``p99`` is nominal plus the error's."""
        if not self._count:
            return PeriodSummary(0, 0.0, 0.0, 0.0, 0.0, 0.0, 0)
        cumulative = np.cumsum(self._histogram)
        p50, p99 = (
            (int(np.searchsorted(cumulative, share * self._count)) + 1) * self.BIN_NS * 1e-9 for share in (0.5, 0.99)
        )
        return PeriodSummary(
            self._count,
            self._sum_ns / self._count * 1e-9,
            self._nominal * 1e-9 + p99,
            self._max_ns * 1e-9,
            p50,
            p99,
            self.misses,
        )
