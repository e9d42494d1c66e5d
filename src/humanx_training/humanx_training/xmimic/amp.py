"""The adversarial motion prior: a discriminator that tells the policy's motion from the clips' (Peng et al., 2021).

Least-squares GAN with a gradient penalty on the reference samples; the style reward is
``scale * max(0, 1 - (D - 1)^2 / 4)``, added to the task reward with fixed weights (FACTS.md).
"""

from __future__ import annotations

import torch
from rsl_rl.modules import MLP
from torch import nn

from humanx_training.xmimic.clip_set import ClipSet
from humanx_training.xmimic.config import AmpConfig
from humanx_training.xmimic.env import amp_features


def style_reward(logit: torch.Tensor, scale: float) -> torch.Tensor:
    """Return ``scale * max(0, 1 - (D - 1)^2 / 4)``, (N,)."""
    return scale * (1.0 - 0.25 * (logit - 1.0).square()).clamp(min=0.0)


class FrameStack:
    """The last H feature frames of every environment, filled with the first one after a reset."""

    def __init__(self, num_envs: int, history: int, size: int, device: torch.device) -> None:
        """Hold (N, H, A) floats."""
        self.frames = torch.zeros(num_envs, history, size, device=device)
        self._fresh = torch.ones(num_envs, dtype=torch.bool, device=device)

    def push(self, frame: torch.Tensor, done: torch.Tensor) -> torch.Tensor:
        """Add a frame (N, A) and return (N, H*A), newest last; ``done`` (N,): the next frame begins an episode."""
        self.frames = torch.cat([self.frames[:, 1:], frame[:, None]], 1)
        self.frames = torch.where(self._fresh[:, None, None], frame[:, None], self.frames)
        self._fresh = done.bool()
        return self.frames.flatten(1)


def reference_features(clips: ClipSet) -> torch.Tensor:
    """Return the features (F, A) of every frame of the clips."""
    keys = clips.body_pos[:, : len(clips.bodies)]
    return amp_features(clips.qpos, clips.qvel, keys[:, :12])


class MotionPrior(nn.Module):
    """Discriminator, its normaliser and its optimiser."""

    def __init__(self, clips: ClipSet, config: AmpConfig, generator: torch.Generator) -> None:
        """Take the reference motion from ``clips``."""
        super().__init__()
        self.config, self._clips, self._generator = config, clips, generator
        self._features = reference_features(clips)
        size = self._features.shape[1]
        self.network = MLP(size * config.history, 1, config.hidden, 'relu').to(clips.device)
        # The reference's own statistics: fixed, so that the reward does not drift with the policy.
        self.mean = self._features.mean(0)
        self.std = self._features.std(0).clamp(min=0.05)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=config.learning_rate, weight_decay=1e-5)

    def normalise(self, stacked: torch.Tensor) -> torch.Tensor:
        """Return (M, H*A) in units of the reference's spread."""
        m = len(stacked)
        frames = stacked.view(m, self.config.history, -1)
        return ((frames - self.mean) / self.std).clamp(-10.0, 10.0).flatten(1)

    def sample_reference(self, count: int) -> torch.Tensor:
        """Return stacks (count, H*A) of consecutive reference frames, held at the clips' beginnings."""
        c = self._clips
        last = torch.randint(len(self._features), (count,), generator=self._generator, device=c.device)
        lags = torch.arange(self.config.history - 1, -1, -1, device=c.device)
        index = torch.maximum(last[:, None] - lags, c.starts[c.clip_of_frame[last]][:, None])
        return self._features[index].flatten(1)

    @torch.no_grad()
    def reward(self, stacked: torch.Tensor) -> torch.Tensor:
        """Return the style reward (N,) of the policy's stacks (N, H*A)."""
        return style_reward(self.network(self.normalise(stacked)).squeeze(-1), self.config.scale)

    def loss(self, policy: torch.Tensor, reference: torch.Tensor) -> tuple[torch.Tensor, dict[str, float]]:
        """Return the discriminator's loss on stacks of both kinds, and what to log."""
        reference = self.normalise(reference).requires_grad_(True)
        real, fake = self.network(reference), self.network(self.normalise(policy))
        fit = 0.5 * ((real - 1.0).square().mean() + (fake + 1.0).square().mean())
        gradient, = torch.autograd.grad(real.sum(), reference, create_graph=True)
        penalty = gradient.square().sum(-1).mean()
        log = {'amp/loss': fit.item(), 'amp/real': real.mean().item(), 'amp/fake': fake.mean().item(),
               'amp/gradient': penalty.item()}  # fmt: skip
        return fit + self.config.gradient_penalty * penalty, log

    def update(self, policy: torch.Tensor) -> dict[str, float]:
        """Take one gradient step on policy stacks (M, H*A) and as many reference ones."""
        loss, log = self.loss(policy, self.sample_reference(len(policy)))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return log
