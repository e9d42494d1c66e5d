"""The ROS side of ``sim_g1``: mocap and ground truth on topics, the gantry and the seed as services.

How a start goes: the robot hangs on the gantry without torque; the operator calls ``g1_driver/damp``, then
``g1_driver/stand``; once the driver has held STAND for a moment the gantry lowers the robot and lets go (by itself, or
on ``sim_g1/release`` with ``auto_release`` false); then ``g1_driver/run``. ``sim_g1/reset`` hangs the robot up again.
"""

import gc
import sys
import threading
import time

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from mocap4r2_msgs.msg import RigidBodies
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions
from std_msgs.msg import String
from std_srvs.srv import Trigger

from humanx_description.discovery import stay_on_this_machine
from humanx_description.errors import UserError
from humanx_description.scheduling import raise_threads
from humanx_g1_driver.sim.channel import Channel, ChannelClosed
from humanx_g1_driver.sim.messages import TruthMessage, rigid_bodies, ros_time
from humanx_g1_driver.sim.mocap import Mocap
from humanx_g1_driver.sim.parameters import declare
from humanx_g1_driver.sim.physics_link import PhysicsLink
from humanx_g1_driver.sim.protocol import GantryState, MotorState, Snapshot
from humanx_g1_driver.sim.remote_buttons import remote_keys
from humanx_msgs.msg import DriverStatus, SimTruth
from humanx_msgs.srv import ResetSim

_SETTLE_S = 0.5  # of STAND before the gantry lowers
_SETTLED_SPEED = 0.5  # rad/s, of the fastest joint
_STATUS_TIMEOUT_S = 1.0
_STUCK = 'the simulation does not answer'


