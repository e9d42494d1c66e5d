"""A clip's motion carried out on the feet of the driver's stance: into it from the stance, balanced throughout.

For skills that move body and arms over two planted feet. The clip gives trunk, arms, height and tilt of the pelvis; the
feet stay where the robot stands, and the pelvis moves so that the centre of mass rests over them.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from humanx_description import robot
from humanx_description.scene import default_qpos, scene
from humanx_training.clip import InteractionClip
from humanx_training.xmimic.mpc import balance
from humanx_training.xmimic.mpc.inverse import BodySolver
from humanx_training.xmimic.mpc.reference import nlerp

_DT = 0.01


@dataclass(frozen=True)
class OnTheSpot:
    """Which part of a clip, how fast, and how it is entered and left; seconds of the clip unless said otherwise.

    ``slow`` stretches time. ``lead`` and ``hold`` are seconds of the result: from the stance to the clip's first pose,
    and standing still in its last pose. ``ahead`` (m) is where the centre of mass rests, from the ankles forward.
    """

    start: float = 0.0
    end: float = 0.0  # 0: the clip's end
    slow: float = 1.0
    lead: float = 1.0
    hold: float = 3.0
    ahead: float = 0.035
    smooth: float = 0.03  # s

    def __post_init__(self) -> None:
        if self.slow <= 0 or self.lead <= 0 or self.hold < 0 or self.start < 0:
            raise ValueError('expected positive slow and lead, and start and hold of 0 or more.')


def on_the_spot(clip: InteractionClip, part: OnTheSpot) -> InteractionClip:
    """Return the motion at 100 Hz, without an object. Raises ``ValueError`` where ``part`` lies outside the clip."""
    end = part.end or clip.duration
    if not part.start < end <= clip.duration + 1e-6:
        raise ValueError(f'start {part.start} and end {end} s; expected within the clip of {clip.duration:.2f} s.')
    solver = BodySolver(scene())
    home = default_qpos()
    qpos = _timeline(clip, home, part, end)
    qpos[:, 2:] = balance.gaussian_filter(qpos[:, 2:], part.smooth / _DT)
    qpos[:, 3:7] /= np.linalg.norm(qpos[:, 3:7], axis=1, keepdims=True)
    _plant(solver, qpos, home, part.ahead)
    frames = len(qpos)
    return dataclasses.replace(
        clip, fps=1 / _DT, root_pos=qpos[:, :3], root_quat=qpos[:, 3:7], joint_pos=qpos[:, 7:],
        object_name='', object_shape={}, object_pos=np.zeros((frames, 3)),
        object_quat=np.tile([1.0, 0, 0, 0], (frames, 1)), contact=np.zeros((frames, 0), bool), contact_bodies=(),
        phases=(), provenance=clip.provenance | {'on_the_spot': dataclasses.asdict(part)},
    )  # fmt: skip


def _timeline(clip: InteractionClip, home: np.ndarray, part: OnTheSpot, end: float) -> np.ndarray:
    """Return (T, 36): the stance blended into the clip's part, then its last pose; feet not yet planted."""
    times = np.arange(part.start, end, _DT / part.slow)
    place = np.clip(times * clip.fps, 0, clip.num_frames - 1.001)
    low, weight = place.astype(int), place % 1.0
    raw = clip.qpos()[:, :36]
    middle = raw[low] * (1 - weight[:, None]) + raw[low + 1] * weight[:, None]
    middle[:, 3:7] = nlerp(raw[low, 3:7], raw[low + 1, 3:7], weight)
    # No higher than the stance: straight legs cannot balance.
    middle[:, 2] = np.minimum(middle[:, 2], home[2] + 0.005)
    share = balance.smooth_step(np.arange(0.0, part.lead, _DT) / part.lead)[:, None]
    lead = home * (1 - share) + middle[0] * share
    lead[:, 3:7] = nlerp(np.tile(home[3:7], (len(lead), 1)), np.tile(middle[0, 3:7], (len(lead), 1)), share[:, 0])
    return np.concatenate([lead, middle, np.tile(middle[-1], (round(part.hold / _DT), 1))])


def _plant(solver: BodySolver, qpos: np.ndarray, home: np.ndarray, ahead: float) -> None:
    """Put both feet flat on the stance's footholds and the centre of mass over them, frame by frame, in place."""
    feet = np.array([solver.foot_pose(home, foot)[0] for foot in (0, 1)])
    feet[:, 2] = robot.FOOT_SOLE_OFFSET
    flat = np.tile([1.0, 0, 0, 0], (2, 1))
    centre = feet[:, :2].mean(0)
    # The stance's own centre of mass at the start, the middle of the support once the motion is on.
    begin = solver.centre_of_mass(home)[:2]
    last = home
    for t, frame in enumerate(qpos):
        share = float(balance.smooth_step(t * _DT / 0.8))
        wanted = begin * (1 - share) + (centre + [ahead, 0.0]) * share
        frame[:2], frame[7:19] = last[:2], last[7:19]
        solved = frame
        for _ in range(4):
            solved, _error = solver.place_feet(solved, feet, flat, 8)
            solved[:2] += wanted - solver.centre_of_mass(solved)[:2]
        solved, _error = solver.place_feet(solved, feet, flat)
        qpos[t] = last = solved
