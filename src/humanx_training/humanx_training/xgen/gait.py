"""A walk from one standing place to another: footsteps, the centre of mass by the inverted pendulum, whole-body pose.

The centre of mass follows the linear inverted pendulum whose zero-moment point stays under the standing foot: ``c - (h
/ g) c'' = z``, solved over the whole walk at once as a two-point boundary problem (Kajita et al. 2003 solve the same
equation by preview). Feet swing on smooth arcs with level soles. The reference can therefore be followed without
toppling, and its feet neither slide nor sink.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_banded

from humanx_description.robot import FOOT_SOLE_OFFSET
from humanx_training.xgen import rotations as rot
from humanx_training.xgen.contact_path import smooth_step
from humanx_training.xgen.retarget.kinematics import Kinematics, Pose
from humanx_training.xgen.whole_body import follow

GRAVITY = 9.81


@dataclass(frozen=True)
class GaitConfig:
    """How the robot walks."""

    step_length: float = 0.28  # m, largest advance of the body per step
    step_turn: float = 0.35  # rad, largest turn per step
    swing: float = 0.45  # s a foot is in the air
    support: float = 0.15  # s both feet stand between two steps
    clearance: float = 0.06  # m a foot is lifted
    settle: float = 0.6  # s to shift the weight at both ends


@dataclass(frozen=True)
class Place:
    """Where the robot stands: the middle between its feet (2,) m and its heading (rad)."""

    middle: np.ndarray
    yaw: float


def footsteps(start: Place, goal: Place, config: GaitConfig) -> list[Place]:
    """Return the body's places step by step: turn towards the goal, walk, turn into the goal's heading.

    Turning and walking overlap: a step is the shorter, the further the heading is off.
    """
    here, places = start, [start]
    for _ in range(200):
        way = goal.middle - here.middle
        distance = float(np.linalg.norm(way))
        if distance < 0.02:
            break
        bearing = np.arctan2(way[1], way[0])
        off = _wrap(bearing - here.yaw)
        if distance < 0.35 and abs(_wrap(goal.yaw - here.yaw)) < 0.6:
            off = _wrap(goal.yaw - here.yaw)
        turn = float(np.clip(off, -config.step_turn, config.step_turn))
        yaw = here.yaw + turn
        # Spread the rest evenly, so that the last step is not a stub.
        even = distance / np.ceil(distance / config.step_length)
        advance = even * max(0.0, np.cos(_wrap(bearing - yaw))) ** 4
        here = Place(here.middle + advance * way / distance, yaw)
        places.append(here)
    while abs(_wrap(goal.yaw - here.yaw)) > 1e-3:
        turn = float(np.clip(_wrap(goal.yaw - here.yaw), -config.step_turn, config.step_turn))
        here = Place(goal.middle, here.yaw + turn)
        places.append(here)
    places.append(goal)
    return places


def walk(
    kin: Kinematics, standing: Pose, goal: Place, fps: float, config: GaitConfig | None = None
) -> tuple[Pose, np.ndarray]:
    """Return the poses of a walk from ``standing`` (one frame) to ``goal`` and which feet stand (T, 2).

    The robot ends in the same posture, moved to the goal: the last pose is ``standing`` there. The first step swings
    the foot on the side that it turns to.
    """
    config = config or GaitConfig()
    kin.update(standing)
    index = [kin.body_index[f'{s}_ankle_roll_link'] for s in ('left', 'right')]
    feet, mats = kin.pos[0, index].copy(), kin.mat[0, index].copy()
    start = Place(feet[:, :2].mean(axis=0), float(rot.yaw_of(standing.mat)[0]))
    local = (feet[:, :2] - start.middle) @ _turn(start.yaw)  # feet seen from the place
    local_yaw = rot.yaw_of(mats) - start.yaw
    places = footsteps(start, goal, config)
    plan = _Schedule(fps, config)
    first = 0 if _wrap(places[-1].yaw - start.yaw) >= 0 else 1
    pos, yaw = feet.copy(), rot.yaw_of(mats).copy()
    plan.stand(pos, yaw, config.settle, pos[:, :2].mean(axis=0))
    swing = first
    # Each place is reached by one foot at a time; the last by both.
    for place in [*places[1:], places[-1]]:
        target = np.append(place.middle + _turn(place.yaw) @ local[swing], FOOT_SOLE_OFFSET)
        plan.step(pos, yaw, swing, target, place.yaw + local_yaw[swing])
        swing = 1 - swing
    plan.stand(pos, yaw, config.settle, pos[:, :2].mean(axis=0))
    feet_pos, feet_yaw, planted, zmp = plan.arrays()
    frames = len(zmp)
    centre = kin.com()[0]
    offset = centre[:2] - start.middle
    end_com = goal.middle + _turn(goal.yaw) @ (_turn(start.yaw).T @ offset)
    zmp = zmp + _ramp(offset, end_com - goal.middle, frames)
    com = pendulum(zmp, float(centre[2]), fps, centre[:2], end_com)
    feet_mat = rot.rot_z(feet_yaw.reshape(-1)).reshape(frames, 2, 3, 3)
    guess = _guess(standing, feet_pos, feet_yaw, local_yaw, com, offset, start)
    # The pelvis sinks a little, so that no knee has to straighten at the longest stride.
    s = smooth_step(np.minimum(np.arange(frames), np.arange(frames)[::-1]) / (0.5 * fps))
    pose = follow(
        kin, guess, feet_pos, feet_mat, fps=fps, com=com, pelvis_height=standing.pos[0, 2] - 0.025 * s
    )
    return pose, planted


def pendulum(zmp: np.ndarray, height: float, fps: float, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Return the centre of mass (T, 2) m whose zero-moment point is ``zmp`` (T, 2), with given ends."""
    frames = len(zmp)
    k = height / GRAVITY * fps**2
    band = np.zeros((3, frames))
    band[0, 2:], band[1, 1:-1], band[2, :-2] = -k, 1 + 2 * k, -k
    band[1, 0] = band[1, -1] = 1.0
    right = zmp.copy()
    right[0], right[-1] = start, end
    return solve_banded((1, 1), band, right)


