"""The simulated robot without clocks and wires."""

import mujoco
import numpy as np
import pytest

from humanx_description import robot
from humanx_description.skills import list_skills, load_skill
from humanx_g1_driver.sim.motors import DQ, KD, KP, TAU, Motors, Q
from humanx_g1_driver.sim.options import SensorNoise, WorldConfig
from humanx_g1_driver.sim.protocol import GantryState, MotorState
from humanx_g1_driver.sim.world import World

QUIET = SensorNoise(0.0, 0.0, 0.0, 0.0, 0.0)


def hold(world: World, stiffness: float = 3.0) -> None:
    command = world.motors.command
    command[:] = 0.0
    command[Q] = robot.DEFAULT_JOINT_POS
    command[KP] = robot.KP * stiffness
    command[KD] = robot.KD * stiffness**0.5
    command[KP, [4, 10]], command[KD, [4, 10]] = 300.0, 6.0
    world.motors.accept()


def stand(world: World, steps: int) -> None:
    for _ in range(steps):
        hold(world)
        world.step()


@pytest.fixture(scope='module')
def football() -> World:
    return World(load_skill('football'))


@pytest.fixture(scope='module')
def standing() -> World:
    return World(load_skill('stand'), WorldConfig(noise=QUIET, actuation_delay_ms=0))


def test_hangs_without_torque_then_lowers_onto_its_feet(football: World) -> None:
    football.reset(0)
    for _ in range(500):
        football.step()
    assert football.motors.state is MotorState.IDLE
    assert football.gantry.state is GantryState.HELD
    feet = {'left_ankle_roll_link', 'right_ankle_roll_link'}
    assert not any(set(pair) & feet for pair in football.take_contacts() if 'world' in pair)
    stand(football, 1000)
    football.gantry.lower()
    stand(football, 3000)
    assert football.standing
    football.take_contacts()
    stand(football, 2000)
    assert football.data.qpos[2] > 0.7
    touching = {a if b == 'world' else b for a, b in football.take_contacts() if 'world' in (a, b)}
    assert touching == feet | {'ball'}


def test_a_limp_robot_falls_when_the_gantry_lets_go(standing: World) -> None:
    standing.reset(0)
    standing.gantry.drop()
    for _ in range(2500):
        standing.step()
    assert standing.data.qpos[2] < 0.45


def test_same_seed_same_commands_same_trajectory(football: World) -> None:
    ends = []
    for seed in (3, 3, 4):
        football.reset(seed)
        stand(football, 300)
        ends.append((football.data.qpos.copy(), football.sensors.joint_pos.copy()))
    assert np.array_equal(ends[0][0], ends[1][0])
    assert np.array_equal(ends[0][1], ends[1][1])
    assert not np.array_equal(ends[0][1], ends[2][1])


def test_torque_follows_the_motor_law_and_stops_at_the_effort_limit(standing: World) -> None:
    world = standing
    world.reset(0)
    command = world.motors.command
    command[Q], command[KP], command[KD], command[TAU] = robot.DEFAULT_JOINT_POS + 0.02, 30.0, 0.5, 0.3
    command[DQ] = 0.1
    world.motors.accept()
    before = world.data.qpos[7:36].copy(), world.data.qvel[6:35].copy()
    world.step()
    expected = 30.0 * (command[Q] - before[0]) + 0.5 * (command[DQ] - before[1]) + 0.3
    np.testing.assert_allclose(world.sensors.torque, expected, atol=1e-9)
    command[Q] += 100.0
    world.motors.accept()
    world.step()
    np.testing.assert_allclose(world.sensors.torque, robot.EFFORT_LIMIT)


def test_strong_damping_is_stable_on_the_lightest_joint(standing: World) -> None:
    standing.reset(0)
    standing.data.qvel[6:35] = 3.0
    for _ in range(200):
        standing.motors.command[:] = 0.0
        standing.motors.command[KD] = 20.0
        standing.motors.accept()
        standing.step()
    assert np.abs(standing.data.qvel[6:35]).max() < 0.5


