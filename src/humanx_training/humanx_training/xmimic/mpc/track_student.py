"""A NEP student of motions that a model-based teacher follows: distilled, fine-tuned with PPO, measured.

Imitation brings it as far as the teacher's linear feedback goes; from there PPO may go on with the same reward as any
student's, and what it finds is kept only where the disturbed evaluation is better than before.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from rsl_rl.models import MLPModel
from tensordict import TensorDict

from humanx_description import robot
from humanx_description.skills import Skill
from humanx_training.xmimic import checkpoint
from humanx_training.xmimic.clip_set import load_clips, make_clip_set
from humanx_training.xmimic.config import EnvConfig, InitConfig, RandomisationConfig, TerminationConfig, TrainConfig
from humanx_training.xmimic.dagger import distil
from humanx_training.xmimic.env import HumanXEnv, make_layout
from humanx_training.xmimic.export import export_model
from humanx_training.xmimic.failure import kept_failures
from humanx_training.xmimic.mpc import tracking
from humanx_training.xmimic.ppo import make_model
from humanx_training.xmimic.rollout_eval import Tracking, track
from humanx_training.xmimic.trainer import Trainer

BEST = 'best.pt'
PHASES = 240  # of the final measurement, under each condition
_EVERY = 40  # iterations between evaluations
_LIMIT = 6.0  # action units

# What a student is measured under; the randomisation of training is `training`.
CONDITIONS = ('clean', 'training', 'full', 'full_disturbed_start')


def evaluation(settings: EnvConfig, condition: str, envs: int) -> EnvConfig:
    """Return an environment's settings for random-phase rollouts, with the ordinary terminations.

    ``clean``: nothing disturbs. ``training``: the randomisation, noise, delays, pushes and forces of the training.
    ``full``: those of the published defaults. ``full_disturbed_start``: and their disturbed initialisation.
    """
    init = InitConfig(disturb=condition == 'full_disturbed_start')
    randomisation = settings.randomisation if condition == 'training' else RandomisationConfig()
    randomisation = dataclasses.replace(randomisation, enabled=condition != 'clean')
    return dataclasses.replace(
        settings, num_envs=envs, init=init, randomisation=randomisation, termination=TerminationConfig()
    )


class TrackStudent:
    """One student: its environments, its distillation, its fine-tuning, its files."""

    def __init__(
        self, skill: Skill, files: Sequence[Path], source: Path, out: Path, config: TrainConfig, *,
        simulator: str = 'mujoco', device: str = 'cpu', threads: int = 1,
    ) -> None:
        """``simulator``, ``device`` and torch's ``threads`` are the fine-tuning's; the rest is of the C engine."""
        self.skill, self.out, self.config, self.source = skill, out, config, source
        self._simulator, self._device, self._threads = simulator, device, threads
        self._files = files
        self._clips = make_clip_set(load_clips(files))
        self._names = checkpoint.digest(list(files))
        originals = [source / 'originals' / file.name for file in files]
        self.original = None
        if all(file.exists() for file in originals):
            self.original = make_clip_set(load_clips(originals)).body_pos
        self.curve: list[dict] = []
        self.best = -1.0
        self.iteration = 0

    def _make(self, settings: EnvConfig, seed: int) -> HumanXEnv:
        return HumanXEnv(self._clips, settings, mode='nep', groups=('policy',), seed=seed)

    def _teacher(self, env: HumanXEnv) -> tracking.TrackingTeacher:
        motions = [tracking.load_feasible(self.source / 'motions' / file.name) for file in self._files]
        return tracking.TrackingTeacher(env, motions)

    def train(self, resume: bool) -> None:
        """Distil; every 40 iterations evaluate, save, and export where the disturbed evaluation is the best so far;
        fine-tune the best one and measure what comes out."""
        torch.manual_seed(self.config.seed)
        first = TensorDict({'policy': torch.zeros(1, make_layout('nep').size)}, batch_size=[1])
        student = make_model(first, 'policy', robot.NUM_JOINTS, self.config.ppo, actor=True)
        if resume and (self.out / 'student.pt').exists():
            state = torch.load(self.out / 'student.pt', weights_only=True)
            student.load_state_dict(state['student'])
            self.curve, self.best = json.loads(state['curve']), state['best']
            self.iteration = state['iteration']
        if self.iteration < self.config.dagger.iterations:
            self._distil(student)
        if (self.out / BEST).exists():
            student.load_state_dict(torch.load(self.out / BEST, weights_only=True))
        if self.config.iterations:
            self._fine_tune(student, resume)
        self._report(student)

    def _distil(self, student: MLPModel) -> None:
        """Go on with the imitation from the iteration that was reached."""
        env = self._make(self.config.env, self.config.seed + self.iteration)
        tests = {
            name: self._make(evaluation(self.config.env, name, min(64, env.num_envs)), self.config.seed + 1)
            for name in ('clean', 'training')
        }
        teacher = self._teacher(env)
        began, spent = time.monotonic(), time.process_time()

        def on_iteration(iteration: int, model: MLPModel, loss: float) -> None:
            if (iteration + 1) % _EVERY == 0 or iteration + 1 == self.config.dagger.iterations:
                wall, cpu = time.monotonic() - began, time.process_time() - spent
                self._evaluate(iteration + 1, model, loss, {'minutes': wall / 60, 'cpu_minutes': cpu / 60}, tests)

        with kept_failures(self.out, env, 'while the student imitated'):
            distil(
                env, teacher, self.config.dagger, self.config.ppo, student=student, first=self.iteration,
                on_iteration=on_iteration,
            )
        for used in (env, *tests.values()):
            used.close()

    def _fine_tune(self, student: MLPModel, resume: bool) -> None:
        """Improve ``student`` with PPO and behaviour cloning (eq. 4) under the training's disturbances.

        The feedback goes on to be imitated wherever it has an answer; without that a body that cannot see where it is
        soon walks off its path, since the policy's gradient is noise beside what pushes and forces do to the return.
        What it begins with is evaluated first: a run that never gets better leaves the student as it was.
        """
        config, folder = self.config, self.out / 'ppo'
        folder.mkdir(exist_ok=True)
        # Errors that imitation could not use: states beyond the feedback's reach are what is to be learnt.
        settings = dataclasses.replace(config.env, termination=TerminationConfig())
        clips = make_clip_set(load_clips(self._files), self._device)

        def make(settings: EnvConfig, seed: int) -> HumanXEnv:
            return HumanXEnv(
                clips, settings, mode='nep', simulator=self._simulator, groups=('policy', 'privileged'), seed=seed
            )

        env = make(settings, config.seed + 3)
        tests = {
            name: make(evaluation(config.env, name, PHASES), config.seed + 4) for name in ('training', 'clean')
        }
        trainer = Trainer(
            env, config, folder, kind='student', skill=self.skill.name, clip_names=self._names, eval_envs=tests,
            teacher=self._teacher(env) if config.ppo.bc_coef > 0 else None,
        )
        if resume and (folder / 'last.pt').exists():
            trainer.resume(folder / 'last.pt')
        else:
            learned = {k: v for k, v in student.state_dict().items() if not k.startswith('distribution')}
            trainer.ppo.actor.load_state_dict(learned, strict=False)
        torch.set_num_threads(self._threads)
        trainer.run()
        torch.set_num_threads(1)
        best = checkpoint.load(folder / 'best.pt', 'student')
        student.load_state_dict(best['algorithm']['actor_state_dict'])
        self.curve.append({'ppo_iterations': best['iteration'], 'training_reached': best['best']})
        (self.out / 'curve.json').write_text(json.dumps(self.curve, indent=1) + '\n')
        self._export(student, {'ppo_iterations': best['iteration'], 'ppo_envs': env.num_envs})
        for used in (env, *tests.values()):
            used.close()

    def _report(self, student: MLPModel) -> None:
        """Measure the best student from random phases under every condition and write ``report.json``."""
        phases = PHASES
        report: dict[str, dict[str, float]] = {}
        for name in CONDITIONS:
            env = self._make(evaluation(self.config.env, name, phases), self.config.seed + 2)
            value = track(env, lambda obs: student(obs).clamp(-_LIMIT, _LIMIT), original=self.original)
            report[name] = {
                'phases': phases, 'reached': round(value.reached * phases), 'survival_s': round(value.survival_s, 2),
                'body_error_to_feasible_m': round(value.body_error, 4),
                'body_error_to_original_m': round(value.original_error, 4),
            }  # fmt: skip
            env.close()
            print(json.dumps({name: report[name]}), file=sys.stderr, flush=True)
        (self.out / 'report.json').write_text(json.dumps(report, indent=1) + '\n')

    def _evaluate(
        self, iteration: int, student: MLPModel, loss: float, spent: dict[str, float], tests: dict[str, HumanXEnv]
    ) -> None:
        result: dict[str, Tracking] = {
            name: track(env, lambda obs: student(obs).clamp(-_LIMIT, _LIMIT), original=self.original)
            for name, env in tests.items()
        }
        d = self.config.dagger
        entry = {name: round(value, 1) for name, value in spent.items()}
        entry |= {'samples': iteration * d.steps * self.config.env.num_envs, 'loss': round(loss, 5)}
        for name, value in result.items():
            entry |= {f'{name}_reached': value.reached, f'{name}_body_error_m': round(value.original_error, 4)}
        self.curve.append(entry)
        print(json.dumps(entry), file=sys.stderr, flush=True)
        score = result['training'].reached + 0.1 * result['clean'].reached
        if score >= self.best:
            self.best = score
            torch.save(student.state_dict(), self.out / BEST)
            self._export(student, entry)
        (self.out / 'curve.json').write_text(json.dumps(self.curve, indent=1) + '\n')
        torch.save(
            {
                'student': student.state_dict(), 'curve': json.dumps(self.curve), 'best': self.best,
                'iteration': iteration,
            },
            self.out / 'student.pt',
        )  # fmt: skip

    def _export(self, student: MLPModel, provenance: dict) -> None:
        export_model(
            student, self.out / f'{self.skill.name}.onnx', skill=self.skill.name, mode='nep',
            layout=make_layout('nep'), object_roles=(), activation=self.config.ppo.activation,
            provenance={'teacher': self.source.name, 'seed': self.config.seed, **provenance},
        )  # fmt: skip
