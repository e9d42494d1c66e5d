"""A clip with its object made feasible: sampling over the feedback of the feasible body until the object does its part.

The body alone comes first (:mod:`.grounded`, :mod:`.feasible`). From shortly before the first touch to shortly after
the last one the servo targets are then searched (:mod:`.mppi`) in the physics of robot and object, with what the object
does in the cost (:mod:`.outcome`); the feedback alone carries the rest. Every frame really leads to the next.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

import mujoco
import numpy as np

from humanx_description import robot
from humanx_description.errors import UserError
from humanx_description.judge import SuccessRule
from humanx_description.scene import drag_table, scene
from humanx_training.clip import InteractionClip
from humanx_training.xgen.planting import on_both_feet, plant
from humanx_training.xgen.retarget.kinematics import Kinematics
from humanx_training.xgen.robot_motion import RobotMotion
from humanx_training.xgen.stage import Stage
from humanx_training.xgen.surface import Surface
from humanx_training.xmimic.mpc import tracking
from humanx_training.xmimic.mpc.balance import GRAVITY, gaussian_filter
from humanx_training.xmimic.mpc.feasible import Feasible
from humanx_training.xmimic.mpc.grounded import grounded
from humanx_training.xmimic.mpc.inverse import BodySolver
from humanx_training.xmimic.mpc.linearise import linearise, state_error
from humanx_training.xmimic.mpc.lqr import Feedback, LqrWeights, feedback
from humanx_training.xmimic.mpc.mppi import Cost, MppiSettings, optimise
from humanx_training.xmimic.mpc.outcome import ObjectGoal
from humanx_training.xmimic.mpc.touches import around_touches, cut, measured_phases, set_free, touches
from humanx_training.xmimic.sim import MujocoSimulator, SimSpec
from humanx_training.xmimic.sim.buffers import Buffers

FPS = 100.0
_FALLEN = np.array([0.4, 0.4, 0.25, 1.0, 1.0, 1.0])  # m, rad: error of the pelvis
_REPEATS = 64
_DISTURBED = (0.01, 0.07, 0.03)  # standard deviations: rad, rad/s of the joints, m/s of the pelvis
_PRESS_RAMP = 5.0  # frames


@dataclass(frozen=True)
class InteractionSettings:
    """``before`` and ``after``: s of the clip that are kept around the touches (None: all). ``lead`` and ``follow``: s
    around them that are searched. ``passes`` of the body alone; ``speed``: of the leaving object, relative to the
    clip's; ``press``: force on each side of a held object, relative to the least that friction needs to carry it;
    ``tries``: searches from other seeds until the outcome is there."""

    before: float | None = None
    after: float | None = None
    lead: float = 0.6
    follow: float = 0.8
    passes: int = 4
    speed: float = 1.0
    press: float = 3.0
    tries: int = 3
    search: MppiSettings = field(default_factory=MppiSettings)

    def __post_init__(self) -> None:
        if self.lead <= 0 or self.follow <= 0 or self.passes < 1 or self.tries < 1:
            raise ValueError('expected lead and follow above 0, passes and tries of 1 or more.')


@dataclass(frozen=True)
class Interaction:
    """What was found: the feasible ``clip``; frame by frame the ``original`` body and its object's place (T, 3); the
    ``motion`` with its servo targets; whether the outcome was ``reached``, and ``measures`` of it; the share of
    slightly disturbed starts from which the feedback ``repeats`` it; the control ``steps`` simulated."""

    clip: InteractionClip
    original: InteractionClip
    original_object: np.ndarray
    motion: Feasible
    reached: bool
    measures: dict[str, float]
    repeats: float
    steps: int


def solve(
    clip: InteractionClip, rule: SuccessRule, where: str, settings: InteractionSettings | None = None, *,
    seed: int = 0, threads: int | None = None,
) -> Interaction:
    """Return the feasible version of a clip with an object; ``where`` names the clip in errors.

    Raises :class:`UserError` for a clip whose object nobody touches, and where nothing that stays upright is found.
    """
    s = settings or InteractionSettings()
    if not clip.has_object or not touches(clip):
        raise UserError(f'{where}: phases hold no contact; expected a clip in which an object is touched.')
    if not clip.contact.any():
        raise UserError(f'{where}: contact is false throughout; expected the bodies that touch the object.')
    model = scene()
    bodies = {model.body(index).name for index in range(1, model.nbody)}
    strange = [name for name in clip.contact_bodies if name not in bodies]
    if strange:
        raise UserError(f'{where}: contact_bodies name {strange[0]!r}; expected bodies of the robot itself.')
    clip = around_touches(clip.resampled(FPS), s.before, s.after)
    motion = RobotMotion(
        FPS, clip.root_pos, clip.root_quat, clip.joint_pos, np.zeros((clip.num_frames, 2), bool)
    )
    try:
        first, last = on_both_feet(Kinematics(), motion, 0, clip.num_frames)
    except UserError as error:
        raise UserError(f'{where}: {error}') from None
    planted = plant(motion, first, last, stance_seconds=0.0)
    clip = cut(clip, first, last)
    if not touches(clip):
        raise UserError(f'{where}: stands on both feet only after the touch; expected a stance before and after it.')
    body = tracking.solve(
        grounded(BodySolver(model), planted, planted.clip_start, planted.clip_stop), where, passes=s.passes
    )
    return _Search(clip, body, rule, s, threads).run(where, seed)


class _Search:
    """One clip, its feasible body and the physics of both with the object."""

    def __init__(
        self, clip: InteractionClip, body: Feasible, rule: SuccessRule, settings: InteractionSettings,
        threads: int | None,
    ) -> None:
        self.clip, self.body, self.rule, self.settings, self.threads = clip, body, rule, settings, threads
        spec = dataclasses.replace(clip.object_spec(), fixed=False)
        self.model = scene((spec,))
        groups = {'object': [f'body:{spec.name}'], **{b: [f'body:{b}'] for b in clip.contact_bodies}}
        self.spec = SimSpec(
            bodies=clip.contact_bodies, contact_groups=groups,
            contact_pairs=tuple(('object', b) for b in clip.contact_bodies),
            drag={self.model.body(body_id).name: k for body_id, k in drag_table(self.model, (spec,))},
        )  # fmt: skip
        self.goal = ObjectGoal(clip, _body_paths(clip), settings.speed)
        found = touches(clip)
        self.first = max(found[0].start - round(settings.lead * FPS), set_free(clip), 0)
        self.last = min(found[-1].end + round(settings.follow * FPS), clip.num_frames - 1)

    def run(self, where: str, seed: int) -> Interaction:
        law = self._pressing(self._law(self.body))
        steps = 0
        best: Interaction | None = None
        for attempt in range(self.settings.tries):
            qpos, qvel = self._start()
            found = optimise(
                self.model, law, self._cost(law), qpos, qvel, settings=self.settings.search, seed=seed + attempt,
                first=self.first, last=self.last, threads=self.threads, spec=self.spec,
            )
            steps += found.steps
            if not found.complete:
                continue
            tail = self._follow(law, self.last, found.qpos[-1:], found.qvel[-1:], found.target[-1:])
            if not self._upright(law, tail.qpos[:, 0], tail.qvel[:, 0], self.last + 1):
                continue
            parts = _Rows(found.qpos, found.qvel, found.target, found.contact), tail.of(0)
            result = self._interaction(_Rows.joined(parts))
            if best is None or result.reached:
                best = result
            if result.reached:
                break
        if best is None:
            raise UserError(
                f'{where}: the robot fell in all {self.settings.tries} searches with the object; expected a motion '
                'that the object does not upset, or more search.samples.'
            )
        return dataclasses.replace(best, steps=steps, repeats=self._repeats(best, seed) if best.reached else 0.0)

    def _law(self, motion: Feasible) -> Feedback:
        model = linearise(scene(), motion.qpos, motion.qvel, motion.target)
        return feedback(model, motion.qpos, motion.qvel, motion.target, LqrWeights())

    def _pressing(self, law: Feedback) -> Feedback:
        """Return the law with servo targets that press what touches a held object against it.

        Geometry alone puts the hands at the object; only force lets friction carry it, and samples around no force
        would find juggling first.
        """
        spec = self.clip.object_spec()
        force = self.settings.press * spec.mass * GRAVITY / (2 * max(spec.friction, 0.1))
        share = np.zeros(self.clip.contact.shape)
        for touch in touches(self.clip):
            if touch.held:
                share[touch.start : touch.end] = self.clip.contact[touch.start : touch.end]
        share = gaussian_filter(share, _PRESS_RAMP)
        target = law.target.copy()
        solver = BodySolver(scene())
        ids = [solver.model.body(name).id for name in self.clip.contact_bodies]
        jac = np.zeros((3, solver.model.nv))
        for t in np.flatnonzero(share.max(1) > 0.01):
            data = solver.kinematics(law.qpos[t])
            for index, body in enumerate(ids):
                inward = self.clip.object_pos[t] - data.xipos[body]
                inward[2] = 0.0
                mujoco.mj_jac(solver.model, data, jac, None, data.xipos[body], body)
                torque = jac[:, 6:].T @ (share[t, index] * force * inward / max(float(np.linalg.norm(inward)), 1e-6))
                arm = slice(robot.WAIST.stop, None)  # legs and waist would only move the whole body
                target[t, arm] += (torque / robot.KP)[arm]
        return dataclasses.replace(law, target=target)

    def _start(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the state in which the object is set free: the feasible body's, the clip's object."""
        t, clip = self.first, self.clip
        # Backward differences would still see the hand (or the partner) that gave the velocity.
        ahead = min(t + 1, clip.num_frames - 1)
        spin = clip.object_ang_vel_b[ahead]
        return (
            np.concatenate([self.body.qpos[t], clip.object_pos[t], clip.object_quat[t]]),
            np.concatenate([self.body.qvel[t], clip.object_lin_vel[ahead], spin]),
        )

    def _cost(self, law: Feedback) -> Cost:
        def cost(frame: int, state: Buffers, offset: np.ndarray) -> np.ndarray:
            index = min(frame, len(law) - 1)
            error = state_error(state.qpos[:, :36], state.qvel[:, :35], law.qpos[index], law.qvel[index])
            value = 0.02 * np.square(offset).mean(1) + _off_the_body(error)
            value += 10.0 * _beyond_range(state.qpos[:, 7:36]).sum(1)
            value += self.goal.cost(
                frame, state.qpos[:, 36:39], state.qvel[:, 35:38], state.xpos, state.contact
            )
            return np.where((np.abs(error[:, :6]) > _FALLEN).any(1), np.inf, value)

        return cost

    def _follow(
        self, law: Feedback, frame: int, qpos: np.ndarray, qvel: np.ndarray, previous: np.ndarray
    ) -> _Rows:
        """Return what the feedback alone does with N robots and objects from ``frame`` to the clip's end."""
        sim = MujocoSimulator(self.model, len(qpos), self.spec, threads=self.threads)
        sim.set_state(qpos, qvel)
        b = sim.buffers
        rows: list[tuple[np.ndarray, ...]] = []
        for t in range(frame, len(law) - 1):
            previous = law(t, b.qpos[:, :36], b.qvel[:, :35], previous)
            sim.step(previous, self.settings.search.substeps)
            rows.append((b.qpos.copy(), b.qvel.copy(), previous, b.contact.copy()))
        sim.close()
        if not rows:
            shapes = (b.qpos.shape, b.qvel.shape, previous.shape, b.contact.shape)
            return _Rows(*(np.zeros((0, *shape)) for shape in shapes))
        return _Rows(*(np.array(column) for column in zip(*rows, strict=True)))

    def _upright(self, law: Feedback, qpos: np.ndarray, qvel: np.ndarray, frame: int) -> bool:
        """Return whether states (T, 43), (T, 41) from ``frame`` on stay near the motion."""
        part = slice(frame, frame + len(qpos))
        error = state_error(qpos[:, :36], qvel[:, :35], law.qpos[part], law.qvel[part])
        return bool((np.abs(error[:, :6]) <= _FALLEN).all())

    def _repeats(self, found: Interaction, seed: int) -> float:
        """Return the share of :data:`_REPEATS` disturbed starts from which the feedback around what was found leads to
        the outcome."""
        motion, clip, t = found.motion, found.clip, self.first
        rng = np.random.default_rng(seed)
        qpos, qvel = self._start()
        qpos, qvel = np.tile(qpos, (_REPEATS, 1)), np.tile(qvel, (_REPEATS, 1))
        qpos[:, 7:36] += rng.normal(0.0, _DISTURBED[0], (_REPEATS, robot.NUM_JOINTS))
        qvel[:, 6:35] += rng.normal(0.0, _DISTURBED[1], (_REPEATS, robot.NUM_JOINTS))
        qvel[:, :3] += rng.normal(0.0, _DISTURBED[2], (_REPEATS, 3))
        law = self._law(motion)
        rows = self._follow(law, t, qpos, qvel, np.tile(motion.target[max(t - 1, 0)], (_REPEATS, 1)))
        before = np.concatenate([clip.qpos(), clip.qvel()], 1)[: t + 1]
        good = 0
        for k in range(_REPEATS):
            one = rows.of(k)
            states = np.concatenate([before, np.concatenate([one.qpos, one.qvel], 1)])
            touched = np.concatenate([np.zeros(t + 1, bool), one.contact.any(1)])
            good += self.goal.judge(self.rule, states[:, :43], states[:, 43:], touched)[0]
        return round(good / _REPEATS, 3)

    def _interaction(self, found: _Rows) -> Interaction:
        """Put the untouched beginning, the search and what follows together."""
        clip, body, first = self.clip, self.body, self.first
        object_qpos = np.concatenate([clip.object_pos, clip.object_quat], 1)
        object_qvel = np.concatenate([clip.object_lin_vel, clip.object_ang_vel_b], 1)
        qpos = np.concatenate([np.concatenate([body.qpos, object_qpos], 1)[:first], found.qpos])
        qvel = np.concatenate([np.concatenate([body.qvel, object_qvel], 1)[:first], found.qvel])
        target = np.concatenate([body.target[:first], found.target, found.target[-1:]])
        touched = np.concatenate([np.zeros(first + 1, bool), found.contact.any(1)])
        reached, measures = self.goal.judge(self.rule, qpos, qvel, touched)
        contact = Stage(()).contact_graph(
            qpos[:, :36], Surface.of(clip.object_spec()), qpos[:, 36:39], qpos[:, 39:43], clip.contact_bodies
        )
        feasible = dataclasses.replace(
            clip, root_pos=qpos[:, :3], root_quat=qpos[:, 3:7], joint_pos=qpos[:, 7:36], object_pos=qpos[:, 36:39],
            object_quat=qpos[:, 39:43], contact=contact, phases=measured_phases(clip.phases, touched),
            provenance=clip.provenance | {
                'feasible': 'multiple shooting and sampling over feedback', 'passes': body.history,
                'outcome': measures, 'reached': reached,
            },
        )  # fmt: skip
        none = np.zeros((clip.num_frames, 0), bool)
        original = dataclasses.replace(
            clip, object_name='', object_shape={}, contact=none, contact_bodies=(), phases=()
        )
        motion = Feasible(qpos[:, :36], qvel[:, :35], target, True, body.history)
        return Interaction(feasible, original, clip.object_pos, motion, reached, measures, 0.0, 0)


