"""What a motion capture system makes of the truth: noise, lost markers, late frames."""

from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Literal

import numpy as np

LossStyle = Literal['missing', 'frozen', 'gap']


@dataclass(frozen=True)
class MocapConfig:
    """How good the simulated mocap is.

    ``rate_hz``: 100 to 500. ``dropout``: probability per frame that a body that is seen gets lost; it then stays lost
    for 1 to ``burst`` frames, drawn uniformly. ``loss``: a lost body is missing from the frame, keeps its last pose
    (``frozen``), or takes the whole frame with it (``gap``). ``pelvis_dropout`` is the pelvis' own probability.
    ``position_noise`` (m) and ``rotation_noise`` (rad) are standard deviations per axis, ``latency`` (s) the time from
    capture to publication and ``jitter`` (s) the standard deviation added to it (never negative; order is kept).
    """

    rate_hz: int = 100
    dropout: float = 0.0
    burst: int = 1
    loss: LossStyle = 'missing'
    pelvis_dropout: float = 0.0
    position_noise: float = 0.0005
    rotation_noise: float = 0.002
    latency: float = 0.003
    jitter: float = 0.0005

    def __post_init__(self) -> None:
        if not 100 <= self.rate_hz <= 500 or 1000 % self.rate_hz:
            raise ValueError(f'rate_hz is {self.rate_hz}; expected a divisor of 1000 between 100 and 500.')
        for name in ('dropout', 'pelvis_dropout'):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f'{name} is {getattr(self, name)}; expected a probability, 0 to 1.')
        if not 1 <= self.burst <= 1000:
            raise ValueError(f'burst is {self.burst}; expected 1 to 1000 frames.')
        for name, limit in (('position_noise', 0.5), ('rotation_noise', 1.0), ('latency', 1.0), ('jitter', 0.5)):
            if not 0.0 <= getattr(self, name) <= limit:
                raise ValueError(f'{name} is {getattr(self, name)}; expected 0 to {limit}.')

    def loss_fraction(self) -> float:
        """Return the share of frames in which an object is lost, in the long run."""
        lost = self.dropout * 0.5 * (1 + self.burst)
        return lost / (1.0 - self.dropout + lost) if self.dropout < 1.0 else 1.0


@dataclass(frozen=True)
class MocapFrame:
    """One frame: when it was captured and is due (ns), its number, its bodies and their poses (7: xyz wxyz)."""

    capture_ns: int
    due_ns: int
    number: int
    bodies: tuple[tuple[str, np.ndarray], ...]


class Mocap:
    """Turns true poses into frames, in order, each with the time at which it is to be published."""

    def __init__(self, names: list[str], config: MocapConfig, seed: int) -> None:
        self._names = names
        self._config = config
        self._queue: list[tuple[int, int, MocapFrame]] = []
        self._number = 0
        self.reset(seed)

    def reset(self, seed: int) -> None:
        """Start the losses and the noise of another episode; frame numbers go on."""
        self._rng = np.random.default_rng([seed, 0x6D6F63])  # not the stream that draws the scenario
        self._lost = dict.fromkeys(self._names, 0)
        self._last: dict[str, np.ndarray] = {}
        self._last_due = 0

    def capture(self, now_ns: int, poses: np.ndarray) -> None:
        """Take a frame of ``poses`` (len(names), 7: position in metres, quaternion w first) at ``now_ns``."""
        config = self._config
        self._number += 1
        bodies = []
        gap = False
        for name, pose in zip(self._names, poses):
            if self._is_lost(name):
                gap |= config.loss == 'gap'
                if config.loss == 'frozen' and name in self._last:
                    bodies.append((name, self._last[name]))
                continue
            measured = self._measure(pose)
            self._last[name] = measured
            bodies.append((name, measured))
        delay = config.latency + abs(config.jitter * self._rng.standard_normal())
        due = max(now_ns + int(delay * 1e9), self._last_due)
        self._last_due = due
        if not gap:
            frame = MocapFrame(now_ns, due, self._number, tuple(bodies))
            heappush(self._queue, (due, self._number, frame))

    def due(self, now_ns: int) -> Iterator[MocapFrame]:
        """Yield the frames whose time has come."""
        while self._queue and self._queue[0][0] <= now_ns:
            yield heappop(self._queue)[2]

    def next_due(self) -> int | None:
        """Return when the next frame is to be published (ns), None if none waits."""
        return self._queue[0][0] if self._queue else None

    def _is_lost(self, name: str) -> bool:
        config = self._config
        if self._lost[name] > 0:
            self._lost[name] -= 1
            return True
        probability = config.pelvis_dropout if name == 'pelvis' else config.dropout
        if probability > 0.0 and self._rng.random() < probability:
            self._lost[name] = int(self._rng.integers(1, config.burst + 1)) - 1
            return True
        return False

    def _measure(self, pose: np.ndarray) -> np.ndarray:
        config = self._config
        measured = np.array(pose)
        measured[:3] += config.position_noise * self._rng.standard_normal(3)
        if config.rotation_noise > 0.0:
            a, b, c = 0.5 * config.rotation_noise * self._rng.standard_normal(3)
            w, x, y, z = measured[3:]
            turned = np.array(
                [
                    w - x * a - y * b - z * c,
                    x + w * a + y * c - z * b,
                    y + w * b + z * a - x * c,
                    z + w * c + x * b - y * a,
                ]
            )
            measured[3:] = turned / np.linalg.norm(turned)
        return measured
