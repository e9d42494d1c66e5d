"""From MediaPipe's 33 world landmarks (metres, hip-centred, camera axes) to a person who walks on a floor.

MediaPipe places every frame's hips at the origin. The path of the person is recovered from the feet: the lower foot is
taken to stand, so the hips move opposite to it. Height comes from the lowest foot, so a jump is flattened to the floor;
the camera is taken to be upright about its viewing axis, and its pitch is taken from the person, who stands upright on
average.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d

from humanx_training.xgen import rotations as rot
from humanx_training.xgen.extract.smoothing import smooth_points
from humanx_training.xgen.human_motion import JOINT, NUM_JOINTS, PARENTS, HumanMotion

# Camera axes (x right, y down, z away) to ours, looking along +y: (x, z, -y); the person then faces about -y.
CAMERA_TO_WORLD = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
MAX_PITCH = np.deg2rad(25.0)
SOLE_BELOW_HEEL = 0.03  # m, of the heel and toe landmarks above the floor
_L = {
    'left_ear': 7, 'right_ear': 8, 'left_shoulder': 11, 'right_shoulder': 12, 'left_elbow': 13, 'right_elbow': 14,
    'left_wrist': 15, 'right_wrist': 16, 'left_pinky': 17, 'right_pinky': 18, 'left_index': 19, 'right_index': 20,
    'left_hip': 23, 'right_hip': 24, 'left_knee': 25, 'right_knee': 26, 'left_ankle': 27, 'right_ankle': 28,
    'left_heel': 29, 'right_heel': 30, 'left_toe': 31, 'right_toe': 32,
}  # fmt: skip


def motion_from_landmarks(world: np.ndarray, visibility: np.ndarray, fps: float, provenance: dict) -> HumanMotion:
    """Return the motion of landmarks (T, 33, 3) m with visibilities (T, 33); every frame must be finite."""
    points = smooth_points(world @ CAMERA_TO_WORLD.T, fps)
    pitch = _pitch(points)
    points = points @ rot.exp(np.array([pitch, 0.0, 0.0])).T
    pos, sure = _joints(points, visibility)
    pos = constant_bones(pos)
    feet = _sole_points(points, pos)
    pos = pos + _path(feet, fps)[:, None]
    quat, has = _orientations(points)
    return HumanMotion(
        fps=fps,
        pos=pos,
        quat=quat,
        has_quat=has,
        confidence=sure,
        provenance={**provenance, 'camera_pitch_deg': round(float(np.rad2deg(pitch)), 1)},
    )


def _pitch(points: np.ndarray) -> float:
    """Return the turn about x (rad) that makes the person's ankle-to-shoulder line vertical in the median frame."""
    up = _mid(points, 'shoulder') - _mid(points, 'ankle')
    lean = np.median(np.arctan2(up[:, 1], up[:, 2]))
    return float(np.clip(lean, -MAX_PITCH, MAX_PITCH))


def _mid(points: np.ndarray, name: str) -> np.ndarray:
    return 0.5 * (points[:, _L[f'left_{name}']] + points[:, _L[f'right_{name}']])


