"""Trials of a policy in MuJoCo without a reference: the skill's scenario, the deployed observation code, the judge.

All trials of a batch run in parallel. The physics runs at 1 kHz, as in the simulated robot, not at the 200 Hz that
policies are trained with: a first sim-to-sim transfer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import mujoco
import numpy as np

from humanx_description import robot
from humanx_description.errors import UserError
from humanx_description.judge import TrialRecord, Verdict, judge
from humanx_description.scenario import TrialStart, sample, to_world
from humanx_description.scene import default_qpos, drag_table, scene
from humanx_description.skills import Skill
from humanx_policy import observation as ob
from humanx_training.xmimic.batch_policy import BatchPolicy
from humanx_training.xmimic.frame_loss import BurstLoss
from humanx_training.xmimic.sim import MujocoSimulator, SimSpec

CONTROL_PERIOD = 0.01  # s
_FALLEN_HEIGHT = 0.3  # m: a pelvis this low never comes up again


@dataclass(frozen=True)
class Conditions:
    """What makes a trial harder than the ideal. Noise is uniform, half widths; everything is drawn from the seed.

    ``noise`` scales the sensor noise of ``FACTS.md``'s training settings (1: gyroscope 0.3 rad/s, gravity 0.2, joints
    0.01 rad and 1 rad/s, object 0.01 m). ``mocap_latency_s`` delays object and pelvis as motion capture reports them,
    ``action_latency_s`` the targets on their way to the motors. ``frame_loss`` is the fraction of frames in which the
    object is lost, in bursts of ``loss_burst`` frames. ``push`` (m/s) sets the pelvis moving sideways every 1 to 5 s.
    ``friction`` is the range of the soles' friction, ``mass`` the half width of the relative error of the object's
    mass; ``None`` and 0 leave the scene's. ``start_noise`` (rad) disturbs the joints at the start.
    """

    noise: float = 0.0
    mocap_latency_s: float = 0.0
    action_latency_s: float = 0.0
    frame_loss: float = 0.0
    loss_burst: int = 1
    push: float = 0.0
    friction: tuple[float, float] | None = None
    mass: float = 0.0
    start_noise: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.frame_loss < 1.0:
            raise ValueError(f'frame_loss is {self.frame_loss}; expected 0 to below 1.')
        if self.loss_burst < 1:
            raise ValueError(f'loss_burst is {self.loss_burst}; expected 1 or more frames.')
        for name in ('noise', 'mocap_latency_s', 'action_latency_s', 'push', 'mass', 'start_noise'):
            if getattr(self, name) < 0:
                raise ValueError(f'{name} is {getattr(self, name)}; expected 0 or more.')


IDEAL = Conditions()


@dataclass
class Trial:
    """One finished trial."""

    seed: int
    start: TrialStart  # world frame
    record: TrialRecord
    verdict: Verdict


_NOISE = {'gyro': 0.3, 'gravity': 0.2, 'joint_pos': 0.01, 'joint_vel': 1.0, 'object': 0.01}


def run_trials(
    skill: Skill,
    policy: BatchPolicy,
    seeds: list[int],
    *,
    generalise: bool,
    conditions: Conditions = IDEAL,
    timestep: float = 0.001,
    duration: float | None = None,
    threads: int | None = None,
    batch: int = 256,
) -> list[Trial]:
    """Run one trial per seed and return them in order; equal seeds give equal trials whatever the batch.

    ``generalise`` draws the object's start from the skill's whole range instead of its nominal place.
    """
    trials: list[Trial] = []
    for first in range(0, len(seeds), batch):
        trials += _Batch(skill, policy, seeds[first : first + batch], generalise, conditions, timestep, threads).run(
            duration or skill.scenario.duration_s
        )
    return trials


def run_states(
    skill: Skill, policy: BatchPolicy, seeds: list[int], *, generalise: bool, conditions: Conditions = IDEAL
) -> np.ndarray:
    """Return the positions (T, N, nq) of one trial per seed at 100 Hz, for rendering."""
    batch = _Batch(skill, policy, seeds, generalise, conditions, 0.001, None)
    states: list[np.ndarray] = []
    batch.observers.append(lambda: states.append(batch.sim.buffers.qpos.copy()))
    batch.run(skill.scenario.duration_s)
    return np.stack(states)


def touch_bodies(model: mujoco.MjModel) -> tuple[str, ...]:
    """Return the robot's bodies that have collision geoms."""
    names = []
    for body in range(1, model.nbody):
        first, count = model.body_geomadr[body], model.body_geomnum[body]
        contype = model.geom_contype[first : first + count] | model.geom_conaffinity[first : first + count]
        if contype.any() and model.body_rootid[body] == model.body(robot.ROOT_BODY).id:
            names.append(model.body(body).name)
    return tuple(names)


