"""ROS parameters of ``sim_g1``: declared with descriptions and ranges, turned into typed configurations."""

from dataclasses import dataclass

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node

from humanx_description.errors import UserError
from humanx_description.skills import Skill, load_skill
from humanx_g1_driver.sim.mocap import MocapConfig
from humanx_g1_driver.sim.sensors import SensorNoise
from humanx_g1_driver.sim.world import WorldConfig

_NOISE, _MOCAP, _WORLD = SensorNoise(), MocapConfig(), WorldConfig()

# name: (default, description, least, greatest); texts and flags have no range.
_TABLE: dict[str, tuple] = {
    'skill': ('stand', 'Skill whose objects and scenario are simulated: a name or a skill file.', None, None),
    'seed': (0, 'Seed of the first episode: scenario, losses and noise.', 0, 2**62),
    'generalise': (False, "Vary the start over the scenario's ranges; otherwise the nominal start.", None, None),
    'balls': (1, 'How often the partner sets the object going in one episode.', 1, 1000),
    'network_interface': ('lo', "Interface of the robot's wire.", None, None),
    'dds_domain': (0, "DDS domain of the robot's wire.", 0, 232),
    'gantry': (True, 'Start hanging on the gantry; otherwise standing on the floor without motor torque.', None, None),
    'auto_release': (True, 'Lower the gantry once the driver stands; otherwise wait for ~/release.', None, None),
    'mode_machine': (5, 'Machine type in LowState, which commands must echo.', 0, 255),
    'actuation_delay_ms': (_WORLD.actuation_delay_ms, "From a command's arrival to its torque, ms.", 0, 50),
    'command_timeout_ms': (_WORLD.command_timeout_ms, 'Silence until the motors damp by themselves, ms.', 1, 10000),
    'silent_damping': (_WORLD.silent_damping, 'Damping of the motors in silence, N m s/rad.', 0.0, 20.0),
    'noise.joint_pos': (_NOISE.joint_pos, 'Joint encoder noise, rad.', 0.0, 0.2),
    'noise.joint_vel': (_NOISE.joint_vel, 'Joint velocity noise, rad/s.', 0.0, 5.0),
    'noise.gyro': (_NOISE.gyro, 'Gyroscope noise, rad/s.', 0.0, 2.0),
    'noise.accel': (_NOISE.accel, 'Accelerometer noise, m/s^2.', 0.0, 10.0),
    'noise.orientation': (_NOISE.orientation, 'IMU orientation noise, rad.', 0.0, 0.2),
    'mocap.rate_hz': (_MOCAP.rate_hz, 'Mocap frames per second.', 100, 500),
    'mocap.dropout': (_MOCAP.dropout, 'Probability per frame that a seen object gets lost.', 0.0, 1.0),
    'mocap.burst': (_MOCAP.burst, 'Longest loss, frames (drawn uniformly from 1).', 1, 1000),
    'mocap.loss': (_MOCAP.loss, 'How a body is lost: missing, frozen or gap.', None, None),
    'mocap.pelvis_dropout': (_MOCAP.pelvis_dropout, 'The same probability for the pelvis.', 0.0, 1.0),
    'mocap.position_noise': (_MOCAP.position_noise, 'Position noise, m.', 0.0, 0.5),
    'mocap.rotation_noise': (_MOCAP.rotation_noise, 'Rotation noise, rad.', 0.0, 1.0),
    'mocap.latency': (_MOCAP.latency, 'From capture to publication, s.', 0.0, 1.0),
    'mocap.jitter': (_MOCAP.jitter, 'Standard deviation of what comes on top of the latency, s.', 0.0, 0.5),
}


@dataclass(frozen=True)
class SimParameters:
    """Everything ``sim_g1`` is told."""

    skill: Skill
    seed: int
    generalise: bool
    network_interface: str
    dds_domain: int
    auto_release: bool
    mode_machine: int
    world: WorldConfig
    mocap: MocapConfig


def declare(node: Node) -> SimParameters:
    """Declare and read every parameter; raises :class:`UserError` naming the one that is wrong."""
    values = {name: _declare_one(node, name, *row) for name, row in _TABLE.items()}
    noise = {key.split('.')[1]: value for key, value in values.items() if key.startswith('noise.')}
    mocap = {key.split('.')[1]: value for key, value in values.items() if key.startswith('mocap.')}
    if mocap['loss'] not in ('missing', 'frozen', 'gap'):
        raise UserError(f'sim_g1: mocap.loss is {mocap["loss"]!r}; expected missing, frozen or gap.')
    try:
        return SimParameters(
            skill=load_skill(values['skill']),
            seed=values['seed'],
            generalise=values['generalise'],
            network_interface=values['network_interface'],
            dds_domain=values['dds_domain'],
            auto_release=values['auto_release'],
            mode_machine=values['mode_machine'],
            world=WorldConfig(
                actuation_delay_ms=values['actuation_delay_ms'],
                command_timeout_ms=values['command_timeout_ms'],
                silent_damping=values['silent_damping'],
                noise=SensorNoise(**noise),
                gantry=values['gantry'],
                balls=values['balls'],
            ),
            mocap=MocapConfig(**mocap),
        )
    except ValueError as error:
        raise UserError(f'sim_g1: {error}') from None


def _declare_one(node: Node, name: str, default, text: str, least, greatest):
    # Read-only: a trial's parameters are what its bag says from beginning to end.
    descriptor = ParameterDescriptor(description=text, read_only=True)
    expected = type(default).__name__
    if isinstance(default, float):
        descriptor.floating_point_range = [FloatingPointRange(from_value=least, to_value=greatest)]
        expected = f'a number from {least} to {greatest}'
    elif isinstance(default, int) and not isinstance(default, bool):
        descriptor.integer_range = [IntegerRange(from_value=least, to_value=greatest)]
        expected = f'a whole number from {least} to {greatest}'
    try:
        return node.declare_parameter(name, default, descriptor).value
    except (InvalidParameterTypeException, InvalidParameterValueException) as error:
        given = getattr(error, '_value', None)
        raise UserError(f'sim_g1: parameter {name} is {given!r}; expected {expected}.') from None
