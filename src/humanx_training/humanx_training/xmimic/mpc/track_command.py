"""``humanx train teacher|student --teacher mpc`` for skills that follow a clip with the body alone.

The teacher makes each clip feasible and puts feedback around it; the student imitates it on proprioception. The skill's
section ``xmimic: mpc:`` says how; see :class:`TrackSection`.
"""

from __future__ import annotations

import argparse
import dataclasses
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
from humanx_training.xmimic.clip_set import load_clips, make_clip_set
from humanx_training.xmimic.config import TrainConfig, build, parse_overrides
from humanx_training.xmimic.dagger import distil
from humanx_training.xmimic.env import HumanXEnv
from humanx_training.xmimic.export import export_model
from humanx_training.xmimic.mpc import tracking
from humanx_training.xmimic.mpc.inverse import BodySolver
from humanx_training.xmimic.mpc.on_the_spot import OnTheSpot, on_the_spot
from humanx_training.xmimic.ppo import make_model
from humanx_training.xmimic.rollout_eval import Tracking, track

REPORT = 'teacher.json'
_EVERY = 20  # iterations between evaluations
_LIMIT = 6.0  # action units


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
    out: Path = args.out or Path('out') / f'{skill.name}_teacher'
    if (out / REPORT).exists() and not args.resume:
        raise UserError(f'{out}: holds a teacher already; give --resume to complete it or another --out.')
    began = time.monotonic()
    entries = []
    (out / 'clips').mkdir(parents=True, exist_ok=True)
    (out / 'motions').mkdir(exist_ok=True)
    for index, clip in enumerate(load_clips([Path(p) for p in args.clips])):
        name = f'clip_{index:03d}.npz'
        if (out / 'clips' / name).exists():
            continue
        wanted = _body(skill, clip)
        feasible, reference = tracking.solve(wanted)
        tracking.save_feasible(out / 'motions' / name, feasible)
        tracking.feasible_clip(wanted, feasible).save(out / 'clips' / name)
        entry = {'clip': name, **deviation(feasible.qpos, reference.qpos), 'passes': len(feasible.history)}
        print(json.dumps(entry), file=sys.stderr, flush=True)
        entries.append(entry)
    report = {'skill': skill.name, 'seconds': round(time.monotonic() - began, 1), 'deviation_from_clip': entries}
    (out / REPORT).write_text(json.dumps(report, indent=2) + '\n')
    print(f'wrote {out}: {len(list((out / "clips").glob("*.npz")))} feasible clips', file=sys.stderr)
    return 0


def _body(skill: Skill, clip: InteractionClip) -> InteractionClip:
    from humanx_training.xmimic.train_command import without_object

    settings = section(skill).on_the_spot
    if settings is None:
        return without_object(clip).resampled(1 / tracking.DT)
    where = f'skill {skill.name}: xmimic: mpc: on_the_spot'
    part = from_mapping(OnTheSpot, settings, where)
    try:
        return on_the_spot(clip, part)
    except ValueError as error:
        raise UserError(f'{where}: {error}') from None


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
    """Distil the teacher of ``--teacher-from`` into a NEP student and write its policy file."""
    skill = load_skill(args.skill)
    if len(args.teacher_from) != 1:
        raise UserError('--teacher-from: expected the folder of one model-based teacher.')
    source = Path(args.teacher_from[0])
    files = sorted((source / 'clips').glob('*.npz'))
    if not files:
        raise UserError(f'{source}: holds no clips; expected the folder that humanx train teacher wrote.')
    out: Path = args.out or Path('out') / f'{skill.name}_student'
    if (out / 'student.pt').exists() and not args.resume:
        raise UserError(f'{out}: holds a student already; give --resume to continue it or another --out.')
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    run = _Run(skill, files, source, out, _settings(args, skill))
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
    return build({'env': {'residual': False}}, section(skill).settings, command, where='settings')


class _Run:
    """One distillation with its environments, curve and files."""

    def __init__(self, skill: Skill, files: Sequence[Path], source: Path, out: Path, config: TrainConfig) -> None:
        self.skill, self.out, self.config, self.source = skill, out, config, source
        clips = make_clip_set(load_clips(files))
        motions = [tracking.load_feasible(source / 'motions' / file.name) for file in files]

        def make(settings, seed: int) -> HumanXEnv:
            return HumanXEnv(clips, settings, mode='nep', groups=('policy',), seed=seed)

        few = dataclasses.replace(config.env, num_envs=min(64, config.env.num_envs))
        clean = dataclasses.replace(
            few, init=dataclasses.replace(few.init, disturb=False),
            randomisation=dataclasses.replace(few.randomisation, enabled=False),
        )  # fmt: skip
        self.env = make(config.env, config.seed)
        self.tests = {'clean': make(clean, config.seed + 1), 'noisy': make(few, config.seed + 1)}
        self.teacher = tracking.TrackingTeacher(self.env, motions)
        self.curve: list[dict] = []
        self.best = -1.0

    def train(self, resume: bool) -> None:
        """Distil; every 20 iterations evaluate, save, and export where the disturbed evaluation is the best so far."""
        torch.manual_seed(self.config.seed)
        student = None
        if resume and (self.out / 'student.pt').exists():
            state = torch.load(self.out / 'student.pt', weights_only=True)
            student = make_model(self.env.observe(), 'policy', 29, self.config.ppo, actor=True)
            student.load_state_dict(state['student'])
            self.curve, self.best = json.loads(state['curve']), state['best']
        began = time.monotonic()

        def on_iteration(iteration: int, model, loss: float) -> None:
            if (iteration + 1) % _EVERY == 0 or iteration + 1 == self.config.dagger.iterations:
                self._evaluate(iteration + 1, model, loss, time.monotonic() - began)

        distil(self.env, self.teacher, self.config.dagger, self.config.ppo, student=student, on_iteration=on_iteration)

    def _evaluate(self, iteration: int, student, loss: float, seconds: float) -> None:
        result: dict[str, Tracking] = {
            name: track(env, lambda obs: student(obs).clamp(-_LIMIT, _LIMIT)) for name, env in self.tests.items()
        }
        d = self.config.dagger
        entry = {'minutes': round(seconds / 60, 1), 'samples': iteration * d.steps * self.env.num_envs, 'loss': loss}
        for name, value in result.items():
            entry |= {f'{name}_reached': value.reached, f'{name}_body_error_m': round(value.body_error, 4)}
        self.curve.append(entry)
        print(json.dumps(entry), file=sys.stderr, flush=True)
        score = result['noisy'].reached + 0.1 * result['clean'].reached
        if score >= self.best:
            self.best = score
            export_model(
                student, self.out / f'{self.skill.name}.onnx', skill=self.skill.name, mode='nep',
                layout=self.env.layout, object_roles=(), activation=self.config.ppo.activation,
                provenance={'teacher': self.source.name, 'seed': self.config.seed, **entry},
            )  # fmt: skip
        (self.out / 'curve.json').write_text(json.dumps(self.curve, indent=1) + '\n')
        torch.save(
            {'student': student.state_dict(), 'curve': json.dumps(self.curve), 'best': self.best},
            self.out / 'student.pt',
        )  # fmt: skip
