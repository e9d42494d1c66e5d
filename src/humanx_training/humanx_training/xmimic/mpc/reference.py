"""From a clip to a reference that can be carried out: it starts and ends in a balanced stance and its feet are flat.

The clip gives the style (arms, trunk, the path of the free foot); the planted foot, the stance before and after and the
place of the centre of mass come from here. Everything is in the *home frame*: origin on the floor between the two
feet of the default stance, x forward. Time ``tau`` (s) counts from the moment of contact with the ball.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from humanx_description import robot
from humanx_training import rotation
from humanx_training.xmimic.mpc import balance
from humanx_training.xmimic.mpc.inverse import BodySolver, velocities

SOLE_HEIGHT = robot.FOOT_SOLE_OFFSET  # m, ankle above the floor when the foot is flat


@dataclass(frozen=True)
class KickStyle:
    """What is taken from the clip and when. Clip times in s of the clip, the others in s from contact."""

    start: float = 1.40  # clip time where the clip takes over
    contact: float = 1.71  # clip time of the ball contact
    strike_lead: float = 0.05  # s from there, the foot's fastest moment, to the strike of an interaction clip
    end: float = 2.75  # clip time where the stance takes over again
    before_rate: float = 1.6  # speed of the swing, relative to the clip
    after_rate: float = 1.2  # how much faster than the clip the leg comes back
    blend: float = 0.6  # s from the stance into the clip and back, arms and trunk
    lift_off: float = -0.70
    back: float = -0.28  # the free foot has joined the clip's path
    leave: float = 0.35  # it leaves the clip's path for its foothold
    touch_down: float = 0.85
    shift: float = 0.45  # s for the weight to go from both feet to one
    lift: float = 0.05  # m the foot is lifted while it leaves and comes back
    contact_yaw: float = np.radians(-90.0)  # of the kicking foot at contact; -90 is the inside of the foot
    yaw_slope: float = np.radians(-45.0)  # rad per m of ball path: heel and toe deflect the ball, the foot turns back
    foot_ball: float = 0.138  # m from the foot's long axis to the ball's centre at contact
    foot_middle: float = 0.055  # m from the ankle along the foot to where a ball at ``usual_y`` is struck
    usual_y: float = -0.15  # m, the ball's path that suits the stance
    foot_slide: float = 0.3  # m along the foot per m of ball path: nearer balls meet the heel, farther ones the toe
    crouch: float = 0.08  # m the pelvis is lowered for the farthest balls
    crouch_from: float = -0.20  # m, ball path from which on, over crouch_over
    crouch_over: float = 0.22
    contact_x: float = 0.24  # m, ball centre at contact in the home frame
    contact_height: float = 0.14  # m, ankle above the floor at contact: the foot's edge meets the ball's middle
    path_share: float = 1.0  # how much of the clip's swing length is kept before contact
    follow_share: float = 0.6  # and after: a full follow-through is out of reach for far balls
    rise: float = 0.03  # m the foot may rise above its height at contact
    arms_out: float = 0.5  # rad the shoulders roll outward during the swing, to keep the hands off the hips
    before: float = 1.6  # s of reference before contact
    after: float = 2.4  # s after
    upper_share: float = 1.0  # how much of the clip's trunk is kept
    arm_share: float = 0.5  # and of its arms, which the retargeting brings too close to the hips


@dataclass(frozen=True)
class Reference:
    """A motion with planned contact: ``qpos`` (T, 36), ``qvel`` (T, 35), ``target`` (T, 29) servo targets,
    ``load`` (T, 2) share of the weight on each foot, ``contact`` the frame of ball contact, ``dt`` in s."""

    qpos: np.ndarray
    qvel: np.ndarray
    target: np.ndarray
    load: np.ndarray
    contact: int
    dt: float
    notes: dict = field(default_factory=dict)


@dataclass(frozen=True)
class AnchoredClip:
    """A clip seen from its planted left foot, x along the kick: functions of clip time by linear interpolation."""

    times: np.ndarray  # (T,) s
    root_quat: np.ndarray  # (T, 4)
    joint_pos: np.ndarray  # (T, 29)
    foot_pos: np.ndarray  # (T, 3) right foot relative to the left one; z above its resting height
    foot_quat: np.ndarray  # (T, 4)

    def at(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return root quaternions, joint positions, foot positions and quaternions at clip times (s)."""
        step = self.times[1] - self.times[0]
        place = np.clip(times / step, 0, len(self.times) - 1.001)
        low = place.astype(int)
        weight = place - low
        mix = lambda a: a[low] * (1 - weight[:, None]) + a[low + 1] * weight[:, None]  # noqa: E731
        return (
            nlerp(self.root_quat[low], self.root_quat[low + 1], weight),
            mix(self.joint_pos),
            mix(self.foot_pos),
            nlerp(self.foot_quat[low], self.foot_quat[low + 1], weight),
        )


