"""From a :class:`HumanMotion` to a :class:`RobotMotion`: the steps in order."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from humanx_description.errors import UserError
from humanx_description.robot import DEFAULT_JOINT_POS
from humanx_training.xgen import rotations as rot
from humanx_training.xgen.human_motion import CapturedObject, HumanMotion
from humanx_training.xgen.retarget import limits
from humanx_training.xgen.retarget.footing import FootingRule, detect_stance
from humanx_training.xgen.retarget.ik import frame_by_frame
from humanx_training.xgen.retarget.keypoints import SIDES, Targets, build_targets, resample_human
from humanx_training.xgen.retarget.kinematics import Kinematics, Pose
from humanx_training.xgen.retarget.plan import (
    ANKLE_ABOVE_SOLE,
    FROZEN,
    FootPlan,
    Plan,
    extend,
    place_feet,
    trim_unreachable,
)
from humanx_training.xgen.retarget.refine import RefineConfig, RefineReport, refine
from humanx_training.xgen.retarget.stance import balanced_stance
from humanx_training.xgen.robot_motion import RobotMotion

MAX_TRIMS = 3


@dataclass(frozen=True)
class RetargetConfig:
    """What a retargeted clip should be like."""

    fps: float = 50.0
    stance_before: float = 1.0  # s of standing still before the clip
    stance_after: float = 1.0  # s after it
    entry: float = 1.0  # s from the stance into the clip
    leave: float = 1.2  # s from the clip's end to the stance
    footing: FootingRule = field(default_factory=FootingRule)
    refine: RefineConfig = field(default_factory=RefineConfig)

    def __post_init__(self) -> None:
        for name, low, high in (
            ('fps', 20.0, 200.0),
            ('stance_before', 0.0, 60.0),
            ('stance_after', 0.0, 60.0),
            ('entry', 0.3, 10.0),
            ('leave', 0.3, 10.0),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise UserError(f'{name} is {value:g}; expected {low:g} to {high:g}.')


@dataclass
class RetargetResult:
    """The motion and what came before the refinement, for comparison."""

    motion: RobotMotion
    unrefined: RobotMotion  # per-frame IK on planted feet, without stances
    plan: Plan
    report: RefineReport


def retarget(human: HumanMotion, config: RetargetConfig = RetargetConfig()) -> RetargetResult:
    """Retarget a person's motion to the G1."""
    stance = detect_stance(human, config.footing)
    if not stance.any():
        raise UserError(
            f'{human.provenance.get("source", "motion")}: the feet never stand on the floor; '
            'expected at least one stance (a person on the ground, z up, metres).'
        )
    motion, nearest = resample_human(human, config.fps)
    stance = stance[nearest]
    keep = _standing_part(stance)
    motion, stance = motion.cut(keep.start, keep.stop), stance[keep]
    kin = Kinematics()
    targets = build_targets(motion, kin)
    home = targets.pelvis_pos[0].copy()
    feet = place_feet(targets, stance, config.fps)
    plan = extend(targets, feet, config.fps, round(config.entry * config.fps), round(config.leave * config.fps))
    solved = frame_by_frame(kin, targets, feet, config.fps)
    start = _start_pose(kin, plan, solved)
    poses, report = refine(kin, plan, start, config.refine)
    for _ in range(MAX_TRIMS):
        if not trim_unreachable(kin, plan, poses):
            break
        again, more = refine(kin, plan, poses, replace(config.refine, phases=config.refine.phases[-1:]))
        poses = again
        report = RefineReport(report.solves + more.solves, more.last_step, report.cost + more.cost)
    offset = targets.pelvis_pos[0] - home
    motion_out = _assemble(plan, poses, config, human, motion, targets, offset, keep, report.solves)
    unrefined = _clip_only(solved, stance, targets, config)
    return RetargetResult(motion=motion_out, unrefined=unrefined, plan=plan, report=report)


def plain_ik(human: HumanMotion, config: RetargetConfig = RetargetConfig()) -> tuple[RobotMotion, Targets]:
    """Return what per-frame IK makes of the scaled keypoints alone, and its targets: the benchmark's starting point.

    Nothing is planted: the feet follow the person's ankles and soles. The lowest standing sole is put on the floor.
    """
    stance = detect_stance(human, config.footing)
    motion, nearest = resample_human(human, config.fps)
    stance = stance[nearest]
    kin = Kinematics()
    targets = build_targets(motion, kin)
    ankles = np.stack([targets.points[f'{side}_ankle'] for side in SIDES], axis=1)
    height = np.median(ankles[stance][:, 2]) if stance.any() else ankles[..., 2].min()
    shift = np.tile([0.0, 0.0, ANKLE_ABOVE_SOLE - height], (len(targets), 1))
    targets.shift(shift)
    feet = FootPlan(planted=stance, pos=ankles + shift[:, None], mat=targets.foot_mat)
    poses = frame_by_frame(kin, targets, feet, config.fps)
    return _clip_only(poses, stance, targets, config), targets


