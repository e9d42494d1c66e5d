"""Timing of the last second's ticks."""

import numpy as np


class TickStats:
    """Durations of the newest ticks in s, and counts since the start. Memory is fixed."""

    def __init__(self, window: int, late_after: float) -> None:
        """Keep ``window`` ticks; a tick that starts more than ``late_after`` s late counts as late."""
        self._durations = np.zeros(window)
        self._inference = np.zeros(window)
        self._late_after = late_after
        self._runs = 0
        self.ticks = 0
        self.late_ticks = 0

    def waited(self, lateness: float) -> None:
        """A tick began ``lateness`` s after its deadline."""
        self.ticks += 1
        self.late_ticks += lateness > self._late_after

    def ran(self, duration: float, inference: float) -> None:
        """A tick that asked the network took ``duration`` s, of which ``inference`` in the network."""
        slot = self._runs % len(self._durations)
        self._durations[slot], self._inference[slot] = duration, inference
        self._runs += 1

    def summary(self) -> dict[str, float]:
        """Return tick_mean, tick_p99, tick_max, inference_mean, inference_max of the window in s."""
        count = min(self._runs, len(self._durations))
        if count == 0:
            return dict.fromkeys(('tick_mean', 'tick_p99', 'tick_max', 'inference_mean', 'inference_max'), 0.0)
        durations, inference = self._durations[:count], self._inference[:count]
        return {
            'tick_mean': float(durations.mean()),
            'tick_p99': float(np.percentile(durations, 99)),
            'tick_max': float(durations.max()),
            'inference_mean': float(inference.mean()),
            'inference_max': float(inference.max()),
        }