class _Schedule:
    """Collects the feet's paths and the zero-moment point phase by phase."""

    def __init__(self, fps: float, config: GaitConfig) -> None:
        self.fps, self.config = fps, config
        self.rows: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []
        self.last_zmp: np.ndarray | None = None

    def stand(self, pos: np.ndarray, yaw: np.ndarray, seconds: float, zmp: np.ndarray) -> None:
        count = max(1, round(seconds * self.fps))
        begin = zmp if self.last_zmp is None else self.last_zmp
        for s in smooth_step(np.arange(1, count + 1) / count):
            self.rows.append((pos.copy(), yaw.copy(), np.array([True, True]), begin + s * (zmp - begin)))
        self.last_zmp = zmp.copy()

    def step(self, pos: np.ndarray, yaw: np.ndarray, swing: int, target: np.ndarray, target_yaw: float) -> None:
        config, stance = self.config, 1 - swing
        forward = np.array([np.cos(yaw[stance]), np.sin(yaw[stance])])
        support = pos[stance, :2] + 0.035 * forward  # the sole's middle lies ahead of the ankle
        self.stand(pos, yaw, config.support, support)
        count = max(3, round(config.swing * self.fps))
        begin, begin_yaw = pos[swing].copy(), yaw[swing]
        turn = _wrap(target_yaw - begin_yaw)
        for k in range(1, count + 1):
            s = k / count
            ease = float(smooth_step(np.array(s)))
            here = pos.copy()
            here[swing] = begin + ease * (target - begin)
            here[swing, 2] += config.clearance * 16 * s**2 * (1 - s) ** 2
            facing = yaw.copy()
            facing[swing] = begin_yaw + ease * turn
            planted = np.ones(2, dtype=bool)
            planted[swing] = k == count
            self.rows.append((here, facing, planted, support))
        pos[swing], yaw[swing] = target, begin_yaw + turn

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        return tuple(np.array(column) for column in zip(*self.rows))  # type: ignore[return-value]


def _guess(
    standing: Pose, feet_pos: np.ndarray, feet_yaw: np.ndarray, local_yaw: np.ndarray, com: np.ndarray,
    offset: np.ndarray, start: Place,
) -> Pose:  # fmt: skip
    """Return the standing posture carried along: heading between the feet, pelvis where the centre of mass wants it."""
    frames = len(com)
    heading = np.unwrap(feet_yaw, axis=0) - local_yaw
    yaw = heading.mean(axis=1)
    turn = rot.rot_z(yaw - start.yaw)
    from_com = standing.pos[0, :2] - (start.middle + offset)
    pos = np.empty((frames, 3))
    pos[:, :2] = com + np.einsum('tij,j->ti', turn[:, :2, :2], from_com)
    pos[:, 2] = standing.pos[0, 2]
    return Pose(pos, turn @ standing.mat[0], np.tile(standing.joints[0], (frames, 1)))


def _ramp(first: np.ndarray, last: np.ndarray, frames: int) -> np.ndarray:
    """Keep the standing posture's own offset at both ends of the walk, and none in between."""
    away = np.minimum(np.arange(frames), np.arange(frames)[::-1])
    weight = 1.0 - smooth_step(away / 25.0)
    front = np.arange(frames) < frames / 2
    return np.where(front[:, None], first, last) * weight[:, None]


def _turn(yaw: float) -> np.ndarray:
    return np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])


def _wrap(angle: float) -> float:
    return float((angle + np.pi) % (2 * np.pi) - np.pi)
