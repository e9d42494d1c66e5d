"""Design the ``stand`` policy: output feedback that balances the G1 around its default pose.

    python src/humanx_policy/scripts/make_stand.py src/humanx_policy/policies/stand.onnx

1. Find a static equilibrium: the default pose with flat feet and the centre of mass over the middle of the soles,
   lowered into the floor until the contacts carry the weight.
2. Linearise MuJoCo there (finite differences, 1 ms steps) and discretise to the 10 ms control period, with the delay
   between a measurement and the torque that answers it.
3. Solve the discounted Riccati recursion for the state (35 positions, 35 velocities, last action): LQR.
4. Express the state by what the policy observes. The feet stand still, so the pelvis' pose and velocity follow from
   the joints, gravity and the gyroscope through the feet's Jacobians (least squares): no estimator is needed.
5. Verify in simulation on the nonlinear robot, with noise, delay and pushes; write the file with what was measured.
"""

import argparse
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import mujoco
import numpy as np
from scipy.optimize import brentq, least_squares

from humanx_description import robot
from humanx_description.scene import FLOOR, scene
from humanx_policy import observation as ob
from humanx_policy.export import Mlp, write_policy
from humanx_policy.metadata import CONTROL_PERIOD, PolicyMetadata
from humanx_policy.runtime import PolicyRuntime
from humanx_policy.stand_trial import Push, fall_free, settle_qpos

TIMESTEP = 0.001
SUBSTEPS = round(CONTROL_PERIOD / TIMESTEP)
DELAY = 6  # substeps between a measurement and its torque: half the state's period, transport, motor
DISCOUNT = 0.998
J = robot.NUM_JOINTS
TERMS = (
    ob.TermSpec('base_ang_vel', 3),
    ob.TermSpec('projected_gravity', 3),
    ob.TermSpec('joint_pos', J),
    ob.TermSpec('joint_vel', J),
    ob.TermSpec('last_action', J),
)


@dataclass
class Equilibrium:
    """A pose in which the contacts carry the robot: qpos (36,) and the targets (29,) that hold it."""

    qpos: np.ndarray
    targets: np.ndarray


def precise_model() -> mujoco.MjModel:
    """Return the robot with a solver converged well enough for finite differences."""
    model = scene(timestep=TIMESTEP, iterations=200, ls_iterations=100)
    model.opt.tolerance = 1e-14
    model.opt.ls_tolerance = 1e-6
    return model


def find_equilibrium(model: mujoco.MjModel) -> Equilibrium:
    """Return the standing equilibrium nearest to the default pose."""
    data = mujoco.MjData(model)
    feet = [model.body(name).id for name in robot.FOOT_BODIES]

    def pose(shift: float) -> np.ndarray:
        """The default joints with the hips pitched by ``shift`` and the feet kept flat."""
        joints = robot.DEFAULT_JOINT_POS.copy()
        for side in (robot.LEFT_LEG, robot.RIGHT_LEG):
            leg = joints[side]
            leg[0] += shift
            leg[4] = -leg[0] - leg[3]
        return joints

    def com_ahead_of_sole(shift: float) -> float:
        data.qpos[:] = [0, 0, 1, 1, 0, 0, 0, *pose(shift)]
        mujoco.mj_forward(model, data)
        return data.subtree_com[0, 0] - np.mean([sole_centre(model, data, foot) for foot in feet])

    joints = pose(brentq(com_ahead_of_sole, -0.3, 0.3))

    def root_wrench(unknown: np.ndarray) -> np.ndarray:
        """What is missing at the root (N, N m) to hold still at this height, roll and pitch."""
        height, roll, pitch = unknown
        quat = np.array([1.0, roll / 2, pitch / 2, 0])
        data.qpos[:] = [0, 0, height, *(quat / np.linalg.norm(quat)), *joints]
        data.qvel[:] = 0
        data.qacc[:] = 0
        mujoco.mj_inverse(model, data)
        return data.qfrc_inverse[[2, 3, 4]]

    data.qpos[:] = [0, 0, 1, 1, 0, 0, 0, *joints]
    mujoco.mj_forward(model, data)
    lowest = min(data.geom_xpos[g, 2] - model.geom_size[g, 0] for foot in feet for g in floor_capsules(model, foot))
    start = np.array([1 - lowest - 1e-3, 0, 0])
    solution = least_squares(root_wrench, start, x_scale=[1e-4, 1e-4, 1e-4], xtol=1e-15, ftol=1e-15)
    missing = np.abs(root_wrench(solution.x)).max()
    if missing > 1.0:
        raise RuntimeError(f'no equilibrium: {missing:.1f} N or N m are missing at the root')
    return Equilibrium(data.qpos.copy(), joints + data.qfrc_inverse[6:] / robot.KP)


