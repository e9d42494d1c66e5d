"""PPO with BC and AMP: shapes, gradients, exact resume, failures; a tiny task is learnt; export computes the same."""

import argparse
import dataclasses
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from rsl_rl.storage import RolloutStorage
from tensordict import TensorDict

from humanx_description.errors import UserError
from humanx_policy.metadata import PolicyMetadata
from humanx_training.xmimic import checkpoint, cli, presets
from humanx_training.xmimic import config as cfg
from humanx_training.xmimic import trainer as trainer_module
from humanx_training.xmimic.amp import FrameStack, MotionPrior
from humanx_training.xmimic.batch_policy import OnnxPolicy
from humanx_training.xmimic.clip_set import make_clip_set
from humanx_training.xmimic.dagger import distil
from humanx_training.xmimic.env import HumanXEnv
from humanx_training.xmimic.export import export_checkpoint, parity
from humanx_training.xmimic.imitation import LabelBuffer
from humanx_training.xmimic.ppo import (
    NonFiniteError,
    bc_loss,
    gaussian_kl,
    gaussian_log_prob,
    make_model,
    shuffled_batches,
)
from humanx_training.xmimic.rollout_eval import Tracking, track
from humanx_training.xmimic.teachers import NetworkTeacher
from humanx_training.xmimic.trainer import Trainer

sys.path.insert(0, str(Path(__file__).parent))
from clips_for_tests import standing

TINY = {
    'env': {'num_envs': 16},
    'ppo': {'hidden': [32, 16], 'steps': 8, 'epochs': 2, 'mini_batches': 2},
    'iterations': 4,
    'checkpoint_every': 2,
    'evaluate_every': 100,
}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def _trainer(out: Path, changes: dict | None = None, *, kind: str = 'teacher', ball: bool = True,
             teacher: object = None, env: HumanXEnv | None = None) -> Trainer:  # fmt: skip
    config = cfg.build(TINY, changes or {})
    groups = ('privileged',) if kind == 'teacher' else ('policy', 'privileged')
    mode = 'mocap' if ball else 'nep'
    env = env or HumanXEnv(make_clip_set([standing(80, ball=ball)]), config.env, mode=mode, groups=groups)  # type: ignore[arg-type]
    return Trainer(env, config, out, kind=kind, skill='stand', clip_names=['a 0'], teacher=teacher, quiet=True)  # type: ignore[arg-type]


def test_cloning_falls_by_a_constant_factor() -> None:
    settings = cfg.PpoConfig(bc_coef=2.0, bc_final=0.02)
    assert [settings.cloning(s) for s in (0.0, 0.5, 1.0)] == pytest.approx([2.0, 0.2, 0.02])
    assert cfg.PpoConfig(bc_coef=2.0).cloning(0.7) == 2.0
    with pytest.raises(ValueError, match='bc_final is 3'):
        cfg.PpoConfig(bc_final=3.0)


def test_bc_loss_leaves_out_what_the_teacher_does_not_answer() -> None:
    mean = torch.tensor([[3.0, 4.0], [9.0, 9.0], [0.0, 0.0]], requires_grad=True)
    loss = bc_loss(mean, torch.tensor([[0.0, 0.0], [float('nan'), float('nan')], [0.0, 0.0]]))
    assert loss.item() == 12.5
    loss.backward()
    assert mean.grad.tolist() == [[3.0, 4.0], [0.0, 0.0], [0.0, 0.0]]
    assert bc_loss(mean.detach(), torch.full((3, 2), float('nan'))).item() == 0.0


def test_bc_loss_is_the_mean_squared_distance() -> None:
    assert bc_loss(torch.tensor([[3.0, 4.0], [0.0, 0.0]]), torch.zeros(2, 2)).item() == 12.5


def test_the_gaussian_of_all_states_is_torchs() -> None:
    generator = torch.Generator().manual_seed(0)
    old_mean, mean, actions = torch.randn(3, 7, 29, generator=generator)
    old_std, std = 0.1 + torch.rand(2, 29, generator=generator)
    old, new = torch.distributions.Normal(old_mean, old_std), torch.distributions.Normal(mean, std)
    torch.testing.assert_close(gaussian_log_prob(actions, mean, std), new.log_prob(actions).sum(-1))
    kl = torch.distributions.kl_divergence(old, new).sum(-1)
    torch.testing.assert_close(gaussian_kl(old_mean, old_std, mean, std), kl)


