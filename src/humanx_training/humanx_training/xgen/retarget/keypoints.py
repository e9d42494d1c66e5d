"""From the person's skeleton to targets on the robot's: directions of limbs kept, lengths the robot's.

The pelvis and the torso take the person's orientation; from the robot's own hips and shoulders each limb follows the
direction of the person's limb with the robot's length. The path of the pelvis is scaled by the ratio of leg lengths, so
that a foot that stands still in the source stands still in the targets too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline, interp1d

from humanx_training.xgen import rotations as rot
from humanx_training.xgen.human_motion import JOINT, HumanMotion
from humanx_training.xgen.retarget.kinematics import Kinematics, Pose

SIDES = ('left', 'right')
# Robot body (and point on it) that answers to each keypoint of the person.
KEYPOINTS: dict[str, tuple[str, tuple[float, float, float]]] = {}
for _side in SIDES:
    KEYPOINTS[f'{_side}_knee'] = (f'{_side}_knee_link', (0.0, 0.0, 0.0))
    KEYPOINTS[f'{_side}_ankle'] = (f'{_side}_ankle_pitch_link', (0.0, 0.0, 0.0))
    KEYPOINTS[f'{_side}_shoulder'] = (f'{_side}_shoulder_roll_link', (0.0, 0.0, 0.0))
    KEYPOINTS[f'{_side}_elbow'] = (f'{_side}_elbow_link', (0.0, 0.0, 0.0))
    KEYPOINTS[f'{_side}_wrist'] = (f'{_side}_wrist_pitch_link', (0.0, 0.0, 0.0))
    KEYPOINTS[f'{_side}_hand'] = (f'{_side}_wrist_yaw_link', (0.08, 0.0, 0.0))


@dataclass
class Targets:
    """What the robot should look like, one entry per frame. World frame, metres."""

    pelvis_pos: np.ndarray  # (T, 3)
    pelvis_mat: np.ndarray  # (T, 3, 3)
    torso_mat: np.ndarray  # (T, 3, 3)
    foot_mat: np.ndarray  # (T, 2, 3, 3)
    hand_mat: np.ndarray  # (T, 2, 3, 3)
    has_hand: bool  # the source says how the hands are turned
    points: dict[str, np.ndarray]  # keypoint -> (T, 3)
    confidence: dict[str, np.ndarray]  # keypoint -> (T,)
    scale: float  # robot metres per human metre

    def __len__(self) -> int:
        return len(self.pelvis_pos)

    def shift(self, offset: np.ndarray) -> None:
        """Move everything by ``offset`` (T, 3) m."""
        self.pelvis_pos = self.pelvis_pos + offset
        for name in self.points:
            self.points[name] = self.points[name] + offset


def resample_human(motion: HumanMotion, fps: float) -> tuple[HumanMotion, np.ndarray]:
    """Return the motion at ``fps`` and, per new frame, the index of the nearest old frame."""
    old = np.arange(motion.num_frames) / motion.fps
    new = np.arange(int(np.floor(old[-1] * fps + 1e-6)) + 1) / fps
    nearest = np.clip(np.round(new * motion.fps).astype(int), 0, motion.num_frames - 1)
    mats = rot.quat_to_mat(motion.quat)
    quat = np.stack([rot.mat_to_quat(rot.slerp(old, mats[:, j], new)) for j in range(motion.quat.shape[1])], axis=1)
    captured = motion.captured
    if captured is not None:
        captured = type(captured)(
            captured.name,
            CubicSpline(old, captured.pos)(new),
            rot.mat_to_quat(rot.slerp(old, rot.quat_to_mat(captured.quat), new)),
            captured.contact[nearest],
        )
    out = HumanMotion(
        fps=float(fps),
        pos=CubicSpline(old, motion.pos)(new),
        quat=rot.continuous(quat),
        has_quat=motion.has_quat,
        confidence=np.clip(interp1d(old, motion.confidence, axis=0)(np.clip(new, 0, old[-1])), 0, 1),
        provenance=motion.provenance,
        captured=captured,
    )
    return out, nearest


def body_frames(motion: HumanMotion) -> dict[str, np.ndarray]:
    """Return rotations (T, 3, 3) of pelvis, torso, feet and hands: the source's where given, else from the joints."""
    joint, out = motion.joint, {}
    mats = rot.quat_to_mat(motion.quat)

    def given(name: str) -> bool:
        return bool(motion.has_quat[JOINT[name]])

    up = joint('neck') - 0.5 * (joint('left_hip') + joint('right_hip'))
    if given('pelvis'):
        out['pelvis'] = mats[:, JOINT['pelvis']]
    else:
        out['pelvis'] = rot.frame_from_axes(None, joint('left_hip') - joint('right_hip'), up)
    if given('spine3'):
        out['torso'] = mats[:, JOINT['spine3']]
    else:
        across = joint('left_shoulder') - joint('right_shoulder')
        out['torso'] = rot.frame_from_axes(None, across, up)
    for side in SIDES:
        if given(f'{side}_ankle'):
            out[f'{side}_foot'] = mats[:, JOINT[f'{side}_ankle']]
        else:
            along = joint(f'{side}_foot') - joint(f'{side}_ankle')
            # The line from ankle to toes points down; turn it up about the shin's side axis until it is level at rest.
            shin = joint(f'{side}_knee') - joint(f'{side}_ankle')
            frame = rot.frame_from_axes(along, None, shin)
            sideways = frame[..., 1]
            level = rot.exp(-np.deg2rad(25.0) * sideways) @ along[..., None]
            out[f'{side}_foot'] = rot.frame_from_axes(level[..., 0], sideways, None)
        if given(f'{side}_wrist'):
            out[f'{side}_hand'] = mats[:, JOINT[f'{side}_wrist']] @ hand_axes(side)
        else:
            along = joint(f'{side}_hand') - joint(f'{side}_elbow')
            out[f'{side}_hand'] = rot.frame_from_axes(along, np.cross(up, along), None)
    return out


