"""Reading a subscription when the node's own loop wants to, instead of whenever a message comes.

A node with a loop on deadlines needs the newest message at its tick. Executor callbacks would wake
the interpreter for every message in between, at a cost of 100 to 200 us each, in competition with
the loop.
"""

from collections.abc import Iterator
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from rclpy.qos import QoSProfile


class PolledGroup(CallbackGroup):
    """A group whose subscriptions no executor waits on."""

    def can_execute(self, entity: Any) -> bool:
        return False

    def beginning_execution(self, entity: Any) -> bool:
        return False

    def ending_execution(self, entity: Any) -> None:
        pass


class PolledSubscription:
    """A subscription that one thread reads with :meth:`newest` or :meth:`all`; neither blocks."""

    def __init__(self, node: Node, msg_type: Any, topic: str, qos: QoSProfile, *, raw: bool = False) -> None:
        self._subscription = node.create_subscription(
            msg_type, topic, _never, qos, callback_group=PolledGroup(), raw=raw
        )
        self._msg_type, self._raw = msg_type, raw

    def all(self) -> Iterator[Any]:
        """Yield the messages that came since the last call, oldest first."""
        for message, _ in self.all_received():
            yield message

    def all_received(self) -> Iterator[tuple[Any, int]]:
        """Yield them with the time at which the middleware received each (ns since 1970, 0 if it does not say)."""
        for message, info in self.all_with_info():
            yield message, info['received_timestamp']

    def all_with_info(self) -> Iterator[tuple[Any, dict[str, int]]]:
        """Yield them with all that the middleware says of each."""
        handle = self._subscription.handle
        with handle:
            while (taken := handle.take_message(self._msg_type, self._raw)) is not None:
                yield taken

    def newest(self) -> Any | None:
        """Return the newest message that came since the last call, None if none did."""
        message = None
        for message in self.all():  # noqa: B007
            pass
        return message


def _never(_message: Any) -> None:
    raise AssertionError('a polled subscription was executed')