def test_the_losses_are_those_of_the_networks_own_distribution(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path, {'iterations': 1})
    trainer.run()
    ppo, obs = trainer.ppo, trainer.env.get_observations()
    with torch.no_grad():
        actions = ppo.actor(obs, stochastic_output=True)
        log_prob, entropy = ppo.actor.get_output_log_prob(actions), ppo.actor.output_entropy.mean()
        old = tuple(p.clone() for p in ppo.actor.output_distribution_params)
        seen = {k: v + 0.05 for k, v in ppo.normalised(obs).items()}
        ppo.actor.distribution.update(ppo.actor.mlp(seen['actor']))
        moved = ppo.actor.get_output_log_prob(actions)
        kl = ppo.actor.get_kl_divergence(old, ppo.actor.distribution.params)
        one = torch.ones(16, 1)
        batch = RolloutStorage.Batch(
            observations=TensorDict(seen, batch_size=[16]), actions=actions, advantages=one, returns=one,
            old_actions_log_prob=log_prob[:, None], old_distribution_params=old,
        )  # fmt: skip
        losses = ppo.losses(batch)
    torch.testing.assert_close(losses['entropy'], entropy)
    torch.testing.assert_close(losses['kl'], kl.mean())
    ratio = torch.exp(moved - log_prob)
    torch.testing.assert_close(losses['surrogate'], -torch.minimum(ratio, ratio.clamp(0.8, 1.2)).mean())


def test_bc_pulls_the_student_to_the_teacher_and_leaves_the_critic_alone(tmp_path: Path) -> None:
    class Constant:
        def label(self, env: HumanXEnv) -> torch.Tensor:
            return torch.full((env.num_envs, 29), 0.7)

    changes = {'ppo': {'bc_coef': 100.0, 'desired_kl': 10.0, 'learning_rate': 3e-3, 'epochs': 8}, 'iterations': 16}
    trainer = _trainer(tmp_path, changes, kind='student', teacher=Constant())
    obs = trainer._observe(trainer.env.observe())
    assert obs['policy'].shape == (16, trainer.env.layout.size)
    before = (trainer.act(obs).detach() - 0.7).abs().mean()
    trainer.run()
    after = (trainer.act(trainer.env.get_observations()).detach() - 0.7).abs().mean()
    assert float(after) < 0.2 * float(before)
    assert 'loss/bc' in trainer.history[-1]
    # The behaviour-cloning gradient does not reach the critic.
    trainer.ppo.optimizer.zero_grad()
    trainer.ppo.actor(obs, stochastic_output=True)
    bc_loss(trainer.ppo.actor.output_mean, obs['teacher_action']).backward()
    assert all(p.grad is None or not p.grad.any() for p in trainer.ppo.critic.parameters())
    assert any(p.grad is not None and p.grad.any() for p in trainer.ppo.actor.parameters())


def test_the_critics_learning_rate_does_not_follow_the_kl_rule(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path, {'ppo': {'desired_kl': 1e-9}})
    trainer.run()
    actor, critic = (group['lr'] for group in trainer.ppo.optimizer.param_groups)
    assert actor < 1e-3
    assert critic == 1e-3


class _Hold:
    """A teacher that asks for the default pose."""

    def label(self, env: HumanXEnv) -> torch.Tensor:
        return torch.zeros(env.num_envs, 29)


