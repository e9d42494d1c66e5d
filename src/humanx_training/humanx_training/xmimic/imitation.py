"""What both kinds of imitation share: the memory of labelled observations, and how much each joint counts."""

from __future__ import annotations

import numpy as np
import torch

# A leg's error may cost the balance, a wrist's does not.
JOINT_WEIGHT = np.repeat(np.array([1.6, 1.2, 0.5], np.float32), [12, 3, 14])


class LabelBuffer:
    """A ring of observations and labels in half the memory: float16 holds what a sensor can tell."""

    def __init__(self, capacity: int, obs_size: int, actions: int, device: torch.device | str = 'cpu') -> None:
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

    def sample(self, size: int, generator: torch.Generator | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a random batch."""
        at = torch.randint(self.count, (size,), device=self.obs.device, generator=generator)
        return self.obs[at].float(), self.label[at]
