"""Domain randomisation: every environment its own robot, floor and object.

Robot and floor are drawn once per training (and again at each checkpoint); object, gains and delay at each reset.
Per-environment parameters are fields of the MuJoCo model (:meth:`.sim.Simulator.parameter`).
"""

from __future__ import annotations

import mujoco
import numpy as np
import torch

from humanx_description import robot
from humanx_description.objects import ObjectSpec
from humanx_description.restitution import bounce_solref
from humanx_training.xmimic.config import RandomisationConfig
from humanx_training.xmimic.sim import Simulator


class DomainRandomiser:
    """Writes random parameters into a simulator; :meth:`draw_robot` once, :meth:`draw_episode` at resets."""

    def __init__(
        self, sim: Simulator, config: RandomisationConfig, generator: torch.Generator, objects: list[ObjectSpec]
    ) -> None:
        """``objects``: the object of each clip (empty: none); all of one name and shape."""
        self._sim, self._config, self._generator, self._objects = sim, config, generator, objects
        model = sim.model
        self._dtype = sim.qpos.dtype
        self._nominal = {name: np.array(getattr(model, name)) for name in (
            'body_mass', 'body_inertia', 'body_ipos', 'geom_friction', 'actuator_gainprm', 'actuator_biasprm')}
        self._kp, self._kd = (
            torch.tensor(gain.copy(), dtype=self._dtype, device=sim.device) for gain in (robot.KP, robot.KD)
        )
        self._robot_bodies = [b for b in range(1, model.nbody) if model.body_rootid[b] == model.body('pelvis').id]
        self._feet = [g for g in range(model.ngeom) if '_foot' in (model.geom(g).name or '')]
        # A simulator without parameters of its own can still play clips that share one object.
        needed = bool(objects) and (config.enabled or len({_shape_key(o) for o in objects}) > 1)
        self._object = _ObjectParameters(sim, objects) if needed else None

    def _uniform(self, low: float, high: float, *shape: int) -> torch.Tensor:
        draw = torch.rand(*shape, generator=self._generator, device=self._sim.device, dtype=self._dtype)
        return low + (high - low) * draw

    def _factor(self, width: float, *shape: int) -> torch.Tensor:
        return 1.0 + self._uniform(-width, width, *shape)

    def draw_robot(self) -> None:
        """Draw link masses, centres of mass and soles' friction of every environment."""
        if not self._config.enabled:
            return
        c, sim, n, bodies = self._config, self._sim, self._sim.num_envs, self._robot_bodies
        mass, inertia, ipos = (sim.parameter(name) for name in ('body_mass', 'body_inertia', 'body_ipos'))
        nominal = {k: torch.as_tensor(v, dtype=self._dtype, device=sim.device) for k, v in self._nominal.items()}
        factor = self._factor(c.link_mass, n, len(bodies))
        mass[:, bodies] = nominal['body_mass'][bodies] * factor
        inertia[:, bodies] = nominal['body_inertia'][bodies] * factor[..., None]
        offset = self._uniform(-c.com, c.com, n, len(bodies), 3)
        # Small links cannot carry their mass outside themselves.
        size = torch.as_tensor(_link_size(sim.model, bodies), dtype=self._dtype, device=sim.device)
        offset *= (size / 0.1).clamp(max=1.0)[None, :, None]
        torso = bodies.index(sim.model.body(robot.TORSO_BODY).id)
        offset[:, torso] = self._uniform(-c.torso_com, c.torso_com, n, 3)
        ipos[:, bodies] = nominal['body_ipos'][bodies] + offset
        sim.parameter('geom_friction')[:, self._feet, 0] = self._uniform(*c.friction, n, 1)
        if self._object is not None:
            self._object.restore()  # what is derived must not depend on the objects of earlier episodes
        sim.refresh_constants()

    @property
    def object_scale(self) -> torch.Tensor:
        """(N,) size of each environment's object relative to the scene's."""
        if self._object is not None:
            return self._object.size_factor
        return torch.ones(self._sim.num_envs, dtype=self._dtype, device=self._sim.device)

    def draw_episode(self, env_ids: torch.Tensor, clip_of_env: torch.Tensor) -> None:
        """Draw gains, delay and object of the environments ``env_ids`` (M,), which play clips (M,)."""
        c, sim, m = self._config, self._sim, len(env_ids)
        if c.enabled:
            kp = self._factor(c.kp, m, 1) * self._kp
            kd = self._factor(c.kd, m, 1) * self._kd
            gain, bias = sim.parameter('actuator_gainprm'), sim.parameter('actuator_biasprm')
            gain[env_ids, :, 0] = kp
            bias[env_ids, :, 1] = -kp
            bias[env_ids, :, 2] = -kd
            delay = self._uniform(0.0, c.max_delay + 1.0, m).floor().clamp(max=c.max_delay)
            sim.delay[env_ids] = delay.to(sim.delay.dtype)
        if self._object is not None:
            draws = self._uniform(-1.0, 1.0, 5, m) * float(c.enabled)
            self._object.set(env_ids, clip_of_env, list(draws), c)


