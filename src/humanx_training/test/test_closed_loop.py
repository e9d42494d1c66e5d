"""Closed-loop evaluation: the judge sees what happened, seeds repeat, conditions bite."""

import argparse
import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from humanx.cli import main
from humanx_description import robot
from humanx_description.errors import UserError
from humanx_description.judge import SuccessRule
from humanx_description.objects import ObjectSpec
from humanx_description.scenario import Scenario
from humanx_description.skills import Skill
from humanx_policy.export import Mlp, write_policy
from humanx_policy.metadata import PolicyMetadata
from humanx_policy.observation import ObservationLayout, mocap_terms, nep_terms
from humanx_training.clip import InteractionClip, shape_of
from humanx_training.xmimic import cli, evaluate
from humanx_training.xmimic.batch_policy import FunctionPolicy, OnnxPolicy
from humanx_training.xmimic.closed_loop import Conditions, run_trials
from humanx_training.xmimic.frame_loss import BurstLoss
from humanx_training.xmimic.statistics import bootstrap_mean, wilson

sys.path.insert(0, str(Path(__file__).parent))
from clips_for_tests import standing

BALL = ObjectSpec('ball', 'sphere', (0.11,), mass=0.43, friction=0.7)
# The ball rolls against the standing robot's left shin.
SKILL = Skill(
    'roll', 'a ball rolls in', 'mocap',
    SuccessRule('hold', bodies=('left_knee_link', 'left_ankle_roll_link'), hold_s=0.05),
    Scenario(
        object='ball', start_pos=(1.0, 0.12, 0.11), start_vel=(-2.0, 0.0, 0.0), rolling=True, delay_s=(0.1, 0.2),
        pos_range=(0.1, 0.0, 0.0), duration_s=1.2,
    ),
    (BALL,),
)


def _hold(mode: str = 'mocap') -> FunctionPolicy:
    terms = mocap_terms() if mode == 'mocap' else nep_terms()
    roles = ('ball',) if mode == 'mocap' else ()
    meta = PolicyMetadata('roll', mode, ObservationLayout(terms), roles)
    return FunctionPolicy(meta, lambda obs: np.zeros((len(obs), 29)))


def test_the_ball_is_launched_touches_and_is_judged() -> None:
    trial, = run_trials(SKILL, _hold(), [3], generalise=False)
    record = trial.record
    assert 0.1 <= record.launch_time <= 0.21
    held = record.time <= record.launch_time
    np.testing.assert_allclose(record.object_pos[held], trial.start.pos[None] * np.ones((held.sum(), 1)), atol=1e-6)
    after = np.searchsorted(record.time, record.launch_time + 0.1)
    assert record.object_vel[after, 0] == pytest.approx(-2.0, abs=0.1)
    assert trial.verdict.success, trial.verdict
    touched = [record.touch_bodies[i] for i in np.flatnonzero(record.touch.any(axis=0))]
    assert touched == ['left_knee_link']
    feet_only = dataclasses.replace(SKILL, success=dataclasses.replace(SKILL.success, bodies=robot.FOOT_BODIES))
    again, = run_trials(feet_only, _hold(), [3], generalise=False)
    assert again.verdict.reason == 'held for 0.00 s'


def test_equal_seeds_give_equal_trials_in_any_batch() -> None:
    conditions = Conditions(noise=0.1, frame_loss=0.2, push=0.1, friction=(0.5, 1.2), mass=0.2, start_noise=0.01)
    skill = dataclasses.replace(SKILL, scenario=dataclasses.replace(SKILL.scenario, duration_s=0.5))
    together = run_trials(skill, _hold(), [5, 6, 7], generalise=True, conditions=conditions)
    alone, = run_trials(skill, _hold(), [7], generalise=True, conditions=conditions)
    np.testing.assert_array_equal(together[2].record.root_pos, alone.record.root_pos)
    np.testing.assert_array_equal(together[2].record.object_pos, alone.record.object_pos)
    assert not np.array_equal(together[0].record.root_pos, alone.record.root_pos)


