"""PPO of rsl-rl with what the paper adds: behaviour cloning on a teacher's mean actions (eq. 4) and a motion prior.

L = L_PPO + bc_coef * mean ||mu_student(o) - mu_teacher(s)||^2. Beyond that: a learning rate of the critic's own, since
the rule that holds the KL divergence would starve it; normalisers that stand still during a rollout, so that stored
log-probabilities are those of the policy that acted; and a stop on the first non-finite loss.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from rsl_rl.algorithms import PPO
from rsl_rl.models import MLPModel
from rsl_rl.storage import RolloutStorage
from tensordict import TensorDict
from torch import nn

from humanx_training.xmimic.config import PpoConfig

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class NonFiniteError(RuntimeError):
    """A loss, reward or observation was not finite; ``where`` says which."""

    def __init__(self, where: str) -> None:
        """Name the quantity."""
        super().__init__(f'{where} is not finite')
        self.where = where


@dataclass
class Distributed:
    """This process among all (torchrun); a world of one does nothing."""

    rank: int = 0
    world: int = 1

    def mapping(self) -> dict[str, int] | None:
        """Return rsl-rl's configuration, None for a single process."""
        return None if self.world == 1 else {'global_rank': self.rank, 'world_size': self.world}


def make_model(obs: TensorDict, group: str, outputs: int, config: PpoConfig, *, actor: bool) -> MLPModel:
    """Return an rsl-rl network on one observation group, Gaussian when it acts."""
    distribution = None
    if actor:
        distribution = {
            'class_name': 'rsl_rl.modules.distribution.GaussianDistribution', 'init_std': config.init_std,
            'std_type': 'log', 'learn_std': not config.fixed_std,
        }
    model = MLPModel(
        obs, {'set': [group]}, 'set', outputs, hidden_dims=config.hidden, activation=config.activation,
        obs_normalization=True, distribution_cfg=distribution,
    )
    if actor:
        # Small first actions: a residual policy begins as the reference itself.
        with torch.no_grad():
            model.mlp[-1].weight.mul_(0.1)
            model.mlp[-1].bias.zero_()
    return model