def _check(skill: Skill, policy: BatchPolicy) -> None:
    known = [o.name for o in skill.objects]
    for role in policy.metadata.object_roles:
        if role not in known:
            raise UserError(f'policy: looks for the object {role!r}; expected one of the skill {skill.name}: {known}.')


class _Batch:
    """The state of N parallel trials."""

    def __init__(
        self, skill: Skill, policy: BatchPolicy, seeds: list[int], generalise: bool, conditions: Conditions,
        timestep: float, threads: int | None,
    ) -> None:
        _check(skill, policy)
        self.skill, self.policy, self.seeds, self.conditions = skill, policy, seeds, conditions
        self.n = len(seeds)
        self.observers: list[Callable[[], None]] = []
        # A stream per trial, so that a trial does not depend on its neighbours.
        self.rngs = [np.random.default_rng([seed, 1]) for seed in seeds]
        model = scene(skill.objects, timestep=timestep)
        meta = policy.metadata
        model.actuator_gainprm[:, 0] = meta.kp
        model.actuator_biasprm[:, 1], model.actuator_biasprm[:, 2] = -meta.kp, -meta.kd
        model.actuator_forcerange[:, 0], model.actuator_forcerange[:, 1] = -meta.effort_limit, meta.effort_limit
        self.model = model
        self.free = [o for o in skill.objects if not o.fixed]
        main = skill.main_object
        self.bodies = touch_bodies(model) if main is not None else ()
        groups: dict[str, list[str]] = {name: [f'body:{name}'] for name in self.bodies}
        if main is not None:
            groups['object'] = [f'body:{main.name}']
        spec = SimSpec(
            bodies=robot.KEY_BODIES,
            contact_groups=groups,
            contact_pairs=tuple(('object', name) for name in self.bodies),
            drag={model.body(body).name: k for body, k in drag_table(model, skill.objects)},
        )
        self.sim = MujocoSimulator(model, self.n, spec, threads=threads)
        self.substeps = round(CONTROL_PERIOD / timestep)
        self.sim.buffers.delay[:] = round(conditions.action_latency_s / timestep)
        self._randomise()
        self._reset(generalise)

    def _uniform(self, width: float, shape: tuple[int, ...]) -> np.ndarray:
        return np.stack([rng.uniform(-width, width, shape) for rng in self.rngs])

    def _randomise(self) -> None:
        c, sim = self.conditions, self.sim
        main = self.skill.main_object
        if c.friction is not None:
            friction = sim.parameter_array('geom_friction')
            feet = [g for g in range(self.model.ngeom) if '_foot' in (self.model.geom(g).name or '')]
            for env, rng in enumerate(self.rngs):
                friction[env, feet, 0] = rng.uniform(*c.friction)
        if c.mass and main is not None and not main.fixed:
            body = self.model.body(main.name).id
            factor = 1.0 + self._uniform(c.mass, (1,))
            sim.parameter('body_mass').numpy()[:, body] *= factor[:, 0]
            sim.parameter('body_inertia').numpy()[:, body] *= factor
            sim.refresh_constants()

    def _reset(self, generalise: bool) -> None:
        c, main = self.conditions, self.skill.main_object
        qpos = np.tile(default_qpos(self.skill.objects), (self.n, 1))
        qvel = np.zeros((self.n, self.model.nv))
        if c.start_noise:
            qpos[:, 7:36] += self._uniform(c.start_noise, (29,))
        radius = main.bounding_radius() if main is not None else 0.11
        self.starts = [
            to_world(sample(self.skill.scenario, seed, generalise=generalise, radius=radius), q[:3], q[3:7])
            for seed, q in zip(self.seeds, qpos)
        ]
        self.object_slot = next((k for k, o in enumerate(self.free) if main is not None and o.name == main.name), None)
        if self.object_slot is not None:
            a = 36 + 7 * self.object_slot
            for env, start in enumerate(self.starts):
                qpos[env, a : a + 3], qpos[env, a + 3 : a + 7] = start.pos, start.quat
        self.sim.set_state(qpos, qvel)
        self.launch = np.array([s.delay for s in self.starts])
        self.next_push = np.array([rng.uniform(1.0, 5.0) for rng in self.rngs])

    def run(self, duration: float) -> list[Trial]:
        ticks = round(duration / CONTROL_PERIOD)
        meta, sim, b = self.policy.metadata, self.sim, self.sim.buffers
        history = ob.ObservationHistory(meta.observation_terms, self.n)
        last = np.zeros((self.n, robot.NUM_JOINTS))
        series = _Series(self, ticks + 1)
        mocap = _Mocap(self)
        broken = np.zeros(self.n, bool)
        for tick in range(ticks):
            now = tick * CONTROL_PERIOD
            self._move_object(now)
            series.store(tick, now)
            for observer in self.observers:
                observer()
            history.push(self._terms(last, mocap, now))
            action = self.policy.act(history.vector())
            bad = ~np.isfinite(action).all(axis=1)
            broken |= bad
            last = np.where(bad[:, None], 0.0, action).astype(np.float64)
            self._push(now)
            targets = ob.joint_targets(last, meta.default_joint_pos, meta.action_scale)
            # As the driver does: targets far beyond a joint's range are clamped.
            sim.step(np.clip(targets, robot.TARGET_LOWER, robot.TARGET_UPPER), self.substeps)
            # Who lies on the floor stays there: save the time.
            b.finite &= (b.qpos[:, 2] > _FALLEN_HEIGHT) & ~broken
            if not b.finite.any():
                series.repeat(tick + 1, ticks)
                break
        else:
            series.store(ticks, ticks * CONTROL_PERIOD)
        sim.close()
        return [self._finish(env, series, bool(broken[env])) for env in range(self.n)]

    def _finish(self, env: int, series: _Series, broken: bool) -> Trial:
        record = series.record(env)
        verdict = judge(self.skill.success, record)
        if broken:
            verdict = Verdict(False, 'the policy returned a non-finite action', verdict.measures)
        return Trial(self.seeds[env], self.starts[env], record, verdict)

    def _terms(self, last: np.ndarray, mocap: _Mocap, now: float) -> dict[str, np.ndarray]:
        b, meta, c = self.sim.buffers, self.policy.metadata, self.conditions
        quat, gyro = b.qpos[:, 3:7].copy(), b.qvel[:, 3:6].copy()
        q, dq = b.qpos[:, 7:36].copy(), b.qvel[:, 6:35].copy()
        if c.noise:
            gyro += self._uniform(c.noise * _NOISE['gyro'], (3,))
            q += self._uniform(c.noise * _NOISE['joint_pos'], (29,))
            dq += self._uniform(c.noise * _NOISE['joint_vel'], (29,))
        terms = ob.proprioception(
            base_ang_vel=gyro, root_quat=quat, joint_pos=q, joint_vel=dq, last_action=last,
            default_joint_pos=meta.default_joint_pos, action_scale=meta.action_scale,
        )
        if c.noise:
            terms['projected_gravity'] = terms['projected_gravity'] + self._uniform(c.noise * _NOISE['gravity'], (3,))
        if meta.object_roles:
            terms |= mocap.observe()
        return terms

    def _move_object(self, now: float) -> None:
        """Hold the object until it is launched, as the partner does; then let it go with its velocity."""
        if self.object_slot is None:
            return
        b = self.sim.buffers
        a, v = 36 + 7 * self.object_slot, 35 + 6 * self.object_slot
        for env, start in enumerate(self.starts):
            if now > self.launch[env] + 1e-9:
                continue
            b.qpos[env, a : a + 7] = np.r_[start.pos, start.quat]
            b.qvel[env, v : v + 6] = 0.0
            if now + CONTROL_PERIOD > self.launch[env] + 1e-9:
                b.qvel[env, v : v + 3] = start.lin_vel
                b.qvel[env, v + 3 : v + 6] = ob.quat_rotate_inverse(start.quat[None], start.ang_vel[None])[0]
                self.launch[env] = now

    def _push(self, now: float) -> None:
        if not self.conditions.push:
            return
        for env in np.flatnonzero(now >= self.next_push):
            rng = self.rngs[env]
            angle = rng.uniform(-np.pi, np.pi)
            self.sim.buffers.qvel[env, :2] += self.conditions.push * np.array([np.cos(angle), np.sin(angle)])
            self.next_push[env] = now + rng.uniform(1.0, 5.0)


