"""What the object of a clip should do, as a cost of rollouts that are searched and as a verdict on what was found.

Shortly before a touch and during it the bodies that touch should be where the clip has them relative to the object;
while it is held the object keeps to its path and height; when it has left, its velocity should be the clip's.
"""

from __future__ import annotations

import numpy as np

from humanx_description.judge import SuccessRule, upright
from humanx_training.clip import InteractionClip
from humanx_training.xmimic.mpc.touches import touches

_APPROACH = 12  # frames before a touch in which the bodies aim at the object
_PARTING = 3  # frames after a touch in which its velocity does not count yet
_LEAVING = 60  # frames after a touch in which the velocity counts
_MEASURED = 25  # frames after a touch when it is measured: bounces off the same body are over


class ObjectGoal:
    """The object's part of a clip at 100 Hz; ``bodies``: the clip's ``contact_bodies``, whose paths (T, B, 3) are
    ``body_pos``. ``speed`` scales the velocity with which the object should leave."""

    def __init__(self, clip: InteractionClip, body_pos: np.ndarray, speed: float = 1.0) -> None:
        """Read off the clip what is wanted in every frame."""
        self.touches = touches(clip)
        self.pos, self.vel, self._contact = clip.object_pos, clip.object_lin_vel.copy(), clip.contact
        self._apart = clip.object_pos[:, None] - body_pos
        frames = clip.num_frames
        self._aims = np.zeros((frames, body_pos.shape[1]), bool)
        self._held, self._leaves = np.zeros(frames, bool), np.zeros(frames, bool)
        for touch, following in zip(self.touches, [*self.touches[1:], None], strict=True):
            until = frames if following is None else following.start - _APPROACH
            self._aims[max(touch.start - _APPROACH, 0) : touch.end] |= clip.contact[touch.start : touch.end].any(0)
            self._held[touch.start : touch.end] |= touch.held
            if touch.free:
                # The clip's first frames after the touch still carry its jump of velocity.
                self.vel[touch.end : touch.end + 2] = self.vel[min(touch.end + 2, frames - 1)]
                self.vel[touch.end : until] *= speed
                self._leaves[touch.end + _PARTING : min(touch.end + _LEAVING, until)] = True

    def cost(
        self, frame: int, pos: np.ndarray, vel: np.ndarray, body_pos: np.ndarray, contact: np.ndarray
    ) -> np.ndarray:
        """Return the cost (N,) of objects at ``pos`` (N, 3) with ``vel`` (N, 3) and bodies (N, B, 3), which touch it
        where ``contact`` (N, B) says so, in a frame."""
        frame = min(frame, len(self.pos) - 1)
        cost = np.zeros(len(pos))
        aims = self._aims[frame]
        if aims.any():
            apart = pos[:, None] - body_pos[:, aims] - self._apart[frame, aims]
            cost += 0.5 * _miss(np.linalg.norm(apart, axis=-1).mean(-1), 0.15)
        if self._held[frame]:
            gap = pos - self.pos[frame]
            cost += _miss(np.linalg.norm(gap, axis=1), 0.15) + _miss(np.abs(gap[:, 2]), 0.1)
            cost += 0.5 * _miss(np.linalg.norm(vel - self.vel[frame], axis=1), 0.5)
            if self._contact[frame].any():
                cost += (~contact[:, self._contact[frame]]).mean(1)
        if self._leaves[frame]:
            cost += _miss(np.linalg.norm(vel - self.vel[frame], axis=1), 0.6)
        return cost

    def judge(
        self, rule: SuccessRule, qpos: np.ndarray, qvel: np.ndarray, touched: np.ndarray
    ) -> tuple[bool, dict[str, float]]:
        """Return whether a motion (T, 43), (T, 41) with ``touched`` (T,) has the outcome, and what was measured.

        Every object that should leave does so within the rule's angle of the wanted direction and above its least
        speed (or half of the wanted one, if that is less); every object that is carried rises to within the rule's
        tolerance of its height in the clip; the robot is upright at the end.
        """
        good = bool(upright(qpos[-1:, :3], qpos[-1:, 3:7])[0])
        measures: dict[str, float] = {}
        for touch in self.touches:
            window = touched[max(touch.start - 2 * _APPROACH, 0) : touch.end + 2 * _APPROACH]
            good &= bool(window.any())
            if touch.held:
                part = slice(touch.start, touch.end)
                wanted = float(self.pos[part, 2].max())
                top = float(qpos[part, 38][touched[part]].max(initial=0.0))
                measures |= {'height_m': round(top, 3), 'wanted_height_m': round(wanted, 3)}
                good &= abs(top - wanted) <= rule.tolerance
            if touch.free:
                at = min(touch.end + _MEASURED, len(qpos) - 1)
                got, wanted_vel = qvel[at, 35:38], self.vel[at]
                size, most = float(np.linalg.norm(got)), float(np.linalg.norm(wanted_vel))
                cosine = got @ wanted_vel / max(size * most, 1e-9)
                angle = float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
                measures |= {
                    'speed_m_s': round(size, 2), 'wanted_speed_m_s': round(most, 2), 'angle_deg': round(angle, 1)
                }
                good &= size >= min(rule.min_speed, 0.5 * most) and angle <= rule.max_angle_deg
        return good, measures


def _miss(error: np.ndarray, scale: float) -> np.ndarray:
    """Return a cost of an error: steep near zero, and still falling from far away."""
    return 1.0 - np.exp(-np.square(error / scale)) + 0.25 * np.minimum(error / scale, 8.0)
