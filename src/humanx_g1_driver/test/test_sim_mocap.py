"""The simulated mocap: losses, noise, latency."""

from itertools import pairwise

import numpy as np
import pytest

from humanx_g1_driver.sim.mocap import Mocap, MocapConfig

POSES = np.array([[0, 0, 0.8, 1, 0, 0, 0], [3.0, -0.15, 0.11, 1, 0, 0, 0]])
MS = 1_000_000


def frames(count: int, seed: int = 0, **config: object) -> list:
    mocap = Mocap(['pelvis', 'ball'], MocapConfig(**config), seed)
    out = []
    for index in range(count):
        mocap.capture(index * 10 * MS, POSES)
        out += mocap.due(index * 10 * MS)
    out += mocap.due(10**18)
    return out


def test_without_faults_every_body_is_in_every_frame_exactly() -> None:
    out = frames(50, position_noise=0.0, rotation_noise=0.0, latency=0.0, jitter=0.0)
    assert [f.number for f in out] == list(range(1, 51))
    assert all(f.due_ns == f.capture_ns for f in out)
    for frame in out:
        assert [name for name, _ in frame.bodies] == ['pelvis', 'ball']
        np.testing.assert_array_equal(frame.bodies[1][1], POSES[1])


@pytest.mark.parametrize(('dropout', 'burst'), [(0.1, 1), (0.05, 10), (0.02, 50)])
def test_losses_have_the_stated_share_and_length(dropout: float, burst: int) -> None:
    config = MocapConfig(dropout=dropout, burst=burst)
    out = frames(20_000, dropout=dropout, burst=burst)
    seen = np.array([any(name == 'ball' for name, _ in f.bodies) for f in out])
    assert 1 - seen.mean() == pytest.approx(config.loss_fraction(), rel=0.15)
    assert all(any(name == 'pelvis' for name, _ in f.bodies) for f in out)
    edges = np.flatnonzero(np.diff(np.concatenate([[1], seen, [1]])))
    lengths = edges[1::2] - edges[::2]
    if burst > 1:
        assert lengths.mean() == pytest.approx((1 + burst) / 2, rel=0.2)


def test_a_frozen_body_keeps_its_last_pose_bit_by_bit() -> None:
    out = frames(300, dropout=0.1, burst=5, loss='frozen')
    balls = [dict(f.bodies).get('ball') for f in out]
    repeated = [a is not None and np.array_equal(a, b) for a, b in pairwise(balls)]
    assert 20 < sum(repeated) < 150
    pelvis = [dict(f.bodies)['pelvis'] for f in out]
    assert not any(np.array_equal(a, b) for a, b in pairwise(pelvis))


def test_a_gap_takes_the_frame_but_not_its_number() -> None:
    out = frames(300, dropout=0.1, burst=5, loss='gap')
    numbers = [f.number for f in out]
    assert len(out) < 290
    assert max(np.diff(numbers)) > 1
    assert all(len(f.bodies) == 2 for f in out)


def test_latency_and_jitter_delay_but_keep_the_order() -> None:
    out = frames(2000, latency=0.02, jitter=0.01)
    delays = np.array([f.due_ns - f.capture_ns for f in out]) * 1e-9
    assert delays.min() >= 0.02
    assert 0.025 < delays.mean() < 0.035
    assert [f.number for f in out] == sorted(f.number for f in out)
    assert (np.diff([f.due_ns for f in out]) >= 0).all()


def test_noise_has_its_size_and_seed() -> None:
    one, same, other = (frames(500, seed, position_noise=0.003, rotation_noise=0.01) for seed in (1, 1, 2))
    poses = np.array([f.bodies[1][1] for f in one])
    assert np.std(poses[:, :3] - POSES[1, :3]) == pytest.approx(0.003, rel=0.1)
    assert np.std(2 * poses[:, 4:]) == pytest.approx(0.01, rel=0.1)
    np.testing.assert_allclose(np.linalg.norm(poses[:, 3:], axis=1), 1.0)
    np.testing.assert_array_equal(poses, np.array([f.bodies[1][1] for f in same]))
    assert not np.array_equal(poses, np.array([f.bodies[1][1] for f in other]))


@pytest.mark.parametrize(
    'bad', [{'rate_hz': 60}, {'rate_hz': 300}, {'dropout': 1.5}, {'burst': 0}, {'latency': -1.0}, {'jitter': 9.0}]
)
def test_bad_values_are_refused_by_name(bad: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        MocapConfig(**bad)
