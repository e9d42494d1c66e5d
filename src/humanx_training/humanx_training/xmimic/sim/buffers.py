"""The arrays of a CPU simulator, allocated once: numpy and torch see the same memory."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from humanx_training.xmimic.sim.base import PAST_COMMANDS


@dataclass
class Buffers:
    """State, inputs and outputs of N environments (float64 unless said); see :class:`.base.Simulator`."""

    qpos: np.ndarray
    qvel: np.ndarray
    warmstart: np.ndarray  # (N, nv) the last acceleration, where the solver starts
    time: np.ndarray  # (N,) s
    ctrl: np.ndarray  # (N, nu) rad
    ctrl_past: np.ndarray  # (N, PAST_COMMANDS, nu) rad, of the steps before, newest first
    delay: np.ndarray  # (N,) int32
    xfrc: np.ndarray
    drag: np.ndarray
    xpos: np.ndarray
    xquat: np.ndarray
    xvel: np.ndarray
    actuator_force: np.ndarray
    contact: np.ndarray  # bool
    contact_force: np.ndarray
    finite: np.ndarray  # bool

    @classmethod
    def allocate(
        cls, model: mujoco.MjModel, num_envs: int, bodies: int, pairs: int, forces: int, drag: np.ndarray
    ) -> Buffers:
        """Return zeroed arrays with the model's default position in every environment."""
        n = num_envs
        zeros = np.zeros
        buffers = cls(
            qpos=np.tile(model.qpos0, (n, 1)), qvel=zeros((n, model.nv)), warmstart=zeros((n, model.nv)),
            time=zeros(n), ctrl=zeros((n, model.nu)), ctrl_past=zeros((n, PAST_COMMANDS, model.nu)),
            delay=zeros(n, np.int32),
            xfrc=zeros((n, forces, 6)), drag=np.tile(drag, (n, 1)).astype(np.float64),
            xpos=zeros((n, bodies, 3)), xquat=zeros((n, bodies, 4)), xvel=zeros((n, bodies, 6)),
            actuator_force=zeros((n, model.nu)), contact=zeros((n, pairs), np.bool_),
            contact_force=zeros((n, pairs)), finite=np.ones(n, np.bool_),
        )
        buffers.xquat[..., 0] = 1.0
        return buffers
