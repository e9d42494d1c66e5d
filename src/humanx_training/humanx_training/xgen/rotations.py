"""Batched rotations on numpy arrays: quaternions ``(w, x, y, z)``, matrices (..., 3, 3), rotation vectors (..., 3)."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation


def quat_to_mat(quat: np.ndarray) -> np.ndarray:
    """Return (..., 3, 3) matrices from (..., 4) quaternions wxyz."""
    flat = np.asarray(quat, dtype=np.float64).reshape(-1, 4)
    return Rotation.from_quat(flat[:, [1, 2, 3, 0]]).as_matrix().reshape(*quat.shape[:-1], 3, 3)


def mat_to_quat(mat: np.ndarray) -> np.ndarray:
    """Return (..., 4) quaternions wxyz, w >= 0, from (..., 3, 3) matrices."""
    flat = np.asarray(mat, dtype=np.float64).reshape(-1, 3, 3)
    xyzw = Rotation.from_matrix(flat).as_quat(canonical=True)
    return xyzw[:, [3, 0, 1, 2]].reshape(*mat.shape[:-2], 4)


def exp(rotvec: np.ndarray) -> np.ndarray:
    """Return (..., 3, 3) matrices from (..., 3) rotation vectors (rad)."""
    flat = np.asarray(rotvec, dtype=np.float64).reshape(-1, 3)
    return Rotation.from_rotvec(flat).as_matrix().reshape(*rotvec.shape[:-1], 3, 3)


def log(mat: np.ndarray) -> np.ndarray:
    """Return (..., 3) rotation vectors (rad) from (..., 3, 3) matrices."""
    flat = np.asarray(mat, dtype=np.float64).reshape(-1, 3, 3)
    return Rotation.from_matrix(flat).as_rotvec().reshape(*mat.shape[:-2], 3)


def transpose(mat: np.ndarray) -> np.ndarray:
    """Return the inverse rotations (..., 3, 3)."""
    return np.swapaxes(mat, -1, -2)


def continuous(quat: np.ndarray) -> np.ndarray:
    """Return quaternions (T, ..., 4) with signs chosen so that neighbours in time do not jump."""
    out = np.array(quat, dtype=np.float64)
    dots = np.sum(out[1:] * out[:-1], axis=-1)
    signs = np.cumprod(np.where(dots < 0, -1.0, 1.0), axis=0)
    out[1:] *= signs[..., None]
    return out


def yaw_of(mat: np.ndarray) -> np.ndarray:
    """Return the heading (...) of the x axis of (..., 3, 3) matrices, rad."""
    return np.arctan2(mat[..., 1, 0], mat[..., 0, 0])


def rot_z(angle: np.ndarray) -> np.ndarray:
    """Return (..., 3, 3) rotations about z by ``angle`` (rad)."""
    angle = np.asarray(angle, dtype=np.float64)
    out = np.zeros((*angle.shape, 3, 3))
    c, s = np.cos(angle), np.sin(angle)
    out[..., 0, 0], out[..., 0, 1], out[..., 1, 0], out[..., 1, 1] = c, -s, s, c
    out[..., 2, 2] = 1.0
    return out


def slerp(times: np.ndarray, mats: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Interpolate (T, 3, 3) rotations given at ``times`` (s) to the times ``at`` (s), clamped at both ends."""
    times = np.asarray(times, dtype=np.float64)
    at = np.clip(at, times[0], times[-1])
    index = np.clip(np.searchsorted(times, at, side='right') - 1, 0, len(times) - 2)
    share = (at - times[index]) / (times[index + 1] - times[index])
    step = log(np.matmul(transpose(mats[index]), mats[index + 1]))
    return np.matmul(mats[index], exp(step * share[:, None]))


def frame_from_axes(x: np.ndarray | None, y: np.ndarray | None, z: np.ndarray | None) -> np.ndarray:
    """Build rotations (T, 3, 3) from two of the three axes; the first given one (in the order z, y, x) is kept exactly.

    The other is made orthogonal to it. Vectors need not be unit.
    """

    def unit(v: np.ndarray) -> np.ndarray:
        return v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-9)

    if z is not None and y is not None:
        z = unit(z)
        y = unit(y - np.sum(y * z, -1, keepdims=True) * z)
        x = np.cross(y, z)
    elif z is not None and x is not None:
        z = unit(z)
        x = unit(x - np.sum(x * z, -1, keepdims=True) * z)
        y = np.cross(z, x)
    elif y is not None and x is not None:
        y = unit(y)
        x = unit(x - np.sum(x * y, -1, keepdims=True) * y)
        z = np.cross(x, y)
    else:
        raise ValueError('two axes are needed')
    return np.stack([x, y, z], axis=-1)
