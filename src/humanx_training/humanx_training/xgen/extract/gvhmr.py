"""GVHMR's result file ``hmr4d_results.pt``: SMPL-X parameters of one person in a gravity-aligned world (y up)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from humanx_description.errors import UserError
from humanx_training.xgen.extract.ground import put_on_floor
from humanx_training.xgen.extract.smpl import motion_from_pose
from humanx_training.xgen.extract.torch_file import load_torch
from humanx_training.xgen.human_motion import NUM_JOINTS, HumanMotion, numbers

DEFAULT_FPS = 30.0
_FIELDS = {'body_pose': 63, 'global_orient': 3, 'transl': 3}


def extract_gvhmr(path: Path, fps: float | None = None, model_dir: Path | None = None) -> HumanMotion:
    """Read a GVHMR result. The file holds no frame rate: ``fps`` is the video's, 30 unless told."""
    return from_result(path, load_torch(path), fps, model_dir)


def from_result(path: Path, result: Any, fps: float | None = None, model_dir: Path | None = None) -> HumanMotion:
    """Return the motion in a loaded GVHMR result."""
    if not isinstance(result, dict) or not isinstance(result.get('smpl_params_global'), dict):
        raise UserError(f"{path}: field 'smpl_params_global' is missing; expected a GVHMR result (hmr4d_results.pt).")
    params = result['smpl_params_global']
    arrays = {}
    for name, width in _FIELDS.items():
        if name not in params:
            raise UserError(f"{path}: field 'smpl_params_global.{name}' is missing; expected (T, {width}).")
        value = _array(path, name, params[name])
        if value.ndim != 2 or value.shape[1] != width:
            raise UserError(f'{path}: field {name!r} has shape {value.shape}; expected (T, {width}).')
        if not np.isfinite(value).all():
            frame = int(np.argwhere(~np.isfinite(value))[0][0])
            raise UserError(f'{path}: field {name!r} is not finite in frame {frame}; expected numbers.')
        arrays[name] = value
    frames = len(arrays['body_pose'])
    for name, value in arrays.items():
        if len(value) != frames:
            raise UserError(f"{path}: field {name!r} has {len(value)} frames; expected {frames} as in 'body_pose'.")
    if frames < 2:
        raise UserError(f"{path}: field 'body_pose' holds {frames} frames; expected at least 2.")
    poses = np.zeros((frames, NUM_JOINTS, 3))
    poses[:, 0] = arrays['global_orient']
    poses[:, 1:22] = arrays['body_pose'].reshape(frames, 21, 3)
    betas = _array(path, 'betas', params.get('betas', np.zeros(10)))
    betas = betas.mean(axis=0) if betas.ndim == 2 else betas.reshape(-1)
    motion = motion_from_pose(
        path,
        poses,
        arrays['transl'],
        betas,
        DEFAULT_FPS if fps is None else fps,
        is_smplx=True,
        y_up=True,
        model_dir=model_dir,
        format_name='gvhmr',
    )
    return put_on_floor(motion)


def _array(path: Path, name: str, value: Any) -> np.ndarray:
    import torch

    if isinstance(value, torch.Tensor) and not value.is_complex():
        value = value.detach().to(torch.float64).numpy()
    return numbers(path, name, value)
