"""Clips made feasible with their object: what is wanted of the object, a real kick through the command, a real lift."""

import dataclasses
import json
import sys
from pathlib import Path

import mujoco
import numpy as np
import pytest
import torch

from humanx.cli import main
from humanx_description.judge import SuccessRule
from humanx_description.scene import scene
from humanx_training.clip import InteractionClip, Phase
from humanx_training.xgen.check import check
from humanx_training.xgen.run import run
from humanx_training.xmimic.clip_set import make_clip_set
from humanx_training.xmimic.config import EnvConfig, InitConfig, RandomisationConfig
from humanx_training.xmimic.env import HumanXEnv
from humanx_training.xmimic.mpc import track_student, tracking
from humanx_training.xmimic.mpc.outcome import ObjectGoal
from humanx_training.xmimic.mpc.touches import around_touches, cut, measured_phases, set_free, touches

sys.path.insert(0, str(Path(__file__).parent))
from clips_for_tests import standing

RULE = SuccessRule('strike', bodies=('left_ankle_roll_link',))


def struck(speed: float = 2.0) -> InteractionClip:
    """Return a stance of 1.6 s whose ball lies still and leaves along x after a strike at 0.6 s."""
    clip = standing(160)
    pos = np.tile([0.5, 0.1, 0.11], (160, 1))
    pos[62:, 0] += 0.01 * speed * np.arange(98)
    contact = np.zeros_like(clip.contact)
    contact[60:62, 0] = True
    phases = (Phase('rest', 0, 60), Phase('contact', 60, 62, 'left_ankle_roll_link'), Phase('flight', 62, 160))
    return dataclasses.replace(clip, object_pos=pos, contact=contact, phases=phases)


def carried() -> InteractionClip:
    """Return a stance of 1.6 s whose ball rises from 0.11 to 0.61 m, held from 0.6 s on."""
    clip = struck()
    pos = np.tile([0.5, 0.1, 0.11], (160, 1))
    pos[60:, 2] += 0.005 * np.arange(100)
    contact = np.zeros_like(clip.contact)
    contact[60:, 0] = True
    return dataclasses.replace(
        clip, object_pos=pos, contact=contact, phases=(Phase('rest', 0, 60), Phase('contact', 60, 160, 'palms'))
    )


