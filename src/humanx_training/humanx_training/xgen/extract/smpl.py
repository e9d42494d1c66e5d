"""SMPL and SMPL-X ``.npz`` files (AMASS-like): ``poses`` axis-angle, ``trans``, a frame rate; z up."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from humanx_description.errors import UserError
from humanx_training.xgen import rotations as rot
from humanx_training.xgen.extract.smpl_skeleton import (
    BODY_AXES,
    SMPL_REST,
    SMPLX_REST,
    Y_UP_TO_Z_UP,
    forward,
)
from humanx_training.xgen.human_motion import NUM_JOINTS, HumanMotion, numbers, read_npz

_FPS_FIELDS = ('mocap_framerate', 'mocap_frame_rate', 'fps', 'framerate')


def extract_smpl(path: Path, fps: float | None = None, model_dir: Path | None = None) -> HumanMotion:
    """Read an SMPL (``poses`` (T, 72) or (T, 66)) or SMPL-X (``poses`` (T, 165), or ``root_orient`` and ``pose_body``).

    ``fps`` stands in for a missing frame rate. ``model_dir`` (or ``$HUMANX_BODY_MODELS``) may name a folder with the
    licensed body models; with it, joints come from ``smplx`` and the file's betas.
    """
    data = read_npz(path, 'an SMPL or SMPL-X .npz')
    poses, is_smplx = _poses(path, data)
    frames = len(poses)
    if 'trans' not in data:
        raise UserError(f"{path}: field 'trans' is missing; expected root positions (T, 3) in metres.")
    trans = numbers(path, 'trans', data['trans'])
    if trans.shape != (frames, 3):
        raise UserError(f"{path}: field 'trans' has shape {trans.shape}; expected ({frames}, 3).")
    for name, value in (('poses', poses), ('trans', trans)):
        if not np.isfinite(value).all():
            frame = int(np.argwhere(~np.isfinite(value))[0][0])
            raise UserError(f'{path}: field {name!r} is not finite in frame {frame}; expected numbers.')
    rate = _frame_rate(path, data, fps)
    if np.abs(trans).max() > 200:
        raise UserError(
            f"{path}: field 'trans' reaches {np.abs(trans).max():.0f}; expected metres within 200 m of the origin."
        )
    betas = numbers(path, 'betas', data.get('betas', np.zeros(10))).reshape(-1)
    return motion_from_pose(path, poses, trans, betas, rate, is_smplx, y_up=False, model_dir=model_dir)


def motion_from_pose(
    path: Path,
    poses: np.ndarray,
    trans: np.ndarray,
    betas: np.ndarray,
    fps: float,
    is_smplx: bool,
    *,
    y_up: bool,
    model_dir: Path | None = None,
    format_name: str | None = None,
) -> HumanMotion:
    """Return the motion of axis-angle ``poses`` (T, 24, 3) rad and ``trans`` (T, 3) m of a body model."""
    local = rot.exp(poses)
    rest, skeleton = _rest(path, betas, is_smplx, model_dir)
    pos, mats = forward(local, trans, rest)
    if y_up:
        pos = pos @ Y_UP_TO_Z_UP.T
        mats = Y_UP_TO_Z_UP @ mats
    quat = rot.continuous(rot.mat_to_quat(mats @ BODY_AXES))
    try:
        return HumanMotion(
            fps=fps,
            pos=pos,
            quat=quat,
            has_quat=np.ones(NUM_JOINTS, dtype=bool),
            confidence=np.ones((len(pos), NUM_JOINTS)),
            provenance={
                'source': Path(path).name,
                'format': format_name or ('smplx' if is_smplx else 'smpl'),
                'skeleton': skeleton,
            },
        )
    except ValueError as error:
        raise UserError(f'{path}: {error}.') from None


def _poses(path: Path, data: dict[str, np.ndarray]) -> tuple[np.ndarray, bool]:
    """Return axis-angle poses (T, 24, 3) and whether the file is SMPL-X."""
    model = str(data.get('surface_model_type', '')).lower()
    if 'poses' in data:
        poses = numbers(path, 'poses', data['poses'])
    elif 'root_orient' in data and 'pose_body' in data:
        root, body = (numbers(path, n, data[n]) for n in ('root_orient', 'pose_body'))
        if root.ndim != 2 or body.shape != (len(root), 63):
            raise UserError(
                f"{path}: fields 'root_orient' and 'pose_body' have shapes {root.shape} and {body.shape}; expected "
                '(T, 3) and (T, 63).'
            )
        poses = np.concatenate([root, body], axis=-1)
        model = model or 'smplx'
    else:
        raise UserError(
            f"{path}: field 'poses' is missing; expected axis-angles (T, 72) of SMPL or (T, 165) of SMPL-X, "
            "or 'root_orient' with 'pose_body'."
        )
    if poses.ndim == 3 and poses.shape[2] == 3:
        poses = poses.reshape(len(poses), -1)
    if poses.ndim != 2 or poses.shape[1] not in (66, 72, 156, 165):
        raise UserError(
            f"{path}: field 'poses' has shape {poses.shape}; "
            'expected (T, 72) or (T, 66) axis-angles, or (T, 156) or (T, 165) with hands.'
        )
    if len(poses) < 2:
        raise UserError(f"{path}: field 'poses' holds {len(poses)} frames; expected at least 2.")
    is_smplx = poses.shape[1] == 165 or 'smplx' in model
    body = np.zeros((len(poses), NUM_JOINTS, 3))
    # Beyond joint 21 only SMPL (72 numbers) has hand joints; the other layouts continue with jaw, eyes or fingers.
    count = 24 if poses.shape[1] == 72 and not is_smplx else 22
    body[:, :count] = poses[:, : 3 * count].reshape(len(poses), count, 3)
    return body, is_smplx


def _frame_rate(path: Path, data: dict[str, np.ndarray], fps: float | None) -> float:
    for name in _FPS_FIELDS:
        if name in data:
            values = numbers(path, name, data[name])
            if values.size != 1:
                raise UserError(f'{path}: field {name!r} has shape {values.shape}; expected one number.')
            rate = float(values.item())
            if not np.isfinite(rate) or not 5 <= rate <= 500:
                raise UserError(f'{path}: field {name!r} is {rate:g}; expected 5 to 500 frames per second.')
            if fps is not None and abs(fps - rate) > 0.5:
                raise UserError(f'{path}: field {name!r} is {rate:g} but {fps:g} was asked for; expected one rate.')
            return rate
    if fps is None:
        raise UserError(f"{path}: field 'mocap_framerate' is missing; expected it, or give --fps.")
    return fps


def _rest(path: Path, betas: np.ndarray, is_smplx: bool, model_dir: Path | None) -> tuple[np.ndarray, str]:
    """Return the rest joints (24, 3) m: of the person's own shape where body models are installed, else the mean."""
    folder = model_dir or (Path(os.environ['HUMANX_BODY_MODELS']) if 'HUMANX_BODY_MODELS' in os.environ else None)
    if folder is None:
        return (SMPLX_REST, 'mean SMPL-X') if is_smplx else (SMPL_REST, 'mean SMPL')
    if not Path(folder).is_dir():
        raise UserError(f'{path}: the body model folder {folder} does not exist; expected a folder with smpl or smplx.')
    import smplx
    import torch

    kind = 'smplx' if is_smplx else 'smpl'
    try:
        model = smplx.create(
            str(folder), model_type=kind, gender='neutral', num_betas=10, batch_size=1, ext='npz' if is_smplx else 'pkl'
        )
    except (AssertionError, OSError, ValueError, KeyError) as error:
        raise UserError(f'{folder}: holds no usable neutral {kind} model ({error}); expected one.') from None
    padded = np.zeros(10)
    padded[: min(10, len(betas))] = betas[:10]
    with torch.no_grad():
        joints = model(betas=torch.tensor(padded, dtype=torch.float32)[None]).joints[0].numpy()
    rest = (SMPLX_REST if is_smplx else SMPL_REST).copy()
    count = 22 if is_smplx else 24
    hands = rest[22:] - rest[20:22]
    rest[:count] = joints[:count]
    if is_smplx:
        rest[22:] = rest[20:22] + hands
    return rest.astype(np.float64), f'{kind} body model with betas'
