"""Process ``sim_g1``: the simulated robot on the robot's wire, and its mocap and ground truth on ROS topics.

How a start goes: the robot hangs on the gantry without torque; the operator calls ``g1_driver/damp``, then
``g1_driver/stand``; once the driver has held STAND for a moment the gantry lowers the robot and lets go (by itself, or
on ``sim_g1/release`` with ``auto_release`` false); then ``g1_driver/run``. ``sim_g1/reset`` hangs the robot up again.
"""

import gc
import signal
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

from humanx_description.errors import UserError
from humanx_g1_driver.realtime import raise_threads
from humanx_g1_driver.sim.gantry import GantryState
from humanx_g1_driver.sim.loop import SimLoop, Snapshot
from humanx_g1_driver.sim.messages import TruthMessage, rigid_bodies, ros_time
from humanx_g1_driver.sim.mocap import Mocap
from humanx_g1_driver.sim.motors import MotorState
from humanx_g1_driver.sim.parameters import declare
from humanx_g1_driver.sim.robot_end import RobotEnd, remote_keys
from humanx_g1_driver.sim.world import World
from humanx_g1_driver.transport import DdsRobotTransport
from humanx_msgs.msg import DriverStatus, SimTruth
from humanx_msgs.srv import ResetSim

_SETTLE_S = 0.5  # of STAND before the gantry lowers
_SETTLED_SPEED = 0.5  # rad/s, of the fastest joint
_STATUS_TIMEOUT_S = 1.0


