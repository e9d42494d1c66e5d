"""MuJoCo's C engine on all cores: the default simulator.

The C stepper (``native/hxsim.c``) does everything; where it cannot be compiled, the same steps run in Python threads
(:mod:`.mujoco_python`), with equal results and several times slower.
"""

from __future__ import annotations

import ctypes
import logging
import os
import time

import mujoco
import numpy as np
import torch

from humanx_description.errors import UserError
from humanx_training.xmimic.sim.base import SimSpec, Simulator
from humanx_training.xmimic.sim.buffers import Buffers
from humanx_training.xmimic.sim.native_build import BuildError, load_library

_LOG = logging.getLogger(__name__)
_STEP, _FORWARD, _SET_CONST = 0, 1, 2
# Derived from masses and inertias by mj_setConst.
_DERIVED = ('body_subtreemass', 'body_invweight0', 'dof_invweight0', 'dof_M0')
_INERTIAL = ('body_mass', 'body_inertia', 'body_ipos', 'body_iquat', 'dof_armature')


class _Buffers(ctypes.Structure):
    """Mirror of HxBuffers in hxsim.c."""

    _fields_ = [
        *[(name, ctypes.c_int32) for name in (
            'num_envs', 'num_bodies', 'num_pairs', 'num_force_bodies', 'num_drag_bodies', 'reserved')],
        *[(name, ctypes.c_void_p) for name in (
            'body_ids', 'force_ids', 'drag_ids', 'geom_mask', 'pair_mask', 'qpos', 'qvel', 'warmstart', 'time',
            'ctrl', 'ctrl_past', 'delay', 'xfrc', 'drag', 'xpos', 'xquat', 'xvel', 'actuator_force', 'contact',
            'contact_force', 'finite')],
    ]  # fmt: skip


class MujocoSimulator(Simulator):
    """CPU simulator; tensors are float64 and share memory with the numpy arrays in :attr:`buffers`.

    ``threads`` defaults to the number of usable cores. ``native=False`` forces the Python fallback.
    ``physics_seconds`` accumulates the wall time inside the engine.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        num_envs: int,
        spec: SimSpec | None = None,
        *,
        threads: int | None = None,
        native: bool | None = None,
    ) -> None:
        """Allocate the environments at the model's default position; see :class:`.base.Simulator`."""
        spec = spec or SimSpec()
        super().__init__(model, num_envs, spec)
        self.threads = max(1, min(threads or len(os.sched_getaffinity(0)), num_envs))
        self.physics_seconds = 0.0
        try:
            self.buffers = Buffers.allocate(
                model, num_envs, len(spec.bodies), len(spec.contact_pairs), len(spec.force_bodies),
                np.array(list(spec.drag.values()), np.float64),
            )
        except MemoryError:
            raise UserError(f'environments: {num_envs} do not fit into memory; expected fewer.') from None
        for name, array in vars(self.buffers).items():
            setattr(self, name, torch.from_numpy(array))
        self._parameters: dict[str, np.ndarray] = {}
        self._engine = self._make_engine(native)
        self._engine.run(_FORWARD, None, 0)

    def _make_engine(self, native: bool | None):
        if native is not False:
            try:
                return _NativeEngine(self, load_library())
            except BuildError as error:
                if native:
                    raise UserError(f'simulator: the C stepper cannot be built: {error}.') from None
                _LOG.warning('The C stepper cannot be built (%s): stepping in Python, several times slower.', error)
        from humanx_training.xmimic.sim.mujoco_python import PythonEngine

        return PythonEngine(self)

    @property
    def native(self) -> bool:
        """Whether the C stepper is in use."""
        return isinstance(self._engine, _NativeEngine)

    @property
    def device(self) -> torch.device:
        """Always the CPU."""
        return torch.device('cpu')

    def parameter_array(self, name: str) -> np.ndarray:
        """Like :meth:`parameter`, as the numpy array (N, ...) that shares its memory."""
        if name not in self._parameters:
            value = getattr(self.model, name, None)
            if not isinstance(value, np.ndarray) or value.dtype != np.float64 or value.ndim == 0:
                raise UserError(f'simulator: {name!r} is not an array of real numbers in mjModel.')
            copies = np.repeat(value[None], self.num_envs, axis=0)
            self._engine.override(name, copies)
            self._parameters[name] = copies
        return self._parameters[name]

    def parameter(self, name: str) -> torch.Tensor:
        """Return a per-environment model field; see :meth:`.base.Simulator.parameter`."""
        array = self.parameter_array(name)
        if name in _INERTIAL:
            for derived in _DERIVED:
                self.parameter_array(derived)
        return torch.from_numpy(array)

    def refresh_constants(self, env_ids: torch.Tensor | None = None) -> None:
        """Recompute derived constants; see :meth:`.base.Simulator.refresh_constants`."""
        for derived in _DERIVED:
            self.parameter_array(derived)
        self._run(_SET_CONST, _ids(env_ids), 0)

    def set_state(
        self, qpos: torch.Tensor | np.ndarray, qvel: torch.Tensor | np.ndarray,
        env_ids: torch.Tensor | np.ndarray | None = None,
    ) -> None:
        """Set positions (M, nq) and velocities (M, nv) and update poses and contacts; clears the solver's memory."""
        ids = _ids(env_ids)
        where = slice(None) if ids is None else ids
        if ids is not None and len(ids) == 0:
            return
        b = self.buffers
        b.qpos[where] = qpos
        b.qvel[where] = qvel
        b.warmstart[where] = 0.0
        b.time[where] = 0.0
        hold = b.qpos[where][:, None, 7 : 7 + self.model.nu] if self.model.nq >= 7 + self.model.nu else 0.0
        b.ctrl_past[where] = hold
        self._run(_FORWARD, ids, 0)

    def step(self, ctrl: torch.Tensor | np.ndarray | None = None, substeps: int = 1) -> None:
        """Advance all environments; ``ctrl=None`` uses what is in ``buffers.ctrl``."""
        if ctrl is not None:
            self.buffers.ctrl[:] = ctrl
        self._run(_STEP, None, substeps)

    def _run(self, kind: int, ids: np.ndarray | None, substeps: int) -> None:
        start = time.perf_counter()
        self._engine.run(kind, ids, substeps)
        self.physics_seconds += time.perf_counter() - start

    def close(self) -> None:
        """Stop the threads."""
        self._engine.close()


