"""DeepMimic motion files (``.txt``, JSON): a 15-body humanoid, x forward, y up, z to its right, arms down at rest."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from humanx_description.errors import UserError
from humanx_training.xgen import rotations as rot
from humanx_training.xgen.extract.ground import put_on_floor
from humanx_training.xgen.extract.smpl_skeleton import Y_UP_TO_Z_UP
from humanx_training.xgen.human_motion import JOINT, NUM_JOINTS, HumanMotion

WIDTH = 44
# Joint: parent, offset in the parent (m, as published with DeepMimic's humanoid3d character), first column, columns.
_TREE: dict[str, tuple[str, tuple[float, float, float], int, int]] = {
    'root': ('', (0.0, 0.0, 0.0), 4, 4),
    'chest': ('root', (0.0, 0.236151, 0.0), 8, 4),
    'neck': ('chest', (0.0, 0.223894, 0.0), 12, 4),
    'right_hip': ('root', (0.0, 0.0, 0.084887), 16, 4),
    'right_knee': ('right_hip', (0.0, -0.421546, 0.0), 20, 1),
    'right_ankle': ('right_knee', (0.0, -0.409870, 0.0), 21, 4),
    'right_shoulder': ('chest', (-0.02405, 0.243500, 0.183110), 25, 4),
    'right_elbow': ('right_shoulder', (0.0, -0.274788, 0.0), 29, 1),
    'right_wrist': ('right_elbow', (0.0, -0.258947, 0.0), -1, 0),
    'left_hip': ('root', (0.0, 0.0, -0.084887), 30, 4),
    'left_knee': ('left_hip', (0.0, -0.421546, 0.0), 34, 1),
    'left_ankle': ('left_knee', (0.0, -0.409870, 0.0), 35, 4),
    'left_shoulder': ('chest', (-0.02405, 0.243500, -0.183110), 39, 4),
    'left_elbow': ('left_shoulder', (0.0, -0.274788, 0.0), 43, 1),
    'left_wrist': ('left_elbow', (0.0, -0.258947, 0.0), -1, 0),
}
# Points the character has no joint for, in the frame of one it has (m).
_EXTRA = {
    'left_foot': ('left_ankle', (0.13, -0.04, 0.0)), 'right_foot': ('right_ankle', (0.13, -0.04, 0.0)),
    'left_hand': ('left_wrist', (0.0, -0.08, 0.0)), 'right_hand': ('right_wrist', (0.0, -0.08, 0.0)),
    'head': ('neck', (0.0, 0.175, 0.0)), 'spine1': ('root', (0.0, 0.10, 0.0)), 'spine2': ('root', (0.0, 0.19, 0.0)),
    'left_collar': ('chest', (0.0, 0.2, -0.08)), 'right_collar': ('chest', (0.0, 0.2, 0.08)),
}  # fmt: skip
# Our joint: whose orientation it has.
_FRAME = {
    'pelvis': 'root', 'spine1': 'root', 'spine2': 'chest', 'spine3': 'chest', 'neck': 'neck', 'head': 'neck',
    'left_collar': 'chest', 'right_collar': 'chest', 'left_hand': 'left_wrist', 'right_hand': 'right_wrist',
    'left_foot': 'left_ankle', 'right_foot': 'right_ankle',
}  # fmt: skip


def extract_deepmimic(path: Path) -> HumanMotion:
    """Read a DeepMimic motion; the frame rate is that of the frames' own durations."""
    frames, fps = _read(Path(path))
    mats, pos = _forward(frames)
    out_pos = np.empty((len(frames), NUM_JOINTS, 3))
    out_mat = np.empty((len(frames), NUM_JOINTS, 3, 3))
    for name, index in JOINT.items():
        source = {'pelvis': 'root', 'spine3': 'chest'}.get(name, name)
        if source in pos:
            out_pos[:, index] = pos[source]
        else:
            parent, offset = _EXTRA[name]
            out_pos[:, index] = pos[parent] + mats[parent] @ np.array(offset)
        out_mat[:, index] = _to_ours(mats[_FRAME.get(name, source)], name)
    try:
        motion = HumanMotion(
            fps=fps,
            pos=out_pos @ Y_UP_TO_Z_UP.T,
            quat=rot.continuous(rot.mat_to_quat(out_mat)),
            has_quat=np.ones(NUM_JOINTS, dtype=bool),
            confidence=np.ones((len(frames), NUM_JOINTS)),
            provenance={'source': Path(path).name, 'format': 'deepmimic', 'skeleton': 'humanoid3d'},
        )
    except ValueError as error:
        raise UserError(f'{path}: {error}.') from None
    return put_on_floor(motion)


