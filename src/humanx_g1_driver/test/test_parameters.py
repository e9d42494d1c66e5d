"""The driver node's parameters: defaults, ranges, and the sentences for wrong ones (no process is started)."""

# ruff: noqa: E402
import pytest

rclpy = pytest.importorskip('rclpy', reason='ROS is not installed')

from rclpy.node import Node
from rclpy.parameter import Parameter

from humanx_description import robot
from humanx_description.errors import UserError
from humanx_description.ros.parameters import declare
from humanx_g1_driver.limits import RANGES, SafetyLimits
from humanx_g1_driver.parameters import PARAMS, control_config

pytestmark = pytest.mark.ros


@pytest.fixture(scope='module')
def context():
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=34)
    yield context
    context.try_shutdown()


def _config(context, **overrides):
    node = Node(
        'g1_driver', context=context,
        parameter_overrides=[Parameter(name.replace('__', '.'), value=value) for name, value in overrides.items()],
    )  # fmt: skip
    try:
        return control_config(declare(node, PARAMS))
    finally:
        node.destroy_node()


def test_defaults_stay_on_this_machine_and_are_the_documented_limits(context):
    config = _config(context)
    assert config.network_interface == 'lo'
    assert config.limits == SafetyLimits()
    assert config.limits.targets_timeout == 0.05
    assert config.limits.state_timeout == 0.02
    assert config.stand_pose == list(robot.DEFAULT_JOINT_POS)


def test_the_configuration_survives_the_way_to_the_loop(context):
    config = _config(context, safety__max_tilt=0.8, dds_domain=7)
    assert type(config).from_json(config.to_json()) == config
    assert config.limits.max_tilt == 0.8


@pytest.mark.parametrize(
    ('overrides', 'text'),
    [
        ({'dds_domain': 999}, "parameter 'dds_domain' is 999; expected an integer from 0 to 232"),
        ({'robot_state_rate': 300}, "'robot_state_rate' is 300; expected a divisor of 1000"),
        ({'robot_state_rate': 'fast'}, "'robot_state_rate' is 'fast'; expected an integer"),
        ({'safety__targets_timeout': 5.0}, "'safety.targets_timeout' is 5.0; expected a floating-point number from"),
        ({'safety__max_tilt': 3.0}, "'safety.max_tilt' is 3.0"),
        ({'safety__nonsense': 1.0}, "unknown parameter 'safety.nonsense'"),
        ({'stand_pose': [0.0, 0.1]}, "'stand_pose' has 2 numbers; expected 29"),
        ({'stand_pose': [9.0] + [0.0] * 28}, "'stand_pose' holds 9 for left_hip_pitch_joint; expected -2.53 to 2.88"),
    ],
)
def test_a_wrong_value_is_a_sentence(context, overrides, text):
    with pytest.raises(UserError) as caught:
        _config(context, **overrides)
    assert text in str(caught.value)


@pytest.mark.parametrize('name', list(RANGES))
def test_every_limit_has_a_range_that_holds_its_default_and_is_kept(name):
    low, high, _, _ = RANGES[name]
    assert low <= getattr(SafetyLimits(), name) <= high
    for value in (low - 1e-3, high + 1e-3, float('nan')):
        with pytest.raises(UserError, match=name):
            SafetyLimits(**{name: value})
