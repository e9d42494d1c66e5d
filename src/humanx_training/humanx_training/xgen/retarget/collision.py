"""Distances between the robot's own collision shapes (spheres, capsules) over all frames; what keeps them apart."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from humanx_description.robot import FOOT_BODIES
from humanx_training.xgen import rotations as rot
from humanx_training.xgen.retarget.banded import NormalEquations
from humanx_training.xgen.retarget.kinematics import Kinematics


@dataclass(frozen=True)
class Capsule:
    """A sphere-swept segment fixed to a body (m)."""

    name: str
    body: int
    start: np.ndarray
    end: np.ndarray
    radius: float


def capsules(model: mujoco.MjModel) -> list[Capsule]:
    """Return the model's spheres and capsules as capsules."""
    out = []
    for i in range(model.ngeom):
        kind = model.geom_type[i]
        if kind not in (mujoco.mjtGeom.mjGEOM_SPHERE, mujoco.mjtGeom.mjGEOM_CAPSULE):
            continue
        half = model.geom_size[i, 1] if kind == mujoco.mjtGeom.mjGEOM_CAPSULE else 0.0
        axis = rot.quat_to_mat(model.geom_quat[i])[:, 2] * half
        pos = model.geom_pos[i]
        out.append(
            Capsule(model.geom(i).name, int(model.geom_bodyid[i]), pos - axis, pos + axis, float(model.geom_size[i, 0]))
        )
    return out


class SelfCollision:
    """All pairs of shapes that MuJoCo would test, less those of one foot's inner capsules."""

    def __init__(self, kin: Kinematics) -> None:
        self._kin = kin
        model = kin.model
        # The foot's five long capsules overlap; the outer two, the middle and the front pair say the same.
        shapes = [c for c in capsules(model) if not c.name.endswith(('foot3_collision', 'foot5_collision'))]
        banned = {(min(a, b), max(a, b)) for a, b in ((int(s) >> 16, int(s) & 0xFFFF) for s in model.exclude_signature)}
        pairs = []
        for i, a in enumerate(shapes):
            for j in range(i + 1, len(shapes)):
                b = shapes[j]
                low, high = min(a.body, b.body), max(a.body, b.body)
                weld_low, weld_high = model.body_weldid[low], model.body_weldid[high]
                parent = model.body_weldid[model.body_parentid[weld_high]]
                if low == high or (low, high) in banned or parent == weld_low:
                    continue
                pairs.append((i, j))
        self.shapes = shapes
        self.first = np.array([p[0] for p in pairs])
        self.second = np.array([p[1] for p in pairs])
        self.body = np.array([c.body for c in shapes])
        self._start = np.stack([c.start for c in shapes])
        self._end = np.stack([c.end for c in shapes])
        self.radius = np.array([c.radius for c in shapes])
        self._reach = np.linalg.norm(self._end - self._start, axis=1) / 2 + self.radius

    def distances(self, margin: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return the pairs nearer than ``margin`` (m): frame (K,), pair (K,), distance (K,), axis points (K, 3).

        The kinematics must be up to date. Negative distances are penetrations.
        """
        kin = self._kin
        mats, pos = kin.mat[:, self.body], kin.pos[:, self.body]
        start = pos + np.einsum('tcij,cj->tci', mats, self._start)
        end = pos + np.einsum('tcij,cj->tci', mats, self._end)
        centre = 0.5 * (start + end)
        gap = np.linalg.norm(centre[:, self.first] - centre[:, self.second], axis=2)
        near = gap < self._reach[self.first] + self._reach[self.second] + margin
        frame, pair = np.nonzero(near)
        a, b = self.first[pair], self.second[pair]
        p, q = _closest(start[frame, a], end[frame, a], start[frame, b], end[frame, b])
        distance = np.linalg.norm(p - q, axis=1) - self.radius[a] - self.radius[b]
        keep = distance < margin
        return frame[keep], pair[keep], distance[keep], p[keep], q[keep]

    def keep_off_floor(self, eq: NormalEquations, planted: np.ndarray, clearance: float, weight: float) -> None:
        """Add residuals that lift every shape above ``clearance`` (m), but the feet where they stand, (T, 2) bool."""
        kin = self._kin
        mats, pos = kin.mat[:, self.body], kin.pos[:, self.body]
        stands = np.zeros((len(planted), len(self.shapes)), dtype=bool)
        for side, name in enumerate(FOOT_BODIES):
            stands[:, self.body == kin.body_index[name]] = planted[:, side, None]
        for local in (self._start, self._end):
            ends = pos + np.einsum('tcij,cj->tci', mats, local)
            below = ends[:, :, 2] - self.radius - clearance
            frames, shapes = np.nonzero((below < 0) & ~stands)
            for shape in np.unique(shapes):
                at = frames[shapes == shape]
                jac = kin.jac_point_at(at, int(self.body[shape]), ends[at, shape])[:, 2:3]
                eq.add_at(at, jac * weight, below[at, shape, None] * weight)

    def keep_apart(self, eq: NormalEquations, margin: float, weight: float) -> None:
        """Add residuals that push shapes nearer than ``margin`` (m) apart."""
        frame, pair, distance, p, q = self.distances(margin)
        if not len(frame):
            return
        line = p - q
        length = np.linalg.norm(line, axis=1, keepdims=True)
        normal = np.where(length > 1e-6, line / np.maximum(length, 1e-6), np.array([0.0, 0.0, 1.0]))
        jac = np.zeros((len(frame), 1, eq.dof))
        a, b = self.body[self.first[pair]], self.body[self.second[pair]]
        for body in np.unique(np.concatenate([a, b])):
            for bodies, points, sign in ((a, p, 1.0), (b, q, -1.0)):
                rows = np.flatnonzero(bodies == body)
                if len(rows):
                    part = np.einsum(
                        'ki,kid->kd', normal[rows], self._kin.jac_point_at(frame[rows], int(body), points[rows])
                    )
                    jac[rows, 0] += sign * part
        eq.add_at(frame, jac * weight, ((distance - margin) * weight)[:, None])


def _closest(a0: np.ndarray, a1: np.ndarray, b0: np.ndarray, b1: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest points (K, 3) of segments a and b (Ericson, Real-Time Collision Detection, 5.1.9)."""
    d1, d2, r = a1 - a0, b1 - b0, a0 - b0
    a, e = np.sum(d1 * d1, 1), np.sum(d2 * d2, 1)
    b, c, f = np.sum(d1 * d2, 1), np.sum(d1 * r, 1), np.sum(d2 * r, 1)
    tiny = 1e-12
    denominator = a * e - b * b
    s = np.where(denominator > tiny, np.clip((b * f - c * e) / np.maximum(denominator, tiny), 0, 1), 0.0)
    t = np.where(e > tiny, (b * s + f) / np.maximum(e, tiny), 0.0)
    t = np.clip(t, 0.0, 1.0)
    s = np.where(a > tiny, np.clip((b * t - c) / np.maximum(a, tiny), 0, 1), 0.0)
    return a0 + s[:, None] * d1, b0 + t[:, None] * d2
