"""``humanx train teacher|student --teacher mpc``: from a robot motion to a bank of kicks, and to a student.

The skill's section ``xmimic: mpc:`` says how; see :class:`MpcSection`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from humanx_description import robot
from humanx_description.config import from_mapping
from humanx_description.errors import UserError
from humanx_description.scene import scene
from humanx_description.skills import Skill, load_skill
from humanx_training.clip import InteractionClip
from humanx_training.xgen.robot_motion import is_robot_motion, load_robot_motion
from humanx_training.xmimic.config import parse_overrides
from humanx_training.xmimic.memory import check_memory
from humanx_training.xmimic.mpc.arrivals import Arrivals, arrivals_of, strike_frame
from humanx_training.xmimic.mpc.bank import Bank, build_bank, load_bank
from humanx_training.xmimic.mpc.folders import REPORT, new_teacher, teacher_of
from humanx_training.xmimic.mpc.inverse import BodySolver
from humanx_training.xmimic.mpc.reference import AnchoredClip, KickStyle, anchor_clip, resample

BANK = 'bank'
_STEPS = 24  # control steps per iteration of imitation
ARRIVALS = 'arrivals.npz'


@dataclass(frozen=True)
class MpcSection:
    """The model-based teacher's settings in a skill file.

    ``style`` changes fields of :class:`.reference.KickStyle`; ``ball_y`` (m) lists the ball paths of the bank;
    ``ranges`` changes fields of :class:`.kick_env.KickRanges`.
    """

    style: dict = field(default_factory=dict)
    ball_y: tuple[float, ...] = (-0.45, -0.4, -0.35, -0.3, -0.25, -0.2, -0.15, -0.1, -0.05, 0.0, 0.05)
    ranges: dict = field(default_factory=dict)


def section(skill: Skill) -> MpcSection:
    """Return the skill's validated settings."""
    return from_mapping(MpcSection, skill.xmimic.get('mpc', {}), f'skill {skill.name}: xmimic: mpc')


def style_of(skill: Skill) -> KickStyle:
    """Return the kick's style with the skill's changes."""
    return from_mapping(KickStyle, section(skill).style, f'skill {skill.name}: xmimic: mpc: style')


def load_teacher_clips(paths: list[Path], style: KickStyle) -> tuple[AnchoredClip, Arrivals | None]:
    """Return the body of the original clip, anchored at its planted foot, and how the ball comes in all clips.

    ``paths``: the folder of a clip set (``humanx xgen run``) or its clips, the original first; or one robot motion
    (``humanx xgen retarget``), which has no ball.
    """
    files = [f for path in paths for f in (sorted(path.glob('clip_*.npz')) if path.is_dir() else [path])]
    if not files:
        raise UserError(f'{paths[0]}: holds no clip_*.npz; expected the folder that humanx xgen run wrote.')
    if len(files) == 1 and is_robot_motion(files[0]):
        return load_motion(files[0], 0.01, style.contact), None
    clips = [(file, InteractionClip.load(file)) for file in files]
    return anchor_interaction(*clips[0], style), arrivals_of(clips)


def anchor_interaction(path: Path, clip: InteractionClip, style: KickStyle) -> AnchoredClip:
    """Return a clip's body on the style's clip time: what came long before the strike is left out."""
    run_up = style.contact + style.strike_lead
    strike = strike_frame(clip, path)
    first = strike - round(run_up * clip.fps)
    if first < 0:
        raise UserError(
            f'{path}: the strike comes after {strike / clip.fps:.2f} s; expected at least the {run_up:.2f} s that the '
            'style takes for the run-up.'
        )
    qpos = resample(clip.root_pos[first:], clip.root_quat[first:], clip.joint_pos[first:], clip.fps, 0.01)
    return anchor_clip(BodySolver(scene()), qpos, 0.01, style.contact)


def load_motion(path: Path, dt: float, contact: float) -> AnchoredClip:
    """Return a robot motion file's person part, anchored at its planted foot."""
    motion = load_robot_motion(path)
    part = slice(motion.clip_start, motion.clip_stop)
    length = (motion.clip_stop - motion.clip_start) / motion.fps
    if not 0 < contact < length:
        raise UserError(f'{path}: lasts {length:.2f} s, the contact of the style lies at {contact} s.')
    qpos = resample(motion.root_pos[part], motion.root_quat[part], motion.joint_pos[part], motion.fps, dt)
    return anchor_clip(BodySolver(scene()), qpos, dt, contact)


def run(args: argparse.Namespace) -> int:
    """Build the teacher, or distil a student from it."""
    logging.basicConfig(format='%(message)s')
    if args.envs is not None:
        check_memory(args.envs, _STEPS)
    if args.with_object:
        from humanx_training.xmimic.mpc import interaction_command

        return interaction_command.run_teacher(args)
    if load_skill(args.skill).success.kind != 'strike' or _follows_clips(args):
        from humanx_training.xmimic.mpc import track_command

        return track_command.run_teacher(args) if args.kind == 'teacher' else track_command.run_student(args)
    return run_teacher(args) if args.kind == 'teacher' else run_student(args)


