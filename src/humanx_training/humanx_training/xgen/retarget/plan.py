"""The timeline of a retargeted clip and where the feet stand: stance, entry, the person's motion, exit, stance.

Frames of the plan: two frozen frames of the stance before, the entry, the clip, the exit, two frozen frames of the
stance after. Every frame says for both feet whether they stand, and where; a foot that is in the air at the
clip's first or last frame steps there from, or to, a place beside the other one.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicHermiteSpline
from scipy.ndimage import gaussian_filter1d

from humanx_description.robot import FOOT_BODIES, FOOT_SOLE_OFFSET
from humanx_training.xgen import rotations as rot
from humanx_training.xgen.retarget.footing import runs
from humanx_training.xgen.retarget.keypoints import SIDES, Targets
from humanx_training.xgen.retarget.kinematics import Kinematics, Pose

ANKLE_ABOVE_SOLE = FOOT_SOLE_OFFSET + 0.017558  # m, ankle pitch axis above the sole
FROZEN = 2  # frames of the stance at both ends that the refinement may not move
STEP_HEIGHT = 0.05  # m, lift of a step in the entry or exit
STANCE_WIDTH = (0.18, 0.34)  # m between the feet of a stance that may be chosen
# Feet that stand farther apart, or are turned more, than this step to a stance in the entry or exit.
COMFORT_STAGGER, COMFORT_WIDTH, COMFORT_TURN = 0.32, 0.42, 0.9  # m, m, rad
TRIM_TILT = np.deg2rad(1.0)  # rad
TRIM_PLACE = 0.004  # m
TRIM_LONGEST = 0.12  # s
STANCE_STAGGER = 0.12  # m, most that a foot may stand ahead in such a stance


@dataclass
class FootPlan:
    """Feet over all frames of the plan (left, right)."""

    planted: np.ndarray  # (N, 2) bool
    pos: np.ndarray  # (N, 2, 3) m: ankle pitch axis, fixed while planted
    mat: np.ndarray  # (N, 2, 3, 3): the sole's orientation, level while planted


@dataclass
class Plan:
    """Everything that is fixed before the refinement."""

    fps: float
    clip: slice  # frames of the person's motion
    feet: FootPlan
    targets: Targets  # frames of the clip only

    @property
    def num_frames(self) -> int:
        return len(self.feet.planted)


def place_feet(targets: Targets, stance: np.ndarray, fps: float) -> FootPlan:
    """Fix the standing feet and move the targets so that the legs keep their shape above them.

    ``stance`` (T, 2) bool. The targets are shifted in place: the mean disagreement of the standing ankles with their
    places is taken off the whole body, smoothly; what remains per foot is blended away while it swings.
    """
    frames = len(targets)
    ankles = np.stack([targets.points[f'{side}_ankle'] for side in SIDES], axis=1)
    level = _level_feet(targets, stance)
    # The legs' own height first: where a foot stands, its ankle is at the robot's ankle height.
    lift = np.where(stance, ANKLE_ABOVE_SOLE - ankles[:, :, 2], np.nan)
    height = _over_gaps(_nanmean(lift), fps)
    shift = np.zeros((frames, 3))
    shift[:, 2] = gaussian_filter1d(height, max(1.0, 0.03 * fps), mode='nearest')
    ankles = ankles + shift[:, None]
    places = ankles.copy()
    mats = level.copy()
    for side in range(2):
        for start, stop in runs(stance[:, side]):
            place = np.median(ankles[start:stop, side], axis=0)
            place[2] = ANKLE_ABOVE_SOLE
            places[start:stop, side] = place
            heading = rot.yaw_of(level[start:stop, side])
            mean = np.arctan2(np.sin(heading).mean(), np.cos(heading).mean())
            mats[start:stop, side] = rot.rot_z(np.array(mean))
    error = np.where(stance[:, :, None], places - ankles, np.nan)
    body = np.stack([_over_gaps(_nanmean(error[:, :, i]), fps) for i in range(2)], axis=1)
    body = gaussian_filter1d(body, max(1.0, 0.06 * fps), axis=0, mode='nearest')
    shift[:, :2] += body
    targets.shift(shift)
    ankles[:, :, :2] += body[:, None]
    error = np.where(stance[:, :, None], places - ankles, np.nan)
    for side in range(2):
        swing = ~stance[:, side]
        for i in range(3):
            rest = _over_gaps(error[:, side, i], fps)
            places[swing, side, i] = ankles[swing, side, i] + rest[swing]
        mats[:, side] = _ease_swings(mats[:, side], level[:, side], stance[:, side], fps)
    return FootPlan(planted=stance.copy(), pos=places, mat=mats)


def _level_feet(targets: Targets, stance: np.ndarray) -> np.ndarray:
    """Return the feet's orientations with the source's constant tilt in stance taken off."""
    out = targets.foot_mat.copy()
    for side in range(2):
        heading = rot.rot_z(rot.yaw_of(out[:, side]))
        tilt = rot.log(rot.transpose(heading) @ out[:, side])
        if stance[:, side].any():
            mean = np.median(tilt[stance[:, side]], axis=0)
            out[:, side] = out[:, side] @ rot.exp(-mean)
    return out


def _ease_swings(mats: np.ndarray, source: np.ndarray, stance: np.ndarray, fps: float) -> np.ndarray:
    """Blend a swinging foot's orientation from, and to, the level one within 0.1 s of the stance."""
    out = mats.copy()
    ramp = max(1, round(0.1 * fps))
    for start, stop in runs(~stance):
        for frame in range(start, stop):
            share = 1.0
            anchor = None
            if start > 0 and frame - start < ramp:
                share, anchor = (frame - start + 1) / (ramp + 1), mats[start - 1]
            if stop < len(stance) and stop - 1 - frame < ramp:
                other = (stop - frame) / (ramp + 1)
                if other < share:
                    share, anchor = other, mats[stop]
            if anchor is None:
                out[frame] = source[frame]
            else:
                out[frame] = anchor @ rot.exp(_smooth(share) * rot.log(anchor.T @ source[frame]))
    return out