class SimG1(Node):
    """Gives the physics a ROS face."""

    def __init__(self, channel: Channel) -> None:
        super().__init__('sim_g1')
        self.parameters = parameters = declare(self)
        self.physics = PhysicsLink(channel)
        rate = parameters.mocap.rate_hz
        self._truth_every = rate // 100
        names = [o.name for o in parameters.skill.objects if not o.fixed]
        self._mocap = Mocap(['pelvis', *names], parameters.mocap, parameters.seed)
        self._poses = np.zeros((1 + len(names), 7))
        self._truth = TruthMessage(parameters.skill.name, names)
        self._driver_state = DriverStatus.ZERO_TORQUE
        self._driver_seen = -np.inf
        self._standing_since = np.inf
        self._motors = MotorState.IDLE
        self._last: Snapshot | None = None
        self._count = 0
        self.closing = threading.Event()

        depth = QoSProfile(depth=10)
        self._mocap_publisher = self.create_publisher(RigidBodies, '/mocap/rigid_bodies', depth)
        self._truth_publisher = self.create_publisher(SimTruth, 'sim/truth', depth)
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', depth)
        self.create_subscription(DriverStatus, 'driver_status', self._on_driver_status, depth)
        self.create_subscription(String, 'sim_g1/remote', self._on_remote, depth)
        self.create_service(Trigger, 'sim_g1/release', self._on_release)
        self.create_service(ResetSim, 'sim_g1/reset', self._on_reset)
        self.create_timer(1.0, self._publish_diagnostics)
        self._publisher = threading.Thread(target=self._publish, name='sim_publish', daemon=True)

    def start(self) -> None:
        """Start the physics, then the publishing thread; raises :class:`UserError` if the physics refuses."""
        parameters = self.parameters
        ready = self.physics.hand_over(parameters)
        self._publisher.start()
        self.get_logger().info(
            f'simulating the G1 for {parameters.skill.name!r} (seed {parameters.seed}) on DDS domain '
            f'{parameters.dds_domain}, {parameters.network_interface!r}; {ready.realtime}'
        )

    def close(self) -> None:
        """Stop publishing."""
        self.closing.set()
        if self._publisher.is_alive():
            self._publisher.join(timeout=2.0)

    # --- the publishing thread ---

    def _publish(self) -> None:
        try:
            while not self.closing.is_set():
                due = self._mocap.next_due()
                wait = 0.1 if due is None else (due - time.time_ns()) * 1e-9
                self.physics.poll(min(max(wait, 0.0), 0.1), self._on_snapshot)
                for frame in self._mocap.due(time.time_ns()):
                    self._mocap_publisher.publish(rigid_bodies(frame))
        except ChannelClosed:
            self.closing.set()

    def _on_snapshot(self, snapshot: Snapshot) -> None:
        self._count += 1
        self._capture(snapshot)
        if self._count % self._truth_every == 0:
            self._truth_publisher.publish(self._truth.fill(snapshot))
        else:
            self._truth.skip(snapshot)
        self._last = snapshot

    def _capture(self, snapshot: Snapshot) -> None:
        if self._last is not None and snapshot.episode != self._last.episode:
            self._mocap.reset(snapshot.seed)
        self._poses[0] = snapshot.qpos[:7]
        self._poses[1:] = snapshot.qpos[36:].reshape(-1, 7)
        self._mocap.capture(snapshot.stamp_ns, self._poses)

    # --- callbacks ---

    def _ask(self, name: str, *arguments: object) -> int | None:
        """Have the physics do something; None, with a warning, if it does not answer (a suspended process)."""
        try:
            return self.physics.call(name, *arguments)
        except TimeoutError:
            self.get_logger().warning(f'{name}: {_STUCK}')
            return None

    def _on_driver_status(self, status: DriverStatus) -> None:
        now = time.monotonic()
        before, self._driver_state, self._driver_seen = self._driver_state, status.state, now
        if status.state == DriverStatus.RUN and before != DriverStatus.RUN:
            self._ask('run')
        if status.state != DriverStatus.STAND:
            self._standing_since = np.inf
            return
        last = self._last
        still = last is not None and float(np.abs(last.qvel[6:35]).max()) < _SETTLED_SPEED
        self._standing_since = min(self._standing_since, now) if still else np.inf
        if self.parameters.auto_release and now - self._standing_since >= _SETTLE_S:
            self._ask('lower')

    def _on_remote(self, message: String) -> None:
        try:
            keys = remote_keys(message.data)
        except ValueError as error:
            self.get_logger().warning(f'sim_g1/remote: {error}')
            return
        self._ask('press', keys)

    def _on_release(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        state = self._ask('lower')
        response.success = state == GantryState.HELD
        response.message = _STUCK if state is None else f'the gantry is {GantryState(state).name}'
        if response.success:
            response.message = 'the gantry lowers the robot'
        return response

    def _on_reset(self, request: ResetSim.Request, response: ResetSim.Response) -> ResetSim.Response:
        driven = time.monotonic() - self._driver_seen < _STATUS_TIMEOUT_S
        if driven and self._driver_state in (DriverStatus.STAND, DriverStatus.RUN):
            response.message = 'refused: the driver is in STAND or RUN; call g1_driver/damp first'
            return response
        if request.skill not in ('', self.parameters.skill.name):
            response.message = f'refused: this process simulates {self.parameters.skill.name!r}; restart it for another'
            return response
        if request.seed < 0:
            response.message = f'refused: seed is {request.seed}; expected 0 or more'
            return response
        self._standing_since = np.inf
        if self._ask('reset', request.seed, request.generalise) is None:
            response.message = _STUCK
            return response
        response.success = True
        response.message = f'hanging on the gantry, trial of seed {request.seed}'
        return response

    def _publish_diagnostics(self) -> None:
        if self._last is None:
            return
        health, motors = self._last.health, MotorState(self._last.health.motors)
        level, message = DiagnosticStatus.OK, f'motors {motors.name.lower()}'
        if motors is MotorState.DAMPING:
            level, message = DiagnosticStatus.ERROR, 'commands stopped: the motors damp by themselves'
        elif health.refused and motors is MotorState.IDLE:
            level, message = DiagnosticStatus.WARN, f'commands refused: {health.refusal}'
        values = {
            'steps': health.steps,
            'steps dropped': health.steps_dropped,
            'steps late': health.steps_late,
            'commands accepted': health.accepted,
            'commands refused': health.refused,
            'commands damaged': health.damaged,
            'gantry': GantryState(self._last.gantry).name,
        }
        status = DiagnosticStatus(level=level, name='sim_g1', message=message, hardware_id='simulated G1')
        status.values = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
        array = DiagnosticArray(status=[status])
        array.header.stamp = ros_time(time.time_ns())
        self._diagnostics.publish(array)
        if motors is not self._motors and motors is MotorState.DAMPING:
            self.get_logger().warning(message)
        self._motors = motors


def main() -> int:
    """``ros_side FD ROS-ARGUMENTS``: run until the physics hangs up; returns 2 for bad parameters."""
    channel = Channel.from_fd(int(sys.argv[1]))
    stay_on_this_machine()
    try:
        rclpy.init(args=[sys.argv[0], *sys.argv[2:]], signal_handler_options=SignalHandlerOptions.NO)
    except Exception as error:  # rclpy names no common base for what a bad YAML file or argument raises
        print(f'The ROS arguments are wrong: {str(error).splitlines()[0]}', file=sys.stderr)
        return 2
    node = None
    try:
        node = SimG1(channel)
        if refusal := raise_threads(node.parameters.realtime_priority // 2):
            node.get_logger().warning(refusal)
        gc.collect()
        gc.freeze()
        node.start()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        while not node.closing.is_set():
            executor.spin_once(timeout_sec=0.2)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except ChannelClosed:
        pass  # stopped while starting
    finally:
        if node is not None:
            node.close()
        channel.close()
        rclpy.try_shutdown()
    return 0


if __name__ == '__main__':
    sys.exit(main())