def _follows_clips(args: argparse.Namespace) -> bool:
    """Whether a student's teacher is one of clips (``--with-object``), not a bank of kicks."""
    if args.kind == 'teacher':
        return False
    source = teacher_of(args)
    return (source / 'clips').is_dir() and not (source / BANK).exists()


def run_teacher(args: argparse.Namespace) -> int:
    """Build the bank of a skill from the clip set (or robot motion) given by ``--clips``."""
    skill = load_skill(args.skill)
    if skill.main_object is None:
        raise UserError(f'skill {skill.name}: its scenario names no object; expected the ball that is struck.')
    if not args.clips:
        raise UserError('--clips is missing; expected the folder of a clip set (from humanx xgen run).')
    out = new_teacher(args, skill.name)
    style = style_of(skill)
    began = time.monotonic()
    clip, arrivals = load_teacher_clips([Path(path) for path in args.clips], style)
    out.mkdir(parents=True, exist_ok=True)
    if arrivals is not None:
        arrivals.save(out / ARRIVALS)
    bank = build_bank(scene(), clip, style, np.array(section(skill).ball_y), out / BANK)
    report = {
        'skill': skill.name, 'clips': 1 if arrivals is None else len(arrivals), 'style': dataclasses.asdict(style),
        'ball_y': bank.ball_y.tolist(), 'seconds': round(time.monotonic() - began, 1),
        'deviation_from_clip': deviation(bank, clip, style),
    }  # fmt: skip
    (out / REPORT).write_text(json.dumps(report, indent=2) + '\n')
    print(json.dumps(report['deviation_from_clip']))
    print(f'wrote {out}: {len(bank.ball_y)} feasible kicks', file=sys.stderr)
    return 0


def deviation(bank: Bank, clip: AnchoredClip, style: KickStyle) -> dict[str, float]:
    """Return how far the middle kick of the bank is from the clip while the clip leads: mean and worst distance (m) of
    the key bodies relative to the planted foot."""
    model = scene()
    solver = BodySolver(model)
    ids = [model.body(name).id for name in robot.KEY_BODIES]
    entry = int(np.argmin(np.abs(bank.ball_y - style.usual_y)))
    distances = []
    begin, end = (style.start - style.contact) / style.before_rate, (style.end - style.contact) / style.after_rate
    for tau in np.arange(begin, end, bank.dt):
        frame = round((tau + style.before) / bank.dt)
        rate = style.before_rate if tau < 0 else style.after_rate
        quat, joints, _foot, _fq = clip.at(np.array([style.contact + rate * tau]))
        poses = []
        for qpos in (bank.qpos[entry, frame], np.concatenate([np.zeros(3), quat[0], joints[0]])):
            data = solver.kinematics(qpos)
            poses.append(data.xpos[ids] - data.xpos[solver.feet[0]])
        distances.append(np.linalg.norm(poses[0] - poses[1], axis=1))
    return {'mean_m': round(float(np.mean(distances)), 4), 'worst_m': round(float(np.max(distances)), 4)}


def run_student(args: argparse.Namespace) -> int:
    """Distil the bank of ``--teacher-from`` into a student and write its policy file."""
    import torch

    from humanx_training.xmimic.distill import Distillation, DistillConfig, export_student
    from humanx_training.xmimic.mpc.expert import KickExpert, KickRule
    from humanx_training.xmimic.mpc.kick_env import KickEnv, KickRanges

    skill = load_skill(args.skill)
    source = teacher_of(args)
    bank = load_bank(source / BANK, style_of(skill))
    out: Path = args.out or Path('out') / f'{skill.name}_student'
    torch.set_num_threads(1)  # physics and learning run side by side, see Distillation.iterate
    changes = {**section(skill).ranges, **parse_overrides(args.set)}
    ranges = from_mapping(KickRanges, changes, f'skill {skill.name}: xmimic: mpc: ranges')
    ball = skill.main_object
    assert ball is not None
    count, seed = args.envs or 384, 1 if args.seed is None else args.seed
    expert = KickExpert(bank, count, KickRule(rolling_rate=ball.rolling_rate))
    arrivals = Arrivals.load(source / ARRIVALS) if (source / ARRIVALS).exists() else None
    env = KickEnv(
        skill, expert, count, seed, ranges, threads=args.threads, arrivals=arrivals, usual_y=style_of(skill).usual_y
    )
    config = DistillConfig(samples=args.samples, seed=seed)
    progress = Distillation(env, config, out, resume=args.resume).run()
    target = out / f'{skill.name}.onnx'
    export_student(
        out / 'student.pt', target, skill=skill.name, mode='mocap', object_roles=(ball.name,),
        provenance={'teacher': source.name, 'ball_y': bank.ball_y.tolist(), 'envs': count,
                    'ranges': dataclasses.asdict(ranges)},
    )  # fmt: skip
    print(json.dumps(progress.curve[-1]))
    print(f'wrote {target}', file=sys.stderr)
    return 0
