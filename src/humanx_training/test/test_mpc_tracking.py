"""The model-based teacher of a clip's body: planted motions, feasibility, labels that do not depend on the place."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from humanx.cli import main
from humanx_description import robot
from humanx_description.errors import UserError
from humanx_description.scene import default_qpos, scene
from humanx_training import rotation
from humanx_training.clip import InteractionClip
from humanx_training.xmimic import checkpoint
from humanx_training.xmimic.batch_policy import OnnxPolicy
from humanx_training.xmimic.clip_set import make_clip_set
from humanx_training.xmimic.config import EnvConfig, InitConfig, RandomisationConfig, TerminationConfig
from humanx_training.xmimic.env import HumanXEnv
from humanx_training.xmimic.mpc import feasible as feasible_module
from humanx_training.xmimic.mpc import track_student, tracking
from humanx_training.xmimic.mpc.feasible import make_feasible
from humanx_training.xmimic.mpc.inverse import BodySolver
from humanx_training.xmimic.mpc.lqr import Feedback, LqrWeights
from humanx_training.xmimic.mpc.on_the_spot import OnTheSpot, on_the_spot
from humanx_training.xmimic.mpc.track_student import evaluation


def raised_arms(seconds: float = 0.6, fps: float = 50.0) -> InteractionClip:
    """Return a clip of the stance in which both arms go up by 0.8 rad."""
    frames = int(seconds * fps)
    qpos = np.tile(default_qpos(), (frames, 1))
    for arm in (robot.LEFT_ARM, robot.RIGHT_ARM):
        qpos[:, 7 + arm.start] -= 0.8 * np.linspace(0, 1, frames)
    return InteractionClip(
        fps=fps, root_pos=qpos[:, :3], root_quat=qpos[:, 3:7], joint_pos=qpos[:, 7:], object_name='',
        object_shape={}, object_pos=np.zeros((frames, 3)), object_quat=np.tile([1.0, 0, 0, 0], (frames, 1)),
        contact=np.zeros((frames, 0), bool), contact_bodies=(),
    )  # fmt: skip


@pytest.fixture(scope='module')
def planted() -> InteractionClip:
    return on_the_spot(raised_arms(), OnTheSpot(lead=0.3, hold=0.3, slow=1.5))


@pytest.fixture(scope='module')
def solved(planted):
    reference = tracking.clip_reference(scene(), planted)
    return tracking.solve(reference), reference


def test_planted_motion_keeps_its_feet_and_its_balance(planted):
    solver, home = BodySolver(scene()), default_qpos()
    assert planted.num_frames == pytest.approx(100 * (0.3 + 1.5 * planted_part() + 0.3), abs=3)
    for qpos in planted.qpos()[::10, :36]:
        for foot in (0, 1):
            position, quat = solver.foot_pose(qpos, foot)
            np.testing.assert_allclose(position[:2], solver.foot_pose(home, foot)[0][:2], atol=1e-3)
            assert position[2] == pytest.approx(robot.FOOT_SOLE_OFFSET, abs=1e-3)
            assert np.degrees(np.arccos(np.clip(rotation.to_matrix(quat)[2, 2], -1, 1))) < 0.5
        centre = solver.centre_of_mass(qpos)
        assert -0.03 < centre[0] < 0.1
        assert abs(centre[1]) < 0.03


def planted_part() -> float:
    return raised_arms().duration


def test_a_part_outside_the_clip_is_refused():
    with pytest.raises(ValueError, match='within the clip'):
        on_the_spot(raised_arms(), OnTheSpot(start=0.2, end=9.0))


def test_foot_load_of_a_step():
    feet = np.zeros((50, 2, 3))
    feet[:, :, 2] = robot.FOOT_SOLE_OFFSET
    feet[20:40, 1, 2] += 0.05
    load = tracking.foot_load(feet)
    assert (load[:, 0] == 1).all()
    assert load[30, 1] == 0
    assert load[5, 1] == 1


def test_feasible_motion_really_leads_from_frame_to_frame(solved, planted):
    feasible, reference = solved
    assert feasible.complete
    assert feasible.history[-1]['joint'] < 0.01
    clip = tracking.feasible_clip(planted, feasible)
    assert clip.num_frames == len(reference.qpos)


def test_every_pass_that_counts_is_nearer_to_the_reference(planted, monkeypatch):
    reference = tracking.clip_reference(scene(), planted)
    whole = make_feasible(scene(), reference, LqrWeights(), passes=4, good=0.0)
    joints = [entry['joint'] for entry in whole.history]
    assert whole.deviation['joint'] == min(joints)
    better = joints if joints[-1] == min(joints) else joints[:-1]  # the last pass may be the one that was given up
    assert better == sorted(better, reverse=True)
    # Where the linear model promises too much, half of the step is taken: ten whole steps at once lead nowhere.
    monkeypatch.setattr(feasible_module, '_STEP_SHARES', (10.0, 1.0))
    assert make_feasible(scene(), reference, LqrWeights(), passes=1, good=0.0).complete


def test_a_motion_that_nothing_carries_is_refused(planted):
    # Leaning 40 degrees over flat feet.
    lean = np.tile([np.cos(0.35), 0, np.sin(0.35), 0], (planted.num_frames, 1))
    tilted = dataclasses.replace(planted, root_quat=lean)
    with pytest.raises(UserError, match='no feasible version'):
        tracking.solve(tracking.clip_reference(scene(), tilted), passes=1)


def make_env(clip: InteractionClip) -> HumanXEnv:
    config = EnvConfig(
        num_envs=3, residual=False, init=InitConfig(random_phase=False, disturb=False),
        randomisation=RandomisationConfig(enabled=False),
    )
    return HumanXEnv(make_clip_set([clip]), config, mode='nep', groups=('policy',))


def test_labels_do_not_depend_on_where_the_robot_stands(solved, planted):
    feasible, _ = solved
    env = make_env(tracking.feasible_clip(planted, feasible))
    teacher = tracking.TrackingTeacher(env, [feasible])
    qpos, qvel = env.sim.qpos.clone(), env.sim.qvel.clone()
    yaw = 0.7
    turned = rotation.multiply(rotation.from_yaw(yaw), qpos[1, 3:7].numpy().astype(float))
    qpos[1, :2] = torch.tensor([2.0, -1.0])
    qpos[1, 3:7] = torch.as_tensor(turned, dtype=qpos.dtype)
    env.sim.set_state(qpos, qvel)
    label = teacher.label(env)
    torch.testing.assert_close(label[1], label[0], atol=2e-3, rtol=0)
    env.close()


def test_the_teacher_follows_the_motion_to_its_end(solved, planted):
    feasible, _ = solved
    env = make_env(tracking.feasible_clip(planted, feasible))
    teacher = tracking.TrackingTeacher(env, [feasible])
    env.reset(torch.arange(3), torch.zeros(3, dtype=torch.long))
    for _ in range(env.clips.qpos.shape[0] - 2):
        _, _, done, _ = env.step(teacher.label(env))
        assert not done.any()
    assert (env.snapshot().qpos[:, 7:36] - env.snapshot().ref_qpos[:, 7:36]).abs().max() < 0.05
    env.close()


def test_several_motions_in_one_law_begin_each_with_their_own_command(solved):
    feasible, _ = solved
    count = 4
    still = np.zeros((count, 29, 99), np.float32)
    still[:, :, 70:] = np.eye(29)  # answers with the deviation of the previous command
    laws = [
        Feedback(feasible.qpos[:count], feasible.qvel[:count], np.full((count, 29), value), still)
        for value in (0.1, 0.5)
    ]
    law = Feedback.joined(laws)
    assert len(law) == 2 * count
    assert law.starts == (0, count)
    frame = np.array([0, count, count + 1])
    previous = law.target[frame]
    # At a motion's first frame the command before is its own, not the last one of the motion before it.
    np.testing.assert_allclose(law(frame, law.qpos[frame], law.qvel[frame], previous), previous, atol=1e-6)


def test_the_teacher_gives_up_on_a_robot_that_has_fallen(solved, planted):
    feasible, _ = solved
    env = make_env(tracking.feasible_clip(planted, feasible))
    teacher = tracking.TrackingTeacher(env, [feasible])
    qpos = env.sim.qpos.clone()
    qpos[1, 3:7] = torch.tensor([np.cos(0.5), 0.0, np.sin(0.5), 0.0], dtype=qpos.dtype)
    env.sim.set_state(qpos, env.sim.qvel.clone())
    teacher.label(env)
    assert teacher.strayed.tolist() == [False, True, False]
    env.close()


def test_conditions_of_the_final_measurement():
    training = EnvConfig(
        num_envs=8, init=InitConfig(joint_pos=0.03), randomisation=RandomisationConfig(push_speed=0.1),
        termination=TerminationConfig(motion=0.2),
    )
    clean = evaluation(training, 'clean', 3)
    assert clean.num_envs == 3
    assert not clean.init.disturb
    assert not clean.randomisation.enabled
    assert clean.termination == TerminationConfig()
    assert evaluation(training, 'training', 3).randomisation.push_speed == 0.1
    full = evaluation(training, 'full', 3)
    assert full.randomisation == RandomisationConfig()
    assert not full.init.disturb
    assert evaluation(training, 'full_disturbed_start', 3).init == InitConfig()


def test_from_a_teacher_folder_to_a_measured_policy(solved, planted, tmp_path, monkeypatch):
    feasible, _ = solved
    source = tmp_path / 'teacher'
    for folder in ('clips', 'motions', 'originals'):
        (source / folder).mkdir(parents=True)
    tracking.save_feasible(source / 'motions/clip_000.npz', feasible)
    tracking.feasible_clip(planted, feasible).save(source / 'clips/clip_000.npz')
    planted.save(source / 'originals/clip_000.npz')
    monkeypatch.setattr(track_student, 'PHASES', 4)
    options = ['train', 'student', '--teacher', 'mpc', '--skill', 'track', '--teacher-from', str(source), '--envs', '4']
    out = tmp_path / 'student'
    options += ['--out', str(out), '--set', 'dagger.iterations=2', 'dagger.steps=4', 'dagger.updates=2']
    assert main(options) == 0
    report = json.loads((out / 'report.json').read_text())
    assert set(report) == set(track_student.CONDITIONS)
    assert all(0 <= row['reached'] <= row['phases'] == 4 for row in report.values())
    assert OnnxPolicy(out / 'track.onnx').metadata.skill == 'track'
    assert main(options) == 2  # nothing is overwritten
    resumed = [o for o in options if o != 'dagger.iterations=2'] + ['dagger.iterations=0', '--resume']
    assert main(resumed) == 0
    # PPO goes on from the best student, is measured against it, and what is exported is the better one.
    tuned = [*resumed[:-1], 'ppo.steps=4', 'ppo.critic_warmup=0', 'evaluate_every=1', '--resume', '--iterations', '2']
    assert main(tuned) == 0
    curve = json.loads((out / 'curve.json').read_text())
    assert 0 <= curve[-1]['ppo_iterations'] <= 2
    best = checkpoint.load(out / 'ppo/best.pt', 'student')
    network = OnnxPolicy(out / 'track.onnx')
    assert network.metadata.provenance['ppo_iterations'] == best['iteration']


def test_a_clip_that_never_stands_is_refused(planted, tmp_path, capsys):
    flying = dataclasses.replace(planted, root_pos=planted.root_pos + np.linspace(0, 9, planted.num_frames)[:, None])
    flying.save(tmp_path / 'flying.npz')
    options = ['train', 'teacher', '--teacher', 'mpc', '--skill', 'track', '--clips', str(tmp_path / 'flying.npz')]
    assert main([*options, '--out', str(tmp_path / 'out')]) == 2
    assert 'flying.npz' in capsys.readouterr().err
