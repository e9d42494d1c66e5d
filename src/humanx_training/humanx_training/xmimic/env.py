"""The environment of section IV: many G1s, each somewhere in a reference clip, with the object in the loop.

Written once on batched torch tensors over :class:`.sim.Simulator`; implements rsl-rl's ``VecEnv``. A step is one
control tick (10 ms): the policy's action, two physics steps, reward against the reference frame that has been reached,
terminations, resets.

Observation groups: ``policy`` is what the deployed policy sees, made by ``humanx_policy.observation`` from noisy
measurements, with the object masked when it is lost; ``privileged`` is for teachers and critics.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from rsl_rl.env import VecEnv
from tensordict import TensorDict

from humanx_description import robot
from humanx_description.errors import UserError
from humanx_description.scene import drag_table, scene
from humanx_policy import observation as ob
from humanx_training.xmimic import quaternion as quat
from humanx_training.xmimic import terminations
from humanx_training.xmimic.clip_set import ClipSet, scene_object
from humanx_training.xmimic.config import EnvConfig
from humanx_training.xmimic.frame_loss import ProximityLoss
from humanx_training.xmimic.phase_sampler import PhaseSampler
from humanx_training.xmimic.privileged import privileged_observation
from humanx_training.xmimic.randomisation import Disturbances, DomainRandomiser
from humanx_training.xmimic.reward_sum import RewardSum, Snapshot
from humanx_training.xmimic.sim import SimSpec, Simulator, make_simulator

Mode = Literal['nep', 'mocap']
REASONS = ('motion', 'orientation', 'interaction', 'object', 'diverged')


def tracked_bodies(contact_bodies: tuple[str, ...]) -> tuple[str, ...]:
    """Return the key bodies and whatever else touches the object."""
    return (*robot.KEY_BODIES, *(b for b in contact_bodies if b not in robot.KEY_BODIES))


def make_layout(mode: Mode, num_objects: int = 1) -> ob.ObservationLayout:
    """Return the deployable observation's layout, NEP or MoCap."""
    return ob.ObservationLayout(ob.mocap_terms(num_objects) if mode == 'mocap' else ob.nep_terms())


