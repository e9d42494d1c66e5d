"""The environment in which a kick is distilled: how balls come, when episodes end, who goes on."""

from __future__ import annotations

import numpy as np
import pytest

from humanx_description import robot
from humanx_description.scene import default_qpos
from humanx_description.skills import load_skill
from humanx_training.xmimic.mpc.arrivals import Arrivals
from humanx_training.xmimic.mpc.bank import Bank
from humanx_training.xmimic.mpc.expert import KickExpert
from humanx_training.xmimic.mpc.kick_env import KickEnv, KickRanges, Outcome

CALM = KickRanges(
    absent=0.0, resting=0.0, joint=0.0, joint_vel=0.0, root_turn=0.0, root_vel=0.0, payload=0.0, trunk_shift=0.0,
    push=0.0, gain=0.0, heading=0.0, wait=(0.0, 0.0), foot_friction=(1.0, 1.0), loss=(0.0, 0.0),
)  # fmt: skip


def still_bank(frames: int = 120) -> Bank:
    """A bank whose kicks stand still: the robot lets every ball pass."""
    qpos = np.tile(default_qpos()[:36], (2, frames, 1))
    target = np.tile(robot.DEFAULT_JOINT_POS, (2, frames, 1))
    gain = np.zeros((2, frames, 29, 99), np.float32)
    return Bank(np.array([-0.3, 0.0]), qpos, np.zeros((2, frames, 35)), target, gain, frames // 2, 0.24, 0.01)


def make(count: int = 8, arrivals: Arrivals | None = None, **changes) -> KickEnv:
    ranges = KickRanges(**{**CALM.__dict__, **changes})
    env = KickEnv(load_skill('football'), KickExpert(still_bank(), count), count, 3, ranges, 1, arrivals=arrivals)
    return env


def test_balls_come_as_in_the_clips():
    turned = np.radians(10.0)
    arrivals = Arrivals(np.array([2.0]), np.array([turned]), np.array([1.1]), np.array([0.05]))
    env = make(arrivals=arrivals, clip_share=1.0)
    contact = np.array([0.24, -0.15 + 0.05])
    np.testing.assert_allclose(np.linalg.norm(env.start[:, :2] - contact, axis=1), 2.0)
    np.testing.assert_allclose(np.linalg.norm(env.velocity, axis=1), 1.1)
    # Straight at the place of contact.
    np.testing.assert_allclose(env.velocity[:, :2] / 1.1, (contact - env.start[:, :2]) / 2.0, atol=1e-12)


def run_to_the_end(env: KickEnv) -> None:
    for _ in range(round(env.end.max() / 0.01) + 1):
        done = env.step(np.zeros((env.n, 29)))
        if done.any():
            return
    pytest.fail('no episode ended')


@pytest.mark.parametrize('again', [0.0, 1.0])
def test_a_robot_that_stands_may_get_the_next_ball_where_it_is(again):
    env = make(again=again, episode=0.5, start_x=(2.9, 3.0), start_y=(-0.1, 0.0), clip_share=0.0)
    # Somewhere else, turned by 90 degrees.
    q = env.sim.buffers.qpos.copy()
    q[:, :2] = [5.0, -2.0]
    q[:, 3:7] = [np.sqrt(0.5), 0, 0, np.sqrt(0.5)]
    env.sim.set_state(q, env.sim.buffers.qvel.copy(), np.arange(env.n))
    run_to_the_end(env)
    assert all(outcome.upright for outcome in env.finished)
    place = env.sim.buffers.qpos[:, :2]
    if again:
        np.testing.assert_allclose(place, [[5.0, -2.0]] * env.n, atol=0.15)  # it leans meanwhile
        away = env.start[:, :2] - place
        assert np.all((away[:, 1] > 2.7) & (away[:, 1] < 3.1)), 'ahead of a robot that looks along y'
        assert np.all(env.velocity[:, 1] < -0.5)
        assert np.abs(env.velocity[:, 0]).max() < 0.1
    else:
        np.testing.assert_allclose(place, 0.0, atol=0.02)
        assert np.all(env.velocity[:, 0] < -0.5)


@pytest.mark.parametrize('chance', [0.0, 1.0])
def test_interaction_termination_ends_an_episode_whose_foot_missed(chance):
    env = make(interaction_termination=chance, again=0.0)
    env.expert.kicking[:] = True
    env.expert.frame[:] = env.expert.bank.contact + 20
    env.launch[:] = 0.0
    assert env.step(np.zeros((env.n, 29))).all() == bool(chance)


def test_the_angle_is_measured_from_the_way_back():
    env = make(count=1)
    env.start[0] = [0.0, 3.0, 0.11]
    env._leave[0] = [0.0, 2.0, 0.0, 0.0]  # from the origin along y, straight back
    env._touch_time[0] = 1.0
    outcome = env._outcome(0)
    assert isinstance(outcome, Outcome)
    assert outcome.angle == pytest.approx(0.0)
    assert outcome.success
    env._leave[0] = [2.0, 0.0, 0.0, 0.0]
    assert abs(env._outcome(0).angle) == pytest.approx(90.0)
    assert not env._outcome(0).success
