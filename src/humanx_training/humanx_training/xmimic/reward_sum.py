"""All reward terms put together by the configuration, each one logged."""

from __future__ import annotations

from collections.abc import Callable
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
_LEFT_HIP_YAW, _RIGHT_HIP_YAW = (robot.JOINT_INDEX[f'{side}_hip_yaw_joint'] for side in ('left', 'right'))
_HIP_YAW = slice(_LEFT_HIP_YAW, _RIGHT_HIP_YAW + 1, _RIGHT_HIP_YAW - _LEFT_HIP_YAW)
_LIMIT = 0.95  # share of the joint range, velocity and torque that costs nothing


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


# What is compared, (N, K) each: bodies, joints, the object alone (K = 1) or edges of the contact graph.
_ERRORS: dict[str, Callable[[Snapshot], torch.Tensor]] = {
    'position': lambda s: r.position_error(s.body_pos, s.ref_body_pos),
    'rotation': lambda s: r.rotation_error(s.body_quat, s.ref_body_quat),
    'linear velocity': lambda s: r.velocity_error(s.body_vel[..., :3], s.ref_body_vel[..., :3]),
    'angular velocity': lambda s: r.velocity_error(s.body_vel[..., 3:], s.ref_body_vel[..., 3:]),
    'joint position': lambda s: r.joint_error(s.qpos[:, 7:36], s.ref_qpos[:, 7:36]),
    'joint velocity': lambda s: r.joint_error(s.qvel[:, 6:35], s.ref_qvel[:, 6:35]),
    'object position': lambda s: r.position_error(s.object_pos[:, None], s.ref_object_pos[:, None]),
    'object rotation': lambda s: r.rotation_error(s.qpos[:, None, 39:43], s.ref_qpos[:, None, 39:43]),
    'object velocity': lambda s: r.velocity_error(s.qvel[:, None, 35:38], s.ref_qvel[:, None, 35:38]),
    'relative position': lambda s: r.relative_position_error(
        s.body_pos, s.object_pos, s.ref_body_pos, s.ref_object_pos
    ),
    'relative rotation': lambda s: r.relative_rotation_error(
        s.body_quat, s.qpos[:, 39:43], s.ref_body_quat, s.ref_qpos[:, 39:43]
    ),
    'contact': lambda s: r.contact_error(s.contact, s.ref_contact),
}
# The terms by group: what each compares and over which bodies it takes the mean.
_BODY = {
    'upper_body_pos': ('position', 'upper'),
    'lower_body_pos': ('position', 'lower'),
    'hands_pos': ('position', 'hands'),
    'feet_pos': ('position', 'feet'),
    'body_rot': ('rotation', 'key'),
    'body_ang_vel': ('angular velocity', 'key'),
    'body_lin_vel': ('linear velocity', 'key'),
    'joint_pos': ('joint position', 'all'),
    'joint_vel': ('joint velocity', 'all'),
}
_OBJECT = {
    'object_pos': ('object position', 'all'),
    'object_rot': ('object rotation', 'all'),
    'object_vel': ('object velocity', 'all'),
    'relative_pos': ('relative position', 'relative'),
    'hands_relative_pos': ('relative position', 'touching'),
    'relative_rot': ('relative rotation', 'touching'),
    'contact': ('contact', 'all'),
}


