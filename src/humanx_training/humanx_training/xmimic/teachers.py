"""Who tells a student what to do: trained networks, and whatever else can label a state."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch
from tensordict import TensorDict

from humanx_training.xmimic import checkpoint
from humanx_training.xmimic.env import HumanXEnv
from humanx_training.xmimic.ppo import make_model


class Teacher(Protocol):
    """Labels the present states of an environment."""

    def label(self, env: HumanXEnv) -> torch.Tensor:
        """Return actions (N, 29) in the deployed policy's terms, ``(target - q_default) / scale``."""
        ...


class NetworkTeacher:
    """A PPO teacher's mean actions; several of them share the work by clip."""

    def __init__(self, paths: list[Path], env: HumanXEnv, clip_counts: list[int] | None = None) -> None:
        """Load one network per checkpoint; ``clip_counts``: how many of the clips, in order, belong to each."""
        counts = clip_counts or [env.clips.num_clips]
        self._networks = []
        size = env.get_observations()['privileged'].shape[1]
        for path in paths:
            state = checkpoint.load(path, 'teacher')
            checkpoint.check_sizes(state, path, layout='', privileged_size=size, kind='teacher')
            config = checkpoint.config_of(state, path)
            obs = TensorDict({'privileged': torch.zeros(1, size)}, batch_size=[1])
            model = make_model(obs, 'privileged', env.num_actions, config.ppo, actor=True)
            model.load_state_dict(state['algorithm']['actor_state_dict'])
            self._networks.append((model.to(env.device).eval(), config.env.residual))
        owner = torch.repeat_interleave(torch.arange(len(paths)), torch.tensor(counts))
        self._owner_of_clip = owner.to(env.device)

    @torch.no_grad()
    def label(self, env: HumanXEnv) -> torch.Tensor:
        """Return the teachers' mean actions, each for the environments that play its clips."""
        obs = env.get_observations()
        owner = self._owner_of_clip[env.clips.clip_of_frame[env.frame]]
        out = torch.zeros(env.num_envs, env.num_actions, device=env.device)
        reference = env.clips.qpos[env.clips.ahead(env.frame, 1)][:, 7:36]
        offset = (reference - env.default_joints) / env.action_scale
        limit = env.cfg.action_limit
        for index, (model, residual) in enumerate(self._networks):
            raw = model(obs).clamp(-limit, limit)
            action = raw + offset if residual else raw
            out = torch.where((owner == index)[:, None], action, out)
        return out
