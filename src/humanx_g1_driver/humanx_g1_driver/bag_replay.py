"""Publishes a recorded bag again, with its original timing or faster or slower."""

import time
from collections.abc import Callable
from pathlib import Path

import rclpy
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.signals import SignalHandlerOptions

from humanx_description import interrupts
from humanx_description.errors import UserError
from humanx_g1_driver.bag_read import SESSION_TOPIC, open_bag
from humanx_g1_driver.message_class import message_class

# Of no use a second time: they speak of nodes that no longer run.
NOT_REPLAYED = ('/parameter_events', '/rosout')
_COMMANDS = '/humanx/joint_targets'
_LOOK_S = 0.2  # between two looks for a driver while commands are replayed
_NAP_S = 0.1  # between two looks whether to stop


def replay(path: Path, *, rate: float = 1.0, topics: list[str] | None = None, discovery_s: float = 2.0) -> int:
    """Publish the bag's messages; return how many. ``rate`` 2 is twice as fast.

    ``discovery_s`` is how long publishers and listeners are given to find each other before the first message.

    Refuses to publish joint targets where a driver listens to them: a replay must never move a robot. SIGINT and
    SIGTERM end it early.
    """
    if not 0.01 <= rate <= 100.0:
        raise UserError(f'rate is {rate}; expected 0.01 to 100.')
    with open_bag(path) as reader:
        known = {connection.topic for connection in reader.connections if connection.msgcount}
        unknown = sorted(set(topics or ()) - known)
        if unknown:
            raise UserError(f'{path}: holds no messages on {unknown[0]}; expected some of {", ".join(sorted(known))}.')
        wanted = [
            c
            for c in reader.connections
            if c.msgcount and (c.topic in topics if topics else c.topic not in NOT_REPLAYED)
        ]
        # Not rclpy's handlers: they end the context, and whatever is just being published with it.
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        stop = interrupts.StopRequest()
        node = Node('bag_replay', namespace='/humanx')
        try:
            return _publish(node, reader, wanted, rate, discovery_s, stop)
        finally:
            node.destroy_node()
            rclpy.try_shutdown()


def _publish(
    node: Node, reader, wanted: list, rate: float, discovery_s: float, stop: Callable[[], bool]
) -> int:
    publishers = {}
    for connection in wanted:
        profile = QoSProfile(depth=100)
        if connection.topic == SESSION_TOPIC:
            profile.durability = DurabilityPolicy.TRANSIENT_LOCAL
        if connection.topic != _COMMANDS:
            publishers[connection.topic] = node.create_publisher(
                message_class(connection.msgtype), connection.topic, profile
            )
    _sleep(discovery_s, stop)
    commands = next((c for c in wanted if c.topic == _COMMANDS), None)
    if commands is not None:
        _refuse_driver(node)
        publishers[_COMMANDS] = node.create_publisher(message_class(commands.msgtype), _COMMANDS, 10)
    count, first, began = 0, None, time.monotonic()
    looked = began
    for connection, stamp, data in reader.messages(connections=wanted):
        first = stamp if first is None else first
        ahead = (stamp - first) * 1e-9 / rate - (time.monotonic() - began)
        _sleep(ahead, stop)
        if stop():
            break
        if commands is not None and time.monotonic() - looked > _LOOK_S:
            looked = time.monotonic()
            _refuse_driver(node)
        publishers[connection.topic].publish(bytes(data))
        count += 1
    # Leaving at once would take the last messages along.
    for publisher in publishers.values():
        publisher.wait_for_all_acked(Duration(seconds=2.0))
    return count


def _sleep(seconds: float, stop: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and not stop():
        time.sleep(min(left, _NAP_S))


def _refuse_driver(node: Node) -> None:
    if any(info.node_name == 'g1_driver' for info in node.get_subscriptions_info_by_topic(_COMMANDS)):
        raise UserError(
            f'a driver listens to {_COMMANDS}; expected none while a bag is replayed (or a choice of --topics).'
        )
