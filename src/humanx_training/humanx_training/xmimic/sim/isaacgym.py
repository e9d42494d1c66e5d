"""Adapter to NVIDIA's Isaac Gym (Preview 4), for machines that have that package.

It has not been run: the package can only be had from NVIDIA and needs Python 3.8 and a CUDA device. The contract tests
(``test/test_sim_contract.py``) run it wherever it imports.

PhysX differs from MuJoCo in contact, so trajectories are alike, not equal. Contact between given bodies is only to be
had on the CPU pipeline (``get_env_rigid_contacts``), which this adapter therefore uses; per-environment parameters
cannot be changed after creation, so domain randomisation must be switched off (``env.randomisation.enabled=false``).
"""

from __future__ import annotations

import mujoco
import numpy as np
import torch

from humanx_description.assets import g1_mjcf
from humanx_description.errors import UserError
from humanx_training.xmimic.sim.base import PAST_COMMANDS, SimSpec, Simulator, command_age, delayed


class IsaacGymSimulator(Simulator):
    """PhysX behind the common interface; see the module for what it cannot do."""

    def __init__(self, model: mujoco.MjModel, num_envs: int, spec: SimSpec | None = None, *, threads: int = 4) -> None:
        """Write the scene as MJCF, load robot and objects as actors, acquire the state tensors."""
        spec = spec or SimSpec()
        super().__init__(model, num_envs, spec)
        try:
            from isaacgym import gymapi, gymtorch
        except ImportError:
            raise UserError(
                'simulator isaacgym: the package isaacgym is missing (NVIDIA Isaac Gym Preview 4); '
                'use --sim mujoco or mujoco_warp.'
            ) from None
        self._api, self._torch_api = gymapi, gymtorch
        self._gym = gymapi.acquire_gym()
        params = gymapi.SimParams()
        params.dt, params.substeps, params.up_axis = self.timestep, 1, gymapi.UP_AXIS_Z
        params.gravity = gymapi.Vec3(*model.opt.gravity)
        params.physx.num_threads, params.use_gpu_pipeline, params.physx.use_gpu = threads, False, False
        params.physx.solver_type, params.physx.num_position_iterations = 1, 8
        self._sim = self._gym.create_sim(0, -1, gymapi.SIM_PHYSX, params)
        plane = gymapi.PlaneParams()
        plane.normal = gymapi.Vec3(0.0, 0.0, 1.0)
        self._gym.add_ground(self._sim, plane)
        pelvis = model.body('pelvis').id
        self._objects = [b for b in range(1, model.nbody) if model.body_parentid[b] == 0 and b != pelvis]
        self._create(gymapi)
        self._bind(gymtorch)
        self._forward(torch.arange(num_envs))

    def _create(self, gymapi) -> None:
        options = gymapi.AssetOptions()
        options.default_dof_drive_mode = gymapi.DOF_MODE_POS
        options.collapse_fixed_joints = False
        path = g1_mjcf()
        asset = self._gym.load_asset(self._sim, str(path.parent), path.name, options)
        shapes = [self._object_asset(gymapi, body) for body in self._objects]
        lower, upper = gymapi.Vec3(-2, -2, 0), gymapi.Vec3(2, 2, 2)
        self._envs = []
        for env_index in range(self.num_envs):
            env = self._gym.create_env(self._sim, lower, upper, int(self.num_envs**0.5) + 1)
            actor = self._gym.create_actor(env, asset, gymapi.Transform(), 'robot', env_index, 0)
            drive = self._gym.get_actor_dof_properties(env, actor)
            drive['stiffness'] = self.model.actuator_gainprm[:, 0]
            drive['damping'] = -self.model.actuator_biasprm[:, 2]
            drive['effort'] = self.model.actuator_forcerange[:, 1]
            self._gym.set_actor_dof_properties(env, actor, drive)
            for body, shape in zip(self._objects, shapes):
                self._gym.create_actor(env, shape, gymapi.Transform(), self.model.body(body).name, env_index, 0)
            self._envs.append(env)
        self._gym.prepare_sim(self._sim)
        names = list(self._gym.get_actor_rigid_body_names(self._envs[0], 0))
        names += [self.model.body(b).name for b in self._objects]
        self._rigid_index = {name: k for k, name in enumerate(names)}
        order = self._gym.get_actor_dof_names(self._envs[0], 0)
        wanted = [self.model.joint(j).name for j in range(1, 1 + self.model.nu)]
        self._dof_order = torch.tensor([order.index(name) for name in wanted])

    def _object_asset(self, gymapi, body: int):
        geom = int(self.model.body_geomadr[body])
        size = self.model.geom_size[geom]
        options = gymapi.AssetOptions()
        kind = int(self.model.geom_type[geom])
        volume = {int(mujoco.mjtGeom.mjGEOM_SPHERE): 4 / 3 * np.pi * size[0] ** 3,
                  int(mujoco.mjtGeom.mjGEOM_BOX): 8 * float(np.prod(size))}.get(kind)  # fmt: skip
        if volume is None:
            raise UserError('simulator isaacgym: objects are spheres and boxes; use --sim mujoco for other shapes.')
        options.density = float(self.model.body_mass[body]) / volume
        if kind == int(mujoco.mjtGeom.mjGEOM_SPHERE):
            return self._gym.create_sphere(self._sim, size[0], options)
        return self._gym.create_box(self._sim, *(2 * size), options)

    def _bind(self, gymtorch) -> None:
        n, spec, gym = self.num_envs, self.spec, self._gym
        actors = 1 + len(self._objects)
        self._root = gymtorch.wrap_tensor(gym.acquire_actor_root_state_tensor(self._sim)).view(n, actors, 13)
        self._dof = gymtorch.wrap_tensor(gym.acquire_dof_state_tensor(self._sim)).view(n, -1, 2)
        self._rigid = gymtorch.wrap_tensor(gym.acquire_rigid_body_state_tensor(self._sim)).view(n, -1, 13)
        torques = gymtorch.wrap_tensor(gym.acquire_dof_force_tensor(self._sim)).view(n, -1)
        self._torques = torques
        self._bodies = torch.tensor([self._rigid_index[b] for b in spec.bodies], dtype=torch.long)
        pairs = len(spec.contact_pairs)
        self.qpos, self.qvel = torch.zeros(n, self.model.nq), torch.zeros(n, self.model.nv)
        self.qpos[:] = torch.as_tensor(self.model.qpos0, dtype=torch.float32)
        self.xpos, self.xquat = torch.zeros(n, len(spec.bodies), 3), torch.zeros(n, len(spec.bodies), 4)
        self.xvel, self.actuator_force = torch.zeros(n, len(spec.bodies), 6), torch.zeros(n, self.model.nu)
        self.contact, self.contact_force = torch.zeros(n, pairs, dtype=torch.bool), torch.zeros(n, pairs)
        self.finite = torch.ones(n, dtype=torch.bool)
        self.xfrc = torch.zeros(n, len(spec.force_bodies), 6)
        self.drag = torch.tensor(list(spec.drag.values())).repeat(n, 1)
        self.delay = torch.zeros(n, dtype=torch.int32)
        self._past = torch.zeros(n, PAST_COMMANDS, self.model.nu)

    @property
    def device(self) -> torch.device:
        """The CPU pipeline's."""
        return torch.device('cpu')

    def parameter(self, name: str) -> torch.Tensor:
        """Not to be had; raises :class:`UserError`."""
        raise UserError(f'simulator isaacgym: {name!r} cannot vary; set env.randomisation.enabled=false.')

    def refresh_constants(self, env_ids: torch.Tensor | None = None) -> None:
        """Nothing is derived here."""

    def set_state(self, qpos: torch.Tensor, qvel: torch.Tensor, env_ids: torch.Tensor | None = None) -> None:
        """Set positions and velocities; see :meth:`.base.Simulator.set_state`."""
        ids = torch.arange(self.num_envs) if env_ids is None else torch.as_tensor(env_ids).long()
        qpos, qvel = torch.as_tensor(qpos).float(), torch.as_tensor(qvel).float()
        nu = self.model.nu
        self._write_root(ids, 0, qpos[:, :7], qvel[:, :6])
        for slot in range(len(self._objects)):
            a, v = 7 + nu + 7 * slot, 6 + nu + 6 * slot
            self._write_root(ids, 1 + slot, qpos[:, a : a + 7], qvel[:, v : v + 6])
        self._dof[ids[:, None], self._dof_order, 0] = qpos[:, 7 : 7 + nu]
        self._dof[ids[:, None], self._dof_order, 1] = qvel[:, 6 : 6 + nu]
        self._past[ids] = qpos[:, None, 7 : 7 + nu]
        wrap = self._torch_api.unwrap_tensor
        self._gym.set_actor_root_state_tensor(self._sim, wrap(self._root.view(-1, 13)))
        self._gym.set_dof_state_tensor(self._sim, wrap(self._dof.view(-1, 2)))
        self.finite[ids] = torch.isfinite(qpos).all(-1) & torch.isfinite(qvel).all(-1)
        self.qpos[ids], self.qvel[ids] = qpos, qvel
        self._forward(ids)

    def _write_root(self, ids: torch.Tensor, actor: int, pose: torch.Tensor, velocity: torch.Tensor) -> None:
        state = torch.empty(len(ids), 13)
        state[:, :3] = pose[:, :3]
        state[:, 3:7] = pose[:, [4, 5, 6, 3]]  # x y z w
        state[:, 7:10] = velocity[:, :3]
        state[:, 10:13] = _rotate(pose[:, 3:7], velocity[:, 3:6])  # world axes here
        self._root[ids, actor] = state

    def step(self, ctrl: torch.Tensor, substeps: int = 1) -> None:
        """Advance by ``substeps``; see :meth:`.base.Simulator.step`."""
        wanted = torch.as_tensor(ctrl).float()
        self.contact.zero_()
        wrap, api = self._torch_api.unwrap_tensor, self._api
        for substep in range(substeps):
            target = delayed(wanted, self._past, command_age(self.delay, substep, substeps))
            ordered = torch.zeros_like(target)
            ordered[:, self._dof_order] = target
            self._gym.set_dof_position_target_tensor(self._sim, wrap(ordered.contiguous()))
            forces, torques = torch.zeros_like(self._rigid[..., :3]), torch.zeros_like(self._rigid[..., :3])
            for slot, name in enumerate(self.spec.force_bodies):
                forces[:, self._rigid_index[name]] += self.xfrc[:, slot, :3]
                torques[:, self._rigid_index[name]] += self.xfrc[:, slot, 3:]
            for slot, name in enumerate(self.spec.drag):
                speed = self._rigid[:, self._rigid_index[name], 7:10]
                drag = self.drag[:, slot, None] * speed.norm(dim=-1, keepdim=True) * speed
                forces[:, self._rigid_index[name]] -= drag
            self._gym.apply_rigid_body_force_tensors(
                self._sim, wrap(forces.contiguous()), wrap(torques.contiguous()), api.ENV_SPACE
            )
            self._gym.simulate(self._sim)
            self._gym.fetch_results(self._sim, True)
            self._mark_contacts()
        self._past = torch.cat([wanted[:, None], self._past[:, :-1]], 1)
        self._read()
        self.finite &= torch.isfinite(self.qpos).all(-1) & torch.isfinite(self.qvel).all(-1)

    def _forward(self, ids: torch.Tensor) -> None:
        # PhysX updates link poses with its next step only: the kinematics come from MuJoCo.
        data = mujoco.MjData(self.model)
        for env in ids.tolist():
            data.qpos[:], data.qvel[:] = self.qpos[env].numpy(), self.qvel[env].numpy()
            mujoco.mj_fwdPosition(self.model, data)
            mujoco.mj_fwdVelocity(self.model, data)
            body = self.body_ids
            self.xpos[env], self.xquat[env] = torch.as_tensor(data.xpos[body]), torch.as_tensor(data.xquat[body])
            arm = data.xpos[body] - data.subtree_com[self.model.body_rootid[body]]
            linear = data.cvel[body, 3:] + np.cross(data.cvel[body, :3], arm)
            self.xvel[env] = torch.as_tensor(np.concatenate([linear, data.cvel[body, :3]], axis=1))
            touching = [self._pairs_of(*contact.geom) for contact in data.contact[: data.ncon] if contact.dist <= 0]
            none = np.zeros(len(self.pair_mask), bool)
            self.contact[env] = torch.as_tensor(np.any(touching, axis=0) if touching else none)
            self.contact_force[env] = 0.0

    def _pairs_of(self, first: int, second: int) -> np.ndarray:
        one, two = self.geom_mask[first], self.geom_mask[second]
        u, v = self.pair_mask[:, 0], self.pair_mask[:, 1]
        return ((one & u) != 0) & ((two & v) != 0) | ((one & v) != 0) & ((two & u) != 0)

    def _read(self) -> None:
        for refresh in ('actor_root_state', 'dof_state', 'rigid_body_state', 'dof_force'):
            getattr(self._gym, f'refresh_{refresh}_tensor')(self._sim)
        nu = self.model.nu
        for actor in range(1 + len(self._objects)):
            a, v = (0, 0) if actor == 0 else (7 + nu + 7 * (actor - 1), 6 + nu + 6 * (actor - 1))
            state = self._root[:, actor]
            self.qpos[:, a : a + 3], self.qpos[:, a + 3 : a + 7] = state[:, :3], state[:, [6, 3, 4, 5]]
            self.qvel[:, v : v + 3] = state[:, 7:10]
            inverse = self.qpos[:, a + 3 : a + 7] * torch.tensor([1.0, -1.0, -1.0, -1.0])
            self.qvel[:, v + 3 : v + 6] = _rotate(inverse, state[:, 10:13])
        self.qpos[:, 7 : 7 + nu] = self._dof[:, self._dof_order, 0]
        self.qvel[:, 6 : 6 + nu] = self._dof[:, self._dof_order, 1]
        self.actuator_force[:] = self._torques[:, self._dof_order]
        rigid = self._rigid[:, self._bodies]
        self.xpos[:], self.xquat[:] = rigid[..., :3], rigid[..., [6, 3, 4, 5]]
        self.xvel[:] = rigid[..., 7:13]

    def _mark_contacts(self) -> None:
        """Mark pairs of bodies in contact (groups are made of whole bodies here)."""
        members = [[self._bodies_of(bit) for bit in pair] for pair in self.pair_mask]
        self.contact_force.zero_()
        for env_index, env in enumerate(self._envs):
            for contact in self._gym.get_env_rigid_contacts(env):
                one, two = int(contact['body0']), int(contact['body1'])
                for pair, (u, v) in enumerate(members):
                    if (one in u and two in v) or (one in v and two in u):
                        self.contact[env_index, pair] = True
                        self.contact_force[env_index, pair] += float(contact['lambda']) / self.timestep

    def _bodies_of(self, bit: np.uint64) -> set[int]:
        geoms = np.flatnonzero(self.geom_mask & bit)
        names = {self.model.body(int(self.model.geom_bodyid[g])).name for g in geoms}
        return {self._rigid_index.get(name, -1) for name in names}  # the ground is -1 in Isaac Gym


def _rotate(quat: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
    w, u = quat[:, :1], quat[:, 1:]
    t = 2.0 * torch.linalg.cross(u, vector)
    return vector + w * t + torch.linalg.cross(u, t)
