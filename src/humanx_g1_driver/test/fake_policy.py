"""A policy for the driver's fault tests: joint targets at 100 Hz that hold the default pose, and faults on demand.

Lines of JSON on standard input; every line is answered by one line with the time (s, monotonic) of its effect,
which for a fault in a message is when that message was published.
"""

import json
import math
import select
import sys
import time

import rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile, QoSReliabilityPolicy, qos_profile_sensor_data

from humanx_description import robot
from humanx_description.ros.polling import PolledSubscription
from humanx_g1_driver.realtime import ask_for_realtime, sleep_until
from humanx_msgs.msg import JointTargets, RobotState

PERIOD_NS = 10_000_000


def main() -> None:
    ask_for_realtime(20, lock_memory=False)
    rclpy.init()
    node = Node(sys.argv[1] if len(sys.argv) > 1 else 'fake_policy', namespace='humanx')
    states = PolledSubscription(node, RobotState, 'robot_state', qos_profile_sensor_data)
    publisher = node.create_publisher(
        JointTargets, 'joint_targets', QoSProfile(depth=1, reliability=QoSReliabilityPolicy.RELIABLE)
    )
    message = JointTargets(position=robot.DEFAULT_JOINT_POS, kp=robot.KP, kd=robot.KD)
    poll = select.poll()
    poll.register(sys.stdin, select.POLLIN)
    print(json.dumps({'ready': True}), flush=True)
    silent, old_state, state = False, False, None
    deadline = time.monotonic_ns()
    while True:
        deadline = max(deadline + PERIOD_NS, time.monotonic_ns())
        sleep_until(deadline)
        order: dict = {}
        if poll.poll(0):
            line = sys.stdin.readline()
            if not line:
                return
            order = json.loads(line)
        silent = order.get('silent', silent)
        old_state = order.get('old_state', old_state)
        newest = states.newest()
        if newest is not None and not old_state:
            state = newest
        if state is not None and not silent:
            message.sequence = max(0, message.sequence + 1 - order.get('back', 0))
            message.header.stamp = state.header.stamp
            message.state_tick = state.tick
            if 'stamp_back' in order:
                message.header.stamp.sec -= order['stamp_back']
            message.position[:] = robot.DEFAULT_JOINT_POS
            if 'position' in order:
                index, value = order['position']
                message.position[index] = math.nan if value is None else value
            publisher.publish(message)
        if order:
            print(json.dumps({'now': time.monotonic(), 'sequence': message.sequence}), flush=True)


if __name__ == '__main__':
    main()