class _Mocap:
    """Motion capture with latency, noise and loss: what the bridge would report at each control tick."""

    def __init__(self, batch: _Batch) -> None:
        self._batch = batch
        c = batch.conditions
        roles = batch.policy.metadata.object_roles
        slots = {o.name: k for k, o in enumerate(batch.free)}
        self._slots = [slots.get(role) for role in roles]
        fixed = {o.name: np.array(o.pos) for o in batch.skill.objects if o.fixed}
        self._fixed = [fixed.get(role) for role in roles]
        self._frames: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._lag = round(c.mocap_latency_s / CONTROL_PERIOD)
        self._loss = [BurstLoss(c.frame_loss, c.loss_burst, rng) for rng in batch.rngs]

    def observe(self) -> dict[str, np.ndarray]:
        """Add the frame of now and return the object terms of the frame that has arrived by now."""
        batch, q = self._batch, self._batch.sim.buffers.qpos
        objects = np.stack(
            [
                np.tile(np.asarray(fixed), (batch.n, 1)) if slot is None else q[:, 36 + 7 * slot : 39 + 7 * slot]
                for slot, fixed in zip(self._slots, self._fixed)
            ],
            axis=1,
        )
        noise = batch.conditions.noise * _NOISE['object']
        if noise:
            objects = objects + batch._uniform(noise, objects.shape[1:])
        self._frames.append((q[:, :3].copy(), q[:, 3:7].copy(), objects.copy()))
        while len(self._frames) > self._lag + 1:
            self._frames.pop(0)
        root_pos, root_quat, seen = self._frames[0]
        tracked = np.array([not loss.step() for loss in self._loss])[:, None]
        return ob.object_observation(
            root_pos=root_pos, root_quat=root_quat, object_pos=seen,
            tracked=np.broadcast_to(tracked, seen.shape[:2]),
        )


