"""The CPU stepper's steps in plain Python, for machines without a C compiler and as the reference in its tests."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import mujoco
import numpy as np

from humanx_training.xmimic.sim.base import PAST_COMMANDS

if TYPE_CHECKING:
    from humanx_training.xmimic.sim.mujoco_cpu import MujocoSimulator

_STEP, _FORWARD = 0, 1
_DIVERGED = (
    mujoco.mjtWarning.mjWARN_BADQPOS,
    mujoco.mjtWarning.mjWARN_BADQVEL,
    mujoco.mjtWarning.mjWARN_BADQACC,
    mujoco.mjtWarning.mjWARN_BADCTRL,
)


class PythonEngine:
    """Steps environments one by one, split over Python threads (MuJoCo releases the interpreter lock)."""

    def __init__(self, sim: MujocoSimulator) -> None:
        """Make one model and data per thread."""
        self._sim = sim
        self._models = [copy.copy(sim.model) for _ in range(sim.threads)]
        for model in self._models:
            model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_SENSOR
        self._datas = [mujoco.MjData(model) for model in self._models]
        self._overrides: dict[str, np.ndarray] = {}
        self._pool = ThreadPoolExecutor(sim.threads)

    def run(self, kind: int, ids: np.ndarray | None, substeps: int) -> None:
        """Run a job over the environments ``ids`` (all when None)."""
        envs = np.arange(self._sim.num_envs) if ids is None else ids
        do = {_STEP: self._step, _FORWARD: self._forward}.get(kind, self._set_const)

        def work(thread: int) -> None:
            model, data = self._models[thread], self._datas[thread]
            for env in envs[thread :: len(self._models)]:
                for name, values in self._overrides.items():
                    getattr(model, name)[:] = values[env]
                do(model, data, int(env), substeps)

        list(self._pool.map(work, range(len(self._models))))

    def override(self, name: str, copies: np.ndarray) -> None:
        """Let ``copies`` (N, ...) replace a field of the model."""
        self._overrides[name] = copies

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown()

    def _load(self, data: mujoco.MjData, env: int) -> None:
        b = self._sim.buffers
        data.qpos[:], data.qvel[:], data.qacc_warmstart[:] = b.qpos[env], b.qvel[env], b.warmstart[env]
        data.time = b.time[env]
        b.contact[env] = False

    def _step(self, model: mujoco.MjModel, data: mujoco.MjData, env: int, substeps: int) -> None:
        b, sim = self._sim.buffers, self._sim
        if not b.finite[env]:
            return
        self._load(data, env)
        for warning in _DIVERGED:
            data.warning[warning].number = 0
        for substep in range(substeps):
            age = min(-((substep - int(b.delay[env])) // substeps), PAST_COMMANDS) if substep < b.delay[env] else 0
            data.ctrl[:] = b.ctrl_past[env, age - 1] if age else b.ctrl[env]
            data.xfrc_applied[sim.drag_ids] = 0.0
            data.xfrc_applied[sim.force_ids] = b.xfrc[env]
            for index, body in enumerate(sim.drag_ids):
                dof = model.body_dofadr[body]
                velocity = data.qvel[dof : dof + 3]
                data.xfrc_applied[body, :3] -= b.drag[env, index] * np.sqrt(velocity @ velocity) * velocity
            mujoco.mj_step(model, data)
            self._mark_contacts(model, data, env, with_force=substep == substeps - 1)
            if any(data.warning[warning].number for warning in _DIVERGED):
                b.finite[env] = False
                return
        b.ctrl_past[env, 1:] = b.ctrl_past[env, :-1].copy()
        b.ctrl_past[env, 0] = b.ctrl[env]
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_comVel(model, data)
        self._store(model, data, env)

    def _forward(self, model: mujoco.MjModel, data: mujoco.MjData, env: int, _: int) -> None:
        b = self._sim.buffers
        self._load(data, env)
        b.finite[env] = bool(np.isfinite(data.qpos).all() and np.isfinite(data.qvel).all())
        if not b.finite[env]:
            return
        data.actuator_force[:] = 0.0
        mujoco.mj_fwdPosition(model, data)
        mujoco.mj_fwdVelocity(model, data)
        self._mark_contacts(model, data, env, with_force=False)
        b.contact_force[env] = 0.0
        self._store(model, data, env)

    def _set_const(self, model: mujoco.MjModel, data: mujoco.MjData, env: int, _: int) -> None:
        mujoco.mj_setConst(model, data)
        for name, values in self._overrides.items():
            values[env] = getattr(model, name)

    def _mark_contacts(self, model: mujoco.MjModel, data: mujoco.MjData, env: int, *, with_force: bool) -> None:
        b, sim = self._sim.buffers, self._sim
        if with_force:
            b.contact_force[env] = 0.0
        wrench = np.zeros(6)
        for index in range(data.ncon):
            contact = data.contact[index]
            first, second = contact.geom
            if first < 0 or second < 0 or contact.dist > 0:
                continue
            one, two = sim.geom_mask[first], sim.geom_mask[second]
            for pair, (u, v) in enumerate(sim.pair_mask):
                if (one & u and two & v) or (one & v and two & u):
                    b.contact[env, pair] = True
                    if with_force and contact.efc_address >= 0:
                        mujoco.mj_contactForce(model, data, index, wrench)
                        b.contact_force[env, pair] += wrench[0]

    def _store(self, model: mujoco.MjModel, data: mujoco.MjData, env: int) -> None:
        b, ids = self._sim.buffers, self._sim.body_ids
        b.qpos[env], b.qvel[env], b.warmstart[env] = data.qpos, data.qvel, data.qacc_warmstart
        b.actuator_force[env], b.time[env] = data.actuator_force, data.time
        b.xpos[env], b.xquat[env] = data.xpos[ids], data.xquat[ids]
        angular = data.cvel[ids, :3]
        arm = data.xpos[ids] - data.subtree_com[model.body_rootid[ids]]
        b.xvel[env, :, :3] = data.cvel[ids, 3:] + np.cross(angular, arm)
        b.xvel[env, :, 3:] = angular
