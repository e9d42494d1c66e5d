"""DAgger: a student imitates a teacher in the states that the student itself reaches (Ross et al., 2011).

The student acts (early on the teacher does in part of the environments, and noise widens what is seen), the teacher
labels, the student regresses on everything seen so far. Straight on deployable observations, noise and frame loss
included; the teacher labels the true state.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from rsl_rl.models import MLPModel

from humanx_training.xmimic.config import DaggerConfig, PpoConfig
from humanx_training.xmimic.env import HumanXEnv
from humanx_training.xmimic.ppo import NonFiniteError, make_model
from humanx_training.xmimic.teachers import Teacher
from humanx_training.xmimic.trainer import one_torch_thread


class LabelBuffer:
    """A ring of observations and labels in half the memory: float16 holds what a sensor can tell."""

    def __init__(self, capacity: int, obs_size: int, actions: int, device: torch.device) -> None:
        """Hold ``capacity`` pairs."""
        self.obs = torch.zeros(capacity, obs_size, dtype=torch.float16, device=device)
        self.label = torch.zeros(capacity, actions, device=device)
        self.count = 0
        self._next = 0

    def add(self, obs: torch.Tensor, label: torch.Tensor) -> None:
        """Add pairs (M, O), (M, A), overwriting the oldest."""
        at = (self._next + torch.arange(len(obs), device=obs.device)) % len(self.obs)
        self.obs[at] = obs.clamp(-6e4, 6e4).half()
        self.label[at] = label
        self._next = int((self._next + len(obs)) % len(self.obs))
        self.count = min(self.count + len(obs), len(self.obs))

    def sample(self, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a random batch."""
        at = torch.randint(self.count, (size,), device=self.obs.device)
        return self.obs[at].float(), self.label[at]


@dataclass
class DaggerResult:
    """The student and the loss of each iteration (mean squared action error)."""

    student: MLPModel
    losses: list[float]


def distil(
    env: HumanXEnv, teacher: Teacher, config: DaggerConfig, network: PpoConfig, *,
    student: MLPModel | None = None, on_iteration: Callable[[int, MLPModel, float], None] | None = None,
    quiet: bool = False,
) -> DaggerResult:
    """Train ``student`` (a new one by default) on ``env``'s policy observations; the environment's mode decides which.

    ``on_iteration(iteration, student, loss)`` is called after each one, for evaluation and checkpoints.
    """
    env.acts_residual = False
    obs = env.observe()
    student = student or make_model(obs, 'policy', env.num_actions, network, actor=True).to(env.device)
    optimizer = torch.optim.Adam(student.mlp.parameters(), lr=config.learning_rate)
    buffer = LabelBuffer(config.capacity, obs['policy'].shape[1], env.num_actions, env.device)
    losses: list[float] = []
    started = time.monotonic()
    for iteration in range(config.iterations):
        share = max(0.0, 1.0 - iteration / max(config.mix_iterations, 1)) if config.mix_iterations else 0.0
        with one_torch_thread():
            obs = _collect(env, teacher, student, buffer, obs, config, share)
        if iteration < 10:
            # Statistics of the whole buffer; fixed once the student's own states dominate it.
            student.train()
            student.obs_normalizer.until = None
            sample, _ = buffer.sample(min(buffer.count, 20_000))
            student.obs_normalizer._mean.copy_(sample.mean(0, keepdim=True))
            student.obs_normalizer._var.copy_(sample.var(0, keepdim=True))
            student.obs_normalizer._std.copy_(sample.std(0, keepdim=True))
            student.obs_normalizer.count.fill_(len(sample))
        for group in optimizer.param_groups:
            group['lr'] = config.learning_rate * max(0.05, 1.0 - iteration / config.iterations)
        total = 0.0
        for _ in range(config.updates):
            x, y = buffer.sample(config.batch)
            loss = (student.mlp(student.obs_normalizer(x)) - y).square().mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(student.mlp.parameters(), network.max_grad_norm)
            optimizer.step()
            total += loss.item()
        mean = total / max(config.updates, 1)
        if not mean < float('inf'):
            raise NonFiniteError('the imitation loss')
        losses.append(mean)
        if not quiet:
            done = iteration + 1
            left = (time.monotonic() - started) / done * (config.iterations - done)
            print(f'dagger {done:4d}/{config.iterations}  loss {mean:.4f}  teacher share {share:.2f}  '
                  f'left {left:4.0f} s', file=sys.stderr, flush=True)  # fmt: skip
        if on_iteration is not None:
            on_iteration(iteration, student, mean)
    return DaggerResult(student, losses)


@torch.no_grad()
def _collect(env, teacher, student, buffer, obs, config, share):
    n, device = env.num_envs, env.device
    teacher_acts = torch.rand(n, 1, device=device) < share
    noisy = torch.rand(n, 1, device=device) < 0.5
    limit = env.cfg.action_limit
    for _ in range(config.steps):
        label = teacher.label(env)
        if not bool(torch.isfinite(label).all()):
            raise NonFiniteError("the teacher's action")
        buffer.add(obs['policy'], label)
        action = torch.where(teacher_acts, label, student(obs).clamp(-limit, limit))
        action = action + config.action_noise * noisy * torch.randn_like(action)
        obs, _, _, _ = env.step(action)
    return obs
