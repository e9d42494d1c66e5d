"""Refinement of the robot's pose while it holds an object: force closure, surface distance, no penetration.

The differentiable force-closure estimator of Liu et al. 2021 ("Synthesizing Diverse and Physically Stable Grasps with
Arbitrary Hand Structures Using Differentiable Force Closure Estimator", eq. 5-8): with contact points x_i on the
object's surface and inward normals c_i, all pressing equally hard, ``E_fc = |G c|`` where ``G = [I ...; [x_i]x ...]``
maps the forces to force and torque; with ``E_dis = sum |d(x_i)|`` and ``E_pen = sum max(0, -d)``. Here x_i is the point
of hand i that is nearest to the object, and the unknowns are the joints of the arms (or of a leg). Each frame is a few
Gauss-Newton steps with analytic Jacobians, started from the frame before, so that the correction is smooth in time.
"""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from humanx_description import robot
from humanx_training import rotation
from humanx_training.xgen.contact_path import spread
from humanx_training.xgen.stage import Stage
from humanx_training.xgen.surface import Surface

CLOSING = 8  # frames at each end of a hold in which the hands close or open
_WATCHED = 0.03  # m: spheres nearer than this could enter the object within one step


@dataclass(frozen=True)
class Weights:
    """Weights of the residuals: distances in units of a millimetre, force balance in units of 0.03."""

    distance: float = 1000.0  # 1/m
    penetration: float = 1000.0  # 1/m
    closure: float = 30.0
    reference: float = 1.0  # 1/rad, pull towards the reference pose
    smooth: float = 10.0  # 1/rad, pull towards the correction of the frame before


@dataclass(frozen=True)
class Refined:
    """What refinement gives for ``T`` frames."""

    joint_pos: np.ndarray  # (T, 29)
    closure_before: np.ndarray  # (T,) |G c| / number of contacts, torque by the object's radius; NaN without contact
    closure_after: np.ndarray
    distance_before: np.ndarray  # (T,) m, largest |distance| of a contact body to the surface; NaN without contact
    distance_after: np.ndarray
    penetration_before: np.ndarray  # (T,) m, deepest penetration of the movable limbs
    penetration_after: np.ndarray


def closure_residual(points: np.ndarray, normals: np.ndarray, radius: float) -> np.ndarray:
    """Return ``G c / N`` (..., 6): net force and net torque / radius of unit forces along the inward normals.

    ``points`` (..., N, 3) relative to the object's centre, outward ``normals`` (..., N, 3). Zero for antipodal
    contacts.
    """
    x, y, z = points[..., 0], points[..., 1], points[..., 2]
    a, b, c = normals[..., 0], normals[..., 1], normals[..., 2]
    # np.cross written out: it costs ten times as much on a handful of points, and this is the innermost loop.
    torque = np.stack([z * b - y * c, x * c - z * a, y * a - x * b], axis=-1).sum(axis=-2) / radius
    return np.concatenate([-normals.sum(axis=-2), torque], axis=-1) / points.shape[-2]