class SimG1(Node):
    """Runs the simulation loop and gives it a ROS face."""

    def __init__(self) -> None:
        super().__init__('sim_g1')
        self.parameters = parameters = declare(self)
        self.world = World(parameters.skill, parameters.world, seed=parameters.seed, generalise=parameters.generalise)
        self.transport = DdsRobotTransport(parameters.dds_domain, parameters.network_interface)
        self.link = RobotEnd(self.transport, self.world.motors, mode_machine=parameters.mode_machine)
        rate = parameters.mocap.rate_hz
        self.loop = SimLoop(self.world, self.link, snapshot_every=1000 // rate, priority=parameters.realtime_priority)
        self._truth_every = rate // 100
        names = self.world.episode.object_names
        self._mocap = Mocap(['pelvis', *names], parameters.mocap, parameters.seed)
        self._poses = np.zeros((1 + len(names), 7))
        self._truth = TruthMessage(parameters.skill.name, names)
        self._driver_state = DriverStatus.ZERO_TORQUE
        self._driver_seen = -np.inf
        self._standing_since = np.inf
        self._motors = MotorState.IDLE
        self._last: Snapshot | None = None
        self._closing = threading.Event()

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
        """Start the robot's millisecond and the publishing thread."""
        self.loop.start()
        self._publisher.start()
        skill = self.parameters.skill
        self.get_logger().info(
            f'simulating the G1 for {skill.name!r} (seed {self.world.episode.seed}) on DDS domain '
            f'{self.parameters.dds_domain}, {self.parameters.network_interface!r}; it hangs on the gantry'
        )

    def close(self) -> None:
        """Stop both threads and leave the wire."""
        self._closing.set()
        self.loop.stop()
        if self._publisher.is_alive():
            self._publisher.join(timeout=2.0)
        self.transport.close()

    # --- the publishing thread ---

    def _publish(self) -> None:
        loop, count = self.loop, 0
        while not self._closing.is_set():
            waiting = self._mocap.next_due()
            wait = 0.1 if waiting is None else max(0.0, (waiting - time.time_ns()) * 1e-9)
            if loop.fresh.wait(min(wait, 0.1)):
                loop.fresh.clear()
            if loop.error is not None:
                self._closing.set()
                return
            while loop.snapshots:
                snapshot = loop.snapshots.popleft()
                count += 1
                self._capture(snapshot)
                if count % self._truth_every == 0:
                    self._truth_publisher.publish(self._truth.fill(snapshot))
                else:
                    self._truth.skip(snapshot)
                self._last = snapshot
            for frame in self._mocap.due(time.time_ns()):
                self._mocap_publisher.publish(rigid_bodies(frame))

    def _capture(self, snapshot: Snapshot) -> None:
        if self._last is not None and snapshot.episode != self._last.episode:
            self._mocap.reset(snapshot.seed)
        self._poses[0] = snapshot.qpos[:7]
        self._poses[1:] = snapshot.qpos[36:].reshape(-1, 7)
        self._mocap.capture(snapshot.stamp_ns, self._poses)

    # --- callbacks ---

    def _on_driver_status(self, status: DriverStatus) -> None:
        now = time.monotonic()
        before, self._driver_state, self._driver_seen = self._driver_state, status.state, now
        if status.state == DriverStatus.RUN and before != DriverStatus.RUN:
            self.loop.call(lambda world, _: world.begin_run())
        if status.state != DriverStatus.STAND:
            self._standing_since = np.inf
            return
        last = self._last
        still = last is not None and float(np.abs(last.qvel[6:35]).max()) < _SETTLED_SPEED
        self._standing_since = min(self._standing_since, now) if still else np.inf
        if self.parameters.auto_release and now - self._standing_since >= _SETTLE_S:
            self.loop.call(lambda world, _: world.gantry.lower())

    def _on_remote(self, message: String) -> None:
        try:
            keys = remote_keys(message.data)
        except ValueError as error:
            self.get_logger().warning(f'sim_g1/remote: {error}')
            return
        self.loop.call(lambda _, link: link.press(keys))

    def _on_release(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        state = self.loop.call(lambda world, _: (world.gantry.state, world.gantry.lower())[0])
        response.success = state is GantryState.HELD
        response.message = 'the gantry lowers the robot' if response.success else f'the gantry is {state.name}'
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
        self.loop.call(lambda world, _: world.reset(request.seed, request.generalise))
        gc.collect()
        response.success = True
        response.message = f'hanging on the gantry, trial of seed {request.seed}'
        return response

    def _publish_diagnostics(self) -> None:
        link, loop, motors = self.link, self.loop, self.world.motors.state
        level, message = DiagnosticStatus.OK, f'motors {motors.name.lower()}'
        if motors is MotorState.DAMPING:
            level, message = DiagnosticStatus.ERROR, 'commands stopped: the motors damp by themselves'
        elif link.refused and motors is MotorState.IDLE:
            level, message = DiagnosticStatus.WARN, f'commands refused: {link.refusal}'
        values = {
            'steps': self.world.steps,
            'steps dropped': loop.steps_dropped,
            'steps late': loop.late_steps,
            'commands accepted': link.accepted,
            'commands refused': link.refused,
            'commands damaged': link.damaged,
            'gantry': self.world.gantry.state.name,
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
    """Run until interrupted; returns 2 for bad parameters, 1 if the simulation failed."""
    # The millisecond thread must get the interpreter back at once, not after the default 5 ms.
    sys.setswitchinterval(1e-4)
    node = None
    # Own handlers: rclpy's would pull the context away under the publishing thread.
    try:
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    except Exception as error:  # rclpy names no common base for what a bad YAML file or argument raises
        print(f'The ROS arguments are wrong: {str(error).splitlines()[0]}', file=sys.stderr)
        return 2
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        node = SimG1()
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 50, 50)
        # Whoever holds the interpreter while the millisecond thread waits for it must not be starved by other programs.
        refusal = raise_threads(max(node.parameters.realtime_priority // 2, 0))
        if refusal:
            node.get_logger().warning(refusal)
        node.start()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        while not stop.is_set() and node.loop.error is None:
            executor.spin_once(timeout_sec=0.2)
        if node.loop.error is not None:
            node.get_logger().fatal(f'the simulation stopped: {node.loop.error}')
            return 1
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    finally:
        if node is not None:
            node.close()
        rclpy.try_shutdown()
    return 0


if __name__ == '__main__':
    sys.exit(main())
