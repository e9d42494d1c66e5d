"""How well a policy tracks its clips: random-phase rollouts with deterministic actions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from tensordict import TensorDict

from humanx_training.xmimic.env import HumanXEnv

Act = Callable[[TensorDict], torch.Tensor]


@dataclass(frozen=True)
class Tracking:
    """Share of rollouts that reached their clip's end, time survived, errors to the reference (m), and of the body to
    the clip as it was before it was made feasible (NaN where that is not given)."""

    reached: float
    survival_s: float
    body_error: float
    object_error: float
    original_error: float = float('nan')

    def log(self, prefix: str) -> dict[str, float]:
        """Return the values by name."""
        return {f'{prefix}/{name}': value for name, value in vars(self).items()}


@torch.no_grad()
def track(
    env: HumanXEnv, act: Act, *, min_frames: int = 60, original: torch.Tensor | None = None
) -> Tracking:
    """Roll every environment of ``env`` from an evenly spread phase to its clip's end or to its failure.

    Phases are spread over all clips, at least ``min_frames`` before an end. The interaction terminations count as
    failures as they are set. ``original`` (F, 12, 3): the key bodies of the original clips, frame by frame.
    """
    clips, n = env.clips, env.num_envs
    usable = torch.cat([
        torch.arange(int(s), int(s + max(length - min_frames, 1)), device=env.device)
        for s, length in zip(clips.starts, clips.lengths)
    ])  # fmt: skip
    frames = usable[torch.linspace(0, len(usable) - 1, n, device=env.device).long()]
    env.reset(torch.arange(n, device=env.device), frames)
    obs = env.observe()
    alive = torch.ones(n, dtype=torch.bool, device=env.device)
    reached = torch.zeros_like(alive)
    steps = torch.zeros(n, device=env.device)
    body = torch.zeros(2, device=env.device)
    objects = torch.zeros(2, device=env.device)
    first = torch.zeros(2, device=env.device)
    for _ in range(int(clips.lengths.max())):
        obs, _, done, extras = env.step(act(obs))
        going = alive & ~reached
        ended = done.bool() & going
        reached |= ended & ~extras['failed']
        alive &= ~(ended & extras['failed'])
        going &= ~done.bool()
        steps += going
        if going.any():
            s = env.snapshot()
            error = (s.body_pos[:, env.key] - s.ref_body_pos[:, env.key]).norm(dim=-1).mean(-1)
            body += torch.stack([error[going].sum(), going.sum()])
            if original is not None:
                error = (s.body_pos[:, env.key] - original[env.frame]).norm(dim=-1).mean(-1)
                first += torch.stack([error[going].sum(), going.sum()])
            if clips.has_object:
                gap = (s.object_pos - s.ref_object_pos).norm(dim=-1)
                objects += torch.stack([gap[going].sum(), going.sum()])
        if not (alive & ~reached).any():
            break
    mean = (lambda pair: float(pair[0] / pair[1].clamp(min=1)))  # noqa: E731
    return Tracking(
        float(reached.float().mean()), float(steps.mean()) * env.dt, mean(body),
        mean(objects) if clips.has_object else float('nan'),
        float('nan') if original is None else mean(first),
    )
