"""Losing the object from sight: motion capture in evaluation, and section FACTS.md's rule in training."""

from __future__ import annotations

import numpy as np
import torch


class BurstLoss:
    """Frames lost in bursts of a fixed length, so that a wanted fraction of all frames is lost.

    A burst begins on a seen frame with probability p; then ``burst`` frames are lost: the fraction is
    ``burst / (burst + 1/p)`` up to the frame in which a burst may directly follow another.
    """

    def __init__(self, fraction: float, burst: int, rng: np.random.Generator) -> None:
        """Prepare losing ``fraction`` of the frames in bursts of ``burst``."""
        self._start = fraction / (burst * (1.0 - fraction) + fraction) if fraction > 0 else 0.0
        self._burst, self._rng, self._left = burst, rng, 0

    def step(self) -> bool:
        """Return whether this frame is lost."""
        if self._left == 0 and self._start > 0 and self._rng.random() < self._start:
            self._left = self._burst
        if self._left > 0:
            self._left -= 1
            return True
        return False


class ProximityLoss:
    """Batched loss that grows when hands hide the object (FACTS.md, "Frame loss in MoCap").

    Far from the hands a loss begins with ``p_far`` and lasts 1 to ``far_frames``; within a distance that each episode
    draws from ``near`` (m) it begins with ``p_near`` and lasts 1 to ``near_frames``.
    """

    def __init__(
        self, num_envs: int, device: torch.device, generator: torch.Generator, *, p_far: float = 0.02,
        far_frames: int = 2, p_near: float = 0.2, near_frames: int = 10, near: tuple[float, float] = (0.05, 0.1),
    ) -> None:
        """Start with every object in sight."""
        self._p_far, self._far, self._near = p_far, far_frames, near
        self._p_near, self._near_frames = p_near, near_frames
        self._generator = generator
        self.left = torch.zeros(num_envs, dtype=torch.long, device=device)
        self._distance = torch.zeros(num_envs, device=device)
        self.reset(torch.ones(num_envs, dtype=torch.bool, device=device))

    def _rand(self) -> torch.Tensor:
        return torch.rand(len(self.left), generator=self._generator, device=self.left.device)

    def reset(self, mask: torch.Tensor) -> None:
        """Begin new episodes in the environments of ``mask`` (N,)."""
        low, high = self._near
        self._distance = torch.where(mask, low + (high - low) * self._rand(), self._distance)
        self.left = torch.where(mask, 0, self.left)

    def step(self, gap: torch.Tensor) -> torch.Tensor:
        """Return (N,) bool, True where the object is seen; ``gap`` (N,) m: from the hands to the object's surface."""
        near = gap < self._distance
        p = torch.where(near, self._p_near, self._p_far)
        longest = torch.where(near, self._near_frames, self._far)
        begins = (self.left == 0) & (self._rand() < p)
        length = 1 + (self._rand() * longest).long().clamp(max=longest - 1)
        left = torch.where(begins, length, self.left)
        self.left = (left - 1).clamp(min=0)
        return left == 0
