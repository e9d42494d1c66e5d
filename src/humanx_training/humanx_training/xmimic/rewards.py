"""The terms of the reward, section VIII of the paper: pure functions of batched tensors.

Errors are squares of each body, joint or pair, (N, B), (N, J); :mod:`.reward_sum` takes their mean over those that a
term is about, and :func:`kernel` turns the mean into a reward. World frame. Penalties return what their (negative)
weight multiplies, (N,).
"""

from __future__ import annotations

import math

import torch

from humanx_training.xmimic import quaternion as quat


def kernel(error: torch.Tensor, scale: float | torch.Tensor) -> torch.Tensor:
    """Return ``exp(-error / scale)``."""
    return torch.exp(-error / scale)


# r_body, r_obj
def position_error(pos: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Return the squared distance of each body, m^2: (N, B, 3) to (N, B)."""
    return (pos - reference).square().sum(-1)


def rotation_error(rotation: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Return the squared angle of each body, rad^2: (N, B, 4) to (N, B)."""
    return quat.angle(rotation, reference).square()


def velocity_error(velocity: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Return the squared difference of each velocity, mean over its components: (N, B, 3) to (N, B)."""
    return (velocity - reference).square().mean(-1)


def joint_error(joints: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Return the squared difference of each joint: (N, J) to (N, J)."""
    return (joints - reference).square()


# r_rel
def relative_position_error(
    body_pos: torch.Tensor, object_pos: torch.Tensor, ref_body_pos: torch.Tensor, ref_object_pos: torch.Tensor
) -> torch.Tensor:
    """Return the error of the vector from each body (N, B, 3) to the object (N, 3), m^2: (N, B)."""
    return position_error(object_pos[:, None] - body_pos, ref_object_pos[:, None] - ref_body_pos)


def relative_rotation_error(
    body_quat: torch.Tensor, object_quat: torch.Tensor, ref_body_quat: torch.Tensor, ref_object_quat: torch.Tensor
) -> torch.Tensor:
    """Return the error of the object's orientation (N, 4) seen from each body (N, B, 4), rad^2: (N, B)."""
    actual = quat.multiply(quat.conjugate(body_quat), object_quat[:, None].expand_as(body_quat))
    wanted = quat.multiply(quat.conjugate(ref_body_quat), ref_object_quat[:, None].expand_as(ref_body_quat))
    return rotation_error(actual, wanted)


# r_contact
def contact_error(contact: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Return which edges of the contact graph differ, eq. 12: (N, C) bool to (N, C), 0 or 1."""
    return (contact != reference).float()


# r_reg
def torque(actuator_force: torch.Tensor) -> torch.Tensor:
    """Return the sum of squared torques, (N m)^2."""
    return actuator_force.square().sum(-1)


def action_rate(action: torch.Tensor, last_action: torch.Tensor) -> torch.Tensor:
    """Return the mean squared change of the action."""
    return (action - last_action).square().mean(-1)


def beyond(value: torch.Tensor, lower: torch.Tensor | float, upper: torch.Tensor | float) -> torch.Tensor:
    """Return how far values are outside [lower, upper], summed over joints."""
    # torch's stubs know two tensors or two numbers, not a choice of both.
    return (value - value.clamp(lower, upper)).abs().sum(-1)  # type: ignore[arg-type]


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
    turn = quat.yaw(feet_quat) - quat.yaw(root_quat)[:, None]
    return (torch.remainder(turn + math.pi, 2 * math.pi) - math.pi).square().sum(-1)


def mean_square(joints: torch.Tensor) -> torch.Tensor:
    """Return the mean square of joint angles, rad^2: (N, K) to (N,)."""
    return joints.square().mean(-1)
