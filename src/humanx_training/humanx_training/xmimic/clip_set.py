"""Reference motions: all frames of all clips in one set of tensors, kept once whatever the number of environments."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import mujoco
import numpy as np
import torch

from humanx_description import robot
from humanx_description.errors import UserError
from humanx_description.objects import ObjectSpec
from humanx_description.scene import scene
from humanx_training.clip import InteractionClip

FPS = 100.0


def load_clips(paths: Sequence[Path]) -> list[InteractionClip]:
    """Read clips from files and folders (every ``.npz`` inside, sorted); raises :class:`UserError`."""
    files: list[Path] = []
    for path in paths:
        inside = sorted(path.glob('*.npz')) if path.is_dir() else [path]
        if not inside:
            raise UserError(f'{path}: holds no .npz file; expected interaction clips.')
        files += inside
    if not files:
        raise UserError('clips: none given; expected at least one file or folder.')
    return [InteractionClip.load(file) for file in files]


@dataclass
class Frames:
    """References of a batch of frames (...,): the arrays of :class:`ClipSet` that belong to them, (..., size)."""

    qpos: torch.Tensor
    qvel: torch.Tensor
    contact: torch.Tensor  # 0 or 1
    phase: torch.Tensor


class ClipSet:
    """F frames of C clips at 100 Hz as float32 tensors on ``device``; body arrays follow ``bodies``.

    ``qpos`` (F, nq), ``qvel`` (F, nv), ``joints`` (F, 29) of ``qpos``, ``body_pos`` (F, B, 3), ``body_quat``
    (F, B, 4), ``body_vel`` (F, B, 6) linear then angular in the world, ``contact`` (F, K) bool by ``contact_bodies``,
    ``still`` (F,) bool: the robot stands. ``starts``, ``lengths`` (C,); ``clip_of_frame``, ``last_of_frame`` (F,);
    ``phase`` (F, 9).
    """

    def __init__(
        self, clips: Sequence[InteractionClip], *, bodies: Sequence[str] = robot.KEY_BODIES,
        device: torch.device | str = 'cpu',
    ) -> None:
        """Resample the clips and run the forward kinematics; raises :class:`UserError` for clips that do not fit."""
        _check_alike(clips)
        self.device = torch.device(device)
        self.bodies = tuple(bodies)
        self.has_object = clips[0].has_object
        self.contact_bodies = _contact_bodies(clips)
        self.objects: list[ObjectSpec] = [clip.object_spec() for clip in clips if clip.has_object]
        clips = [clip.resampled(FPS) for clip in clips]
        lengths = [clip.num_frames for clip in clips]
        poses = [_kinematics(clip, self.bodies) for clip in clips]

        def tensor(arrays: list[np.ndarray], dtype: torch.dtype = torch.float32) -> torch.Tensor:
            return torch.as_tensor(np.concatenate(arrays), dtype=dtype, device=self.device)

        qpos, qvel = tensor([clip.qpos() for clip in clips]), tensor([clip.qvel() for clip in clips])
        self.body_pos = tensor([p[0] for p in poses])
        self.body_quat = tensor([p[1] for p in poses])
        self.body_vel = tensor([p[2] for p in poses])
        self.contact = tensor([_contacts(clip, self.contact_bodies) for clip in clips], torch.bool)
        self.still = (qvel[:, :3].norm(dim=-1) < 0.1) & (qvel[:, 6:35].abs().amax(-1) < 0.5)
        self.lengths = torch.tensor(lengths, device=self.device)
        self.starts = torch.cumsum(self.lengths, 0) - self.lengths
        self.clip_of_frame = torch.repeat_interleave(torch.arange(len(clips), device=self.device), self.lengths)
        self.last_of_frame = (self.starts + self.lengths - 1)[self.clip_of_frame]
        # What is read together lies together: one lookup of a frame instead of one for each array.
        parts = [qpos, qvel, self.contact.float(), self._phase()]
        self._table, self._widths = torch.cat(parts, 1), [part.shape[1] for part in parts]
        self.qpos, self.qvel, _, self.phase = self._table.split(self._widths, 1)
        self.joints = qpos[:, 7:36].contiguous()

    def _phase(self) -> torch.Tensor:
        """Return (F, 9): how far each frame is in its clip, 0 to 1, and waves of it."""
        frame = torch.arange(len(self.clip_of_frame), device=self.device)
        progress = (frame - self.starts[self.clip_of_frame]) / self.lengths[self.clip_of_frame]
        waves = [f(2 * torch.pi * k * progress) for k in (1, 2, 4, 8) for f in (torch.sin, torch.cos)]
        return torch.stack([progress, *waves], -1)

    @property
    def num_clips(self) -> int:
        """C."""
        return len(self.lengths)

    def ahead(self, frame: torch.Tensor, steps: int | torch.Tensor) -> torch.Tensor:
        """Return frames ``steps`` later, held at the end of their clip: (N,) to (N,), or (N, K) for K steps."""
        last = self.last_of_frame[frame]
        if isinstance(steps, torch.Tensor):
            frame, last = frame[:, None], last[:, None]
        return torch.minimum(frame + steps, last)

    def at(self, frame: torch.Tensor) -> Frames:
        """Return what the references are in ``frame`` (...,)."""
        rows = self._table.index_select(0, frame.flatten()).view(*frame.shape, -1)
        return Frames(*rows.split(self._widths, -1))


def _check_alike(clips: Sequence[InteractionClip]) -> None:
    first = clips[0]
    for index, clip in enumerate(clips):
        if clip.object_name != first.object_name:
            raise UserError(
                f'clips: number {index} handles {clip.object_name or "nothing"!r}, the first '
                f'{first.object_name or "nothing"!r}; expected one object.'
            )
        if clip.has_object and clip.object_spec().shape != first.object_spec().shape:
            raise UserError(
                f'clips: number {index} has a {clip.object_spec().shape}, the first a {first.object_spec().shape}; '
                'expected one shape.'
            )


def _contact_bodies(clips: Sequence[InteractionClip]) -> tuple[str, ...]:
    """Return the bodies that touch the object in any clip (``palms`` and other points stand for their bodies)."""
    names: dict[str, None] = {}
    for clip in clips:
        for name in clip.contact_bodies:
            names[name] = None
    return tuple(names)


def _contacts(clip: InteractionClip, bodies: tuple[str, ...]) -> np.ndarray:
    out = np.zeros((clip.num_frames, len(bodies)), bool)
    for index, name in enumerate(clip.contact_bodies):
        out[:, bodies.index(name)] = clip.contact[:, index]
    return out


def _kinematics(clip: InteractionClip, bodies: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    model = scene(())
    data = mujoco.MjData(model)
    ids = [model.body(name).id for name in bodies]
    root = model.body_rootid[ids]
    frames = clip.num_frames
    pos, quat, vel = np.zeros((frames, len(ids), 3)), np.zeros((frames, len(ids), 4)), np.zeros((frames, len(ids), 6))
    qpos, qvel = clip.qpos()[:, :36], clip.qvel()[:, :35]
    for frame in range(frames):
        data.qpos[:], data.qvel[:] = qpos[frame], qvel[frame]
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_comVel(model, data)
        pos[frame], quat[frame] = data.xpos[ids], data.xquat[ids]
        angular = data.cvel[ids, :3]
        vel[frame, :, :3] = data.cvel[ids, 3:] + np.cross(angular, data.xpos[ids] - data.subtree_com[root])
        vel[frame, :, 3:] = angular
    return pos, quat, vel


def load_clip_set(paths: Sequence[Path], device: torch.device | str = 'cpu') -> ClipSet:
    """Return the clips of files and folders as the environment wants them."""
    return make_clip_set(load_clips(paths), device)


def make_clip_set(clips: Sequence[InteractionClip], device: torch.device | str = 'cpu') -> ClipSet:
    """Return a set that tracks the key bodies and whatever touches the object."""
    extra = [b for b in _contact_bodies(clips) if b not in robot.KEY_BODIES]
    return ClipSet(clips, bodies=(*robot.KEY_BODIES, *extra), device=device)


def scene_object(clips: ClipSet) -> ObjectSpec | None:
    """Return the object the scene is built with: the first clip's."""
    return dataclasses.replace(clips.objects[0], fixed=False) if clips.has_object else None
