"""The line between the two processes of ``sim_g1``: whole messages, never blocking the sender.

Both ends are one program started by one command, so messages are pickled; nothing from outside comes this way.
"""

import pickle
import select
import socket
from typing import Any

_MAX_MESSAGE = 1 << 16
_BUFFER = 1 << 20


class ChannelClosed(Exception):
    """The other process is gone."""


class Channel:
    """One end of the line."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        end.setblocking(False)
        self._readable = select.poll()
        self._readable.register(end, select.POLLIN)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)

    @classmethod
    def pair(cls) -> tuple['Channel', socket.socket]:
        """Return an end, and the socket that the other process makes its end of."""
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(mine), theirs

    @classmethod
    def from_fd(cls, fd: int) -> 'Channel':
        """Return the end behind an inherited file descriptor."""
        return cls(socket.socket(fileno=fd))

    def send(self, message: Any) -> bool:
        """Send a message; False if the other process does not read and the line is full. Never blocks."""
        try:
            self._end.send(pickle.dumps(message, protocol=5))
        except BlockingIOError:
            return False
        except OSError:
            raise ChannelClosed from None
        return True

    def receive(self, timeout_s: float | None = 0.0) -> Any | None:
        """Return the next message, None if none came within ``timeout_s`` (None: wait for ever)."""
        if timeout_s != 0.0:
            self._readable.poll(None if timeout_s is None else 1e3 * timeout_s)
        try:
            data = self._end.recv(_MAX_MESSAGE)
        except BlockingIOError:
            return None
        except OSError:
            raise ChannelClosed from None
        if not data:
            raise ChannelClosed
        return pickle.loads(data)

    def close(self) -> None:
        """Hang up."""
        self._end.close()
