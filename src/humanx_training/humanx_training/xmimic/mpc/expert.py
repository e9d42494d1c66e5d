"""The model-based teacher of a kick: what the robot should do, from the true state of robot and ball.

Standing, it waits. When the ball's path says that it will arrive within the length of the swing, the kick of that path
(interpolated from the bank) runs on the ball's clock until contact and on its own afterwards, back into the stance. A
ball that passes on the left is kicked by the mirrored robot. Everything is relative to the planted foot, so that the
labels depend only on what a robot can feel and see.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from humanx_description import robot
from humanx_training import rotation
from humanx_training.xmimic.mpc import mirror
from humanx_training.xmimic.mpc.bank import Bank
from humanx_training.xmimic.mpc.linearise import state_error
from humanx_training.xmimic.mpc.lqr import ERROR_LIMIT

_COMMAND_LIMIT = 1.0  # rad
_STRAYED = np.array([0.2, 0.2, 0.15, 0.5, 0.5, 0.7])  # m, rad, of the pelvis
HALF_STANCE = 0.1185  # m, a foot from the middle of the default stance


@dataclass(frozen=True)
class KickRule:
    """When and with which foot. ``side`` (m): balls left of it are for the left foot. ``earliest``, ``latest`` (s):
    the time to arrival at which a kick may begin. ``reach`` (m): beyond the bank's last path by this much, the nearest
    kick is still tried."""

    side: float = 0.0
    earliest: float = 1.58
    latest: float = 1.15
    reach: float = 0.05
    rolling_rate: float = 0.1  # 1/s, of the ball


def planted_frame(foot_pos: np.ndarray, foot_quat: np.ndarray, left: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return origin (N, 2) and yaw (N,) of the home frame, given the planted foot's pose (N, 3), (N, 4) and whether it
    is the left one (N,)."""
    yaw = rotation.yaw(foot_quat)
    offset = np.where(left, -HALF_STANCE, HALF_STANCE)
    origin = foot_pos[:, :2] + offset[:, None] * np.stack([-np.sin(yaw), np.cos(yaw)], 1)
    return origin, yaw


