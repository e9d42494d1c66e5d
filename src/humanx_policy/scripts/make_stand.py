"""Design the ``stand`` policy: output feedback that balances the G1 around its default pose.

    python src/humanx_policy/scripts/make_stand.py src/humanx_policy/policies/stand.onnx

1. Find a static equilibrium: the default pose with flat feet and the centre of mass over the middle
of the soles,
   lowered into the floor until the contacts carry the weight.
2. Linearise MuJoCo there (finite differences, 1 ms steps) and discretise to the 10 ms control
period, with the delay
   between a measurement and the torque that answers it.
3. Solve the discounted Riccati recursion for the state (35 positions, 35 velocities, last action):
LQR. 4. Express the state by what the policy observes: least squares over the last five measurements
and actions, the linear
   model, and the fact that the feet stand still, from which the pelvis' place and velocity follow.
   It is linear too, so the whole policy is one matrix on the observation history.
5. Verify in simulation on the nonlinear robot, with noise, delay and pushes; write the file with
what was measured.
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
from humanx_policy.stand_trial import Push, run_trial, settle_qpos

TIMESTEP = 0.001
SUBSTEPS = round(CONTROL_PERIOD / TIMESTEP)
DELAY = 8  # substeps between a measurement and its torque: half the state's period, transport, motor
DISCOUNT = 0.998
J = robot.NUM_JOINTS
_RANGE = (robot.JOINT_LOWER, robot.JOINT_UPPER)
TERMS = (
    ob.TermSpec('base_ang_vel', 3, history=ob.HISTORY),
    ob.TermSpec('projected_gravity', 3, history=ob.HISTORY),
    ob.TermSpec('joint_pos', J, history=ob.HISTORY),
    ob.TermSpec('joint_vel', J, history=ob.HISTORY),
    ob.TermSpec('last_action', J, history=ob.HISTORY),
)
RATE_SHARE = 0.5  # of the action cost, on its change
# How far off each may be: the feet's place (m, rad), the model's positions and velocities in one
# period.
FEET_SIGMA, MODEL_SIGMA, VELOCITY_SIGMA = 0.02, 0.001, 0.1


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


def measurement(model: mujoco.MjModel, eq: Equilibrium) -> tuple[np.ndarray, np.ndarray]:
    """Return C (64 + 24, 70) and the standard deviations (88,) of what is known of a state.

    The rows: gyroscope, gravity, joint positions, joint velocities; then that the feet are where
    they were and do not move (always measured as zero).
    """
    nv = model.nv
    c = np.zeros((6 + 2 * J, 2 * nv))
    c[0:3, nv + 3 : nv + 6] = np.eye(3)
    c[3, 4], c[4, 3] = 1.0, -1.0  # small rotations: gravity_b = (theta_y, -theta_x, -1)
    c[6 : 6 + J, 6:nv] = np.eye(J)
    c[6 + J :, nv + 6 :] = np.eye(J)
    feet = foot_jacobian(model, eq)
    still = np.zeros((24, 2 * nv))
    still[:12, :nv], still[12:, nv:] = feet, feet
    sigma = np.concatenate(
        [
            np.full(3, 0.1), np.full(3, 0.01), np.full(J, 0.003), np.full(J, 0.2),
            np.full(12, FEET_SIGMA), np.full(12, 10 * FEET_SIGMA),
        ]
    )  # fmt: skip
    return np.concatenate([c, still]), sigma


def smoother(
    model: mujoco.MjModel, eq: Equilibrium, a: np.ndarray, b_now: np.ndarray, b_last: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return how the state now follows from the last 5 measurements and actions: (70, 5, 64), (70,
    5, 29).

    Weighted least squares over the 5 states of the window: each agrees with its measurement, and
    with the one before by the linear model, within what noise and model error allow. Lag 0 comes
    first. ``b`` are per action.
    """
    n, lags = a.shape[0], len(ob.HISTORY)
    c, sigma = measurement(model, eq)
    seen = 6 + 2 * J
    weighted = c / sigma[:, None]
    process = 1 / np.concatenate([np.full(n // 2, MODEL_SIGMA), np.full(n // 2, VELOCITY_SIGMA)])
    information = np.zeros((lags * n, lags * n))
    from_measured = np.zeros((lags * n, lags, seen))
    from_action = np.zeros((lags * n, lags, J))
    for lag in range(lags):
        at = slice(lag * n, (lag + 1) * n)
        information[at, at] += weighted.T @ weighted
        from_measured[at, lag] = (c[:seen] / sigma[:seen, None] ** 2).T
        if lag + 1 == lags:
            continue
        # x(lag) = A x(lag + 1) + B_now u(lag + 1) + B_last u(lag + 2); action lag 0 is u one tick
        # ago.
        before = slice((lag + 1) * n, (lag + 2) * n)
        step = np.zeros((n, lags * n))
        step[:, at], step[:, before] = np.diag(process), -process[:, None] * a
        information += step.T @ step
        from_action[:, lag] += step.T @ (process[:, None] * b_now)
        from_action[:, lag + 1] += step.T @ (process[:, None] * b_last)
    # Where nothing is known (the place in the world) the prior says: where it was designed.
    inverse = np.linalg.inv(information + 1e-6 * np.eye(lags * n))[:n]
    return (
        np.tensordot(inverse, from_measured, 1),
        np.tensordot(inverse, from_action, 1),
    )


def state_cost(model: mujoco.MjModel, eq: Equilibrium) -> np.ndarray:
    """Return Q (70, 70): centre of mass over the feet, pelvis level, pose kept.

    The weights come from a random search over their orders of magnitude with pushes of 0.3 to 0.5
    m/s as the score.
    """
    data = mujoco.MjData(model)
    data.qpos[:] = eq.qpos
    mujoco.mj_forward(model, data)
    com, support = np.zeros((3, model.nv)), foot_jacobian(model, eq)
    mujoco.mj_jacSubtreeCom(model, data, com, 0)
    ahead = com - 0.5 * (support[0:3] + support[6:9])
    nv = model.nv
    cost = np.zeros((2 * nv, 2 * nv))
    cost[:nv, :nv] = 70.0 * ahead[:2].T @ ahead[:2]
    cost[nv:, nv:] = 20.0 * ahead[:2].T @ ahead[:2]
    joints = np.full(J, 6.0)  # ankles and arms
    joints[[robot.JOINT_INDEX[n] for n in robot.JOINT_NAMES if 'hip' in n or 'knee' in n]] = 0.6
    joints[robot.WAIST] = 2.0
    cost[6:nv, 6:nv] += np.diag(joints)
    cost[3:6, 3:6] += np.diag([30.0, 30.0, 0.0])
    cost[nv + 3 : nv + 6, nv + 3 : nv + 6] += np.diag([1.5, 1.5, 0.0])
    cost[nv + 3 :, nv + 3 :] += 0.1 * np.eye(nv - 3)
    return cost


def riccati(a: np.ndarray, b: np.ndarray, q: np.ndarray, r: np.ndarray) -> np.ndarray:
    """Return the stationary feedback K of u = -K x, by backward recursion of the discounted
    problem.

    The discount keeps the directions that nothing controls (where the robot stands in the world)
    finite.
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
    b_now, b_last = b_now * robot.ACTION_SCALE, b_last * robot.ACTION_SCALE
    n = a.shape[0]
    full = np.block([[a, b_last], [np.zeros((J, n)), np.zeros((J, J))]])
    act = np.concatenate([b_now, np.eye(J)])
    cost = np.zeros((n + J, n + J))
    cost[:n, :n] = state_cost(model, eq)
    # Cost on the change of action: smooth, and robust against what the linearisation leaves out.
    rate = RATE_SHARE * action_cost
    cost[n:, n:] = rate * np.eye(J)
    gain = riccati_with_cross(full, act, cost, action_cost + rate, rate, n)
    from_measured, from_action = smoother(model, eq, a, b_now, b_last)
    measured = -np.tensordot(gain[:, :n], from_measured, 1)  # (29, lag, 64)
    acted = -np.tensordot(gain[:, :n], from_action, 1)  # (29, lag, 29)
    acted[:, 0] -= gain[:, n:]
    # Actions and joint positions are relative to the default pose, the design to the equilibrium.
    bias_action = (eq.targets - robot.DEFAULT_JOINT_POS) / robot.ACTION_SCALE
    offset = np.zeros(6 + 2 * J)
    offset[3:6] = ob.projected_gravity(eq.qpos[None, 3:7])[0]
    offset[6 : 6 + J] = eq.qpos[7:] - robot.DEFAULT_JOINT_POS
    bias = bias_action - measured.sum(1) @ offset - acted.sum(1) @ bias_action
    parts = (
        measured[..., 0:3], measured[..., 3:6], measured[..., 6 : 6 + J], measured[..., 6 + J :],
        acted,
    )  # fmt: skip
    weights = np.concatenate([part.reshape(J, -1) for part in parts], axis=1)
    # A linear law has no limits of its own: noise must not ask a joint for more than its range.
    lower, upper = ((limit - robot.DEFAULT_JOINT_POS) / robot.ACTION_SCALE for limit in _RANGE)
    return Mlp([(weights, bias)], action_lower=lower, action_upper=upper)


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
    parser.add_argument('--trials', type=int, default=50, help='simulated trials per speed')
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
        for speed in (0.0, 0.1, 0.2, 0.3, 0.4):
            rng = np.random.default_rng(round(speed * 100))
            trials = [
                run_trial(runtime, start, Push.random(rng, speed), seed=int(rng.integers(1 << 31)))
                for _ in range(args.trials)
            ]
            upright = [t for t in trials if t.upright]
            drift = max((t.drift for t in upright), default=float('nan'))
            measured[f'push_{speed:.1f}_m_per_s'] = {
                'upright': len(upright),
                'trials': len(trials),
                'largest_drift_m': round(drift, 3),
            }
            print(f'push {speed:.1f} m/s: {measured[f"push_{speed:.1f}_m_per_s"]}')
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
            'simulator': 'MuJoCo at 1 kHz, sensor noise, 6 ms delay',
        },
        measured=measured,
    )


if __name__ == '__main__':
    main()
