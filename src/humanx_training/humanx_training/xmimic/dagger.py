"""DAgger: a student imitates a teacher in the states that the student itself reaches (Ross et al., 2011).

The student acts (early on the teacher does in part of the environments, and noise widens what is seen), the teacher
labels, the student regresses on everything seen so far. Straight on deployable observations, noise and frame loss
included; the teacher labels the true state.
"""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from rsl_rl.models import MLPModel

from humanx_training.xmimic.config import DaggerConfig, PpoConfig
from humanx_training.xmimic.env import HumanXEnv
from humanx_training.xmimic.imitation import JOINT_WEIGHT, LabelBuffer
from humanx_training.xmimic.ppo import NonFiniteError, make_model
from humanx_training.xmimic.precision import products
from humanx_training.xmimic.teachers import Teacher
from humanx_training.xmimic.trainer import one_torch_thread


@dataclass
class DaggerResult:
    """The student and the loss of each iteration (mean squared action error)."""

    student: MLPModel
    losses: list[float]


def distil(
    env: HumanXEnv, teacher: Teacher, config: DaggerConfig, network: PpoConfig, *,
    student: MLPModel | None = None, first: int = 0,
    on_iteration: Callable[[int, MLPModel, float], None] | None = None, quiet: bool = False,
) -> DaggerResult:
    """Train ``student`` (a new one by default) on ``env``'s policy observations; the environment's mode decides which.

    ``on_iteration(iteration, student, loss)`` is called after each one, for evaluation and checkpoints. ``first`` is
    the iteration to go on with: ``student`` was trained up to it, and fills an empty memory again.
    """
    env.acts_residual = False
    obs = env.observe()
    student = student or make_model(obs, 'policy', env.num_actions, network, actor=True).to(env.device)
    acting = copy.deepcopy(student)
    learner = _Learner(student, config, network, obs['policy'].shape[1], env)
    draws = torch.Generator(env.device).manual_seed(torch.initial_seed() + 1)
    losses: list[float] = []
    started = time.monotonic()
    pairs: list[tuple[torch.Tensor, torch.Tensor]] = []
    for iteration in range(first, config.iterations):
        share = max(0.0, 1.0 - iteration / max(config.mix_iterations, 1)) if config.mix_iterations else 0.0
        acting.load_state_dict(student.state_dict())
        with one_torch_thread(), ThreadPoolExecutor(1) as pool:
            # One core collects with the student of the last iteration, the other learns from what was seen before.
            learning = pool.submit(learner.learn, iteration) if iteration > first else None
            obs, pairs = _collect(env, teacher, acting, obs, config, share, draws)
            mean = learning.result() if learning else float('nan')
        for seen, label in pairs:
            learner.buffer.add(seen, label)
        if iteration < 10:
            learner.fit_normaliser()
        if iteration == first or iteration + 1 == config.iterations:
            with one_torch_thread():
                mean = learner.learn(iteration)
        if not mean < float('inf'):
            raise NonFiniteError('the imitation loss')
        losses.append(mean)
        if not quiet:
            done = iteration + 1
            left = (time.monotonic() - started) / (done - first) * (config.iterations - done)
            print(f'dagger {done:4d}/{config.iterations}  loss {mean:.4f}  teacher share {share:.2f}  '
                  f'left {left:4.0f} s', file=sys.stderr, flush=True)  # fmt: skip
        if on_iteration is not None:
            on_iteration(iteration, student, mean)
    return DaggerResult(student, losses)


class _Learner:
    """The student's optimiser and what it has been shown."""

    def __init__(self, student: MLPModel, config: DaggerConfig, network: PpoConfig, obs_size: int, env: HumanXEnv):
        self.student, self.config, self.clip = student, config, network.max_grad_norm
        self.optimizer = torch.optim.Adam(student.mlp.parameters(), lr=config.learning_rate)
        self.buffer = LabelBuffer(config.capacity, obs_size, env.num_actions, env.device)
        self.draws = torch.Generator(env.device).manual_seed(torch.initial_seed() + 2)
        self.weight = torch.as_tensor(JOINT_WEIGHT, device=env.device)

    def fit_normaliser(self) -> None:
        """Take statistics of the whole buffer; fixed once the student's own states dominate it."""
        normaliser = self.student.obs_normalizer
        self.student.train()
        normaliser.until = None
        sample, _ = self.buffer.sample(min(self.buffer.count, 20_000), self.draws)
        normaliser._mean.copy_(sample.mean(0, keepdim=True))
        normaliser._var.copy_(sample.var(0, keepdim=True))
        normaliser._std.copy_(sample.std(0, keepdim=True))
        normaliser.count.fill_(len(sample))

    def learn(self, iteration: int) -> float:
        """Take the gradient steps of one iteration; return the mean loss."""
        config, student = self.config, self.student
        for group in self.optimizer.param_groups:
            group['lr'] = config.learning_rate * config.final_rate ** (iteration / config.iterations)
        total = 0.0
        for _ in range(config.updates):
            x, y = self.buffer.sample(config.batch, self.draws)
            with products(iteration / config.iterations, x.device.type):
                guess = student.mlp(student.obs_normalizer(x))
            guess = guess.float()
            if config.weigh_legs:
                loss = (torch.nn.functional.smooth_l1_loss(guess, y, reduction='none') * self.weight).mean()
            else:
                loss = (guess - y).square().mean()
            self.optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(student.mlp.parameters(), self.clip)
            self.optimizer.step()
            total += loss.item()
        return total / max(config.updates, 1)


@torch.no_grad()
def _collect(env, teacher, student, obs, config, share, draws):
    """Return the next observation and the pairs of one iteration; states that the teacher gives up on are left out."""
    n, device = env.num_envs, env.device
    teacher_acts = torch.rand(n, 1, device=device, generator=draws) < share
    noisy = torch.rand(n, 1, device=device, generator=draws) < 0.5
    limit = env.cfg.action_limit
    pairs = []
    for _ in range(config.steps):
        label = teacher.label(env)
        if not bool(torch.isfinite(label).all()):
            raise NonFiniteError("the teacher's action")
        held = getattr(teacher, 'strayed', None)
        seen = obs['policy']
        pairs.append((seen.clone(), label) if held is None else (seen[~held], label[~held]))
        action = torch.where(teacher_acts, label, student(obs).clamp(-limit, limit))
        action = action + config.action_noise * noisy * torch.randn(action.shape, device=device, generator=draws)
        obs, _, _, _ = env.step(action)
    return obs, pairs
