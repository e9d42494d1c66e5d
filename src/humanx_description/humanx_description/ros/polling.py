"""Reading a subscription when the node's own loop wants to, instead of whenever a message comes.

A node with a loop on deadlines needs the newest message at its tick. Executor callbacks would wake
the interpreter for every message in between, at a cost of 100 to 200 us each, in competition with
the loop.
"""

from collections.abc import Iterator
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.impl.implementation_singleton import rclpy_implementation as _rclpy
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
        self._context = node.context
        self._wait_set: Any = None

    def wait(self, seconds: float) -> bool:
        """Wait until a message is there; False if none comes within ``seconds`` or the context ends.

        Without an executor, which spends ten times as long on a wake-up. For one thread.
        """
        context, handle = self._context.handle, self._subscription.handle
        if context is None:
            return False
        with context, handle:
            if not self._context.ok():
                return False
            if self._wait_set is None:
                self._wait_set = _rclpy.WaitSet(1, 0, 0, 0, 0, 0, context)
            self._wait_set.clear_entities()
            index = self._wait_set.add_subscription(handle)
            self._wait_set.wait(round(seconds * 1e9))
            return bool(self._wait_set.is_ready('subscription', index))

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