def _read(path: Path) -> tuple[np.ndarray, float]:
    if not path.is_file():
        raise UserError(f'{path}: does not exist; expected a DeepMimic motion (.txt).')
    try:
        data = json.loads(path.read_text(encoding='utf-8'))
    except (UnicodeDecodeError, json.JSONDecodeError):
        raise UserError(f'{path}: is not JSON; expected a DeepMimic motion with a field Frames.') from None
    if not isinstance(data, dict) or not isinstance(data.get('Frames'), list) or not data['Frames']:
        raise UserError(f"{path}: field 'Frames' is missing or empty; expected a list of frames of {WIDTH} numbers.")
    for index, frame in enumerate(data['Frames']):
        if not isinstance(frame, list) or len(frame) != WIDTH:
            count = len(frame) if isinstance(frame, list) else type(frame).__name__
            raise UserError(f'{path}: frame {index} of Frames holds {count} numbers; expected {WIDTH}.')
    try:
        frames = np.array(data['Frames'], dtype=np.float64)
    except (TypeError, ValueError):
        raise UserError(f'{path}: Frames holds something that is no number; expected {WIDTH} numbers each.') from None
    if not np.isfinite(frames).all():
        index = int(np.argwhere(~np.isfinite(frames))[0][0])
        raise UserError(f'{path}: frame {index} of Frames is not finite; expected numbers.')
    if len(frames) < 2:
        raise UserError(f'{path}: Frames holds {len(frames)} frame; expected at least 2.')
    durations = frames[:-1, 0]  # the last frame's duration is often 0
    if (durations <= 0).any():
        raise UserError(f'{path}: frame {int(np.argmin(durations))} lasts {durations.min():g} s; expected above 0.')
    if durations.max() > 1.05 * durations.min():
        raise UserError(
            f'{path}: frames last {durations.min():g} to {durations.max():g} s; expected one constant frame rate.'
        )
    fps = 1 / float(np.median(durations))
    if not 5 <= fps <= 500:
        raise UserError(f'{path}: frames last {1 / fps:g} s; expected a rate of 5 to 500 frames per second.')
    return frames, fps


def _forward(frames: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return rotations (T, 3, 3) and positions (T, 3) of the character's joints in its own world."""
    mats: dict[str, np.ndarray] = {}
    pos: dict[str, np.ndarray] = {}
    for name, (parent, offset, column, width) in _TREE.items():
        if width == 4:
            quat = frames[:, column : column + 4]
            local = rot.quat_to_mat(quat / np.linalg.norm(quat, axis=1, keepdims=True))
        elif width == 1:
            local = rot.rot_z(frames[:, column])  # knees and elbows are hinges about the sideways axis
        else:
            local = np.tile(np.eye(3), (len(frames), 1, 1))
        if parent:
            pos[name] = pos[parent] + mats[parent] @ np.array(offset)
            mats[name] = mats[parent] @ local
        else:
            pos[name], mats[name] = frames[:, 1:4], local
    return mats, pos


def _to_ours(mat: np.ndarray, name: str) -> np.ndarray:
    """Return the world rotation (T, 3, 3) relative to the T-pose (the character's arms hang at rest)."""
    ours = Y_UP_TO_Z_UP @ mat @ Y_UP_TO_Z_UP.T
    if name.endswith(('shoulder', 'elbow', 'wrist', 'hand')):
        down = -0.5 * np.pi if name.startswith('left') else 0.5 * np.pi
        ours = ours @ rot.exp(np.array([down, 0.0, 0.0]))
    return ours
