"""The observation code: hand-computed values, history semantics, numpy against torch, speed."""

import time

import numpy as np
import pytest

from humanx_policy import observation as ob

J = 29


def rotation_matrix(quat: np.ndarray) -> np.ndarray:
    """Return (N, 3, 3) from (N, 4) w first, by the textbook formula."""
    w, x, y, z = quat.T
    return np.stack(
        [
            np.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], -1),
            np.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], -1),
            np.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], -1),
        ],
        -2,
    )


def random_quats(rng: np.random.Generator, n: int) -> np.ndarray:
    q = rng.normal(size=(n, 4))
    return q / np.linalg.norm(q, axis=1, keepdims=True)


def random_terms(rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
    quat = random_quats(rng, n)
    terms = ob.proprioception(
        base_ang_vel=rng.normal(size=(n, 3)),
        root_quat=quat,
        joint_pos=rng.normal(size=(n, J)),
        joint_vel=rng.normal(size=(n, J)),
        last_action=rng.normal(size=(n, J)),
        default_joint_pos=rng.normal(size=J),
        action_scale=rng.uniform(0.1, 1, size=J),
    )
    terms |= ob.object_observation(
        root_pos=rng.normal(size=(n, 3)),
        root_quat=quat,
        object_pos=rng.normal(size=(n, 1, 3)),
        tracked=rng.random((n, 1)) > 0.3,
    )
    return terms


def test_rotations_equal_the_matrix():
    rng = np.random.default_rng(0)
    quat, vec = random_quats(rng, 50), rng.normal(size=(50, 3))
    matrix = rotation_matrix(quat)
    np.testing.assert_allclose(ob.quat_rotate_inverse(quat, vec), np.einsum('nji,nj->ni', matrix, vec), atol=1e-12)
    np.testing.assert_allclose(ob.projected_gravity(quat), -matrix[:, 2], atol=1e-12)
    np.testing.assert_allclose(ob.yaw(quat), np.arctan2(matrix[:, 1, 0], matrix[:, 0, 0]), atol=1e-12)


def test_heading_frame_by_hand():
    # Pelvis at (1, 2, 0.8), turned 90 degrees left and then pitched 30 degrees: pitch must not
    # matter.
    half, pitch = np.pi / 4, np.pi / 12
    turn = np.array([np.cos(half), 0, 0, np.sin(half)])
    nod = np.array([np.cos(pitch), 0, np.sin(pitch), 0])
    w1, z1, w2, y2 = turn[0], turn[3], nod[0], nod[2]
    quat = np.array([[w1 * w2, -z1 * y2, w1 * y2, z1 * w2]])
    point = np.array([[[1.0, 5.0, 0.1]]])
    got = ob.to_heading_frame(np.array([[1.0, 2.0, 0.8]]), quat, point)
    np.testing.assert_allclose(got, [[[3.0, 0.0, -0.7]]], atol=1e-12)


def test_lost_object_is_zero_with_its_flag_even_if_never_seen():
    out = ob.object_observation(
        root_pos=np.zeros((1, 3)),
        root_quat=np.array([[1.0, 0, 0, 0]]),
        object_pos=np.array([[[np.nan, 0, 0], [1, 2, 3]]]),
        tracked=np.array([[False, True]]),
    )
    np.testing.assert_array_equal(out['object_pos'], [[0, 0, 0, 1, 2, 3]])
    np.testing.assert_array_equal(out['object_tracked'], [[0, 1]])


def test_an_object_beyond_the_room_is_seen_at_its_edge_by_numpy_and_torch_alike():
    import torch

    seen = {
        'root_pos': np.zeros((1, 3)),
        'root_quat': np.array([[1.0, 0, 0, 0]]),
        'object_pos': np.array([[[30.0, 40.0, 0.0], [3.0, -4.0, 0.0]]]),
        'tracked': np.array([[True, True]]),
    }
    edge = ob.MAX_OBJECT_DISTANCE
    wanted = [[0.6 * edge, 0.8 * edge, 0, 3, -4, 0]]
    np.testing.assert_allclose(ob.object_observation(**seen)['object_pos'], wanted, atol=1e-12)
    tensors = {name: torch.from_numpy(value) for name, value in seen.items()}
    np.testing.assert_allclose(ob.object_observation(**tensors)['object_pos'].numpy(), wanted, atol=1e-12)


def test_pd_error_is_last_target_minus_position():
    q0, scale = np.full(J, 0.3), np.full(J, 0.5)
    terms = ob.proprioception(
        base_ang_vel=np.zeros((1, 3)),
        root_quat=np.array([[1.0, 0, 0, 0]]),
        joint_pos=np.full((1, J), 0.4),
        joint_vel=np.zeros((1, J)),
        last_action=np.full((1, J), 2.0),
        default_joint_pos=q0,
        action_scale=scale,
    )
    target = ob.joint_targets(np.full((1, J), 2.0), q0, scale)
    np.testing.assert_allclose(terms['pd_error'], target - 0.4)
    np.testing.assert_allclose(terms['joint_pos'], 0.1)


def test_default_layout_sizes():
    nep = ob.ObservationLayout(ob.nep_terms())
    assert nep.size == 494  # the paper's
    mocap = ob.ObservationLayout(ob.mocap_terms(object_history=range(5)))
    assert mocap.size == 494 + 5 * 4
    assert ob.ObservationLayout.from_json(mocap.to_json()) == mocap
    assert mocap.slice_of('object_pos', 2) == slice(494 + 6, 494 + 9)


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        ({'size': 0}, 'size'),
        ({'scale': float('nan')}, 'scale'),
        ({'scale': 0}, 'scale'),
        ({'history': []}, 'history'),
        ({'history': [0, 0]}, 'twice'),
        ({'history': [-1]}, 'history'),
        ({'history': [0.5]}, 'history'),
        ({'name': ''}, 'name'),
        ({'more': 1}, 'mapping of name'),
    ],
)
def test_bad_terms_are_refused_by_name(change, said):
    with pytest.raises(ValueError, match=said):
        ob.ObservationLayout.from_list([{'name': 'joint_pos', 'size': 29, 'scale': 1.0, 'history': [0]} | change])


