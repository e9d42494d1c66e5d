"""Distil a model-based teacher into one network on deployable observations (DAgger).

The student acts, the teacher labels the true states that the student reaches, the student regresses on everything seen
lately. The randomisation of :class:`.mpc.kick_env.KickRanges` is there from the first sample. Progress is judged on the
student's own trials among the training environments: noise, pushes and lost frames included.
"""

from __future__ import annotations

import copy
import json
import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from humanx_description.errors import UserError
from humanx_policy.export import Mlp, write_policy
from humanx_policy.metadata import PolicyMetadata
from humanx_policy.observation import ObservationLayout
from humanx_training.xmimic import failure
from humanx_training.xmimic.imitation import JOINT_WEIGHT, LabelBuffer
from humanx_training.xmimic.precision import products

_LOG = logging.getLogger(__name__)
CHECKPOINT_FORMAT = 2
OBS_CLIP = 8.0  # standard deviations


class LabelledEnv(Protocol):
    """What distillation needs of an environment; see :class:`.mpc.kick_env.KickEnv`."""

    n: int
    layout: ObservationLayout
    finished: list

    def observation(self) -> np.ndarray:
        """Return (N, O) float32."""

    def label(self) -> np.ndarray:
        """Return the teacher's actions (N, 29)."""

    def step(self, action: np.ndarray) -> np.ndarray:
        """Act; return which episodes ended."""


@dataclass(frozen=True)
class DistillConfig:
    """Settings of a distillation. ``samples`` is the budget; the learning rate falls over it, so that the result does
    not depend on how fast or busy the machine is."""

    samples: int = 8_000_000
    hidden: tuple[int, ...] = (384, 256, 128)
    steps: int = 24  # control steps per iteration
    updates: int = 36  # gradient steps per iteration
    batch: int = 2048
    capacity: int = 1_500_000
    learning_rate: float = 1e-3
    final_rate: float = 0.02  # of the learning rate, at the end; it falls exponentially
    mix_iterations: int = 12  # over which the teacher's share of the actions falls to 0
    noisy_share: float = 0.5  # of the environments have noise on their actions
    action_noise: float = 0.1
    label_limit: float = 5.0  # labels are clipped to this many units of action
    seed: int = 1
    report_every: int = 20  # iterations


class Student(nn.Module):
    """A perceptron with its input normalisation, as the policy file holds it."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, obs_size: int, hidden: Sequence[int], actions: int = 29) -> None:
        """Make a network with ELU between linear layers and small first actions."""
        super().__init__()
        sizes = [obs_size, *hidden]
        layers: list[nn.Module] = []
        for a, b in pairwise(sizes):
            layers += [nn.Linear(a, b), nn.ELU()]
        self.net = nn.Sequential(*layers, nn.Linear(sizes[-1], actions))
        self.register_buffer('mean', torch.zeros(obs_size))
        self.register_buffer('std', torch.ones(obs_size))

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        """Return actions (N, 29) for observations (N, O)."""
        return self.net(((obs - self.mean) / self.std).clamp(-OBS_CLIP, OBS_CLIP))

    def fit_normaliser(self, obs: torch.Tensor) -> None:
        """Take mean and standard deviation from observations (M, O)."""
        self.mean.copy_(obs.mean(0))
        # Terms that hardly vary must not be blown up: their unit is the noise of a sensor.
        self.std.copy_(obs.std(0).clamp(min=0.02))

    def to_mlp(self) -> Mlp:
        """Return the weights as a policy file's perceptron."""
        linear = [m for m in self.net if isinstance(m, nn.Linear)]
        layers = [(m.weight.detach().numpy().copy(), m.bias.detach().numpy().copy()) for m in linear]
        return Mlp(layers, 'elu', self.mean.numpy().copy(), self.std.numpy().copy(), OBS_CLIP)


@dataclass
class Progress:
    """What has been spent and reached: one row of the curve per report."""

    iteration: int = 0
    samples: int = 0
    seconds: float = 0.0
    curve: list[dict[str, float]] = field(default_factory=list)