@pytest.mark.parametrize('case', ['teacher', 'prior', 'student'])
def test_a_resumed_run_repeats_the_uninterrupted_one_exactly(tmp_path: Path, case: str) -> None:
    changes = {'amp': {'enabled': True, 'history': 3, 'hidden': [16]}} if case == 'prior' else {}
    kind, teacher = ('student', _Hold()) if case == 'student' else ('teacher', None)

    def make(folder: str, iterations: int) -> Trainer:
        return _trainer(tmp_path / folder, {**changes, 'iterations': iterations}, kind=kind, teacher=teacher)

    whole = make('whole', 4)
    whole.run()
    make('part', 2).run()
    second = make('part', 4)
    second.resume(tmp_path / 'part/last.pt')
    assert second.iteration == 2
    second.run()
    for name in ('actor', 'critic'):
        states = (getattr(trainer.ppo, name).state_dict() for trainer in (whole, second))
        for a, b in zip(*(state.values() for state in states), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert whole.history[-1]['train/reward'] == second.history[-1]['train/reward']
    torch.testing.assert_close(whole.env.sampler.failures, second.env.sampler.failures, rtol=0, atol=0)


def test_a_training_that_gets_no_better_stops_and_keeps_the_best(tmp_path: Path) -> None:
    config = cfg.build(TINY, {'evaluate_every': 1, 'patience': 2, 'iterations': 9, 'checkpoint_every': 50})
    clips = make_clip_set([standing(80, ball=False)])
    test = HumanXEnv(clips, config.env, mode='nep', groups=('privileged',))
    env = HumanXEnv(clips, config.env, mode='nep', groups=('privileged',))
    trainer = Trainer(env, config, tmp_path, eval_envs={'noisy': test}, quiet=True)
    scores = iter([0.3, 0.5, 0.4, 0.5])

    def worse(*_args: object) -> Tracking:
        return Tracking(next(scores), 0.0, 0.0, 0.0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer_module, 'track', worse)
        trainer.run()
    # Begun with 0.3, better after one iteration, then twice no better.
    assert trainer.iteration == 3
    assert checkpoint.load(tmp_path / 'best.pt', 'teacher')['iteration'] == 1
    assert checkpoint.load(tmp_path / 'last.pt', 'teacher')['iteration'] == 3
    # Fine-tuning that only makes it worse leaves what it began with.
    again = Trainer(env, config, tmp_path / 'again', eval_envs={'noisy': test}, quiet=True)
    scores = iter([0.9, 0.2, 0.1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer_module, 'track', worse)
        again.run()
    assert checkpoint.load(tmp_path / 'again/best.pt', 'teacher')['iteration'] == 0


def test_amp_tells_the_reference_from_other_motion_and_rewards_it(tmp_path: Path) -> None:
    clips = make_clip_set([standing(100, sway=0.5)])
    config = cfg.AmpConfig(enabled=True, history=4, hidden=(64, 32), learning_rate=1e-3)
    torch.manual_seed(0)
    prior = MotionPrior(clips, config, torch.Generator().manual_seed(0))
    real = prior.sample_reference(256)
    fake = real + 0.5 * torch.randn_like(real)
    for _ in range(60):
        prior.update(fake)
    assert float(prior.reward(real).mean()) > float(prior.reward(fake).mean()) + 0.05
    loss, log = prior.loss(fake, real)
    without = dataclasses.replace(config, gradient_penalty=0.0)
    prior.config = without
    plain, _ = prior.loss(fake, real)
    assert (loss - plain).item() == pytest.approx(10.0 * log['amp/gradient'], rel=1e-3)


def test_amp_stack_fills_after_a_reset() -> None:
    stack = FrameStack(2, 3, 1, torch.device('cpu'))
    no, second = torch.tensor([0, 0]), torch.tensor([0, 1])
    assert stack.push(torch.tensor([[1.0], [5.0]]), no).tolist() == [[1, 1, 1], [5, 5, 5]]
    assert stack.push(torch.tensor([[2.0], [6.0]]), second).tolist() == [[1, 1, 2], [5, 5, 6]]
    assert stack.push(torch.tensor([[3.0], [9.0]]), no).tolist() == [[1, 2, 3], [9, 9, 9]]


def test_training_with_amp_runs_and_logs(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path, {'amp': {'enabled': True, 'history': 3, 'hidden': [16]}, 'iterations': 2})
    log = trainer.run()[-1]
    assert np.isfinite(log['amp/loss'])
    assert np.isfinite(log['train/reward'])


def test_a_tiny_task_is_learnt(tmp_path: Path) -> None:
    """Holding the forearms up, without the reference in the action: the hands' reward rises by 15 % or more.

    36 iterations with this seed gave 30 %; the first two are left out, they begin on the reference itself.
    """
    rest = ('upper_body_pos', 'lower_body_pos', 'feet_pos', 'body_rot', 'body_ang_vel', 'body_lin_vel', 'joint_pos',
            'joint_vel')  # fmt: skip
    changes = {
        'env': {
            'num_envs': 64, 'residual': False, 'randomisation': {'enabled': False}, 'init': {'disturb': False},
            'termination': {'motion': 1.5}, 'reward': {name: {'weight': 0.0} for name in rest},
        },
        'ppo': {'hidden': [64, 64], 'steps': 24, 'epochs': 5, 'init_std': 0.4, 'desired_kl': 0.03, 'gamma': 0.8,
                'lam': 0.9},
        'iterations': 30,
        'checkpoint_every': 1000,
    }  # fmt: skip
    clips = make_clip_set([standing(80, ball=False, arms=0.7)])
    env = HumanXEnv(clips, cfg.build(TINY, changes).env, mode='nep', groups=('privileged',))
    log = _trainer(tmp_path, changes, ball=False, env=env).run()
    start, end = (np.mean([h['reward/hands_pos'] for h in part]) for part in (log[3:7], log[-4:]))
    assert end > 1.15 * start, (start, end)


def test_a_non_finite_number_stops_with_its_state_saved(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path)
    with torch.no_grad():
        trainer.ppo.actor.mlp[-1].bias[3] = float('nan')
    with pytest.raises(UserError, match='the action is not finite'):
        trainer.run()
    state = torch.load(tmp_path / 'nonfinite.pt', weights_only=True)
    assert state['qpos'].shape == (16, 43)
    assert state['where'] == 'the action'


def test_checkpoints_of_other_kinds_and_layouts_are_refused(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path, {'iterations': 2})
    trainer.run()
    with pytest.raises(UserError, match='is a teacher; expected a student'):
        checkpoint.load(tmp_path / 'last.pt', 'student')
    (tmp_path / 'junk.pt').write_bytes(b'not a checkpoint')
    with pytest.raises(UserError, match='cannot be read'):
        checkpoint.load(tmp_path / 'junk.pt')
    with pytest.raises(UserError, match='is not a file'):
        checkpoint.load(tmp_path / 'absent.pt')
    other = _trainer(tmp_path / 'other', ball=False)
    with pytest.raises(UserError, match='privileged numbers'):
        other.resume(tmp_path / 'last.pt')


@pytest.mark.parametrize('ball', [False, True])
def test_student_from_teacher_to_policy_file(tmp_path: Path, ball: bool) -> None:
    _trainer(tmp_path / 't', {'iterations': 2}, ball=ball).run()
    config = cfg.build(TINY)
    mode = 'mocap' if ball else 'nep'
    env = HumanXEnv(make_clip_set([standing(80, ball=ball)]), config.env, mode=mode)  # type: ignore[arg-type]
    teacher = NetworkTeacher([tmp_path / 't/last.pt'], env)
    label = teacher.label(env)
    # The label is the residual teacher's target in the deployed policy's terms: near the reference here.
    reference = (env.clips.qpos[env.frame + 1][:, 7:36] - env.default_joints) / env.action_scale
    assert float((label - reference).abs().max()) < 1.0
    student = _trainer(tmp_path / 's', {'iterations': 2}, kind='student', ball=ball, teacher=teacher, env=env)
    teacher_critic = checkpoint.load(tmp_path / 't/last.pt')['algorithm']['critic_state_dict']
    student.start_from(checkpoint.load(tmp_path / 't/last.pt'), tmp_path / 't/last.pt', critic_only=True)
    for name, value in student.ppo.critic.state_dict().items():
        torch.testing.assert_close(value, teacher_critic[name])
    student.run()
    difference = export_checkpoint(tmp_path / 's/last.pt', tmp_path / 'p.onnx')
    assert difference < 1e-5
    policy = OnnxPolicy(tmp_path / 'p.onnx')
    assert isinstance(policy.metadata, PolicyMetadata)
    assert policy.metadata.object_roles == (('ball',) if ball else ())
    obs = env.get_observations()
    np.testing.assert_allclose(
        policy.act(obs['policy'].numpy()), student.act(obs).detach().numpy(), atol=1e-5, rtol=1e-5
    )


def test_parity_sees_a_changed_network(tmp_path: Path) -> None:
    _trainer(tmp_path / 's', {'iterations': 2, 'student_teacher': False}, kind='student').run()
    export_checkpoint(tmp_path / 's/last.pt', tmp_path / 'p.onnx')
    state = checkpoint.load(tmp_path / 's/last.pt', 'student')
    layout_size = len(state['algorithm']['actor_state_dict']['obs_normalizer._mean'][0])
    obs = TensorDict({'policy': torch.zeros(1, layout_size)}, batch_size=[1])
    model = make_model(obs, 'policy', 29, cfg.build(TINY).ppo, actor=True)
    model.load_state_dict(state['algorithm']['actor_state_dict'])
    assert parity(model, tmp_path / 'p.onnx') < 1e-5
    with torch.no_grad():
        model.mlp[-1].bias[0] += 1e-3
    assert parity(model, tmp_path / 'p.onnx') > 1e-4


def test_dagger_learns_to_agree_with_its_teacher() -> None:
    class Law:
        """A linear law of the true state: something a network can learn."""

        def label(self, env: HumanXEnv) -> torch.Tensor:
            q = env.sim.qpos[:, 7:36].float() - env.default_joints
            return -2.0 * q / env.action_scale * 0.1

    config = cfg.build(TINY, {'env': {'num_envs': 32, 'randomisation': {'noise': 0.1}}})
    env = HumanXEnv(make_clip_set([standing(80, ball=False)]), config.env, mode='nep')
    torch.manual_seed(0)
    result = distil(
        env, Law(), cfg.DaggerConfig(iterations=8, steps=12, updates=30, batch=256, capacity=10_000), config.ppo,
        quiet=True,
    )
    assert result.losses[-1] < 0.4 * result.losses[0], result.losses


def test_label_buffer_overwrites_the_oldest() -> None:
    buffer = LabelBuffer(4, 1, 1, torch.device('cpu'))
    for start in (0, 3):
        values = torch.arange(start, start + 3.0)[:, None]
        buffer.add(values, values)
    assert buffer.count == 4
    assert sorted(buffer.label[:, 0].tolist()) == [2.0, 3.0, 4.0, 5.0]
    assert sorted(buffer.obs[:, 0].tolist()) == [2.0, 3.0, 4.0, 5.0]


def test_tracking_evaluation_counts_ends_and_falls() -> None:
    config = cfg.EnvConfig(
        num_envs=12, init=cfg.InitConfig(disturb=False), randomisation=cfg.RandomisationConfig(enabled=False),
        frame_loss=cfg.FrameLossConfig(enabled=False),
    )
    env = HumanXEnv(make_clip_set([standing(90, ball=False)]), config, mode='nep')
    held = track(env, lambda obs: torch.zeros(12, 29))
    assert held.reached > 0.9
    assert held.body_error < 0.1
    kicked = track(env, lambda obs: 6.0 * torch.ones(12, 29))
    assert kicked.reached < 0.2
    assert kicked.survival_s < held.survival_s


def _differences(one: dict, two: dict, where: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    out: set[tuple[str, ...]] = set()
    for key in one:
        if isinstance(one[key], dict):
            out |= _differences(one[key], two[key], (*where, key))
        elif one[key] != two[key]:
            out.add((*where, key))
    return out


def test_presets_before_aug_leave_augmented_clips_out(tmp_path: Path) -> None:
    """A clip set holds the skill as shown and draws around it; +it trains on the first, +aug on all."""
    for index, draws in enumerate(({}, {'size': 1.1}, {'size': 0.9})):
        clip = standing(80, ball=False, sway=0.1 * index)
        clip.provenance['draws'] = draws
        clip.save(tmp_path / f'clips/clip_{index:03d}.npz')
    common = ['--skill', 'stand', '--envs', '8', '--iterations', '1',
              '--set', 'ppo.hidden=[16]', 'ppo.steps=4', 'evaluate_every=2']  # fmt: skip
    counts = {}
    for name in ('+it', '+aug'):
        out = tmp_path / name
        args = _parse('train', 'teacher', *common, '--clips', str(tmp_path / 'clips'), '--preset', name,
                      '--out', str(out))  # fmt: skip
        assert args.run(args) == 0
        counts[name] = [text.split()[0] for text in checkpoint.load(out / 'last.pt')['clips']]
    assert counts == {'+it': ['clip_000.npz'], '+aug': ['clip_000.npz', 'clip_001.npz', 'clip_002.npz']}
    args = _parse('train', 'teacher', *common, '--clips', str(tmp_path / 'clips/clip_001.npz'), '--preset', '+it',
                  '--out', str(tmp_path / 'none'))  # fmt: skip
    with pytest.raises(UserError, match='all 1 are augmented'):
        args.run(args)
    assert not (tmp_path / 'none').exists()


def test_presets_build_and_change_what_they_claim() -> None:
    for name in presets.PRESETS:
        config = cfg.build(presets.preset(name))
        assert config.env.reward.upper_body_pos.scale == 0.03, name
    assert cfg.build(presets.preset('skillmimic')).env.reward.combine == 'product'
    assert not cfg.build(presets.preset('base')).env.init.disturb
    assert cfg.build(presets.preset('+di')).env.init.disturb
    assert not cfg.build(presets.preset('+di')).env.termination.interaction
    assert cfg.build(presets.preset('+it')).env.termination.interaction
    # Each rung of the paper's ladder changes exactly what it is named after.
    ladder = [dataclasses.asdict(cfg.build(presets.preset(n))) for n in ('base', '+di', '+it', '+aug', '+teastu')]
    init = {('env', 'init', 'disturb')}
    assert [_differences(a, b) for a, b in itertools.pairwise(ladder)] == [
        init, {('env', 'termination', 'interaction'), ('env', 'init', 'adaptive')}, {('augmented',)},
        {('student_teacher',)},
    ]  # fmt: skip
    assert ladder[-1] == dataclasses.asdict(cfg.build(presets.preset('xmimic')))
    assert cfg.build(presets.preset('omniretarget')).env.reward.object_pos.weight == 0.0
    paper = cfg.build(presets.scale('paper'))
    assert (paper.env.num_envs, paper.ppo.hidden, paper.amp.enabled) == (16384, (512, 256, 256), True)
    with pytest.raises(UserError, match='expected one of'):
        presets.preset('nonesuch')


@pytest.mark.parametrize('name', ['skillmimic', 'hdmi', 'omniretarget', '+di'])
def test_presets_train_a_teacher_through_the_command(tmp_path: Path, name: str) -> None:
    standing(80).save(tmp_path / 'clip.npz')
    args = _parse('train', 'teacher', '--skill', 'football', '--clips', str(tmp_path / 'clip.npz'), '--preset', name,
                  '--envs', '8', '--iterations', '1', '--out', str(tmp_path / 'out'),
                  '--set', 'ppo.hidden=[16]', 'ppo.steps=4', 'evaluate_every=2')  # fmt: skip
    assert args.run(args) == 0
    assert np.isfinite(json.loads((tmp_path / 'out/summary.json').read_text())['last']['train/reward'])


def test_settings_are_read_strictly() -> None:
    overrides = cfg.parse_overrides(['ppo.epochs=7', 'env.reward.contact.weight=0.5'])
    config = cfg.build({'ppo': {'epochs': 2}}, overrides)
    assert config.ppo.epochs == 7
    assert config.env.reward.contact == cfg.Term(0.5, 0.05)
    with pytest.raises(UserError, match="unknown field 'epoch'"):
        cfg.build({'ppo': {'epoch': 2}})
    with pytest.raises(UserError, match='key=value'):
        cfg.parse_overrides(['ppo.epochs'])


def _parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    cli.register(parser.add_subparsers())
    return parser.parse_args(arguments)


def test_train_and_export_commands(tmp_path: Path) -> None:
    standing(80, ball=False).save(tmp_path / 'clip.npz')
    common = ['--skill', 'stand', '--clips', str(tmp_path / 'clip.npz'), '--envs', '16', '--iterations', '2',
              '--set', 'ppo.hidden=[16]', 'ppo.steps=4', 'evaluate_every=2']  # fmt: skip
    teacher = _parse('train', 'teacher', *common, '--out', str(tmp_path / 't'))
    assert teacher.run(teacher) == 0
    assert (tmp_path / 't/summary.json').is_file()
    assert list((tmp_path / 't/tensorboard').glob('events*'))
    with pytest.raises(UserError, match='--resume'):
        teacher.run(teacher)
    student = _parse('train', 'student', *common, '--teacher-from', str(tmp_path / 't/last.pt'), '--dagger', '2',
                     '--out', str(tmp_path / 's'), '--set', 'ppo.hidden=[16]', 'ppo.steps=4', 'dagger.updates=2')
    assert student.run(student) == 0
    export = _parse('export', str(tmp_path / 's/last.pt'), '--out', str(tmp_path / 'p.onnx'))
    assert export.run(export) == 0
    assert (tmp_path / 'p.onnx').is_file()
    for bad, words in (
        (['--preset', 'nonesuch'], 'does not exist'),
        (['--envs', '900000000'], 'GB'),
        (['--clips', str(tmp_path / 'none.npz')], 'does not exist'),
        (['--iterations', '-3'], 'iterations is -3'),
        (['--set', 'ppo.steps=0'], 'steps is 0'),
        (['--set', 'ppo.steps=2', 'ppo.mini_batches=100'], 'mini_batches is 100; expected at most the 32'),
        (['--threads', '0'], '--threads is 0'),
        (['--device', 'cuda'], 'runs on the CPU'),
    ):
        args = _parse('train', 'teacher', *common, '--out', str(tmp_path / 'x'), *bad)
        with pytest.raises(UserError, match=words):
            args.run(args)
        assert not (tmp_path / 'x').exists()


def test_what_does_not_fit_a_training_is_one_sentence_and_changes_nothing(tmp_path: Path) -> None:
    """Clips of another robot or order, checkpoints of other sizes and layouts, numbers that are not finite."""
    clip = standing(80)
    clip.save(tmp_path / 'clip.npz')
    values = dict(np.load(tmp_path / 'clip.npz'))
    names = values['joint_names'].copy()
    names[[0, 1]] = names[[1, 0]]
    np.savez(tmp_path / 'order.npz', **{**values, 'joint_names': names})
    np.savez(tmp_path / 'robot.npz', **{**values, 'joint_names': names[:20], 'joint_pos': values['joint_pos'][:, :20]})

    def train(kind: str, out: str, *more: str, clips: str = 'clip.npz', settings: tuple[str, ...] = ()) -> int:
        args = _parse(
            'train', kind, '--skill', 'football', '--clips', str(tmp_path / clips), '--envs', '8', '--iterations', '1',
            '--out', str(tmp_path / out), *more, '--set', 'ppo.steps=4', 'evaluate_every=5',
            *(settings or ('ppo.hidden=[16]',)),
        )  # fmt: skip
        return args.run(args)

    assert train('teacher', 't') == 0
    teacher = tmp_path / 't/last.pt'
    assert train('student', 's', '--teacher-from', str(teacher)) == 0
    student = tmp_path / 's/last.pt'
    before = {path: path.read_bytes() for path in tmp_path.rglob('*') if path.is_file()}
    other = {'settings': ('ppo.hidden=[32]',)}
    for words, arguments, options in (
        ('order.npz: joint_names are in another order', ('teacher', 'x'), {'clips': 'order.npz'}),
        ('robot.npz: joint_names hold 20 names', ('teacher', 'x'), {'clips': 'robot.npz'}),
        (r'hidden layers \[16\].*equal ppo.hidden', ('teacher', 't', '--resume'), other),
        (r'its critic has hidden layers \[16\]', ('student', 'y', '--teacher-from', str(teacher)), other),
        ('privileged numbers', ('teacher', 't', '--resume'), {'settings': ('ppo.hidden=[16]', 'env.future=[1]')}),
        ('is a student; expected a teacher', ('student', 'x', '--teacher-from', str(student)), {}),
        ('another observation layout',
         ('student', 's', '--resume', '--mode', 'nep', '--teacher-from', str(teacher)), {}),
        ('is not finite; the state that caused it is in', ('teacher', 'n'),
         {'settings': ('ppo.hidden=[16]', 'ppo.critic_learning_rate=1.0e+38', 'ppo.epochs=8')}),
    ):  # fmt: skip
        with pytest.raises(UserError, match=words):
            train(*arguments, **options)
    assert not (tmp_path / 'x').exists()
    assert {path.parent.name for path in tmp_path.rglob('*.pt')} == {'t', 's', 'n'}
    assert (tmp_path / 'n/nonfinite.pt').is_file()
    assert not (tmp_path / 'n/last.pt').exists()
    assert {path: path.read_bytes() for path in before} == before


def test_two_processes_train_one_policy(tmp_path: Path) -> None:
    """torchrun with two gloo processes: gradients are averaged, so both end with equal weights; the first evaluates
    and stops both."""
    script = tmp_path / 'worker.py'
    script.write_text(
        'import sys, torch\n'
        'from pathlib import Path\n'
        f'sys.path.insert(0, {str(Path(__file__).parent)!r})\n'
        'from clips_for_tests import standing\n'
        'from humanx_training.xmimic import config as cfg\n'
        'from humanx_training.xmimic.clip_set import make_clip_set\n'
        'from humanx_training.xmimic.env import HumanXEnv\n'
        'from humanx_training.xmimic.trainer import Trainer, init_distributed\n'
        'torch.set_num_threads(1)\n'
        'd = init_distributed()\n'
        f'c = cfg.build({TINY!r}, {{"iterations": 9, "evaluate_every": 1, "patience": 3}})\n'
        'e = HumanXEnv(make_clip_set([standing(80, ball=False)]), c.env, mode="nep", groups=("privileged",))\n'
        'tests = {}\n'
        'if d.rank == 0:\n'
        '    tests = {"noisy": HumanXEnv(e.clips, c.env, mode="nep", groups=("privileged",))}\n'
        f't = Trainer(e, c, Path({str(tmp_path)!r}), distributed=d, eval_envs=tests, quiet=True)\n'
        't.best = 9.0\n'  # nothing gets better than that
        't.run()\n'
        'assert t.iteration == 2, t.iteration\n'
        f'torch.save([v.clone() for v in t.ppo.actor.state_dict().values()], {str(tmp_path)!r} + f"/{{d.rank}}.pt")\n'
        f'torch.save(e.sim.qpos.clone(), {str(tmp_path)!r} + f"/q{{d.rank}}.pt")\n'
        'torch.distributed.destroy_process_group()\n'
    )
    command = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2', str(script)]
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    result = subprocess.run(command, capture_output=True, text=True, timeout=500, env=environment)
    assert result.returncode == 0, result.stderr[-2000:]
    first, second = (torch.load(tmp_path / f'{r}.pt', weights_only=True) for r in (0, 1))
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b)
    states = [torch.load(tmp_path / f'q{r}.pt', weights_only=True) for r in (0, 1)]
    assert not torch.equal(*states)


def test_an_update_sees_every_sample_once_per_epoch_with_its_own_fields(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path)
    storage = trainer.ppo.storage
    count = storage.num_envs * storage.num_transitions_per_env
    number = torch.arange(count, dtype=torch.float32).view(storage.num_transitions_per_env, storage.num_envs, 1)
    storage.actions[:] = number
    storage.returns[:] = number
    storage.observations['privileged'][:] = number
    storage.distribution_params = (number.clone(),)
    order = torch.randperm(count)
    normaliser = trainer.ppo.critic.obs_normalizer
    for mean in (0.0, 3.0):  # the buffers are filled anew by each update
        normaliser._mean[:], normaliser._std[:] = mean, 1.0 - normaliser.eps
        inputs = trainer.ppo._shuffled_inputs(order)
        seen = []
        for batch in shuffled_batches(storage, order, inputs, 2, 3):
            torch.testing.assert_close(batch.actions[:, :1], batch.returns)
            torch.testing.assert_close(batch.observations['critic'][:, :1] + mean, batch.returns)
            torch.testing.assert_close(batch.old_distribution_params[0], batch.returns)
            seen.append(batch.returns[:, 0])
        epochs = torch.cat(seen).view(3, count)
        assert all(sorted(e.tolist()) == list(range(count)) for e in epochs)
        assert not torch.equal(epochs[0], torch.arange(float(count)))


@pytest.mark.parametrize('kind', ['teacher', 'student'])
def test_an_update_sees_the_observations_as_the_networks_do(tmp_path: Path, kind: str) -> None:
    trainer = _trainer(tmp_path, {'iterations': 1}, kind=kind)
    trainer.run()
    ppo = trainer.ppo
    obs = trainer.env.get_observations()
    order = torch.arange(ppo.storage.num_envs * ppo.storage.num_transitions_per_env)

    def check() -> bool:
        seen = ppo.normalised(obs)
        torch.testing.assert_close(ppo.actor.mlp(seen['actor']), ppo.actor(obs))
        torch.testing.assert_close(ppo.critic.mlp(seen['critic']), ppo.critic(obs))
        stored = ppo._shuffled_inputs(order)
        wanted = ppo.normalised(ppo.storage.observations.flatten(0, 1))
        for name in ('actor', 'critic'):
            torch.testing.assert_close(stored[name], wanted[name])
        return seen['actor'] is seen['critic']

    # A teacher's networks have learnt the same statistics of the same group.
    assert check() == (kind == 'teacher')
    ppo.critic.obs_normalizer._mean += 1.0
    assert not check()


def test_non_finite_error_names_its_place() -> None:
    assert NonFiniteError('the reward').where == 'the reward'