class HumanXEnv(VecEnv):
    """N environments over one :class:`.ClipSet`; see the module's description."""

    num_actions = robot.NUM_JOINTS

    def __init__(
        self,
        clips: ClipSet,
        config: EnvConfig,
        *,
        mode: Mode = 'mocap',
        simulator: str = 'mujoco',
        groups: tuple[str, ...] = ('policy', 'privileged'),
        seed: int = 1,
        **simulator_options: Any,
    ) -> None:
        """Build the simulator for the clips' object; ``groups`` are the observation groups to compute."""
        if mode == 'mocap' and not clips.has_object:
            raise UserError("clips: have no object; expected one in mode 'mocap'.")
        if clips.bodies != tracked_bodies(clips.contact_bodies):
            raise UserError('clips: their bodies are not those the environment tracks; use load_clip_set.')
        self.cfg, self.clips, self.mode, self.groups = config, clips, mode, groups
        self.num_envs = config.num_envs
        if simulator == 'mujoco_warp':
            simulator_options.setdefault('device', str(clips.device))
        self.sim: Simulator = make_simulator(
            simulator, *_model_and_spec(clips, config), **simulator_options
        )
        self.device = self.sim.device
        self.dt = config.substeps * self.sim.timestep
        self.generator = torch.Generator(self.device)
        self.layout = make_layout(mode)
        self.history = ob.ObservationHistory(self.layout, self.num_envs, self.device)
        self._make_constants()
        self._make_state()
        self.rewards = RewardSum(config.reward, self)
        self.seed(seed)

    def _make_constants(self) -> None:
        def tensor(array: Any) -> torch.Tensor:
            return torch.tensor(array.copy(), dtype=torch.float32, device=self.device)

        self.default_joints = tensor(robot.DEFAULT_JOINT_POS)
        self.action_scale = tensor(robot.ACTION_SCALE)
        self.joint_lower, self.joint_upper = tensor(robot.JOINT_LOWER), tensor(robot.JOINT_UPPER)
        self.target_lower, self.target_upper = tensor(robot.TARGET_LOWER), tensor(robot.TARGET_UPPER)
        self.torque_to_target = tensor(robot.EFFORT_LIMIT / robot.KP)
        self.future = torch.tensor(self.cfg.future, device=self.device)
        names = self.clips.bodies
        self.key = slice(0, len(robot.KEY_BODIES))
        self.feet = [names.index(b) for b in robot.FOOT_BODIES]
        self.hands = [names.index(b) for b in robot.HAND_BODIES]
        self.touching = [names.index(b) for b in self.clips.contact_bodies] or self.hands
        pairs = self.sim.pair_index
        touched = self.clips.contact_bodies if self.clips.has_object else ()
        self.object_pairs = torch.tensor([pairs[('object', b)] for b in touched], dtype=torch.long, device=self.device)
        self.foot_pairs = torch.tensor([pairs[(b, 'floor')] for b in robot.FOOT_BODIES], device=self.device)

    def _make_state(self) -> None:
        n, device = self.num_envs, self.device
        self.frame = torch.zeros(n, dtype=torch.long, device=device)
        self.action = torch.zeros(n, self.num_actions, device=device)  # in the deployed policy's terms
        self.raw_action = torch.zeros(n, self.num_actions, device=device)
        self.episode_length_buf = torch.zeros(n, dtype=torch.long, device=device)
        self.max_episode_length = int(self.clips.lengths.max())
        self.tracked = torch.ones(n, dtype=torch.bool, device=device)
        self.iteration = 0
        self.acts_residual = self.cfg.residual

    # Beginning
    def seed(self, seed: int) -> None:
        """Start everything anew from a seed: parameters, phases, noise. Equal seeds give equal futures."""
        self.generator.manual_seed(seed)
        c, device = self.cfg, self.device
        self.randomiser = DomainRandomiser(self.sim, c.randomisation, self.generator, self.clips.objects)
        self.randomiser.draw_robot()
        self.disturbances = Disturbances(self.sim, c.randomisation, self.generator, self.dt)
        f = c.frame_loss
        self.loss = ProximityLoss(
            self.num_envs, device, self.generator, p_far=f.p_far, far_frames=f.far_frames, p_near=f.p_near,
            near_frames=f.near_frames, near=f.near,
        )
        failures = self.sampler.failures if hasattr(self, 'sampler') else None
        self.sampler: PhaseSampler = PhaseSampler(
            self.clips.starts, self.clips.lengths, weight=c.init.adaptive, generator=self.generator,
            start_fraction=c.init.start_fraction if c.init.random_phase else 1.0,
        )
        if failures is not None:
            self.sampler.failures.copy_(failures)
        self.reset(torch.arange(self.num_envs, device=device))

    def reset(self, env_ids: torch.Tensor, frames: torch.Tensor | None = None) -> None:
        """Begin episodes in ``env_ids`` (M,), at ``frames`` (M,) or where the sampler says."""
        m = len(env_ids)
        if m == 0:
            return
        frames = self.sampler.sample(m) if frames is None else frames
        self.frame[env_ids] = frames
        self.randomiser.draw_episode(env_ids, self.clips.clip_of_frame[frames])
        qpos, qvel = self.clips.qpos[frames].clone(), self.clips.qvel[frames].clone()
        if self.cfg.init.disturb:
            self._disturb(qpos, qvel)
        dtype = self.sim.qpos.dtype
        self.sim.set_state(qpos.to(dtype), qvel.to(dtype), env_ids)
        # The last action is what would hold the present pose, in whatever terms the actor acts.
        self.action[env_ids] = (qpos[:, 7:36] - self.default_joints) / self.action_scale
        self.raw_action[env_ids] = 0.0 if self.acts_residual else self.action[env_ids]
        self.episode_length_buf[env_ids] = 0
        self.disturbances.reset(env_ids)
        mask = torch.zeros(self.num_envs, dtype=torch.bool, device=self.device)
        mask[env_ids] = True
        self.history.reset(mask)
        self.loss.reset(mask)
        self.tracked |= mask

    def _disturb(self, qpos: torch.Tensor, qvel: torch.Tensor) -> None:
        c = self.cfg.init

        def noise(width: float, *shape: int) -> torch.Tensor:
            return width * (2 * torch.rand(*shape, generator=self.generator, device=self.device) - 1)

        m = len(qpos)
        qpos[:, 7:36] += noise(c.joint_pos, m, 29)
        qpos[:, 7:36].clamp_(self.joint_lower, self.joint_upper)
        qpos[:, :2] += noise(c.root_pos, m, 2)
        qpos[:, 3:7] = quat.multiply(qpos[:, 3:7], quat.exp(noise(c.root_rot, m, 3)))
        qvel[:, :3] += noise(c.root_lin_vel, m, 3)
        qvel[:, 3:6] += noise(c.root_ang_vel, m, 3)
        qvel[:, 6:35] += noise(c.joint_vel, m, 29)
        if self.clips.has_object:
            # Sideways and along the floor: an object moved up or down would fall or sink.
            qpos[:, 36:38] += noise(c.object_pos, m, 2)

    # Stepping
    def step(self, actions: torch.Tensor) -> tuple[TensorDict, torch.Tensor, torch.Tensor, dict]:
        """Advance one control tick; see :meth:`rsl_rl.env.VecEnv.step`. ``extras['log']`` holds means to log."""
        limit = self.cfg.action_limit
        raw = actions.to(self.device).clamp(-limit, limit)
        canonical = self.canonical(raw)
        target = torch.clamp(ob.joint_targets(canonical, self.default_joints, self.action_scale),
                             self.target_lower, self.target_upper)  # fmt: skip
        r = self.cfg.randomisation
        if r.enabled and r.torque_noise > 0:
            noise = 2 * torch.rand(target.shape, generator=self.generator, device=self.device) - 1
            target = target + r.torque_noise * noise * self.torque_to_target * 0.1
        self.disturbances.apply(self.clips.still[self.frame])
        self.sim.step(target.to(self.sim.qpos.dtype), self.cfg.substeps)
        self.frame = self.clips.ahead(self.frame, 1)
        self.episode_length_buf += 1

        state = self.snapshot()
        reasons = self._terminations(state)
        failed = reasons.any(0)
        finished = (self.frame == self.clips.last_of_frame[self.frame]) & ~failed
        rewards, terms = self.rewards(state, raw, self.raw_action, failed, self.dt, self.iteration)
        done = failed | finished
        extras = {
            'time_outs': finished.float(),
            'log': terms | dict(zip((f'end/{name}' for name in REASONS), reasons.float().mean(1).unbind())),
            'failed': failed,
            'amp': self.amp_frame(state) if 'amp' in self.groups else None,
            'lengths': self.episode_length_buf[done].clone(),
        }
        self.action, self.raw_action = canonical, raw
        self.sampler.record(self.frame[failed])
        self.reset(torch.nonzero(done).flatten())
        return self.observe(), rewards, done, extras

    def canonical(self, raw: torch.Tensor) -> torch.Tensor:
        """Return an actor's output (N, 29) in the deployed policy's terms: ``(target - q_default) / scale``."""
        if not self.acts_residual:
            return raw
        return raw + self._reference_action(self.clips.ahead(self.frame, 1))

    def _reference_action(self, frame: torch.Tensor) -> torch.Tensor:
        """Return the action (N, 29) whose targets are the reference's joints in ``frame`` (N,)."""
        return (self.clips.joints.index_select(0, frame) - self.default_joints) / self.action_scale

    def snapshot(self) -> Snapshot:
        """Return the present state beside its reference, float32."""
        s, c = self.sim, self.clips
        contact, ref = s.contact, c.at(self.frame)
        return Snapshot(
            qpos=s.qpos.float(), qvel=s.qvel.float(), body_pos=s.xpos.float(), body_quat=s.xquat.float(),
            body_vel=s.xvel.float(), torque=s.actuator_force.float(),
            contact=contact.index_select(1, self.object_pairs), feet_contact=contact.index_select(1, self.foot_pairs),
            ref_qpos=ref.qpos, ref_qvel=ref.qvel, ref_body_pos=c.body_pos.index_select(0, self.frame),
            ref_body_quat=c.body_quat.index_select(0, self.frame),
            ref_body_vel=c.body_vel.index_select(0, self.frame), ref_contact=ref.contact > 0.5,
        )

    def _terminations(self, s: Snapshot) -> torch.Tensor:
        """Return (5, N) bool by :data:`REASONS`."""
        c, n = self.cfg.termination, self.num_envs
        out = torch.zeros(len(REASONS), n, dtype=torch.bool, device=self.device)
        out[0] = terminations.motion(s.body_pos[:, self.key], s.ref_body_pos[:, self.key], c.motion)
        out[1] = terminations.orientation(s.qpos[:, 3:7], s.ref_qpos[:, 3:7], c.orientation)
        if self.clips.has_object:
            draw = torch.rand(2, n, generator=self.generator, device=self.device)
            if c.interaction:
                out[2] = terminations.interaction(
                    s.body_pos[:, self.touching], s.object_pos, s.ref_body_pos[:, self.touching], s.ref_object_pos,
                    s.ref_contact, c.interaction_distance, draw[0], c.interaction_p,
                )
            out[3] = terminations.object_lost(
                s.object_pos, s.ref_object_pos, c.object_distance, draw[1], c.object_p if c.interaction else 0.0
            )
        out[4] = ~self.sim.finite
        return out

    # Seeing
    def get_observations(self) -> TensorDict:
        """Return the observations of the last step, or of the beginning."""
        if not hasattr(self, '_observations'):
            self.observe()
        return self._observations

    def observe(self) -> TensorDict:
        """Push the present measurements into the history and return the observation groups."""
        groups = {}
        if 'policy' in self.groups:
            self.history.push(self._measure())
            groups['policy'] = self.history.vector()
        if 'privileged' in self.groups:
            groups['privileged'] = self._privileged()
        self._observations = TensorDict(groups, batch_size=[self.num_envs], device=self.device)
        return self._observations

    def _privileged(self) -> torch.Tensor:
        s = self.sim
        scale = self.randomiser.object_scale.float() if self.clips.has_object else None
        # In a residual teacher's terms whoever acts, so that a teacher can label a student's states.
        last = self.action
        if self.cfg.residual:
            last = last - self._reference_action(self.frame)
        return privileged_observation(
            self.clips, self.frame, s.qpos.float(), s.qvel.float(), s.xpos.float(),
            s.contact.index_select(1, self.object_pairs), last, self.future, scale, self.default_joints,
        )

    def _measure(self) -> dict[str, torch.Tensor]:
        """Return the deployable terms of now, with sensor noise and frame loss."""
        qpos, qvel = self.sim.qpos.float(), self.sim.qvel.float()
        terms = ob.proprioception(
            base_ang_vel=qvel[:, 3:6], root_quat=qpos[:, 3:7], joint_pos=qpos[:, 7:36], joint_vel=qvel[:, 6:35],
            last_action=self.action, default_joint_pos=self.default_joints, action_scale=self.action_scale,
        )
        r, width = self.cfg.randomisation, self.cfg.noise
        noisy = r.enabled and r.noise > 0
        if noisy:
            q_noise = self._noise(r.noise * width.joint_pos, 29)
            terms['joint_pos'] = terms['joint_pos'] + q_noise
            terms['pd_error'] = terms['pd_error'] - q_noise  # one sensor feeds both
            terms['joint_vel'] = terms['joint_vel'] + self._noise(r.noise * width.joint_vel, 29)
            terms['base_ang_vel'] = terms['base_ang_vel'] + self._noise(r.noise * width.base_ang_vel, 3)
            terms['projected_gravity'] = terms['projected_gravity'] + self._noise(r.noise * width.projected_gravity, 3)
        if self.mode == 'mocap':
            position = qpos[:, 36:39] + (self._noise(r.noise * width.object_pos, 3) if noisy else 0.0)
            if self.cfg.frame_loss.enabled:
                gap = (self.sim.xpos[:, self.touching].float() - qpos[:, None, 36:39]).norm(dim=-1).amin(-1)
                self.tracked = self.loss.step(gap - self.clips.objects[0].bounding_radius())
            terms |= ob.object_observation(
                root_pos=qpos[:, :3], root_quat=qpos[:, 3:7], object_pos=position[:, None],
                tracked=self.tracked[:, None],
            )
        return terms

    def _noise(self, width: float, size: int) -> torch.Tensor:
        return width * (2 * torch.rand(self.num_envs, size, generator=self.generator, device=self.device) - 1)

    def amp_frame(self, s: Snapshot) -> torch.Tensor:
        """Return the features (N, A) of one frame for the motion prior."""
        return amp_features(s.qpos, s.qvel, s.body_pos[:, self.key])

    def close(self) -> None:
        """Free the simulator."""
        self.sim.close()


