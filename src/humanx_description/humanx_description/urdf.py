"""The G1's URDF for RViz: text with meshes that every program finds, and its joints as arrays for TF."""

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from humanx_description import robot
from humanx_description.assets import g1_urdf
from humanx_description.errors import UserError


def robot_description(path: Path | None = None) -> str:
    """Return the URDF's text with every mesh as a ``file://`` address of an existing file.

    A ``package://`` address only resolves where that package is installed through ROS, which the pip package is not.
    """
    path = g1_urdf() if path is None else path

    def resolve(match: re.Match) -> str:
        mesh = _mesh_path(path, match.group(1))
        if not mesh.is_file():
            raise UserError(f'{path}: mesh {match.group(1)} was not found at {mesh}; expected the file.')
        return f'filename="{mesh.as_uri()}"'

    return re.sub(r'filename="([^"]+)"', resolve, _read(path))


def _mesh_path(urdf: Path, address: str) -> Path:
    if address.startswith('file://'):
        return Path(address.removeprefix('file://'))
    if not address.startswith('package://'):
        return urdf.parent / address
    package, _, rest = address.removeprefix('package://').partition('/')
    for folder in urdf.resolve().parents:
        if folder.name == package:
            return folder / rest
    return urdf.parent / rest


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'{path}: cannot be read ({error}); expected a URDF file.') from None


@dataclass(frozen=True)
class Frames:
    """The transforms of the URDF's joints, from parent link to child link.

    ``moving`` and ``fixed`` hold ``(parent, child)`` link names; ``moving`` is in the motor order. ``moving_pos``
    (29, 3) m and ``moving_quat`` (29, 4) w first are the transforms at angle zero, ``axis`` (29, 3) the joint
    axes in the child frame; ``fixed_pos`` (F, 3), ``fixed_quat`` (F, 4).
    """

    moving: tuple[tuple[str, str], ...]
    moving_pos: np.ndarray
    moving_quat: np.ndarray
    axis: np.ndarray
    fixed: tuple[tuple[str, str], ...]
    fixed_pos: np.ndarray
    fixed_quat: np.ndarray

    def quat(self, joint_pos: np.ndarray) -> np.ndarray:
        """Return the rotations (29, 4), w first, of the moving joints' child links at ``joint_pos`` (29,) rad."""
        half = 0.5 * np.asarray(joint_pos, dtype=np.float64)
        turn = np.concatenate([np.cos(half)[:, None], np.sin(half)[:, None] * self.axis], axis=1)
        return _multiply(self.moving_quat, turn)


def frames(path: Path | None = None) -> Frames:
    """Read the joints of the URDF; raises :class:`UserError` where one of the 29 is missing."""
    path = g1_urdf() if path is None else path
    try:
        root = ElementTree.fromstring(_read(path))
    except ElementTree.ParseError as error:
        raise UserError(f'{path}: is not XML ({error}); expected a URDF file.') from None
    joints = {joint.get('name'): joint for joint in root.findall('joint')}
    missing = [name for name in robot.JOINT_NAMES if name not in joints]
    if missing:
        raise UserError(f'{path}: has no joint {missing[0]}; expected the 29 joints of the G1.')
    moving = [joints[name] for name in robot.JOINT_NAMES]
    fixed = [joint for joint in joints.values() if joint.get('type') == 'fixed']
    axis = np.array([_numbers(joint, 'axis', 'xyz') for joint in moving])
    return Frames(
        moving=tuple(map(_links, moving)),
        moving_pos=np.array([_numbers(joint, 'origin', 'xyz') for joint in moving]),
        moving_quat=np.array([_from_rpy(_numbers(joint, 'origin', 'rpy')) for joint in moving]),
        axis=axis / np.linalg.norm(axis, axis=1, keepdims=True),
        fixed=tuple(map(_links, fixed)),
        fixed_pos=np.array([_numbers(joint, 'origin', 'xyz') for joint in fixed]).reshape(-1, 3),
        fixed_quat=np.array([_from_rpy(_numbers(joint, 'origin', 'rpy')) for joint in fixed]).reshape(-1, 4),
    )


def _links(joint: ElementTree.Element) -> tuple[str, str]:
    parent, child = joint.find('parent'), joint.find('child')
    if parent is None or child is None:
        raise UserError(f'joint {joint.get("name")} of the URDF: has no parent or child; expected both.')
    return parent.get('link', ''), child.get('link', '')


def _numbers(joint: ElementTree.Element, tag: str, attribute: str) -> list[float]:
    element = joint.find(tag)
    text = element.get(attribute) if element is not None else None
    if text is None:
        return [1.0, 0.0, 0.0] if tag == 'axis' else [0.0, 0.0, 0.0]  # the URDF format's defaults
    return [float(word) for word in text.split()]


def _from_rpy(rpy: list[float]) -> np.ndarray:
    """Return the quaternion (4,), w first, of fixed-axis roll, pitch, yaw in rad."""
    quat = np.array([1.0, 0.0, 0.0, 0.0])
    for index, angle in enumerate(rpy):
        turn = np.zeros(4)
        turn[0], turn[1 + index] = np.cos(angle / 2), np.sin(angle / 2)
        quat = _multiply(turn, quat)
    return quat


def _multiply(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the Hamilton product of quaternions (..., 4), w first."""
    aw, ax, ay, az = np.moveaxis(a, -1, 0)
    bw, bx, by, bz = np.moveaxis(b, -1, 0)
    return np.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        axis=-1,
    )
