"""Mean skeletons of SMPL and SMPL-X and their forward kinematics without the licensed body models.

The numbers are the joint positions (m) of the neutral mean shape (betas = 0) at rest, in the models' own axes (x left,
y up, z forward), as published with the models' joint regressors: within a millimetre those of `smpl_humanoid.xml` in
the public repository ZhengyiLuo/PHC (SMPL) and of the joints that `smplx` gives (SMPL-X); a test holds them. Where
body models are installed, ``smpl.py`` uses them instead. Retargeting uses directions of limbs and ratios of lengths, so
the mean shape does.
"""

from __future__ import annotations

import numpy as np

from humanx_training.xgen.human_motion import NUM_JOINTS, PARENTS

SMPL_REST = np.array([
    [-0.0018, -0.2233, 0.0282], [0.0677, -0.3147, 0.0214], [-0.0695, -0.3139, 0.0239],
    [-0.0043, -0.1144, 0.0015], [0.1023, -0.6899, 0.0169], [-0.1078, -0.6964, 0.0150],
    [0.0012, 0.0208, 0.0026], [0.0884, -1.0879, -0.0268], [-0.0920, -1.0948, -0.0273],
    [0.0026, 0.0737, 0.0280], [0.1148, -1.1437, 0.0925], [-0.1174, -1.1430, 0.0961],
    [-0.0002, 0.2876, -0.0148], [0.0815, 0.1955, -0.0060], [-0.0791, 0.1926, -0.0106],
    [0.0050, 0.3526, 0.0365], [0.1724, 0.2260, -0.0149], [-0.1752, 0.2251, -0.0197],
    [0.4320, 0.2132, -0.0424], [-0.4289, 0.2118, -0.0411], [0.6813, 0.2222, -0.0435],
    [-0.6842, 0.2196, -0.0467], [0.7653, 0.2140, -0.0585], [-0.7688, 0.2134, -0.0570],
])  # fmt: skip
# SMPL-X has no `hand` joint; its hands are placed 9 cm beyond the wrist along the forearm.
SMPLX_REST = np.array([
    [0.0031, -0.3514, 0.0120], [0.0613, -0.4442, -0.0140], [-0.0601, -0.4553, -0.0092],
    [0.0004, -0.2415, -0.0156], [0.1160, -0.8229, -0.0234], [-0.1044, -0.8177, -0.0260],
    [0.0098, -0.1097, -0.0215], [0.0726, -1.2260, -0.0552], [-0.0889, -1.2284, -0.0462],
    [-0.0015, -0.0574, 0.0069], [0.1198, -1.2840, 0.0630], [-0.1277, -1.2868, 0.0728],
    [-0.0137, 0.1077, -0.0247], [0.0448, 0.0275, -0.0003], [-0.0492, 0.0269, -0.0065],
    [0.0111, 0.2682, -0.0039], [0.1641, 0.0852, -0.0157], [-0.1518, 0.0804, -0.0191],
    [0.4182, 0.0131, -0.0582], [-0.4229, 0.0439, -0.0456], [0.6702, 0.0363, -0.0607],
    [-0.6722, 0.0394, -0.0609], [0.7600, 0.0363, -0.0607], [-0.7620, 0.0394, -0.0609],
])  # fmt: skip

# Columns: our axes (x forward, y left, z up) expressed in the models' axes (x left, y up, z forward).
BODY_AXES = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
# World y up to z up: (x, y, z) -> (x, -z, y).
Y_UP_TO_Z_UP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])


def forward(local: np.ndarray, root_pos: np.ndarray, rest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return joint positions (T, 24, 3) and rotations (T, 24, 3, 3) in the models' world.

    ``local`` (T, 24, 3, 3): rotation of each joint in its parent. ``root_pos`` (T, 3): the model's translation,
    to which the rest position of the pelvis is added, as the body models do.
    """
    frames = len(local)
    pos = np.empty((frames, NUM_JOINTS, 3))
    rot = np.empty((frames, NUM_JOINTS, 3, 3))
    for joint, parent in enumerate(PARENTS):
        if parent < 0:
            rot[:, joint] = local[:, joint]
            pos[:, joint] = root_pos + rest[joint]
        else:
            rot[:, joint] = rot[:, parent] @ local[:, joint]
            pos[:, joint] = pos[:, parent] + rot[:, parent] @ (rest[joint] - rest[parent])
    return pos, rot
