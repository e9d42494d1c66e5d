"""The driver's own standing, in MuJoCo at 1 kHz with the simulated robot's motors."""

import numpy as np
import pytest

mujoco = pytest.importorskip('mujoco')
# ruff: noqa: E402

from humanx_description import robot
from humanx_description.errors import UserError
from humanx_g1_driver.commands import Clamps, MotorCommand
from humanx_g1_driver.stand import STAND_KD, STAND_KP, StandController


@pytest.fixture(scope='module')
def model():
    from humanx_description.scene import scene

    try:
        return scene([], timestep=0.001)
    except UserError as error:
        pytest.skip(str(error))


def _stand(model, *, push=(0.0, 0.0), seconds=6.0, delay=2, start=None, mass=1.0):
    """Stand for some seconds, pushed at the torso for 0.1 s after 3 s (N, world); return the MuJoCo data."""
    from humanx_description.scene import default_qpos
    from humanx_g1_driver.sim.motors import Motors

    data = mujoco.MjData(model)
    data.qpos[:] = default_qpos()
    motors = Motors(model, delay_steps=delay)
    body_mass = model.body_mass.copy()
    model.body_mass[:] *= mass
    stand, clamps, begin, command = StandController(), Clamps(3.0, 0.001), MotorCommand(), MotorCommand()
    begin.set_damping(data.qpos[7:36], 5.0)
    if start is not None:
        data.qpos[7:36] = begin.q[:] = start
    stand.begin(begin, 0.0, 1.0)
    clamps.restart(begin.q)
    rng = np.random.default_rng(0)
    try:
        for step in range(int(seconds * 1000)):
            t = step * 0.001
            gyro = data.qvel[3:6] + rng.normal(size=3) * 0.02
            stand.command(t, data.qpos[3:7], gyro, command)
            clamps.apply(command, data.qpos[7:36], data.qvel[6:35])
            motors.command[:] = np.stack([command.q, np.zeros(29), command.tau, command.kp, command.kd])
            motors.accept()
            motors.apply(data)
            pushed = 3.0 <= t < 3.1
            data.xfrc_applied[model.body('torso_link').id, :2] = push if pushed else (0.0, 0.0)
            mujoco.mj_step(model, data)
    finally:
        model.body_mass[:] = body_mass
    return data


def _stands(data) -> bool:
    upright = 1.0 - 2.0 * (data.qpos[4] ** 2 + data.qpos[5] ** 2)
    return bool(data.qpos[2] > 0.7 and upright > np.cos(0.1))


def test_it_stands_still(model):
    data = _stand(model)
    assert _stands(data)
    assert np.abs(data.qvel[:35]).max() < 0.05
    np.testing.assert_allclose(data.qpos[7:36], robot.DEFAULT_JOINT_POS, atol=0.12)


@pytest.mark.parametrize('push', [(60, 0), (-60, 0), (0, 60), (45, -45)])
def test_it_withstands_a_push_of_six_newton_seconds(model, push):
    assert _stands(_stand(model, push=push))


def test_stiffness_alone_would_not_do(model, monkeypatch):
    """The test above can fail: without the IMU the same push fells the robot."""
    for gain in ('TILT_GAIN', 'RATE_GAIN', 'SLOW_GAIN'):
        monkeypatch.setattr(StandController, gain, 0.0)
    assert not _stands(_stand(model, push=(60, 0)))


@pytest.mark.parametrize(('delay', 'mass'), [(5, 1.0), (2, 1.1), (2, 0.9)])
def test_it_stands_with_more_delay_or_another_weight(model, delay, mass):
    assert _stands(_stand(model, delay=delay, mass=mass, push=(40, 0)))


def test_the_move_is_smooth_and_ends_in_the_pose():
    stand, begin, out = StandController(), MotorCommand(), MotorCommand()
    begin.q[:], begin.kp[:], begin.kd[:] = 0.4, 80.0, 2.0
    stand.begin(begin, 10.0, 1.0)
    quat, gyro = np.array([1.0, 0, 0, 0]), np.zeros(3)
    stand.command(10.0, quat, gyro, out)
    np.testing.assert_allclose(out.q, begin.q)
    np.testing.assert_allclose(out.kp, begin.kp)
    last, steps = out.q.copy(), []
    for k in range(1, 1001):
        stand.command(10.0 + k * 0.001, quat, gyro, out)
        steps.append(np.abs(out.q - last).max())
        last = out.q.copy()
    assert stand.settled(11.0)
    assert not stand.settled(10.99)
    assert max(steps) < 0.004  # under 4 rad/s
    ankles = [i for i, name in enumerate(robot.JOINT_NAMES) if 'ankle' in name]
    others = np.setdiff1d(np.arange(29), ankles)
    np.testing.assert_allclose(out.q[others], robot.DEFAULT_JOINT_POS[others])
    np.testing.assert_allclose(out.q[ankles], robot.DEFAULT_JOINT_POS[ankles], atol=0.02)
    np.testing.assert_allclose(out.kp, STAND_KP)
    np.testing.assert_allclose(out.kd, STAND_KD)


@pytest.mark.parametrize(('angle', 'axis', 'joint'), [(0.1, 2, 'ankle_pitch'), (0.1, 1, 'ankle_roll')])
def test_leaning_presses_the_foot_down_on_that_side(angle, axis, joint):
    """A pelvis tilted forward (rotation about +y) presses the toes down; to the right (about +x), the right edge."""
    stand, begin, out = StandController(), MotorCommand(), MotorCommand()
    stand.begin(begin, 0.0, 1.0)
    quat = np.zeros(4)
    quat[0], quat[axis] = np.cos(angle / 2), np.sin(angle / 2)
    for yaw in (0.0, 2.0):  # the heading must not matter
        turn = np.array([np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)])
        turned = np.zeros(4)
        mujoco.mju_mulQuat(turned, turn, quat)
        stand.begin(begin, 0.0, 1.0)
        stand.command(5.0, turned, np.zeros(3), out)
        for side in ('left', 'right'):
            index = robot.JOINT_INDEX[f'{side}_{joint}_joint']
            assert out.q[index] - robot.DEFAULT_JOINT_POS[index] == pytest.approx(
                StandController.TILT_GAIN * angle, abs=0.01
            )
