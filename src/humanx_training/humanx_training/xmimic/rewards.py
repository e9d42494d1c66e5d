"""The terms of the reward, section VIII of the paper: pure functions of batched tensors.

Errors are mean squares over bodies, joints or pairs, (N,); :func:`kernel` turns them into rewards. Bodies (N, B, ...),
joints (N, J), world frame. Penalties return what their (negative) weight multiplies.
"""

from __future__ import annotations

import torch

from humanx_training.xmimic import quaternion as quat


def kernel(error: torch.Tensor, scale: float) -> torch.Tensor:
    """Return ``exp(-error / scale)``."""
    return torch.exp(-error / scale)


# r_body, r_obj
def position_error(pos: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Return the mean over bodies of the squared distance, m^2: (N, B, 3) to (N,)."""
    return (pos - reference).square().sum(-1).mean(-1)


def rotation_error(rotation: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Return the mean over bodies of the squared angle, rad^2: (N, B, 4) to (N,)."""
    return quat.angle(rotation, reference).square().mean(-1)


def velocity_error(velocity: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Return the mean over bodies of the squared difference of (N, B, 3) velocities, per component."""
    return (velocity - reference).square().mean((-1, -2))


def joint_error(joints: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Return the mean squared difference over joints: (N, J) to (N,)."""
    return (joints - reference).square().mean(-1)


# r_rel
def relative_position_error(
    body_pos: torch.Tensor, object_pos: torch.Tensor, ref_body_pos: torch.Tensor, ref_object_pos: torch.Tensor
) -> torch.Tensor:
    """Return the error of the vectors from bodies (N, B, 3) to the object (N, 3), m^2: (N,)."""
    actual = object_pos[:, None] - body_pos
    wanted = ref_object_pos[:, None] - ref_body_pos
    return (actual - wanted).square().sum(-1).mean(-1)


def relative_rotation_error(
    body_quat: torch.Tensor, object_quat: torch.Tensor, ref_body_quat: torch.Tensor, ref_object_quat: torch.Tensor
) -> torch.Tensor:
    """Return the error of the object's orientation (N, 4) seen from bodies (N, B, 4), rad^2: (N,)."""
    actual = quat.multiply(quat.conjugate(body_quat), object_quat[:, None].expand_as(body_quat))
    wanted = quat.multiply(quat.conjugate(ref_body_quat), ref_object_quat[:, None].expand_as(ref_body_quat))
    return quat.angle(actual, wanted).square().mean(-1)


# r_contact
def contact_error(contact: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Return the share of the contact graph's edges that differ, eq. 12: (N, C) bool to (N,)."""
    if contact.shape[1] == 0:
        return torch.zeros(len(contact), device=contact.device)
    return (contact != reference).float().mean(-1)


# r_reg
def torque(actuator_force: torch.Tensor) -> torch.Tensor:
    """Return the sum of squared torques, (N m)^2."""
    return actuator_force.square().sum(-1)


def action_rate(action: torch.Tensor, last_action: torch.Tensor) -> torch.Tensor:
    """Return the mean squared change of the action."""
    return (action - last_action).square().mean(-1)


def beyond(value: torch.Tensor, lower: torch.Tensor | float, upper: torch.Tensor | float) -> torch.Tensor:
    """Return how far values are outside [lower, upper], summed over joints."""
    return (lower - value).clamp(min=0.0).sum(-1) + (value - upper).clamp(min=0.0).sum(-1)


def feet_orientation(feet_quat: torch.Tensor, contact: torch.Tensor) -> torch.Tensor:
    """Return the squared tilt of feet that touch the floor: (N, 2, 4), (N, 2) bool to (N,)."""
    w, x, y, z = feet_quat.unbind(-1)
    tilt = (2 * (w * y - x * z)).square() + (2 * (w * x + y * z)).square()
    return (tilt * contact).sum(-1)


def feet_slip(feet_vel: torch.Tensor, contact: torch.Tensor) -> torch.Tensor:
    """Return the squared horizontal speed of feet that touch the floor, m^2/s^2: (N, 2, 3), (N, 2) to (N,)."""
    return (feet_vel[..., :2].square().sum(-1) * contact).sum(-1)


def feet_heading(feet_quat: torch.Tensor, root_quat: torch.Tensor) -> torch.Tensor:
    """Return the squared angle between the feet's headings and the pelvis', rad^2: (N, 2, 4), (N, 4) to (N,)."""
    own = quat.heading(feet_quat)
    return quat.angle(own, quat.heading(root_quat)[:, None].expand_as(own)).square().sum(-1)


def mean_square(joints: torch.Tensor) -> torch.Tensor:
    """Return the mean square of joint angles, rad^2: (N, K) to (N,)."""
    return joints.square().mean(-1)