def _ids(env_ids: torch.Tensor | np.ndarray | None) -> np.ndarray | None:
    if env_ids is None:
        return None
    return np.ascontiguousarray(np.asarray(env_ids), dtype=np.int32)


class _NativeEngine:
    """The C thread pool behind the common three calls: run, override, close."""

    def __init__(self, sim: MujocoSimulator, library: ctypes.CDLL) -> None:
        library.hx_create.restype = ctypes.c_void_p
        library.hx_create.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int]
        library.hx_override.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
        library.hx_run.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_int]
        library.hx_run.restype = None
        library.hx_destroy.argtypes = [ctypes.c_void_p]
        self._library = library
        # The pool reads these addresses for as long as it lives.
        self._keep: list = [sim.buffers, sim.body_ids, sim.force_ids, sim.drag_ids, sim.geom_mask, sim.pair_mask]
        arrays = {
            'body_ids': sim.body_ids, 'force_ids': sim.force_ids, 'drag_ids': sim.drag_ids,
            'geom_mask': sim.geom_mask, 'pair_mask': sim.pair_mask, **vars(sim.buffers),
        }
        sizes = {
            'num_envs': sim.num_envs, 'num_bodies': len(sim.body_ids), 'num_pairs': len(sim.pair_mask),
            'num_force_bodies': len(sim.force_ids), 'num_drag_bodies': len(sim.drag_ids),
        }
        buffers = _Buffers(**sizes, **{name: array.ctypes.data for name, array in arrays.items()})
        self._pool = library.hx_create(sim.model._address, ctypes.byref(buffers), sim.threads)
        if not self._pool:
            raise UserError(f'simulator: {sim.threads} threads with this model do not fit into memory.')

    def run(self, kind: int, ids: np.ndarray | None, substeps: int) -> None:
        if self._pool is None:
            raise RuntimeError('the simulator is closed')
        if ids is None:
            self._library.hx_run(self._pool, kind, None, 0, substeps)
        else:
            self._library.hx_run(self._pool, kind, ids.ctypes.data, len(ids), substeps)

    def override(self, name: str, copies: np.ndarray) -> None:
        if self._library.hx_override(self._pool, name.encode(), copies.ctypes.data):
            raise UserError(f'simulator: the model field {name!r} cannot vary between environments.')
        self._keep.append(copies)

    def close(self) -> None:
        if self._pool is not None:
            self._library.hx_destroy(self._pool)
            self._pool = None

    def __del__(self) -> None:
        if getattr(self, '_pool', None) is not None:
            self.close()
