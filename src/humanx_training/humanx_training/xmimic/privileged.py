"""What only teachers and critics see: the true state and where the reference goes, vectors in the pelvis frame."""

from __future__ import annotations

import torch

from humanx_description import robot
from humanx_training.xmimic import quaternion as quat
from humanx_training.xmimic.clip_set import ClipSet


def privileged_observation(
    clips: ClipSet, frame: torch.Tensor, qpos: torch.Tensor, qvel: torch.Tensor, body_pos: torch.Tensor,
    contact: torch.Tensor, last_action: torch.Tensor, future: tuple[int, ...], object_scale: torch.Tensor | None,
) -> torch.Tensor:
    """Return (N, P) float32.

    ``frame`` (N,): the reference frame of now; state as in :class:`.sim.Simulator`, float32; ``contact`` (N, K) with
    the object; ``future``: how many frames ahead joints, root and object are shown.
    """
    device = qpos.device
    root_pos, root_quat = qpos[:, :3], qpos[:, 3:7]
    joints, default = qpos[:, 7:36], torch.tensor(robot.DEFAULT_JOINT_POS.copy(), dtype=torch.float32, device=device)
    up = torch.tensor([0.0, 0.0, 1.0], device=device).expand(len(qpos), 3)

    def local(vector: torch.Tensor) -> torch.Tensor:
        return quat.rotate_inverse(root_quat, vector)

    parts = [
        root_pos[:, 2:3], local(up), local(qvel[:, :3]), 0.3 * qvel[:, 3:6], joints - default, 0.1 * qvel[:, 6:35],
        last_action,
    ]
    key_error = clips.body_pos[frame] - body_pos
    turned = quat.rotate_inverse(root_quat[:, None].expand(-1, key_error.shape[1], -1), key_error)
    parts.append(3.0 * turned.flatten(1))
    for steps in future:
        at = clips.ahead(frame, steps)
        ref, ref_vel = clips.qpos[at], clips.qvel[at]
        relative = quat.multiply(quat.conjugate(root_quat), ref[:, 3:7])
        relative = torch.where(relative[:, :1] < 0, -relative, relative)
        parts += [
            ref[:, 7:36] - joints, 3.0 * local(ref[:, :3] - root_pos), 2.0 * relative[:, 1:], local(ref_vel[:, :3]),
        ]
        if steps == future[0]:
            parts += [0.1 * ref_vel[:, 6:35], 0.3 * ref_vel[:, 3:6]]
        if clips.has_object:
            parts += [local(ref[:, 36:39] - root_pos).clamp(-3.0, 3.0), clips.contact[at].float()]
    progress = (frame - clips.starts[clips.clip_of_frame[frame]]) / clips.lengths[clips.clip_of_frame[frame]]
    waves = [f(2 * torch.pi * k * progress) for k in (1, 2, 4, 8) for f in (torch.sin, torch.cos)]
    parts.append(torch.stack([progress, *waves], -1))
    if clips.has_object:
        parts += [
            local(qpos[:, 36:39] - root_pos).clamp(-3.0, 3.0), 0.5 * local(qvel[:, 35:38]), 0.05 * qvel[:, 38:41],
            contact.float(), 3.0 * local(clips.qpos[frame][:, 36:39] - qpos[:, 36:39]).clamp(-1.0, 1.0),
        ]
        if object_scale is not None:
            parts.append((object_scale[:, None] - 1.0) * 10.0)
    return torch.cat(parts, -1)
