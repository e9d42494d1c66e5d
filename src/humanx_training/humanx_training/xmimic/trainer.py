"""The training loop of teachers and students: rollout, update, log, evaluate, checkpoint.

A checkpoint is also a boundary: all environments begin anew from a seed that follows from the iteration, whether or not
the run was interrupted. So a resumed run repeats the uninterrupted one exactly.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from rsl_rl.storage import RolloutStorage
from tensordict import TensorDict

from humanx_description.errors import UserError
from humanx_training.xmimic import checkpoint
from humanx_training.xmimic.amp import FrameStack, MotionPrior
from humanx_training.xmimic.config import TrainConfig
from humanx_training.xmimic.env import HumanXEnv
from humanx_training.xmimic.failure import save_failure
from humanx_training.xmimic.ppo import Distributed, NonFiniteError, XMimicPPO, make_model
from humanx_training.xmimic.rollout_eval import Tracking, track
from humanx_training.xmimic.teachers import Teacher


def init_distributed() -> Distributed:
    """Join torchrun's group (gloo on CPUs, nccl with CUDA), or return a world of one."""
    world = int(os.environ.get('WORLD_SIZE', '1'))
    if world == 1:
        return Distributed()
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group('nccl' if torch.cuda.is_available() else 'gloo')
    return Distributed(torch.distributed.get_rank(), world)


