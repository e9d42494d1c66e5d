"""The model-based teacher: balance plans, feedback with delay, sampling, mirroring, interpolation, the expert's
clock."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from humanx_description import robot
from humanx_description.errors import UserError
from humanx_description.scene import scene
from humanx_training import rotation
from humanx_training.xmimic.mpc import balance, mirror
from humanx_training.xmimic.mpc.bank import Bank, load_bank
from humanx_training.xmimic.mpc.expert import HALF_STANCE, KickExpert, planted_frame
from humanx_training.xmimic.mpc.feasible import rollout
from humanx_training.xmimic.mpc.inverse import BodySolver
from humanx_training.xmimic.mpc.linearise import linearise, state_error
from humanx_training.xmimic.mpc.lqr import AUGMENTED, Feedback, LqrWeights, feedback
from humanx_training.xmimic.mpc.mppi import MppiSettings, knot_matrix, optimise
from humanx_training.xmimic.mpc.reference import KickStyle, home_qpos

FRAMES = 12


@pytest.fixture(scope='module')
def model():
    """The robot alone."""
    return scene()


@pytest.fixture(scope='module')
def stand(model):
    """Feedback around the default stance, designed for 10 ms of delay."""
    solver = BodySolver(model)
    home = home_qpos(solver)
    torque, missing = solver.motor_torque(home, np.zeros(35), np.zeros(35), (0.5, 0.5))
    assert missing < 1e-6
    home[2] -= 0.0007  # the soles sink in under the weight
    qpos, qvel = np.tile(home, (FRAMES, 1)), np.zeros((FRAMES, 35))
    target = np.tile(home[7:] + torque / robot.KP, (FRAMES, 1))
    local = linearise(model, qpos, qvel, target, stride=FRAMES)
    assert local.rejected == 0
    return feedback(local, qpos, qvel, target, LqrWeights(), delay=2)


def test_centre_of_mass_plan_obeys_the_pendulum():
    dt, height = 0.01, 0.67
    tau = np.arange(300) * dt
    pressure = np.stack([0.1 * balance.smooth_step((tau - 1) / 0.4), np.zeros(300)], 1)
    plan = balance.centre_of_mass_plan(pressure, height, dt)
    acceleration = np.diff(plan, 2, axis=0) / dt**2
    residual = plan[1:-1] - height / balance.GRAVITY * acceleration - pressure[1:-1]
    assert np.abs(residual).max() < 1e-9
    # It anticipates: the mass has left before the pressure does.
    assert plan[100, 0] > 0.01
    assert pressure[100, 0] == 0.0


def test_home_stance_is_flat_and_balanced(model):
    solver = BodySolver(model)
    home = home_qpos(solver)
    for foot in (0, 1):
        position, quat = solver.foot_pose(home, foot)
        assert position[2] == pytest.approx(robot.FOOT_SOLE_OFFSET, abs=1e-4)
        assert np.abs(rotation.log(quat)).max() < 1e-3
    np.testing.assert_allclose(solver.centre_of_mass(home)[:2], [0.038, 0.0], atol=1e-3)


def test_leg_inverse_kinematics_reaches_and_says_when_it_cannot(model):
    solver = BodySolver(model)
    home = home_qpos(solver)
    feet = np.array([solver.foot_pose(home, foot)[0] for foot in (0, 1)])
    quats = np.stack([[1.0, 0, 0, 0], rotation.from_yaw(-0.6)])
    feet[1] += [0.15, -0.05, 0.1]
    reached, error = solver.place_feet(home, feet, quats, iterations=40)
    assert error < 1e-3
    np.testing.assert_allclose(solver.foot_pose(reached, 1)[0], feet[1], atol=1e-3)
    feet[1] += [0.0, -1.0, 0.0]
    _qpos, error = solver.place_feet(home, feet, quats, iterations=40)
    assert error > 0.3


@pytest.mark.parametrize('late', [0, 1])
def test_lqr_recovers_a_perturbed_stand(model, stand, late):
    """Without delay and with one control step of it, the design's own."""
    rng = np.random.default_rng(0)
    qpos, qvel = stand.qpos[0].copy(), np.zeros(35)
    qvel[:2] = [0.15, 0.1]
    qpos[7:] += 0.02 * rng.normal(size=29)
    open_loop = dataclasses.replace(stand, gain=np.zeros_like(stand.gain))
    if late:
        stand = _Late(stand)
    states, _rates, _targets = rollout(model, stand, qpos, qvel, extra=250)
    assert len(states) == FRAMES + 250
    assert np.abs(states[-1, :3] - stand.qpos[0, :3]).max() < 0.02
    fallen, _, _ = rollout(model, open_loop, qpos, qvel, extra=250)
    assert len(fallen) < FRAMES + 250 or np.abs(fallen[-1, :3] - stand.qpos[0, :3]).max() > 0.05


