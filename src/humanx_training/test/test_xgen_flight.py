"""Flights: energy, backward runs that arrive when played forward, bounces with the wanted restitution, rolling,
drag."""

import numpy as np
import pytest

from humanx_description.objects import ObjectSpec
from humanx_training import rotation
from humanx_training.xgen.flight import BodyState, World, arrive, launch_velocity

BALL = ObjectSpec('ball', 'sphere', (0.11,), mass=0.43, restitution=0.7, rolling_rate=0.1)
SHUTTLE = ObjectSpec('shuttle', 'shuttlecock', (0.085, 0.033), mass=0.0053, drag_length=4.6)
UNIT = np.array([1.0, 0.0, 0.0, 0.0])


def state(pos, vel, spin=(0, 0, 0)):
    return BodyState(np.array(pos, float), UNIT, np.array(vel, float), np.array(spin, float))


def test_free_flight_keeps_its_energy_and_is_a_parabola():
    path = World(BALL).forward(state([0, 0, 1.0], [3, 1, 4]), 80, 100.0)
    energy = 9.81 * path.pos[:, 2] + 0.5 * (path.vel**2).sum(axis=1)
    assert np.abs(energy / energy[0] - 1).max() < 0.01
    t = np.arange(80) / 100
    assert np.abs(path.pos[:, 2] - (1 + 4 * t - 0.5 * 9.81 * t**2)).max() < 0.01
    assert np.allclose(path.pos[:, 0], 3 * t, atol=1e-9)


@pytest.mark.parametrize('restitution', [0.5, 0.7, 0.81])
def test_a_bounce_returns_the_wanted_speed(restitution):
    ball = ObjectSpec('ball', 'sphere', (0.12,), mass=0.6, restitution=restitution)
    path = World(ball).forward(state([0, 0, 1.12], [0, 0, 0]), 100, 100.0)
    impact = -path.vel[:, 2].min()
    assert impact == pytest.approx(np.sqrt(2 * 9.81), rel=0.02)
    assert path.vel[:, 2].max() / impact == pytest.approx(restitution, abs=0.04)


def test_rolling_slows_at_the_wanted_rate():
    spin = np.cross([0, 0, 1.0], [2.0, 0, 0]) / 0.11
    path = World(BALL).forward(state([0, 0, 0.11], [2, 0, 0], spin), 201, 100.0)
    assert path.vel[-1, 0] / 2.0 == pytest.approx(np.exp(-0.1 * 2.0), abs=0.02)
    assert np.abs(path.pos[:, 2] - 0.11).max() < 0.003


def test_a_shuttlecock_falls_at_its_terminal_speed():
    path = World(SHUTTLE).forward(state([0, 0, 40.0], [0, 0, 0]), 300, 100.0)
    assert -path.vel[-1, 2] == pytest.approx(np.sqrt(9.81 * 4.6), rel=0.03)


@pytest.mark.parametrize(
    ('world', 'end', 'frames', 'rolling'),
    [
        (BALL, state([0.3, 0.1, 1.0], [-4, 0.1, -2]), 61, False),
        (BALL, state([0.3, 0.1, 1.0], [-3, 0.1, 2.5]), 81, False),  # through a bounce
        (BALL, state([0.3, 0.1, 0.11], [-1.2, 0.1, 0], np.cross([0, 0, 1], [-1.2, 0.1, 0]) / 0.11), 221, True),
        (SHUTTLE, state([0.3, 0.1, 1.0], [-4, 0.1, -4.5]), 61, False),
    ],
)  # fmt: skip
def test_a_backward_run_arrives_when_played_forward(world, end, frames, rolling):
    world = World(world)
    found = arrive(world, end, frames, 100.0, rolling=rolling)
    assert found.pos_error < 0.005
    # The path is not only said to arrive: play its start again.
    again = world.forward(found.path.state(0), frames, 100.0)
    assert np.linalg.norm(again.pos[-1] - end.pos) < 0.005
    if not rolling:
        assert again.pos[:, 2].max() > end.pos[2] - 0.01


def test_drag_runs_backward_as_acceleration():
    end = state([0, 0, 1.0], [-4, 0, -4.5])
    path = World(SHUTTLE).backward(end, 60, 100.0)
    assert np.linalg.norm(path.vel[0]) > np.linalg.norm(path.vel[-1]) + 2.0
    assert np.allclose(path.pos[-1], end.pos)


def test_from_hand_to_hand_over_a_bounce():
    start, goal = np.array([0.3, 0.2, 0.75]), np.array([0.6, 0.2, 0.7])
    found = arrive(
        World(BALL), state(goal, [0, 0, 0]), 62, 100.0, start_pos=start, guess=np.array([0.5, 0, -2.5])
    )
    assert found.pos_error < 0.005
    assert found.path.pos[:, 2].min() < 0.12
    assert np.allclose(found.path.pos[0], start)


def test_launch_velocity_hits_the_target_and_says_when_it_cannot():
    start, target = np.array([0, 0, 1.5]), np.array([2.0, 0.5, 1.8])
    velocity = launch_velocity(start, target, apex=2.3)
    path = World(BALL).forward(BodyState(start, UNIT, velocity, np.zeros(3)), 150, 100.0)
    assert np.linalg.norm(path.pos - target, axis=1).min() < 0.03
    assert path.pos[:, 2].max() == pytest.approx(2.3, abs=0.01)
    with pytest.raises(ValueError, match='apex'):
        launch_velocity(start, target, apex=1.6)


def test_a_shuttlecock_turns_into_the_wind_and_keeps_its_path():
    world = World(SHUTTLE)
    # Struck: the cork still points at the racket, against the velocity.
    backward = rotation.between(np.array([1.0, 0.0, 0.0]), np.array([-1.0, 0.0, 0.0]))
    start = BodyState(np.array([0.0, 0.0, 1.8]), backward, np.array([12.0, 0.0, 3.0]), np.zeros(3))
    path = world.forward(start, 200, 100.0)
    cork = rotation.rotate(path.quat, np.tile([1.0, 0.0, 0.0], (200, 1)))
    wind = path.vel / np.linalg.norm(path.vel, axis=1, keepdims=True)
    angle = np.degrees(np.arccos(np.clip((cork * wind).sum(axis=1), -1, 1)))
    flying = np.cumsum(path.pos[:, 2] < 0.2) == 0
    assert flying.sum() > 60
    # Measured shuttlecocks need 20 to 40 ms at this speed, and 100 ms to settle.
    assert angle[1] > 100
    assert angle[5] < 60
    assert angle[12:][flying[12:]].max() < 10
    # Where it is does not depend on how it is turned, until it lands.
    other = world.forward(BodyState(start.pos, UNIT, start.vel, np.zeros(3)), 200, 100.0)
    assert np.allclose(other.pos[flying], path.pos[flying], atol=1e-9)
    step = np.linalg.norm(rotation.log(rotation.multiply(rotation.conjugate(path.quat[:-1]), path.quat[1:])), axis=1)
    assert step[12 : flying.sum()].max() < 0.1


def test_a_shuttlecock_arrives_cork_ahead():
    end = BodyState(np.array([0.3, 0.0, 2.0]), UNIT, np.array([-5.0, 0.0, -3.0]), np.zeros(3))
    path = arrive(World(SHUTTLE), end, 60, 100.0).path
    cork = rotation.rotate(path.quat, np.tile([1.0, 0.0, 0.0], (60, 1)))
    wind = path.vel / np.linalg.norm(path.vel, axis=1, keepdims=True)
    assert (cork * wind).sum(axis=1).min() > np.cos(np.deg2rad(5))
