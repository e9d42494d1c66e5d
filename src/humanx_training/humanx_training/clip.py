"""The interaction clip: what the robot and the object do together, frame by frame.

One ``.npz`` file without pickles. Metres, radians, seconds, z up, quaternions ``(w, x, y, z)``, joints in the Unitree
motor order. Positions only: velocities are derived, so that they can never disagree with the positions.
"""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from humanx_description.config import from_mapping
from humanx_description.errors import UserError
from humanx_description.objects import ObjectSpec
from humanx_description.robot import JOINT_NAMES, NUM_JOINTS
from humanx_training import rotation

FORMAT_VERSION = 1
PHASE_KINDS = ('contact', 'flight', 'rest', 'driven')
MIN_FPS, MAX_FPS = 5.0, 1000.0


@dataclass(frozen=True)
class Phase:
    """What moves the object during frames ``start <= frame < end``.

    ``contact``: the object is held or struck, at a fixed pose relative to ``anchor`` (a body, or ``palms``: the
    midpoint of both palms); ``flight``: gravity, drag, bounces and rolling; ``rest``: it lies still; ``driven``:
    somebody else moves it along a path (the opponent's fist).
    """

    kind: str
    start: int
    end: int
    anchor: str = ''

    def __post_init__(self) -> None:
        if self.kind not in PHASE_KINDS:
            raise ValueError(
                f'phase kind is {self.kind!r}; expected one of {", ".join(PHASE_KINDS)}.'
            )