@contextlib.contextmanager
def one_torch_thread() -> Iterator[None]:
    """Run small tensor operations on one thread: waking others costs more than they save."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class Trainer:
    """PPO of a teacher (``kind='teacher'``: privileged actor) or a student (deployable actor, privileged critic)."""

    def __init__(
        self,
        env: HumanXEnv,
        config: TrainConfig,
        out: Path,
        *,
        kind: str = 'teacher',
        skill: str = '',
        clip_names: list[str] | None = None,
        teacher: Teacher | None = None,
        eval_envs: dict[str, HumanXEnv] | None = None,
        distributed: Distributed | None = None,
        quiet: bool = False,
    ) -> None:
        """``teacher`` gives a student its behaviour-cloning labels; ``eval_envs`` by name, the first decides."""
        self.env, self.config, self.out, self.kind, self.skill = env, config, out, kind, skill
        self.teacher, self.eval_envs, self.quiet = teacher, eval_envs or {}, quiet
        self.clip_names = clip_names or []
        self.distributed = distributed or Distributed()
        if kind == 'student':
            env.acts_residual = False
            for e in self.eval_envs.values():
                e.acts_residual = False
        torch.manual_seed(config.seed)
        self.prior = MotionPrior(env.clips, config.amp, env.generator) if config.amp.enabled else None
        if self.prior is not None and 'amp' not in env.groups:
            env.groups = (*env.groups, 'amp')
        env.seed(self._seed(0))
        obs = self._observe(env.observe())
        group = 'privileged' if kind == 'teacher' else 'policy'
        self.group = group
        actor = make_model(obs, group, env.num_actions, config.ppo, actor=True)
        critic = make_model(obs, 'privileged', 1, config.ppo, actor=False)
        storage = RolloutStorage('rl', env.num_envs, config.ppo.steps, obs, [env.num_actions], str(env.device))
        self.ppo = XMimicPPO(
            actor, critic, storage, config.ppo, bc_coef=config.ppo.bc_coef if teacher is not None else 0.0,
            distributed=self.distributed, device=str(env.device),
        )
        self.broadcast()
        self.iteration = 0
        self.best = -1.0
        self.stale = 0
        self.history: list[dict[str, float]] = []
        self._writer: Any = None

    def _seed(self, iteration: int) -> int:
        return (self.config.seed * 1_000_003 + iteration * 1009 + self.distributed.rank) % 2**31

    def broadcast(self) -> None:
        """Give all processes the networks of the first."""
        if self.distributed.world > 1:
            for model in (self.ppo.actor, self.ppo.critic):
                for value in model.state_dict().values():
                    torch.distributed.broadcast(value, 0)

    def _observe(self, obs: TensorDict) -> TensorDict:
        if self.teacher is not None:
            obs = obs.clone(recurse=False)
            label = self.teacher.label(self.env)
            strayed = getattr(self.teacher, 'strayed', None)
            if strayed is not None:  # where a teacher gives up, there is nothing to imitate
                label = label.masked_fill(strayed[:, None], float('nan'))
            obs['teacher_action'] = label
        return obs

    def start_from(self, state: dict[str, Any], path: Path, *, critic_only: bool = False) -> None:
        """Take over a teacher's critic (a student's start), or all of the networks of the checkpoint at ``path``."""
        self._check_networks(state, path, ('critic',) if critic_only else ('actor', 'critic'))
        self.ppo.critic.load_state_dict(state['algorithm']['critic_state_dict'])
        if not critic_only:
            self.ppo.actor.load_state_dict(state['algorithm']['actor_state_dict'])

    def _check_networks(self, state: dict[str, Any], path: Path, names: tuple[str, ...]) -> None:
        for name in names:
            checkpoint.check_network(state, path, name, getattr(self.ppo, name))

    def act(self, obs: TensorDict) -> torch.Tensor:
        """Return the actor's mean actions."""
        return self.ppo.actor(obs)

    # The loop
    def run(self) -> list[dict[str, float]]:
        """Train to ``config.iterations``; return the log. Raises :class:`UserError` on a non-finite number."""
        c = self.config
        obs = self._boundary()
        if self.prior is not None:
            self._stack = FrameStack(self.env.num_envs, c.amp.history, self._amp_size(), self.env.device)
        if self.iteration == 0:
            self._warm_up()
            if self.eval_envs:
                # What the run begins with counts too: fine-tuning that makes a student worse is not kept.
                self._evaluate()
            obs = self._boundary()
        # The boundary's own: another look would draw other noise than the uninterrupted run, which takes one.
        obs = self._observe(obs)
        started, done_before = time.monotonic(), self.iteration
        while self.iteration < c.iterations:
            try:
                obs, log = self._iterate(obs)
            except NonFiniteError as error:
                raise save_failure(
                    self.out, self.env, error, f'in iteration {self.iteration}', iteration=self.iteration,
                    algorithm=self.ppo.state(),
                ) from error
            self.iteration += 1
            log |= self._speed(started, done_before)
            if self.eval_envs and self.iteration % c.evaluate_every == 0:
                log |= self._evaluate()
            self._report(log)
            stop = self._stops()
            if self.iteration % c.checkpoint_every == 0 or self.iteration == c.iterations or stop:
                self.save(self.out / 'last.pt')
                obs = self._observe(self._boundary())
            if stop:
                self._say(f'stopped: no better result in {c.patience} evaluations')
                break
        return self.history

    def _stops(self) -> bool:
        """Return whether nothing got better for long enough; the first process, which evaluates, decides for all."""
        c = self.config
        if not c.patience or self.iteration % c.evaluate_every:
            return False
        decision = torch.tensor([float(self.stale >= c.patience)], device=self.env.device)
        if self.distributed.world > 1:
            torch.distributed.broadcast(decision, 0)
        return bool(decision.item())

    def _boundary(self) -> TensorDict:
        """Begin everything random anew from a seed of this iteration."""
        seed = self._seed(self.iteration)
        torch.manual_seed(seed)
        self.env.iteration = self.iteration
        self.env.seed(seed)
        if self.prior is not None:
            self._stack = FrameStack(
                self.env.num_envs, self.config.amp.history, self._amp_size(), self.env.device
            )
        return self.env.observe()

    def _warm_up(self) -> None:
        """Learn the observations' statistics from one rollout before the first update.

        Otherwise the normalisers' first steps would move the policy further than its updates do. A network that comes
        with statistics (from DAgger, from a teacher) keeps them.
        """
        models = [m for m in (self.ppo.actor, self.ppo.critic) if int(m.obs_normalizer.count) == 0]
        for model in (self.ppo.actor, self.ppo.critic):
            if model not in models:
                model.obs_normalizer.until = int(model.obs_normalizer.count)
        if not models:
            return
        obs = self.env.observe()
        seen = []
        with torch.no_grad():
            for _ in range(self.config.ppo.steps):
                seen.append(obs.clone())
                obs, _, _, _ = self.env.step(self.ppo.actor(obs, stochastic_output=True))
        flat = torch.cat(seen)  # type: ignore[arg-type]  # it takes TensorDicts, its stub does not know
        for model in models:
            model.train()
            model.update_normalization(flat)
        self._boundary()

    def _amp_size(self) -> int:
        return self.prior._features.shape[1] if self.prior is not None else 0

    def _iterate(self, obs: TensorDict) -> tuple[TensorDict, dict[str, float]]:
        c, env = self.config, self.env
        env.iteration = self.iteration
        rewards, lengths, stacks = [], [], []
        logs: list[torch.Tensor] = []
        start = time.perf_counter()
        physics = getattr(env.sim, 'physics_seconds', 0.0)
        with torch.no_grad(), one_torch_thread():
            for _ in range(c.ppo.steps):
                actions = self.ppo.act(obs)
                if not bool(torch.isfinite(actions).all()):
                    raise NonFiniteError('the action')
                following, reward, done, extras = env.step(actions)
                if self.prior is not None:
                    stack = self._stack.push(extras['amp'], done)
                    style = self.prior.reward(stack)
                    reward = c.amp.style * style + c.amp.task * reward
                    stacks.append(stack)
                obs = self._observe(following)
                self.ppo.process_env_step(obs, reward, done, extras)
                rewards.append(reward.mean())
                lengths.append(extras['lengths'])
                logs.append(torch.stack(tuple(extras['log'].values())))
            self.ppo.compute_returns(obs)
        collected = time.perf_counter()
        if self.teacher is not None:
            self.ppo.bc_coef = c.ppo.cloning(self.iteration / max(c.iterations, 1))
        log = self.ppo.update()
        if self.prior is not None:
            flat = torch.cat(stacks)
            for _ in range(c.ppo.mini_batches):
                pick = torch.randint(len(flat), (min(2048, len(flat)),))
                log |= self.prior.update(flat[pick])
        env.sampler.forget()
        log |= dict(zip(extras['log'], torch.stack(logs).mean(0).tolist(), strict=True))
        ended = torch.cat(lengths).float()
        log |= {
            'train/reward': float(torch.stack(rewards).mean()),
            'train/episode_s': float(ended.mean()) * env.dt if len(ended) else float('nan'),
            'train/std': float(self.ppo.actor.output_std.detach().mean()),
            'train/learning_rate': self.ppo.learning_rate,
            'time/collect': collected - start,
            'time/learn': time.perf_counter() - collected,
            'time/physics': getattr(env.sim, 'physics_seconds', 0.0) - physics,
        }
        return obs, log

    def _evaluate(self) -> dict[str, float]:
        log: dict[str, float] = {}
        first: Tracking | None = None
        for name, env in self.eval_envs.items():
            env.seed(12345)
            with one_torch_thread():
                result = track(env, self.act)
            log |= result.log(f'eval_{name}')
            first = first or result
        assert first is not None
        score = first.reached + 1e-3 * first.survival_s
        if score > self.best:
            self.best, self.stale = score, 0
            self.save(self.out / 'best.pt')
        else:
            self.stale += 1
        return log

    def _speed(self, started: float, done_before: int) -> dict[str, float]:
        elapsed = time.monotonic() - started
        per_iteration = elapsed / max(self.iteration - done_before, 1)
        samples = self.env.num_envs * self.config.ppo.steps * self.distributed.world
        return {
            'time/samples_per_s': samples / per_iteration,
            'time/left_s': per_iteration * (self.config.iterations - self.iteration),
            'train/samples': float(samples * self.iteration),
        }

    def _report(self, log: dict[str, float]) -> None:
        self.history.append(log)
        if self.distributed.rank:
            return
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.out / 'tensorboard'))
        for name, value in log.items():
            self._writer.add_scalar(name, value, self.iteration)
        minutes, seconds = divmod(int(log['time/left_s']), 60)
        evaluation = ''.join(f'  {k[5:]} {v:.3f}' for k, v in log.items() if k.startswith('eval_'))
        self._say(
            f'{self.iteration:5d}/{self.config.iterations}  {log["train/samples"] / 1e6:7.2f} M samples  '
            f'{log["time/samples_per_s"]:6.0f}/s  left {minutes:3d}:{seconds:02d}  reward {log["train/reward"]:7.4f}  '
            f'episode {log["train/episode_s"]:5.2f} s{evaluation}'
        )

    def _say(self, text: str) -> None:
        if not self.quiet and self.distributed.rank == 0:
            print(text, file=sys.stderr, flush=True)

    # Keeping
    def save(self, path: Path) -> None:
        """Write a checkpoint (the first process only)."""
        if self.distributed.rank:
            return
        obs = self.env.get_observations()
        state = {
            'kind': self.kind,
            'skill': self.skill,
            'mode': self.env.mode,
            'config': checkpoint.config_json(self.config),
            'layout': self.env.layout.to_json(),
            'privileged_size': obs['privileged'].shape[1],
            'clips': self.clip_names,
            'iteration': self.iteration,
            'algorithm': self.ppo.state(),
            'object_roles': [self.env.clips.objects[0].name] if self.env.mode == 'mocap' else [],
            'failures': self.env.sampler.failures,
            'best': self.best,
            'stale': self.stale,
            'normalizers_until': [m.obs_normalizer.until for m in (self.ppo.actor, self.ppo.critic)],
        }
        if self.prior is not None:
            state['prior'] = self.prior.state_dict()
            state['prior_optimizer'] = self.prior.optimizer.state_dict()
        checkpoint.save(path, state)

    def resume(self, path: Path) -> None:
        """Continue from a checkpoint of the same kind, clips and observations."""
        state = checkpoint.load(path, self.kind)
        size = self.env.get_observations()['privileged'].shape[1]
        checkpoint.check_sizes(state, path, layout=self.env.layout.to_json(), privileged_size=size, kind=self.kind)
        self._check_networks(state, path, ('actor', 'critic'))
        if len(state['failures']) != len(self.env.sampler.failures):
            raise UserError(f'{path}: was trained on clips of another length; expected the same clips to resume.')
        self.ppo.set_state(state['algorithm'])
        self.env.sampler.failures.copy_(state['failures'])
        for model, until in zip((self.ppo.actor, self.ppo.critic), state['normalizers_until'], strict=True):
            model.obs_normalizer.until = until
        self.iteration, self.best, self.stale = state['iteration'], state['best'], state['stale']
        if self.prior is not None and 'prior' in state:
            self.prior.load_state_dict(state['prior'])
            self.prior.optimizer.load_state_dict(state['prior_optimizer'])

    def write_summary(self, extra: dict[str, Any] | None = None) -> None:
        """Write ``summary.json``: the last log, the configuration and what was trained on."""
        if self.distributed.rank:
            return
        last = dict(self.history[-1]) if self.history else {}
        text = json.dumps({
            'kind': self.kind, 'skill': self.skill, 'iterations': self.iteration, 'best': self.best, 'last': last,
            'clips': self.clip_names, 'config': json.loads(checkpoint.config_json(self.config)), **(extra or {}),
        }, indent=2)  # fmt: skip
        (self.out / 'summary.json').write_text(text + '\n')
