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
from humanx_training.xgen.robot_motion import load_robot_motion
from humanx_training.xmimic.mpc.bank import Bank, build_bank, load_bank
from humanx_training.xmimic.mpc.inverse import BodySolver
from humanx_training.xmimic.mpc.reference import AnchoredClip, KickStyle, anchor_clip, resample

BANK = 'bank'
REPORT = 'teacher.json'


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
    if load_skill(args.skill).success.kind != 'strike':
        from humanx_training.xmimic.mpc import track_command

        return track_command.run_teacher(args) if args.kind == 'teacher' else track_command.run_student(args)
    return run_teacher(args) if args.kind == 'teacher' else run_student(args)


def run_teacher(args: argparse.Namespace) -> int:
    """Build the bank of a skill from the robot motion given by ``--clips``."""
    skill = load_skill(args.skill)
    if skill.main_object is None:
        raise UserError(f'skill {skill.name}: its scenario names no object; expected the ball that is struck.')
    if not args.clips or len(args.clips) != 1:
        raise UserError('--clips: the model-based teacher takes one robot motion (from humanx xgen retarget).')
    out: Path = args.out or Path('out') / f'{skill.name}_teacher'
    if (out / REPORT).exists() and not args.resume:
        raise UserError(f'{out}: holds a teacher already; give --resume to complete it or another --out.')
    style = style_of(skill)
    began = time.monotonic()
    clip = load_motion(Path(args.clips[0]), 0.01, style.contact)
    bank = build_bank(scene(), clip, style, np.array(section(skill).ball_y), out / BANK)
    report = {
        'skill': skill.name, 'motion': Path(args.clips[0]).name, 'style': dataclasses.asdict(style),
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
    if len(args.teacher_from) != 1:
        raise UserError('--teacher-from: expected the folder of one model-based teacher.')
    source = Path(args.teacher_from[0])
    bank = load_bank(source / BANK, style_of(skill))
    out: Path = args.out or Path('out') / f'{skill.name}_student'
    torch.set_num_threads(1)  # physics and learning run side by side, see Distillation.iterate
    ranges = from_mapping(KickRanges, section(skill).ranges, f'skill {skill.name}: xmimic: mpc: ranges')
    ball = skill.main_object
    assert ball is not None
    count, seed = args.envs or 384, 1 if args.seed is None else args.seed
    expert = KickExpert(bank, count, KickRule(rolling_rate=ball.rolling_rate))
    env = KickEnv(skill, expert, count, seed, ranges, threads=args.threads)
    config = DistillConfig(samples=args.samples, seed=seed)
    progress = Distillation(env, config, out, resume=args.resume).run()
    best = out / 'best.pt'
    chosen = best if best.exists() else out / 'student.pt'
    target = out / f'{skill.name}.onnx'
    export_student(
        chosen, target, skill=skill.name, mode='mocap', object_roles=(ball.name,),
        provenance={'teacher': source.name, 'ball_y': bank.ball_y.tolist(), 'envs': count},
    )  # fmt: skip
    print(json.dumps(progress.curve[-1]))
    print(f'wrote {target}', file=sys.stderr)
    return 0
