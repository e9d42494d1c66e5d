"""Velocity from timed poses."""

import numpy as np

from humanx_mocap_bridge import quaternion as quat

WINDOW = 0.065  # s
# With these the fit is quadratic: a ball in flight gains 0.6 m/s within the window, which a line
# would report half.
MIN_QUADRATIC_SAMPLES = 5
MIN_QUADRATIC_SPAN = 0.035  # s
MIN_SPAN = 0.004  # s


def estimate_twist(times: np.ndarray, poses: np.ndarray) -> np.ndarray:
    """Return linear (m/s) and angular (rad/s) velocity (6,) in world axes at the newest sample.

    ``times`` (M,) s ascending, ``poses`` (M, 7). Only samples of the last 65 ms count, at their own
    times, so that frames that were lost in between shift nothing. Position: least-squares parabola
    (a line where there are few samples). Rotation: least-squares rate of the rotation vectors from
    the newest pose. Zero with one sample.

    A parabola through 7 samples at 100 Hz with noise sigma has a slope noise of 68 sigma per
    second: 0.03 m/s for 0.5 mm.
    """
    recent = times > times[-1] - WINDOW
    t, samples = times[recent] - times[-1], poses[recent]
    span = -float(t[0])
    if span < MIN_SPAN:
        return np.zeros(6)
    quadratic = len(t) >= MIN_QUADRATIC_SAMPLES and span >= MIN_QUADRATIC_SPAN
    weights = _end_slope_weights(t / span, quadratic) / span
    linear = (weights[:, None] * samples[:, :3]).sum(axis=0)
    turned = quat.to_rotation_vectors(quat.multiply_each(samples[:, 3:], quat.conjugate(samples[-1, 3:])))
    centred = t - t.mean()
    angular = (centred[:, None] * turned).sum(axis=0) / (centred * centred).sum()
    return np.concatenate([linear, angular])


def _end_slope_weights(u: np.ndarray, quadratic: bool) -> np.ndarray:
    """Return w (M,) such that ``sum(w y)`` is the slope at u = 0 of the least-squares fit to y(u).

    The second row of the inverse normal matrix by cofactors: on a busy machine the linear algebra
    library's threads make one 3x3 system cost milliseconds.
    """
    s0, s1, s2 = float(len(u)), float(u.sum()), float((u * u).sum())
    if not quadratic:
        return (s0 * u - s1) / (s0 * s2 - s1 * s1)
    s3, s4 = float((u**3).sum()), float((u**4).sum())
    constant, slope, curve = s2 * s3 - s1 * s4, s0 * s4 - s2 * s2, s1 * s2 - s0 * s3
    determinant = s1 * constant + s2 * slope + s3 * curve
    return (constant + slope * u + curve * u * u) / determinant
