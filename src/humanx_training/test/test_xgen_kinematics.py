"""Batched kinematics, banded solves and capsule distances against MuJoCo and dense algebra."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from humanx_training.xgen import rotations as rot
from humanx_training.xgen.retarget import terms
from humanx_training.xgen.retarget.banded import NormalEquations
from humanx_training.xgen.retarget.collision import SelfCollision
from humanx_training.xgen.retarget.kinematics import NUM_DOF, Kinematics, Pose

BODIES = ('pelvis', 'torso_link', 'left_ankle_roll_link', 'right_wrist_yaw_link', 'left_elbow_link')


@pytest.fixture(scope='module')
def kin():
    return Kinematics()


def random_pose(frames, seed=0, spread=0.6):
    rng = np.random.default_rng(seed)
    return Pose(
        rng.normal(size=(frames, 3)),
        rot.exp(rng.normal(size=(frames, 3))),
        rng.normal(scale=spread, size=(frames, 29)),
    )


def qpos(pose, frame):
    return np.concatenate([pose.pos[frame], rot.mat_to_quat(pose.mat[frame]), pose.joints[frame]])


def test_positions_and_jacobians_agree_with_mujoco(kin):
    pose = random_pose(4)
    kin.update(pose)
    com, jac_com = kin.com(), kin.jac_com()
    data = mujoco.MjData(kin.model)
    for frame in range(len(pose)):
        data.qpos[:] = qpos(pose, frame)
        mujoco.mj_forward(kin.model, data)
        np.testing.assert_allclose(kin.pos[frame], data.xpos, atol=1e-10)
        np.testing.assert_allclose(kin.mat[frame], data.xmat.reshape(-1, 3, 3), atol=1e-10)
        np.testing.assert_allclose(com[frame], data.subtree_com[1], atol=1e-10)
        jac = np.zeros((3, NUM_DOF))
        mujoco.mj_jacSubtreeCom(kin.model, data, jac, 1)
        np.testing.assert_allclose(jac_com[frame], jac, atol=1e-10)
        for name in BODIES:
            body = kin.body_index[name]
            at = kin.point(body, np.array([0.03, -0.02, 0.05]))
            lin, ang = np.zeros((3, NUM_DOF)), np.zeros((3, NUM_DOF))
            mujoco.mj_jac(kin.model, data, lin, ang, at[frame], body)
            np.testing.assert_allclose(kin.jac_point(body, at)[frame], lin, atol=1e-10)
            np.testing.assert_allclose(kin.jac_rot(body)[frame], ang, atol=1e-10)


def test_jacobians_at_some_frames(kin):
    kin.update(random_pose(6))
    body = kin.body_index['right_elbow_link']
    frames = np.array([4, 1, 1])
    np.testing.assert_array_equal(
        kin.jac_point_at(frames, body, kin.pos[frames, body]), kin.jac_point(body, kin.pos[:, body])[frames]
    )


def test_banded_solve_is_the_dense_solve():
    rng = np.random.default_rng(0)
    frames, dof = 7, 4
    eq = NormalEquations(frames, dof)
    rows, residuals = [], []

    def dense(blocks):
        row = np.zeros((len(next(iter(blocks.values()))), frames * dof))
        for frame, block in blocks.items():
            row[:, frame * dof : (frame + 1) * dof] = block
        return row

    single, r1 = rng.normal(size=(frames, 3, dof)), rng.normal(size=(frames, 3))
    eq.add(single, r1)
    for t in range(frames):
        rows.append(dense({t: single[t]}))
        residuals.append(r1[t])
    chain, r2 = [rng.normal(size=(frames - 2, 2, dof)) for _ in range(3)], rng.normal(size=(frames - 2, 2))
    eq.add_chain(chain, r2)
    for t in range(frames - 2):
        rows.append(dense({t + i: chain[i][t] for i in range(3)}))
        residuals.append(r2[t])
    weight, r3 = rng.normal(size=dof), rng.normal(size=(frames - 1, dof))
    eq.add_diagonal_chain([-weight, weight], r3)
    for t in range(frames - 1):
        rows.append(dense({t: np.diag(-weight), t + 1: np.diag(weight)}))
        residuals.append(r3[t])
    diagonal, r4 = rng.normal(size=(frames, dof)), rng.normal(size=(frames, dof))
    eq.add_diagonal(diagonal, r4)
    for t in range(frames):
        rows.append(dense({t: np.diag(diagonal[t])}))
        residuals.append(r4[t])
    jac, residual = np.concatenate(rows), np.concatenate(residuals)
    frozen = np.zeros((frames, dof), dtype=bool)
    frozen[0] = True
    frozen[3, 2] = True
    free = ~frozen.reshape(-1)
    matrix = jac.T @ jac + 0.3 * np.eye(frames * dof)
    expected = np.zeros(frames * dof)
    expected[free] = -np.linalg.solve(matrix[np.ix_(free, free)], (jac.T @ residual)[free])
    np.testing.assert_allclose(eq.solve(0.3, frozen).reshape(-1), expected, atol=1e-9)
    assert eq.cost == pytest.approx(residual @ residual)


@pytest.mark.parametrize('term', ['balance', 'collision', 'floor', 'body_rot', 'smooth', 'speed'])
def test_gradients_are_those_of_the_cost(kin, term):
    frames, fps = 5, 50.0
    pose = random_pose(frames, seed=3, spread=0.4)
    pose.pos = np.array([0, 0, 0.75]) + 0.005 * np.random.default_rng(1).normal(size=(frames, 3)).cumsum(axis=0)
    pose.mat = rot.exp(0.02 * np.random.default_rng(2).normal(size=(frames, 3)).cumsum(axis=0))
    pose.joints = pose.joints[:1] + 0.02 * np.random.default_rng(4).normal(size=(frames, 29)).cumsum(axis=0)
    collision, tol = SelfCollision(kin), terms.Tolerances()
    planted = np.array([[True, False]] * frames)
    square = np.array([[-0.1, -0.1], [0.1, -0.1], [0.1, 0.1], [-0.1, 0.1]])

    def equations(at):
        kin.update(at)
        eq = NormalEquations(frames, NUM_DOF)
        if term == 'balance':
            terms.balance(eq, kin, [(slice(0, frames), square)], fps, tol)
        elif term == 'collision':
            collision.keep_apart(eq, 0.05, 10.0)
        elif term == 'floor':
            collision.keep_off_floor(eq, planted, 0.3, 3.0)
        elif term == 'body_rot':
            terms.body_rot(eq, kin, 'pelvis', np.tile(np.eye(3), (frames, 1, 1)), np.full(frames, 4.0))
        elif term == 'smooth':
            terms.smooth(eq, kin, fps, tol)
        else:
            terms.joint_speed(eq, at.joints, fps, np.full(29, 0.2), tol)
        return eq

    base = equations(pose)
    assert base.cost > 0, 'nothing to test'
    rng = np.random.default_rng(7)
    for _ in range(3):
        direction = rng.normal(size=(frames, NUM_DOF))
        step = 1e-6
        rise = (equations(pose.moved(step * direction)).cost - equations(pose.moved(-step * direction)).cost) / (
            2 * step
        )
        # Normal equations hold J^T r: half the gradient; rotations are linearised near zero error.
        assert 2 * np.sum(base.gradient * direction) == pytest.approx(rise, rel=0.05)


def test_capsule_distances_agree_with_mujoco(kin):
    pose = random_pose(20, seed=5, spread=0.9)
    kin.update(pose)
    collision = SelfCollision(kin)
    frame, pair, distance, _, _ = collision.distances(0.03)
    data = mujoco.MjData(kin.model)
    deepest = {}
    for f, p, d in zip(frame, pair, distance):
        names = (collision.shapes[collision.first[p]].name, collision.shapes[collision.second[p]].name)
        deepest[f, frozenset(names)] = d
    compared = 0
    for f in range(len(pose)):
        data.qpos[:] = qpos(pose, f)
        mujoco.mj_kinematics(kin.model, data)
        mujoco.mj_collision(kin.model, data)
        for contact in data.contact[: data.ncon]:
            names = frozenset(kin.model.geom(int(g)).name for g in contact.geom)
            if any('foot3' in n or 'foot5' in n for n in names):
                continue
            assert (f, names) in deepest, f'{names} touch in MuJoCo but are not a pair here'
            if contact.dist > -0.02:  # deeper, MuJoCo may pick another normal
                assert deepest[f, names] == pytest.approx(contact.dist, abs=2e-3)
                compared += 1
    assert compared > 5


def test_outside_of_a_polygon():
    square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    gap, turn = terms.outside(np.array([[0.5, 0.5], [1.5, 0.5], [2.0, 3.0], [0.5, -0.1]]), square)
    np.testing.assert_allclose(gap, [[0, 0], [0.5, 0], [1, 2], [0, -0.1]], atol=1e-12)
    np.testing.assert_allclose(turn[0], 0)
    np.testing.assert_allclose(turn[1], [[1, 0], [0, 0]], atol=1e-12)
    np.testing.assert_allclose(turn[2], np.eye(2), atol=1e-12)


def test_a_swinging_foot_stays_off_the_floor_but_a_standing_foot_may_touch(kin):
    """With the pelvis 3 cm too low the feet are in the floor; only shapes that may not touch are pushed."""
    pose = Pose(np.array([[0.0, 0.0, 0.763]]), np.eye(3)[None], np.zeros((1, 29)))
    kin.update(pose)
    collision = SelfCollision(kin)
    for planted, pushed in (([True, True], False), ([False, True], True)):
        eq = NormalEquations(1, NUM_DOF)
        collision.keep_off_floor(eq, np.array([planted]), 0.0, 1.0)
        assert (eq.cost > 0) == pushed
        if pushed:
            assert eq.gradient[0, 2] < 0, 'the push is upwards: downhill is a higher pelvis'
            assert np.abs(eq.gradient[0, 12:]).max() == 0, 'nothing but the left leg and the root moves'
