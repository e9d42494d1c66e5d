"""Other projects' clip files: the public HumanX release's HOI ``.npz`` (both ways) and the G1 ``.npz`` with an
object."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from humanx_description.errors import UserError
from humanx_description.robot import JOINT_NAMES
from humanx_training import rotation
from humanx_training.clip import InteractionClip, Phase, load_npz, save_npz
from humanx_training.xgen.check import sole_points
from humanx_training.xgen.interleave import from_interleaved, to_interleaved
from humanx_training.xgen.recipe import Recipe
from humanx_training.xgen.robot_motion import RobotMotion
from humanx_training.xgen.stage import CONTACT_DISTANCE, Stage
from humanx_training.xgen.surface import Surface

# A HOI file's `object_size` is one number: the edge of a cube, the diameter of a sphere.
_HOI_TYPES = ('box', 'sphere')
HOI_FIELDS = ('fps', 'base_pos_w', 'base_quat_w', 'joint_pos', 'object_pos_w', 'object_quat_w', 'object_size')
# Columns of `contact_info` (T, 4, 1).
_HOI_CONTACTS = ('left_ankle_roll_link', 'right_ankle_roll_link', 'left_wrist_yaw_link', 'right_wrist_yaw_link')
_FLOOR_TOLERANCE = 0.015  # m: soles that are further off the floor have theirs elsewhere
LABELLED = (
    'left_wrist_yaw_link', 'right_wrist_yaw_link', 'left_ankle_roll_link', 'right_ankle_roll_link', 'torso_link',
)  # fmt: skip


def import_hoi(path: Path) -> InteractionClip:
    """Read a HOI file: joints interleaved left and right, z up, quaternions w first.

    Contact labels are made anew from the geometry. The release's floor is where the soles are, not z = 0: the clip is
    moved there (``floor_shift`` in the provenance). Raises :class:`UserError` naming the field.
    """
    data = load_npz(path)
    _need(path, data, list(HOI_FIELDS))
    fps = _number(path, data, 'fps')
    frames = len(np.atleast_2d(data['base_pos_w']))
    joints = _array(path, data, 'joint_pos', (frames, 29))
    kind, size = _hoi_shape(path, data)
    root, root_quat = (_array(path, data, n, (frames, k)) for n, k in (('base_pos_w', 3), ('base_quat_w', 4)))
    place, turn = (_array(path, data, n, (frames, k)) for n, k in (('object_pos_w', 3), ('object_quat_w', 4)))
    clip = _labelled(
        path, fps, root, root_quat, from_interleaved(joints), 'ball' if kind == 'sphere' else 'object',
        {'shape': kind, 'size': size}, place, turn,
    )  # fmt: skip
    clip.phases = _hoi_phases(path, data, frames)
    lowest = sole_points(Stage(), clip.qpos()[:, :36])[0].min(axis=(1, 2))
    floor = float(np.percentile(lowest, 10))
    if abs(floor) > _FLOOR_TOLERANCE:
        clip.root_pos = clip.root_pos - [0.0, 0.0, floor]
        clip.object_pos = clip.object_pos - [0.0, 0.0, floor]
        clip.provenance['floor_shift'] = -floor
    return clip


def _hoi_shape(path: Path, data: dict[str, np.ndarray]) -> tuple[str, list[float]]:
    """Return shape and size as an :class:`ObjectSpec` counts it: radius, or three edges."""
    kind = _word(data, 'object_type', 'box')
    if kind not in _HOI_TYPES:
        raise UserError(f'{path}: object_type is {kind!r}; expected one of {", ".join(_HOI_TYPES)}.')
    size = np.asarray(data['object_size']).ravel()
    if size.dtype.kind not in 'fiu' or size.size not in ((1,) if kind == 'sphere' else (1, 3)):
        raise UserError(
            f'{path}: object_size has {size.size} entries of {size.dtype}; expected one number, the edge of a box or '
            'the diameter of a sphere.'
        )
    if kind == 'sphere':
        return kind, [0.5 * float(size[0])]
    return kind, [float(s) for s in (np.repeat(size, 3) if size.size == 1 else size)]


def _hoi_phases(path: Path, data: dict[str, np.ndarray], frames: int) -> tuple[Phase, ...]:
    """Return the phases that the release's editor notes: before, in and after its one contact between the palms."""
    if 'object_contact_start_frame' not in data or 'object_release_frame' not in data:
        return ()
    start, last = (round(_number(path, data, f'object_{n}_frame')) for n in ('contact_start', 'release'))
    if not 0 <= start <= last < frames:
        return ()

    def free(name: str) -> str:
        return 'flight' if _word(data, f'object_{name}_contact_mode', 'hold') == 'parabolic' else 'rest'

    parts = ((free('pre'), 0, start), ('contact', start, last + 1), (free('post'), last + 1, frames))
    return tuple(Phase(k, a, b, 'palms' if k == 'contact' else '') for k, a, b in parts if b > a)


