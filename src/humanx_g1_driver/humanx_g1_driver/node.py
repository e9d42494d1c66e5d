"""The driver node: topics, services and parameters around the control loop, which runs in a process of its own."""

import functools
import gc
import json
import sys
import threading
import time
from pathlib import Path

import numpy as np
import rclpy
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import QoSProfile, QoSReliabilityPolicy, qos_profile_sensor_data
from std_msgs.msg import String
from std_srvs.srv import Trigger

from humanx_description.ros.main import run_node
from humanx_description.ros.parameters import declare
from humanx_description.ros.polling import PolledSubscription
from humanx_description.scheduling import raise_threads
from humanx_g1_driver import link as wire_link
from humanx_g1_driver.faults import Action, Answer, Fault, Mode, Problem
from humanx_g1_driver.link import Kind
from humanx_g1_driver.loop_handle import ControlLoopProcess
from humanx_g1_driver.messages import RobotStateBytes, driver_status, read_targets
from humanx_g1_driver.parameters import PARAMS, control_config
from humanx_g1_driver.publishers import PublisherCounts
from humanx_msgs.msg import DriverStatus, JointTargets, RobotState

TARGETS_TOPIC = 'joint_targets'
TARGETS_QOS = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.RELIABLE)
HEARTBEAT_S = 0.02
FORWARD_WAIT_S = 0.05
TARGETS_FRESH_S = 0.1
_LOOK_EVERY = 5  # heartbeats between two looks for publishers that have said nothing yet
LOOP_SILENCE_S = 0.25  # the loop reports every 0.1 s