def _joints(points: np.ndarray, visibility: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return our joints (T, 24, 3) and their confidence (T, 24)."""
    pos = np.empty((len(points), NUM_JOINTS, 3))
    sure = np.ones((len(points), NUM_JOINTS))
    hips, neck = _mid(points, 'hip'), _mid(points, 'shoulder')
    trunk = neck - hips
    for name, share in (('pelvis', 0.15), ('spine1', 0.35), ('spine2', 0.55), ('spine3', 0.7), ('neck', 1.0)):
        pos[:, JOINT[name]] = hips + share * trunk
    pos[:, JOINT['head']] = _mid(points, 'ear')
    for side in ('left', 'right'):
        for name in ('hip', 'knee', 'ankle', 'shoulder', 'elbow', 'wrist'):
            pos[:, JOINT[f'{side}_{name}']] = points[:, _L[f'{side}_{name}']]
            sure[:, JOINT[f'{side}_{name}']] = visibility[:, _L[f'{side}_{name}']]
        shoulder = points[:, _L[f'{side}_shoulder']]
        pos[:, JOINT[f'{side}_collar']] = neck + 0.4 * (shoulder - neck)
        heel, toe = points[:, _L[f'{side}_heel']], points[:, _L[f'{side}_toe']]
        pos[:, JOINT[f'{side}_foot']] = heel + 0.7 * (toe - heel)
        pos[:, JOINT[f'{side}_hand']] = 0.5 * (points[:, _L[f'{side}_index']] + points[:, _L[f'{side}_pinky']])
        sure[:, JOINT[f'{side}_foot']] = visibility[:, _L[f'{side}_toe']]
        sure[:, JOINT[f'{side}_hand']] = 0.5 * visibility[:, _L[f'{side}_index']]  # knuckles are seen worst
    return pos, np.clip(sure, 0.0, 1.0)


def constant_bones(pos: np.ndarray) -> np.ndarray:
    """Return joints (T, 24, 3) with every bone at its median length; left and right limbs alike."""
    length = np.zeros(NUM_JOINTS)
    for joint, parent in enumerate(PARENTS):
        if parent >= 0:
            length[joint] = np.median(np.linalg.norm(pos[:, joint] - pos[:, parent], axis=1))
    for name, index in JOINT.items():
        if name.startswith('left_'):
            other = JOINT[name.replace('left_', 'right_')]
            length[index] = length[other] = 0.5 * (length[index] + length[other])
    out = pos.copy()
    for joint, parent in enumerate(PARENTS):
        if parent >= 0:
            line = pos[:, joint] - pos[:, parent]
            unit = line / np.maximum(np.linalg.norm(line, axis=1, keepdims=True), 1e-6)
            out[:, joint] = out[:, parent] + length[joint] * unit
    return out


def _sole_points(points: np.ndarray, pos: np.ndarray) -> np.ndarray:
    """Return heels and toes (T, 4, 3) on the legs of constant length: left heel, left toe, right heel, right toe."""
    out = []
    for side in ('left', 'right'):
        ankle = points[:, _L[f'{side}_ankle']]
        for name in ('heel', 'toe'):
            out.append(pos[:, JOINT[f'{side}_ankle']] + points[:, _L[f'{side}_{name}']] - ankle)
    return np.stack(out, axis=1)


def _path(feet: np.ndarray, fps: float) -> np.ndarray:
    """Return where the hips are (T, 3) m, from sole points (T, 4, 3) relative to them."""
    height = feet[:, :, 2]
    low = height.min(axis=1, keepdims=True)
    # Points within about 2 cm of the lowest share the load; a swinging foot has no say.
    weight = np.exp(-((height - low) / 0.02))
    weight = gaussian_filter1d(weight, 0.05 * fps, axis=0, mode='nearest')
    weight /= weight.sum(axis=1, keepdims=True)
    velocity = np.gradient(feet[:, :, :2], axis=0)
    step = -np.einsum('tf,tfi->ti', weight, velocity)
    path = np.zeros((len(feet), 3))
    path[1:, :2] = np.cumsum(0.5 * (step[1:] + step[:-1]), axis=0)
    path[:, 2] = SOLE_BELOW_HEEL - gaussian_filter1d(low[:, 0], 0.06 * fps, mode='nearest')
    return path


def _orientations(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return orientations (T, 24, 4) of feet and hands, and which joints have one (24,)."""
    from humanx_training.xgen.retarget.keypoints import hand_axes

    frames = len(points)
    mats = np.tile(np.eye(3), (frames, NUM_JOINTS, 1, 1))
    has = np.zeros(NUM_JOINTS, dtype=bool)
    for side in ('left', 'right'):
        p = {n: points[:, _L[f'{side}_{n}']] for n in ('ankle', 'knee', 'heel', 'toe', 'wrist', 'index', 'pinky')}
        along = p['toe'] - p['heel']
        across = np.cross(p['knee'] - p['ankle'], along)
        mats[:, JOINT[f'{side}_ankle']] = rot.frame_from_axes(along, across, None)
        # The robot's hand: x along the fingers, z towards the thumb, which is where the index finger is.
        fingers = 0.5 * (p['index'] + p['pinky']) - p['wrist']
        thumb = p['index'] - p['pinky']
        hand = rot.frame_from_axes(fingers, np.cross(thumb, fingers), None)
        mats[:, JOINT[f'{side}_wrist']] = hand @ hand_axes(side).T
        has[[JOINT[f'{side}_ankle'], JOINT[f'{side}_wrist']]] = True
    return rot.continuous(rot.mat_to_quat(mats)), has