@pytest.mark.parametrize('delay', [0, 1, 7])
def test_actuation_delay_in_whole_milliseconds(delay: int) -> None:
    world = World(load_skill('stand'), WorldConfig(noise=QUIET, actuation_delay_ms=delay))
    world.motors.command[TAU, 20] = 1.0
    world.motors.accept()
    torques = []
    for _ in range(10):
        world.step()
        torques.append(world.sensors.torque[20])
    assert torques.index(1.0) == delay


def test_motors_damp_by_themselves_in_silence_until_a_command_comes() -> None:
    world = World(load_skill('stand'), WorldConfig(noise=QUIET, command_timeout_ms=20, silent_damping=4.0))
    stand(world, 50)
    for _ in range(19):
        world.step()
    assert world.motors.state is MotorState.COMMANDED
    world.step()
    assert world.motors.state is MotorState.DAMPING
    for _ in range(5):
        world.step()
    velocity = world.data.qvel[6:35].copy()
    world.step()
    np.testing.assert_allclose(world.sensors.torque, -4.0 * velocity, atol=1e-9)
    hold(world)
    assert world.motors.state is MotorState.COMMANDED


def test_imu_at_rest_reads_gravity_and_upright(standing: World) -> None:
    standing.reset(0)
    stand(standing, 2000)
    np.testing.assert_allclose(standing.sensors.accel, [0, 0, 9.81], atol=0.5)
    np.testing.assert_allclose(standing.sensors.quat, [1, 0, 0, 0], atol=0.02)
    np.testing.assert_allclose(standing.sensors.gyro, 0, atol=0.05)


def test_noise_has_the_size_that_was_asked_for(football: World) -> None:
    football.reset(0)
    errors = []
    for _ in range(400):
        football.step()
        errors.append(football.sensors.joint_vel - football.data.qvel[6:35])
    assert np.std(errors) == pytest.approx(SensorNoise().joint_vel, rel=0.1)
    assert abs(np.linalg.norm(football.sensors.quat) - 1) < 1e-12


