"""What a set of augmented clips says about how the ball comes: the part of a strike that the body does not show.

The first clip is the original. Every other clip's ball is seen relative to the original's, so that it can be played to
a robot whose kick meets the original's ball, wherever that robot stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from humanx_description.errors import UserError
from humanx_training.clip import InteractionClip


@dataclass(frozen=True)
class Arrivals:
    """K arrivals: ``distance`` (K,) m from where the ball is set free to where it is struck, ``azimuth`` (K,) rad of
    that start about the place of contact, from the original's, counterclockwise; ``speed`` (K,) m/s at the start;
    ``offset`` (K,) m of the path to the left of the original's at contact."""

    distance: np.ndarray
    azimuth: np.ndarray
    speed: np.ndarray
    offset: np.ndarray

    def __len__(self) -> int:
        return len(self.speed)

    def save(self, path: Path) -> None:
        """Write an ``.npz``."""
        np.savez(path, distance=self.distance, azimuth=self.azimuth, speed=self.speed, offset=self.offset)

    @classmethod
    def load(cls, path: Path) -> Arrivals:
        """Read what :meth:`save` wrote."""
        with np.load(path) as data:
            return cls(*(data[name].astype(float) for name in ('distance', 'azimuth', 'speed', 'offset')))


def strike_frame(clip: InteractionClip, path: Path) -> int:
    """Return the frame in which the object is first struck, or raise :class:`UserError`."""
    strikes = [phase.start for phase in clip.phases if phase.kind == 'contact']
    if not strikes:
        raise UserError(f'{path}: phases hold no contact; expected a clip in which the object is struck.')
    return strikes[0]


def arrivals_of(clips: Sequence[tuple[Path, InteractionClip]]) -> Arrivals:
    """Return the arrivals of clips with their files, the original first."""
    rows = []
    for path, clip in clips:
        strike = strike_frame(clip, path)
        moving = np.linalg.norm(np.diff(clip.object_pos[:strike, :2], axis=0), axis=1) * clip.fps
        first = int(np.argmax(moving > 0.05))
        if moving[first] <= 0.05:
            raise UserError(f'{path}: object_pos does not move before the strike; expected a ball that comes.')
        start, contact = clip.object_pos[first, :2], clip.object_pos[strike, :2]
        away = start - contact
        rows.append([np.hypot(*away), np.arctan2(away[1], away[0]), moving[first : first + 5].max(), *contact])
    table = np.array(rows)
    distance, direction, speed, contact = table[:, 0], table[:, 1], table[:, 2], table[:, 3:]
    left = np.array([-np.sin(direction[0]), np.cos(direction[0])])
    azimuth = (direction - direction[0] + np.pi) % (2 * np.pi) - np.pi
    return Arrivals(distance, azimuth, speed, (contact - contact[0]) @ left)