class _Late:
    """A feedback whose commands arrive one control step late; it knows its own previous command."""

    def __init__(self, law: Feedback) -> None:
        self.law, self.qpos, self.target = law, law.qpos, law.target
        self.own = law.target[:1].copy()

    def __len__(self) -> int:
        return len(self.law)

    def __call__(self, frame, qpos, qvel, previous):
        arriving = self.own
        self.own = self.law(frame, qpos, qvel, self.own)
        return arriving


def test_state_error_of_a_turned_base():
    ref = np.concatenate([[0, 0, 0.76, 1, 0, 0, 0], np.zeros(29)])
    turned = ref.copy()
    turned[3:7] = rotation.exp(np.array([0.1, -0.2, 0.3]))
    error = state_error(turned[None], np.zeros((1, 35)), ref, np.zeros(35))[0]
    np.testing.assert_allclose(error[3:6], [0.1, -0.2, 0.3], atol=1e-9)
    assert np.abs(np.delete(error, [3, 4, 5])).max() == 0


def test_knots_reproduce_straight_lines():
    basis = knot_matrix(20, 8)
    np.testing.assert_allclose(basis.sum(1), 1.0)
    np.testing.assert_allclose(basis @ (8.0 * np.arange(basis.shape[1])), np.arange(20.0))


def test_mppi_lowers_the_cost_and_repeats(model, stand):
    """Wanted: the right hand forward, which the stand's feedback alone does not do."""
    elbow = 7 + robot.JOINT_INDEX['right_elbow_joint']

    def cost(step, state, offset):
        fallen = np.where(state.qpos[:, 2] < 0.6, np.inf, 0.0)
        return 10 * (state.qpos[:, elbow] - 1.0) ** 2 + 0.01 * (offset**2).mean(1) + fallen

    settings = MppiSettings(samples=24, iterations=2, horizon=8, execute=6, knot=4, sigma=0.4)
    one = optimise(model, stand, cost, stand.qpos[0], np.zeros(35), settings=settings, seed=3, threads=1)
    two = optimise(model, stand, cost, stand.qpos[0], np.zeros(35), settings=settings, seed=3, threads=2)
    still = optimise(
        model, stand, cost, stand.qpos[0], np.zeros(35), seed=3, threads=1,
        settings=MppiSettings(samples=24, iterations=2, horizon=8, execute=6, knot=4, sigma=0.0),
    )  # fmt: skip
    assert one.complete
    assert one.cost.sum() < 0.9 * still.cost.sum()
    np.testing.assert_array_equal(one.qpos, two.qpos)


def test_mirroring_twice_is_nothing_and_the_mirrored_robot_is_the_mirror_image(model):
    rng = np.random.default_rng(1)
    qpos = np.concatenate([[0.1, 0.2, 0.8], rotation.exp(0.3 * rng.normal(size=3)), 0.2 * rng.normal(size=29)])
    np.testing.assert_allclose(mirror.qpos(mirror.qpos(qpos)), qpos)
    solver = BodySolver(model)
    left = solver.foot_pose(qpos, 0)[0]
    right = solver.foot_pose(mirror.qpos(qpos), 1)[0]
    np.testing.assert_allclose(right, left * [1, -1, 1], atol=1e-6)


