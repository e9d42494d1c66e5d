"""A motion of the G1: what retargeting produces and synthesis starts from.

Metres, radians, seconds, z up, quaternions ``(w, x, y, z)``, joints in the Unitree motor order.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from scipy.interpolate import CubicSpline, PchipInterpolator

from humanx_description.errors import UserError
from humanx_description.robot import JOINT_NAMES, NUM_JOINTS
from humanx_training.xgen import rotations as rot
from humanx_training.xgen.human_motion import CapturedObject, numbers, read_npz, write_npz

FORMAT_VERSION = 1


@dataclass(frozen=True)
class RobotMotion:
    """Root and joint paths with the foot contacts that were planned. Checked on construction (``ValueError``)."""

    fps: float
    root_pos: np.ndarray  # (T, 3) m, pelvis origin in the world
    root_quat: np.ndarray  # (T, 4) wxyz
    joint_pos: np.ndarray  # (T, 29) rad
    foot_contact: np.ndarray  # (T, 2) bool, left and right foot flat on the floor
    clip_start: int = 0  # first frame of the person's motion: before it, stance and transition
    clip_stop: int = -1  # one past its last frame (-1: the end)
    scale: float = 1.0  # robot metres per human metre, for objects that were captured with the person
    source_offset: tuple[float, float, float] = (0.0, 0.0, 0.0)  # m, robot world = scale * human world + offset
    provenance: dict = field(default_factory=dict)
    captured: CapturedObject | None = None  # already scaled into the robot's world, on the same frames

    def __post_init__(self) -> None:
        frames = len(self.root_pos)
        if self.clip_stop == -1:
            object.__setattr__(self, 'clip_stop', frames)
        if frames < 2:
            raise ValueError(f'root_pos holds {frames} frames; expected at least 2')
        if not np.isfinite(self.fps) or not 5 <= self.fps <= 1000:
            raise ValueError(f'fps is {self.fps}; expected 5 to 1000 frames per second')
        shapes = {
            'root_pos': (frames, 3),
            'root_quat': (frames, 4),
            'joint_pos': (frames, NUM_JOINTS),
            'foot_contact': (frames, 2),
        }
        for name, shape in shapes.items():
            value = getattr(self, name)
            if value.shape != shape:
                raise ValueError(f'{name} has shape {value.shape}; expected {shape}')
            if value.dtype != bool and not np.isfinite(value).all():
                raise ValueError(f'{name} is not finite; expected numbers')
        if np.abs(np.linalg.norm(self.root_quat, axis=1) - 1).max() > 1e-3:
            raise ValueError('root_quat is not normalised; expected unit quaternions')
        if not 0 <= self.clip_start < self.clip_stop <= frames:
            raise ValueError(
                f'clip_start {self.clip_start} and clip_stop {self.clip_stop} are outside the {frames} frames'
            )

    @property
    def num_frames(self) -> int:
        return len(self.root_pos)

    @property
    def duration(self) -> float:
        """Seconds from the first to the last frame."""
        return (self.num_frames - 1) / self.fps

    @property
    def joint_vel(self) -> np.ndarray:
        """Joint velocities (T, 29) rad/s, by central differences."""
        return np.gradient(self.joint_pos, axis=0) * self.fps

    def qpos(self) -> np.ndarray:
        """Return MuJoCo positions (T, 36)."""
        return np.concatenate([self.root_pos, self.root_quat, self.joint_pos], axis=1)

    def resample(self, fps: float) -> RobotMotion:
        """Return the motion at another rate.

        Joints and root use splines that do not overshoot (a cubic spline would let planted feet creep and could leave
        the joint limits), rotations the shortest arc.
        """
        if abs(fps - self.fps) < 1e-9:
            return self
        old = np.arange(self.num_frames) / self.fps
        new = np.arange(round(self.duration * fps) + 1) / fps
        new = new[new <= old[-1] + 1e-9]
        nearest = np.clip(np.round(new * self.fps).astype(int), 0, self.num_frames - 1)
        captured = self.captured
        if captured is not None:
            captured = CapturedObject(
                captured.name,
                CubicSpline(old, captured.pos)(new),
                rot.mat_to_quat(rot.slerp(old, rot.quat_to_mat(captured.quat), new)),
                captured.contact[nearest],
            )
        ratio = fps / self.fps
        start = min(round(self.clip_start * ratio), len(new) - 1)
        return replace(
            self,
            fps=float(fps),
            root_pos=PchipInterpolator(old, self.root_pos)(new),
            root_quat=rot.continuous(rot.mat_to_quat(rot.slerp(old, rot.quat_to_mat(self.root_quat), new))),
            joint_pos=PchipInterpolator(old, self.joint_pos)(new),
            foot_contact=self.foot_contact[nearest],
            clip_start=start,
            clip_stop=max(start + 1, min(round(self.clip_stop * ratio), len(new))),
            captured=captured,
        )

    def save(self, path: Path) -> None:
        """Write an ``.npz`` without pickles; an earlier file stays until the new one is complete."""
        data: dict[str, np.ndarray] = {
            'format': np.array('humanx_robot_motion'),
            'format_version': np.array(FORMAT_VERSION),
            'fps': np.array(float(self.fps)),
            'joint_names': np.array(JOINT_NAMES),
            'root_pos': self.root_pos,
            'root_quat': self.root_quat,
            'joint_pos': self.joint_pos,
            'foot_contact': self.foot_contact,
            'clip_start': np.array(self.clip_start),
            'clip_stop': np.array(self.clip_stop),
            'scale': np.array(self.scale),
            'source_offset': np.array(self.source_offset),
            'provenance': np.array(json.dumps(self.provenance)),
        }
        if self.captured is not None:
            data['object_name'] = np.array(self.captured.name)
            data['object_pos'] = self.captured.pos
            data['object_quat'] = self.captured.quat
            data['object_contact'] = self.captured.contact
        write_npz(Path(path), data)


def is_robot_motion(path: Path) -> bool:
    """Tell whether an ``.npz`` says of itself that it is a :class:`RobotMotion`."""
    return str(read_npz(Path(path), 'an .npz file').get('format')) == 'humanx_robot_motion'


def load_robot_motion(path: Path) -> RobotMotion:
    """Read a :class:`RobotMotion`; every fault is a :class:`UserError` that names file, field and expectation."""
    what = 'a RobotMotion .npz (made by `humanx xgen retarget`)'
    data = read_npz(Path(path), what)
    if str(data.get('format')) != 'humanx_robot_motion':
        raise UserError(f'{path}: field format is absent or different; expected {what}.')
    if str(data.get('format_version')) != str(FORMAT_VERSION):
        raise UserError(f'{path}: format_version is {data.get("format_version")}; expected {FORMAT_VERSION}.')
    needed = 'fps joint_names root_pos root_quat joint_pos foot_contact clip_start clip_stop scale source_offset'
    for name in (*needed.split(), 'provenance'):
        if name not in data:
            raise UserError(f'{path}: field {name!r} is missing; expected {what}.')
    if tuple(str(n) for n in data['joint_names']) != JOINT_NAMES:
        raise UserError(f'{path}: joint_names differ; expected the 29 joints of the G1 in motor order.')
    captured = None
    if 'object_pos' in data:
        for name in ('object_name', 'object_quat', 'object_contact'):
            if name not in data:
                raise UserError(f'{path}: field {name!r} is missing beside object_pos.')
        captured = CapturedObject(
            str(data['object_name']), numbers(path, 'object_pos', data['object_pos']),
            numbers(path, 'object_quat', data['object_quat']), data['object_contact'].astype(bool),
        )
    try:
        return RobotMotion(
            fps=float(data['fps']),
            root_pos=numbers(path, 'root_pos', data['root_pos']),
            root_quat=numbers(path, 'root_quat', data['root_quat']),
            joint_pos=numbers(path, 'joint_pos', data['joint_pos']),
            foot_contact=data['foot_contact'].astype(bool),
            clip_start=int(data['clip_start']),
            clip_stop=int(data['clip_stop']),
            scale=float(data['scale']),
            source_offset=tuple(float(v) for v in data['source_offset']),  # type: ignore[arg-type]
            provenance=dict(json.loads(str(data['provenance']))),
            captured=captured,
        )
    except (ValueError, TypeError) as error:
        raise UserError(f'{path}: {error}.') from None
