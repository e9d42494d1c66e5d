"""Quaternions ``(..., 4)``, w first, on torch tensors."""

from __future__ import annotations

import functools

import torch


def multiply(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return the Hamilton product ``a b``."""
    aw, ax, ay, az = a.unbind(-1)
    bw, bx, by, bz = b.unbind(-1)
    return torch.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        -1,
    )


def conjugate(q: torch.Tensor) -> torch.Tensor:
    """Return the inverse rotation."""
    return torch.cat([q[..., :1], -q[..., 1:]], -1)


def angle(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return the angle (...) in rad, 0 to pi, between two rotations."""
    # The arc sine of the chord keeps its accuracy at small angles, where the arc cosine of the product loses it.
    chord = (a - b).norm(dim=-1).minimum((a + b).norm(dim=-1))
    return 4.0 * torch.asin((0.5 * chord).clamp(max=1.0))


def rotate(q: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Return ``v`` (..., 3) rotated by ``q`` (..., 4)."""
    w, u = q[..., :1], q[..., 1:]
    t = 2.0 * torch.linalg.cross(u, v)
    return v + w * t + torch.linalg.cross(u, t)


def rotate_inverse(q: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Return ``v`` (..., 3) rotated by the inverse of ``q`` (..., 4)."""
    return rotate(conjugate(q), v)


def exp(rotvec: torch.Tensor) -> torch.Tensor:
    """Return the quaternion of a rotation vector (rad)."""
    size = rotvec.norm(dim=-1, keepdim=True)
    half = 0.5 * size
    return torch.cat([torch.cos(half), 0.5 * torch.sinc(half / torch.pi) * rotvec], -1)


def yaw(q: torch.Tensor) -> torch.Tensor:
    """Return the angle (...) of the x axis' heading about z, rad."""
    w, x, y, z = q.unbind(-1)
    return torch.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))


def heading(q: torch.Tensor) -> torch.Tensor:
    """Return the rotation about z that has the yaw of ``q``."""
    half = 0.5 * yaw(q)
    zero = torch.zeros_like(half)
    return torch.stack([half.cos(), zero, zero, half.sin()], -1)


def matrix(q: torch.Tensor) -> torch.Tensor:
    """Return the rotation matrices (N, 3, 3) of ``q`` (N, 4): ``v @ matrix(q)`` turns rows by the inverse of ``q``."""
    products = (q[:, :, None] * q[:, None, :]).flatten(1)
    table, identity = _matrix_table(q.dtype, q.device)
    return torch.addmm(identity, products, table).view(-1, 3, 3)


@functools.lru_cache
def _matrix_table(dtype: torch.dtype, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (16, 9) and (9,): the matrix's elements are linear in the products of the quaternion's."""
    table = torch.zeros(4, 4, 3, 3, dtype=dtype, device=device)
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        u, v, w = i + 1, j + 1, k + 1
        table[v, v, i, i] = table[w, w, i, i] = -2.0
        table[u, v, i, j] = table[u, v, j, i] = 2.0
        table[0, w, i, j], table[0, w, j, i] = -2.0, 2.0
    return table.view(16, 9), torch.eye(3, dtype=dtype, device=device).flatten()
