"""When is each foot of the person on the floor, and for how long: intervals of stance from the motion alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from humanx_training.xgen.human_motion import HumanMotion

SIDES = ('left', 'right')


@dataclass(frozen=True)
class FootingRule:
    """Thresholds on the person's feet (human metres and seconds)."""

    toe_height: float = 0.05  # m above the foot's own floor level
    heel_height: float = 0.06  # m; beyond it the heel has left the floor
    speed: float = 0.35  # m/s
    min_stance: float = 0.10  # s; shorter touches are no stance
    max_gap: float = 0.20  # s; shorter lifts that return near are no swing (the G1 cannot step that fast)
    same_place: float = 0.10  # m; a foot that lifts and returns this near has not stepped
    airborne: float = 0.06  # m; both feet this high is a jump, however short


def detect_stance(motion: HumanMotion, rule: FootingRule = FootingRule()) -> np.ndarray:
    """Return (T, 2) bool: left and right foot stand on the floor.

    A foot stands while its toes are low and slow and its heel is down. The G1's foot is one rigid plate, so toes alone
    count as standing only where nothing else carries the person.
    """
    flat = np.zeros((motion.num_frames, 2), dtype=bool)
    lift = np.zeros((motion.num_frames, 2))
    toes = np.zeros_like(flat)
    place = []
    for side, name in enumerate(SIDES):
        ankle, toe = motion.joint(f'{name}_ankle'), motion.joint(f'{name}_foot')
        toe_up = toe[:, 2] - floor_level(toe[:, 2])
        heel_up = ankle[:, 2] - floor_level(ankle[:, 2])
        toe_speed, ankle_speed = _speed(toe, motion.fps), _speed(ankle, motion.fps)
        toes[:, side] = (toe_up < rule.toe_height) & (toe_speed < rule.speed)
        flat[:, side] = toes[:, side] & (heel_up < rule.heel_height) & (ankle_speed < rule.speed)
        lift[:, side] = toe_up
        place.append(toe)
    stance = flat.copy()
    for side in range(2):
        stance[:, side] = _tidy(stance[:, side], place[side], motion.fps, rule)
    # Standing on the toes of one or both feet: keep what the toes say where no foot is flat.
    nobody = ~stance.any(axis=1)
    stance |= toes & nobody[:, None]
    for side in range(2):
        stance[:, side] = _tidy(stance[:, side], place[side], motion.fps, rule)
    return _carry(stance, lift, place, motion.fps, rule)


def _carry(stance: np.ndarray, lift: np.ndarray, place: list[np.ndarray], fps: float, rule: FootingRule) -> np.ndarray:
    """Close moments in which no foot stands although the person is not in the air: the nearer foot stands on."""
    out = stance.copy()
    for start, stop in runs(~stance.any(axis=1)):
        if lift[start:stop].min(axis=1).max() > rule.airborne or stop - start > 2 * rule.max_gap * fps:
            continue
        for frame in range(start, stop):
            before = [float(np.linalg.norm(place[s][frame] - place[s][max(start - 1, 0)])) for s in range(2)]
            after = [float(np.linalg.norm(place[s][frame] - place[s][min(stop, len(out) - 1)])) for s in range(2)]
            cost: list[float] = [
                min(
                    before[s] if start > 0 and stance[start - 1, s] else np.inf,
                    after[s] if stop < len(out) and stance[stop, s] else np.inf,
                )
                for s in range(2)
            ]
            if np.isfinite(min(cost)):
                out[frame, int(np.argmin(cost))] = True
    return out


def floor_level(height: np.ndarray) -> float:
    """Return the height (m) a foot point has when it stands: low, but not the lowest outlier."""
    return float(np.percentile(height, 10))


def _speed(path: np.ndarray, fps: float) -> np.ndarray:
    smooth = gaussian_filter1d(path, max(0.5, 0.015 * fps), axis=0, mode='nearest')
    return np.linalg.norm(np.gradient(smooth, axis=0), axis=1) * fps


def runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """Return the intervals ``[start, stop)`` in which a mask is true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2])]


def _tidy(mask: np.ndarray, path: np.ndarray, fps: float, rule: FootingRule) -> np.ndarray:
    out = mask.copy()
    for start, stop in runs(~out):
        inner = start > 0 and stop < len(out)
        if not inner or stop - start > rule.max_gap * fps:
            continue
        if np.linalg.norm(path[stop, :2] - path[start - 1, :2]) < rule.same_place:
            out[start:stop] = True
    for start, stop in runs(out):
        at_end = start == 0 or stop == len(out)
        if stop - start < rule.min_stance * fps and not at_end:
            out[start:stop] = False
    return out