def export_hoi(clip: InteractionClip, path: Path) -> None:
    """Write a clip as a HOI file; raises :class:`UserError` for an object that the format lacks.

    A box that is no cube is written with three edges, of which the release's editor reads the first.
    """
    if not clip.has_object or clip.object_shape['shape'] not in _HOI_TYPES:
        what = clip.object_shape.get('shape', 'no object')
        raise UserError(f'{path}: the clip has {what}; a HOI file holds one of {", ".join(_HOI_TYPES)}.')
    size = np.array(clip.object_shape['size'], dtype=float)
    if clip.object_shape['shape'] == 'sphere':
        size = 2.0 * size
    elif np.ptp(size) < 1e-6:
        size = size[:1]
    contact = np.zeros((clip.num_frames, len(_HOI_CONTACTS), 1), dtype=np.float32)
    for column, body in enumerate(_HOI_CONTACTS):
        if body in clip.contact_bodies:
            contact[:, column, 0] = clip.contact[:, clip.contact_bodies.index(body)]
    save_npz(Path(path), {
        'fps': np.array([clip.fps]),
        'base_pos_w': clip.root_pos,
        'base_quat_w': clip.root_quat,
        'joint_pos': to_interleaved(clip.joint_pos),
        'joint_vel': to_interleaved(clip.joint_vel),
        'object_pos_w': clip.object_pos,
        'object_quat_w': clip.object_quat,
        'object_lin_vel_w': clip.object_lin_vel,
        'object_ang_vel_w': rotation.rotate(clip.object_quat, clip.object_ang_vel_b),
        'object_size': size,
        'object_type': np.array([clip.object_shape['shape']]),
        'contact_info': contact,
    })  # fmt: skip


def read_g1_npz(path: Path) -> RobotMotion:
    """Read a G1 motion whose ``joint_pos`` (T, 36) begins with the root; its object is kept as ``captured``."""
    from humanx_training.xgen.human_motion import CapturedObject

    data = load_npz(path)
    _need(path, data, ['fps', 'joint_pos', 'joint_names'])
    frames = len(np.atleast_2d(data['joint_pos']))
    table = _array(path, data, 'joint_pos', (frames, 36))
    names = tuple(str(n) for n in data['joint_names'])
    if sorted(names) != sorted(JOINT_NAMES):
        raise UserError(f'{path}: joint_names are {len(names)} other names; expected the 29 joints of the G1.')
    captured = None
    if 'object_pos_w' in data:
        pos = _array(path, data, 'object_pos_w', (frames, 3))
        quat = rotation.normalise(_array(path, data, 'object_quat_w', (frames, 4)))
        captured = CapturedObject('object', pos, quat, np.zeros(frames, dtype=bool))
    try:
        return RobotMotion(
            fps=_number(path, data, 'fps'),
            root_pos=table[:, :3],
            root_quat=rotation.normalise(table[:, 3:7]),
            joint_pos=table[:, 7:][:, [names.index(n) for n in JOINT_NAMES]],
            foot_contact=np.zeros((frames, 2), dtype=bool),
            captured=captured,
            provenance={'source': path.name},
        )
    except ValueError as error:
        raise UserError(f'{path}: {error}.') from None


def import_g1_npz(path: Path, shape: dict) -> InteractionClip:
    """Read a G1 motion with its captured object, whose shape the file does not hold, as a clip."""
    motion = read_g1_npz(path)
    if motion.captured is None:
        raise UserError(f"{path}: field 'object_pos_w' is missing; expected an object's path.")
    return _labelled(
        path, motion.fps, motion.root_pos, motion.root_quat, motion.joint_pos, 'object', shape, motion.captured.pos,
        motion.captured.quat,
    )  # fmt: skip


def export_g1_npz(clip: InteractionClip, path: Path) -> None:
    """Write the root, joints and object of a clip in the layout of the G1 ``.npz`` (bodies are left out)."""
    save_npz(Path(path), {
        'fps': np.array([clip.fps]),
        'joint_pos': np.concatenate([clip.root_pos, clip.root_quat, clip.joint_pos], axis=1),
        'joint_vel': np.concatenate(
            [clip.root_lin_vel, rotation.rotate(clip.root_quat, clip.root_ang_vel_b), clip.joint_vel], axis=1
        ),
        'joint_names': np.array(JOINT_NAMES),
        'object_pos_w': clip.object_pos,
        'object_quat_w': clip.object_quat,
        'object_lin_vel_w': clip.object_lin_vel,
        'object_ang_vel_w': rotation.rotate(clip.object_quat, clip.object_ang_vel_b),
    })  # fmt: skip


