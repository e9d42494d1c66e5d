"""What every simulator must do alike; each backend runs where its package is installed."""

import importlib.util

import numpy as np
import pytest
import torch

from humanx_description import robot
from humanx_description.errors import UserError
from humanx_description.objects import ObjectSpec
from humanx_description.scene import default_qpos, scene
from humanx_training.xmimic.sim import SIMULATORS, SimSpec, Simulator, make_simulator

_PACKAGE = {'mujoco': 'mujoco', 'mujoco_warp': 'mujoco_warp', 'isaacgym': 'isaacgym'}
BALL = ObjectSpec('ball', 'sphere', (0.11,), mass=0.43)
SPEC = SimSpec(
    bodies=(*robot.KEY_BODIES, 'ball'),
    contact_groups={'ball': ['body:ball'], 'floor': ['floor'], 'feet': ['body:*_ankle_roll_link']},
    contact_pairs=(('ball', 'floor'), ('feet', 'floor'), ('feet', 'ball')),
    force_bodies=('torso_link',),
    drag={'ball': 0.05},
)
# Positions after 20 ms from equal states, against the C engine: float32 and another solver order.
TOLERANCE = {'mujoco': 1e-12, 'mujoco_warp': 2e-4, 'isaacgym': 2e-2}


@pytest.fixture(params=SIMULATORS)
def name(request: pytest.FixtureRequest) -> str:
    if importlib.util.find_spec(_PACKAGE[request.param]) is None:
        pytest.skip(f'the package {_PACKAGE[request.param]} is not installed')
    return request.param


@pytest.fixture(scope='module')
def made() -> dict:
    return {}


@pytest.fixture
def sim(name: str, made: dict) -> Simulator:
    if name not in made:
        made[name] = make_simulator(name, scene([BALL]), 3, SPEC)
    simulator = made[name]
    simulator.delay.zero_()
    simulator.xfrc.zero_()
    _reset(simulator)
    return simulator


def _reset(sim: Simulator, height: float = 0.6) -> None:
    qpos = torch.as_tensor(default_qpos([BALL])).repeat(3, 1)
    qpos[:, 7:36] += 0.05 * torch.randn(3, 29, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    qpos[:, 36:39] = torch.tensor([0.6, 0.0, height])
    sim.set_state(qpos.to(sim.qpos), torch.zeros(3, sim.model.nv).to(sim.qvel))


def _hold(sim: Simulator) -> torch.Tensor:
    return torch.tensor(robot.DEFAULT_JOINT_POS.copy()).repeat(3, 1).to(sim.qpos)


def test_state_is_what_was_set(sim: Simulator) -> None:
    assert sim.qpos.shape == (3, sim.model.nq)
    assert sim.finite.all()
    torch.testing.assert_close(sim.xpos[:, 0].double(), sim.qpos[:, :3].double())
    torch.testing.assert_close(sim.xpos[:, -1].double(), sim.qpos[:, 36:39].double())


def test_short_trajectory_agrees_with_the_c_engine(sim: Simulator, name: str) -> None:
    reference = make_simulator('mujoco', sim.model, 3, SPEC)
    _reset(reference)
    worst = 0.0
    for _ in range(2):
        sim.step(_hold(sim), 2)
        reference.step(_hold(reference), 2)
        worst = max(worst, float((sim.qpos.double().cpu() - reference.qpos).abs().max()))
    assert worst <= TOLERANCE[name]
    np.testing.assert_allclose(
        sim.xpos.double().cpu(), reference.xpos, atol=max(TOLERANCE[name], 1e-9)
    )


def test_a_falling_ball_and_drag(sim: Simulator) -> None:
    _reset(sim, height=5.0)
    qvel = torch.zeros(3, sim.model.nv)
    qvel[:, 35] = 10.0
    sim.set_state(sim.qpos.clone(), qvel.to(sim.qvel))
    sim.step(_hold(sim), 4)
    assert float(sim.qvel[0, 37]) == pytest.approx(-9.81 * 0.02, abs=0.01)
    # dv = -k v^2 / m dt
    assert float(sim.qvel[0, 35]) == pytest.approx(10.0 - 0.05 * 100.0 / 0.43 * 0.02, abs=0.01)


def test_contact_pairs(sim: Simulator) -> None:
    _reset(sim, height=0.109)
    sim.step(_hold(sim), 2)
    assert sim.contact[:, sim.pair_index[('ball', 'floor')]].all()
    assert not sim.contact[:, sim.pair_index[('feet', 'ball')]].any()
    _reset(sim, height=1.0)
    sim.step(_hold(sim), 2)
    assert not sim.contact[:, sim.pair_index[('ball', 'floor')]].any()


def test_states_are_set_for_some_environments_only(sim: Simulator) -> None:
    sim.step(_hold(sim), 2)
    before = sim.qpos.clone()
    new = before[1:2].clone()
    new[:, 2] += 0.1
    sim.set_state(new, torch.zeros_like(sim.qvel[1:2]), torch.tensor([1], device=sim.device))
    torch.testing.assert_close(sim.qpos[[0, 2]], before[[0, 2]])
    torch.testing.assert_close(sim.qpos[1], new[0])
    assert float(sim.xpos[1, 0, 2]) == pytest.approx(float(new[0, 2]), abs=1e-5)


def test_a_force_moves_its_environment_only(sim: Simulator) -> None:
    sim.xfrc[1, 0, 0] = 100.0
    sim.step(_hold(sim), 2)
    assert float(sim.qvel[1, 0]) > float(sim.qvel[0, 0]) + 0.005


def test_parameters_differ_between_environments(sim: Simulator, name: str) -> None:
    if name == 'isaacgym':
        with pytest.raises(UserError, match='cannot vary'):
            sim.parameter('body_mass')
        return
    gain, bias = sim.parameter('actuator_gainprm'), sim.parameter('actuator_biasprm')
    assert gain.shape == (3, *sim.model.actuator_gainprm.shape)
    gain[2, :, 0] *= 0.5
    bias[2, :, 1] *= 0.5
    sim.step(_hold(sim) + 0.2, 2)
    assert not torch.allclose(sim.qvel[2, 6:35], sim.qvel[0, 6:35], atol=0.1)
    gain[2], bias[2] = gain[0], bias[0]


def test_a_backend_without_its_package_says_so() -> None:
    missing = [n for n in SIMULATORS if importlib.util.find_spec(_PACKAGE[n]) is None]
    if not missing:
        pytest.skip('every backend is installed')
    for backend in missing:
        with pytest.raises(UserError, match='missing'):
            make_simulator(backend, scene([BALL]), 1, SPEC)