def floor_capsules(model: mujoco.MjModel, foot: int) -> list[int]:
    """Return the geoms of a foot that collide with the floor."""
    touches = model.geom_conaffinity[model.geom(FLOOR).id]
    return [
        geom for geom in range(model.ngeom) if model.geom_bodyid[geom] == foot and model.geom_contype[geom] & touches
    ]


def sole_centre(model: mujoco.MjModel, data: mujoco.MjData, foot: int) -> float:
    """Return the world x (m) of the middle of the capsules with which a foot touches the floor."""
    ends = []
    for geom in floor_capsules(model, foot):
        axis = data.geom_xmat[geom].reshape(3, 3)[:, 2] * model.geom_size[geom, 1]
        ends += [data.geom_xpos[geom, 0] - axis[0], data.geom_xpos[geom, 0] + axis[0]]
    return 0.5 * (min(ends) + max(ends))


def linearise(model: mujoco.MjModel, eq: Equilibrium) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return A, B_now, B_last of one control period: x+ = A x + B_now u + B_last u_last, u the targets in rad."""
    data = mujoco.MjData(model)
    data.qpos[:], data.ctrl[:] = eq.qpos, eq.targets
    mujoco.mj_forward(model, data)
    n = 2 * model.nv
    step, push = np.zeros((n, n)), np.zeros((n, model.nu))
    mujoco.mjd_transitionFD(model, data, 1e-6, True, step, push, None, None)
    powers = [np.eye(n)]
    for _ in range(SUBSTEPS):
        powers.append(step @ powers[-1])
    early = sum(powers[SUBSTEPS - 1 - k] @ push for k in range(DELAY))
    late = sum(powers[SUBSTEPS - 1 - k] @ push for k in range(DELAY, SUBSTEPS))
    return powers[SUBSTEPS], late, early


def foot_jacobian(model: mujoco.MjModel, eq: Equilibrium) -> np.ndarray:
    """Return the (12, 35) Jacobian of both feet's position and rotation."""
    data = mujoco.MjData(model)
    data.qpos[:] = eq.qpos
    mujoco.mj_forward(model, data)
    rows = []
    for name in robot.FOOT_BODIES:
        position, rotation = np.zeros((3, model.nv)), np.zeros((3, model.nv))
        mujoco.mj_jacBody(model, data, position, rotation, model.body(name).id)
        rows += [position, rotation]
    return np.concatenate(rows)


