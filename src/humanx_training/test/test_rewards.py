"""Every reward and termination term against a case worked out by hand, and its symmetries."""

import math

import pytest
import torch

from humanx_training.xmimic import quaternion as quat
from humanx_training.xmimic import rewards as r
from humanx_training.xmimic import terminations
from humanx_training.xmimic.amp import style_reward


def _z(angle: float) -> torch.Tensor:
    return torch.tensor([math.cos(angle / 2), 0.0, 0.0, math.sin(angle / 2)])


def test_kernel() -> None:
    torch.testing.assert_close(r.kernel(torch.tensor([0.0, 0.03]), 0.03), torch.tensor([1.0, math.exp(-1)]))


def test_position_error_is_the_squared_distance_of_each_body() -> None:
    pos = torch.tensor([[[0.3, 0.4, 0.0], [0.0, 0.0, 0.0]]])
    assert r.position_error(pos, torch.zeros_like(pos)).tolist() == [pytest.approx([0.25, 0.0])]


def test_rotation_error_is_the_squared_angle_of_each_body_whatever_the_sign() -> None:
    a = torch.stack([_z(0.0), _z(0.0)])[None]
    b = torch.stack([_z(0.2), -_z(-0.4)])[None]
    assert r.rotation_error(a, b).tolist() == [pytest.approx([0.04, 0.16], rel=1e-4)]


@pytest.mark.parametrize('angle', [1e-4, 0.5, 2.0, math.pi - 1e-3])
def test_angle_is_accurate_from_small_to_large(angle: float) -> None:
    assert quat.angle(_z(0.3), _z(0.3 + angle)).item() == pytest.approx(angle, rel=2e-3, abs=2e-6)


def test_velocity_errors_are_per_component_and_joint_errors_per_joint() -> None:
    velocity = torch.tensor([[[1.0, 2.0, 2.0], [0.0, 0.0, 0.0]]])
    assert r.velocity_error(velocity, torch.zeros_like(velocity)).tolist() == [[3.0, 0.0]]
    assert r.joint_error(torch.tensor([[1.0, 3.0]]), torch.tensor([[0.0, 0.0]])).tolist() == [[1.0, 9.0]]


def test_relative_position_ignores_a_common_shift_and_sees_the_object_alone() -> None:
    body, obj = torch.rand(1, 3, 3), torch.rand(1, 3)
    shift = torch.tensor([1.0, -2.0, 0.5])
    shifted = r.relative_position_error(body + shift, obj + shift, body, obj)
    assert shifted.tolist() == [pytest.approx([0.0] * 3, abs=1e-9)]
    moved = r.relative_position_error(body, obj + torch.tensor([0.0, 0.1, 0.0]), body, obj)
    assert moved.tolist() == [pytest.approx([0.01] * 3, rel=1e-4)]


def test_relative_rotation_ignores_a_common_turn() -> None:
    body, obj = _z(0.1).expand(1, 2, 4), _z(0.4).expand(1, 4)
    turn = _z(1.0)
    turned = (quat.multiply(turn.expand_as(body), body), quat.multiply(turn.expand_as(obj), obj))
    assert r.relative_rotation_error(*turned, body, obj).tolist() == [pytest.approx([0.0] * 2, abs=1e-6)]
    moved = r.relative_rotation_error(body, _z(0.7).expand(1, 4), body, obj)
    assert moved.tolist() == [pytest.approx([0.09] * 2, rel=1e-3)]


def test_contact_error_marks_wrong_edges() -> None:
    seen = torch.tensor([[True, False, True, False]])
    wanted = torch.tensor([[True, True, True, False]])
    assert r.contact_error(seen, wanted).tolist() == [[0.0, 1.0, 0.0, 0.0]]


def test_regularisation_terms() -> None:
    assert r.torque(torch.tensor([[3.0, 4.0]])).item() == 25.0
    assert r.action_rate(torch.tensor([[1.0, 1.0]]), torch.tensor([[0.0, 1.0]])).item() == 0.5
    assert r.beyond(torch.tensor([[-2.0, 0.0, 3.0]]), -1.0, 1.0).item() == 3.0
    assert r.mean_square(torch.tensor([[1.0, 2.0]])).item() == 2.5