def _clip_only(poses: Pose, stance: np.ndarray, targets: Targets, config: RetargetConfig) -> RobotMotion:
    return RobotMotion(
        fps=config.fps,
        root_pos=poses.pos,
        root_quat=rot.continuous(rot.mat_to_quat(poses.mat)),
        joint_pos=poses.joints,
        foot_contact=stance,
        scale=targets.scale,
    )


def _standing_part(stance: np.ndarray) -> slice:
    """Return the frames from the first to the last in which a foot stands."""
    some = np.flatnonzero(stance.any(axis=1))
    return slice(int(some[0]), int(some[-1]) + 1)


def _start_pose(kin: Kinematics, plan: Plan, solved: Pose) -> Pose:
    """Return the guess the refinement starts from: the IK's, the stances, blends between them."""
    count, clip = plan.num_frames, plan.clip
    pose = Pose(np.zeros((count, 3)), np.tile(np.eye(3), (count, 1, 1)), np.tile(DEFAULT_JOINT_POS, (count, 1)))
    pose.pos[clip], pose.mat[clip], pose.joints[clip] = solved.pos, solved.mat, solved.joints
    first = balanced_stance(kin, plan.feet.pos[0], plan.feet.mat[0])
    last = balanced_stance(kin, plan.feet.pos[-1], plan.feet.mat[-1])
    _blend(pose, first, range(0, clip.start), clip.start, forward=True)
    _blend(pose, last, range(clip.stop, count), clip.stop - 1, forward=False)
    return pose


def _blend(pose: Pose, stance: Pose, frames: range, end: int, forward: bool) -> None:
    count = len(frames) - FROZEN
    for i, frame in enumerate(frames):
        share = (i - FROZEN + 1) / (count + 1) if forward else 1 - (i + 1) / (count + 1)
        share = float(np.clip(share, 0, 1))
        share = share**3 * (10 - 15 * share + 6 * share**2)
        pose.pos[frame] = stance.pos[0] + share * (pose.pos[end] - stance.pos[0])
        pose.mat[frame] = stance.mat[0] @ rot.exp(share * rot.log(stance.mat[0].T @ pose.mat[end]))
        pose.joints[frame] = stance.joints[0] + share * (pose.joints[end] - stance.joints[0])


def _assemble(
    plan: Plan,
    poses: Pose,
    config: RetargetConfig,
    human: HumanMotion,
    resampled: HumanMotion,
    targets: Targets,
    offset: np.ndarray,
    keep: slice,
    solves: int,
) -> RobotMotion:
    """Repeat the stances for their length and bring captured objects along."""
    before = max(round(config.stance_before * config.fps), FROZEN)
    after = max(round(config.stance_after * config.fps), FROZEN)
    index = np.concatenate([
        np.zeros(before, dtype=int),
        np.arange(FROZEN, plan.num_frames - FROZEN),
        np.full(after, plan.num_frames - 1),
    ])  # fmt: skip
    start = before + plan.clip.start - FROZEN
    stop = start + len(targets)
    captured = None
    if resampled.captured is not None:
        source = resampled.captured
        clip = np.clip(np.arange(len(index)) - start, 0, len(targets) - 1)
        captured = CapturedObject(
            source.name, targets.scale * source.pos[clip] + offset, source.quat[clip], source.contact[clip]
        )
    joints = np.clip(poses.joints[index], limits.LOWER, limits.UPPER)
    return RobotMotion(
        fps=config.fps,
        root_pos=poses.pos[index],
        root_quat=rot.continuous(rot.mat_to_quat(poses.mat[index])),
        joint_pos=joints,
        foot_contact=plan.feet.planted[index],
        clip_start=start,
        clip_stop=stop,
        scale=targets.scale,
        source_offset=tuple(float(v) for v in offset),  # type: ignore[arg-type]
        provenance={
            **human.provenance,
            'retarget': {
                'scale': targets.scale,
                'source_frames': [keep.start, keep.stop],
                'source_rate': human.fps,
                'solves': solves,
            },
        },
        captured=captured,
    )


def at_rate(motion: RobotMotion, fps: float) -> RobotMotion:
    """Return the motion at another rate, provenance noted."""
    return replace(motion.resample(fps), provenance={**motion.provenance, 'resampled_from': motion.fps})