class DriverNode(Node):
    """Passes joint targets and operators' calls to the control loop, and its states and status to ROS."""

    def __init__(self) -> None:
        self.failure = ''
        self._closing = False
        self._mode = Mode.ZERO_TORQUE
        self._publisher_count = 0
        self._names_told = ''
        self._beats = 0
        self._counts = PublisherCounts()
        self._targets_heard = -TARGETS_FRESH_S
        self._loop_heard = time.monotonic()
        self._told = ''
        self._last_status: DriverStatus | None = None
        super().__init__('g1_driver', namespace='humanx')
        try:
            self._start()
        except BaseException:
            self.destroy_node()
            raise

    def _start(self) -> None:
        values = declare(self, PARAMS)
        self._interface = values['network_interface']
        self._summary_file = values['summary_file']
        config = control_config(values)
        self._state = RobotStateBytes()
        self._targets_packet = wire_link.packet(Kind.TARGETS)
        self._state_publisher = self.create_publisher(RobotState, 'robot_state', qos_profile_sensor_data)
        self._status_publisher = self.create_publisher(DriverStatus, 'driver_status', 10)
        self._loop = ControlLoopProcess(config)
        self.get_logger().info(f'Control loop on {self._interface!r}: {self._loop.realtime_sentence}')
        self._targets = PolledSubscription(self, JointTargets, TARGETS_TOPIC, TARGETS_QOS, raw=True)
        self.create_subscription(String, '~/fault', self._on_fault, TARGETS_QOS)
        for action in Action:
            self.create_service(Trigger, f'~/{action.name.lower()}', functools.partial(self._on_request, action))
        # From the executor's own thread: the loop hears from us only while calls are being served.
        self.create_timer(HEARTBEAT_S, self._beat)
        self._threads = [
            threading.Thread(target=self._listen, name='from the loop', daemon=True),
            threading.Thread(target=self._forward, name='to the loop', daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        self._cpu_started = time.process_time()
        gc.collect()
        gc.freeze()
        refusal = raise_threads(values['ros_priority'])
        if refusal:
            self.get_logger().warning(refusal)

    def close(self) -> None:
        """Let the robot down and stop the loop."""
        self._closing = True
        if not hasattr(self, '_loop'):
            return
        self._loop.stop()
        for thread in self._threads:
            thread.join(timeout=1.0)
        packet = self._loop.summary
        if packet is None or not packet['cycles']:
            return
        summary = {name: packet[name].item() for name in packet.dtype.names or () if name not in ('kind', 'pad')}
        summary['loop_cpu'] = summary['cpu_seconds'] / summary['seconds']
        summary['ros_cpu'] = (time.process_time() - self._cpu_started) / summary['seconds']
        if self._summary_file:
            Path(self._summary_file).write_text(json.dumps(summary, indent=1) + '\n')
        print(
            f'g1_driver: {summary["cycles"]} cycles, {summary["misses"]} misses, period error p50 '
            f'{1e6 * summary["error_p50"]:.0f} us, p99 {1e6 * summary["error_p99"]:.0f} us, longest period '
            f'{1e3 * summary["period_max"]:.2f} ms; loop {100 * summary["loop_cpu"]:.0f} % of a core, ROS side '
            f'{100 * summary["ros_cpu"]:.0f} %.',
            file=sys.stderr,
        )

    # ROS to loop

    def _forward(self) -> None:
        """Hand joint targets on as they come. Should this end, the loop damps for want of targets."""
        try:
            while self._alive():
                self._targets.wait(FORWARD_WAIT_S)
                for raw, info in self._targets.all_with_info():
                    self._on_targets(raw, info['publication_sequence_number'])
        except Exception as error:
            if self._alive():
                self.failure = f'The driver node broke: {error!r}.'
                self._loop.report(Problem(Fault.INTERNAL, f'the driver node cannot read {TARGETS_TOPIC}: {error!r}'))
                rclpy.try_shutdown()

    def _on_targets(self, raw: bytes, count: int) -> None:
        self._targets_heard = now = time.monotonic()
        running = self._mode is Mode.RUN
        mixed = self._counts.add(count, now)
        # The first message of a newcomer: the graph knows whether it is one, or the policy started anew.
        if mixed or (running and self._counts.stepped_back and self._second_publisher_appeared()):
            if running:
                self._report_second_publisher()
            return
        read_targets(raw, self._targets_packet)
        self._loop.send_targets(self._targets_packet)

    def _on_fault(self, message: String) -> None:
        """Somebody wants the robot stopped and says why: anyone may."""
        reason = ' '.join(message.data.split()) or 'a fault was reported without a reason'
        self._loop.report(Problem(Fault.REPORTED, reason))

    def _second_publisher_appeared(self) -> bool:
        """Tell whether there are more publishers than when the robot began to run.

        One that only watches is found by the heartbeat, a moment later; one that speaks, by its first message.
        """
        count = self.count_publishers(TARGETS_TOPIC)
        self._publisher_count = min(self._publisher_count, count)
        return count > max(self._publisher_count, 1)

    def _names(self) -> str:
        infos = self.get_publishers_info_by_topic(TARGETS_TOPIC)
        names = {f'{info.node_namespace.rstrip("/")}/{info.node_name}' for info in infos}
        names = {'a node whose name is not known yet' if 'UNKNOWN' in name else name for name in names}
        return ' and '.join(sorted(names)) if names else 'nobody'

    def _on_request(self, action: Action, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        refusal = self._why_not_run() if action is Action.RUN else ''
        answer = Answer(False, refusal) if refusal else self._loop.ask(action)
        response.success, response.message = answer.accepted, answer.reason
        if answer.accepted:
            self.get_logger().info(f'{action.name.lower()}: {answer.reason}')
        else:
            self.get_logger().warning(f'{action.name.lower()} refused: {answer.reason}')
        return response

    def _why_not_run(self) -> str:
        count = self.count_publishers(TARGETS_TOPIC)
        if time.monotonic() - self._targets_heard > TARGETS_FRESH_S:
            return f'no {TARGETS_TOPIC} are coming; a policy must be running and see the robot first'
        if self._counts.mixed(time.monotonic()):
            return f'{TARGETS_TOPIC} is published by {self._names()}; expected one publisher'
        if count > 1:
            self.get_logger().warning(f'{TARGETS_TOPIC} has publishers {self._names()}; all but one are silent')
        self._publisher_count = count
        return ''

    def _beat(self) -> None:
        self._loop.send_heartbeat()
        self._beats += 1
        if self._beats % _LOOK_EVERY:
            return
        if self._mode is Mode.RUN and self._second_publisher_appeared():
            self._report_second_publisher()
        elif self._refused_second_publisher():
            names = self._names()
            if names != self._names_told:  # discovery tells the name of a node later than it tells of its publisher
                self._report_second_publisher()

    def _refused_second_publisher(self) -> bool:
        status = self._last_status
        if self._mode is not Mode.DAMP or status is None:
            return False
        return status.fault == DriverStatus.FAULT_SECOND_PUBLISHER

    def _report_second_publisher(self) -> None:
        self._names_told = self._names()
        problem = Problem(Fault.SECOND_PUBLISHER, f'{TARGETS_TOPIC} is published by {self._names_told}')
        self._loop.report(problem)

    # Loop to ROS

    def _listen(self) -> None:
        try:
            self._loop.listen(self._on_packet, 0.05)
            if not self._closing:
                self.failure = f'The control loop died (status {self._loop.process.wait()}).'
                self._publish_silence(self.failure)
                self._status_publisher.wait_for_all_acked(Duration(seconds=0.5))
        except Exception as error:
            if self._alive():
                self.failure = f'The driver node broke: {error!r}.'
        if self.failure:
            rclpy.try_shutdown()

    def _on_packet(self, packet: np.void | None) -> None:
        now = time.monotonic()
        if packet is None:
            silence = now - self._loop_heard
            if silence > LOOP_SILENCE_S:
                self._publish_silence(
                    f'The control loop has been silent for {silence:.2f} s: the robot gets no commands.'
                )
            return
        self._loop_heard = now
        ros_ns = self.get_clock().now().nanoseconds
        if packet['kind'] == Kind.STATE:
            arrived_ns = ros_ns - int(1e9 * (now - float(packet['received_at'])))
            self._mode = Mode(int(packet['mode']))
            self._publish(self._state_publisher, self._state.fill(packet, max(arrived_ns, 0)))
        elif packet['kind'] == Kind.STATUS:
            status = driver_status(packet, ros_ns * 1e-9, now)
            status.network_interface = 'loopback' if self._interface == 'lo' else self._interface
            status.realtime = self._loop.realtime
            self._mode = Mode(status.state)
            self._last_status = status
            self._publish(self._status_publisher, status)
            self._tell(status)

    def _alive(self) -> bool:
        return rclpy.ok() and not self._closing

    def _publish(self, publisher, message) -> None:
        if self._alive():
            publisher.publish(message)

    def _tell(self, status: DriverStatus) -> None:
        told = f'{Mode(status.state).name}: {status.reason}'
        if told != self._told and self._alive():
            self._told = told
            # Two lines on purpose: rclpy refuses another severity from a line that has logged before.
            if status.fault:
                self.get_logger().error(told)
            else:
                self.get_logger().info(told)

    def _publish_silence(self, reason: str) -> None:
        status = self._last_status or DriverStatus()
        status.header.stamp = self.get_clock().now().to_msg()
        status.state, status.fault, status.reason = DriverStatus.DAMP, DriverStatus.FAULT_INTERNAL, reason
        self._publish(self._status_publisher, status)
        self._tell(status)


def main(args: list[str] | None = None) -> int:
    """Entry point of ``g1_driver``."""
    return run_node(DriverNode, args)


if __name__ == '__main__':
    sys.exit(main())