def root_from_measurement(jacobian: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return maps (6, 3) and (6, 29) from the root's rotation and the joints to the root's 6 coordinates.

    Least squares of two statements: the feet have not moved, and the measured rotation. Yaw is not measured.
    """
    feet_weight, rotation_weight = 1.0, np.diag([3.0, 3.0, 0.0])
    root, joints = jacobian[:, :6] * feet_weight, jacobian[:, 6:] * feet_weight
    measure = np.zeros((3, 6))
    measure[:, 3:] = rotation_weight
    system = np.concatenate([root, measure])
    inverse = np.linalg.pinv(system)
    return inverse[:, 12:] @ rotation_weight, -inverse[:, :12] @ joints


def observe(model: mujoco.MjModel, eq: Equilibrium) -> np.ndarray:
    """Return the map (70, 64) from (gyro, gravity, joint position, joint velocity) to the state."""
    jacobian = foot_jacobian(model, eq)
    rotation, joints = root_from_measurement(jacobian)
    nv = model.nv
    out = np.zeros((2 * nv, 6 + 2 * J))
    gyro, gravity = slice(0, 3), slice(3, 6)
    position, velocity = slice(6, 6 + J), slice(6 + J, 6 + 2 * J)
    # Small rotations: gravity_b = (theta_y, -theta_x, -1).
    from_gravity = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 0]])
    out[:6, gravity] = rotation @ from_gravity
    out[:6, position] = joints
    out[6:nv, position] = np.eye(J)
    # The gyroscope measures yaw rate too, but the feet say the same with less noise.
    out[nv : nv + 6, gyro] = rotation
    out[nv : nv + 6, velocity] = joints
    out[nv + 6 :, velocity] = np.eye(J)
    return out


def state_cost(model: mujoco.MjModel, eq: Equilibrium) -> np.ndarray:
    """Return Q (70, 70): centre of mass over the feet, pose kept, all slowly."""
    data = mujoco.MjData(model)
    data.qpos[:] = eq.qpos
    mujoco.mj_forward(model, data)
    com, support = np.zeros((3, model.nv)), foot_jacobian(model, eq)
    mujoco.mj_jacSubtreeCom(model, data, com, 0)
    ahead = com - 0.5 * (support[0:3] + support[6:9])
    nv = model.nv
    cost = np.zeros((2 * nv, 2 * nv))
    cost[:nv, :nv] = 800.0 * ahead[:2].T @ ahead[:2]
    cost[nv:, nv:] = 80.0 * ahead[:2].T @ ahead[:2]
    weights = np.full(J, 1.0)
    weights[robot.WAIST] = 4.0
    weights[[robot.JOINT_INDEX[n] for n in robot.JOINT_NAMES if 'hip' in n or 'knee' in n]] = 2.0
    cost[6:nv, 6:nv] += np.diag(weights)
    cost[3:6, 3:6] += np.diag([20.0, 20.0, 0.0])
    cost[nv + 3 :, nv + 3 :] += 0.01 * np.eye(nv - 3)
    return cost


def riccati(a: np.ndarray, b: np.ndarray, q: np.ndarray, r: np.ndarray) -> np.ndarray:
    """Return the stationary feedback K of u = -K x, by backward recursion of the discounted problem.

    The discount keeps the directions that nothing controls (where the robot stands in the world) finite.
    """
    a, b = DISCOUNT**0.5 * a, DISCOUNT**0.5 * b
    value = q.copy()
    for _ in range(2000):
        gain = np.linalg.solve(r + b.T @ value @ b, b.T @ value @ a)
        value = q + a.T @ value @ (a - b @ gain)
        value = 0.5 * (value + value.T)
    return gain


def design(model: mujoco.MjModel, eq: Equilibrium, action_cost: float) -> Mlp:
    """Return the policy as one linear layer on the observation."""
    a, b_now, b_last = linearise(model, eq)
    scale = np.diag(robot.ACTION_SCALE)
    n = a.shape[0]
    full = np.block([[a, b_last @ scale], [np.zeros((J, n)), np.zeros((J, J))]])
    act = np.concatenate([b_now @ scale, np.eye(J)])
    cost = np.zeros((n + J, n + J))
    cost[:n, :n] = state_cost(model, eq)
    # Cost on the change of action: smooth, and robust against what the linearisation leaves out.
    rate = 0.5 * action_cost
    cost[n:, n:] = rate * np.eye(J)
    gain = riccati_with_cross(full, act, cost, action_cost + rate, rate, n)
    from_state, from_last = gain[:, :n], gain[:, n:]
    measured = -from_state @ observe(model, eq)
    # Actions and joint positions are relative to the default pose, the design to the equilibrium.
    bias_action = (eq.targets - robot.DEFAULT_JOINT_POS) / robot.ACTION_SCALE
    offset = np.zeros(6 + 2 * J)
    offset[3:6] = ob.projected_gravity(eq.qpos[None, 3:7])[0]
    offset[6 : 6 + J] = eq.qpos[7:] - robot.DEFAULT_JOINT_POS
    weight = np.concatenate([measured, -from_last], axis=1)
    bias = bias_action - measured @ offset + from_last @ bias_action
    return Mlp([(weight, bias)])


def riccati_with_cross(a: np.ndarray, b: np.ndarray, q: np.ndarray, r: float, rate: float, n: int) -> np.ndarray:
    """Solve with the cross term of the rate cost |u - u_last|^2 = u'u - 2 u'u_last + u_last'u_last."""
    cross = np.zeros((a.shape[0], J))
    cross[n:] = -rate * np.eye(J)
    shift = cross.T / r  # u = v - shift x removes the cross term
    gain = riccati(a - b @ shift, b, q - cross @ shift, r * np.eye(J))
    return gain + shift


def main() -> None:
    """Design, verify, write."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('out', type=Path)
    parser.add_argument('--trials', type=int, default=64, help='simulated trials per row')
    parser.add_argument('--action-cost', type=float, default=0.3)
    args = parser.parse_args()
    model = precise_model()
    eq = find_equilibrium(model)
    policy = design(model, eq, args.action_cost)
    measured = {}
    with tempfile.TemporaryDirectory() as folder:
        trial_file = Path(folder) / 'stand.onnx'
        write_policy(trial_file, policy, make_metadata({}))
        runtime = PolicyRuntime(trial_file)
        start = settle_qpos(eq.qpos)
        for speed in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5):
            rng = np.random.default_rng(round(speed * 100))
            survived = 0
            for _ in range(args.trials if speed else args.trials // 8):
                push = Push.random(rng, speed)
                survived += fall_free(runtime, start, push, seed=int(rng.integers(1 << 31)))
            total = args.trials if speed else args.trials // 8
            measured[f'upright_after_push_{speed:.1f}_m_per_s'] = f'{survived}/{total}'
            print(f'push {speed:.1f} m/s: {survived}/{total} upright after 10 s')
    sha = write_policy(args.out, policy, make_metadata(measured))
    print(json.dumps({'file': str(args.out), 'sha256': sha, 'measured': measured}))


def make_metadata(measured: dict) -> PolicyMetadata:
    """Return the metadata of the stand policy."""
    return PolicyMetadata(
        skill='stand',
        mode='nep',
        observation_terms=ob.ObservationLayout(TERMS),
        provenance={
            'method': 'LQR output feedback on the linearised MuJoCo model',
            'script': 'src/humanx_policy/scripts/make_stand.py',
        },
        measured=measured,
    )


if __name__ == '__main__':
    main()
