"""Noticing somebody else who publishes joint targets.

Who speaks counts, not who is registered: a publisher that was killed stays in the ROS graph for
many seconds. So the watch reads the topic itself and compares what it hears with what this node has
sent.
"""

import time
from collections import deque

from rclpy.node import Node
from rclpy.qos import QoSProfile

from humanx_description.cdr import CdrReader, read_stamp
from humanx_description.ros.polling import PolledSubscription
from humanx_msgs.msg import JointTargets

Mark = tuple[int, int, int]  # stamp seconds, stamp nanoseconds, sequence


def read_mark(raw: bytes) -> Mark:
    """Return stamp and sequence of a serialised JointTargets without unpacking its arrays."""
    reader = CdrReader(raw)
    stamp = read_stamp(reader)
    reader.string()
    return stamp.sec, stamp.nanosec, reader.uint64()


class PublisherWatch:
    """Hears every JointTargets and remembers when one came that this node did not send."""

    def __init__(self, node: Node, topic: str, qos: QoSProfile) -> None:
        self._node, self._topic = node, topic
        self._heard = PolledSubscription(node, JointTargets, topic, qos, raw=True)
        self._sent: deque[Mark] = deque(maxlen=200)
        self._last_foreign = -float('inf')

    def sending(self, message: JointTargets) -> None:
        """This node is about to publish ``message``."""
        stamp = message.header.stamp
        self._sent.append((stamp.sec, stamp.nanosec, message.sequence))

    def poll(self) -> None:
        """Read what came since the last call."""
        for raw in self._heard.all():
            try:
                mark = read_mark(raw)
            except ValueError:
                continue
            if mark not in self._sent:
                self._last_foreign = time.monotonic()

    def silence(self) -> float:
        """Return for how many s nobody else has been heard; inf if nobody ever was."""
        return time.monotonic() - self._last_foreign

    def names(self) -> str:
        """Return the other publishers' node names as the ROS graph knows them."""
        own = (self._node.get_name(), self._node.get_namespace())
        infos = self._node.get_publishers_info_by_topic(self._topic)
        others = [i for i in infos if (i.node_name, i.node_namespace) != own]
        names = {f'{i.node_namespace.rstrip("/")}/{i.node_name}' for i in others}
        # Discovery tells of a publisher before it tells of its node.
        names = {'a node whose name is not known yet' if 'UNKNOWN' in n else n for n in names}
        if len(infos) - len(others) > 1:
            names.add(f'{own[1].rstrip("/")}/{own[0]} (a second one)')
        return ', '.join(sorted(names)) or 'a node that hides its name'
