"""The contract of the simulators: the C stepper against MuJoCo itself, parameters, forces, contacts, divergence."""

import math

import mujoco
import numpy as np
import pytest
import torch

from humanx_description import robot
from humanx_description.errors import UserError
from humanx_description.objects import ObjectSpec
from humanx_description.scene import default_qpos, scene
from humanx_training.xmimic.sim import MujocoSimulator, SimSpec, make_simulator
from humanx_training.xmimic.sim.base import command_age, delayed

BALL = ObjectSpec('ball', 'sphere', (0.11,), mass=0.43, drag_length=8.0)
SPEC = SimSpec(
    bodies=(*robot.KEY_BODIES, 'ball'),
    contact_groups={'ball': ['ball'], 'floor': ['floor'], 'feet': ['body:*_ankle_roll_link']},
    contact_pairs=(('ball', 'floor'), ('feet', 'floor'), ('feet', 'ball')),
    force_bodies=('torso_link',),
    drag={'ball': 0.43 / 8.0},
)


@pytest.fixture(scope='module')
def model() -> mujoco.MjModel:
    return scene([BALL])


def _start(sim: MujocoSimulator, height: float = 0.5) -> None:
    rng = np.random.default_rng(1)
    qpos = np.tile(default_qpos([BALL]), (sim.num_envs, 1))
    qpos[:, 7:36] += rng.normal(0, 0.05, (sim.num_envs, 29))
    qpos[:, 36:39] = [0.5, 0.0, height]
    sim.set_state(qpos, np.zeros((sim.num_envs, sim.model.nv)))


def _targets(sim: MujocoSimulator, tick: int) -> np.ndarray:
    return np.tile(robot.DEFAULT_JOINT_POS + 0.1 * math.sin(0.1 * tick), (sim.num_envs, 1))


def test_matches_mujoco_step_by_step(model: mujoco.MjModel) -> None:
    sim = MujocoSimulator(model, 3, SimSpec(bodies=('pelvis', 'left_wrist_yaw_link')), native=True)
    _start(sim)
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:] = sim.qpos[1].numpy(), 0.0
    for tick in range(40):
        sim.step(_targets(sim, tick), 2)
        data.ctrl[:] = _targets(sim, tick)[1]
        mujoco.mj_step(model, data, 2)
    np.testing.assert_allclose(sim.qpos[1], data.qpos, atol=1e-12)
    np.testing.assert_allclose(sim.qvel[1], data.qvel, atol=1e-12)
    mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)
    mujoco.mj_comVel(model, data)
    hand = model.body('left_wrist_yaw_link').id
    velocity = np.zeros(6)
    mujoco.mj_objectVelocity(model, data, mujoco.mjtObj.mjOBJ_XBODY, hand, velocity, 0)
    np.testing.assert_allclose(sim.xpos[1, 1], data.xpos[hand], atol=1e-12)
    np.testing.assert_allclose(sim.xvel[1, 1], np.r_[velocity[3:], velocity[:3]], atol=1e-10)


def test_native_and_python_steppers_agree_in_everything(model: mujoco.MjModel) -> None:
    sims = [MujocoSimulator(model, 6, SPEC, native=native) for native in (True, False)]
    for sim in sims:
        _start(sim)
        sim.parameter('geom_friction')[:, :, 0] *= torch.linspace(0.5, 1.2, 6)[:, None]
        sim.parameter('body_mass')[:, 5] *= torch.linspace(0.8, 1.3, 6)
        sim.refresh_constants()
        sim.delay[:] = torch.arange(6) % 3
        sim.xfrc[:, 0, 0] = 20.0
        for tick in range(40):
            sim.step(_targets(sim, tick), 2)
    for name, array in vars(sims[0].buffers).items():
        other = getattr(sims[1].buffers, name)
        np.testing.assert_allclose(array.astype(float), other.astype(float), atol=1e-9, err_msg=name)
    assert sims[0].contact[:, 1].all()


def test_threads_do_not_change_the_result(model: mujoco.MjModel) -> None:
    results = []
    for threads in (1, 2):
        sim = MujocoSimulator(model, 16, SPEC, threads=threads)
        _start(sim)
        for tick in range(30):
            sim.step(_targets(sim, tick), 2)
        results.append(sim.buffers.qpos.copy())
    assert np.array_equal(*results)


def test_contact_is_decided_by_geometry_pairs(model: mujoco.MjModel) -> None:
    sim = MujocoSimulator(model, 2, SPEC)
    _start(sim, height=2.0)
    qpos = sim.qpos.clone()
    qpos[1, 38] = 0.109
    sim.set_state(qpos, sim.qvel.clone())
    ball_floor, _, feet_ball = (sim.pair_index[p] for p in SPEC.contact_pairs)
    sim.step(_targets(sim, 0), 2)
    assert not sim.contact[0, ball_floor]
    assert sim.contact[1, ball_floor]
    assert not sim.contact[:, feet_ball].any()
    # The ball on the toes, clear of the floor.
    foot = sim.xpos[0, sim.body_index['right_ankle_roll_link']]
    qpos[0, 36:39] = foot + torch.tensor([0.11, 0.0, 0.09], dtype=torch.float64)
    sim.set_state(qpos, torch.zeros_like(sim.qvel))
    assert sim.contact[0, feet_ball]
    assert not sim.contact[0, ball_floor]


