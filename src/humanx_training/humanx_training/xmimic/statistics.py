"""Confidence intervals for what an evaluation measures."""

from __future__ import annotations

import math

import numpy as np

from humanx_description.statistics import wilson

__all__ = ['bootstrap_mean', 'wilson']


def bootstrap_mean(
    values: np.ndarray, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """Return mean and percentile bootstrap interval of finite ``values`` (N,); NaN without any."""
    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    if not values.size:
        return math.nan, math.nan, math.nan
    rng = np.random.default_rng(seed)
    means = values[rng.integers(0, values.size, (resamples, values.size))].mean(axis=1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(values.mean()), float(low), float(high)