class _ObjectParameters:
    """Size, mass, friction, bounce and rolling of the object in every environment."""

    def __init__(self, sim: Simulator, objects: list[ObjectSpec]) -> None:
        model = sim.model
        self._sim = sim
        name = objects[0].name
        self._body = model.body(name).id
        self._geoms = [g for g in range(model.ngeom) if model.geom_bodyid[g] == self._body]
        self._pairs = [p for p in range(model.npair) if {model.pair_geom1[p], model.pair_geom2[p]} & set(self._geoms)]
        self._dof = model.body_dofadr[self._body]
        self._sphere = objects[0].shape == 'sphere'

        def column(values: list[float]) -> torch.Tensor:
            return torch.tensor(values, dtype=sim.qpos.dtype, device=sim.device)

        # Relative to the object the scene was built with (the first clip's).
        first = objects[0]
        self._scale = column([o.size[0] / first.size[0] for o in objects])
        self._mass = column([o.mass / first.mass for o in objects])
        self._friction = column([o.friction for o in objects])
        self._bounce = column([o.restitution for o in objects])
        self._body_bounce = column([o.body_restitution for o in objects])
        self._rolling = column([o.rolling_rate for o in objects])
        # Calibrated once: solref of a grid of restitutions, interpolated at every draw.
        solref = np.array([bounce_solref(float(e), sim.timestep) for e in np.linspace(0.0, _BOUNCIEST, 10)])
        self._bounces = torch.as_tensor(solref, dtype=sim.qpos.dtype, device=sim.device)
        self._parameters = {field: sim.parameter(field) for field in _OBJECT_FIELDS}
        rows = {'geom': self._geoms, 'pair': self._pairs, 'spin': [self._dof + k for k in (3, 4, 5)]}
        self._rows_of = {k: torch.tensor(v, dtype=torch.long, device=sim.device) for k, v in rows.items()}
        self._nominal = {
            f: torch.as_tensor(np.array(getattr(model, f)), dtype=sim.qpos.dtype, device=sim.device)
            for f in _OBJECT_FIELDS
        }
        self.size_factor = torch.ones(sim.num_envs, dtype=sim.qpos.dtype, device=sim.device)

    def _solref(self, restitution: torch.Tensor) -> torch.Tensor:
        at = restitution.clamp(0.0, _BOUNCIEST) / _BOUNCIEST * (len(self._bounces) - 1)
        below = at.long().clamp(max=len(self._bounces) - 2)
        part = (at - below)[:, None]
        return (1.0 - part) * self._bounces[below] + part * self._bounces[below + 1]

    def restore(self) -> None:
        """Give every environment the object that the scene was built with."""
        for field in _OBJECT_FIELDS:
            if field.startswith('body_'):
                self._sim.parameter(field)[:, self._body] = self._nominal[field][self._body]

    def set(self, ids: torch.Tensor, clips: torch.Tensor, draws: list[torch.Tensor], c: RandomisationConfig) -> None:
        parameter, nominal, b = self._parameters, self._nominal, self._body
        g, p, spin = (self._rows_of[name] for name in ('geom', 'pair', 'spin'))
        mass_draw, size_draw, friction_draw, bounce_draw, rolling_draw = draws
        size = self._scale[clips] * (1.0 + c.object_size * size_draw)
        mass = self._mass[clips] * (1.0 + c.object_mass * mass_draw)
        self.size_factor[ids] = size
        row = ids[:, None]
        parameter['geom_size'][row, g] = nominal['geom_size'][g] * size[:, None, None]
        parameter['geom_pos'][row, g] = nominal['geom_pos'][g] * size[:, None, None]
        parameter['geom_rbound'][row, g] = nominal['geom_rbound'][g] * size[:, None]
        parameter['geom_aabb'][row, g] = nominal['geom_aabb'][g] * size[:, None, None]
        parameter['body_mass'][ids, b] = nominal['body_mass'][b] * mass
        parameter['body_subtreemass'][ids, b] = nominal['body_mass'][b] * mass
        inertia = nominal['body_inertia'][b] * (mass * size.square())[:, None]
        parameter['body_inertia'][ids, b] = inertia
        # What the solver takes as the object's inverse inertia: (1/m, mean 1/I).
        weights = parameter['body_invweight0']
        weights[ids, b, 0] = nominal['body_invweight0'][b, 0] / mass
        weights[ids, b, 1] = nominal['body_invweight0'][b, 1] / (mass * size.square())
        friction = self._friction[clips] * (1.0 + c.object_friction * friction_draw)
        parameter['geom_friction'][row, g, 0] = friction[:, None]
        bounce = c.restitution * bounce_draw
        parameter['geom_solref'][row, g] = self._solref(self._body_bounce[clips] + bounce)[:, None]
        if self._pairs:
            parameter['pair_friction'][row, p, 0] = friction[:, None]
            parameter['pair_friction'][row, p, 1] = friction[:, None]
            parameter['pair_solref'][row, p] = self._solref(self._bounce[clips] + bounce)[:, None]
        if self._sphere:
            rate = self._rolling[clips] * (1.0 + c.rolling * rolling_draw)
            radius = nominal['geom_size'][self._geoms[0], 0] * size
            damping = rate * (nominal['body_mass'][b] * mass * radius.square() + inertia[:, 0])
            parameter['dof_damping'][row, spin] = damping[:, None]


