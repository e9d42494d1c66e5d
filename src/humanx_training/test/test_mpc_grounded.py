"""References that their feet can carry: supports, flat and lifted feet, the centre of pressure brought back."""

import numpy as np
import pytest

from humanx_description import robot
from humanx_description.scene import default_qpos, scene
from humanx_training import rotation
from humanx_training.xgen.robot_motion import RobotMotion
from humanx_training.xmimic.mpc import grounded as g
from humanx_training.xmimic.mpc.inverse import BodySolver

FRAMES = 60


@pytest.fixture(scope='module')
def solver() -> BodySolver:
    return BodySolver(scene())


def still(qpos: np.ndarray, contact: np.ndarray | None = None) -> RobotMotion:
    """Return a motion that keeps one pose for 0.6 s."""
    tiled = np.tile(qpos, (FRAMES, 1))
    both = np.ones((FRAMES, 2), bool) if contact is None else contact
    return RobotMotion(100.0, tiled[:, :3], tiled[:, 3:7], tiled[:, 7:], both)


def leaning(solver: BodySolver, aside: float) -> np.ndarray:
    """Return the stance with the pelvis moved sideways over the feet (m)."""
    home = default_qpos()
    poses = [solver.foot_pose(home, foot) for foot in (0, 1)]
    moved = home.copy()
    moved[1] += aside
    feet, quats = np.array([p[0] for p in poses]), np.array([p[1] for p in poses])
    return solver.place_feet(moved, feet, quats, iterations=30)[0]


def test_nearest_point_of_a_support():
    square = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]])
    np.testing.assert_allclose(g.inside(np.array([0.4, 0.6]), square), [0.4, 0.6], atol=1e-4)
    np.testing.assert_allclose(g.inside(np.array([0.5, 3.0]), square), [0.5, 1.0], atol=1e-3)
    np.testing.assert_allclose(g.inside(np.array([2.0, -1.0]), square), [1.0, 0.0], atol=1e-3)


def test_pressure_of_a_still_pose_is_below_its_centre_of_mass(solver):
    qpos = np.tile(leaning(solver, 0.04), (2, 1))
    pressure = g.centre_of_pressure(solver, qpos, np.zeros((2, 35)), np.zeros((2, 35)))
    np.testing.assert_allclose(pressure[0], solver.centre_of_mass(qpos[0])[:2], atol=1e-6)


def test_a_body_outside_its_one_foot_is_brought_over_it(solver):
    contact = np.ones((FRAMES, 2), bool)
    contact[:, 1] = False  # stands on the left foot alone, the weight in the middle
    reference = g.grounded(solver, still(default_qpos(), contact), 0, FRAMES)
    before, after = reference.notes['pressure_outside_m']
    assert before > 0.08
    assert after < 0.01
    foot = solver.foot_pose(reference.qpos[30], 0)[0]
    assert abs(solver.centre_of_mass(reference.qpos[30])[1] - foot[1]) < 0.03
    home = solver.foot_pose(default_qpos(), 0)[0]
    np.testing.assert_allclose(foot[:2], home[:2], atol=2e-3)
    assert reference.load[30, 0] > 0.9
    assert reference.load[30, 1] == 0


def test_a_balanced_pose_stays_where_it_is(solver):
    reference = g.grounded(solver, still(default_qpos()), 0, FRAMES)
    assert reference.notes['moved_m'] < 1e-3
    assert np.abs(reference.qpos[:, 7:] - default_qpos()[7:]).max() < 0.02


def test_planted_feet_are_flat_and_still_and_moving_ones_are_lifted(solver):
    # The right foot slides 0.3 m forward at floor height in the middle of the motion, tilted by 5 degrees.
    planted = np.ones((FRAMES, 2), bool)
    planted[20:40, 1] = False
    pos = np.zeros((FRAMES, 2, 3))
    pos[:, :, 2] = robot.FOOT_SOLE_OFFSET
    pos[:, 1, 0] = 0.3 * np.clip((np.arange(FRAMES) - 20) / 20, 0, 1)
    quat = np.tile([1.0, 0, 0, 0], (FRAMES, 2, 1))
    lifted = g._cleared(pos, quat, planted)
    assert lifted[30, 1, 2] == pytest.approx(robot.FOOT_SOLE_OFFSET + 0.03, abs=2e-3)
    assert (lifted[planted[:, 1], 1, 2] == robot.FOOT_SOLE_OFFSET).all()
    assert (lifted[:, 0] == pos[:, 0]).all()

    qpos = np.tile(default_qpos(), (FRAMES, 1))
    qpos[:, 7 + robot.JOINT_INDEX['left_ankle_roll_joint']] += np.radians(5)
    feet = g.footing(solver, qpos, np.ones((FRAMES, 2), bool))
    assert np.abs(rotation.to_matrix(feet.quat[:, 0])[:, :2, 2]).max() < 1e-9
    assert np.ptp(feet.pos[:, 0], axis=0).max() < 1e-12


def test_load_ramps_inside_the_planted_time():
    planted = np.ones((FRAMES, 2), bool)
    planted[20:40, 1] = False
    load = g.Footing(np.zeros((FRAMES, 2, 3)), np.tile([1.0, 0, 0, 0], (FRAMES, 2, 1)), planted).load()
    assert (load[20:40, 1] == 0).all()
    assert 0 < load[18, 1] < 1
    assert load[10, 1] == 1
    assert (load[:, 0] == 1).all()