def test_standing_contact_force_is_the_weight(model: mujoco.MjModel) -> None:
    sim = MujocoSimulator(model, 1, SPEC)
    qpos = default_qpos([BALL])[None].copy()
    sim.set_state(qpos, np.zeros((1, model.nv)))
    forces = []
    for _ in range(60):
        sim.step(np.tile(robot.DEFAULT_JOINT_POS, (1, 1)), 2)
        forces.append(float(sim.contact_force[0, sim.pair_index[('feet', 'floor')]]))
    weight = 9.81 * float(model.body_mass.sum() - BALL.mass)
    assert np.mean(forces[20:]) == pytest.approx(weight, rel=0.1)


def test_a_push_accelerates_by_force_over_mass(model: mujoco.MjModel) -> None:
    spec = SimSpec(force_bodies=('ball',))
    sim = MujocoSimulator(model, 2, spec)
    _start(sim, height=3.0)
    sim.xfrc[1, 0, 0] = 2.0
    sim.step(_targets(sim, 0), 10)
    assert float(sim.qvel[1, 35] - sim.qvel[0, 35]) == pytest.approx(2.0 / BALL.mass * 0.05, rel=1e-6)


def test_drag_reaches_terminal_speed(model: mujoco.MjModel) -> None:
    sim = MujocoSimulator(model, 1, SPEC)
    qpos = default_qpos([BALL])[None].copy()
    qpos[0, 38] = 200.0
    sim.set_state(qpos, np.zeros((1, model.nv)))
    for _ in range(100):
        sim.step(_targets(sim, 0), 10)
    assert float(-sim.qvel[0, 37]) == pytest.approx(math.sqrt(9.81 * BALL.drag_length), rel=0.02)


@pytest.mark.parametrize('native', [True, False])
def test_a_delayed_command_arrives_however_late(model: mujoco.MjModel, native: bool) -> None:
    """Against one environment without delay whose commands are given substep by substep."""
    delays, steps, substeps = [0, 1, 2, 3, 5], 5, 2
    sim = MujocoSimulator(model, len(delays), SPEC, native=native or False)
    plain = MujocoSimulator(model, len(delays), SPEC, native=native or False)
    for each in (sim, plain):
        _start(each)
    hold = sim.qpos[:, 7:36].clone()
    sim.delay[:] = torch.tensor(delays, dtype=torch.int32)
    commands = [hold + 0.05 * (step + 1) for step in range(steps)]
    for step in range(steps):
        sim.step(commands[step], substeps)
        for substep in range(substeps):
            now = step * substeps + substep
            arrived = [hold[e] if now < d else commands[(now - d) // substeps][e] for e, d in enumerate(delays)]
            plain.step(torch.stack(arrived), 1)
    np.testing.assert_allclose(sim.qpos.numpy(), plain.qpos.numpy(), atol=1e-9)
    assert not np.allclose(sim.qpos[0, 7:36], sim.qpos[4, 7:36], atol=1e-3)


def test_age_of_the_command_in_effect() -> None:
    delay = torch.tensor([0, 1, 2, 3, 20])
    assert command_age(delay, 0, 2).tolist() == [0, 1, 1, 2, 4]
    assert command_age(delay, 1, 2).tolist() == [0, 0, 1, 1, 4]
    past = torch.arange(4.0)[None, :, None].repeat(3, 1, 1)
    assert delayed(torch.full((3, 1), 9.0), past, torch.tensor([0, 1, 4])).flatten().tolist() == [9.0, 0.0, 3.0]


def test_mass_override_changes_only_its_environment(model: mujoco.MjModel) -> None:
    sim = MujocoSimulator(model, 2, SimSpec(force_bodies=('ball',)))
    body = model.body('ball').id
    sim.parameter('body_mass')[1, body] *= 2.0
    sim.parameter('body_inertia')[1, body] *= 2.0
    sim.refresh_constants()
    assert float(sim.parameter('body_subtreemass')[1, body]) == pytest.approx(2 * BALL.mass)
    _start(sim, height=3.0)
    sim.xfrc[:, 0, 0] = 2.0
    sim.step(_targets(sim, 0), 10)
    speed = sim.qvel[:, 35]
    assert float(speed[0] / speed[1]) == pytest.approx(2.0, rel=1e-6)
    assert model.body_mass[body] == BALL.mass


def test_divergence_is_flagged_and_keeps_its_cause(model: mujoco.MjModel) -> None:
    sim = MujocoSimulator(model, 3, SPEC)
    _start(sim)
    ctrl = _targets(sim, 0)
    before = sim.qpos.clone()
    qvel = sim.qvel.clone()
    qvel[1, 3] = 1e12
    sim.set_state(before, qvel)
    sim.step(ctrl, 2)
    assert sim.finite.tolist() == [True, False, True]
    assert float(sim.qvel[1, 3]) == 1e12
    sim.set_state(before[1:2], torch.zeros_like(qvel[1:2]), torch.tensor([1]))
    assert sim.finite.all()


@pytest.mark.parametrize(
    ('spec', 'words'),
    [
        (SimSpec(bodies=('tail',)), "no body 'tail'"),
        (SimSpec(contact_groups={'a': ['nothing*']}), "'a' names no geom"),
        (SimSpec(contact_groups={'a': ['floor']}, contact_pairs=(('a', 'b'),)), "uses 'b'"),
        (SimSpec(drag={'torso_link': 1.0}), 'no free joint'),
    ],
)
def test_bad_specs_are_named(model: mujoco.MjModel, spec: SimSpec, words: str) -> None:
    with pytest.raises(UserError, match=words):
        MujocoSimulator(model, 1, spec)


def test_unknown_simulator_and_parameter_are_named(model: mujoco.MjModel) -> None:
    with pytest.raises(UserError, match='expected one of mujoco, mujoco_warp, isaacgym'):
        make_simulator('bullet', model, 1)
    with pytest.raises(UserError, match='body_colour'):
        MujocoSimulator(model, 1).parameter('body_colour')