def test_history_order_scale_and_fill():
    layout = ob.ObservationLayout((ob.TermSpec('a', 2, 10.0, (0, 1, 3)), ob.TermSpec('b', 1, 1.0, (2, 0))))
    history = ob.ObservationHistory(layout, 2)
    with pytest.raises(RuntimeError):
        history.vector()

    def push(t: float) -> np.ndarray:
        history.push({'a': np.array([[t, -t], [100 + t, 0]]), 'b': np.array([[t], [2 * t]])})
        return history.vector()

    v = push(1)
    np.testing.assert_array_equal(v[0], [10, -10, 10, -10, 10, -10, 1, 1])  # first frame fills
    for t in (2, 3, 4, 5):
        v = push(t)
    np.testing.assert_array_equal(v[0], [50, -50, 40, -40, 20, -20, 3, 5])
    np.testing.assert_array_equal(v[1], [1050, 0, 1040, 0, 1020, 0, 6, 10])
    # Two resets before one push add up; the other environment keeps its history.
    history.reset(np.array([True, False]))
    history.reset(np.array([False, False]))
    v = push(6)
    np.testing.assert_array_equal(v[0], [60, -60, 60, -60, 60, -60, 6, 6])
    np.testing.assert_array_equal(v[1], [1060, 0, 1050, 0, 1030, 0, 8, 12])


def test_history_equals_a_naive_reimplementation():
    rng = np.random.default_rng(1)
    layout = ob.ObservationLayout(ob.mocap_terms())
    history = ob.ObservationHistory(layout, 3)
    past: list[list[dict]] = [[], [], []]
    for _ in range(80):
        terms = random_terms(rng, 3)
        mask = rng.random(3) < 0.05
        history.reset(mask)
        history.push(terms)
        vector = history.vector()
        for env in range(3):
            if mask[env]:
                past[env] = []
            past[env].append({k: v[env] for k, v in terms.items()})
            want = np.concatenate(
                [
                    t.scale * past[env][max(len(past[env]) - 1 - lag, 0)][t.name]
                    for t in layout.terms
                    for lag in t.history
                ]
            )
            np.testing.assert_allclose(vector[env], want, rtol=1e-6, atol=1e-6)


def test_wrong_shape_and_missing_term_are_refused():
    history = ob.ObservationHistory(ob.ObservationLayout((ob.TermSpec('a', 2),)), 2)
    with pytest.raises(ValueError, match="term 'a' has shape"):
        history.push({'a': np.zeros((2, 3))})
    with pytest.raises(KeyError):
        history.push({'b': np.zeros((2, 2))})
    with pytest.raises(ValueError, match='reset mask'):
        history.reset(np.ones(3, bool))


def test_torch_equals_numpy():
    torch = pytest.importorskip('torch')
    torch.set_num_threads(1)
    rng = np.random.default_rng(2)
    layout = ob.ObservationLayout(ob.mocap_terms())
    with_numpy = ob.ObservationHistory(layout, 4)
    with_torch = ob.ObservationHistory(layout, 4, device='cpu')
    default, scale = rng.normal(size=J), rng.uniform(0.1, 1, J)
    for step in range(50):
        quat = random_quats(rng, 4)
        state = {
            'base_ang_vel': rng.normal(size=(4, 3)),
            'root_quat': quat,
            'joint_pos': rng.normal(size=(4, J)),
            'joint_vel': rng.normal(size=(4, J)),
            'last_action': rng.normal(size=(4, J)),
            'default_joint_pos': default,
            'action_scale': scale,
        }
        seen = {
            'root_pos': rng.normal(size=(4, 3)),
            'root_quat': quat,
            'object_pos': rng.normal(size=(4, 1, 3)),
            'tracked': rng.random((4, 1)) > 0.3,
        }
        mask = rng.random(4) < 0.1
        dtype = torch.float32 if step % 2 else torch.float64

        def tensor(value, dtype=dtype):
            value = torch.as_tensor(value)
            return value if value.dtype == torch.bool else value.to(dtype)

        with_numpy.reset(mask)
        with_torch.reset(torch.as_tensor(mask))
        with_numpy.push(ob.proprioception(**state) | ob.object_observation(**seen))
        with_torch.push(
            ob.proprioception(**{k: tensor(v) for k, v in state.items()})
            | ob.object_observation(**{k: tensor(v) for k, v in seen.items()})
        )
        got = with_torch.vector()
        assert got.dtype == torch.float32
        np.testing.assert_allclose(got.numpy(), with_numpy.vector(), atol=2e-6)


def best_time(function, repeats: int) -> float:
    """Return the shortest time of one call in s; the longer ones measure the machine's load."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


@pytest.mark.parametrize(('num_envs', 'limit'), [(1, 150e-6), (512, 2e-3)])
def test_tick_is_fast(num_envs, limit):
    rng = np.random.default_rng(3)
    history = ob.ObservationHistory(ob.ObservationLayout(ob.mocap_terms()), num_envs)
    terms = {k: v.astype(np.float32) for k, v in random_terms(rng, num_envs).items()}
    out = history.push(terms) or history.vector()

    def tick():
        history.push(terms)
        history.vector(out)

    assert best_time(tick, 200) < limit
