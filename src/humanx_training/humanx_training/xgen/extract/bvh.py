"""BVH motion capture files: any skeleton with recognisable hands, feet and head; metres, centimetres, inches or mm."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from humanx_description.errors import UserError
from humanx_training.xgen import rotations as rot
from humanx_training.xgen.extract.ground import put_on_floor
from humanx_training.xgen.extract.smpl_skeleton import Y_UP_TO_Z_UP
from humanx_training.xgen.human_motion import JOINT, NUM_JOINTS, HumanMotion

# A grown person's leg (hip to ankle) is 0.55 to 1.1 m; in each unit these ranges do not overlap. `cmu` is the unit of
# the widespread conversions of the CMU library (1 / 0.45 inch).
LEG_RANGE = (0.55, 1.1)
UNITS = {'m': 1.0, 'cm': 0.01, 'mm': 0.001, 'inch': 0.0254, 'cmu': 0.0254 / 0.45}


@dataclass
class _Joint:
    name: str
    parent: int
    offset: np.ndarray = field(default_factory=lambda: np.zeros(3))
    channels: list[str] = field(default_factory=list)


def extract_bvh(path: Path, unit: str | None = None) -> HumanMotion:
    """Read a BVH file; ``unit`` overrides the detected length unit (one of m, cm, mm, inch, cmu)."""
    if unit is not None and unit not in UNITS:
        raise UserError(f'unit is {unit!r}; expected one of {", ".join(UNITS)}.')
    joints, values, fps = parse(Path(path))
    pos = _forward(joints, values)
    names = _match(Path(path), joints)
    scale, unit = _scale(Path(path), pos, names, unit)
    body = np.stack([pos[:, names[name]] for name in _NEEDED], axis=1) * scale
    body = _upright(Path(path), dict(zip(_NEEDED, np.swapaxes(body, 0, 1))))
    out = np.empty((len(values), NUM_JOINTS, 3))
    for name, index in JOINT.items():
        out[:, index] = body[name]
    quat = np.zeros((len(values), NUM_JOINTS, 4))
    quat[..., 0] = 1.0
    try:
        motion = HumanMotion(
            fps=fps,
            pos=out,
            quat=quat,
            has_quat=np.zeros(NUM_JOINTS, dtype=bool),  # a BVH does not say what its rest pose looks like
            confidence=np.ones((len(values), NUM_JOINTS)),
            provenance={'source': Path(path).name, 'format': 'bvh', 'unit': unit},
        )
    except ValueError as error:
        raise UserError(f'{path}: {error}.') from None
    return put_on_floor(motion)


def parse(path: Path) -> tuple[list[_Joint], np.ndarray, float]:
    """Return the joints, the channel values (T, C) and the frame rate of a BVH file."""
    if not path.is_file():
        raise UserError(f'{path}: does not exist; expected a BVH file.')
    try:
        text = path.read_text(encoding='utf-8')
    except UnicodeDecodeError:
        raise UserError(f'{path}: is not text; expected a BVH file.') from None
    head, found, tail = text.partition('MOTION')
    if not head.lstrip().startswith('HIERARCHY') or not found:
        raise UserError(f'{path}: has no HIERARCHY and MOTION sections; expected a BVH file.')
    joints = _hierarchy(path, head)
    count = re.search(r'Frames:\s*(\d+)', tail)
    time = re.search(r'Frame Time:\s*([-+.\deE]+)', tail)
    if not count or not time:
        raise UserError(f"{path}: 'Frames:' or 'Frame Time:' is missing after MOTION; expected both.")
    try:
        step = float(time.group(1))
        numbers = np.array(tail[time.end() :].split(), dtype=np.float64)
    except ValueError:
        raise UserError(f'{path}: the MOTION section holds something that is no number.') from None
    if not np.isfinite(step) or not 1 / 500 <= step <= 1 / 5:
        raise UserError(f"{path}: 'Frame Time' is {step:g} s; expected 0.002 to 0.2 s.")
    width, frames = sum(len(j.channels) for j in joints), int(count.group(1))
    if len(numbers) != width * frames:
        raise UserError(
            f'{path}: the MOTION section holds {len(numbers)} numbers; expected {frames} frames of {width} channels.'
        )
    if frames < 2:
        raise UserError(f"{path}: 'Frames' is {frames}; expected at least 2.")
    values = numbers.reshape(frames, width)
    if not np.isfinite(values).all():
        frame = int(np.argwhere(~np.isfinite(values))[0][0])
        raise UserError(f'{path}: frame {frame} is not finite; expected numbers.')
    return joints, values, 1 / step


def _hierarchy(path: Path, text: str) -> list[_Joint]:
    tokens = text.replace('{', ' { ').replace('}', ' } ').split()
    joints: list[_Joint] = []
    stack: list[int] = []
    pending: _Joint | None = None
    i = 1
    try:
        while i < len(tokens):
            token = tokens[i]
            if token in ('ROOT', 'JOINT'):
                if token == 'ROOT' and joints:
                    raise UserError(f'{path}: holds a second ROOT {tokens[i + 1]!r}; expected one person.')
                pending = _Joint(tokens[i + 1], stack[-1] if stack else -1)
                i += 2
            elif token == 'End':
                pending = _Joint(f'{joints[stack[-1]].name}_end', stack[-1])
                i += 2
            elif token == '{':
                if pending is None:
                    raise ValueError
                joints.append(pending)
                stack.append(len(joints) - 1)
                pending = None
                i += 1
            elif token == '}':
                stack.pop()
                i += 1
            elif token == 'OFFSET':
                joints[stack[-1]].offset = np.array(tokens[i + 1 : i + 4], dtype=np.float64)
                i += 4
            elif token == 'CHANNELS':
                number = int(tokens[i + 1])
                joints[stack[-1]].channels = [c.lower() for c in tokens[i + 2 : i + 2 + number]]
                i += 2 + number
            else:
                raise ValueError
    except (ValueError, IndexError):
        raise UserError(f'{path}: the HIERARCHY section is malformed near {" ".join(tokens[i : i + 3])!r}.') from None
    kinds = {f'{a}{kind}' for a in 'xyz' for kind in ('position', 'rotation')}
    for joint in joints:
        wrong = [c for c in joint.channels if c not in kinds]
        if wrong:
            raise UserError(
                f'{path}: joint {joint.name!r} has a channel {wrong[0]!r}; expected one of {sorted(kinds)}.'
            )
    if not joints or stack:
        raise UserError(f'{path}: the HIERARCHY section ends too early; expected closed braces.')
    return joints


def _forward(joints: list[_Joint], values: np.ndarray) -> np.ndarray:
    """Return the joints' positions (T, J, 3) in the file's units."""
    frames = len(values)
    pos = np.empty((frames, len(joints), 3))
    mats = np.empty((frames, len(joints), 3, 3))
    column = 0
    for index, joint in enumerate(joints):
        move = np.tile(joint.offset, (frames, 1))
        local = np.tile(np.eye(3), (frames, 1, 1))
        placed = False
        for channel in joint.channels:
            axis = 'xyz'.index(channel[0])
            if channel.endswith('position'):
                if not placed:
                    move, placed = np.zeros((frames, 3)), True
                move[:, axis] += values[:, column]
            else:
                local = local @ rot.exp(np.deg2rad(values[:, column, None]) * np.eye(3)[axis])
            column += 1
        if joint.parent < 0:
            pos[:, index], mats[:, index] = move, local
        else:
            pos[:, index] = pos[:, joint.parent] + np.einsum('tij,tj->ti', mats[:, joint.parent], move)
            mats[:, index] = mats[:, joint.parent] @ local
    return pos


_NEEDED = tuple(JOINT)


def _match(path: Path, joints: list[_Joint]) -> dict[str, int]:
    """Return the index of each of our joints: hands, feet and head by name, what lies between by the tree."""
    plain = [re.sub(r'[^a-z0-9]', '', j.name.split(':')[-1].lower()) for j in joints]
    out: dict[str, int] = {'pelvis': 0}

    def find(what: str, patterns: tuple[str, ...]) -> int:
        for pattern in patterns:
            for index, name in enumerate(plain):
                if re.fullmatch(pattern, name):
                    return index
        raise UserError(
            f'{path}: no joint is recognisable as {what}; expected names like Hips, LeftFoot, LeftHand, Neck, Head.'
        )

    def child(index: int) -> int:
        below = [i for i, j in enumerate(joints) if j.parent == index]
        return max(below, key=lambda i: np.linalg.norm(joints[i].offset)) if below else index

    def up(index: int) -> int:
        """Return the nearest joint above that is at another place (some files put twist joints in between)."""
        while joints[index].parent > 0 and np.linalg.norm(joints[index].offset) < 1e-9:
            index = joints[index].parent
        return joints[index].parent

    for side, short in (('left', 'l'), ('right', 'r')):
        ankle = find(f'the {side} ankle', (f'(.*{side}|{short})(foot|ankle)', f'(foot|ankle)({side}|{short})'))
        wrist = find(
            f'the {side} wrist',
            (f'(.*{side}|{short})(wrist)', f'(.*{side}|{short})(hand)', f'(wrist|hand)({side}|{short})'),
        )
        knee, elbow = up(ankle), up(wrist)
        hip, shoulder = up(knee), up(elbow)
        if min(knee, elbow, hip, shoulder) < 0:
            raise UserError(
                f'{path}: the {side} limbs are too short a chain; expected hip-knee-ankle and shoulder-elbow-wrist.'
            )
        out |= {f'{side}_hip': hip, f'{side}_knee': knee, f'{side}_ankle': ankle, f'{side}_foot': child(ankle)}
        out |= {
            f'{side}_shoulder': shoulder,
            f'{side}_elbow': elbow,
            f'{side}_wrist': wrist,
            f'{side}_hand': child(wrist),
        }
        out[f'{side}_collar'] = up(shoulder)
    out['neck'] = find('the neck', ('neck', 'neck1?', '.*neck'))
    out['head'] = find('the head', ('head', '.*head'))
    spine: list[int] = []
    index = joints[out['neck']].parent
    while index > 0:
        spine.insert(0, index)
        index = joints[index].parent
    spine = spine or [0]
    out |= {'spine1': spine[0], 'spine2': spine[len(spine) // 2], 'spine3': spine[-1]}
    return out


def _scale(path: Path, pos: np.ndarray, names: dict[str, int], unit: str | None) -> tuple[float, str]:
    """Return metres per unit of the file, from the length of the legs."""
    legs = [
        np.median(np.linalg.norm(pos[:, names[f'{s}_{a}']] - pos[:, names[f'{s}_{b}']], axis=1))
        for s in ('left', 'right')
        for a, b in (('hip', 'knee'), ('knee', 'ankle'))
    ]
    leg = float(sum(legs) / 2)
    low, high = LEG_RANGE
    if unit is None:
        fitting = [u for u, metres in UNITS.items() if low <= leg * metres <= high]
        if not fitting:
            raise UserError(
                f'{path}: a leg measures {leg:.3g} units; expected {low:g} to {high:g} m in metres, centimetres, '
                'millimetres or inches (or give --unit).'
            )
        unit = fitting[0]
    elif not 0.3 <= leg * UNITS[unit] <= 2.0:
        raise UserError(f'{path}: a leg measures {leg * UNITS[unit]:.3g} m in {unit}; expected {low:g} to {high:g} m.')
    return UNITS[unit], unit


def _upright(path: Path, body: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Turn the world so that z is up: the axis along which the head is above the ankles."""
    line = np.median(body['head'] - 0.5 * (body['left_ankle'] + body['right_ankle']), axis=0)
    line /= np.linalg.norm(line)
    axis = int(np.argmax(np.abs(line)))
    if axis == 0 or line[axis] < 0.7:
        raise UserError(f'{path}: the person is upright along no axis; expected y up or z up and mostly standing.')
    if axis == 2:
        return body
    return {name: path_ @ Y_UP_TO_Z_UP.T for name, path_ in body.items()}
