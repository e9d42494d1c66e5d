"""What every extractor produces: the motion of a person as 24 named joints.

Metres, seconds, z up, quaternions ``(w, x, y, z)``. A joint's orientation is the rotation, in the world, of its body
part relative to the same part of a person in T-pose who faces +x (y to the left, z up). The identity means "as in the
T-pose, facing +x" for every joint and every source.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from humanx_description.errors import UserError

FORMAT_VERSION = 1
# The body joints of SMPL, in its order; the published parent of each.
JOINTS: tuple[str, ...] = (
    'pelvis', 'left_hip', 'right_hip', 'spine1', 'left_knee', 'right_knee', 'spine2', 'left_ankle', 'right_ankle',
    'spine3', 'left_foot', 'right_foot', 'neck', 'left_collar', 'right_collar', 'head', 'left_shoulder',
    'right_shoulder', 'left_elbow', 'right_elbow', 'left_wrist', 'right_wrist', 'left_hand', 'right_hand',
)  # fmt: skip
PARENTS: tuple[int, ...] = (
    -1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21,
)  # fmt: skip
JOINT = {name: index for index, name in enumerate(JOINTS)}
NUM_JOINTS = len(JOINTS)
MIN_FPS, MAX_FPS = 5.0, 500.0


@dataclass(frozen=True)
class CapturedObject:
    """An object that was captured together with the person."""

    name: str
    pos: np.ndarray  # (T, 3) m, world
    quat: np.ndarray  # (T, 4) wxyz
    contact: np.ndarray  # (T,) bool: the source says that the hands hold it


@dataclass(frozen=True)
class HumanMotion:
    """A person's motion. Arrays are checked on construction; a ``ValueError`` names the field."""

    fps: float
    pos: np.ndarray  # (T, 24, 3) m, world
    quat: np.ndarray  # (T, 24, 4) wxyz, world; identity where `has_quat` is false
    has_quat: np.ndarray  # (24,) bool: the source gives this joint's orientation
    confidence: np.ndarray  # (T, 24) in 0..1
    provenance: dict = field(default_factory=dict)  # JSON: source file, format, what was done and noticed
    captured: CapturedObject | None = None

    def __post_init__(self) -> None:
        frames = len(self.pos)
        shapes = {
            'pos': (frames, NUM_JOINTS, 3),
            'quat': (frames, NUM_JOINTS, 4),
            'confidence': (frames, NUM_JOINTS),
            'has_quat': (NUM_JOINTS,),
        }
        if frames < 2:
            raise ValueError(f'pos holds {frames} frames; expected at least 2')
        if not np.isfinite(self.fps) or not MIN_FPS <= self.fps <= MAX_FPS:
            raise ValueError(f'fps is {self.fps}; expected {MIN_FPS:g} to {MAX_FPS:g} frames per second')
        for name, shape in shapes.items():
            value = getattr(self, name)
            if value.shape != shape:
                raise ValueError(f'{name} has shape {value.shape}; expected {shape}')
            if value.dtype != bool and not np.isfinite(value).all():
                frame = int(np.argwhere(~np.isfinite(value))[0][0])
                raise ValueError(f'{name} is not finite in frame {frame}; expected numbers')
        norm = np.linalg.norm(self.quat, axis=-1)
        if np.abs(norm - 1).max() > 1e-3:
            raise ValueError(f'quat has norms of {norm.min():.3f} to {norm.max():.3f}; expected unit quaternions')
        if self.captured is not None:
            for name, shape in {'pos': (frames, 3), 'quat': (frames, 4), 'contact': (frames,)}.items():
                value = getattr(self.captured, name)
                if value.shape != shape:
                    raise ValueError(f'object_{name} has shape {value.shape}; expected {shape}')
                if value.dtype != bool and not np.isfinite(value).all():
                    raise ValueError(f'object_{name} is not finite; expected numbers')

    @property
    def num_frames(self) -> int:
        return len(self.pos)

    @property
    def duration(self) -> float:
        """Seconds from the first to the last frame."""
        return (self.num_frames - 1) / self.fps

    def joint(self, name: str) -> np.ndarray:
        """Return a joint's path (T, 3) m."""
        return self.pos[:, JOINT[name]]

    def cut(self, start: int, stop: int) -> HumanMotion:
        """Return frames ``start`` to ``stop`` (exclusive)."""
        captured = self.captured
        if captured is not None:
            captured = replace(
                captured,
                pos=captured.pos[start:stop],
                quat=captured.quat[start:stop],
                contact=captured.contact[start:stop],
            )
        return replace(
            self,
            pos=self.pos[start:stop],
            quat=self.quat[start:stop],
            confidence=self.confidence[start:stop],
            captured=captured,
        )

    def save(self, path: Path) -> None:
        """Write an ``.npz`` without pickles, in one step (an earlier file stays until the new one is complete)."""
        path = Path(path)
        data: dict[str, np.ndarray] = {
            'format': np.array('humanx_human_motion'),
            'format_version': np.array(FORMAT_VERSION),
            'fps': np.array(float(self.fps)),
            'joint_names': np.array(JOINTS),
            'pos': self.pos.astype(np.float32),
            'quat': self.quat.astype(np.float32),
            'has_quat': self.has_quat,
            'confidence': self.confidence.astype(np.float32),
            'provenance': np.array(json.dumps(self.provenance)),
        }
        if self.captured is not None:
            data['object_name'] = np.array(self.captured.name)
            data['object_pos'] = self.captured.pos.astype(np.float32)
            data['object_quat'] = self.captured.quat.astype(np.float32)
            data['object_contact'] = self.captured.contact
        write_npz(path, data)