def test_the_policy_sees_what_deployment_would_show_it() -> None:
    """The vectors of the closed loop equal those of the node's controller fed with the recorded states."""
    from humanx_policy.controller import ObjectsSample, PolicyController, RobotSample

    seen: list[np.ndarray] = []
    policy = _hold()
    policy._function = lambda obs: seen.append(obs.copy()) or np.full((len(obs), 29), 0.01)
    skill = dataclasses.replace(SKILL, scenario=dataclasses.replace(SKILL.scenario, duration_s=0.4))
    states = []

    import humanx_training.xmimic.closed_loop as loop

    class Spy(loop._Batch):
        def _terms(self, last, mocap, now):
            states.append(self.sim.buffers.qpos[0].copy())
            states[-1] = (states[-1], self.sim.buffers.qvel[0].copy())
            return super()._terms(last, mocap, now)

    Spy(skill, policy, [3], False, Conditions(), 0.001, 1).run(0.4)

    class Runtime:
        metadata, layout = policy.metadata, policy.metadata.observation_terms
        observation = np.zeros((1, layout.size), np.float32)

        def act(self) -> np.ndarray:
            return np.full((1, 29), 0.01, np.float32)

    controller = PolicyController(Runtime())  # type: ignore[arg-type]
    for (qpos, qvel), vector in zip(states, seen, strict=True):
        controller.step(
            RobotSample(qvel[3:6], qpos[3:7], qpos[7:36], qvel[6:35]),
            ObjectsSample(qpos[:3], qpos[3:7], True, qpos[None, 36:39], np.array([True])),
        )
        np.testing.assert_array_equal(Runtime.observation, vector)


def test_latency_and_loss_reach_the_observation() -> None:
    layout = ObservationLayout(mocap_terms())
    now = layout.slice_of('object_pos', 0)
    flag = layout.slice_of('object_tracked', 0)
    views = {}
    for name, conditions in {'ideal': Conditions(), 'late': Conditions(mocap_latency_s=0.05),
                             'lossy': Conditions(frame_loss=0.5)}.items():
        seen: list[np.ndarray] = []
        policy = _hold()
        policy._function = lambda obs, seen=seen: seen.append(obs.copy()) or np.zeros((len(obs), 29))
        run_trials(SKILL, policy, [3], generalise=False, conditions=conditions, duration=0.6)
        views[name] = np.concatenate(seen)
    np.testing.assert_allclose(views['late'][30:, now], views['ideal'][25:-5, now], atol=0.01)
    assert not np.allclose(views['late'][30:, now], views['ideal'][30:, now], atol=0.02)
    lost = views['lossy'][:, flag][:, 0] == 0
    assert 0.2 < lost.mean() < 0.8
    assert np.all(views['lossy'][lost][:, now] == 0)
    assert views['ideal'][:, flag].all()


def test_a_non_finite_action_fails_the_trial() -> None:
    policy = _hold()
    policy._function = lambda obs: np.full((len(obs), 29), np.nan)
    trial, = run_trials(SKILL, policy, [0], generalise=False, duration=0.3)
    assert not trial.verdict.success
    assert 'non-finite' in trial.verdict.reason


def test_a_policy_of_another_object_is_refused() -> None:
    meta = PolicyMetadata('roll', 'mocap', ObservationLayout(mocap_terms()), ('racket',))
    with pytest.raises(UserError, match="'racket'"):
        run_trials(SKILL, FunctionPolicy(meta, lambda obs: obs), [0], generalise=False)


def test_batched_graph_equals_the_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    layout = ObservationLayout(nep_terms())
    layers = [(rng.normal(0, 0.1, (16, layout.size)), np.zeros(16)), (rng.normal(0, 0.1, (29, 16)), np.zeros(29))]
    write_policy(tmp_path / 'p.onnx', Mlp(layers), PolicyMetadata('roll', 'nep', layout))
    policy = OnnxPolicy(tmp_path / 'p.onnx')
    assert policy._batched is not None
    obs = rng.normal(size=(5, layout.size)).astype(np.float32)
    batch = policy.act(obs)
    policy._batched = None
    np.testing.assert_allclose(batch, policy.act(obs), atol=1e-5)


def test_errors_are_zero_for_a_clip_of_the_trial_itself() -> None:
    trial, = run_trials(SKILL, _hold(), [3], generalise=False)
    record = trial.record
    n = len(record.time)
    joints = np.tile(robot.DEFAULT_JOINT_POS, (n, 1))
    quat = np.tile([1.0, 0, 0, 0], (n, 1))
    clip = InteractionClip(
        100.0, record.root_pos, record.root_quat, joints, 'ball', shape_of(BALL), record.object_pos, quat,
        record.touch, record.touch_bodies,
    )
    object_error, body_error = evaluate.tracking_errors(trial, clip)
    assert object_error < 0.05  # the launch is found from the motion, a frame later at most
    assert body_error < 0.03
    moved = dataclasses.replace(clip, object_pos=clip.object_pos + np.array([0.0, 0.3, 0.0]))
    assert evaluate.tracking_errors(trial, moved)[0] == pytest.approx(0.3, abs=0.05)


