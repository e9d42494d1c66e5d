"""Where the centre of mass must go so that the feet can carry it.

The linear inverted pendulum ties the centre of mass ``c`` to the centre of pressure ``p`` of the feet:
``c - (h / g) c'' = p``. A plan for ``p`` inside the support (both feet, one foot, both feet) has exactly one bounded
``c``; a motion whose centre of mass follows it can be carried out, whatever the clip's own did.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from scipy.linalg import solve_banded

GRAVITY = 9.81


def centre_of_mass_plan(pressure: np.ndarray, height: float, dt: float) -> np.ndarray:
    """Return the bounded centre of mass (T, 2) for a centre of pressure (T, 2), both in m.

    ``height`` is that of the centre of mass (m), ``dt`` the time step (s). The ends rest: ``c = p``, ``c' = 0``.
    """
    ratio = height / GRAVITY / dt**2
    count = len(pressure)
    bands = np.zeros((3, count))
    bands[0, 1:] = bands[2, :-1] = -ratio
    bands[1] = 1 + 2 * ratio
    bands[1, 0] = bands[1, -1] = 1 + ratio  # a mirrored neighbour: zero velocity at both ends
    return solve_banded((1, 1), bands, pressure)


def smooth_step(x: np.ndarray | float) -> np.ndarray:
    """Return the quintic step from 0 (x <= 0) to 1 (x >= 1) with zero end velocity and acceleration."""
    x = np.clip(x, 0.0, 1.0)
    return x**3 * (10 - 15 * x + 6 * x * x)


def interpolate(times: np.ndarray, knots: Sequence[tuple[float, float]]) -> np.ndarray:
    """Return values at ``times`` (s) that go from knot to knot ``(time, value)`` by smooth steps."""
    out = np.full(len(times), knots[0][1], float)
    for (t0, v0), (t1, v1) in pairwise(knots):
        out += (v1 - v0) * smooth_step((times - t0) / max(t1 - t0, 1e-9))
    return out


def gaussian_filter(values: np.ndarray, sigma: float) -> np.ndarray:
    """Smooth (T, ...) along time by a Gaussian of ``sigma`` frames, ends held."""
    if sigma <= 0:
        return values.copy()
    reach = int(np.ceil(4 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    flat = values.reshape(len(values), -1)
    padded = np.pad(flat, ((reach, reach), (0, 0)), 'edge')
    out = np.stack([np.convolve(padded[:, j], kernel, 'valid') for j in range(flat.shape[1])], 1)
    return out.reshape(values.shape)