@dataclass(frozen=True)
class _Rows:
    """Consecutive frames: ``qpos`` (T, 43), ``qvel`` (T, 41), ``target`` (T, 29), ``contact`` (T, B); of N robots
    where there is an axis more."""

    qpos: np.ndarray
    qvel: np.ndarray
    target: np.ndarray
    contact: np.ndarray

    def of(self, index: int) -> _Rows:
        """Return the frames of one of N robots."""
        return _Rows(self.qpos[:, index], self.qvel[:, index], self.target[:, index], self.contact[:, index])

    @classmethod
    def joined(cls, parts: Sequence[_Rows]) -> _Rows:
        """Return frames one after the other."""
        names = ('qpos', 'qvel', 'target', 'contact')
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _off_the_body(error: np.ndarray) -> np.ndarray:
    """Return the cost (N,) of robots whose state is off by (N, 70): steep near zero, still falling from far away."""
    near = 0.3 * np.exp(-np.square(error[:, :3] / 0.25).sum(1)) + 0.2 * np.exp(-np.square(error[:, 3:6] / 0.35).sum(1))
    near += 0.3 * np.exp(-np.square(error[:, 6:35]).mean(1) / 0.0625)
    near += 0.1 * np.exp(-np.square(error[:, 41:]).mean(1) / 4.0)
    near += 0.1 * np.exp(-np.square(error[:, 35:38] / 0.6).sum(1))
    far = np.linalg.norm(error[:, :3], axis=1) / 0.25 + np.linalg.norm(error[:, 3:6], axis=1) / 0.35
    far += np.sqrt(np.square(error[:, 6:35]).mean(1)) / 0.25
    return 1.0 - near + 0.15 * far


def _beyond_range(joints: np.ndarray) -> np.ndarray:
    """Return how far joints (N, 29) are beyond their ranges, rad; their stops are soft."""
    return np.maximum(robot.JOINT_LOWER - joints, 0.0) + np.maximum(joints - robot.JOINT_UPPER, 0.0)


def _body_paths(clip: InteractionClip) -> np.ndarray:
    """Return the positions (T, B, 3) of the bodies that may touch the object."""
    solver = BodySolver(scene())
    ids = [solver.model.body(name).id for name in clip.contact_bodies]
    return np.array([solver.kinematics(q).xpos[ids].copy() for q in clip.qpos()[:, :36]])
