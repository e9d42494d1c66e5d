"""The shipped stand policy on the simulated robot."""

import mujoco
import numpy as np
import pytest

from humanx_description import robot
from humanx_description.scene import scene
from humanx_policy import library
from humanx_policy.runtime import PolicyRuntime
from humanx_policy.stand_trial import Push, StandTrial, run_trial


@pytest.fixture(scope='module')
def runtime() -> PolicyRuntime:
    return PolicyRuntime(library.find_policy('stand'))


def start() -> np.ndarray:
    qpos = np.zeros(36)
    qpos[2:4] = robot.DEFAULT_ROOT_HEIGHT, 1
    qpos[7:] = robot.DEFAULT_JOINT_POS
    return qpos


def test_without_the_policy_the_default_targets_fall():
    """The pose is no equilibrium: what the tests below see is the policy's doing."""
    model = scene(timestep=0.001)
    data = mujoco.MjData(model)
    data.qpos[:] = start()
    data.ctrl[:] = robot.DEFAULT_JOINT_POS
    mujoco.mj_step(model, data, 5000)
    assert data.qpos[2] < 0.6


@pytest.mark.parametrize(
    ('push', 'change'),
    [
        (Push(), {}),
        (Push((0.2, 0.0), 1.0), {}),
        (Push((-0.2, 0.0), 1.0), {}),
        (Push((0.0, 0.2), 1.0), {}),
        (Push(), {'friction': 0.4}),
        (Push(), {'payload': 2.0}),
        (Push(), {'state_age': 0.006, 'delay': 0.005}),
        (Push(), {'noise': 2.0}),
    ],
)
def test_it_stands(runtime, push, change):
    trial = run_trial(runtime, start(), push, seed=1, duration=4.0, **change)
    assert trial.upright
    assert trial.drift < 0.2


def test_a_push_beyond_the_feet_fells_it(runtime):
    """Nothing but a step helps at 1.5 m/s: a trial that could not fail would show nothing."""
    trial = run_trial(runtime, start(), Push((1.5, 0), 0.5), seed=1, duration=3.0)
    assert trial == StandTrial(False, float('inf'))
