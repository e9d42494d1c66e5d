"""One body: the poses that were believed, and why the newest was not."""

import math
from collections import deque
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from humanx_mocap_bridge import quaternion as quat
from humanx_mocap_bridge.twist import WINDOW, estimate_twist


class Loss(IntEnum):
    """Why a body is not tracked; the numbers of ``humanx_msgs/ObjectState``."""

    NONE = 0
    NEVER_SEEN = 1
    MISSING = 2
    STALE = 3
    FROZEN = 4
    JUMP = 5
    SWAP = 6
    INVALID = 7


@dataclass(frozen=True)
class Limits:
    """What is physically possible for a body, and when a repeated pose counts as lost.

    ``max_speed`` (m/s) and ``max_turn`` (rad/s, inf: not checked) bound the motion since the last
    believed pose, beside ``slack`` (m) and ``turn_slack`` (rad) for noise and marker changes.
    ``frozen_after``: so many exact repetitions of a pose are a system that has lost the body
    without saying so (0: not checked). ``reacquire_frames``: so many frames in a row that agree
    with each other, though not with the past, are believed: somebody moved the body unseen.
    """

    max_speed: float = 15.0
    max_turn: float = math.inf
    slack: float = 0.05
    turn_slack: float = 0.3
    frozen_after: int = 2
    reacquire_frames: int = 10


IDENTITY_POSE = np.array([0.0, 0, 0, 1, 0, 0, 0])


class Track:
    """Judges the measurements of one body in order of capture. Times are in s of one clock."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.loss = Loss.NEVER_SEEN
        self._times: deque[float] = deque(maxlen=64)
        self._poses: deque[np.ndarray] = deque(maxlen=64)
        self._twist: np.ndarray | None = None  # computed when asked for
        self._raw: np.ndarray | None = None  # newest measurement, believed or not
        self._repeats = 0
        self._candidates: deque[tuple[float, np.ndarray]] = deque(maxlen=256)

    @property
    def seen(self) -> bool:
        """Whether any pose was ever believed."""
        return bool(self._times)

    @property
    def time(self) -> float:
        """When the last believed pose was captured; -inf before."""
        return self._times[-1] if self._times else -math.inf

    @property
    def pose(self) -> np.ndarray:
        """The last believed pose (7); identity before."""
        return self._poses[-1] if self._poses else IDENTITY_POSE

    def twist(self) -> np.ndarray:
        """Return the velocity (6,) at the last believed pose."""
        if self._twist is None:
            known = math.isfinite(self.time)
            self._twist = estimate_twist(np.array(self._times), np.array(self._poses)) if known else np.zeros(6)
        return self._twist

    def predict(self, time: float) -> np.ndarray:
        """Return where (3,) the body should be; no further ahead than a few frames of its velocity are good for."""
        ahead = min(time - self.time, 2 * WINDOW)
        return self.pose[:3] + self.twist()[:3] * ahead

    def lost(self, reason: Loss) -> None:
        """A frame held nothing believable of this body."""
        if self.seen or reason != Loss.MISSING:
            self.loss = reason
        self._candidates.clear()

    def reset(self) -> None:
        """Forget the past (the clock was set), keep the last pose as what is reported."""
        if self._times:
            pose = self._poses[-1]
            self._times.clear()
            self._poses.clear()
            self._times.append(-math.inf)
            self._poses.append(pose)
        self._candidates.clear()
        self._twist = None
        self._raw, self._repeats = None, 0

    def frozen(self, pose: np.ndarray) -> bool:
        """Note a raw pose and tell whether it only repeats the one before, bit by bit."""
        same = self._raw is not None and np.array_equal(self._raw, pose)
        self._raw = pose
        self._repeats = self._repeats + 1 if same else 0
        return same

    def plausible(self, time: float, pose: np.ndarray) -> bool:
        """Whether the body can have come from its last believed pose to this one."""
        return not self.seen or self._reachable(self.time, self.pose, time, pose)

    def _reachable(self, t0: float, pose0: np.ndarray, t1: float, pose1: np.ndarray) -> bool:
        limits, dt = self.limits, t1 - t0
        if math.dist(pose1[:3], pose0[:3]) > limits.max_speed * dt + limits.slack:
            return False
        if limits.max_turn == math.inf:
            return True
        return quat.angle_between(pose1[3:], pose0[3:]) <= limits.max_turn * dt + limits.turn_slack

    def believe(self, time: float, pose: np.ndarray) -> None:
        """Take a pose into the track."""
        self._times.append(time)
        self._poses.append(pose)
        self._twist = None
        self._candidates.clear()
        self.loss = Loss.NONE

    def repeat(self) -> None:
        """The system repeated its pose: after a few times the body counts as lost, until then nothing changes."""
        if self.limits.frozen_after and self._repeats >= self.limits.frozen_after:
            self.loss = Loss.FROZEN
            self._candidates.clear()

    def doubt(self, time: float, pose: np.ndarray) -> None:
        """A pose came that cannot continue the track: believe it once enough of its kind agree."""
        self.loss = Loss.JUMP
        if self._candidates and not self._reachable(*self._candidates[-1], time, pose):
            self._candidates.clear()
        self._candidates.append((time, pose))
        if len(self._candidates) >= self.limits.reacquire_frames:
            candidates = list(self._candidates)
            self._times.clear()
            self._poses.clear()
            for then, candidate in candidates:
                self.believe(then, candidate)
