"""The physics as the ROS side sees it: snapshots come, requests go."""

import threading
from collections.abc import Callable

from humanx_description.errors import UserError
from humanx_g1_driver.sim.channel import Channel, ChannelClosed
from humanx_g1_driver.sim.protocol import Ready, Reply, Request, SimParameters, Snapshot

_ANSWER_S = 1.0


class PhysicsLink:
    """The ROS side's end of the line. :meth:`poll` belongs to one thread, :meth:`call` to any other."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._answered = threading.Condition()
        self._replies: dict[int, Reply] = {}
        self._next = 1

    def hand_over(self, parameters: SimParameters) -> Ready:
        """Give the physics its parameters and wait until it runs; raises :class:`UserError` if it refuses them."""
        self._channel.send(parameters)
        ready = self._channel.receive(None)
        assert isinstance(ready, Ready)
        if ready.refusal:
            raise UserError(ready.refusal)
        return ready

    def poll(self, timeout_s: float, on_snapshot: Callable[[Snapshot], None]) -> None:
        """Handle what comes within ``timeout_s``; raises :class:`ChannelClosed` when the physics is gone."""
        message = self._channel.receive(max(timeout_s, 1e-4))
        while message is not None:
            if isinstance(message, Snapshot):
                on_snapshot(message)
            elif isinstance(message, Reply):
                with self._answered:
                    self._replies[message.number] = message
                    self._answered.notify_all()
            message = self._channel.receive()

    def call(self, name: str, *arguments: object) -> int:
        """Have something done between two steps and return the answer; raises TimeoutError if the physics is stuck."""
        with self._answered:
            number, self._next = self._next, self._next + 1
            try:
                sent = self._channel.send(Request(number, name, arguments))
            except ChannelClosed:
                sent = False
            if not sent or not self._answered.wait_for(lambda: number in self._replies, _ANSWER_S):
                raise TimeoutError('the simulation does not answer')
            return self._replies.pop(number).value
