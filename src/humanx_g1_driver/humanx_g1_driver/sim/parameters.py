"""ROS parameters of ``sim_g1``: declared with descriptions and ranges, turned into typed configurations."""

from rclpy.node import Node

from humanx_description.errors import UserError
from humanx_description.ros.parameters import Param
from humanx_description.ros.parameters import declare as declare_all
from humanx_description.skills import load_skill
from humanx_g1_driver.sim.mocap import MocapConfig
from humanx_g1_driver.sim.options import SensorNoise, WorldConfig
from humanx_g1_driver.sim.protocol import SimParameters

_NOISE, _MOCAP, _WORLD = SensorNoise(), MocapConfig(), WorldConfig()

PARAMS = (
    Param('skill', 'stand', 'Skill whose objects and scenario are simulated: a name or a skill file.'),
    Param('seed', 0, 'Seed of the first episode: scenario, losses and noise.', 0, 2**62),
    Param('generalise', False, "Vary the start over the scenario's ranges; otherwise the nominal start."),
    Param('balls', 1, 'How often the partner sets the object going in one episode.', 1, 1000),
    Param('network_interface', 'lo', "Interface of the robot's wire."),
    Param('dds_domain', 0, "DDS domain of the robot's wire.", 0, 232),
    Param('gantry', True, 'Start hanging on the gantry; otherwise standing on the floor without motor torque.'),
    Param('auto_release', True, 'Lower the gantry once the driver stands; otherwise wait for ~/release.'),
    Param('mode_machine', 5, 'Machine type in LowState, which commands must echo.', 0, 255),
    Param('actuation_delay_ms', _WORLD.actuation_delay_ms, "From a command's arrival to its torque, ms.", 0, 50),
    Param('command_timeout_ms', _WORLD.command_timeout_ms, 'Silence until the motors damp, ms.', 1, 10000),
    Param('silent_damping', _WORLD.silent_damping, 'Damping of the motors in silence, N m s/rad.', 0.0, 20.0),
    Param('noise.joint_pos', _NOISE.joint_pos, 'Joint encoder noise, rad.', 0.0, 0.2),
    Param('noise.joint_vel', _NOISE.joint_vel, 'Joint velocity noise, rad/s.', 0.0, 5.0),
    Param('noise.gyro', _NOISE.gyro, 'Gyroscope noise, rad/s.', 0.0, 2.0),
    Param('noise.accel', _NOISE.accel, 'Accelerometer noise, m/s^2.', 0.0, 10.0),
    Param('noise.orientation', _NOISE.orientation, 'IMU orientation noise, rad.', 0.0, 0.2),
    Param('mocap.rate_hz', _MOCAP.rate_hz, 'Mocap frames per second.', 100, 500),
    Param('mocap.dropout', _MOCAP.dropout, 'Probability per frame that a seen object gets lost.', 0.0, 1.0),
    Param('mocap.burst', _MOCAP.burst, 'Longest loss, frames (drawn uniformly from 1).', 1, 1000),
    Param('mocap.loss', _MOCAP.loss, 'How a body is lost.', choices=('missing', 'frozen', 'gap')),
    Param('mocap.pelvis_dropout', _MOCAP.pelvis_dropout, 'The same probability for the pelvis.', 0.0, 1.0),
    Param('mocap.position_noise', _MOCAP.position_noise, 'Position noise, m.', 0.0, 0.5),
    Param('mocap.rotation_noise', _MOCAP.rotation_noise, 'Rotation noise, rad.', 0.0, 1.0),
    Param('mocap.latency', _MOCAP.latency, 'From capture to publication, s.', 0.0, 1.0),
    Param('mocap.jitter', _MOCAP.jitter, 'Standard deviation of what comes on top of the latency, s.', 0.0, 0.5),
    Param('realtime_priority', 60, 'SCHED_FIFO priority of the simulation thread; 0 asks for none.', 0, 95),
    Param('cpu', 0, 'CPU that the simulation thread is bound to, counted around; -1: none.', -1, 1023),
)


def declare(node: Node) -> SimParameters:
    """Declare and read every parameter; raises :class:`UserError` naming the one that is wrong."""
    values = declare_all(node, PARAMS)
    noise = {key.split('.')[1]: value for key, value in values.items() if key.startswith('noise.')}
    mocap = {key.split('.')[1]: value for key, value in values.items() if key.startswith('mocap.')}
    try:
        return SimParameters(
            skill=load_skill(values['skill']),
            seed=values['seed'],
            generalise=values['generalise'],
            network_interface=values['network_interface'],
            dds_domain=values['dds_domain'],
            auto_release=values['auto_release'],
            mode_machine=values['mode_machine'],
            realtime_priority=values['realtime_priority'],
            cpu=values['cpu'],
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

