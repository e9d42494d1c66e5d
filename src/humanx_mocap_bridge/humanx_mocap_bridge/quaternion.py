"""Quaternions (w, x, y, z) as arrays (..., 4); only what the bridge needs."""

import math

import numpy as np


def multiply(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the Hamilton product ``a b`` of two quaternions (4,): first b turns, then a."""
    # Python floats: on four numbers each, numpy's overhead would be ten times the work.
    aw, ax, ay, az = a.tolist()
    bw, bx, by, bz = b.tolist()
    return np.array(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ]
    )


def multiply_each(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the products (M, 4) of quaternions ``a`` (M, 4) with one ``b`` (4,)."""
    aw, ax, ay, az = a.T
    w, x, y, z = b.tolist()
    out = np.empty_like(a)
    out[:, 0] = aw * w - ax * x - ay * y - az * z
    out[:, 1] = aw * x + ax * w + ay * z - az * y
    out[:, 2] = aw * y - ax * z + ay * w + az * x
    out[:, 3] = aw * z + ax * y - ay * x + az * w
    return out


def conjugate(q: np.ndarray) -> np.ndarray:
    """Return the inverse of a unit quaternion."""
    return q * _CONJUGATE


def matrix(q: np.ndarray) -> np.ndarray:
    """Return the rotation matrix (3, 3) of a unit quaternion."""
    w, x, y, z = q.tolist()
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def angle_between(a: np.ndarray, b: np.ndarray) -> float:
    """Return the angle (rad, 0 to pi) of the turn from ``b`` to ``a``."""
    w, x, y, z = multiply(a, conjugate(b)).tolist()
    return 2 * math.atan2(math.sqrt(x * x + y * y + z * z), abs(w))


def to_rotation_vectors(q: np.ndarray) -> np.ndarray:
    """Return axis times angle (rad, the shorter way round) of unit quaternions: (M, 4) to (M, 3)."""
    q = np.where(q[:, :1] < 0, -q, q)
    sine = np.sqrt((q[:, 1:] ** 2).sum(axis=1, keepdims=True))
    # angle / sine tends to 2 for small angles.
    factor = np.where(sine > 1e-9, 2 * np.arctan2(sine, q[:, :1]) / np.maximum(sine, 1e-9), 2.0)
    return factor * q[:, 1:]


_CONJUGATE = np.array([1.0, -1.0, -1.0, -1.0])
