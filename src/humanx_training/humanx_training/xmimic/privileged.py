"""What only teachers and critics see: the true state and where the reference goes, vectors in the pelvis frame."""

from __future__ import annotations

import functools

import torch

from humanx_training.xmimic import quaternion as quat
from humanx_training.xmimic.clip_set import ClipSet


def privileged_observation(
    clips: ClipSet, frame: torch.Tensor, qpos: torch.Tensor, qvel: torch.Tensor, body_pos: torch.Tensor,
    contact: torch.Tensor, last_action: torch.Tensor, future: torch.Tensor, object_scale: torch.Tensor | None,
    default_joints: torch.Tensor,
) -> torch.Tensor:
    """Return (N, P) float32.

    ``frame`` (N,): the reference frame of now; state as in :class:`.sim.Simulator`, float32; ``contact`` (N, K) with
    the object; ``future`` (K,): how many frames ahead joints, root and object are shown; ``default_joints`` (29,) rad.
    """
    n = len(qpos)
    root_pos, root_quat, joints = qpos[:, :3], qpos[:, 3:7], qpos[:, 7:36]
    has_object = clips.has_object
    now = clips.at(frame)
    ahead = clips.at(clips.ahead(frame, future))
    ref, ref_vel = ahead.qpos, ahead.qvel  # (N, K, nq), (N, K, nv)

    # All vectors are turned into the pelvis frame at once.
    world = [qvel[:, None, :3], clips.body_pos[frame] - body_pos, ref[..., :3] - root_pos[:, None], ref_vel[..., :3]]
    if has_object:
        object_pos = qpos[:, None, 36:39]
        world += [
            ref[..., 36:39] - root_pos[:, None], object_pos - root_pos[:, None], qvel[:, None, 35:38],
            now.qpos[:, None, 36:39] - object_pos,
        ]
    turn = quat.matrix(root_quat)
    vectors = torch.bmm(torch.cat(world, 1), turn).split([v.shape[1] for v in world], 1)
    root_vel, key_error, ref_offset, ref_velocity = vectors[:4]
    relative = quat.multiply(quat.conjugate(root_quat)[:, None].expand(-1, len(future), -1), ref[..., 3:7])
    relative = torch.where(relative[..., :1] < 0, -relative, relative)[..., 1:]

    # Values and what they are multiplied by, once for all at the end.
    parts: list[tuple[torch.Tensor, float]] = [
        (root_pos[:, 2:3], 1.0), (turn[:, 2], 1.0), (root_vel[:, 0], 1.0), (qvel[:, 3:6], 0.3),
        (joints - default_joints, 1.0), (qvel[:, 6:35], 0.1), (last_action, 1.0), (key_error.flatten(1), 3.0),
    ]  # fmt: skip
    to_go = ref[..., 7:36] - joints[:, None]
    object_offset = vectors[4].clamp(-3.0, 3.0) if has_object else None
    for index in range(len(future)):
        parts += [
            (to_go[:, index], 1.0), (ref_offset[:, index], 3.0), (relative[:, index], 2.0),
            (ref_velocity[:, index], 1.0),
        ]  # fmt: skip
        if index == 0:
            parts += [(ref_vel[:, 0, 6:35], 0.1), (ref_vel[:, 0, 3:6], 0.3)]
        if object_offset is not None:
            parts += [(object_offset[:, index], 1.0), (ahead.contact[:, index], 1.0)]
    parts.append((now.phase, 1.0))
    if has_object:
        parts += [
            (vectors[5][:, 0].clamp(-3.0, 3.0), 1.0), (vectors[6][:, 0], 0.5), (qvel[:, 38:41], 0.05),
            (contact.float(), 1.0), (vectors[7][:, 0].clamp(-1.0, 1.0), 3.0),
        ]  # fmt: skip
        if object_scale is not None:
            parts.append((object_scale.view(n, 1) - 1.0, 10.0))
    out = torch.cat([value for value, _ in parts], -1)
    return out.mul_(_scales(tuple((value.shape[1], scale) for value, scale in parts), qpos.device))


@functools.lru_cache
def _scales(parts: tuple[tuple[int, float], ...], device: torch.device) -> torch.Tensor:
    """Return each column's factor (P,) from pairs of width and factor."""
    return torch.cat([torch.full((width,), factor, device=device) for width, factor in parts])
