"""The whole motion at once: keypoints, planted feet, balance, smoothness, limits weighed in one least-squares problem.

Gauss-Newton with damping; joint ranges are kept exactly by holding a joint at its stop while the cost pushes it
outward. Per-frame IK cannot weigh a planted foot against the frames before and after it; this can, and costs less than
the IK does because all frames share each numpy call.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from humanx_description.robot import DEFAULT_JOINT_POS, FOOT_BODIES, FOOT_SOLE_OFFSET, JOINT_INDEX
from humanx_training.xgen.retarget import limits, terms
from humanx_training.xgen.retarget.banded import NormalEquations
from humanx_training.xgen.retarget.collision import SelfCollision
from humanx_training.xgen.retarget.keypoints import KEYPOINTS, SIDES
from humanx_training.xgen.retarget.kinematics import NUM_DOF, Kinematics, Pose
from humanx_training.xgen.retarget.plan import ANKLE_ABOVE_SOLE, FROZEN, Plan
from humanx_training.xgen.retarget.terms import Tolerances

SOLE_BELOW_ANKLE = np.array([0.0, 0.0, FOOT_SOLE_OFFSET - ANKLE_ABOVE_SOLE])  # ankle_roll origin below the pitch axis
CLEARANCE = 0.004  # m, sole of a swinging foot above the floor
APART = 0.006  # m, between the robot's own shapes


@dataclass(frozen=True)
class RefineConfig:
    """How long the refinement works and what it weighs."""

    # Stiffness of what must hold exactly (planted feet, floor, self-collision) and steps at that stiffness. Soft first:
    # a stiff start drags limbs through each other.
    phases: tuple[tuple[float, int], ...] = ((0.2, 8), (1.0, 14))
    stop: float = 1e-4  # rad or m, largest step at which a phase is done
    trust: float = 0.3  # rad or m, largest step of one iteration
    damping: float = 1.0
    gain: float = 1.5e-3  # share of the cost; a step that gains less is the last of its phase
    balance: bool = True
    tolerances: Tolerances = field(default_factory=Tolerances)


@dataclass
class RefineReport:
    """How the refinement ended."""

    solves: int  # linear systems solved, rejected steps included
    last_step: float  # rad or m
    cost: list[float]  # after every accepted step


def refine(kin: Kinematics, plan: Plan, start: Pose, config: RefineConfig) -> tuple[Pose, RefineReport]:
    """Return the refined poses (N frames of the plan); the ``FROZEN`` frames at both ends stay as they are."""
    problem = _Problem(kin, plan, start, config)
    pose = _within_ranges(start.copy())
    report = RefineReport(0, np.inf, [])
    for stiffness, count in config.phases:
        problem.stiffness = stiffness
        pose = _descend(problem, pose, count, config, report)
    return pose, report


def _descend(problem: _Problem, pose: Pose, count: int, config: RefineConfig, report: RefineReport) -> Pose:
    """Take up to ``count`` damped Gauss-Newton steps; a step that raises the cost is redone with more damping."""
    ends = np.zeros((len(pose), NUM_DOF), dtype=bool)
    ends[:FROZEN] = ends[-FROZEN:] = True
    damping = config.damping
    eq = problem.linearise(pose)
    report.cost.append(eq.cost)
    for _ in range(count):
        frozen = ends.copy()
        frozen[:, 6:] |= (pose.joints <= limits.LOWER + 1e-9) & (eq.gradient[:, 6:] > 0)
        frozen[:, 6:] |= (pose.joints >= limits.UPPER - 1e-9) & (eq.gradient[:, 6:] < 0)
        step = eq.solve(damping, frozen)
        report.solves += 1
        # One factor for the whole step keeps its direction: a planted foot stays planted.
        step *= min(1.0, config.trust / max(float(np.abs(step).max()), 1e-12))
        trial = _within_ranges(pose.moved(step))
        new = problem.linearise(trial)
        if new.cost >= eq.cost:
            damping *= 30
            if damping > 1e6:
                break
            continue
        gain = (eq.cost - new.cost) / eq.cost
        # After a rejected step the damping is high and the next step small: that is no sign of having arrived.
        cautious = damping > config.damping
        pose, eq, damping = trial, new, max(damping / 5, 0.1)
        report.cost.append(eq.cost)
        report.last_step = float(np.abs(step).max())
        if not cautious and (report.last_step < config.stop or gain < config.gain):
            break
    return pose


def _within_ranges(pose: Pose) -> Pose:
    inside = slice(FROZEN, len(pose) - FROZEN)
    pose.joints[inside] = np.clip(pose.joints[inside], limits.LOWER, limits.UPPER)
    return pose


class _Problem:
    """The cost around one pose; everything that does not change between iterations is prepared once."""

    def __init__(self, kin: Kinematics, plan: Plan, start: Pose, config: RefineConfig) -> None:
        self.kin, self.plan, self.config = kin, plan, config
        self.collision = SelfCollision(kin)
        self.stiffness = 1.0
        count = plan.num_frames
        self.on_clip = np.zeros(count)
        self.on_clip[plan.clip] = 1.0
        self.supports = terms.support_intervals(plan.feet.pos, plan.feet.mat, plan.feet.planted)
        tol = config.tolerances
        # Between the stance and the clip the start pose (a blend of both) is followed loosely.
        pull = np.where(self.on_clip > 0, 1 / tol.posture, 1 / 0.3)[:, None] * np.ones(29)
        for side in SIDES:
            for joint in ('wrist_pitch', 'wrist_yaw', 'wrist_roll'):
                pull[plan.clip, JOINT_INDEX[f'{side}_{joint}_joint']] = 1 / 1.2
            for joint in ('hip_yaw', 'shoulder_yaw'):
                pull[plan.clip, JOINT_INDEX[f'{side}_{joint}_joint']] = 1 / 1.0
        pull[plan.clip, JOINT_INDEX['waist_roll_joint']] = 1 / 0.5
        pull[plan.clip, JOINT_INDEX['waist_pitch_joint']] = 1 / 0.5
        self.pull = pull
        self.rest = start.joints.copy()
        self.rest[plan.clip] = DEFAULT_JOINT_POS
        self.start = start
        self.padded = {name: self._pad(value) for name, value in plan.targets.points.items()}
        self.pelvis_pos = self._pad(plan.targets.pelvis_pos, start.pos)
        self.pelvis_mat = self._pad(plan.targets.pelvis_mat, start.mat)
        self.torso_mat = self._pad(plan.targets.torso_mat, start.mat)

    def _pad(self, value: np.ndarray, around: np.ndarray | None = None) -> np.ndarray:
        """Put the clip's values on the plan's frames, those of the start pose (or the clip's ends) around them."""
        first, last = self.plan.clip.start, self.plan.num_frames - self.plan.clip.stop
        if around is None:
            return np.concatenate([np.repeat(value[:1], first, 0), value, np.repeat(value[-1:], last, 0)])
        out = around.copy()
        out[self.plan.clip] = value
        return out

    def linearise(self, pose: Pose) -> NormalEquations:
        kin, plan, tol = self.kin, self.plan, self.config.tolerances
        kin.update(pose)
        eq = NormalEquations(len(pose), NUM_DOF)
        loose = np.where(self.on_clip > 0, 1.0, 0.3)
        terms.body_pos(eq, kin, 'pelvis', np.zeros(3), self.pelvis_pos, loose / tol.pelvis_pos)
        terms.body_rot(eq, kin, 'pelvis', self.pelvis_mat, loose / tol.pelvis_rot)
        terms.body_rot(eq, kin, 'torso_link', self.torso_mat, loose / tol.torso_rot)
        for side_index, side in enumerate(SIDES):
            self._foot(eq, side_index)
            for joint, tolerance in (
                ('knee', tol.knee),
                ('shoulder', tol.shoulder),
                ('elbow', tol.elbow),
                ('wrist', tol.wrist),
                ('hand', tol.hand),
            ):
                name = f'{side}_{joint}'
                body, local = KEYPOINTS[name]
                sure = np.zeros(len(pose))
                sure[plan.clip] = plan.targets.confidence[name]
                terms.body_pos(eq, kin, body, np.array(local), self.padded[name], sure / tolerance)
            if plan.targets.has_hand:
                target = self._pad(plan.targets.hand_mat[:, side_index])
                terms.body_rot(eq, kin, f'{side}_wrist_yaw_link', target, self.on_clip / tol.hand_rot)
        terms.posture(eq, pose.joints, self.rest, self.pull)
        terms.smooth(eq, kin, plan.fps, tol)
        terms.joint_speed(eq, pose.joints, plan.fps, limits.SPEED, tol)
        if self.config.balance:
            terms.balance(eq, kin, self.supports, plan.fps, tol)
        self.collision.keep_off_floor(eq, plan.feet.planted, CLEARANCE, self.stiffness / tol.sole)
        self.collision.keep_apart(eq, APART, self.stiffness / tol.collision)
        return eq

    def _foot(self, eq: NormalEquations, side: int) -> None:
        kin, feet, tol = self.kin, self.plan.feet, self.config.tolerances
        body = FOOT_BODIES[side]
        planted, hard = feet.planted[:, side], self.stiffness
        # A standing foot is held by the origin of its last link (straight below the ankle when level); a swinging one
        # by the same point, loosely, because the sole may tilt about it.
        target = feet.pos[:, side] + feet.mat[:, side] @ SOLE_BELOW_ANKLE
        terms.body_pos(eq, kin, body, np.zeros(3), target, np.where(planted, hard / tol.plant_pos, 1 / tol.swing_pos))
        terms.body_rot(eq, kin, body, feet.mat[:, side], np.where(planted, hard / tol.plant_rot, 1 / tol.swing_rot))
