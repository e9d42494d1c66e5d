"""Simulators behind one interface (:class:`.base.Simulator`).

``mujoco``: MuJoCo's C engine on all cores, the default. ``mujoco_warp``: CUDA. ``isaacgym``: an adapter for machines
that have NVIDIA's package.
"""

from __future__ import annotations

from typing import Literal

import mujoco

from humanx_description.errors import UserError
from humanx_training.xmimic.sim.base import SimSpec, Simulator
from humanx_training.xmimic.sim.mujoco_cpu import MujocoSimulator

SimulatorName = Literal['mujoco', 'mujoco_warp', 'isaacgym']
SIMULATORS: tuple[str, ...] = ('mujoco', 'mujoco_warp', 'isaacgym')

__all__ = ['SIMULATORS', 'MujocoSimulator', 'SimSpec', 'Simulator', 'SimulatorName', 'make_simulator']


def make_simulator(
    name: str, model: mujoco.MjModel, num_envs: int, spec: SimSpec | None = None, **options: object
) -> Simulator:
    """Return the simulator called ``name``; raises :class:`UserError` for an unknown or uninstalled one."""
    if name == 'mujoco':
        return MujocoSimulator(model, num_envs, spec, **options)  # type: ignore[arg-type]
    if name == 'mujoco_warp':
        from humanx_training.xmimic.sim.mujoco_warp import MujocoWarpSimulator

        return MujocoWarpSimulator(model, num_envs, spec, **options)  # type: ignore[arg-type]
    if name == 'isaacgym':
        from humanx_training.xmimic.sim.isaacgym import IsaacGymSimulator

        return IsaacGymSimulator(model, num_envs, spec, **options)  # type: ignore[arg-type]
    raise UserError(f'simulator {name!r} is unknown; expected one of {", ".join(SIMULATORS)}.')