@dataclass
class InteractionClip:
    """A motion of the G1 with an object. ``T`` frames, ``B`` bodies that may touch the object.

    Raises :class:`UserError` from :meth:`validate` (called on construction, loading and saving).
    """

    fps: float
    root_pos: np.ndarray  # (T, 3) pelvis origin in the world, m
    root_quat: np.ndarray  # (T, 4) w first
    joint_pos: np.ndarray  # (T, 29) rad, motor order
    object_name: str  # '' when there is no object
    object_shape: dict[str, Any]  # {'shape': 'sphere', 'size': [m], 'mass': kg, ...}: an ObjectSpec without its place
    object_pos: np.ndarray  # (T, 3) m
    object_quat: np.ndarray  # (T, 4) w first
    contact: np.ndarray  # (T, B) bool: does the body touch the object
    contact_bodies: tuple[str, ...]
    phases: tuple[Phase, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)
    joint_names: tuple[str, ...] = JOINT_NAMES

    def __post_init__(self) -> None:
        self.validate()

    # Size
    @property
    def num_frames(self) -> int:
        """T."""
        return len(self.root_pos)

    @property
    def duration(self) -> float:
        """Seconds from the first to the last frame."""
        return (self.num_frames - 1) / self.fps

    @property
    def has_object(self) -> bool:
        """Whether an object takes part."""
        return self.object_name != ''

    def object_spec(self) -> ObjectSpec:
        """Return the object as the scene takes it, at its pose in the first frame."""
        if not self.has_object:
            raise UserError('clip: has no object; expected one.')
        spec = from_mapping(
            ObjectSpec, {**self.object_shape, 'name': self.object_name}, 'clip: object_shape'
        )
        return dataclasses.replace(
            spec, pos=tuple(self.object_pos[0].tolist()), quat=tuple(self.object_quat[0].tolist())
        )

    # Derived velocities
    @property
    def root_lin_vel(self) -> np.ndarray:
        """(T, 3) m/s, world frame."""
        return rotation.linear_rate(self.root_pos, self.fps)

    @property
    def root_ang_vel_b(self) -> np.ndarray:
        """(T, 3) rad/s, pelvis frame."""
        return rotation.angular_velocity_body(self.root_quat, self.fps)

    @property
    def joint_vel(self) -> np.ndarray:
        """(T, 29) rad/s."""
        return rotation.linear_rate(self.joint_pos, self.fps)

    @property
    def object_lin_vel(self) -> np.ndarray:
        """(T, 3) m/s, world frame."""
        return rotation.linear_rate(self.object_pos, self.fps)

    @property
    def object_ang_vel_b(self) -> np.ndarray:
        """(T, 3) rad/s, object frame."""
        return rotation.angular_velocity_body(self.object_quat, self.fps)

    def qpos(self) -> np.ndarray:
        """Return MuJoCo positions (T, 43), or (T, 36) without an object."""
        robot = [self.root_pos, self.root_quat, self.joint_pos]
        return np.concatenate(
            robot + ([self.object_pos, self.object_quat] if self.has_object else []), axis=1
        )

    def qvel(self) -> np.ndarray:
        """Return MuJoCo velocities (T, 41), or (T, 35) without an object."""
        robot = [self.root_lin_vel, self.root_ang_vel_b, self.joint_vel]
        extra = [self.object_lin_vel, self.object_ang_vel_b] if self.has_object else []
        return np.concatenate(robot + extra, axis=1)

    # Changing
    def resampled(self, fps: float) -> InteractionClip:
        """Return the clip at another frame rate: linear for positions, slerp for rotations, nearest for contact."""
        if fps == self.fps:
            return self
        count = round(self.duration * fps) + 1
        at = np.minimum(np.arange(count) * self.fps / fps, self.num_frames - 1)
        low = np.minimum(at.astype(int), max(self.num_frames - 2, 0))
        high = np.minimum(low + 1, self.num_frames - 1)
        t = at - low

        def linear(x: np.ndarray) -> np.ndarray:
            return x[low] + t[:, None] * (x[high] - x[low])

        def turn(q: np.ndarray) -> np.ndarray:
            return rotation.slerp(q[low], q[high], t)

        scale = fps / self.fps
        edges = [min(round(p.end * scale), count) for p in self.phases[:-1]] + [count]
        starts = [0, *edges[:-1]]
        return dataclasses.replace(
            self,
            fps=float(fps),
            root_pos=linear(self.root_pos),
            root_quat=turn(self.root_quat),
            joint_pos=linear(self.joint_pos),
            object_pos=linear(self.object_pos),
            object_quat=turn(self.object_quat),
            contact=self.contact[np.minimum(np.round(at).astype(int), self.num_frames - 1)],
            phases=tuple(
                dataclasses.replace(p, start=s, end=e)
                for p, s, e in zip(self.phases, starts, edges)
            ),
        )

    # Validity
    def validate(self, where: str = 'clip') -> None:
        """Check shapes, names, finiteness and unit quaternions; raise :class:`UserError` naming the field.

        Whether the motion makes sense (floating feet, jumps, wrong units) is the business of ``humanx clip check``.
        """
        for name in ('root_pos', 'root_quat', 'joint_pos', 'object_pos', 'object_quat'):
            array = np.asarray(getattr(self, name))
            if array.dtype.kind not in 'fiu':
                raise UserError(f'{where}: {name} holds {array.dtype} values; expected numbers.')
            setattr(self, name, np.array(array, dtype=np.float64))
        self.contact_bodies = tuple(str(b) for b in self.contact_bodies)
        self.joint_names = tuple(str(n) for n in self.joint_names)
        self.phases = tuple(self.phases)
        if not (isinstance(self.fps, int | float) and MIN_FPS <= self.fps <= MAX_FPS):
            raise UserError(
                f'{where}: fps is {self.fps}; expected {MIN_FPS:g} to {MAX_FPS:g} frames per second.'
            )
        if self.joint_names != JOINT_NAMES:
            raise UserError(f'{where}: joint_names {_names_wrong(self.joint_names)}')
        frames = len(self.root_pos) if self.root_pos.ndim == 2 else 0
        if frames < 2:
            raise UserError(
                f'{where}: root_pos has shape {self.root_pos.shape}; expected (T, 3) with at least 2 frames.'
            )
        widths = {
            'root_pos': 3,
            'root_quat': 4,
            'joint_pos': NUM_JOINTS,
            'object_pos': 3,
            'object_quat': 4,
        }
        for name, width in widths.items():
            self._validate_array(name, (frames, width), where)
        contact = np.asarray(self.contact)
        expected = (frames, len(self.contact_bodies))
        if contact.shape != expected:
            raise UserError(
                f'{where}: contact has shape {contact.shape}; expected {expected} (frames, contact_bodies).'
            )
        if contact.dtype != bool:
            raise UserError(f'{where}: contact holds {contact.dtype} values; expected bool.')
        self.contact = contact
        self._validate_object(where)
        self._validate_phases(where)

    def _validate_array(self, name: str, shape: tuple[int, int], where: str) -> None:
        array = getattr(self, name)
        if array.shape != shape:
            raise UserError(f'{where}: {name} has shape {array.shape}; expected {shape}.')
        bad = ~np.isfinite(array).all(axis=1)
        if bad.any():
            raise UserError(
                f'{where}: {name} has {bad.sum()} frames with NaN or infinity, the first at frame {int(bad.argmax())}; '
                'expected finite numbers.'
            )
        if name.endswith('quat'):
            off = np.abs(np.linalg.norm(array, axis=1) - 1.0)
            if off.max() > 1e-2:
                raise UserError(
                    f'{where}: {name} has length {np.linalg.norm(array[off.argmax()]):.3f} at frame '
                    f'{int(off.argmax())}; expected unit quaternions (w, x, y, z).'
                )
            setattr(self, name, rotation.normalise(array))

    def _validate_object(self, where: str) -> None:
        if not isinstance(self.object_shape, dict):
            raise UserError(
                f'{where}: object_shape is not a mapping; expected the fields of an object.'
            )
        if self.has_object != bool(self.object_shape):
            raise UserError(
                f'{where}: object_name is {self.object_name!r} but object_shape is '
                f'{self.object_shape}; expected both or neither.'
            )
        if self.has_object:
            from_mapping(
                ObjectSpec,
                {**self.object_shape, 'name': self.object_name},
                f'{where}: object_shape',
            )

    def _validate_phases(self, where: str) -> None:
        if not self.phases:
            return
        edge = 0
        for index, phase in enumerate(self.phases):
            if phase.start != edge or phase.end <= phase.start or phase.end > self.num_frames:
                raise UserError(
                    f'{where}: phases[{index}] covers frames {phase.start} to {phase.end}; expected it to start at '
                    f'{edge}, to have a frame at least and to end by {self.num_frames}.'
                )
            edge = phase.end
        if edge != self.num_frames:
            raise UserError(
                f'{where}: phases end at frame {edge}; expected them to cover all {self.num_frames}.'
            )

    # Files
    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the clip as ``.npz`` (atomically: an earlier file stays whole until the new one is complete)."""
        path = Path(path)
        self.validate(str(path))
        if path.suffix != '.npz':
            raise UserError(
                f'{path}: has the suffix {path.suffix!r}; expected a file name that ends in .npz.'
            )
        arrays = {
            'format_version': np.array(FORMAT_VERSION),
            'fps': np.array(float(self.fps)),
            'joint_names': np.array(self.joint_names),
            'root_pos': self.root_pos,
            'root_quat': self.root_quat,
            'joint_pos': self.joint_pos,
            'object_name': np.array(self.object_name),
            'object_shape': np.array(json.dumps(self.object_shape)),
            'object_pos': self.object_pos,
            'object_quat': self.object_quat,
            'contact': self.contact,
            'contact_bodies': np.array(self.contact_bodies, dtype=np.str_),
            'phases': np.array(json.dumps([dataclasses.asdict(p) for p in self.phases])),
            'provenance': np.array(json.dumps(self.provenance)),
        }
        save_npz(path, arrays)
        return path

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> InteractionClip:
        """Read and validate a clip; raise :class:`UserError` in one sentence when the file is not one."""
        path = Path(path)
        data = load_npz(path)
        fields = [f.name for f in dataclasses.fields(cls)]
        missing = [name for name in ['format_version', *fields] if name not in data]
        if missing:
            raise UserError(
                f'{path}: field {missing[0]!r} is missing; expected an InteractionClip '
                '(humanx clip convert reads other formats).'
            )
        version = data['format_version']
        if version.shape != () or version.dtype.kind not in 'iu' or int(version) != FORMAT_VERSION:
            raise UserError(f'{path}: format_version is {version}; expected {FORMAT_VERSION}.')
        if data['fps'].size != 1 or data['fps'].dtype.kind not in 'fiu':
            raise UserError(f'{path}: fps has shape {data["fps"].shape}; expected one number.')
        phases = _json(data['phases'], path, 'phases', list)
        try:
            phase_tuple = tuple(Phase(**p) for p in phases)
            if any(not isinstance(e, int) for p in phase_tuple for e in (p.start, p.end)):
                raise ValueError('start and end must be whole frame numbers.')
        except (TypeError, ValueError) as error:
            raise UserError(
                f'{path}: phases do not hold kind, start, end, anchor ({error})'
            ) from None
        values: dict[str, Any] = {
            'fps': float(data['fps'].item()),
            'object_name': str(data['object_name']),
            'object_shape': _json(data['object_shape'], path, 'object_shape', dict),
            'phases': phase_tuple,
            'provenance': _json(data['provenance'], path, 'provenance', dict),
            'joint_names': tuple(np.atleast_1d(data['joint_names']).tolist()),
            'contact_bodies': tuple(np.atleast_1d(data['contact_bodies']).tolist()),
        }
        arrays: dict[str, Any] = {n: data[n] for n in fields if n not in values}
        try:
            return cls(**values, **arrays)
        except UserError as error:
            raise UserError(str(error).replace('clip:', f'{path}:', 1)) from None


def load_npz(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Return the arrays of an ``.npz``; pickled members, other files and broken files are :class:`UserError`."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f'{path}: does not exist or is not a file; expected an .npz file.')
    out: dict[str, np.ndarray] = {}
    try:
        data = np.load(path, allow_pickle=False)
        if not isinstance(data, np.lib.npyio.NpzFile):
            raise UserError(f'{path}: holds a single array; expected an .npz file with named arrays.')
        with data:
            for name in data.files:
                try:
                    out[name] = data[name]
                except ValueError as error:
                    if 'pickle' not in str(error).lower():
                        raise
                    raise UserError(
                        f'{path}: field {name!r} is pickled (an object array), which is never loaded; '
                        'expected plain arrays.'
                    ) from None
    except UserError:
        raise
    except Exception:  # a damaged file may make zipfile, zlib or the parser of NumPy's headers raise anything
        raise UserError(
            f'{path}: is not a readable .npz file; expected named arrays without pickles.'
        ) from None
    return out


def save_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write named arrays, replacing ``path`` only when the new file is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    try:
        with open(temporary, 'wb') as file:
            np.savez_compressed(file, **arrays)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _json(value: np.ndarray, path: Path, name: str, kind: type) -> Any:
    try:
        decoded = json.loads(str(value))
    except json.JSONDecodeError:
        raise UserError(f'{path}: {name} is not JSON; expected a JSON {kind.__name__}.') from None
    if not isinstance(decoded, kind):
        raise UserError(
            f'{path}: {name} is a JSON {type(decoded).__name__}; expected a {kind.__name__}.'
        )
    return decoded


def _names_wrong(names: tuple[str, ...]) -> str:
    if sorted(names) == sorted(JOINT_NAMES):
        index = next(i for i, (a, b) in enumerate(zip(names, JOINT_NAMES)) if a != b)
        return (
            f'are in another order: number {index} is {names[index]!r}; expected {JOINT_NAMES[index]!r} '
            '(Unitree motor order).'
        )
    unknown = [n for n in names if n not in JOINT_NAMES]
    missing = [n for n in JOINT_NAMES if n not in names]
    detail = (
        f'{unknown[0]!r} is unknown'
        if unknown
        else f'{missing[0]!r} is missing'
        if missing
        else 'some repeat'
    )
    return (
        f'hold {len(names)} names of which {detail}; expected the 29 joints in Unitree motor order.'
    )


def shape_of(spec: ObjectSpec) -> dict[str, Any]:
    """Return the JSON mapping of an object's fields that a clip keeps (all but its name and place)."""
    out = dataclasses.asdict(spec)
    for name in ('name', 'pos', 'quat', 'fixed'):
        out.pop(name)
    out['mesh'] = None if spec.mesh is None else str(spec.mesh)
    return json.loads(json.dumps(out))
