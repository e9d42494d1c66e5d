"""Transforms of the G1's links as TF messages, made once and filled in place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import TransformStamped

from humanx_description.urdf import Frames


class FramePublisher:
    """Holds one TransformStamped per joint of the URDF; ``prefix`` goes in front of every link's name."""

    def __init__(self, frames: Frames, prefix: str = '') -> None:
        self._frames = frames
        self._moving = [_transform(prefix, links, pos) for links, pos in zip(frames.moving, frames.moving_pos)]
        self._fixed = [_transform(prefix, links, pos) for links, pos in zip(frames.fixed, frames.fixed_pos)]
        for transform, quat in zip(self._fixed, frames.fixed_quat):
            _set_quat(transform, quat)

    def moving(self, joint_pos: Sequence[float], stamp: Time) -> list[TransformStamped]:
        """Return the transforms at ``joint_pos`` (29, rad, motor order)."""
        for transform, quat in zip(self._moving, self._frames.quat(np.asarray(joint_pos))):
            transform.header.stamp = stamp
            _set_quat(transform, quat)
        return self._moving

    def fixed(self, stamp: Time) -> list[TransformStamped]:
        """Return the transforms that never change."""
        for transform in self._fixed:
            transform.header.stamp = stamp
        return list(self._fixed)


def _transform(prefix: str, links: tuple[str, str], pos: np.ndarray) -> TransformStamped:
    transform = TransformStamped()
    transform.header.frame_id, transform.child_frame_id = prefix + links[0], prefix + links[1]
    translation = transform.transform.translation
    translation.x, translation.y, translation.z = map(float, pos)
    return transform


def _set_quat(transform: TransformStamped, quat: np.ndarray) -> None:
    rotation = transform.transform.rotation
    rotation.w, rotation.x, rotation.y, rotation.z = map(float, quat)