_BOUNCIEST = 0.9  # restitution
_OBJECT_FIELDS = (
    'geom_size', 'geom_pos', 'geom_rbound', 'geom_aabb', 'body_mass', 'body_subtreemass', 'body_inertia',
    'body_invweight0', 'geom_friction', 'geom_solref', 'pair_friction', 'pair_solref', 'dof_damping',
)  # fmt: skip


def _shape_key(spec: ObjectSpec) -> tuple:
    return (spec.size, spec.mass, spec.friction, spec.restitution, spec.body_restitution, spec.rolling_rate)


def _link_size(model: mujoco.MjModel, bodies: list[int]) -> np.ndarray:
    """Return a length (m) of each body from its inertia: the radius of gyration times 2."""
    mass, inertia = model.body_mass[bodies], model.body_inertia[bodies]
    return 2.0 * np.sqrt(inertia.max(axis=1) / np.maximum(mass, 1e-6))


class Disturbances:
    """Pushes and sustained forces that come and go by themselves."""

    def __init__(self, sim: Simulator, config: RandomisationConfig, generator: torch.Generator, dt: float) -> None:
        """The simulator's first force body is what forces act on."""
        self._sim, self._config, self._generator, self._dt = sim, config, generator, dt
        n, device = sim.num_envs, sim.device
        self.push_in = torch.zeros(n, device=device)
        self.force_in = torch.zeros(n, device=device)
        self.reset(torch.arange(n, device=device))

    def _rand(self, *shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=self._generator, device=self._sim.device)

    def _interval(self, count: int, bounds: tuple[float, float]) -> torch.Tensor:
        return bounds[0] + (bounds[1] - bounds[0]) * self._rand(count)

    def reset(self, env_ids: torch.Tensor) -> None:
        """Begin anew in ``env_ids`` (M,)."""
        m, c = len(env_ids), self._config
        self.push_in[env_ids] = self._interval(m, c.push_interval)
        self.force_in[env_ids] = self._interval(m, c.force_interval)
        self._sim.xfrc[env_ids] = 0.0

    def apply(self, standing: torch.Tensor) -> None:
        """Act for one control step; ``standing`` (N,) bool: the reference stands still, so forces may be larger."""
        c, sim = self._config, self._sim
        if not c.enabled:
            return
        self.push_in -= self._dt
        self.force_in -= self._dt
        push = torch.nonzero(self.push_in <= 0).flatten()
        if len(push) and c.push_speed > 0:
            sim.qvel[push, :2] += ((2 * self._rand(len(push), 2) - 1) * c.push_speed).to(sim.qvel.dtype)
            self.push_in[push] = self._interval(len(push), c.push_interval)
        change = torch.nonzero(self.force_in <= 0).flatten()
        if len(change) and sim.xfrc.shape[1]:
            size = torch.where(standing[change], c.standing_force, c.force)[:, None]
            sim.xfrc[change, 0, :3] = ((2 * self._rand(len(change), 3) - 1) * size).to(sim.xfrc.dtype)
            self.force_in[change] = self._interval(len(change), c.force_interval)