def convert(source: Path, target: Path, to: str, shape: dict | None = None) -> None:
    """Convert a file: ``to`` is ``clip``, ``hoi`` or ``g1``; the source's format is recognised by its fields."""
    fields = set(load_npz(source))
    if 'object_shape' in fields:
        clip = InteractionClip.load(source)
    elif 'base_pos_w' in fields:
        clip = import_hoi(source)
    elif 'object_pos_w' in fields and 'joint_pos' in fields:
        if shape is None:
            raise UserError(
                f'{source}: does not say how large its object is; expected --object, such as box:0.3,0.3,0.3.'
            )
        clip = import_g1_npz(source, shape)
    else:
        raise UserError(
            f'{source}: is no known clip format; expected a clip, a HOI file or a G1 npz with object_pos_w.'
        )
    if to == 'clip':
        clip.save(target)
    elif to == 'hoi':
        export_hoi(clip, target)
    else:
        export_g1_npz(clip, target)


def grounded_motion(motion: RobotMotion, recipe: Recipe) -> RobotMotion:
    """Return a foreign robot motion cut to the recipe, with planted feet made flat and still, and stances held.

    Raises :class:`UserError` for an interval outside the motion.
    """
    from humanx_training.xgen.planting import plant

    source = recipe.sources[0]
    start = round(source.start * motion.fps)
    stop = motion.num_frames if source.end is None else round(source.end * motion.fps) + 1
    if not 0 <= start < stop <= motion.num_frames:
        raise UserError(
            f'{source.file}: lasts {motion.duration:.2f} s; expected the source interval {source.start} to '
            f'{source.end} s '
            'inside it.'
        )
    return plant(motion, start, stop, recipe.stance)


def _labelled(
    path: Path, fps: float, root_pos: np.ndarray, root_quat: np.ndarray, joint_pos: np.ndarray, name: str, shape: dict,
    object_pos: np.ndarray, object_quat: np.ndarray,
) -> InteractionClip:  # fmt: skip
    try:
        clip = InteractionClip(
            fps, root_pos, root_quat, joint_pos, name, shape, object_pos, object_quat,
            np.zeros((len(root_pos), len(LABELLED)), dtype=bool), LABELLED,
            provenance={'imported_from': Path(path).name},
        )  # fmt: skip
        surface = Surface.of(clip.object_spec())
    except UserError as error:
        raise UserError(str(error).replace('clip:', f'{path}:', 1)) from None
    clip.contact = Stage().contact_graph(clip.qpos()[:, :36], surface, clip.object_pos, clip.object_quat, LABELLED)
    clip.provenance['contact_distance'] = CONTACT_DISTANCE
    return clip


def parse_shape(text: str) -> dict:
    """Return an object's fields from ``sphere:0.12``, ``box:0.3,0.4,0.2``, ``cylinder:0.05,0.2`` or a JSON mapping."""
    if text.strip().startswith('{'):
        try:
            return dict(json.loads(text))
        except (ValueError, TypeError):
            raise UserError(f'--object is {text!r}; expected a JSON mapping.') from None
    kind, _, numbers = text.partition(':')
    try:
        size = [float(n) for n in numbers.split(',')]
    except ValueError:
        raise UserError(f'--object is {text!r}; expected for example box:0.3,0.4,0.2 (metres).') from None
    return {'shape': kind, 'size': size}


def _need(path: Path, data: dict[str, np.ndarray], names: list[str]) -> None:
    for name in names:
        if name not in data:
            raise UserError(f'{path}: field {name!r} is missing; expected {", ".join(names)}.')


def _number(path: Path, data: dict[str, np.ndarray], name: str) -> float:
    value = np.asarray(data[name])
    if value.size != 1 or value.dtype.kind not in 'fiu':
        raise UserError(f'{path}: {name} has shape {value.shape}; expected one number.')
    return float(value.ravel()[0])


def _word(data: dict[str, np.ndarray], name: str, default: str) -> str:
    values = np.asarray(data.get(name, default)).ravel()
    return str(values[0]).lower() if values.size else default


def _array(path: Path, data: dict[str, np.ndarray], name: str, shape: tuple[int, int]) -> np.ndarray:
    value = np.asarray(data[name])
    if value.shape != shape or value.dtype.kind not in 'fiu':
        raise UserError(f'{path}: {name} has shape {value.shape} of {value.dtype}; expected numbers of {shape}.')
    return value.astype(float)
