"""Noticing that two bodies' markers were swapped.

The labels lie then, but each measurement still continues the other body's track. While that lasts,
the swapped measurements feed shadow tracks, so that the end of the swap is recognised however far
both have moved; both bodies are reported as lost all the while, since a guess of which is which is
no measurement.
"""

import math
from collections.abc import Mapping
from itertools import combinations

import numpy as np

from humanx_mocap_bridge.track import Track

RADIUS = 0.1  # m: a measurement this close to a prediction continues that track
RATIO = 3.0  # and is so many times closer to it than to its own
FORGET = 0.5  # s without measurements, after which a shadow says nothing any more


class _Shadow:
    """Where a body really is while its label lies: constant velocity between samples."""

    def __init__(self, time: float, position: np.ndarray, velocity: np.ndarray) -> None:
        self.time, self.position, self.velocity = time, position, velocity

    def predict(self, time: float) -> np.ndarray:
        return self.position + self.velocity * (time - self.time)

    def update(self, time: float, position: np.ndarray) -> None:
        dt = time - self.time
        if dt > 0:
            measured = (position - self.position) / dt
            self.velocity = 0.7 * self.velocity + 0.3 * measured
        self.time, self.position = time, position


class SwapWatch:
    """Looks at all pairs of bodies in every frame."""

    def __init__(self, tracks: Mapping[str, Track]) -> None:
        self._tracks = tracks
        self._shadows: dict[tuple[str, str], tuple[_Shadow, _Shadow]] = {}

    def check(self, time: float, poses: Mapping[str, np.ndarray]) -> set[str]:
        """Return the roles whose measurement in this frame belongs to another body."""
        swapped: set[str] = set()
        for a, b in combinations(self._tracks, 2):
            if (a, b) in self._shadows:
                if self._still_swapped((a, b), time, poses):
                    swapped |= {a, b}
            elif self._begins(a, b, time, poses):
                swapped |= {a, b}
            else:
                # One of the two is lost and its label has gone over to the other.
                swapped |= {
                    role for role, other in ((a, b), (b, a)) if role in poses and self._stolen(role, other, time, poses)
                }
        return swapped

    def _begins(self, a: str, b: str, time: float, poses: Mapping[str, np.ndarray]) -> bool:
        track_a, track_b = self._tracks[a], self._tracks[b]
        if a not in poses or b not in poses or not (track_a.seen and track_b.seen):
            return False
        if max(time - track_a.time, time - track_b.time) > FORGET:
            return False
        # Nearly always each is nearest to itself; the predictions below cost more.
        if _distance(poses[a], track_a.pose[:3]) < _distance(poses[a], track_b.pose[:3]):
            return False
        at_a, at_b = track_a.predict(time), track_b.predict(time)
        if not _crossed(poses[a][:3], poses[b][:3], at_a, at_b):
            return False
        shadow_a = _Shadow(time, poses[b][:3], track_a.twist()[:3])
        shadow_b = _Shadow(time, poses[a][:3], track_b.twist()[:3])
        self._shadows[a, b] = shadow_a, shadow_b
        return True

    def _still_swapped(self, pair: tuple[str, str], time: float, poses: Mapping[str, np.ndarray]) -> bool:
        shadow_a, shadow_b = self._shadows[pair]
        if time - min(shadow_a.time, shadow_b.time) > FORGET:
            del self._shadows[pair]
            return False
        at_a, at_b = shadow_a.predict(time), shadow_b.predict(time)
        a, b = (poses.get(role) for role in pair)
        # The labels are right again once a measurement is nearer to its own body than to the other.
        for own, other, pose in ((at_a, at_b, a), (at_b, at_a, b)):
            if pose is not None and _distance(pose, own) < _distance(pose, other):
                del self._shadows[pair]
                return False
        if b is not None:
            shadow_a.update(time, b[:3])
        if a is not None:
            shadow_b.update(time, a[:3])
        return True

    def _stolen(self, role: str, other: str, time: float, poses: Mapping[str, np.ndarray]) -> bool:
        mine, theirs = self._tracks[role], self._tracks[other]
        if not (mine.seen and theirs.seen) or time - theirs.time > FORGET:
            return False
        pose = poses[role]
        if mine.plausible(time, pose):
            return False
        # The other's own measurement, if there is one, is the best knowledge of where it is.
        there = poses[other][:3] if other in poses else theirs.predict(time)
        return _distance(pose, there) < RADIUS


def _crossed(at: np.ndarray, bt: np.ndarray, own_a: np.ndarray, own_b: np.ndarray) -> bool:
    """Whether two measurements lie on each other's predictions and off their own."""
    crossed = max(_distance(at, own_b), _distance(bt, own_a))
    straight = min(_distance(at, own_a), _distance(bt, own_b))
    return crossed < RADIUS and straight > RATIO * crossed


def _distance(pose: np.ndarray, point: np.ndarray) -> float:
    return math.dist(pose[:3], point[:3])
