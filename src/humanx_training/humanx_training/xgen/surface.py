"""Signed distance to the surface of an object, with its gradient: what contact and penetration are measured by.

Points are given in the object's frame (m). The distance is positive outside. Exact for sphere, box, cylinder; a
shuttlecock is the sphere and the capsule of its scene; a mesh is its convex hull (as in the scene), where the distance
outside is that to the nearest face's plane: exact on and below the surface, a lower bound away from edges. Its normals
change smoothly across edges, as if these were rounded by some millimetres: with normals that jump from facet to facet
no grasp of a faceted ball could be improved by small steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import trimesh

from humanx_description.errors import UserError
from humanx_description.objects import ObjectSpec

_ROUNDING = 0.003  # m: planes this much further than the nearest weigh 1/e in a mesh's normal
_PART = 4096  # points that are measured against a mesh at a time


@dataclass(frozen=True)
class Surface:
    """The signed distance function of one object."""

    spec: ObjectSpec
    _normals: np.ndarray | None = None  # (F, 3) faces of a mesh's hull
    _offsets: np.ndarray | None = None  # (F,)

    @classmethod
    def of(cls, spec: ObjectSpec) -> Surface:
        """Return the surface; raises :class:`UserError` for an unreadable mesh."""
        if spec.shape != 'mesh':
            return cls(spec)
        hull = load_mesh(spec).convex_hull
        vertices = (hull.vertices - hull.center_mass) * spec.size[0]
        normals = hull.face_normals
        offsets = np.einsum('ij,ij->i', normals, vertices[hull.faces[:, 0]])
        # One plane per flat side, however many triangles it is made of.
        _, first = np.unique(np.round(np.column_stack([normals, offsets]), 4), axis=0, return_index=True)
        return cls(spec, normals[first], offsets[first])

    def __call__(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return distances (N,) m and outward unit normals (N, 3) at points (N, 3) in the object's frame."""
        return getattr(self, f'_{self.spec.shape}')(np.asarray(points, dtype=float))

    def _sphere(self, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        length = np.linalg.norm(p, axis=1)
        return length - self.spec.size[0], p / np.maximum(length, 1e-9)[:, None]

    def _box(self, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        sign = np.where(p < 0, -1.0, 1.0)
        q = np.abs(p) - 0.5 * np.array(self.spec.size)
        return _orthant(q, sign)

    def _cylinder(self, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        radius, height = self.spec.size
        rho = np.linalg.norm(p[:, :2], axis=1)
        q = np.stack([rho - radius, np.abs(p[:, 2]) - 0.5 * height], axis=1)
        distance, flat = _orthant(q, np.ones_like(q))
        radial = p[:, :2] / np.maximum(rho, 1e-9)[:, None]
        return distance, np.column_stack([radial * flat[:, :1], np.sign(p[:, 2]) * flat[:, 1]])

    def _shuttlecock(self, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        length, radius = self.spec.size
        cork = 0.0125  # as in the scene
        near = np.clip(p[:, :1], -0.5 * length + 0.5 * radius, 0.5 * length - 2 * cork) * [1.0, 0.0, 0.0]
        centres = np.stack([np.broadcast_to([0.5 * length - cork, 0, 0], p.shape), near])
        apart = p - centres
        distances = np.linalg.norm(apart, axis=2) - np.array([cork, 0.5 * radius])[:, None]
        best = distances.argmin(axis=0)
        rows = np.arange(len(p))
        vector = apart[best, rows]
        return distances[best, rows], vector / np.maximum(np.linalg.norm(vector, axis=1), 1e-9)[:, None]

    def _mesh(self, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        assert self._normals is not None
        assert self._offsets is not None
        distance, normal = np.empty(len(p)), np.empty_like(p)
        # Points times faces: in parts, so that a whole motion does not need gigabytes.
        for begin in range(0, len(p), _PART):
            part = slice(begin, begin + _PART)
            planes = p[part] @ self._normals.T - self._offsets
            distance[part] = planes.max(axis=1)
            normal[part] = np.exp((planes - distance[part, None]) / _ROUNDING) @ self._normals
        return distance, normal / np.linalg.norm(normal, axis=1, keepdims=True)

    @property
    def radius(self) -> float:
        """Half the object's mean extent (m): the length by which torques are made comparable to forces."""
        spec = self.spec
        if spec.shape == 'sphere':
            return spec.size[0]
        if spec.shape == 'box':
            return 0.5 * float(np.mean(spec.size))
        if spec.shape == 'mesh':
            assert self._offsets is not None
            return float(np.mean(self._offsets))
        return 0.5 * max(spec.size)

    def lowest(self, quat_matrix: np.ndarray) -> float:
        """Return how far (m) the object reaches below its origin, turned by a rotation matrix (3, 3)."""
        down = quat_matrix.T @ np.array([0.0, 0.0, -1.0])
        spec = self.spec
        if spec.shape == 'sphere':
            return spec.size[0]
        if spec.shape == 'box':
            return float(0.5 * np.abs(down) @ np.array(spec.size))
        if spec.shape == 'cylinder':
            return float(spec.size[0] * np.hypot(*down[:2]) + 0.5 * spec.size[1] * abs(down[2]))
        if spec.shape == 'shuttlecock':
            return float(max(0.0125, 0.5 * spec.size[0] * abs(down[0])))
        hull = load_mesh(spec).convex_hull
        return float(((hull.vertices - hull.center_mass) * spec.size[0] @ down).max())


def load_mesh(spec: ObjectSpec) -> trimesh.Trimesh:
    """Return the mesh of an object; raises :class:`UserError` for an unreadable, open or far too large one."""
    try:
        mesh = trimesh.load(spec.mesh, force='mesh')
    except Exception as error:  # trimesh raises whatever its many readers raise
        raise UserError(f'{spec.mesh}: cannot be read as a mesh ({error}); expected STL, OBJ, PLY or GLB.') from None
    if not isinstance(mesh, trimesh.Trimesh) or len(mesh.faces) == 0:
        raise UserError(f'{spec.mesh}: holds no faces; expected a triangle mesh.')
    # A textured mesh has a vertex twice where its texture has a seam: that is no hole.
    mesh.merge_vertices(merge_tex=True, merge_norm=True)
    if not mesh.is_watertight:
        raise UserError(f'{spec.mesh}: has holes (an open edge); expected a closed triangle mesh.')
    extent = float(np.max(mesh.extents)) * spec.size[0]
    if not 0.01 <= extent <= 5.0:
        raise UserError(
            f'{spec.mesh}: measures {extent:g} m after scaling by {spec.size[0]}; expected 0.01 to 5 m '
            '(a file in millimetres needs the scale 0.001).'
        )
    return mesh


def _orthant(q: np.ndarray, sign: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return distance and gradient for points whose excess over each half extent is ``q`` (N, D)."""
    outside = np.maximum(q, 0.0)
    length = np.linalg.norm(outside, axis=1)
    inner = q.max(axis=1)
    face = np.zeros_like(q)
    face[np.arange(len(q)), q.argmax(axis=1)] = 1.0
    out = length > 1e-9
    direction = np.where(out[:, None], outside / np.maximum(length, 1e-9)[:, None], face)
    return np.where(out, length, inner), direction * sign
