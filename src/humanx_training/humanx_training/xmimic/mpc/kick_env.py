"""Many robots and balls for distilling a kick: the skill's scenario, deployable observations, randomisation, labels.

Every episode is a whole trial: the robot stands with the ball at rest, lost or absent, the ball rolls in, is kicked or
missed, and the robot stands again. All randomness comes from one seed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from humanx_description import robot
from humanx_description.scene import default_qpos, scene
from humanx_description.skills import Skill
from humanx_policy import observation as ob
from humanx_training.xmimic.mpc.arrivals import Arrivals
from humanx_training.xmimic.mpc.expert import KickExpert, planted_frame, turn_back
from humanx_training.xmimic.sim import MujocoSimulator, SimSpec

CONTROL_PERIOD = 0.01  # s
SUBSTEPS = 2
# Ticks of the body that the student sees: enough to feel a delay, cheap enough for a laptop.
BODY_HISTORY = (0, 1, 3)
_AWAY = np.array([30.0, 0.0, 0.11])  # m, where a ball that is not there lies


@dataclass(frozen=True)
class KickRanges:
    """What varies between episodes and within them. Pairs are uniform ranges, single numbers half widths."""

    start_x: tuple[float, float] = (2.3, 3.4)  # m
    start_y: tuple[float, float] = (-0.48, 0.18)
    speed: tuple[float, float] = (0.9, 1.5)  # m/s
    heading: float = 0.03  # rad, of the ball's path
    clip_share: float = 0.25  # of the balls that come as in one of the teacher's clips, where it had a set of them
    wait: tuple[float, float] = (0.0, 1.0)  # s before the ball is set free
    absent: float = 0.08  # share of episodes without a ball
    resting: float = 0.07  # share in which it stays at rest
    episode: float = 6.4  # s
    # Chance that a robot that stands at the end of an episode goes on into the next as it is: the partner sends the
    # next ball to where it stands now.
    again: float = 0.8
    # Chance that an episode ends when the foot has passed the ball without touching it (interaction termination).
    interaction_termination: float = 0.0
    joint: float = 0.03  # rad, at the start (normal)
    joint_vel: float = 0.2  # rad/s
    root_turn: float = 0.02  # rad
    root_vel: float = 0.1  # m/s
    foot_friction: tuple[float, float] = (0.6, 1.1)
    ball_mass: float = 0.15  # relative
    gain: float = 0.1  # relative, kp and kd
    payload: float = 0.04  # relative, body masses
    trunk_shift: float = 0.015  # m, centre of mass of the trunk
    max_delay: int = 3  # physics steps between command and effect
    push: float = 0.15  # m/s
    push_every: tuple[float, float] = (2.0, 6.0)  # s
    gyro: float = 0.02  # rad/s (normal)
    gravity: float = 0.005
    encoder: float = 0.001  # rad
    encoder_rate: float = 0.05  # rad/s
    encoder_bias: float = 0.004  # rad, per episode
    ball_noise: float = 0.004  # m
    loss: tuple[float, float] = (0.0, 0.15)  # share of frames lost, per episode
    burst: tuple[int, int] = (1, 10)  # frames
    mocap_delay: tuple[int, int] = (0, 2)  # control steps


@dataclass
class Outcome:
    """What a finished episode came to: upright, touched by a foot, ball speed (m/s) and its angle (deg) off the way
    back to where it came from."""

    upright: bool
    launched: bool
    touched: bool
    speed: float
    angle: float
    ball_y: float

    @property
    def success(self) -> bool:
        """As the skill's judge decides."""
        return self.upright and self.touched and self.speed >= 1.0 and abs(self.angle) <= 20.0



