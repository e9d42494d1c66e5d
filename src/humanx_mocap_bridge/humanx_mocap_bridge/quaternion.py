"""Quaternions (w, x, y, z) as arrays (..., 4); only what the bridge needs."""

import numpy as np


def multiply(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the Hamilton product ``a b``: first b turns, then a."""
    aw, ax, ay, az = np.moveaxis(np.asarray(a), -1, 0)
    bw, bx, by, bz = np.moveaxis(np.asarray(b), -1, 0)
    return np.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        -1,
    )


def conjugate(q: np.ndarray) -> np.ndarray:
    """Return the inverse of a unit quaternion."""
    return np.asarray(q) * np.array([1.0, -1.0, -1.0, -1.0])


def rotate(q: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return the vector ``v`` (3,) turned by ``q`` (4,)."""
    return multiply(multiply(q, np.concatenate([[0.0], v])), conjugate(q))[1:]


def to_rotation_vector(q: np.ndarray) -> np.ndarray:
    """Return axis times angle (rad, the shorter way round) of unit quaternions: (..., 4) to (..., 3)."""
    q = np.where(q[..., :1] < 0, -q, q)
    sine = np.linalg.norm(q[..., 1:], axis=-1, keepdims=True)
    angle = 2 * np.arctan2(sine, q[..., :1])
    # angle / sine tends to 2 for small angles.
    factor = np.where(sine > 1e-9, angle / np.maximum(sine, 1e-9), 2.0)
    return factor * q[..., 1:]