class TestEpisode:
    def run(self, world: World, steps: int) -> np.ndarray:
        track = []
        for _ in range(steps):
            hold(world)
            world.step()
            track.append(np.concatenate([world.data.qpos[36:39], world.data.qvel[35:38]]))
        return np.array(track)

    def test_ball_waits_for_run_and_its_delay_then_rolls_as_drawn(self, football: World) -> None:
        football.reset(5)
        scenario = football.skill.scenario
        assert np.ptp(self.run(football, 300)[:, :3], axis=0).max() < 1e-9
        football.begin_run()
        delay = football.episode.start.delay
        assert scenario.delay_s[0] <= delay <= scenario.delay_s[1]
        track = self.run(football, int(delay * 1000) + 300)
        moving = np.flatnonzero(np.abs(track[:, 3]) > 0.1)
        assert moving[0] == pytest.approx(delay * 1000, abs=2)
        launched = track[moving[0]]
        np.testing.assert_allclose(launched[3:5], scenario.start_vel[:2], atol=0.02)
        np.testing.assert_allclose(launched[:2], scenario.start_pos[:2], atol=0.02)
        # Rolling without slip: half a second later it still has most of its speed.
        assert track[-1, 3] == pytest.approx(scenario.start_vel[0], rel=0.15)
        assert football.episode.launches == 1

    def test_generalised_starts_differ_by_seed_within_the_range(self, football: World) -> None:
        scenario = football.skill.scenario
        starts = []
        for seed in range(8):
            football.reset(seed, generalise=True)
            football.begin_run()
            starts.append(football.episode.start.pos - football.episode.origin)
        starts = np.array(starts) - np.array(scenario.start_pos)
        assert (np.abs(starts) <= np.array(scenario.pos_range) + 1e-9).all()
        assert np.ptp(starts[:, 0]) > 0.05

    def test_the_scenario_is_in_the_frame_of_the_robot_as_it_stands(self, football: World) -> None:
        football.reset(1)
        yaw = 0.5
        football.data.qpos[:2] = 2.0, -1.0
        football.data.qpos[3:7] = np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)
        football.begin_run()
        x, y = football.skill.scenario.start_pos[:2]
        expected = [2.0 + np.cos(yaw) * x - np.sin(yaw) * y, -1.0 + np.sin(yaw) * x + np.cos(yaw) * y]
        np.testing.assert_allclose(football.episode.start.pos[:2], expected)
        np.testing.assert_allclose(football.episode.origin, [2, -1, 0])
        assert football.episode.yaw == pytest.approx(yaw)

    def test_a_second_run_is_the_next_trial(self, football: World) -> None:
        football.reset(5, generalise=True)
        football.begin_run()
        self.run(football, int(football.episode.start.delay * 1000) + 100)
        football.begin_run()
        assert (football.episode.seed, football.episode.launches) == (6, 0)
        second = football.episode.start.pos - football.episode.origin
        assert np.ptp(self.run(football, 300)[:, :3], axis=0).max() < 1e-9
        football.reset(6, generalise=True)
        football.begin_run()
        np.testing.assert_allclose(second, football.episode.start.pos - football.episode.origin, atol=0.05)

    def test_the_partner_keeps_playing(self) -> None:
        world = World(load_skill('football'), WorldConfig(balls=3))
        world.begin_run()
        self.run(world, int(world.episode.start.delay * 1000) + 10)
        assert world.episode.launches == 1
        # As if kicked away: touched, and far off.
        world._touched = True
        world.data.qpos[36:38] = 3.2, 0.0
        before = world.episode.start.pos.copy()
        world.data.qpos[:2] += [0.1, 0.3]
        self.run(world, 1)
        # To where the robot stands by now.
        np.testing.assert_allclose((world.episode.start.pos - before)[:2], [0.1, 0.3], atol=0.02)
        launched = np.flatnonzero(np.abs(self.run(world, int(1000 * world.skill.scenario.delay_s[1]) + 10)[:, 3]) > 0.1)
        assert world.episode.launches == 2
        # The first ball was touched, the second was not yet: it goes on rolling.
        track = self.run(world, 1500)
        assert world.episode.live
        assert world.episode.launches == 2
        assert launched.size
        assert (track[:, 3] < -0.5).all()

    def test_touch_of_the_object_is_reported_by_body(self, football: World) -> None:
        football.reset(0)
        football.begin_run()
        football.episode.live = True
        football.take_contacts()
        foot = football.data.body('right_ankle_roll_link').xpos
        football.data.qpos[36:39] = foot + np.array([0.2, 0, 0])
        football.data.qvel[35:38] = [-3.0, 0, 0]
        stand(football, 100)
        pairs = [set(pair) for pair in football.take_contacts()]
        assert {'ball', 'right_ankle_roll_link'} in pairs


def test_bad_configurations_are_refused_by_name() -> None:
    for bad in ({'actuation_delay_ms': 51}, {'command_timeout_ms': 0}, {'balls': 0}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            WorldConfig(**bad)
    with pytest.raises(ValueError, match='gyro'):
        SensorNoise(gyro=-1.0)


def test_scene_actuators_are_in_motor_order() -> None:
    world = World(load_skill('stand'))
    joints = [world.model.joint(world.model.actuator_trnid[i, 0]).name for i in range(29)]
    assert joints == list(robot.JOINT_NAMES)
    assert isinstance(Motors(world.model), Motors)
    assert world.model.opt.integrator == mujoco.mjtIntegrator.mjINT_IMPLICITFAST


@pytest.mark.parametrize('name', list_skills())
def test_every_skill_runs_and_its_object_is_set_going(name: str) -> None:
    world = World(load_skill(name))
    world.reset(1, generalise=True)
    world.gantry.drop()
    world.data.qpos[2] = robot.DEFAULT_ROOT_HEIGHT
    world.begin_run()
    for _ in range(int(world.episode.start.delay * 1000) + 200):
        hold(world)
        world.step()
    assert np.isfinite(world.data.qpos).all()
    assert world.data.qpos[2] > 0.6
    has_object = world.skill.main_object is not None and not world.skill.main_object.fixed
    assert world.episode.launches == int(has_object)
