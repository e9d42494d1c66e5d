"""BallPlay ``.pt`` tensors (T, 337) at 60 fps: a person and a ball, both captured (SkillMimic's data).

Columns: 0:3 root position, 3:6 root rotation, 9:165 the 52 joints' rotations (exponential maps in the parent),
165:324 the 53 bodies' positions, 324:327 ball position, 327:330 ball rotation, 336 contact of hands and ball. The
skeleton is SMPL-X's at rest in T-pose; that its rotations chain like this was verified on the files: rotated back into
the parent's frame, every bone is constant within 2 cm.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from humanx_description.errors import UserError
from humanx_training.xgen import rotations as rot
from humanx_training.xgen.extract.smpl_skeleton import BODY_AXES
from humanx_training.xgen.extract.torch_file import load_torch
from humanx_training.xgen.human_motion import JOINTS, NUM_JOINTS, CapturedObject, HumanMotion

COLUMNS = 337
FPS = 60.0
# Body of each joint: (index, index of the parent body); hands are the mean of the four knuckles.
_BODIES = {
    'pelvis': (0, -1), 'left_hip': (1, 0), 'left_knee': (2, 1), 'left_ankle': (3, 2), 'left_foot': (4, 3),
    'right_hip': (5, 0), 'right_knee': (6, 5), 'right_ankle': (7, 6), 'right_foot': (8, 7), 'spine1': (9, 0),
    'spine2': (10, 9), 'spine3': (11, 10), 'neck': (12, 11), 'head': (13, 12), 'left_collar': (15, 11),
    'left_shoulder': (16, 15), 'left_elbow': (17, 16), 'left_wrist': (18, 17), 'right_collar': (34, 11),
    'right_shoulder': (35, 34), 'right_elbow': (36, 35), 'right_wrist': (37, 36),
}  # fmt: skip
_KNUCKLES = {'left_hand': (19, 22, 25, 28), 'right_hand': (38, 41, 44, 47)}


def extract_ballplay(path: Path, fps: float | None = None) -> HumanMotion:
    """Read a BallPlay tensor. ``fps`` overrides the data set's 60 frames per second."""
    return from_tensor(path, load_torch(path), fps)


def from_tensor(path: Path, tensor: object, fps: float | None = None) -> HumanMotion:
    """Return the motion in a loaded BallPlay tensor."""
    import torch

    if not isinstance(tensor, torch.Tensor) or tensor.ndim != 2 or tensor.shape[1] != COLUMNS or tensor.is_complex():
        shape = tuple(tensor.shape) if isinstance(tensor, torch.Tensor) else type(tensor).__name__
        raise UserError(f'{path}: holds {shape}; expected a BallPlay tensor (T, {COLUMNS}).')
    data = tensor.to(torch.float64).numpy()
    if not np.isfinite(data).all():
        frame, column = (int(i) for i in np.argwhere(~np.isfinite(data))[0])
        raise UserError(f'{path}: column {column} is not finite in frame {frame}; expected numbers.')
    frames = len(data)
    bodies = data[:, 165:324].reshape(frames, 53, 3)
    local = rot.exp(data[:, 9:165].reshape(frames, 52, 3))
    world = {0: rot.exp(data[:, 3:6])}
    for body, parent in sorted(_BODIES.values()):
        if parent >= 0:
            world[body] = world[parent] @ local[:, body - 1]
    pos = np.empty((frames, NUM_JOINTS, 3))
    mats = np.empty((frames, NUM_JOINTS, 3, 3))
    for index, name in enumerate(JOINTS):
        if name in _BODIES:
            pos[:, index] = bodies[:, _BODIES[name][0]]
            mats[:, index] = world[_BODIES[name][0]] @ BODY_AXES
        else:
            pos[:, index] = bodies[:, _KNUCKLES[name]].mean(axis=1)
            mats[:, index] = world[_BODIES[name.replace('hand', 'wrist')][0]] @ BODY_AXES
    ball = CapturedObject(
        name='ball',
        pos=data[:, 324:327],
        quat=rot.continuous(rot.mat_to_quat(rot.exp(data[:, 327:330]))),
        contact=data[:, 336] > 0.5,
    )
    try:
        return HumanMotion(
            fps=FPS if fps is None else fps,
            pos=pos,
            quat=rot.continuous(rot.mat_to_quat(mats)),
            has_quat=np.ones(NUM_JOINTS, dtype=bool),
            confidence=np.ones((frames, NUM_JOINTS)),
            provenance={'source': Path(path).name, 'format': 'ballplay', 'skeleton': 'SMPL-X, captured'},
            captured=ball,
        )
    except ValueError as error:
        raise UserError(f'{path}: {error}.') from None