def nlerp(a: np.ndarray, b: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Blend unit quaternions (..., 4) by ``weight`` (...) from ``a`` (0) to ``b`` (1), short way."""
    b = np.where((a * b).sum(-1, keepdims=True) < 0, -b, b)
    out = a + (b - a) * np.asarray(weight)[..., None]
    return out / np.linalg.norm(out, axis=-1, keepdims=True)


def resample(
    root_pos: np.ndarray, root_quat: np.ndarray, joint_pos: np.ndarray, fps: float, dt: float, sigma: float = 0.03
) -> np.ndarray:
    """Return (T', 36) positions every ``dt`` s, smoothed by a Gaussian of ``sigma`` s."""
    qpos = np.concatenate([root_pos, root_quat, joint_pos], 1).astype(float)
    for k in range(1, len(qpos)):
        if qpos[k, 3:7] @ qpos[k - 1, 3:7] < 0:
            qpos[k, 3:7] *= -1
    times = np.arange(0.0, (len(qpos) - 1) / fps, dt)
    low = np.minimum((times * fps).astype(int), len(qpos) - 2)
    weight = (times * fps - low)[:, None]
    out = balance.gaussian_filter(qpos[low] * (1 - weight) + qpos[low + 1] * weight, sigma / dt)
    out[:, 3:7] /= np.linalg.norm(out[:, 3:7], axis=1, keepdims=True)
    return out


def anchor_clip(solver: BodySolver, qpos: np.ndarray, dt: float, contact: float) -> AnchoredClip:
    """Express (T, 36) positions relative to the planted left foot, turned so that the right foot strikes along x."""
    left = np.array([solver.foot_pose(frame, 0)[0] for frame in qpos])
    poses = [solver.foot_pose(frame, 1) for frame in qpos]
    right, right_quat = np.array([p for p, _ in poses]), np.array([q for _, q in poses])
    speed = np.gradient(right, dt, axis=0)[round(contact / dt)]
    turn = rotation.from_yaw(-np.arctan2(speed[1], speed[0]))
    relative = rotation.rotate(np.broadcast_to(turn, (len(qpos), 4)), right - left)
    relative[:, 2] = right[:, 2] - np.percentile(right[:, 2], 10)
    every = np.broadcast_to(turn, (len(qpos), 4))
    return AnchoredClip(
        np.arange(len(qpos)) * dt,
        rotation.multiply(every, qpos[:, 3:7]),
        qpos[:, 7:],
        relative,
        rotation.multiply(every, right_quat),
    )


def home_qpos(solver: BodySolver, crouch: float = 0.0) -> np.ndarray:
    """Return (36,) the default stance with flat feet, its centre of mass over the middle of the soles, in the home
    frame; ``crouch`` lowers the pelvis (m)."""
    qpos = np.concatenate([[0, 0, robot.DEFAULT_ROOT_HEIGHT - crouch, 1, 0, 0, 0], robot.DEFAULT_JOINT_POS])
    feet = np.array([solver.foot_pose(qpos, foot)[0] for foot in (0, 1)])
    feet[:, 0], feet[:, 2] = 0.0, SOLE_HEIGHT
    flat = np.tile([1.0, 0, 0, 0], (2, 1))
    for _ in range(12):
        qpos, _ = solver.place_feet(qpos, feet, flat)
        qpos[:2] += np.array([_SOLE_X, 0.0]) - solver.centre_of_mass(qpos)[:2]
    return qpos


_SOLE_X = 0.038  # m, middle of the sole ahead of the ankle


def kick_reference(
    solver: BodySolver, clip: AnchoredClip, style: KickStyle, ball_y: float, dt: float = 0.01
) -> Reference:
    """Return the kick of a ball whose path crosses ``contact_x`` at ``ball_y`` (m, home frame)."""
    count = round((style.before + style.after) / dt) + 1
    tau = np.arange(count) * dt - style.before
    home = home_qpos(solver)
    home_feet = np.array([solver.foot_pose(home, foot)[0] for foot in (0, 1)])

    clip_time = style.contact + tau * np.where(tau < 0, style.before_rate, style.after_rate)
    begin = (style.start - style.contact) / style.before_rate
    finish = (style.end - style.contact) / style.after_rate
    root_quat, joints, foot, foot_quat = clip.at(np.clip(clip_time, style.start, style.end))
    share = balance.interpolate(
        tau, [(begin - style.blend, 0), (begin + 0.1, 1), (finish - style.blend, 1), (finish + 0.1, 0)]
    )

    # The free foot: the clip's path relative to the planted foot, moved sideways and in height to meet the ball.
    strike = int(np.argmin(np.abs(tau)))
    contact_yaw = style.contact_yaw + style.yaw_slope * (ball_y - style.usual_y)
    cos, sin = np.cos(contact_yaw), np.sin(contact_yaw)
    ball = np.array([style.contact_x, ball_y])
    along = np.clip(style.foot_middle + style.foot_slide * (style.usual_y - ball_y), 0.0, 0.11)
    ankle = ball - along * np.array([cos, sin]) - style.foot_ball * np.array([-sin, cos])
    swing = np.zeros((count, 3))
    # The ball is met a little late under delay: the swing goes on at full length for a while.
    length = balance.interpolate(tau, [(0.06, style.path_share), (0.25, style.follow_share)])[:, None]
    swing[:, :2] = ankle + length * (foot[:, :2] - foot[strike, :2])
    # Straight through the ball: a sideways sliding foot would turn it by friction.
    straight = balance.interpolate(tau, [(-0.35, 0), (-0.12, 1), (0.3, 1), (0.6, 0)])
    swing[:, 1] += straight * (ankle[1] - swing[:, 1])
    swing[:, 2] = SOLE_HEIGHT + np.maximum(foot[:, 2], 0)
    bump = np.exp(-0.5 * (tau / 0.12) ** 2)
    swing[:, 2] += bump * (style.contact_height - swing[strike, 2])
    out = [(style.lift_off, 0), (style.back, 1), (style.leave, 1), (style.touch_down, 0)]
    foot_share = balance.interpolate(tau, out)[:, None]
    rise = balance.interpolate(
        tau,
        [
            (style.lift_off, 0), (style.lift_off + 0.3, 1),
            (style.touch_down - 0.35, 1), (style.touch_down, 0),
        ],
    )
    swing = home_feet[1] + foot_share * (swing - home_feet[1])
    top = style.contact_height + style.rise
    swing[:, 2] = SOLE_HEIGHT + rise * (np.clip(swing[:, 2], SOLE_HEIGHT + style.lift, top) - SOLE_HEIGHT)
    air = (tau > style.lift_off) & (tau < style.touch_down)

    yaw_bump = balance.interpolate(tau, [(-0.5, 0), (-0.1, 1), (0.1, 1), (0.6, 0)])
    flat = np.tile([1.0, 0, 0, 0], (count, 1))
    swing_quat = nlerp(flat, foot_quat, foot_share[:, 0] * 0.5)
    swing_quat = nlerp(swing_quat, rotation.from_yaw(np.full(count, contact_yaw)), yaw_bump)
    swing_quat = nlerp(flat, swing_quat, rise)

    qpos = np.tile(home, (count, 1))
    qpos[:, 3:7] = nlerp(np.tile(home[3:7], (count, 1)), root_quat, share * style.upper_share)
    depth = style.crouch * float(balance.smooth_step((style.crouch_from - ball_y) / style.crouch_over))
    qpos[:, 2] -= depth * balance.interpolate(tau, [(-1.0, 0), (-0.3, 1), (0.3, 1), (1.0, 0)])
    upper = slice(7 + robot.WAIST.start, None)
    trunk = np.arange(robot.WAIST.start, robot.NUM_JOINTS) < robot.WAIST.stop
    weight = np.where(trunk, style.upper_share, style.arm_share)
    qpos[:, upper] += share[:, None] * weight * (joints[:, robot.WAIST.start :] - home[upper])
    for name, sign in (('left_shoulder_roll_joint', 1.0), ('right_shoulder_roll_joint', -1.0)):
        qpos[:, 7 + robot.JOINT_INDEX[name]] += sign * style.arms_out * share

    # Weight: both feet, the planted foot, both feet.
    on_left = balance.interpolate(
        tau,
        [
            (style.lift_off - style.shift, 0), (style.lift_off, 1),
            (style.touch_down, 1), (style.touch_down + style.shift, 0),
        ],
    )
    middle = np.array([_SOLE_X, 0.0])
    planted = home_feet[0, :2] + [_SOLE_X, -0.004]
    pressure = middle + on_left[:, None] * (planted - middle)
    height = solver.centre_of_mass(home)[2]
    plan = balance.centre_of_mass_plan(pressure, height, dt)

    feet_quat = np.stack([flat, swing_quat], 1)
    feet_pos = np.stack([np.tile(home_feet[0], (count, 1)), swing], 1)
    worst = 0.0
    for sweep in range(3):
        for k in range(count):
            for _ in range(4 if sweep == 0 else 2):
                qpos[k], error = solver.place_feet(qpos[k], feet_pos[k], feet_quat[k], iterations=6)
                qpos[k, :2] += plan[k] - solver.centre_of_mass(qpos[k])[:2]
            worst = max(worst, error) if sweep == 2 else 0.0
            if sweep == 0 and k + 1 < count:
                qpos[k + 1, :2] = qpos[k, :2]
                qpos[k + 1, 7:19] = qpos[k, 7:19]
        qpos[:, :2] = balance.gaussian_filter(qpos[:, :2], 2.0)
        qpos[:, 7:19] = balance.gaussian_filter(qpos[:, 7:19], 2.0)
    load = np.stack([0.5 + 0.5 * on_left, 0.5 - 0.5 * on_left], 1)
    load[:, 1] = np.where(air, 0.0, load[:, 1])
    return with_targets(solver, qpos, load, strike, dt, {'foot_error_m': worst})


def with_targets(
    solver: BodySolver, qpos: np.ndarray, load: np.ndarray, contact: int, dt: float, notes: dict
) -> Reference:
    """Add velocities and the servo targets whose torque carries the motion (inverse dynamics)."""
    qvel = velocities(qpos, dt)
    qacc = balance.gaussian_filter(np.gradient(qvel, dt, axis=0), 2.0)
    torque = np.zeros((len(qpos), robot.NUM_JOINTS))
    missing = np.zeros(len(qpos))
    for k in range(len(qpos)):
        torque[k], missing[k] = solver.motor_torque(qpos[k], qvel[k], qacc[k], tuple(load[k]))
    torque = np.clip(balance.gaussian_filter(torque, 2.0), -robot.EFFORT_LIMIT, robot.EFFORT_LIMIT)
    target = qpos[:, 7:] + (torque + robot.KD * qvel[:, 6:]) / robot.KP
    notes = {**notes, 'unexplained_force_n': float(missing.max())}
    return Reference(qpos, qvel, target, load, contact, dt, notes)
