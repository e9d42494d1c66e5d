"""MuJoCo Warp: every environment on one CUDA device, nothing copied through the host.

Steps, forward dynamics and kinematics are captured as CUDA graphs. Tensors are float32 views or copies on the device.
Contacts are found from the same geometry pairs as on the CPU. Runs on Warp's CPU device too, slowly: that is how its
results are compared with the C engine's in the tests.
"""

from __future__ import annotations

import mujoco
import numpy as np
import torch

from humanx_description.errors import UserError
from humanx_training.xmimic.sim.base import PAST_COMMANDS, SimSpec, Simulator, command_age, delayed

# Fields that may differ between environments; MuJoCo Warp allocates them at the start.
BATCHED = (
    'body_mass', 'body_subtreemass', 'body_inertia', 'body_ipos', 'body_iquat', 'body_invweight0', 'dof_invweight0',
    'dof_damping', 'dof_armature', 'geom_size', 'geom_pos', 'geom_rbound', 'geom_aabb', 'geom_friction', 'geom_solref',
    'pair_friction', 'pair_solref', 'actuator_gainprm', 'actuator_biasprm', 'actuator_forcerange',
)  # fmt: skip

# Functions of MuJoCo Warp by what they are needed for; each row is a CUDA graph.
_PARTS = {
    'step': ('step',),
    'forward': ('fwd_position', 'fwd_velocity'),
    'kinematics': ('kinematics', 'com_pos', 'com_vel'),
}