def hand_axes(side: str) -> np.ndarray:
    """Return the robot hand's axes (x along the fingers, y to the left) in the person's T-pose.

    In T-pose the left fingers point to +y and both palms to the floor. The G1's hand with the wrist joints at zero and
    the forearm pointing forward has its palm turned inward (left hand: palm to -y, the thumb up).
    """
    if side == 'left':
        return np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    return np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])


def build_targets(motion: HumanMotion, kin: Kinematics) -> Targets:
    """Return the targets (same frames) on the robot's proportions, before feet are put on the floor."""
    frames = body_frames(motion)
    size = _robot_sizes(kin)
    human_leg = np.mean([
        np.median(np.linalg.norm(motion.joint(f'{s}_{a}') - motion.joint(f'{s}_{b}'), axis=1))
        for s in SIDES
        for a, b in (('hip', 'knee'), ('knee', 'ankle'))
    ]) * 2  # fmt: skip
    scale = (size['thigh'] + size['shin']) / human_leg
    hips = 0.5 * (motion.joint('left_hip') + motion.joint('right_hip')) * scale
    pelvis, torso = frames['pelvis'], frames['torso']
    pelvis_pos = hips - pelvis @ size['mid_hip']
    waist = pelvis_pos + pelvis @ size['waist']
    points = {}
    for side in SIDES:
        joint = {n: motion.joint(f'{side}_{n}') for n in ['hip', 'knee', 'ankle', 'shoulder', 'elbow', 'wrist', 'hand']}
        hip = pelvis_pos + pelvis @ size[f'{side}_hip']
        points[f'{side}_knee'] = hip + size['thigh'] * _direction(joint['hip'], joint['knee'])
        points[f'{side}_ankle'] = points[f'{side}_knee'] + size['shin'] * _direction(joint['knee'], joint['ankle'])
        points[f'{side}_shoulder'] = waist + torso @ size[f'{side}_shoulder']
        points[f'{side}_elbow'] = points[f'{side}_shoulder'] + size['upper_arm'] * _direction(
            joint['shoulder'], joint['elbow']
        )
        points[f'{side}_wrist'] = points[f'{side}_elbow'] + size['forearm'] * _direction(joint['elbow'], joint['wrist'])
        points[f'{side}_hand'] = points[f'{side}_wrist'] + size['hand'] * _direction(joint['wrist'], joint['hand'])
    return Targets(
        pelvis_pos=pelvis_pos,
        pelvis_mat=pelvis,
        torso_mat=torso,
        foot_mat=np.stack([frames['left_foot'], frames['right_foot']], axis=1),
        hand_mat=np.stack([frames['left_hand'], frames['right_hand']], axis=1),
        has_hand=bool(motion.has_quat[JOINT['left_wrist']] and motion.has_quat[JOINT['right_wrist']]),
        points=points,
        confidence={name: motion.confidence[:, JOINT[name]] for name in KEYPOINTS},
        scale=float(scale),
    )


def _direction(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    line = end - start
    return line / np.maximum(np.linalg.norm(line, axis=-1, keepdims=True), 1e-6)


def _robot_sizes(kin: Kinematics) -> dict[str, np.ndarray | float]:
    """Return the robot's limb lengths (m) and the places of its hips and shoulders on pelvis and torso."""
    kin.update(Pose(np.zeros((1, 3)), np.eye(3)[None], np.zeros((1, 29))))

    def at(body: str) -> np.ndarray:
        return kin.pos[0, kin.body_index[body]]

    def length(a: str, b: str) -> float:
        return float(np.linalg.norm(at(a) - at(b)))

    out: dict[str, np.ndarray | float] = {
        'thigh': length('left_hip_roll_link', 'left_knee_link'),
        'shin': length('left_knee_link', 'left_ankle_pitch_link'),
        'upper_arm': length('left_shoulder_roll_link', 'left_elbow_link'),
        'forearm': length('left_elbow_link', 'left_wrist_pitch_link'),
        'hand': length('left_wrist_pitch_link', 'left_wrist_yaw_link') + 0.08,
        'mid_hip': 0.5 * (at('left_hip_roll_link') + at('right_hip_roll_link')),
        'waist': at('torso_link'),
    }
    for side in SIDES:
        out[f'{side}_hip'] = at(f'{side}_hip_roll_link')
        out[f'{side}_shoulder'] = at(f'{side}_shoulder_roll_link') - at('torso_link')
    return out
