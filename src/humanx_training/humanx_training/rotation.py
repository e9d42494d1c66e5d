"""Quaternion arithmetic on numpy arrays.

Quaternions are ``(..., 4)`` arrays in ``(w, x, y, z)`` order and of unit length; rotation vectors are ``(..., 3)`` in
rad. All functions broadcast over the leading axes.
"""

from __future__ import annotations

import numpy as np


def multiply(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the Hamilton product ``a b``: first ``b`` is applied, then ``a``."""
    aw, ax, ay, az = np.moveaxis(np.asarray(a, dtype=float), -1, 0)
    bw, bx, by, bz = np.moveaxis(np.asarray(b, dtype=float), -1, 0)
    return np.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        axis=-1,
    )


def conjugate(q: np.ndarray) -> np.ndarray:
    """Return the inverse rotation."""
    return np.asarray(q, dtype=float) * np.array([1.0, -1.0, -1.0, -1.0])


def rotate(q: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return the vectors ``v`` (..., 3) rotated by ``q``."""
    q, v = np.asarray(q, dtype=float), np.asarray(v, dtype=float)
    w, u = q[..., :1], q[..., 1:]
    t = 2.0 * np.cross(u, v)
    return v + w * t + np.cross(u, t)


def rotate_inverse(q: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return the vectors ``v`` (..., 3) rotated by the inverse of ``q``."""
    return rotate(conjugate(q), v)


def normalise(q: np.ndarray) -> np.ndarray:
    """Return ``q`` scaled to unit length."""
    q = np.asarray(q, dtype=float)
    return q / np.linalg.norm(q, axis=-1, keepdims=True)


def exp(rotvec: np.ndarray) -> np.ndarray:
    """Return the quaternion of a rotation vector (rad)."""
    rotvec = np.asarray(rotvec, dtype=float)
    angle = np.linalg.norm(rotvec, axis=-1, keepdims=True)
    scale = 0.5 * np.sinc(angle / (2.0 * np.pi))
    return np.concatenate([np.cos(0.5 * angle), scale * rotvec], axis=-1)


def log(q: np.ndarray) -> np.ndarray:
    """Return the rotation vector (rad, at most pi long) of a quaternion."""
    q = np.asarray(q, dtype=float)
    q = np.where(q[..., :1] < 0.0, -q, q)
    sine = np.linalg.norm(q[..., 1:], axis=-1, keepdims=True)
    angle = 2.0 * np.arctan2(sine, q[..., :1])
    return q[..., 1:] * np.where(sine > 1e-12, angle / np.maximum(sine, 1e-12), 2.0)


def yaw(q: np.ndarray) -> np.ndarray:
    """Return the heading (rad): the yaw of the rotated x axis about the world's z axis, shape (...)."""
    x_axis = rotate(q, np.broadcast_to([1.0, 0.0, 0.0], (*np.asarray(q).shape[:-1], 3)))
    return np.arctan2(x_axis[..., 1], x_axis[..., 0])


def from_yaw(angle: float | np.ndarray) -> np.ndarray:
    """Return the rotation by ``angle`` (rad) about z."""
    angle = np.asarray(angle, dtype=float)
    zero = np.zeros_like(angle)
    return np.stack([np.cos(angle / 2), zero, zero, np.sin(angle / 2)], axis=-1)


def between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the shortest rotation that turns direction ``a`` (3,) into direction ``b`` (3,)."""
    a = np.asarray(a, dtype=float) / np.linalg.norm(a)
    b = np.asarray(b, dtype=float) / np.linalg.norm(b)
    dot = float(a @ b)
    if dot < -1.0 + 1e-9:
        axis = np.cross(a, [1.0, 0.0, 0.0] if abs(a[0]) < 0.9 else [0.0, 1.0, 0.0])
        return np.concatenate([[0.0], axis / np.linalg.norm(axis)])
    return normalise(np.concatenate([[1.0 + dot], np.cross(a, b)]))


def slerp(a: np.ndarray, b: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Return the rotation a fraction ``t`` of the way from ``a`` to ``b`` along the shorter arc."""
    t = np.asarray(t, dtype=float)[..., None]
    return normalise(multiply(a, exp(t * log(multiply(conjugate(a), b)))))


def to_matrix(q: np.ndarray) -> np.ndarray:
    """Return the rotation matrices (..., 3, 3)."""
    q = np.asarray(q, dtype=float)
    columns = [rotate(q, np.broadcast_to(axis, (*q.shape[:-1], 3))) for axis in np.eye(3)]
    return np.stack(columns, axis=-1)


def continuous(q: np.ndarray) -> np.ndarray:
    """Return ``q`` (T, 4) with signs flipped so that successive samples lie on the same half-sphere."""
    q = np.array(q, dtype=float)
    flips = np.sign(np.sum(q[1:] * q[:-1], axis=-1))
    flips[flips == 0] = 1.0
    q[1:] *= np.cumprod(flips)[:, None]
    return q


def linear_rate(x: np.ndarray, fps: float) -> np.ndarray:
    """Return the time derivative of ``x`` (T, ...): central differences, one-sided at both ends."""
    x = np.asarray(x, dtype=float)
    if len(x) < 2:
        return np.zeros_like(x)
    return np.gradient(x, 1.0 / fps, axis=0)


def angular_velocity_body(q: np.ndarray, fps: float) -> np.ndarray:
    """Return the angular velocity (T, 3), rad/s in the body's own frame, of the orientations ``q`` (T, 4)."""
    q = np.asarray(q, dtype=float)
    if len(q) < 2:
        return np.zeros((len(q), 3))
    step = log(multiply(conjugate(q[:-1]), q[1:])) * fps
    # Mean of the steps before and after each frame; the first and last frame have one step only.
    return np.concatenate([step[:1], 0.5 * (step[:-1] + step[1:]), step[-1:]])