def test_eval_command_writes_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    layout = ObservationLayout(nep_terms())
    zero = [(np.zeros((29, layout.size)), np.zeros(29))]
    write_policy(tmp_path / 'p.onnx', Mlp(zero), PolicyMetadata('stand', 'nep', layout))
    parser = argparse.ArgumentParser()
    cli.register(parser.add_subparsers())
    common = ['eval', '--skill', 'stand', '--policy', str(tmp_path / 'p.onnx')]
    args = parser.parse_args([*common, '--trials', '2', '--duration', '0.5', '--json', str(tmp_path / 'r.json')])
    assert args.run(args) == 0
    report = json.loads((tmp_path / 'r.json').read_text())
    assert report['sr']['trials'] == 2
    assert report['sr']['interval'][0] <= report['sr']['rate'] <= report['sr']['interval'][1]
    assert 'SR' in capsys.readouterr().out
    for bad in (['--trials', '0'], ['--frame-loss', '1.5'], ['--timestep', '0.003']):
        args = parser.parse_args([*common, *bad])
        with pytest.raises(UserError):
            args.run(args)


def test_eval_command_gives_intervals_of_both_errors(tmp_path: Path) -> None:
    """The football scenario with a robot that stands: E_o and E_h against a clip, from two trials."""
    layout = ObservationLayout(mocap_terms())
    zero = Mlp([(np.zeros((29, layout.size)), np.zeros(29))])
    write_policy(tmp_path / 'p.onnx', zero, PolicyMetadata('football', 'mocap', layout, ('ball',)))
    standing(200).save(tmp_path / 'clip.npz')
    options = ['eval', '--skill', 'football', '--policy', str(tmp_path / 'p.onnx'), '--trials', '2', '--nominal-only']
    options += ['--duration', '2.6', '--timestep', '0.005', '--clip', str(tmp_path / 'clip.npz')]
    assert main([*options, '--json', str(tmp_path / 'r.json')]) == 0
    report = json.loads((tmp_path / 'r.json').read_text())
    for name in ('object_error', 'body_error'):
        mean, low, high = report[name]
        assert low <= mean <= high
        assert 0 < mean < 10
    assert report['object_error'][0] > report['body_error'][0]  # it stands as the clip does, the ball goes elsewhere
    assert sum(report['sr']['failures'].values()) == 2


@pytest.mark.slow
def test_eval_command_writes_a_video(tmp_path: Path) -> None:
    pytest.importorskip('imageio.v2')
    layout = ObservationLayout(nep_terms())
    zero = [(np.zeros((29, layout.size)), np.zeros(29))]
    write_policy(tmp_path / 'p.onnx', Mlp(zero), PolicyMetadata('stand', 'nep', layout))
    options = ['eval', '--skill', 'stand', '--policy', str(tmp_path / 'p.onnx'), '--trials', '1', '--nominal-only']
    assert main([*options, '--duration', '0.3', '--video', str(tmp_path / 'grid.mp4')]) == 0
    assert (tmp_path / 'grid.mp4').stat().st_size > 5_000


def test_the_video_shows_every_trial_and_the_object_moving(tmp_path: Path) -> None:
    imageio = pytest.importorskip('imageio.v2')
    from humanx_training.xmimic.video import write_grid

    skill = dataclasses.replace(SKILL, scenario=dataclasses.replace(SKILL.scenario, duration_s=1.0))
    path = tmp_path / 'grid.mp4'
    write_grid(skill, _hold(), [3, 4], Conditions(), path, width=160, height=128)
    frames = np.stack([frame for frame in imageio.get_reader(path)]).astype(float)  # noqa: C416 (it has no length)
    assert frames.shape == (25, 128, 320, 3)
    for tile in (frames[:, :, :160], frames[:, :, 160:]):
        robot_pixels = tile[0, :, :, :].min(-1) > 110  # light grey before a dark floor
        assert robot_pixels[32:96, 40:120].sum() > 100
        assert robot_pixels.mean() < 0.2
        assert np.abs(tile[-1] - tile[0]).max() > 40


@pytest.mark.parametrize(('fraction', 'burst'), [(0.1, 1), (0.3, 1), (0.1, 10)])
def test_burst_loss_loses_the_wanted_share(fraction: float, burst: int) -> None:
    loss = BurstLoss(fraction, burst, np.random.default_rng(0))
    lost = np.array([loss.step() for _ in range(60_000)])
    assert lost.mean() == pytest.approx(fraction, rel=0.1)


def test_wilson_and_bootstrap_against_known_values() -> None:
    low, high = wilson(42, 50)
    assert (low, high) == (pytest.approx(0.7149, abs=1e-3), pytest.approx(0.9166, abs=1e-3))
    assert wilson(0, 10)[0] == 0.0
    assert wilson(10, 10)[1] == pytest.approx(1.0)
    mean, low, high = bootstrap_mean(np.random.default_rng(0).normal(1.0, 0.1, 400))
    assert mean == pytest.approx(1.0, abs=0.02)
    assert high - low == pytest.approx(2 * 1.96 * 0.1 / 20, rel=0.2)