def states(clip: InteractionClip) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return positions, velocities and touches of a motion that is the clip."""
    qpos, qvel = clip.qpos(), clip.qvel()
    return qpos, qvel, clip.contact.any(1)


def test_touches_are_found_cut_out_and_moved_to_where_they_are_measured():
    clip = struck()
    (touch,) = touches(clip)
    assert (touch.start, touch.end, touch.free, touch.held) == (60, 62, True, False)
    (touch,) = touches(carried())
    assert (touch.free, touch.held) == (False, True)
    part = around_touches(clip, 0.3, 0.5)
    assert part.num_frames == 30 + 2 + 50
    assert [(p.kind, p.start, p.end) for p in part.phases] == [('rest', 0, 30), ('contact', 30, 32), ('flight', 32, 82)]
    np.testing.assert_array_equal(part.object_pos, clip.object_pos[30:112])
    assert around_touches(clip, None, None).num_frames == 160
    assert [p.kind for p in cut(clip, 61, 160).phases] == ['contact', 'flight']
    later = np.zeros(160, bool)
    later[64:67] = True
    assert [(p.start, p.end) for p in measured_phases(clip.phases, later)] == [(0, 64), (64, 67), (67, 160)]
    assert measured_phases(clip.phases, np.zeros(160, bool)) == clip.phases


def test_an_object_is_free_from_where_its_partner_lets_go():
    assert set_free(struck()) == 0
    thrown = dataclasses.replace(struck(), phases=(
        Phase('rest', 0, 20), Phase('flight', 20, 60), Phase('contact', 60, 62, ''), Phase('flight', 62, 160)))
    assert set_free(thrown) == 20


def test_the_cost_is_zero_on_the_clip_and_grows_with_what_is_missed():
    clip = struck()
    bodies = np.zeros((160, 2, 3))
    goal = ObjectGoal(clip, bodies)

    def cost(frame: int, shift=(0, 0, 0), change=(0, 0, 0), touching=(True, False), goal=goal, clip=clip) -> float:
        vel = goal.vel[frame] + change
        return float(goal.cost(
            frame, clip.object_pos[frame : frame + 1] + shift, vel[None], bodies[frame : frame + 1],
            np.array([touching]),
        )[0])

    assert cost(55) == cost(80) == 0.0
    # A body 15 cm off its place at the object: 0.5 (1 - exp(-1) + 0.25).
    assert cost(55, shift=(0.15, 0, 0)) == pytest.approx(0.5 * (1 - np.exp(-1) + 0.25))
    # 0.6 m/s off the wanted velocity: 1 - exp(-1) + 0.25; just after the strike, and long after it, nothing.
    assert cost(80, change=(-0.6, 0, 0)) == pytest.approx(1 - np.exp(-1) + 0.25)
    assert cost(80, change=(-1.2, 0, 0)) > cost(80, change=(0, -0.6, 0))
    assert cost(63, change=(-2, 0, 0)) == cost(140, change=(-2, 0, 0)) == cost(30, shift=(1, 0, 0)) == 0.0
    np.testing.assert_allclose(ObjectGoal(clip, bodies, speed=0.5).vel[80], [1.0, 0, 0], atol=1e-9)

    clip = carried()
    goal = ObjectGoal(clip, bodies)
    options = {'goal': goal, 'clip': clip}
    assert cost(100, **options) == 0.0
    assert cost(100, touching=(False, True), **options) == 1.0  # the hand that should hold it does not
    # 10 cm too low: as a place (and for the body that holds it), and as a height.
    place = 1 - np.exp(-((0.1 / 0.15) ** 2)) + 0.25 * 0.1 / 0.15
    assert cost(100, shift=(0, 0, -0.1), **options) == pytest.approx(1.5 * place + 1 - np.exp(-1) + 0.25)


def test_verdict_on_a_ball_that_leaves():
    clip = struck()
    goal = ObjectGoal(clip, np.zeros((160, 2, 3)))
    qpos, qvel, touched = states(clip)
    good, measures = goal.judge(RULE, qpos, qvel, touched)
    assert good
    assert measures == {'speed_m_s': 2.0, 'wanted_speed_m_s': 2.0, 'angle_deg': 0.0}
    slow, aside, fallen = qvel.copy(), qvel.copy(), qpos.copy()
    slow[:, 35:38] *= 0.4
    aside[:, 36] = aside[:, 35]
    fallen[-1, 2] = 0.2
    assert not goal.judge(RULE, qpos, slow, touched)[0]
    assert goal.judge(RULE, qpos, aside, touched) == (False, pytest.approx({
        'speed_m_s': 2.83, 'wanted_speed_m_s': 2.0, 'angle_deg': 45.0}))
    assert not goal.judge(RULE, fallen, qvel, touched)[0]
    assert not goal.judge(RULE, qpos, qvel, np.zeros(160, bool))[0]


def test_verdict_on_an_object_that_is_lifted():
    clip = carried()
    goal = ObjectGoal(clip, np.zeros((160, 2, 3)))
    qpos, qvel, touched = states(clip)
    good, measures = goal.judge(RULE, qpos, qvel, touched)
    assert good
    assert measures == {'height_m': 0.605, 'wanted_height_m': 0.605}
    low = qpos.copy()
    low[:, 38] = 0.11 + 0.7 * (qpos[:, 38] - 0.11)
    assert not goal.judge(RULE, low, qvel, touched)[0]
    # A height that it reaches only after the hands have lost it does not count.
    lost = touched.copy()
    lost[120:] = False
    assert not goal.judge(RULE, qpos, qvel, lost)[0]


@pytest.fixture(scope='module')
def resting_ball(data, tmp_path_factory):
    """The original clip of the football set, its ball at rest where it is struck."""
    folder = tmp_path_factory.mktemp('kick')
    run('football', folder / 'set', clips=1, seed=0, workers=1, progress=False)
    clip = InteractionClip.load(folder / 'set/clip_000.npz')
    strike = next(index for index, phase in enumerate(clip.phases) if phase.kind == 'contact')
    at = clip.phases[strike].start
    pos, quat = clip.object_pos.copy(), clip.object_quat.copy()
    pos[:at], quat[:at] = pos[at], quat[at]
    phases = (Phase('rest', 0, at), *clip.phases[strike:])
    path = folder / 'ball_at_rest.npz'
    dataclasses.replace(clip, object_pos=pos, object_quat=quat, phases=phases).save(path)
    return path


SETTINGS = ['before=1.0', 'after=1.2', 'passes=2', 'search.samples=64', 'search.iterations=2', 'search.horizon=40']


def kick(clip, out, *settings: str) -> int:
    return main(['train', 'teacher', '--teacher', 'mpc', '--with-object', '--skill', 'football', '--clips', str(clip),
                 '--out', str(out), '--set', *SETTINGS, *settings])  # fmt: skip


@pytest.fixture(scope='module')
def kicked(resting_ball, tmp_path_factory):
    out = tmp_path_factory.mktemp('teacher') / 'out'
    assert kick(resting_ball, out) == 0
    return out


def test_the_ball_leaves_toward_its_target(kicked):
    (entry,) = json.loads((kicked / 'teacher.json').read_text())['deviation_from_clip']
    assert entry['reached']
    assert entry['speed_m_s'] > 1.5
    assert entry['angle_deg'] < 20
    assert entry['feedback_repeats'] > 0.9
    assert entry['mean_m'] < 0.06  # of the key bodies from the original; the spike: 7.4 cm
    clip = InteractionClip.load(kicked / 'clips/clip_000.npz')
    touching = [clip.contact_bodies[k] for k in np.flatnonzero(clip.contact.any(0))]
    assert touching == ['right_ankle_roll_link']
    # So short a search leaves an ankle a little beyond its soft stop.
    assert all('beyond its range' in p for p in check(clip).problems)


def test_every_frame_leads_to_the_next_with_the_ball(kicked):
    clip = InteractionClip.load(kicked / 'clips/clip_000.npz')
    motion = tracking.load_feasible(kicked / 'motions/clip_000.npz')
    model = scene((dataclasses.replace(clip.object_spec(), fixed=False),))
    data = mujoco.MjData(model)
    strike = next(p for p in clip.phases if p.kind == 'contact')
    worst = 0.0
    for t in range(strike.start - 40, strike.end + 40):
        data.qpos[:] = clip.qpos()[t]
        data.qvel[:] = np.concatenate([motion.qvel[t], clip.qvel()[t, 35:]])
        data.ctrl[:] = motion.target[t]
        data.qacc_warmstart[:] = 0
        mujoco.mj_step(model, data, 2)
        worst = max(worst, float(np.abs(data.qpos[:36] - motion.qpos[t + 1]).max()))
    assert worst < 5e-3


@pytest.mark.slow
def test_without_the_search_the_foot_hardly_moves_the_ball(resting_ball, tmp_path):
    assert kick(resting_ball, tmp_path / 'out', 'tries=1', 'search.sigma=0', 'search.samples=8') == 1
    (entry,) = json.loads((tmp_path / 'out/teacher.json').read_text())['deviation_from_clip']
    assert entry['speed_m_s'] < 1.2
    assert not (tmp_path / 'out/clips').exists()


@pytest.mark.slow
def test_ppo_and_the_student_take_the_clips(kicked, tmp_path, monkeypatch):
    monkeypatch.setattr(track_student, 'PHASES', 4)
    clips = make_clip_set([InteractionClip.load(kicked / 'clips/clip_000.npz')])
    settings = EnvConfig(
        num_envs=2, residual=False, init=InitConfig(disturb=False), randomisation=RandomisationConfig(enabled=False)
    )
    env = HumanXEnv(clips, settings, mode='mocap')
    motion = tracking.load_feasible(kicked / 'motions/clip_000.npz')
    teacher = tracking.TrackingTeacher(env, [motion])
    env.reset(torch.arange(2), torch.zeros(2, dtype=torch.long))
    env.observe()
    speed = 0.0
    for _ in range(len(motion.qpos) - 2):
        _, _, done, _ = env.step(teacher.label(env))
        assert not done.any()
        speed = max(speed, float(env.sim.qvel[0, 35:38].norm()))
    assert speed > 1.0  # the feedback alone repeats the kick
    env.close()
    options = ['train', 'student', '--teacher', 'mpc', '--skill', 'football', '--teacher-from', str(kicked)]
    options += ['--envs', '4', '--out', str(tmp_path / 's'), '--set', 'dagger.iterations=1', 'dagger.steps=2']
    assert main([*options, 'dagger.updates=1']) == 0
    assert (tmp_path / 's/football.onnx').is_file()


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (['--clips', 'alone.npz'], 'alone.npz: phases hold no contact'),
        (['--clips', 'untouched.npz'], 'untouched.npz: contact is false throughout'),
        (['--clips', 'racket.npz'], "racket.npz: contact_bodies name 'racket'; expected bodies of the robot"),
        (['--clips', 'absent.npz'], 'absent.npz: does not exist'),
        ([], '--clips is missing'),
        (['--clips', 'kick.npz', '--set', 'search.horizon=0'], 'horizon is 0; expected 1 or more'),
        (['--clips', 'kick.npz', '--set', 'tries=0'], 'tries of 1 or more'),
        (['--clips', 'kick.npz', '--set', 'smaples=3'], "unknown field 'smaples'"),
        (['--clips', 'kick.npz', '--seed', '-1'], '--seed is -1'),
        (['--clips', 'kick.npz', '--teacher', 'ppo'], 'is for train teacher --teacher mpc'),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    standing(80, ball=False).save(tmp_path / 'alone.npz')
    clip = struck()
    clip.save(tmp_path / 'kick.npz')
    dataclasses.replace(clip, contact=np.zeros_like(clip.contact)).save(tmp_path / 'untouched.npz')
    dataclasses.replace(clip, contact_bodies=('racket', 'pelvis')).save(tmp_path / 'racket.npz')
    options = ['train', 'teacher', '--teacher', 'mpc', '--with-object', '--skill', 'football', '--out', 'out']
    assert main([*options, *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert 'Traceback' not in error
    assert not (tmp_path / 'out').exists()


@pytest.mark.slow
def test_a_box_is_lifted_to_its_height_with_both_hands(data, tmp_path):
    run('cargo', tmp_path / 'set', clips=1, seed=0, workers=1, progress=False)
    options = ['train', 'teacher', '--teacher', 'mpc', '--with-object', '--skill', 'cargo']
    assert main([*options, '--clips', str(tmp_path / 'set'), '--out', str(tmp_path / 'out')]) == 0
    (entry,) = json.loads((tmp_path / 'out/teacher.json').read_text())['deviation_from_clip']
    assert entry['reached']
    assert abs(entry['height_m'] - entry['wanted_height_m']) < 0.1
    clip = InteractionClip.load(tmp_path / 'out/clips/clip_000.npz')
    hands = [clip.contact_bodies.index(f'{side}_wrist_yaw_link') for side in ('left', 'right')]
    assert clip.contact[-100:, hands].all()
