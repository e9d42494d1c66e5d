"""Where episodes begin: all phases of all clips, those before frequent failures more often."""

from __future__ import annotations

import torch


class PhaseSampler:
    """Draws start frames from bins of the concatenated clips, in proportion to ``1 + weight * share of failures``.

    Failures count for the bins before them (a stumble begins before the fall) and are forgotten at ``decay`` per update
    (adaptive sampling as in BeyondMimic).
    """

    def __init__(
        self, starts: torch.Tensor, lengths: torch.Tensor, *, weight: float, generator: torch.Generator,
        bin_frames: int = 25, lead_bins: int = 3, tail: int = 20, decay: float = 0.95, start_fraction: float = 0.0,
    ) -> None:
        """``starts`` and ``lengths`` (C,) of the clips in frames; no start is within ``tail`` frames of the end."""
        self._starts, self._lengths = starts, lengths
        self._weight, self._lead, self._decay, self._generator = weight, lead_bins, decay, generator
        self._start_fraction = start_fraction
        self._bin_frames = bin_frames
        firsts: list[int] = []
        clips: list[int] = []
        counts: list[int] = []
        self._bin_of_frame = torch.zeros(int((starts + lengths).max()), dtype=torch.long, device=starts.device)
        for clip, (start, length) in enumerate(zip(starts.tolist(), lengths.tolist())):
            usable = max(length - tail, 1)
            for first in range(0, usable, bin_frames):
                self._bin_of_frame[start + first : start + length] = len(firsts)
                firsts.append(start + first)
                clips.append(clip)
                counts.append(min(bin_frames, usable - first))
        device = starts.device
        self._first = torch.tensor(firsts, device=device)
        self._clip = torch.tensor(clips, device=device)
        self._count = torch.tensor(counts, device=device)
        self.failures = torch.zeros(len(firsts), device=device)

    def probabilities(self) -> torch.Tensor:
        """Return the probability of each bin."""
        spread = self.failures.clone()
        for lead in range(1, self._lead + 1):
            same = self._clip[lead:] == self._clip[:-lead]
            spread[:-lead] += self.failures[lead:] * same
        share = spread / spread.mean().clamp(min=1e-6) if bool(spread.any()) else spread
        weights = self._count * (1.0 + self._weight * share)
        return weights / weights.sum()

    def sample(self, count: int) -> torch.Tensor:
        """Return start frames (count,) in the concatenated clips."""
        device = self._first.device
        bins = torch.multinomial(self.probabilities(), count, replacement=True, generator=self._generator)
        offset = torch.rand(count, generator=self._generator, device=device) * self._count[bins]
        frames = self._first[bins] + offset.long()
        if self._start_fraction > 0:
            begin = torch.rand(count, generator=self._generator, device=device) < self._start_fraction
            frames = torch.where(begin, self._starts[self._clip[bins]], frames)
        return frames

    def record(self, frames: torch.Tensor) -> None:
        """Count failures at ``frames`` (M,)."""
        self.failures.index_add_(0, self._bin_of_frame[frames], torch.ones_like(frames, dtype=self.failures.dtype))

    def forget(self) -> None:
        """Let old failures fade; call once per training iteration."""
        self.failures *= self._decay