class KickEnv:
    """``num_envs`` trials in parallel; see the module."""

    def __init__(
        self, skill: Skill, expert: KickExpert, num_envs: int, seed: int, ranges: KickRanges | None = None,
        threads: int | None = None, layout: ob.ObservationLayout | None = None, arrivals: Arrivals | None = None,
        usual_y: float = -0.15,
    ) -> None:
        """Build the simulator and start the first episodes.

        ``arrivals``: how balls come in the teacher's clips; ``usual_y`` (m) is the path that the original clip's ball
        has in the home frame.
        """
        self.ranges = ranges or KickRanges()
        self.arrivals, self._usual_y = arrivals, usual_y
        self.n = num_envs
        self.rng = np.random.default_rng(seed)
        self.model = scene(skill.objects)
        main = skill.main_object
        assert main is not None
        self.radius = main.bounding_radius()
        spec = SimSpec(
            bodies=robot.FOOT_BODIES,
            contact_groups={'feet': [f'body:{b}' for b in robot.FOOT_BODIES], 'ball': [f'body:{main.name}']},
            contact_pairs=(('feet', 'ball'),),
        )
        self.sim = MujocoSimulator(self.model, num_envs, spec, threads=threads)
        self.expert = expert
        self.layout = layout or ob.ObservationLayout(ob.mocap_terms(history=BODY_HISTORY))
        self.history = ob.ObservationHistory(self.layout, num_envs)
        self.default = robot.DEFAULT_JOINT_POS
        self.last_action = np.zeros((num_envs, robot.NUM_JOINTS))
        self._queue = np.zeros((2, num_envs, robot.NUM_JOINTS))
        self._prepare_parameters()
        zeros = np.zeros(num_envs)
        self._lost_left = np.zeros(num_envs, int)
        self.time, self._next_push = zeros.copy(), zeros.copy()
        self._bias = np.zeros((num_envs, robot.NUM_JOINTS))
        self._mocap = np.zeros((3, num_envs, 3 + 3 + 4))
        self._touch_time = np.full(num_envs, np.nan)
        self._last_touch = np.full(num_envs, np.nan)
        self._leave = np.full((num_envs, 4), np.nan)  # horizontal velocity and place of the ball after the strike
        self.launch, self.end = zeros.copy(), zeros.copy()
        self.kind = np.zeros(num_envs, int)
        self.start, self.velocity = np.zeros((num_envs, 3)), np.zeros((num_envs, 3))
        self._fallen = np.zeros(num_envs, bool)
        self.reset(np.ones(num_envs, bool))
        self._observe()

    def _prepare_parameters(self) -> None:
        m = self.model
        self._doomed = np.zeros(self.n, bool)
        self._feet = [g for g in range(m.ngeom) if '_foot' in (m.geom(g).name or '')]
        for name in ('geom_friction', 'actuator_gainprm', 'actuator_biasprm', 'body_mass', 'body_ipos'):
            self.sim.parameter(name)
        self._ball_body = int(m.body_rootid[-1])
        self._trunk = m.body(robot.TORSO_BODY).id
        self._delay = np.zeros(self.n, int)
        self._mocap_lag = np.zeros(self.n, int)
        self._loss = np.zeros(self.n)
        self._burst = np.ones(self.n, int)

    def _uniform(self, bounds: tuple[float, float], count: int) -> np.ndarray:
        return self.rng.uniform(bounds[0], bounds[1], count)

    def _randomise(self, ids: np.ndarray) -> None:
        r, m, sim, count = self.ranges, self.model, self.sim, len(ids)
        # numpy's stub wants all indices to be alike.
        sim.parameter_array('geom_friction')[np.ix_(ids, self._feet, [0])] = self._uniform(  # type: ignore[arg-type]
            r.foot_friction, count
        )[:, None, None]
        for name, column in (('actuator_gainprm', 0), ('actuator_biasprm', 1)):
            sim.parameter_array(name)[ids, :, column] = getattr(m, name)[:, column]
        stiff = 1 + self.rng.uniform(-r.gain, r.gain, (count, robot.NUM_JOINTS))
        sim.parameter_array('actuator_gainprm')[ids, :, 0] *= stiff
        sim.parameter_array('actuator_biasprm')[ids, :, 1] *= stiff
        damp = 1 + self.rng.uniform(-r.gain, r.gain, (count, robot.NUM_JOINTS))
        sim.parameter_array('actuator_biasprm')[ids, :, 2] = m.actuator_biasprm[:, 2] * damp
        mass = sim.parameter_array('body_mass')
        mass[ids] = m.body_mass * (1 + self.rng.uniform(-r.payload, r.payload, (count, m.nbody)))
        ball = 1 + self._uniform((-r.ball_mass, r.ball_mass), count)
        mass[ids, self._ball_body] = m.body_mass[self._ball_body] * ball
        shift = self.rng.uniform(-r.trunk_shift, r.trunk_shift, (count, 3))
        sim.parameter_array('body_ipos')[ids, self._trunk] = m.body_ipos[self._trunk] + shift
        self._delay[ids] = self.rng.integers(0, r.max_delay + 1, count)
        sim.buffers.delay[ids] = self._delay[ids] % SUBSTEPS
        self._mocap_lag[ids] = self.rng.integers(r.mocap_delay[0], r.mocap_delay[1] + 1, count)
        self._loss[ids] = self._uniform(r.loss, count)
        self._burst[ids] = self.rng.integers(r.burst[0], r.burst[1] + 1, count)
        self._bias[ids] = self.rng.uniform(-r.encoder_bias, r.encoder_bias, (count, robot.NUM_JOINTS))

    def reset(self, mask: np.ndarray) -> None:
        """Start new episodes in the environments of ``mask`` (N,)."""
        ids = np.flatnonzero(mask)
        count = len(ids)
        if not count:
            return
        r, rng = self.ranges, self.rng
        self._randomise(ids)
        qpos = np.tile(default_qpos()[:36], (count, 1))
        qpos[:, 7:] += r.joint * rng.normal(size=(count, 29)) * (rng.random((count, 1)) < 0.7)
        turn = r.root_turn * rng.normal(size=(count, 3))
        qpos[:, 4:7] += 0.5 * turn
        qpos[:, 3:7] /= np.linalg.norm(qpos[:, 3:7], axis=1, keepdims=True)
        qvel = np.zeros((count, 35))
        qvel[:, :3] = r.root_vel * rng.normal(size=(count, 3)) * [1, 1, 0.3]
        qvel[:, 6:] = r.joint_vel * rng.normal(size=(count, 29))
        start = self._draw_ball(ids)
        ball = np.tile([0, 0, 0, 1.0, 0, 0, 0], (count, 1))
        ball[:, :3] = start
        self.sim.set_state(np.concatenate([qpos, ball], 1), np.concatenate([qvel, np.zeros((count, 6))], 1), ids)
        hold = np.tile(self.default, (count, 1))
        self.sim.buffers.ctrl_past[ids] = hold[:, None]
        self._queue[:, ids] = hold
        self.last_action[ids] = 0
        self._next_push[ids] = self._uniform(r.push_every, count)
        self._lost_left[ids] = 0
        self._fallen[ids] = False
        self.expert.reset(mask)
        self.expert.strayed[mask] = False
        self.history.reset(mask)
        self._mocap[:, ids] = self._mocap_frame()[ids]

    def _draw_ball(self, ids: np.ndarray) -> np.ndarray:
        """Draw how the balls of the environments ``ids`` (M,) come, in the home frame; return their starts (M, 3)."""
        r, rng, count = self.ranges, self.rng, len(ids)
        draw = rng.random(count)
        self.kind[ids] = np.where(draw < r.absent, 2, np.where(draw < r.absent + r.resting, 1, 0))
        start = np.stack(
            [self._uniform(r.start_x, count), self._uniform(r.start_y, count), np.full(count, self.radius)], 1
        )
        angle = rng.uniform(-r.heading, r.heading, count)
        speed = self._uniform(r.speed, count)
        self._like_the_clips(start, speed, angle)
        start[self.kind[ids] == 2] = _AWAY
        self.start[ids] = start
        self.velocity[ids] = np.stack([-speed * np.cos(angle), speed * np.sin(angle), np.zeros(count)], 1)
        self.launch[ids] = np.where(self.kind[ids] == 0, self._uniform(r.wait, count), np.inf)
        self.end[ids] = np.where(self.kind[ids] == 0, r.episode, 0.5 * r.episode)
        self.time[ids] = 0
        self._doomed[ids] = rng.random(count) < r.interaction_termination
        self._touch_time[ids] = self._last_touch[ids] = np.nan
        self._leave[ids] = np.nan
        return start

    def _next_ball(self, ids: np.ndarray) -> None:
        """Send another ball to robots (M,) that stand, in the home frame of where they stand now."""
        if not len(ids):
            return
        b = self.sim.buffers
        left = np.ones(len(ids), bool)
        origin, yaw = planted_frame(b.xpos[ids, 0], b.xquat[ids, 0], left)
        start = self._draw_ball(ids)
        start[:, :2] = origin + turn_back(-yaw, start[:, :2])
        self.start[ids] = start
        self.velocity[ids, :2] = turn_back(-yaw, self.velocity[ids, :2])
        self._next_push[ids] = self._uniform(self.ranges.push_every, len(ids))
        b.qpos[ids, 36:39], b.qpos[ids, 39:43] = start, [1.0, 0, 0, 0]
        b.qvel[ids, 35:41] = 0

    def _like_the_clips(self, start: np.ndarray, speed: np.ndarray, angle: np.ndarray) -> None:
        """Let some of the balls (M, 3), (M,), (M,) come as in the teacher's clips."""
        if self.arrivals is None:
            return
        chosen = np.flatnonzero(self.rng.random(len(start)) < self.ranges.clip_share)
        which = self.rng.integers(len(self.arrivals), size=len(chosen))
        a, contact_x = self.arrivals, self.expert.bank.contact_x
        start[chosen, 0] = contact_x + a.distance[which] * np.cos(a.azimuth[which])
        start[chosen, 1] = self._usual_y + a.offset[which] + a.distance[which] * np.sin(a.azimuth[which])
        speed[chosen] = a.speed[which]
        angle[chosen] = -a.azimuth[which]

    def _mocap_frame(self) -> np.ndarray:
        q = self.sim.buffers.qpos
        return np.concatenate([q[:, :7], q[:, 36:39]], 1)

    def _observe(self) -> None:
        """Take this tick's observation, with noise, lost frames and late motion capture."""
        r, rng, n, b = self.ranges, self.rng, self.n, self.sim.buffers
        normal = rng.standard_normal
        quat = b.qpos[:, 3:7]
        self._mocap = np.concatenate([self._mocap_frame()[None], self._mocap[:-1]])
        seen = self._mocap[self._mocap_lag, np.arange(n)]
        start = self._loss / np.maximum(self._burst * (1 - self._loss), 1e-6)
        begins = (self._lost_left == 0) & (rng.random(n) < start)
        self._lost_left = np.where(begins, self._burst, np.maximum(self._lost_left - 1, 0))
        tracked = (self._lost_left == 0) & (self.kind != 2)
        terms = ob.proprioception(
            base_ang_vel=b.qvel[:, 3:6] + r.gyro * normal((n, 3)),
            root_quat=quat,
            joint_pos=b.qpos[:, 7:36] + self._bias + r.encoder * normal((n, 29)),
            joint_vel=b.qvel[:, 6:35] + r.encoder_rate * normal((n, 29)),
            last_action=self.last_action,
            default_joint_pos=self.default,
            action_scale=robot.ACTION_SCALE,
        )
        terms['projected_gravity'] = terms['projected_gravity'] + r.gravity * normal((n, 3))
        terms |= ob.object_observation(
            root_pos=seen[:, :3],
            root_quat=seen[:, 3:7],
            object_pos=(seen[:, 7:] + r.ball_noise * normal((n, 3)))[:, None],
            tracked=tracked[:, None],
        )
        self.history.push(terms)

    def observation(self) -> np.ndarray:
        """Return this tick's observations (N, O) float32."""
        return self.history.vector()

    def label(self) -> np.ndarray:
        """Return the expert's actions (N, 29) for the true state of this tick; call once per tick."""
        b = self.sim.buffers
        previous = self.default + robot.ACTION_SCALE * self.last_action
        target = self.expert.label(
            b.qpos[:, :36], b.qvel[:, :35], b.xpos, b.xquat, b.qpos[:, 36:39], b.qvel[:, 35:38], previous
        )
        return ((target - self.default) / robot.ACTION_SCALE).astype(np.float32)

    def step(self, action: np.ndarray) -> np.ndarray:
        """Apply actions (N, 29) for one control step; return (N,) bool: episodes that ended (they are reset)."""
        b = self.sim.buffers
        self.last_action = np.clip(action, -10.0, 10.0).astype(float)
        command = self.default + robot.ACTION_SCALE * self.last_action
        self._queue = np.stack([command, self._queue[0]])
        self._release_and_push()
        self.sim.step(torch.from_numpy(self._queue[self._delay // SUBSTEPS, np.arange(self.n)]), SUBSTEPS)
        self.time += CONTROL_PERIOD
        self._record()
        tilt = 1 - 2 * (b.qpos[:, 4] ** 2 + b.qpos[:, 5] ** 2)
        self._fallen |= (b.qpos[:, 2] < 0.5) | (tilt < 0.7) | ~b.finite | self.expert.strayed
        done = self._fallen | (self.time >= self.end) | (self._doomed & self._missed())
        self.finished = [self._outcome(i) for i in np.flatnonzero(done)]
        again = done & ~self._fallen & ~self.expert.kicking & (self.rng.random(self.n) < self.ranges.again)
        self.reset(done & ~again)
        self._next_ball(np.flatnonzero(again))
        self._observe()
        return done

    def _missed(self) -> np.ndarray:
        """Return (N,) bool: a kick is 0.1 s past the moment of contact and has not touched the ball."""
        late = self.expert.kicking & (self.expert.frame > self.expert.bank.contact + 10)
        return late & np.isnan(self._touch_time)

    def _release_and_push(self) -> None:
        b, r = self.sim.buffers, self.ranges
        held = self.time < self.launch
        ids = np.flatnonzero(held)
        b.qpos[ids, 36:39] = self.start[ids]
        b.qvel[ids, 35:41] = 0
        free = np.flatnonzero((self.time >= self.launch) & (self.time < self.launch + CONTROL_PERIOD - 1e-9))
        b.qvel[free, 35:38] = self.velocity[free]
        b.qvel[free, 38:41] = np.cross([0, 0, 1.0], self.velocity[free]) / self.radius
        b.qpos[free, 39:43] = [1, 0, 0, 0]
        pushed = np.flatnonzero(self.time >= self._next_push)
        angle = self.rng.uniform(-np.pi, np.pi, len(pushed))
        size = r.push * self.rng.random(len(pushed))
        b.qvel[pushed, :2] += size[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
        self._next_push[pushed] = self.time[pushed] + self._uniform(r.push_every, len(pushed))

    def _record(self) -> None:
        b = self.sim.buffers
        touch = b.contact[:, 0] & (self.time > self.launch)
        self._touch_time[touch & np.isnan(self._touch_time)] = self.time[touch & np.isnan(self._touch_time)]
        one_strike = touch & ~(self.time - self._last_touch > 0.3)
        self._last_touch[one_strike] = self.time[one_strike]
        leaving = np.abs(self.time - self._last_touch - 0.1) < 0.5 * CONTROL_PERIOD
        self._leave[leaving] = np.concatenate([b.qvel[leaving, 35:37], b.qpos[leaving, 36:38]], 1)

    def _outcome(self, i: int) -> Outcome:
        velocity, back = self._leave[i, :2], self.start[i, :2] - self._leave[i, 2:]
        speed = float(np.linalg.norm(velocity)) if np.isfinite(velocity).all() else 0.0
        angle = 180.0
        if speed:
            turn = np.degrees(np.arctan2(velocity[1], velocity[0]) - np.arctan2(back[1], back[0]))
            angle = float((turn + 180.0) % 360.0 - 180.0)
        return Outcome(
            not self._fallen[i], self.kind[i] == 0, bool(np.isfinite(self._touch_time[i])), speed, angle,
            float(self.start[i, 1]),
        )
