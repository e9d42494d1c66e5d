"""When an episode ends before its clip does. All functions return (N,) bool."""

from __future__ import annotations

import torch

from humanx_training.xmimic import quaternion as quat


def motion(pos: torch.Tensor, reference: torch.Tensor, threshold: float | torch.Tensor) -> torch.Tensor:
    """A key body (N, B, 3) is further than ``threshold`` (m) from its reference."""
    return (pos - reference).norm(dim=-1).amax(-1) > threshold


def orientation(root_quat: torch.Tensor, reference: torch.Tensor, threshold: float) -> torch.Tensor:
    """The pelvis (N, 4) is turned by more than ``threshold`` (rad) from its reference."""
    return quat.angle(root_quat, reference) > threshold


def interaction(
    body_pos: torch.Tensor, object_pos: torch.Tensor, ref_body_pos: torch.Tensor, ref_object_pos: torch.Tensor,
    ref_contact: torch.Tensor, threshold: float, draw: torch.Tensor, probability: float,
) -> torch.Tensor:
    """A body that should touch the object is not where it should be relative to it.

    Bodies (N, C, 3) that may touch, ``ref_contact`` (N, C) bool. Where the reference is in contact and the vector from
    body to object is off by more than ``threshold`` (m), the episode ends with ``probability`` (``draw`` (N,) uniform):
    rarely enough to let the policy recover, surely enough that ignoring the object does not pay.
    """
    off = ((object_pos[:, None] - body_pos) - (ref_object_pos[:, None] - ref_body_pos)).norm(dim=-1) > threshold
    return (off & ref_contact).any(-1) & (draw < probability)


def object_lost(
    object_pos: torch.Tensor, reference: torch.Tensor, threshold: float, draw: torch.Tensor, probability: float
) -> torch.Tensor:
    """The object (N, 3) is further than ``threshold`` (m) from its reference, with ``probability`` per step."""
    return ((object_pos - reference).norm(dim=-1) > threshold) & (draw < probability)