class MujocoWarpSimulator(Simulator):
    """GPU simulator; see :class:`.base.Simulator`.

    ``contacts_per_env`` and ``constraints_per_env`` bound what one environment may have on average and at most; MuJoCo
    Warp drops what does not fit.
    """

    def __init__(
        self, model: mujoco.MjModel, num_envs: int, spec: SimSpec | None = None, *, device: str | None = None,
        contacts_per_env: int = 48, constraints_per_env: int = 256,
    ) -> None:
        """Put the model on ``device`` (default: CUDA where there is one)."""
        spec = spec or SimSpec()
        super().__init__(model, num_envs, spec)
        try:
            import mujoco_warp as mjw
            import warp as wp
        except ImportError:
            raise UserError(
                'simulator mujoco_warp: the packages mujoco-warp 3.11 and warp-lang are missing; install them.'
            ) from None
        wp.config.log_level = getattr(wp, 'LOG_WARNING', 30)  # not a line for each of a hundred kernels
        wp.init()
        self._mjw, self._wp = mjw, wp
        name = device or ('cuda:0' if wp.is_cuda_available() else 'cpu')
        self._wp_device = wp.get_device(name)
        self._device = torch.device('cuda:0' if name == 'cuda' else name)
        try:
            with wp.ScopedDevice(self._wp_device):
                self._model = mjw.put_model(model, batch_sizes=dict.fromkeys(BATCHED, num_envs))
                self._data = mjw.make_data(
                    model, nworld=num_envs, nconmax=contacts_per_env, njmax=constraints_per_env
                )
        except (RuntimeError, MemoryError) as error:
            raise UserError(
                f'environments: {num_envs} do not fit on {name} ({str(error).splitlines()[0]}); expected fewer.'
            ) from None
        self._bind()
        self._graphs: dict[str, object] = {}
        self._forward()
        if self._wp_device.is_cuda:
            for name in _PARTS:
                with wp.ScopedDevice(self._wp_device), wp.ScopedCapture() as capture:
                    self._run(name)
                self._graphs[name] = capture.graph

    def _bind(self) -> None:
        n, spec, d = self.num_envs, self.spec, self._data

        def view(array: object) -> torch.Tensor:
            return self._wp.to_torch(array)

        def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
            return torch.zeros(*shape, dtype=dtype, device=self._device)

        self.qpos, self.qvel = view(d.qpos), view(d.qvel)
        self.qpos[:] = torch.as_tensor(self.model.qpos0, dtype=torch.float32, device=self._device)
        self._warmstart, self._ctrl, self._force = view(d.qacc_warmstart), view(d.ctrl), view(d.xfrc_applied)
        self._force = self._force.view(n, self.model.nbody, 6)
        self._xpos, self._xquat, self._cvel = view(d.xpos), view(d.xquat), view(d.cvel)
        self._com = view(d.subtree_com)
        self.actuator_force = view(d.actuator_force)
        bodies, pairs, forces = len(spec.bodies), len(spec.contact_pairs), len(spec.force_bodies)
        self.xpos, self.xquat, self.xvel = zeros(n, bodies, 3), zeros(n, bodies, 4), zeros(n, bodies, 6)
        self.contact, self.contact_force = zeros(n, pairs, dtype=torch.bool), zeros(n, pairs)
        self.finite = torch.ones(n, dtype=torch.bool, device=self._device)
        self.xfrc = zeros(n, forces, 6)
        drag = torch.tensor(list(spec.drag.values()), dtype=torch.float32, device=self._device)
        self.drag = drag.repeat(n, 1)
        self.delay = zeros(n, dtype=torch.int32)
        self._past = zeros(n, PAST_COMMANDS, self.model.nu)
        index = {name: torch.as_tensor(ids.astype(np.int64), device=self._device) for name, ids in (
            ('body', self.body_ids), ('force', self.force_ids), ('drag', self.drag_ids))}
        self._body_index, self._force_index, self._drag_index = index['body'], index['force'], index['drag']
        self._root_index = torch.as_tensor(
            self.model.body_rootid[self.body_ids].astype(np.int64), device=self._device
        )
        # (P, ngeom) bool: does a geom belong to the first, the second group of a pair?
        member = (self.geom_mask[None, None] & self.pair_mask[:, :, None]) != 0
        self._member = torch.as_tensor(member, device=self._device)
        self._drag_dofs = torch.as_tensor(self.model.body_dofadr[self.drag_ids].astype(np.int64), device=self._device)

    def _run(self, name: str) -> None:
        """Run a part of MuJoCo Warp: its graph once there is one."""
        if name in self._graphs:
            self._wp.capture_launch(self._graphs[name])
            return
        with self._wp.ScopedDevice(self._wp_device):
            for function in _PARTS[name]:
                getattr(self._mjw, function)(self._model, self._data)

    @property
    def device(self) -> torch.device:
        """The CUDA device, or Warp's CPU."""
        return self._device

    def parameter(self, name: str) -> torch.Tensor:
        """Return a per-environment model field in MuJoCo's shape; see :meth:`.base.Simulator.parameter`."""
        if name not in BATCHED:
            raise UserError(f'simulator mujoco_warp: {name!r} cannot vary between environments.')
        tensor = self._wp.to_torch(getattr(self._model, name))
        return tensor.view(self.num_envs, *getattr(self.model, name).shape)

    def refresh_constants(self, env_ids: torch.Tensor | None = None) -> None:
        """Recompute derived constants of all environments."""
        with self._wp.ScopedDevice(self._wp_device):
            self._mjw.set_const(self._model, self._data)

    def set_state(self, qpos: torch.Tensor, qvel: torch.Tensor, env_ids: torch.Tensor | None = None) -> None:
        """Set positions and velocities; see :meth:`.base.Simulator.set_state`."""
        where = slice(None) if env_ids is None else env_ids
        qpos = torch.as_tensor(qpos, dtype=torch.float32, device=self._device)
        qvel = torch.as_tensor(qvel, dtype=torch.float32, device=self._device)
        good = torch.isfinite(qpos).all(-1) & torch.isfinite(qvel).all(-1)
        default = torch.as_tensor(self.model.qpos0, dtype=torch.float32, device=self._device)
        self.qpos[where] = torch.where(good[:, None], qpos, default)
        self.qvel[where] = torch.where(good[:, None], qvel, torch.zeros_like(qvel))
        self._warmstart[where] = 0.0
        self._past[where] = self.qpos[where][:, None, 7 : 7 + self.model.nu]
        self.finite[where] = good
        self._forward(where)

    def step(self, ctrl: torch.Tensor, substeps: int = 1) -> None:
        """Advance by ``substeps``; see :meth:`.base.Simulator.step`."""
        wanted = torch.as_tensor(ctrl, dtype=torch.float32, device=self._device)
        self.contact.zero_()
        for substep in range(substeps):
            self._ctrl.copy_(delayed(wanted, self._past, command_age(self.delay, substep, substeps)))
            self._apply_forces()
            self._run('step')
            self._mark_contacts(with_force=substep == substeps - 1)
        self._past = torch.cat([wanted[:, None], self._past[:, :-1]], 1)
        sound = torch.isfinite(self.qpos).all(-1) & torch.isfinite(self.qvel).all(-1)
        self.finite &= sound & (self.qvel.abs().amax(-1) < 1e6)
        # A world that diverged must not poison the shared solver: it waits at the default pose.
        default = torch.as_tensor(self.model.qpos0, dtype=torch.float32, device=self._device)
        self.qpos.copy_(torch.where(self.finite[:, None], self.qpos, default))
        self.qvel.copy_(torch.where(self.finite[:, None], self.qvel, torch.zeros_like(self.qvel)))
        self._kinematics()

    def _apply_forces(self) -> None:
        self._force[:, self._drag_index] = 0.0
        if len(self._force_index):
            self._force[:, self._force_index] = self.xfrc
        for slot, dof in enumerate(self._drag_dofs.tolist()):
            velocity = self.qvel[:, dof : dof + 3]
            drag = -self.drag[:, slot, None] * velocity.norm(dim=-1, keepdim=True) * velocity
            self._force[:, self._drag_index[slot], :3] += drag

    def _forward(self, where: slice | torch.Tensor = slice(None)) -> None:
        self._run('forward')
        kept, kept_force = self.contact.clone(), self.contact_force.clone()
        self.contact.zero_()
        self._mark_contacts(with_force=False)
        kept[where], kept_force[where] = self.contact[where], 0.0
        self.contact.copy_(kept)
        self.contact_force.copy_(kept_force)
        self.actuator_force[where] = 0.0
        self._gather()

    def _kinematics(self) -> None:
        self._run('kinematics')
        self._gather()

    def _gather(self) -> None:
        ids = self._body_index
        self.xpos.copy_(self._xpos[:, ids])
        self.xquat.copy_(self._xquat[:, ids])
        cvel = self._cvel[:, ids].reshape(self.num_envs, -1, 6)
        arm = self._xpos[:, ids] - self._com[:, self._root_index]
        self.xvel[..., :3] = cvel[..., 3:] + torch.linalg.cross(cvel[..., :3], arm)
        self.xvel[..., 3:] = cvel[..., :3]

    def _mark_contacts(self, *, with_force: bool) -> None:
        """Mark pairs whose geoms touch, without a host copy: every slot of the contact list takes part."""
        pairs = len(self.spec.contact_pairs)
        if not pairs:
            return
        c, view = self._data.contact, self._wp.to_torch
        geom, world, dist = view(c.geom).long(), view(c.worldid).long(), view(c.dist)
        used = torch.arange(len(dist), device=self._device) < view(self._data.nacon)
        used = used & (dist <= 0) & (geom >= 0).all(-1)
        geom, world = geom.clamp(min=0), world.clamp(0, self.num_envs - 1)
        first, second = geom[:, 0], geom[:, 1]
        member = self._member
        hit = (member[:, 0][:, first] & member[:, 1][:, second]) | (member[:, 0][:, second] & member[:, 1][:, first])
        hit = (hit & used).T  # (contacts, P)
        count = torch.zeros(self.num_envs, pairs, device=self._device).index_add_(0, world, hit.float())
        self.contact |= count > 0
        if with_force:
            address = view(c.efc_address).long()
            forces = view(self._data.efc.force)
            usable = (address >= 0) & (address < forces.shape[1])
            values = forces[world[:, None], address.clamp(0, forces.shape[1] - 1)] * usable
            normal = values.sum(-1)  # pyramidal cone: the facets' forces add up to the normal force
            self.contact_force.zero_().index_add_(0, world, hit.float() * normal[:, None])
