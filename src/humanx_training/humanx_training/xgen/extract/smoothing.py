"""Smoothing that follows fast movement: heavy where a point rests, light where it strikes. No delay."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.signal import savgol_filter

SLOW, FAST = 0.6, 2.0  # m/s: below the first all heavy, above the second all light
HEAVY_S, LIGHT_S = 0.37, 0.17  # s, windows


def smooth_points(points: np.ndarray, fps: float) -> np.ndarray:
    """Return points (T, J, 3) m smoothed; a strike keeps its peak speed, a resting point its place."""
    heavy = _savgol(points, HEAVY_S, fps, order=2)
    light = _savgol(points, LIGHT_S, fps, order=2)
    speed = np.linalg.norm(np.gradient(light, axis=0), axis=2) * fps
    # The weight itself must change slowly, and must be up before the strike begins.
    speed = gaussian_filter1d(_widest(speed, max(1, round(0.1 * fps))), max(1.0, 0.05 * fps), axis=0, mode='nearest')
    share = np.clip((speed - SLOW) / (FAST - SLOW), 0, 1)[..., None]
    return share * light + (1 - share) * heavy


def _savgol(values: np.ndarray, seconds: float, fps: float, order: int) -> np.ndarray:
    window = max(order + 2, round(seconds * fps)) // 2 * 2 + 1
    if len(values) < window:
        window = len(values) - (len(values) + 1) % 2
    if window <= order:
        return values.copy()
    return savgol_filter(values, window, order, axis=0, mode='interp')


def _widest(values: np.ndarray, reach: int) -> np.ndarray:
    """Return the running maximum over ``reach`` frames to both sides."""
    padded = np.pad(values, ((reach, reach), (0, 0)), mode='edge')
    return np.max([padded[i : i + len(values)] for i in range(2 * reach + 1)], axis=0)