def _smooth(x: np.ndarray | float) -> np.ndarray | float:
    return x * x * x * (10 - 15 * x + 6 * x * x)


def _nanmean(values: np.ndarray) -> np.ndarray:
    """Return the mean over axis 1 of the numbers that are not NaN, NaN where all are."""
    count = np.isfinite(values).sum(axis=1)
    total = np.nansum(values, axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _over_gaps(values: np.ndarray, fps: float) -> np.ndarray:
    """Fill NaN frames of (T,): from the neighbours, along a smooth step."""
    del fps
    known = np.flatnonzero(np.isfinite(values))
    if len(known) == 0:
        return np.zeros_like(values)
    out = values.copy()
    out[: known[0]], out[known[-1] + 1 :] = values[known[0]], values[known[-1]]
    for a, b in itertools.pairwise(known):
        if b - a > 1:
            share = _smooth(np.arange(1, b - a) / (b - a))
            out[a + 1 : b] = values[a] + share * (values[b] - values[a])
    return out


def extend(targets: Targets, feet: FootPlan, fps: float, entry: int, leave: int) -> Plan:
    """Put the stances and the entry (``entry`` frames) and exit (``leave`` frames) around the clip."""
    before = _end_feet(feet, targets.pelvis_pos[0], entry, fps)
    after = _end_feet(_reversed(feet), targets.pelvis_pos[-1], leave, fps)
    after = _reversed(after)
    whole = FootPlan(
        planted=np.concatenate([before.planted, feet.planted, after.planted]),
        pos=np.concatenate([before.pos, feet.pos, after.pos]),
        mat=np.concatenate([before.mat, feet.mat, after.mat]),
    )
    first = FROZEN + entry
    return Plan(fps=fps, clip=slice(first, first + len(targets)), feet=whole, targets=targets)


def _reversed(feet: FootPlan) -> FootPlan:
    return FootPlan(feet.planted[::-1], feet.pos[::-1], feet.mat[::-1])


def _end_feet(feet: FootPlan, root: np.ndarray, length: int, fps: float) -> FootPlan:
    """Return ``FROZEN + length`` frames of feet that lead from a stance to the first frame of ``feet``.

    ``root`` (3,) m: the pelvis there. A foot in the air steps to where it is; where both stand, but too far apart for a
    balanced stance, the one farther from the pelvis steps.
    """
    count = FROZEN + length
    planted = np.ones((count, 2), dtype=bool)
    pos = np.repeat(feet.pos[None, 0], count, axis=0)
    mat = np.repeat(feet.mat[None, 0], count, axis=0)
    steps = [side for side in range(2) if not feet.planted[0, side]]
    landed = len(steps) == 0
    if landed and not comfortable(feet.pos[0], feet.mat[0]):
        steps = [int(np.argmax(np.linalg.norm(feet.pos[0, :, :2] - root[:2], axis=1)))]
    for side in steps:
        other = 1 - side
        end_pos, end_mat = feet.pos[0, side], feet.mat[0, side]
        place, turn = stance_place(end_pos, end_mat, feet.pos[0, other], feet.mat[0, other], side)
        first = FROZEN + round((0.25 if landed else 0.45) * length)
        last = FROZEN + round(0.8 * length) if landed else count
        share = np.arange(1, last - first + 1) / (last - first + 1)
        velocity = np.zeros(3) if landed else (feet.pos[1, side] - end_pos) * fps
        duration = (last - first + 1) / fps
        path = CubicHermiteSpline([0.0, duration], np.stack([place, end_pos]), np.stack([np.zeros(3), velocity]))(
            share * duration
        )
        bump = STEP_HEIGHT * np.sin(np.pi * share) ** 2 * (1.0 if landed else 1 - share)
        path[:, 2] = np.maximum(path[:, 2] + bump, ANKLE_ABOVE_SOLE)
        pos[:first, side], mat[:first, side] = place, turn
        pos[first:last, side] = path
        mat[first:last, side] = turn @ rot.exp(np.asarray(_smooth(share))[:, None] * rot.log(turn.T @ end_mat))
        planted[first:last, side] = False
    return FootPlan(planted, pos, mat)


def comfortable(pos: np.ndarray, mat: np.ndarray) -> bool:
    """Return whether two standing feet (2, 3) m, (2, 3, 3) make a stance the G1 holds with level soles."""
    apart = mat[1].T @ (pos[0] - pos[1])
    turned = float(rot.yaw_of(mat[1].T @ mat[0]))
    return abs(apart[0]) <= COMFORT_STAGGER and 0.12 <= apart[1] <= COMFORT_WIDTH and abs(turned) <= COMFORT_TURN


def stance_place(
    pos: np.ndarray, mat: np.ndarray, base_pos: np.ndarray, base_mat: np.ndarray, side: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return where a swinging foot stands beside the standing one: as near to where it is as a good stance allows."""
    local = base_mat.T @ (pos - base_pos)
    sign = 1.0 if side == 0 else -1.0
    local[0] = np.clip(local[0], -STANCE_STAGGER, STANCE_STAGGER)
    local[1] = sign * np.clip(sign * local[1], *STANCE_WIDTH)
    local[2] = 0.0
    place = base_pos + base_mat @ local
    place[2] = ANKLE_ABOVE_SOLE
    turn = np.clip(float(rot.yaw_of(base_mat.T @ mat)), -0.3, 0.3)
    return place, base_mat @ rot.rot_z(np.array(turn))


def trim_unreachable(kin: Kinematics, plan: Plan, poses: Pose) -> bool:
    """Shorten stances where the robot's leg does not reach: the foot lifts a little earlier, or lands a little later.

    A person leaps farther than the G1's legs span, so at the moment of the change one foot cannot be flat on its place.
    Frames at the ends of a stance in which the sole is off by more than ``TRIM_TILT`` or ``TRIM_PLACE`` become swing,
    at most ``TRIM_LONGEST`` seconds. Returns whether anything changed.
    """
    kin.update(poses)
    changed = False
    longest = round(TRIM_LONGEST * plan.fps)
    for side, body in enumerate(FOOT_BODIES):
        index = kin.body_index[body]
        tilt = np.arccos(np.clip(kin.mat[:, index, 2, 2], -1, 1))
        target = plan.feet.pos[:, side] + plan.feet.mat[:, side] @ np.array([0, 0, FOOT_SOLE_OFFSET - ANKLE_ABOVE_SOLE])
        away = np.linalg.norm(kin.pos[:, index] - target, axis=1)
        bad = plan.feet.planted[:, side] & ((tilt > TRIM_TILT) | (away > TRIM_PLACE))
        for start, stop in runs(plan.feet.planted[:, side]):
            if stop - start <= 2:
                continue
            if start > 0:
                early = np.flatnonzero(bad[start : min(start + longest, stop - 1)])
                if len(early):
                    plan.feet.planted[start : start + early[-1] + 1, side] = False
                    changed = True
            if stop < len(bad):
                late = np.flatnonzero(bad[max(stop - longest, start + 1) : stop])
                if len(late):
                    plan.feet.planted[max(stop - longest, start + 1) + late[0] : stop, side] = False
                    changed = True
    return changed
