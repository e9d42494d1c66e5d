"""``humanx train teacher|student --teacher mpc`` for skills that follow a clip with the body alone.

The teacher makes each clip feasible and puts feedback around it; the student imitates it on proprioception. The skill's
section ``xmimic: mpc:`` says how; see :class:`TrackSection`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from humanx_description import robot
from humanx_description.config import from_mapping
from humanx_description.errors import UserError
from humanx_description.scene import scene
from humanx_description.skills import Skill, load_skill
from humanx_training.clip import InteractionClip
from humanx_training.xgen.planting import on_both_feet, plant
from humanx_training.xgen.retarget.kinematics import Kinematics
from humanx_training.xgen.robot_motion import RobotMotion, is_robot_motion, load_robot_motion
from humanx_training.xmimic.config import TrainConfig, build, parse_overrides
from humanx_training.xmimic.mpc import tracking
from humanx_training.xmimic.mpc.folders import REPORT, new_teacher, teacher_of
from humanx_training.xmimic.mpc.grounded import grounded
from humanx_training.xmimic.mpc.inverse import BodySolver
from humanx_training.xmimic.mpc.on_the_spot import OnTheSpot, on_the_spot
from humanx_training.xmimic.mpc.reference import Reference
from humanx_training.xmimic.mpc.track_student import TrackStudent
from humanx_training.xmimic.train_command import check_machine

# What a distillation starts from: all of the randomisation; small errors of the start, since episodes that begin beyond
# the feedback's reach teach nothing; an end as soon as that reach is left.
_DEFAULTS: dict = {
    'env': {
        'residual': False,
        'num_envs': 256,
        'init': {'adaptive': 0.0, 'joint_pos': 0.03, 'root_rot': 0.03, 'root_lin_vel': 0.1, 'joint_vel': 0.1},
        'termination': {'motion': 0.35, 'orientation': 0.8},
    },
    # For the fine-tuning: a student that already works is moved in small steps, and the critic learns first.
    'ppo': {
        'hidden': [384, 256, 128], 'init_std': 0.1, 'critic_warmup': 15, 'learning_rate': 3e-5, 'desired_kl': 0.004,
        'min_learning_rate': 1e-6, 'max_learning_rate': 5e-4, 'entropy': 0.0, 'bc_coef': 1.0, 'bc_final': 0.05,
    },
    'iterations': 0, 'evaluate_every': 20, 'checkpoint_every': 20,
    'dagger': {'iterations': 200, 'updates': 30, 'capacity': 600_000, 'weigh_legs': True, 'final_rate': 0.03},
}


@dataclass(frozen=True)
class TrackSection:
    """``on_the_spot``: fields of :class:`.on_the_spot.OnTheSpot`, for clips to be carried out on planted feet (left
    out: the clip is followed as it is). ``settings``: changes of the training settings."""

    on_the_spot: dict | None = None
    settings: dict = field(default_factory=dict)


def section(skill: Skill) -> TrackSection:
    """Return the skill's validated settings."""
    return from_mapping(TrackSection, skill.xmimic.get('mpc', {}), f'skill {skill.name}: xmimic: mpc')


def run_teacher(args: argparse.Namespace) -> int:
    """Make the clips of ``--clips`` feasible; write them, their servo targets and how far they are from the
    originals."""
    skill = load_skill(args.skill)
    if not args.clips:
        raise UserError('--clips is missing; expected clip files (from humanx xgen run) or folders.')
    out = new_teacher(args, skill.name)
    began = time.monotonic()
    entries = []
    for folder in ('clips', 'motions', 'originals'):
        (out / folder).mkdir(parents=True, exist_ok=True)
    for index, file in enumerate(clip_files(args.clips)):
        name = f'clip_{index:03d}.npz'
        if (out / 'clips' / name).exists():
            continue
        original, reference = _reference(skill, file)
        feasible = tracking.solve(reference, str(file))
        tracking.save_feasible(out / 'motions' / name, feasible)
        original.save(out / 'originals' / name)
        tracking.feasible_clip(original, feasible).save(out / 'clips' / name)
        entry = {
            'clip': name, 'file': file.name, 'seconds': round(len(feasible.qpos) * tracking.DT, 2),
            **deviation(feasible.qpos, original.qpos()), 'passes': len(feasible.history), **reference.notes,
        }  # fmt: skip
        print(json.dumps(entry), file=sys.stderr, flush=True)
        entries.append(entry)
    report = {'skill': skill.name, 'seconds': round(time.monotonic() - began, 1), 'deviation_from_clip': entries}
    (out / REPORT).write_text(json.dumps(report, indent=2) + '\n')
    print(f'wrote {out}: {len(list((out / "clips").glob("*.npz")))} feasible clips', file=sys.stderr)
    return 0


