"""Quaternion helpers on numpy batches; quaternions are ``(w, x, y, z)``, last axis 4."""

from __future__ import annotations

import numpy as np


def multiply(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the Hamilton product ``a * b``, shapes (..., 4)."""
    aw, ax, ay, az = np.moveaxis(a, -1, 0)
    bw, bx, by, bz = np.moveaxis(b, -1, 0)
    return np.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by + ay * bw + az * bx - ax * bz,
            aw * bz + az * bw + ax * by - ay * bx,
        ],
        -1,
    )


def conjugate(q: np.ndarray) -> np.ndarray:
    """Return the inverse rotation of unit quaternions (..., 4)."""
    return q * np.array([1.0, -1.0, -1.0, -1.0], q.dtype)


def log(q: np.ndarray) -> np.ndarray:
    """Return the rotation vector (rad) of unit quaternions: (..., 4) -> (..., 3), angle below pi."""
    q = np.where(q[..., :1] < 0, -q, q)
    sine = np.linalg.norm(q[..., 1:], axis=-1, keepdims=True)
    small = sine < 1e-8
    factor = np.where(small, 2.0, 2 * np.arctan2(sine, q[..., :1]) / np.where(small, 1.0, sine))
    return q[..., 1:] * factor


def exp(v: np.ndarray) -> np.ndarray:
    """Return the unit quaternions of rotation vectors (rad): (..., 3) -> (..., 4)."""
    angle = np.linalg.norm(v, axis=-1, keepdims=True)
    small = angle < 1e-8
    factor = np.where(small, 0.5, np.sin(angle / 2) / np.where(small, 1.0, angle))
    return np.concatenate([np.cos(angle / 2), v * factor], -1)


def matrix(q: np.ndarray) -> np.ndarray:
    """Return rotation matrices (..., 3, 3) of unit quaternions (..., 4)."""
    w, x, y, z = np.moveaxis(q, -1, 0)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return np.stack(rows, -1).reshape((*q.shape[:-1], 3, 3))


def yaw(q: np.ndarray) -> np.ndarray:
    """Return the heading (rad) of unit quaternions: the yaw of the body's x axis, shape (...)."""
    w, x, y, z = np.moveaxis(q, -1, 0)
    return np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))


def from_yaw(angle: np.ndarray | float) -> np.ndarray:
    """Return quaternions of rotations about z: (...) rad -> (..., 4)."""
    half = np.asarray(angle, float) / 2
    zero = np.zeros_like(half)
    return np.stack([np.cos(half), zero, zero, np.sin(half)], -1)


def rotate(q: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Rotate vectors (..., 3) by unit quaternions (..., 4)."""
    return (matrix(q) @ v[..., None])[..., 0]


def nlerp(a: np.ndarray, b: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Blend unit quaternions (..., 4) by ``weight`` (...) from ``a`` (0) to ``b`` (1), short way."""
    b = np.where((a * b).sum(-1, keepdims=True) < 0, -b, b)
    out = a + (b - a) * np.asarray(weight)[..., None]
    return out / np.linalg.norm(out, axis=-1, keepdims=True)