class Refiner:
    """Refines the joints of the limbs that touch one object."""

    def __init__(
        self, stage: Stage, surface: Surface, limbs: tuple[slice, ...], weights: Weights | None = None
    ) -> None:
        self._stage, self._surface = stage, surface
        self._weights = weights or Weights()
        self._joints = np.concatenate([np.arange(29)[s] for s in limbs])
        self._dofs = self._joints + 6
        model = stage.model
        movable = {int(model.jnt_bodyid[1 + j]) for j in self._joints}
        # A body moves with a limb when one of its ancestors does.
        carried = np.array([_has_ancestor(model, int(b), movable) for b in stage.spheres.body])
        self._near = np.flatnonzero(carried)
        eye = np.eye(len(self._joints))
        self._pull = np.vstack([self._weights.reference * eye, self._weights.smooth * eye])
        # Leave a little of the range, so that interpolation between frames cannot cross a limit.
        self._lower = robot.JOINT_LOWER[self._joints] + 0.01
        self._upper = robot.JOINT_UPPER[self._joints] - 0.01

    def frame(
        self,
        qpos: np.ndarray,
        correction: np.ndarray,
        pos: np.ndarray,
        matrix: np.ndarray,
        contact_bodies: tuple[int, ...],
        iterations: int = 6,
    ) -> np.ndarray:
        """Return the corrected joints (29,) of one frame (qpos (36,), object's place (3,) and rotation (3, 3)); see
        :func:`refine`."""
        w, joints = self._weights, self._joints
        reference = qpos[7:36]
        q = reference.copy()
        q[joints] += correction
        for _ in range(iterations):
            residual, jacobian, outside, outside_jacobian = self._linearise(qpos, q, pos, matrix, contact_bodies)
            pull = np.concatenate([
                w.reference * (q[joints] - reference[joints]),
                w.smooth * (q[joints] - reference[joints] - correction),
            ])
            step = _bounded_step(
                np.vstack([jacobian, self._pull]),
                np.concatenate([residual, pull]),
                outside_jacobian,
                outside,
                self._lower - q[joints],
                self._upper - q[joints],
            )
            q[joints] += step
            if np.abs(step).max() < 1e-3:
                break
        return q

    def _linearise(
        self,
        qpos: np.ndarray,
        q: np.ndarray,
        pos: np.ndarray,
        matrix: np.ndarray,
        contacts: tuple[int, ...],
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return residuals (M,) with Jacobian (M, J), and weighted distances (K,) that must not be negative with
        theirs."""
        model, spheres, w = self._stage.model, self._stage.spheres, self._weights
        full = np.concatenate([qpos[:7], q])
        centres = self._stage.sphere_centres(full)
        mujoco.mj_comPos(model, self._stage.data)
        distance, normal = self._surface((centres - pos) @ matrix)
        distance, normal = distance - spheres.radius, normal @ matrix.T
        residuals: list[np.ndarray] = []
        rows: list[np.ndarray] = []

        def point_jacobian(index: int) -> np.ndarray:
            jac = np.empty((3, model.nv))
            mujoco.mj_jac(model, self._stage.data, jac, None, centres[index], int(spheres.body[index]))
            return jac[:, self._dofs]

        chosen = [self._nearest(body, distance) for body in contacts]
        for index in chosen:
            residuals.append(w.distance * distance[index : index + 1])
            rows.append(w.distance * normal[index : index + 1] @ point_jacobian(index))
        near = [int(i) for i in self._near if distance[i] < _WATCHED and i not in chosen]
        outside = w.penetration * distance[near]
        outside_jacobian = np.array([w.penetration * normal[i] @ point_jacobian(i) for i in near])
        outside_jacobian = outside_jacobian.reshape(len(near), len(self._joints))
        if len(chosen) > 1:
            value, derivative = self._closure(centres[chosen] - pos, matrix)
            residuals.append(w.closure * value)
            rows.append(w.closure * derivative @ np.vstack([point_jacobian(i) for i in chosen]))
        if not residuals:
            return np.zeros(0), np.zeros((0, len(self._joints))), outside, outside_jacobian
        return np.concatenate(residuals), np.vstack(rows), outside, outside_jacobian

    def _closure(self, centres: np.ndarray, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return ``G c / N`` (6,) and its derivative (6, 3N) by the contact spheres' centres (N, 3)."""
        moved = np.repeat(centres.reshape(1, -1), 1 + centres.size, axis=0)
        moved[1:] += 1e-5 * np.eye(centres.size)
        values = self._balance(moved.reshape(-1, *centres.shape), matrix)
        return values[0], (values[1:] - values[0]).T / 1e-5

    def _balance(self, centres: np.ndarray, matrix: np.ndarray) -> np.ndarray:
        """Return ``G c / N`` (M, 6) of contact spheres around the object: M times N centres (M, N, 3)."""
        distance, normal = self._surface((centres @ matrix).reshape(-1, 3))
        normal = (normal @ matrix.T).reshape(centres.shape)
        points = centres - distance.reshape(*centres.shape[:2], 1) * normal
        return closure_residual(points, normal, self._surface.radius)

    def _nearest(self, body: int, distance: np.ndarray) -> int:
        mine = np.flatnonzero(self._stage.spheres.owner == body)
        return int(mine[distance[mine].argmin()])

    def penetration(self, qpos: np.ndarray, pos: np.ndarray, quat: np.ndarray) -> np.ndarray:
        """Return how deep (T,) m the movable limbs are in the object."""
        distance = self._stage.distances(qpos, self._surface, pos, quat)
        return np.maximum(0.0, -distance[:, self._near].min(axis=1))

    def measure(
        self, qpos: np.ndarray, pos: np.ndarray, quat: np.ndarray, contacts: list[tuple[int, ...]]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return force-closure residual, largest contact distance (m) and deepest penetration (m), each (T,)."""
        distance = self._stage.distances(qpos, self._surface, pos, quat)
        matrices = rotation.to_matrix(quat)
        closure, far = np.full(len(qpos), np.nan), np.full(len(qpos), np.nan)
        for t, bodies in enumerate(contacts):
            chosen = [self._nearest(body, distance[t]) for body in bodies]
            if chosen:
                far[t] = np.abs(distance[t, chosen]).max()
            if len(chosen) > 1:
                centres = self._stage.sphere_centres(qpos[t])[chosen] - pos[t]
                closure[t] = np.linalg.norm(self._balance(centres[None], matrices[t])[0])
        return closure, far, np.maximum(0.0, -distance[:, self._near].min(axis=1))


def _bounded_step(
    jacobian: np.ndarray,
    residual: np.ndarray,
    outside_jacobian: np.ndarray,
    outside: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
) -> np.ndarray:
    """Return the Gauss-Newton step between ``low`` and ``high`` (J,) that keeps ``outside + outside_jacobian step >=
    0``.

    An active-set method: joints at a limit are held and the rest solved again (clipping alone would stall: the solution
    keeps asking for the joint that cannot move), and a sphere that would enter the object is put on its surface.
    """
    free = np.ones(len(low), dtype=bool)
    active = outside < 0.0
    step = np.zeros(len(low))
    for _ in range(8):
        rows = np.vstack([jacobian, outside_jacobian[active]])
        values = np.concatenate([residual, outside[active]])
        part = rows[:, free]
        step[free] = -np.linalg.solve(
            part.T @ part + 1e-9 * np.eye(int(free.sum())), part.T @ (values + rows[:, ~free] @ step[~free])
        )
        step[free] = np.clip(step[free], -0.15, 0.15)
        over = free & ((step < low) | (step > high))
        entered = ~active & (outside + outside_jacobian @ step < -0.1)
        if not over.any() and not entered.any():
            break
        step[over] = np.clip(step[over], np.minimum(low[over], 0.0), np.maximum(high[over], 0.0))
        free &= ~over
        active |= entered
    return step


def refine(
    refiner: Refiner,
    qpos: np.ndarray,
    pos: np.ndarray,
    quat: np.ndarray,
    contacts: list[tuple[int, ...]],
    blend: int,
) -> Refined:
    """Refine a motion (T, 36) against an object's path (T, 3), (T, 4).

    ``contacts[t]`` are the ids of the bodies that must touch the object in frame t (none: only penetration is avoided).
    Corrections fade in over the ``blend`` frames before a contact phase and out after it.
    """
    frames = len(qpos)
    joints = refiner._joints
    matrices = rotation.to_matrix(quat)
    correction = np.zeros((frames, len(joints)))
    held = np.array([bool(c) for c in contacts])
    last = np.zeros(len(joints))
    for t in np.flatnonzero(held):
        if t == 0 or not held[t - 1]:
            # The first frame has no frame before it to stay near: repeat until it has found its place.
            last = np.zeros(len(joints))
            for _ in range(6):
                last = refiner.frame(qpos[t], last, pos[t], matrices[t], contacts[t], 10)[joints] - qpos[t, 7:][joints]
        else:
            last = refiner.frame(qpos[t], last, pos[t], matrices[t], contacts[t], 10)[joints] - qpos[t, 7:][joints]
        correction[t] = last
    correction = _fade(correction, held, blend)
    # Hands on their way to or from the object must not pass through it. Each frame is solved alone, so what they give
    # way
    # is spread over the neighbouring frames, and what is then left is solved again.
    # The first and last frames of a contact count as such ways: hands close around a caught object and open for a
    # throw.
    loose = ~held
    for edge in np.flatnonzero(np.diff(held.astype(int))) + 1:
        loose[max(0, edge - CLOSING) : edge + CLOSING] = True
    for attempt in range(5):
        extra = np.zeros_like(correction)
        index = np.flatnonzero(loose)
        here = qpos[index].copy()
        here[:, 7 + joints] += correction[index]
        for t in index[refiner.penetration(here, pos[index], quat[index]) > 0.0005]:
            q = refiner.frame(qpos[t], correction[t], pos[t], matrices[t], (), 10)
            extra[t] = q[joints] - qpos[t, 7:][joints] - correction[t]
        if not extra.any():
            break
        correction += np.where(loose[:, None], spread(extra, 16 if attempt < 4 else 8), 0.0)
    out = qpos[:, 7:36].copy()
    out[:, joints] = np.clip(
        out[:, joints] + correction, robot.JOINT_LOWER[joints] + 1e-3, robot.JOINT_UPPER[joints] - 1e-3
    )
    before = refiner.measure(qpos, pos, quat, contacts)
    after = refiner.measure(np.concatenate([qpos[:, :7], out], axis=1), pos, quat, contacts)
    return Refined(out, before[0], after[0], before[1], after[1], before[2], after[2])


def _fade(correction: np.ndarray, held: np.ndarray, blend: int) -> np.ndarray:
    """Extend the corrections of held frames smoothly over their neighbours (largest weight wins)."""
    frames = len(correction)
    index = np.arange(frames)
    out, weight = correction.copy(), held.astype(float)
    inside = np.flatnonzero(held)
    if not inside.size:
        return out
    for t in np.flatnonzero(~held):
        before, after = inside[inside < t], inside[inside > t]
        total, norm = np.zeros(correction.shape[1]), 0.0
        for edge in [*before[-1:], *after[:1]]:
            s = abs(index[t] - edge) / max(blend, 1)
            if s < 1:
                w = 1 - s * s * s * (10 - 15 * s + 6 * s * s)
                total, norm = total + w * correction[edge], max(norm, w)
                weight[t] += w
        out[t] = total / max(weight[t], 1.0)
    return out


def _has_ancestor(model: mujoco.MjModel, body: int, wanted: set[int]) -> bool:
    while body:
        if body in wanted:
            return True
        body = int(model.body_parentid[body])
    return False
