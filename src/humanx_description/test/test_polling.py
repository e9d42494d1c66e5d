"""A subscription that is read when its reader wants to."""

import threading
import time
from collections.abc import Iterator

import pytest

pytest.importorskip('humanx_msgs', reason='the message packages are not built')
pytestmark = pytest.mark.ros

import rclpy  # noqa: E402
from rclpy.node import Node  # noqa: E402
from std_msgs.msg import String  # noqa: E402

from humanx_description.ros.polling import PolledSubscription  # noqa: E402

DOMAIN = 67


@pytest.fixture
def node() -> Iterator[Node]:
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=DOMAIN)
    node = Node('poller', context=context)
    yield node
    node.destroy_node()
    context.try_shutdown()


def test_waiting_ends_with_the_message(node: Node) -> None:
    publisher = node.create_publisher(String, 'said', 10)
    heard = PolledSubscription(node, String, 'said', 10)  # type: ignore[arg-type]
    deadline = time.monotonic() + 30.0
    while publisher.get_subscription_count() == 0 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not heard.wait(0.05)
    later = threading.Timer(0.2, lambda: publisher.publish(String(data='now')))
    later.start()
    assert heard.wait(30.0)
    assert [message.data for message in heard.all()] == ['now']
    assert not heard.wait(0.01)
    assert heard.newest() is None


def test_waiting_in_a_context_that_ended_returns(node: Node) -> None:
    heard = PolledSubscription(node, String, 'said', 10)  # type: ignore[arg-type]
    node.context.try_shutdown()
    assert not heard.wait(30.0)