def test_feet_terms_count_only_feet_on_the_floor() -> None:
    tilt = torch.tensor([math.cos(0.1), math.sin(0.1), 0.0, 0.0])  # 0.2 rad about x
    feet = torch.stack([tilt, tilt])[None]
    contact = torch.tensor([[True, False]])
    assert r.feet_orientation(feet, contact).item() == pytest.approx(math.sin(0.2) ** 2, rel=1e-4)
    speed = torch.tensor([[[0.3, 0.4, 9.0], [1.0, 0.0, 0.0]]])
    assert r.feet_slip(speed, contact).item() == pytest.approx(0.25)
    heading = r.feet_heading(torch.stack([_z(0.3), _z(0.1)])[None], _z(0.1)[None])
    assert heading.item() == pytest.approx(0.04, rel=1e-3)
    # The short way round, where the headings lie on both sides of pi.
    across = r.feet_heading(torch.stack([_z(-3.0), _z(3.1)])[None], _z(3.1)[None])
    assert across.item() == pytest.approx((2 * math.pi - 6.1) ** 2, rel=1e-3)


def test_the_matrix_turns_as_the_quaternion_does() -> None:
    generator = torch.Generator().manual_seed(0)
    q = torch.nn.functional.normalize(torch.randn(5, 4, generator=generator), dim=-1)
    v = torch.randn(5, 3, generator=generator)
    torch.testing.assert_close((v[:, None] @ quat.matrix(q))[:, 0], quat.rotate_inverse(q, v))
    torch.testing.assert_close((quat.matrix(q) @ v[..., None])[..., 0], quat.rotate(q, v))


def test_style_reward() -> None:
    got = style_reward(torch.tensor([1.0, -1.0, 0.0, 5.0]), 0.3)
    torch.testing.assert_close(got, torch.tensor([0.3, 0.0, 0.225, 0.0]))


def test_motion_and_orientation_termination() -> None:
    ref = torch.zeros(2, 3, 3)
    pos = ref.clone()
    pos[1, 2, 0] = 0.6
    assert terminations.motion(pos, ref, 0.5).tolist() == [False, True]
    turned = torch.stack([_z(1.0), _z(1.4)])
    assert terminations.orientation(turned, _z(0.0).expand(2, 4), 1.2).tolist() == [False, True]


def test_interaction_termination_needs_contact_in_the_reference_distance_and_luck() -> None:
    body = torch.zeros(5, 2, 3)
    obj = torch.zeros(5, 3)
    obj[1:, 0] = 0.3  # the object is 0.3 m from where it should be, but for the first
    ref_contact = torch.ones(5, 2, dtype=torch.bool)
    ref_contact[2] = False
    draw = torch.tensor([0.0, 0.0, 0.0, 0.5, 0.019])
    got = terminations.interaction(body, obj, body, torch.zeros(5, 3), ref_contact, 0.2, draw, 0.02)
    assert got.tolist() == [False, True, False, False, True]


def test_interaction_termination_happens_at_its_probability() -> None:
    n = 20_000
    draw = torch.rand(n, generator=torch.Generator().manual_seed(0))
    far = torch.full((n, 3), 0.3)
    zero = torch.zeros(n, 1, 3)
    contact = torch.ones(n, 1, dtype=torch.bool)
    got = terminations.interaction(zero, far, zero, torch.zeros(n, 3), contact, 0.2, draw, 0.02)
    assert got.float().mean().item() == pytest.approx(0.02, abs=0.004)


def test_object_termination() -> None:
    obj = torch.tensor([[0.0, 0.0, 0.4], [0.0, 0.0, 0.6], [0.0, 0.0, 0.6]])
    draw = torch.tensor([0.0, 0.0, 0.5])
    assert terminations.object_lost(obj, torch.zeros(3, 3), 0.5, draw, 0.01).tolist() == [False, True, False]