class Distillation:
    """One run: environments, student, memory, and the folder its checkpoints go to."""

    def __init__(self, env: LabelledEnv, config: DistillConfig, folder: Path, resume: bool = False) -> None:
        """Prepare a run in ``folder``; with ``resume`` go on from its checkpoint (the memory fills anew)."""
        self.env, self.config, self.folder = env, config, folder
        torch.manual_seed(config.seed)
        self.rng = np.random.default_rng(config.seed + 1)
        self.generator = torch.Generator().manual_seed(config.seed)
        self.student = Student(env.layout.size, config.hidden)
        self._weight = torch.from_numpy(JOINT_WEIGHT)
        self._behaviour = copy.deepcopy(self.student)
        self.optimiser = torch.optim.Adam(self.student.parameters(), lr=config.learning_rate)
        self.memory = LabelBuffer(config.capacity, env.layout.size, len(JOINT_WEIGHT))
        self.progress = Progress()
        self.noisy = np.arange(env.n) < config.noisy_share * env.n
        self._own: deque[Any] = deque(maxlen=600)  # outcomes of the student alone, without added noise
        self._loss = float('nan')
        checkpoint = folder / 'student.pt'
        if resume:
            self._load(checkpoint)
        elif checkpoint.exists():
            raise UserError(f'{folder}: holds a run already; give --resume to continue it or another --out.')
        folder.mkdir(parents=True, exist_ok=True)

    def run(self) -> Progress:
        """Train until the budget of samples is spent; return the progress."""
        budget, progress = self.config.samples, self.progress
        before, began, done = progress.seconds, time.monotonic(), progress.samples
        while progress.samples < budget:
            self.iterate(progress.samples / budget)
            spent = time.monotonic() - began
            progress.seconds = before + spent
            if progress.iteration % self.config.report_every == 0 or progress.samples >= budget:
                self.report(rate=(progress.samples - done) / spent)
        return progress

    def iterate(self, spent: float) -> float:
        """Collect and learn once; ``spent`` is the share of the budget gone. Returns the imitation loss.

        Both happen at the same time, one core each: the robots act with the student of the last iteration, the learner
        sees what was collected before this one. The result does not depend on which is faster.
        """
        config, progress = self.config, self.progress
        share = max(0.0, 1.0 - progress.iteration / max(config.mix_iterations, 1))
        if self.memory.count == 0:
            self._remember(self._collect(share))
        if progress.iteration <= config.mix_iterations:
            self.student.fit_normaliser(self.memory.obs[: self.memory.count][-50_000:].float())
        self._behaviour.load_state_dict(self.student.state_dict())
        rate = config.learning_rate * config.final_rate ** min(spent, 1.0)
        for group in self.optimiser.param_groups:
            group['lr'] = rate
        losses: list[float] = []
        learner = threading.Thread(target=self._learn, args=(losses, spent), daemon=True)
        learner.start()
        collected = self._collect(share)
        learner.join()
        if len(losses) < config.updates or not np.isfinite(losses).all():
            raise self._failure('the imitation loss', student=self.student.state_dict())
        self._remember(collected)
        self._loss = float(np.mean(losses))
        progress.iteration += 1
        return self._loss

    def _learn(self, losses: list[float], spent: float) -> None:
        config = self.config
        for _ in range(config.updates):
            obs, label = self.memory.sample(config.batch, self.generator)
            with products(spent):
                action = self.student(obs)
            loss = (nn.functional.smooth_l1_loss(action.float(), label, reduction='none') * self._weight).mean()
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self.student.parameters(), 1.0)
            self.optimiser.step()
            losses.append(loss.item())

    def _remember(self, collected: list[tuple[np.ndarray, np.ndarray]]) -> None:
        for obs, label in collected:
            self.memory.add(torch.from_numpy(obs), torch.from_numpy(label))
        self.progress.samples += self.env.n * len(collected)

    def _failure(self, where: str, **found: Any) -> UserError:
        """Keep the state that is not finite; return the sentence to stop with. The last checkpoint stays."""
        path = self.folder / failure.FILE
        sim = getattr(self.env, 'sim', None)
        physics = {} if sim is None else {'qpos': sim.qpos.clone(), 'qvel': sim.qvel.clone()}
        torch.save({'where': where, 'iteration': self.progress.iteration, **physics, **found}, path)
        return UserError(
            f'training stopped in iteration {self.progress.iteration}: {where} is not finite; '
            f'the state that caused it is in {path}.'
        )

    @torch.no_grad()
    def act(self, obs: np.ndarray) -> np.ndarray:
        """Return the acting student's actions (N, 29) for observations (N, O)."""
        return self._behaviour(torch.from_numpy(obs)).numpy()

    def _collect(self, share: float) -> list[tuple[np.ndarray, np.ndarray]]:
        collected = []
        env, config, rng = self.env, self.config, self.rng
        teacher = rng.random(env.n) < share
        for _ in range(config.steps):
            obs, label = env.observation(), env.label()
            for name, values in (('an observation', obs), ("the teacher's action", label)):
                if not np.isfinite(values).all():
                    raise self._failure(name, obs=torch.from_numpy(obs), label=torch.from_numpy(label))
            collected.append((obs.copy(), np.clip(label, -config.label_limit, config.label_limit)))
            action = np.where(teacher[:, None], label, self.act(obs)) if share < 1 else label
            action = action + config.action_noise * self.noisy[:, None] * rng.standard_normal(action.shape)
            done = np.flatnonzero(env.step(action))
            for index, outcome in zip(done, env.finished):
                if share == 0 and not self.noisy[index]:
                    self._own.append(outcome)
        return collected

    def report(self, rate: float = float('nan')) -> dict[str, float]:
        """Add a row to the curve and save a checkpoint; ``rate``: samples/s, for the time left.

        The last checkpoint counts: the learning rate has come to rest by then, while the best of a hundred estimates
        from 150 trials each is mostly the luckiest.
        """
        launched = [o for o in self._own if o.launched]
        waiting = [o for o in self._own if not o.launched]
        success = float(np.mean([o.success for o in launched])) if launched else 0.0
        stand = float(np.mean([o.upright for o in waiting])) if waiting else 0.0
        row = {
            'minutes': round(self.progress.seconds / 60, 2), 'samples': self.progress.samples,
            'loss': round(self._loss, 5), 'success': round(success, 3), 'upright': round(
                float(np.mean([o.upright for o in launched])) if launched else 0.0, 3),
            'touched': round(float(np.mean([o.touched for o in launched])) if launched else 0.0, 3),
            'stands': round(stand, 3), 'trials': len(launched),
        }  # fmt: skip
        self.progress.curve.append(row)
        left = (self.config.samples - self.progress.samples) / rate / 60 if rate > 0 else float('nan')
        _LOG.warning('%s %.0f samples/s, %.0f minutes left', json.dumps(row), rate, left)
        self._save(self.folder / 'student.pt')
        self._own.clear()
        return row

    def _save(self, path: Path) -> None:
        state = {
            'format': CHECKPOINT_FORMAT,
            'layout': self.env.layout.to_json(),
            'hidden': list(self.config.hidden),
            'student': self.student.state_dict(),
            'optimiser': self.optimiser.state_dict(),
            'progress': asdict(self.progress),
            'config': json.dumps(asdict(self.config)),
        }
        temporary = path.with_suffix('.tmp')
        torch.save(state, temporary)
        temporary.replace(path)

    def _load(self, path: Path) -> None:
        state = read_checkpoint(path)
        if state['layout'] != self.env.layout.to_json():
            raise UserError(f'{path}: has another observation layout; expected that of this run.')
        self.student.load_state_dict(state['student'])
        self._behaviour.load_state_dict(state['student'])
        self.optimiser.load_state_dict(state['optimiser'])
        self.progress = Progress(**state['progress'])


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return a checkpoint of a distillation. Raises :class:`UserError` for anything else."""
    try:
        state = torch.load(path, map_location='cpu', weights_only=True)
    except FileNotFoundError:
        raise UserError(f'{path}: does not exist; expected a checkpoint of a distillation.') from None
    except Exception as error:  # torch raises many kinds for foreign files
        raise UserError(f'{path}: cannot be read as a checkpoint ({type(error).__name__}).') from None
    if not isinstance(state, dict) or state.get('format') != CHECKPOINT_FORMAT or 'student' not in state:
        raise UserError(f'{path}: is not a checkpoint of a distillation of format {CHECKPOINT_FORMAT}.')
    return state


def export_student(
    checkpoint: Path, target: Path, *, skill: str, mode: str, object_roles: tuple[str, ...],
    provenance: dict[str, Any], measured: dict[str, Any] | None = None,
) -> str:
    """Write the policy file of a checkpoint and return its SHA-256."""
    state = read_checkpoint(checkpoint)
    layout = ObservationLayout.from_json(state['layout'])
    student = Student(layout.size, state['hidden'])
    student.load_state_dict(state['student'])
    progress = state['progress']
    provenance = {
        **provenance, 'method': 'DAgger from a model-based teacher', 'samples': progress['samples'],
        'minutes': round(progress['seconds'] / 60, 1), 'iterations': progress['iteration'],
        'seed': json.loads(state['config'])['seed'],
    }  # fmt: skip
    metadata = PolicyMetadata(
        skill, mode, layout, object_roles, provenance=provenance, measured=measured or {}  # type: ignore[arg-type]
    )
    return write_policy(target, student.to_mlp(), metadata)