def write_npz(path: Path, data: dict[str, np.ndarray]) -> None:
    """Write arrays beside ``path`` and move them into place, so that a failure leaves an earlier file untouched."""
    if path.suffix != '.npz':
        raise UserError(f'{path}: has the ending {path.suffix!r}; expected .npz.')
    if not path.parent.is_dir():
        raise UserError(f'{path}: the folder {path.parent} does not exist; expected an existing folder.')
    partial = path.with_name(f'.{path.name}.partial')
    try:
        with open(partial, 'wb') as stream:
            np.savez_compressed(stream, **data)
        partial.replace(path)
    except OSError as error:
        raise UserError(f'{path}: cannot be written ({error.strerror}); expected a writable folder.') from None
    finally:
        partial.unlink(missing_ok=True)


def read_npz(path: Path, what: str) -> dict[str, np.ndarray]:
    """Return the arrays of an ``.npz`` without ever unpickling; ``what`` says what was expected."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f'{path}: does not exist; expected {what}.')
    if path.stat().st_size == 0:
        raise UserError(f'{path}: is empty; expected {what}.')
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise UserError(f'{path}: holds a single array; expected {what}.')
        with archive:
            out = {}
            for name in archive.files:
                try:
                    out[name] = archive[name]
                except ValueError as error:
                    if 'pickle' not in str(error).lower():
                        raise
                    raise UserError(
                        f'{path}: field {name!r} wants pickle, which could run code; expected plain arrays.'
                    ) from None
            return out
    except UserError:
        raise
    except Exception:  # a damaged file may make zipfile, zlib or the parser of NumPy's headers raise anything
        raise UserError(f'{path}: is not a readable .npz archive; expected {what}.') from None


def numbers(path: Path, name: str, value: object) -> np.ndarray:
    """Return a field as float64; raise :class:`UserError` when it does not hold numbers."""
    try:
        array = np.asarray(value)
    except ValueError:
        raise UserError(f'{path}: field {name!r} is no array; expected numbers.') from None
    if array.dtype.kind not in 'fiub':
        raise UserError(f'{path}: field {name!r} holds {array.dtype}; expected numbers.')
    return array.astype(np.float64)


def load_human_motion(path: Path) -> HumanMotion:
    """Read a :class:`HumanMotion`; every fault is a :class:`UserError` that names file, field and expectation."""
    what = 'a HumanMotion .npz (made by `humanx xgen extract`)'
    data = read_npz(path, what)
    if str(data.get('format')) != 'humanx_human_motion':
        raise UserError(f'{path}: field format is absent or different; expected {what}.')
    if str(data.get('format_version')) != str(FORMAT_VERSION):
        raise UserError(f'{path}: format_version is {data.get("format_version")}; expected {FORMAT_VERSION}.')
    for name in ('fps', 'joint_names', 'pos', 'quat', 'has_quat', 'confidence', 'provenance'):
        if name not in data:
            raise UserError(f'{path}: field {name!r} is missing; expected {what}.')
    names = tuple(str(n) for n in data['joint_names'])
    if names != JOINTS:
        raise UserError(f'{path}: joint_names differ; expected the {NUM_JOINTS} joints {", ".join(JOINTS)}.')
    captured = None
    if 'object_pos' in data:
        for name in ('object_name', 'object_quat', 'object_contact'):
            if name not in data:
                raise UserError(f'{path}: field {name!r} is missing beside object_pos.')
        captured = CapturedObject(
            str(data['object_name']),
            numbers(path, 'object_pos', data['object_pos']),
            numbers(path, 'object_quat', data['object_quat']),
            data['object_contact'].astype(bool),
        )
    try:
        return HumanMotion(
            fps=float(data['fps']),
            pos=numbers(path, 'pos', data['pos']),
            quat=numbers(path, 'quat', data['quat']),
            has_quat=data['has_quat'].astype(bool),
            confidence=numbers(path, 'confidence', data['confidence']),
            provenance=dict(json.loads(str(data['provenance']))),
            captured=captured,
        )
    except (ValueError, TypeError) as error:
        raise UserError(f'{path}: {error}.') from None