def _bank(frames: int = 200) -> Bank:
    """A bank whose joint targets are the ball's path, so that interpolation can be read off."""
    ball_y = np.array([-0.3, -0.2, -0.1, 0.0])
    count = len(ball_y)
    qpos = np.zeros((count, frames, 36))
    qpos[..., 2], qpos[..., 3] = 0.76, 1.0
    target = np.broadcast_to(ball_y[:, None, None], (count, frames, 29)).copy()
    gain = np.zeros((count, frames, 29, AUGMENTED), np.float32)
    return Bank(ball_y, qpos, np.zeros((count, frames, 35)), target, gain, 160, 0.24, 0.01)


def _label(expert: KickExpert, ball: list[float], velocity: list[float]) -> np.ndarray:
    count = len(expert.frame)
    qpos = np.tile(np.concatenate([[0, 0, 0.76, 1, 0, 0, 0], np.zeros(29)]), (count, 1))
    feet = np.tile([[[0, HALF_STANCE, 0.035], [0, -HALF_STANCE, 0.035]]], (count, 1, 1)).astype(float)
    quat = np.tile([1.0, 0, 0, 0], (count, 2, 1))
    tile = lambda v: np.tile(v, (count, 1)).astype(float)  # noqa: E731
    return expert.label(qpos, np.zeros((count, 35)), feet, quat, tile(ball), tile(velocity), np.zeros((count, 29)))


def test_labels_are_continuous_in_the_path_of_the_ball():
    labels = []
    for y in np.linspace(-0.29, -0.01, 57):
        expert = KickExpert(_bank(), 1)
        label = _label(expert, [1.6, y, 0.11], [-1.0, 0.0, 0.0])[0, 0]
        assert expert.kicking[0]
        assert label == pytest.approx(y, abs=1e-6)
        labels.append(label)
    assert np.abs(np.diff(labels)).max() < 0.0051


def test_the_clock_follows_the_ball():
    expert = KickExpert(_bank(), 1)
    _label(expert, [4.0, -0.2, 0.11], [-1.0, 0, 0])
    assert not expert.kicking[0]  # too early
    _label(expert, [1.6, -0.2, 0.11], [-1.0, 0, 0])
    expected = 160 + 100 * np.log1p(-0.1 * (1.6 - 0.24)) / 0.1
    assert expert.frame[0] == pytest.approx(expected, abs=1e-6)
    before = expert.frame[0]
    _label(expert, [1.595, -0.2, 0.11], [-1.0, 0, 0])
    assert before < expert.frame[0] <= before + 2
    for _ in range(200):  # gone: the motion ends by itself and the robot waits again
        _label(expert, [-3.0, -0.2, 0.11], [-1.0, 0, 0])
    assert not expert.kicking[0]
    assert expert.frame[0] == expert.last


@pytest.mark.parametrize(
    ('ball', 'velocity'),
    [([1.6, -0.6, 0.11], [-1.0, 0, 0]), ([1.6, -0.2, 0.11], [0.0, 0, 0]), ([0.5, -0.2, 0.11], [-1.0, 0, 0])],
    ids=['out of reach', 'at rest', 'too late'],
)
def test_it_waits_when_a_kick_is_out_of_question(ball, velocity):
    expert = KickExpert(_bank(), 2)
    _label(expert, ball, velocity)
    assert not expert.kicking.any()


def test_balls_on_the_left_are_for_the_left_foot():
    expert = KickExpert(_bank(), 1)
    label = _label(expert, [1.6, 0.15, 0.11], [-1.0, 0, 0])[0]
    assert expert.left_footed[0]
    wanted = mirror.joints(np.full(29, -0.15))
    np.testing.assert_allclose(label, wanted, atol=1e-6)


def test_planted_frame_of_either_foot_is_the_same_in_the_stance():
    yaw = rotation.from_yaw(0.4)
    side = rotation.rotate(yaw, np.array([0.0, HALF_STANCE, 0.0]))
    centre = np.array([1.0, 2.0, 0.035])
    for left, foot in ((True, centre + side), (False, centre - side)):
        origin, heading = planted_frame(foot[None], yaw[None], np.array([left]))
        np.testing.assert_allclose(origin[0], [1.0, 2.0], atol=1e-9)
        assert heading[0] == pytest.approx(0.4)


def test_a_bank_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match='holds 0 feasible kicks; expected at least 2'):
        load_bank(tmp_path, KickStyle())