def amp_features(qpos: torch.Tensor, qvel: torch.Tensor, key_pos: torch.Tensor) -> torch.Tensor:
    """Return (N, 140): height, gravity, velocities, joints and key bodies in the heading frame; no world position."""
    root_pos, root_quat = qpos[:, :3], qpos[:, 3:7]
    turn = quat.heading(root_quat)[:, None].expand(-1, key_pos.shape[1], -1)
    keys = quat.rotate_inverse(turn, key_pos - root_pos[:, None])
    velocity = quat.rotate_inverse(root_quat, qvel[:, :3])
    return torch.cat(
        [root_pos[:, 2:3], ob.projected_gravity(root_quat), velocity, qvel[:, 3:6], qpos[:, 7:36],
         0.1 * qvel[:, 6:35], keys.flatten(1)], -1,
    )  # fmt: skip


def _model_and_spec(clips: ClipSet, config: EnvConfig):
    obj = scene_object(clips)
    objects = (obj,) if obj is not None else ()
    model = scene(objects, self_collision=config.self_collision)
    groups: dict[str, list[str]] = {'floor': ['floor']}
    pairs: list[tuple[str, str]] = [(b, 'floor') for b in robot.FOOT_BODIES]
    for name in {*robot.FOOT_BODIES, *clips.contact_bodies}:
        groups[name] = [f'body:{name}']
    if obj is not None:
        groups['object'] = [f'body:{obj.name}']
        pairs += [('object', name) for name in clips.contact_bodies]
    spec = SimSpec(
        bodies=clips.bodies, contact_groups=groups, contact_pairs=tuple(pairs), force_bodies=(robot.TORSO_BODY,),
        drag={model.body(body).name: k for body, k in drag_table(model, objects)},
    )
    return model, config.num_envs, spec