def into_frame(
    origin: np.ndarray, yaw: np.ndarray, qpos: np.ndarray, qvel: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return robot states (N, 36), (N, 35) in a frame at ``origin`` (N, 2) turned by ``yaw`` (N,)."""
    qpos, qvel = qpos.copy(), qvel.copy()
    qpos[:, :2] = turn_back(yaw, qpos[:, :2] - origin)
    qpos[:, 3:7] = rotation.multiply(rotation.from_yaw(-yaw), qpos[:, 3:7])
    qvel[:, :2] = turn_back(yaw, qvel[:, :2])
    return qpos, qvel


def turn_back(yaw: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Return world vectors (N, 2) in frames turned by ``yaw`` (N,)."""
    cos, sin = np.cos(yaw), np.sin(yaw)
    x, y = vector[:, 0], vector[:, 1]
    return np.stack([cos * x + sin * y, cos * y - sin * x], 1)


class KickExpert:
    """Labels for N environments; it keeps each one's place in the kick.

    ``strayed`` (N,) says after each label whose robot is beyond what linear feedback can bring back: labels from there
    on teach nothing.
    """

    def __init__(self, bank: Bank, num_envs: int, rule: KickRule | None = None) -> None:
        self.bank, self.rule = bank, rule or KickRule()
        self.last = bank.frames - 1
        self.kicking = np.zeros(num_envs, bool)
        self.left_footed = np.zeros(num_envs, bool)
        self.frame = np.full(num_envs, float(self.last))
        self.ball_y = np.full(num_envs, -0.15)
        self.strayed = np.zeros(num_envs, bool)

    def reset(self, mask: np.ndarray) -> None:
        """Begin waiting in the environments of ``mask`` (N,)."""
        self.kicking[mask] = False
        self.left_footed[mask] = False
        self.frame[mask] = self.last

    def label(
        self, qpos: np.ndarray, qvel: np.ndarray, feet_pos: np.ndarray, feet_quat: np.ndarray,
        ball_pos: np.ndarray, ball_vel: np.ndarray, previous: np.ndarray,
    ) -> np.ndarray:
        """Return servo targets (N, 29) and advance the clocks by one control step.

        ``qpos`` (N, 36), ``qvel`` (N, 35); ``feet_pos`` (N, 2, 3), ``feet_quat`` (N, 2, 4) left and right;
        ``ball_pos``, ``ball_vel`` (N, 3) world, far away where there is none; ``previous`` (N, 29) the targets of the
        last step.
        """
        self._decide(feet_pos, feet_quat, ball_pos, ball_vel)
        swap = self.left_footed
        planted = np.where(swap, 1, 0)
        rows = np.arange(len(qpos))
        origin, yaw = planted_frame(feet_pos[rows, planted], feet_quat[rows, planted], ~swap)
        state, rate = into_frame(origin, yaw, qpos, qvel)
        command = previous.copy()
        if swap.any():
            state[swap], rate[swap] = mirror.qpos(state[swap]), mirror.qvel(rate[swap])
            command[swap] = mirror.joints(command[swap])
        target = self._law(state, rate, command)
        if swap.any():
            target[swap] = mirror.joints(target[swap])
        return target

    def _decide(
        self, feet_pos: np.ndarray, feet_quat: np.ndarray, ball_pos: np.ndarray, ball_vel: np.ndarray
    ) -> None:
        rule, bank = self.rule, self.bank
        planted = np.where(self.left_footed, 1, 0)
        rows = np.arange(len(ball_pos))
        origin, yaw = planted_frame(feet_pos[rows, planted], feet_quat[rows, planted], ~self.left_footed)
        ball = turn_back(yaw, ball_pos[:, :2] - origin)
        speed = turn_back(yaw, ball_vel[:, :2])
        coming = (speed[:, 0] < -0.25) & (ball[:, 0] > bank.contact_x - 0.02)
        toward = np.where(coming, -speed[:, 0], 1.0)
        way = np.clip(rule.rolling_rate * (ball[:, 0] - bank.contact_x) / toward, 0.0, 0.9)
        arrival = -np.log1p(-way) / rule.rolling_rate
        crossing = ball[:, 1] + speed[:, 1] / toward * (ball[:, 0] - bank.contact_x)
        left = crossing > rule.side
        path = np.where(left, -crossing, crossing)
        low, high = bank.ball_y[0] - rule.reach, bank.ball_y[-1] + rule.reach
        within = (path > low) & (path < high)
        begin = ~self.kicking & coming & within & (arrival < rule.earliest) & (arrival > rule.latest)
        self.left_footed[begin] = left[begin]
        self.kicking |= begin
        follow = self.kicking & coming & (self.frame < bank.contact)
        update = begin | follow
        mirrored = np.where(self.left_footed, -crossing, crossing)
        self.ball_y[update] = np.clip(mirrored[update], bank.ball_y[0], bank.ball_y[-1])
        clock = bank.contact - arrival / bank.dt
        advanced = np.where(update, np.maximum(clock, 0.0), self.frame + 1.0)
        # The ball's clock and the motion's may part by a few frames after a push: never jump back.
        advanced = np.where(follow & ~begin, np.clip(advanced, self.frame, self.frame + 2.0), advanced)
        self.frame = np.where(self.kicking, np.minimum(advanced, self.last), self.last)
        done = self.kicking & (self.frame >= self.last)
        self.kicking[done] = False

    def _law(self, qpos: np.ndarray, qvel: np.ndarray, command: np.ndarray) -> np.ndarray:
        bank = self.bank
        high = np.clip(np.searchsorted(bank.ball_y, self.ball_y), 1, len(bank.ball_y) - 1)
        low = high - 1
        weight = (self.ball_y - bank.ball_y[low]) / (bank.ball_y[high] - bank.ball_y[low])
        frame = np.clip(np.round(self.frame).astype(int), 0, self.last)
        before = np.maximum(frame - 1, 0)
        mix = lambda a, f: a[low, f] + weight[:, None] * (a[high, f] - a[low, f])  # noqa: E731
        ref_qpos = mix(bank.qpos, frame)
        ref_qpos[:, 3:7] /= np.linalg.norm(ref_qpos[:, 3:7], axis=1, keepdims=True)
        error = state_error(qpos, qvel, ref_qpos, mix(bank.qvel, frame))
        self.strayed = (np.abs(error[:, :6]) > _STRAYED).any(1)
        error = np.clip(error, -ERROR_LIMIT, ERROR_LIMIT)
        late = np.clip(command - mix(bank.target, before), -_COMMAND_LIMIT, _COMMAND_LIMIT)
        state = np.concatenate([error, late], 1).astype(np.float32)[..., None]
        gain = np.where(weight > 0.5, high, low)
        push = (bank.gain[gain, frame] @ state)[..., 0]
        target = mix(bank.target, frame) + push
        return np.clip(target, robot.TARGET_LOWER, robot.TARGET_UPPER)