def clip_files(paths: Sequence[str]) -> list[Path]:
    """Return the ``.npz`` files of files and folders; raises :class:`UserError` where there is none."""
    files: list[Path] = []
    for path in map(Path, paths):
        inside = sorted(path.glob('*.npz')) if path.is_dir() else [path]
        if not inside:
            raise UserError(f'{path}: holds no .npz file; expected interaction clips or robot motions.')
        files += inside
    return files


def _reference(skill: Skill, file: Path) -> tuple[InteractionClip, Reference]:
    """Return the body's motion as the file has it, at 100 Hz, and a reference that the feet can carry.

    A motion of ``humanx xgen retarget`` counts from its person's first frame to the last, a clip wherever it begins and
    ends on both feet.
    """
    settings = section(skill).on_the_spot
    if settings is not None:
        where = f'skill {skill.name}: xmimic: mpc: on_the_spot'
        part = from_mapping(OnTheSpot, settings, where)
        try:
            planted = on_the_spot(InteractionClip.load(file), part)
        except ValueError as error:
            raise UserError(f'{where}: {error}') from None
        return planted, tracking.clip_reference(scene(), planted)
    if is_robot_motion(file):
        motion = load_robot_motion(file).resample(1 / tracking.DT)
        original = motion.qpos()[motion.clip_start : motion.clip_stop]
    else:
        clip = InteractionClip.load(file).resampled(1 / tracking.DT)
        free = np.zeros((clip.num_frames, 2), bool)
        motion = RobotMotion(clip.fps, clip.root_pos, clip.root_quat, clip.joint_pos, free)
        try:
            first, last = on_both_feet(Kinematics(), motion, 0, clip.num_frames)
            original = motion.qpos()[first:last]
            motion = plant(motion, first, last, stance_seconds=0.0)
        except UserError as error:
            raise UserError(f'{file}: {error}') from None
    return _body_clip(original, file), grounded(BodySolver(scene()), motion, motion.clip_start, motion.clip_stop)


def _body_clip(qpos: np.ndarray, file: Path) -> InteractionClip:
    """Return (T, 36) positions at 100 Hz as a clip without an object."""
    frames = len(qpos)
    return InteractionClip(
        fps=1 / tracking.DT, root_pos=qpos[:, :3], root_quat=qpos[:, 3:7], joint_pos=qpos[:, 7:], object_name='',
        object_shape={}, object_pos=np.zeros((frames, 3)), object_quat=np.tile([1.0, 0, 0, 0], (frames, 1)),
        contact=np.zeros((frames, 0), bool), contact_bodies=(), provenance={'source': file.name},
    )  # fmt: skip


def deviation(qpos: np.ndarray, wanted: np.ndarray) -> dict[str, float]:
    """Return the mean and the worst distance (m) of the key bodies between two motions (T, 36)."""
    model = scene()
    solver = BodySolver(model)
    ids = [model.body(name).id for name in robot.KEY_BODIES]
    distances = []
    for a, b in zip(qpos, wanted):
        first = solver.kinematics(a).xpos[ids].copy()
        distances.append(np.linalg.norm(first - solver.kinematics(b).xpos[ids], axis=1))
    return {'mean_m': round(float(np.mean(distances)), 4), 'worst_m': round(float(np.max(distances)), 4)}


def run_student(args: argparse.Namespace) -> int:
    """Distil the teacher of ``--teacher-from`` into a NEP student, fine-tune it with PPO (``--iterations``) and write
    its policy file."""
    skill = load_skill(args.skill)
    source = teacher_of(args)
    files = sorted((source / 'clips').glob('*.npz'))
    if not files:
        raise UserError(f'{source}: holds no clips; expected the folder that humanx train teacher wrote.')
    out: Path = args.out or Path('out') / f'{skill.name}_student'
    if (out / 'student.pt').exists() and not args.resume:
        raise UserError(f'{out}: holds a student already; give --resume to continue it or another --out.')
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    settings = _settings(args, skill)
    check_machine(settings, args)
    run = TrackStudent(
        skill, files, source, out, settings, simulator=args.sim, device=args.device, threads=args.threads
    )
    run.train(resume=args.resume)
    print(json.dumps(run.curve[-1]) if run.curve else '', flush=True)
    print(f'wrote {out / f"{skill.name}.onnx"}', file=sys.stderr)
    return 0


def _settings(args: argparse.Namespace, skill: Skill) -> TrainConfig:
    command = parse_overrides(args.set)
    if args.seed is not None:
        command['seed'] = args.seed
    if args.dagger:
        command.setdefault('dagger', {})['iterations'] = args.dagger
    if args.envs is not None:
        command.setdefault('env', {})['num_envs'] = args.envs
    if args.iterations is not None:
        command['iterations'] = args.iterations
    return build(_DEFAULTS, section(skill).settings, command, where='settings')