class _Series:
    """Time series of all trials, from which the judge's records are cut."""

    def __init__(self, batch: _Batch, length: int) -> None:
        n = batch.n
        self._batch = batch
        self.time = np.zeros(length)
        self.root = np.zeros((length, n, 7))
        self.key = np.zeros((length, n, len(robot.KEY_BODIES), 3))
        self.object = np.full((length, n, 6), np.nan)
        self.touch = np.zeros((length, n, len(batch.bodies)), bool)

    def store(self, tick: int, now: float) -> None:
        """Record the present state; ``touch`` is what touched since the last tick."""
        b, slot = self._batch.sim.buffers, self._batch.object_slot
        self.time[tick] = now
        self.root[tick] = b.qpos[:, :7]
        self.key[tick] = b.xpos
        if slot is not None:
            self.object[tick, :, :3] = b.qpos[:, 36 + 7 * slot : 39 + 7 * slot]
            self.object[tick, :, 3:] = b.qvel[:, 35 + 6 * slot : 38 + 6 * slot]
        self.touch[tick] = b.contact & b.finite[:, None]

    def repeat(self, first: int, last: int) -> None:
        """Fill the ticks from ``first`` to ``last`` with the present state."""
        for tick in range(first, last + 1):
            self.store(tick, tick * CONTROL_PERIOD)

    def record(self, env: int) -> TrialRecord:
        """Return the record of one trial."""
        batch = self._batch
        start = batch.starts[env]
        origin = np.array([self.root[0, env, 0], self.root[0, env, 1], 0.0])
        return TrialRecord(
            time=self.time, root_pos=self.root[:, env, :3], root_quat=self.root[:, env, 3:],
            key_body_pos=self.key[:, env], object_pos=self.object[:, env, :3], object_vel=self.object[:, env, 3:],
            touch=self.touch[:, env], touch_bodies=batch.bodies, launch_time=float(batch.launch[env]),
            partner=start.partner, scenario_origin=origin,
            scenario_yaw=float(ob.yaw(self.root[0, env, None, 3:])[0]),
        )


