"""All bodies together: mocap frames in, object states out. Pure numpy; no ROS."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from humanx_mocap_bridge.frames import FrameChange, attach, valid_pose
from humanx_mocap_bridge.swap import SwapWatch
from humanx_mocap_bridge.track import Limits, Loss, Track

# A stamp this far ahead of our clock is another clock, not jitter.
FUTURE_TOLERANCE = 0.02  # s


@dataclass(frozen=True)
class SourceFrame:
    """One frame as a source delivered it, in the source's own axes and units.

    ``time`` of capture in s; ``number`` counts frames, 0 where the source counts none; ``poses`` by
    the source's body names (7: position, quaternion w first). ``complete``: a body that is not in
    it was not seen.
    """

    time: float
    poses: Mapping[str, np.ndarray]
    number: int = 0
    complete: bool = True


@dataclass(frozen=True)
class Body:
    """A body that is reported: its role, its name in the source, its limits, where it sits in the tracked frame."""

    role: str
    source_name: str
    limits: Limits = field(default_factory=Limits)
    offset: np.ndarray | None = None


@dataclass(frozen=True)
class Report:
    """What is known of one body now: pose (7) and twist (6) in ``world``, age in s."""

    role: str
    pose: np.ndarray
    twist: np.ndarray
    tracked: bool
    age: float
    occlusion_frames: int
    loss: Loss


@dataclass
class Counters:
    """What came from the source since the start."""

    frames: int = 0
    stale: int = 0
    repeated_stamps: int = 0
    missing_numbers: int = 0
    restarts: int = 0
    unknown_bodies: set[str] = field(default_factory=set)


class Estimator:
    """Keeps a :class:`Track` per body.

    ``max_latency`` (s): frames older than this are not believed. ``hold`` (s): a body whose newest
    believed pose is older than this is lost; it bridges the phase between the source's rate and
    ours (two periods of the source).
    """

    def __init__(
        self,
        bodies: Sequence[Body],
        change: FrameChange | None = None,
        *,
        max_latency: float = 0.05,
        hold: float = 0.025,
    ) -> None:
        self._bodies = {body.source_name: body for body in bodies}
        self._change = change or FrameChange()
        self._max_latency, self._hold = max_latency, hold
        self._tracks = {body.role: Track(body.limits) for body in bodies}
        self._swaps = SwapWatch(self._tracks)
        self._occlusion = dict.fromkeys(self._tracks, 0)
        self._stamp = -math.inf  # newest, of complete frames
        self._stamps = dict.fromkeys(self._tracks, -math.inf)
        self.newest: SourceFrame | None = None
        self.counters = Counters()

    def frame(self, frame: SourceFrame, now: float) -> None:
        """Take a frame that was read at ``now`` (s of the clock that stamps the frames)."""
        self.counters.frames += 1
        roles = [self._bodies[name].role for name in frame.poses if name in self._bodies]
        self.counters.unknown_bodies.update(frame.poses.keys() - self._bodies.keys())
        last = self._last_stamp(frame, roles)
        if not self._in_time(frame, now):
            self.counters.stale += 1
            self._lose(self._tracks if frame.complete else roles, Loss.STALE)
            return
        if last > now + FUTURE_TOLERANCE:
            # What was seen last is in the future now: the clocks were set back, and what was measured before cannot
            # be compared.
            self.counters.restarts += 1
            for track in self._tracks.values():
                track.reset()
            self._stamps = dict.fromkeys(self._tracks, -math.inf)
        elif frame.time <= last:
            self.counters.repeated_stamps += 1
            return  # nothing new: the age goes on growing
        self._count(frame)
        self._remember(frame, roles)
        self._judge(frame)

    def _last_stamp(self, frame: SourceFrame, roles: Sequence[str]) -> float:
        if frame.complete:
            return self._stamp
        return max((self._stamps[role] for role in roles), default=-math.inf)

    def _remember(self, frame: SourceFrame, roles: Sequence[str]) -> None:
        self.newest = frame
        self._stamp = frame.time
        for role in roles:
            self._stamps[role] = frame.time

    def _in_time(self, frame: SourceFrame, now: float) -> bool:
        return -FUTURE_TOLERANCE <= now - frame.time <= self._max_latency

    def _count(self, frame: SourceFrame) -> None:
        if self.newest is None or not frame.number:
            return
        gap = frame.number - self.newest.number
        if gap > 1:
            self.counters.missing_numbers += gap - 1
        elif gap < 1:
            self.counters.restarts += 1

    def _lose(self, roles: Sequence[str] | Mapping, reason: Loss) -> None:
        for role in roles:
            self._tracks[role].lost(reason)

    def _judge(self, frame: SourceFrame) -> None:
        fresh: dict[str, np.ndarray] = {}
        for body in self._bodies.values():
            track = self._tracks[body.role]
            raw = frame.poses.get(body.source_name)
            if raw is None:
                if frame.complete:
                    track.lost(Loss.MISSING)
                continue
            pose = valid_pose(raw)
            if pose is None:
                track.lost(Loss.INVALID)
            elif track.frozen(pose):
                track.repeat()
            else:
                pose = self._change.pose(pose)
                fresh[body.role] = pose if body.offset is None else attach(pose, body.offset)
        swapped = self._swaps.check(frame.time, fresh)
        for role, pose in fresh.items():
            track = self._tracks[role]
            if role in swapped:
                track.lost(Loss.SWAP)
            elif track.plausible(frame.time, pose):
                track.believe(frame.time, pose)
            else:
                track.doubt(frame.time, pose)

    def report(self, now: float) -> list[Report]:
        """Return the state of every body, in the order given; call it once per output frame."""
        return [self._report(role, track, now) for role, track in self._tracks.items()]

    def _report(self, role: str, track: Track, now: float) -> Report:
        age = max(now - track.time, 0.0)
        loss = track.loss
        if loss == Loss.NONE and age > self._hold:
            loss = Loss.MISSING
        if loss == Loss.NONE and track.time > now + FUTURE_TOLERANCE:
            loss = Loss.STALE  # our clock was set back: how old the pose is, nobody knows
        tracked = loss == Loss.NONE
        self._occlusion[role] = 0 if tracked else self._occlusion[role] + 1
        twist = track.twist() if tracked else np.zeros(6)
        return Report(role, track.pose, twist, tracked, age, self._occlusion[role], loss)