class RewardSum:
    """Callable: the reward (N,) of a step and the mean of each term.

    A comparison that several terms share is made once, and the means over their bodies are one product of it with a
    matrix of shares: a training step spends its time on physics and products, not on small operations.
    """

    def __init__(self, config: RewardConfig, env: HumanXEnv) -> None:
        """Resolve the body groups and drop terms without weight or object."""
        self.config = config
        names = env.clips.bodies
        device = env.device
        key = range(len(robot.KEY_BODIES))
        bodies = {
            'upper': [names.index(b) for b in _UPPER],
            'lower': [names.index(b) for b in _LOWER],
            'hands': env.hands,
            'feet': env.feet,
            'key': list(key),
            'touching': env.touching,
            'relative': [k for k in key if k not in env.touching],
        }
        wanted = _BODY | _OBJECT if env.clips.has_object else _BODY
        weighted = {name: what for name, what in wanted.items() if getattr(config, name).weight != 0.0}
        # Terms of one comparison stand together, as the columns of its matrix.
        order = sorted(weighted, key=lambda name: list(_ERRORS).index(weighted[name][0]))
        self.terms: dict[str, Term] = {name: getattr(config, name) for name in order}
        self._shares: dict[str, torch.Tensor] = {}
        for comparison in dict.fromkeys(weighted[name][0] for name in order):
            groups = [weighted[name][1] for name in order if weighted[name][0] == comparison]
            size = {'joint position': 29, 'joint velocity': 29, 'contact': len(env.clips.contact_bodies)}.get(
                comparison, 1 if comparison.startswith('object') else len(names)
            )
            shares = torch.zeros(size, len(groups), device=device)
            for column, group in enumerate(groups):
                for row in range(size) if group == 'all' else bodies[group]:
                    shares[row, column] = 1.0
            shares /= shares.sum(0).clamp(min=1.0)
            self._shares[comparison] = shares
        self._weights = torch.tensor([t.weight for t in self.terms.values()], device=device)
        self._scales = torch.tensor([t.scale for t in self.terms.values()], device=device)
        self._feet = torch.tensor(env.feet, device=device)
        half = 0.5 * (env.joint_upper - env.joint_lower) * _LIMIT
        middle = 0.5 * (env.joint_upper + env.joint_lower)
        self._lower_limit, self._upper_limit = middle - half, middle + half
        self._velocity = torch.as_tensor(robot.VELOCITY_LIMIT * _LIMIT, dtype=torch.float32, device=device)
        self._effort = torch.as_tensor(robot.EFFORT_LIMIT * _LIMIT, dtype=torch.float32, device=device)

    def errors(self, s: Snapshot) -> torch.Tensor:
        """Return the errors (N, T) of :attr:`terms`, in their order."""
        return torch.cat([_ERRORS[comparison](s) @ shares for comparison, shares in self._shares.items()], 1)

    def __call__(
        self, s: Snapshot, action: torch.Tensor, last_action: torch.Tensor, failed: torch.Tensor, dt: float,
        iteration: int,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return (N,) and the logged means."""
        errors = self.errors(s)
        if self.config.combine == 'sum':
            values = self._weights * r.kernel(errors, self._scales)
            total = values.sum(1)
        else:
            # exp(-a) exp(-b) ... of all groups (SkillMimic multiplies them) is the exponential of one sum.
            values = self._weights * errors
            total = torch.exp(-values.sum(1))
        log = dict(zip((f'reward/{name}' for name in self.terms), values.mean(0).unbind()))
        grown = min(1.0, iteration / max(self.config.penalty_iterations, 1))
        factor = self.config.penalty_start + (1.0 - self.config.penalty_start) * grown
        penalties = {
            name: value for name, value in self._penalties(s, action, last_action, failed).items()
            if getattr(self.config, name) != 0.0
        }  # fmt: skip
        if penalties:
            weights = [getattr(self.config, name) * (1.0 if name == 'termination' else factor) for name in penalties]
            scaled = torch.stack(tuple(penalties.values()), 1) * torch.tensor(weights, device=errors.device)
            log |= zip((f'penalty/{name}' for name in penalties), scaled.mean(0).unbind())
            total = total + scaled.sum(1)
        total = torch.where(torch.isfinite(total), total, torch.zeros_like(total))
        return total * dt, log

    def _penalties(
        self, s: Snapshot, action: torch.Tensor, last_action: torch.Tensor, failed: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        joints = s.qpos[:, 7:36]
        off = joints - s.ref_qpos[:, 7:36]
        feet_quat = s.body_quat.index_select(1, self._feet)
        feet_vel = s.body_vel.index_select(1, self._feet)[..., :3]
        return {
            'torque': r.torque(s.torque),
            'action_rate': r.action_rate(action, last_action),
            'joint_pos_limit': r.beyond(joints, self._lower_limit, self._upper_limit),
            'joint_vel_limit': r.beyond(s.qvel[:, 6:35], -self._velocity, self._velocity),
            'torque_limit': r.beyond(s.torque / self._effort, -1.0, 1.0),
            'termination': failed.float(),
            'feet_orientation': r.feet_orientation(feet_quat, s.feet_contact),
            'feet_slip': r.feet_slip(feet_vel, s.feet_contact),
            'feet_heading': r.feet_heading(feet_quat, s.qpos[:, 3:7]),
            'waist': r.mean_square(off[:, robot.WAIST]),
            'hip_yaw': r.mean_square(off[:, _HIP_YAW]),
        }