class XMimicPPO(PPO):
    """See the module. ``bc_coef`` above 0 needs a ``teacher_action`` entry in the observations."""

    learning_rate: float

    def __init__(
        self, actor: MLPModel, critic: MLPModel, storage: RolloutStorage, config: PpoConfig, *,
        bc_coef: float = 0.0, distributed: Distributed | None = None, device: str = 'cpu',
    ) -> None:
        """Give actor and critic optimiser groups of their own."""
        distributed = distributed or Distributed()
        super().__init__(
            actor, critic, storage, num_learning_epochs=config.epochs, num_mini_batches=config.mini_batches,
            clip_param=config.clip, gamma=config.gamma, lam=config.lam, value_loss_coef=config.value_coef,
            entropy_coef=config.entropy, learning_rate=config.learning_rate, max_grad_norm=config.max_grad_norm,
            desired_kl=config.desired_kl, device=device, multi_gpu_cfg=distributed.mapping(),
        )
        self.config, self.bc_coef = config, bc_coef
        self.distributed = distributed
        self.iteration = 0
        self._return_variance = 1.0
        self._inputs: dict[str, torch.Tensor] = {}
        self.optimizer = torch.optim.Adam([
            {'params': [p for p in actor.parameters() if p.requires_grad], 'lr': config.learning_rate},
            {'params': list(critic.parameters()), 'lr': config.critic_learning_rate},
        ], fused=True)  # fmt: skip

    def act(self, obs: TensorDict) -> torch.Tensor:
        """Sample actions and keep what the update needs; the networks share their normalised observations."""
        seen, actor, t = self.normalised(obs), self._raw_actor, self.transition
        assert actor.distribution is not None
        actor.distribution.update(actor.mlp(seen['actor']))
        t.actions = actor.distribution.sample().detach()
        t.values = self._raw_critic.mlp(seen['critic']).detach()
        t.actions_log_prob = actor.get_output_log_prob(t.actions).detach()
        t.distribution_params = tuple(p.detach() for p in actor.output_distribution_params)
        t.hidden_states, t.observations = (None, None), obs
        return t.actions

    def process_env_step(
        self, obs: TensorDict, rewards: torch.Tensor, dones: torch.Tensor, extras: dict[str, torch.Tensor]
    ) -> None:
        """Store a transition; time-outs are bootstrapped with the critic's value."""
        if not bool(torch.isfinite(rewards).all()):
            raise NonFiniteError('the reward')
        self.transition.rewards = rewards + self.gamma * self.transition.values.squeeze(1) * extras['time_outs']
        self.transition.dones = dones
        self.storage.add_transition(self.transition)
        self.transition.clear()

    def update_normalizers(self) -> None:
        """Learn observation statistics from the rollout, after the update that used the old ones."""
        # Every fourth sample: neighbours in time say the same, and the statistics cost a tenth of the update.
        flat = self.storage.observations.flatten(0, 1)[::4]
        self._raw_actor.train()
        self._raw_critic.train()
        if self._alike() and self._raw_actor.obs_normalizer.until == self._raw_critic.obs_normalizer.until:
            self._raw_actor.update_normalization(flat)
            self._raw_critic.obs_normalizer.load_state_dict(self._raw_actor.obs_normalizer.state_dict())
        else:
            for model in (self._raw_actor, self._raw_critic):
                model.update_normalization(flat)
        if self.distributed.world > 1:
            # Everybody goes on with the mean of the statistics.
            for model in (self._raw_actor, self._raw_critic):
                for buffer in model.obs_normalizer.buffers():
                    if buffer.dtype.is_floating_point:
                        torch.distributed.all_reduce(buffer)
                        buffer /= self.distributed.world

    def losses(self, batch: RolloutStorage.Batch) -> dict[str, torch.Tensor]:
        """Return surrogate, value, entropy, KL divergence and behaviour-cloning loss of a mini-batch.

        Its observations are what the networks see behind their normalisers, ``actor`` and ``critic``.
        """
        actor = self._raw_actor
        assert actor.distribution is not None
        mean = actor.mlp(batch.observations['actor'])
        actor.distribution.update(mean)
        std = actor.output_std[0]  # one for all states
        values = self._raw_critic.mlp(batch.observations['critic'])
        advantages = batch.advantages.squeeze(-1)
        ratio = torch.exp(gaussian_log_prob(batch.actions, mean, std) - batch.old_actions_log_prob.squeeze(-1))
        clipped = ratio.clamp(1.0 - self.clip_param, 1.0 + self.clip_param)
        # In units of the returns' spread and unclipped: clipping the change of a value to 0.2 as for the ratio would
        # hold back a critic whose returns are of the size of 10.
        value = (values - batch.returns).square().mean() / self._return_variance
        old_mean, old_std = batch.old_distribution_params
        out = {
            'surrogate': -torch.min(advantages * ratio, advantages * clipped).mean(),
            'value': value,
            'entropy': (std.log() + 0.5 + _HALF_LOG_2PI).sum(),
            'kl': gaussian_kl(old_mean, old_std[0], mean.detach(), std.detach()).mean(),
        }
        if self.bc_coef > 0:
            out['bc'] = bc_loss(mean, batch.observations['teacher_action'])
        return out

    def _alike(self) -> bool:
        """Whether both networks see the same groups with equal statistics, as a teacher's do."""
        actor, critic = self._raw_actor, self._raw_critic
        return actor.obs_groups == critic.obs_groups and all(
            torch.equal(a, b)
            for a, b in zip(actor.obs_normalizer.buffers(), critic.obs_normalizer.buffers(), strict=True)
        )

    def normalised(self, observations: TensorDict) -> dict[str, torch.Tensor]:
        """Return what the networks see behind their normalisers: ``actor`` and ``critic`` (M, ...), one where alike."""
        actor = self._raw_actor.get_latent(observations)
        return {'actor': actor, 'critic': actor if self._alike() else self._raw_critic.get_latent(observations)}

    def _shuffled_inputs(self, order: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return ``actor``, ``critic`` and perhaps ``teacher_action`` of the rollout's samples ``order`` (M,).

        Normalised once for all epochs (the statistics stand still during an update), in buffers that stay.
        """

        def gather(name: str, group: str) -> torch.Tensor:
            source = self.storage.observations[group].flatten(0, 1)
            if name not in self._inputs:
                self._inputs[name] = torch.empty(len(order), source.shape[1], device=source.device)
            return torch.index_select(source, 0, order, out=self._inputs[name])

        def latent(name: str, model: MLPModel) -> torch.Tensor:
            (group,), normaliser = model.obs_groups, model.obs_normalizer
            return gather(name, group).sub_(normaliser._mean).div_(normaliser._std + normaliser.eps)

        out = {'actor': latent('actor', self._raw_actor)}
        out['critic'] = out['actor'] if self._alike() else latent('critic', self._raw_critic)
        if self.bc_coef > 0:
            out['teacher_action'] = gather('teacher_action', 'teacher_action')
        return out

    def update(self) -> dict[str, float]:
        """Run all epochs over the stored rollout; return mean losses."""
        sums: dict[str, float] = {}
        count = 0
        warming = self.iteration < self.config.critic_warmup
        self._return_variance = float(self.storage.returns.var()) + 1e-6
        samples = self.storage.num_envs * self.storage.num_transitions_per_env
        order = torch.randperm(samples - samples % self.num_mini_batches, device=self.storage.device)
        inputs = self._shuffled_inputs(order)
        for batch in shuffled_batches(self.storage, order, inputs, self.num_mini_batches, self.num_learning_epochs):
            losses = self.losses(batch)
            self._adapt_learning_rate(losses['kl'].detach())
            policy = losses['surrogate'] - self.entropy_coef * losses['entropy']
            if 'bc' in losses:
                policy = policy + self.bc_coef * losses['bc']
            loss = self.value_loss_coef * losses['value'] + (0.0 * policy if warming else policy)
            if not bool(torch.isfinite(loss)):
                raise NonFiniteError(next(k for k, v in losses.items() if not bool(torch.isfinite(v))))
            self.optimizer.zero_grad()
            loss.backward()
            if self.is_multi_gpu:
                self.reduce_parameters()
            nn.utils.clip_grad_norm_(self.actor.parameters(), self.max_grad_norm)
            nn.utils.clip_grad_norm_(self.critic.parameters(), self.max_grad_norm)
            self.optimizer.step()
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value.item()
            count += 1
        self.update_normalizers()
        self.storage.clear()
        self.iteration += 1
        return {f'loss/{name}': value / count for name, value in sums.items()}

    def _adapt_learning_rate(self, kl: torch.Tensor) -> None:
        """Hold the KL divergence of an update near its wanted value through the actor's learning rate alone."""
        if self.distributed.world > 1:
            torch.distributed.all_reduce(kl)
            kl = kl / self.distributed.world
        if kl > 2.0 * self.desired_kl:
            self.learning_rate = max(self.config.min_learning_rate, self.learning_rate / 1.5)
        elif 0.0 < kl < 0.5 * self.desired_kl:
            self.learning_rate = min(self.config.max_learning_rate, self.learning_rate * 1.5)
        self.optimizer.param_groups[0]['lr'] = self.learning_rate

    def state(self) -> dict[str, Any]:
        """Return everything an exact continuation needs."""
        return {**self.save(), 'learning_rate': self.learning_rate, 'iteration': self.iteration}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state`."""
        self.load(state, None, strict=True)
        self.learning_rate, self.iteration = state['learning_rate'], state['iteration']


def shuffled_batches(
    storage: RolloutStorage, order: torch.Tensor, inputs: dict[str, torch.Tensor], batches: int, epochs: int
) -> Iterator[RolloutStorage.Batch]:
    """Yield ``epochs`` passes over the rollout's samples ``order`` (M,) in the same mini-batches, as rsl-rl does.

    ``inputs`` (M, ...), already in that order, stand for the stored observations. Gathered once and then sliced:
    gathering for every mini-batch anew took a sixth of an update.
    """
    size = len(order) // batches

    def gather(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.flatten(0, 1).index_select(0, order)

    fields = {
        'actions': gather(storage.actions), 'values': gather(storage.values), 'advantages': gather(storage.advantages),
        'returns': gather(storage.returns), 'old_actions_log_prob': gather(storage.actions_log_prob),
    }  # fmt: skip
    assert storage.distribution_params is not None
    parameters = tuple(gather(p) for p in storage.distribution_params)
    for _ in range(epochs):
        for first in range(0, size * batches, size):
            part = slice(first, first + size)
            yield RolloutStorage.Batch(
                observations=TensorDict({k: v[part] for k, v in inputs.items()}, batch_size=[size]),
                old_distribution_params=tuple(p[part] for p in parameters),
                **{k: v[part] for k, v in fields.items()},
            )


def gaussian_log_prob(actions: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """Return log-probabilities (M,) of actions (M, A) under means (M, A) and one spread (A,) for all."""
    return -0.5 * ((actions - mean) / std).square().sum(-1) - (std.log() + _HALF_LOG_2PI).sum()


def gaussian_kl(
    old_mean: torch.Tensor, old_std: torch.Tensor, mean: torch.Tensor, std: torch.Tensor
) -> torch.Tensor:
    """Return KL(old || new) (M,) of means (M, A) and spreads (A,)."""
    constant = (torch.log(std / old_std) + 0.5 * (old_std / std).square() - 0.5).sum()
    return constant + 0.5 * ((old_mean - mean) / std).square().sum(-1)


def bc_loss(mean: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Return the mean over samples of the squared distance of mean actions, eq. 4: (M, 29) twice to a scalar.

    Where the teacher is NaN it has no answer, and the sample counts for nothing.
    """
    known = torch.isfinite(teacher).all(-1)
    distance = (mean - torch.where(known[:, None], teacher, 0.0)).square().sum(-1)
    return (distance * known).sum() / known.sum().clamp(min=1)
