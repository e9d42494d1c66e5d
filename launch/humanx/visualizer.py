"""Publishes what RViz and rqt expect: /joint_states, /tf, /robot_description, markers and /diagnostics.

The node only looks: it polls the newest message of each topic at its own slow rate, so that it costs the graph little.
It publishes /tf itself, from the URDF's joints, instead of leaving that to robot_state_publisher: so recordings made
in an environment without that package hold the same frames.
"""

from __future__ import annotations

import math
import sys

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from tf2_msgs.msg import TFMessage
from visualization_msgs.msg import MarkerArray

from humanx import diagnostics, markers
from humanx.frames import FramePublisher
from humanx_description import robot, urdf
from humanx_description.errors import UserError
from humanx_description.ros.main import run_node
from humanx_description.ros.parameters import Param, declare
from humanx_description.ros.polling import PolledSubscription
from humanx_description.skills import load_skill
from humanx_msgs.msg import DriverStatus, JointTargets, ObjectStates, PolicyStatus, RobotState

PARAMS = (
    Param('rate', 20.0, 'Rate of /joint_states, /tf and markers, Hz.', 1.0, 100.0),
    Param('show_targets', True, 'Also publish the frames of the joint targets under the prefix target/.'),
)
WORLD, PELVIS = 'world', 'pelvis'
SILENT = 1.0  # s without a message after which a topic counts as silent

_NEWEST = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.BEST_EFFORT)
_LATCHED = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
_TOPICS = {
    'robot_state': RobotState,
    'objects': ObjectStates,
    'joint_targets': JointTargets,
    'driver_status': DriverStatus,
    'policy_status': PolicyStatus,
}


class Visualizer(Node):
    """Turns the graph's own messages into standard ones."""

    def __init__(self) -> None:
        super().__init__('visualizer', namespace='humanx')
        try:
            self._start()
        except BaseException:
            self.destroy_node()
            raise

    def _start(self) -> None:
        values = declare(self, PARAMS)
        self._show_targets = values['show_targets']
        self._subscriptions_by_topic = {
            topic: PolledSubscription(self, kind, topic, _NEWEST) for topic, kind in _TOPICS.items()
        }
        self._newest: dict = dict.fromkeys(_TOPICS)
        self._seen = dict.fromkeys(_TOPICS, -math.inf)
        self._object_specs: dict = {}
        self._skill = ''

        frames = urdf.frames()
        self._frames = FramePublisher(frames)
        self._ghost = FramePublisher(frames, prefix='target/')
        self._joint_states = self.create_publisher(JointState, '/joint_states', 10)
        self._tf = self.create_publisher(TFMessage, '/tf', 10)
        tf_static = self.create_publisher(TFMessage, '/tf_static', _LATCHED)
        description = self.create_publisher(String, '/robot_description', _LATCHED)
        self._markers = self.create_publisher(MarkerArray, 'markers', 10)
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)

        stamp = self.get_clock().now().to_msg()
        fixed = self._frames.fixed(stamp)
        if self._show_targets:
            fixed += self._ghost.fixed(stamp)
        tf_static.publish(TFMessage(transforms=fixed))
        description.publish(String(data=urdf.robot_description()))
        self.create_timer(1.0 / values['rate'], self._show)
        self.create_timer(1.0, self._diagnose)

    def _read(self) -> float:
        """Take the newest message of every topic; return the time in s."""
        now = self.get_clock().now().nanoseconds * 1e-9
        for topic, subscription in self._subscriptions_by_topic.items():
            if (message := subscription.newest()) is not None:
                self._newest[topic], self._seen[topic] = message, now
        return now

    def _fresh(self, topic: str, now: float):
        return self._newest[topic] if now - self._seen[topic] < SILENT else None

    def _show(self) -> None:
        now = self._read()
        stamp = self.get_clock().now().to_msg()
        state, objects = self._fresh('robot_state', now), self._fresh('objects', now)
        transforms = []
        if objects is not None:
            transforms += [markers.object_frame(item, stamp, WORLD) for item in objects.objects if item.name != PELVIS]
        if state is not None:
            self._publish_joints(state)
            pelvis = markers.pelvis_frame(state, objects, stamp, WORLD, PELVIS, robot.DEFAULT_ROOT_HEIGHT)
            transforms += [pelvis, *self._frames.moving(state.position, stamp)]
            targets = self._fresh('joint_targets', now)
            if self._show_targets and targets is not None:
                ghost = markers.renamed(pelvis, 'target/' + PELVIS)
                transforms += [ghost, *self._ghost.moving(targets.position, stamp)]
        if transforms:
            self._tf.publish(TFMessage(transforms=transforms))
        array = MarkerArray()
        if objects is not None:
            specs = self._specs()
            for index, item in enumerate(objects.objects):
                if item.name != PELVIS:
                    array.markers += markers.object_markers(item, specs.get(item.name), index, stamp, WORLD)
        array.markers.append(
            markers.status_marker(
                self._fresh('driver_status', now),
                self._fresh('policy_status', now),
                stamp,
                PELVIS if state is not None else WORLD,
            )
        )
        self._markers.publish(array)

    def _publish_joints(self, state: RobotState) -> None:
        message = JointState()
        message.header.stamp = state.header.stamp
        message.name = list(robot.JOINT_NAMES)
        message.position, message.velocity, message.effort = state.position, state.velocity, state.torque
        self._joint_states.publish(message)

    def _specs(self) -> dict:
        """Return the objects of the skill that the policy runs, by name; empty where the skill has no file here."""
        status = self._newest['policy_status']
        if status is not None and status.skill != self._skill:
            self._skill = status.skill
            try:
                self._object_specs = {spec.name: spec for spec in load_skill(status.skill).objects}
            except UserError as error:
                self._object_specs = {}
                self.get_logger().warning(f'objects are shown as small balls: {error}')
        return self._object_specs

    def _diagnose(self) -> None:
        now = self._read()
        message = DiagnosticArray()
        message.header.stamp = self.get_clock().now().to_msg()
        message.status = [
            diagnostics.driver(self._fresh('driver_status', now)),
            diagnostics.policy(self._fresh('policy_status', now)),
        ]
        self._diagnostics.publish(message)


def main() -> int:
    """Run the visualizer."""
    return run_node(Visualizer)


if __name__ == '__main__':
    sys.exit(main())
