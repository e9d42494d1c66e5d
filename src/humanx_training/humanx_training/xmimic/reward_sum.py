"""All reward terms put together by the configuration, each one logged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from humanx_description import robot
from humanx_training.xmimic import rewards as r
from humanx_training.xmimic.config import RewardConfig, Term

if TYPE_CHECKING:
    from humanx_training.xmimic.env import HumanXEnv

_LOWER = ('pelvis', 'left_knee_link', 'right_knee_link')
_UPPER = ('torso_link', 'left_shoulder_roll_link', 'left_elbow_link', 'right_shoulder_roll_link', 'right_elbow_link')
_HIP_YAW = [robot.JOINT_INDEX['left_hip_yaw_joint'], robot.JOINT_INDEX['right_hip_yaw_joint']]
_LIMIT = 0.95  # share of the joint range, velocity and torque that costs nothing
# SkillMimic multiplies these groups.
_GROUPS = {
    'body': ('upper_body_pos', 'lower_body_pos', 'hands_pos', 'feet_pos', 'body_rot', 'body_ang_vel', 'body_lin_vel',
             'joint_pos', 'joint_vel'),
    'object': ('object_pos', 'object_rot', 'object_vel'),
    'relative': ('relative_pos', 'hands_relative_pos', 'relative_rot'),
    'contact': ('contact',),
}  # fmt: skip


@dataclass
class Snapshot:
    """State and reference of all environments at one tick: shapes as in ``Simulator`` and ``ClipSet``, float32."""

    qpos: torch.Tensor
    qvel: torch.Tensor
    body_pos: torch.Tensor
    body_quat: torch.Tensor
    body_vel: torch.Tensor
    torque: torch.Tensor
    contact: torch.Tensor  # (N, K) bool, of the clip's contact bodies with the object
    feet_contact: torch.Tensor  # (N, 2) bool, with the floor
    ref_qpos: torch.Tensor
    ref_qvel: torch.Tensor
    ref_body_pos: torch.Tensor
    ref_body_quat: torch.Tensor
    ref_body_vel: torch.Tensor
    ref_contact: torch.Tensor

    @property
    def object_pos(self) -> torch.Tensor:
        """(N, 3) m."""
        return self.qpos[:, 36:39]

    @property
    def ref_object_pos(self) -> torch.Tensor:
        """(N, 3) m."""
        return self.ref_qpos[:, 36:39]


class RewardSum:
    """Callable: the reward (N,) of a step and the mean of each term."""

    def __init__(self, config: RewardConfig, env: HumanXEnv) -> None:
        """Resolve the body groups and drop terms without weight or object."""
        self.config = config
        names = env.clips.bodies
        self._lower = [names.index(b) for b in _LOWER]
        self._upper = [names.index(b) for b in _UPPER]
        self._feet, self._hands, self._key = env.feet, env.hands, env.key
        self._touching = env.touching
        self._relative = [k for k in env.key if k not in env.touching]
        device = env.device
        half = 0.5 * (env.joint_upper - env.joint_lower) * _LIMIT
        middle = 0.5 * (env.joint_upper + env.joint_lower)
        self._lower_limit, self._upper_limit = middle - half, middle + half
        self._velocity = torch.as_tensor(robot.VELOCITY_LIMIT * _LIMIT, dtype=torch.float32, device=device)
        self._effort = torch.as_tensor(robot.EFFORT_LIMIT * _LIMIT, dtype=torch.float32, device=device)
        wanted = [name for group in _GROUPS.values() for name in group]
        if not env.clips.has_object:
            wanted = [name for name in wanted if name in _GROUPS['body']]
        self.terms: dict[str, Term] = {n: getattr(config, n) for n in wanted if getattr(config, n).weight != 0.0}

    def error(self, name: str, s: Snapshot) -> torch.Tensor:
        """Return the error (N,) of the term ``name``."""
        return getattr(self, f'_error_{name}')(s)

    def __call__(
        self, s: Snapshot, action: torch.Tensor, last_action: torch.Tensor, failed: torch.Tensor, dt: float,
        iteration: int,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return (N,) and the logged means."""
        log: dict[str, torch.Tensor] = {}
        values: dict[str, torch.Tensor] = {}
        for name, term in self.terms.items():
            error = self.error(name, s)
            values[name] = term.weight * (r.kernel(error, term.scale) if self.config.combine == 'sum' else error)
            log[f'reward/{name}'] = values[name].mean()
        if self.config.combine == 'sum':
            total = sum(values.values())
        else:
            # exp(-a) exp(-b) ... of all groups is the exponential of one sum.
            total = torch.exp(-sum(values.values()))
        grown = min(1.0, iteration / max(self.config.penalty_iterations, 1))
        factor = self.config.penalty_start + (1.0 - self.config.penalty_start) * grown
        for name, value in self._penalties(s, action, last_action, failed).items():
            weight = getattr(self.config, name)
            if weight == 0.0:
                continue
            scaled = weight * value * (1.0 if name == 'termination' else factor)
            log[f'penalty/{name}'] = scaled.mean()
            total = total + scaled
        total = torch.where(torch.isfinite(total), total, torch.zeros_like(total))
        return total * dt, log

    def _penalties(
        self, s: Snapshot, action: torch.Tensor, last_action: torch.Tensor, failed: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        joints = s.qpos[:, 7:36]
        return {
            'torque': r.torque(s.torque),
            'action_rate': r.action_rate(action, last_action),
            'joint_pos_limit': r.beyond(joints, self._lower_limit, self._upper_limit),
            'joint_vel_limit': r.beyond(s.qvel[:, 6:35], -self._velocity, self._velocity),
            'torque_limit': r.beyond(s.torque / self._effort, -1.0, 1.0),
            'termination': failed.float(),
            'feet_orientation': r.feet_orientation(s.body_quat[:, self._feet], s.feet_contact),
            'feet_slip': r.feet_slip(s.body_vel[:, self._feet, :3], s.feet_contact),
            'feet_heading': r.feet_heading(s.body_quat[:, self._feet], s.qpos[:, 3:7]),
            'waist': r.mean_square(joints[:, robot.WAIST] - s.ref_qpos[:, 7:36][:, robot.WAIST]),
            'hip_yaw': r.mean_square(joints[:, _HIP_YAW] - s.ref_qpos[:, 7:36][:, _HIP_YAW]),
        }

    # r_body
    def _position(self, s: Snapshot, bodies: list[int]) -> torch.Tensor:
        return r.position_error(s.body_pos[:, bodies], s.ref_body_pos[:, bodies])

    def _error_upper_body_pos(self, s: Snapshot) -> torch.Tensor:
        return self._position(s, self._upper)

    def _error_lower_body_pos(self, s: Snapshot) -> torch.Tensor:
        return self._position(s, self._lower)

    def _error_hands_pos(self, s: Snapshot) -> torch.Tensor:
        return self._position(s, self._hands)

    def _error_feet_pos(self, s: Snapshot) -> torch.Tensor:
        return self._position(s, self._feet)

    def _error_body_rot(self, s: Snapshot) -> torch.Tensor:
        return r.rotation_error(s.body_quat[:, self._key], s.ref_body_quat[:, self._key])

    def _error_body_ang_vel(self, s: Snapshot) -> torch.Tensor:
        return r.velocity_error(s.body_vel[:, self._key, 3:], s.ref_body_vel[:, self._key, 3:])

    def _error_body_lin_vel(self, s: Snapshot) -> torch.Tensor:
        return r.velocity_error(s.body_vel[:, self._key, :3], s.ref_body_vel[:, self._key, :3])

    def _error_joint_pos(self, s: Snapshot) -> torch.Tensor:
        return r.joint_error(s.qpos[:, 7:36], s.ref_qpos[:, 7:36])

    def _error_joint_vel(self, s: Snapshot) -> torch.Tensor:
        return r.joint_error(s.qvel[:, 6:35], s.ref_qvel[:, 6:35])

    # r_obj
    def _error_object_pos(self, s: Snapshot) -> torch.Tensor:
        return r.position_error(s.object_pos[:, None], s.ref_object_pos[:, None])

    def _error_object_rot(self, s: Snapshot) -> torch.Tensor:
        return r.rotation_error(s.qpos[:, None, 39:43], s.ref_qpos[:, None, 39:43])

    def _error_object_vel(self, s: Snapshot) -> torch.Tensor:
        return r.velocity_error(s.qvel[:, None, 35:38], s.ref_qvel[:, None, 35:38])

    # r_rel
    def _relative_error(self, s: Snapshot, bodies: list[int]) -> torch.Tensor:
        return r.relative_position_error(
            s.body_pos[:, bodies], s.object_pos, s.ref_body_pos[:, bodies], s.ref_object_pos
        )

    def _error_relative_pos(self, s: Snapshot) -> torch.Tensor:
        return self._relative_error(s, self._relative)

    def _error_hands_relative_pos(self, s: Snapshot) -> torch.Tensor:
        return self._relative_error(s, self._touching)

    def _error_relative_rot(self, s: Snapshot) -> torch.Tensor:
        bodies = self._touching
        return r.relative_rotation_error(
            s.body_quat[:, bodies], s.qpos[:, 39:43], s.ref_body_quat[:, bodies], s.ref_qpos[:, 39:43]
        )

    # r_contact
    def _error_contact(self, s: Snapshot) -> torch.Tensor:
        return r.contact_error(s.contact, s.ref_contact)
