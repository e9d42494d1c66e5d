"""Linear models of the robot around a motion: how a small change of state or servo targets grows in one control step.

The state's error lives in the tangent space, 70 numbers: root position (world), root rotation (body), 29 joints, root
linear velocity (world), root angular velocity (body), 29 joint velocities.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import mujoco
import numpy as np

from humanx_description.robot import NUM_JOINTS
from humanx_training import rotation

NQ, NV = 7 + NUM_JOINTS, 6 + NUM_JOINTS
STATE = 2 * NV


@dataclass(frozen=True)
class LinearModel:
    """``x[t+1] - next[t] = A[t] dx[t] + sum_s B[t, s] du_s[t]`` with ``du_s`` the targets during substep ``s``.

    ``a`` (T, 70, 70), ``b`` (T, S, 70, 29), ``next_qpos`` (T, 36), ``next_qvel`` (T, 35); ``rejected`` frames took the
    model of a neighbour because a contact flickered.
    """

    a: np.ndarray
    b: np.ndarray
    next_qpos: np.ndarray
    next_qvel: np.ndarray
    rejected: int


def state_error(qpos: np.ndarray, qvel: np.ndarray, ref_qpos: np.ndarray, ref_qvel: np.ndarray) -> np.ndarray:
    """Return the tangent-space error (..., 70) of robot states against reference states (..., 36), (..., 35)."""
    turn = rotation.log(rotation.multiply(rotation.conjugate(ref_qpos[..., 3:7]), qpos[..., 3:7]))
    return np.concatenate(
        [qpos[..., :3] - ref_qpos[..., :3], turn, qpos[..., 7:] - ref_qpos[..., 7:], qvel - ref_qvel], -1
    )


def linearise(
    model: mujoco.MjModel,
    qpos: np.ndarray,
    qvel: np.ndarray,
    target: np.ndarray,
    substeps: int = 2,
    eps: float = 1e-5,
    threads: int = 2,
    stride: int = 2,
    max_growth: float = 1.3,
) -> LinearModel:
    """Return the linear models along (T, 36), (T, 35) under servo targets (T, 29).

    ``model`` holds the robot alone. Frames whose model would grow an error by more than ``max_growth`` in one step
    sit on a contact that the finite differences switch on and off; they are replaced by the nearest sound frame.
    Models change slowly: one frame in ``stride`` is differentiated and the others take their neighbour's (every frame
    is stepped, for the gaps).
    """
    count = len(qpos)
    a_all = np.zeros((count, STATE, STATE))
    b_all = np.zeros((count, substeps, STATE, NUM_JOINTS))
    next_qpos, next_qvel = np.zeros((count, NQ)), np.zeros((count, NV))

    def work(frames: range) -> None:
        data = mujoco.MjData(model)
        a, b = np.zeros((STATE, STATE)), np.zeros((STATE, NUM_JOINTS))
        for t in frames:
            data.qpos[:], data.qvel[:], data.ctrl[:] = qpos[t], qvel[t], target[t]
            data.qacc_warmstart[:] = 0
            mujoco.mj_forward(model, data)
            a_step, b_step = np.eye(STATE), np.zeros((substeps, STATE, NUM_JOINTS))
            differentiate = t % stride == 0
            for s in range(substeps):
                if not differentiate:
                    mujoco.mj_step(model, data)
                    continue
                mujoco.mjd_transitionFD(model, data, eps, True, a, b, None, None)
                a_step, b_step[:s] = a @ a_step, a @ b_step[:s]
                b_step[s] = b
                mujoco.mj_step(model, data)
            a_all[t], b_all[t] = a_step, b_step
            next_qpos[t], next_qvel[t] = data.qpos, data.qvel

    bounds = np.linspace(0, count, threads + 1).astype(int)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, [range(lo, hi) for lo, hi in pairwise(bounds)]))
    growth = np.full(count, np.inf)
    growth[::stride] = [np.abs(np.linalg.eigvals(a)).max() for a in a_all[::stride]]
    sound = np.flatnonzero(growth < max_growth)
    if len(sound):
        nearest = sound[np.abs(np.arange(count)[:, None] - sound[None]).argmin(1)]
        a_all, b_all = a_all[nearest], b_all[nearest]
    return LinearModel(a_all, b_all, next_qpos, next_qvel, int(np.sum(growth[::stride] >= max_growth)))
