"""Between the two processes of the driver: packets over a Unix socket pair.

The control loop runs in a process of its own, without ROS, so that nothing the ROS side does can hold it up: not the
interpreter lock, not an allocation, not a crash. A SEQPACKET socket keeps packets whole and in order, never blocks
here, and ends by itself when the other process dies, however it dies.
"""

import contextlib
import select
import socket
from enum import IntEnum

import numpy as np

from humanx_description import robot

_N = robot.NUM_JOINTS
TEXT = 400  # bytes of UTF-8 in a sentence


class Kind(IntEnum):
    """First field of every packet."""

    # To the loop.
    TARGETS = 1
    REQUEST = 2
    PROBLEM = 3
    HEARTBEAT = 4
    QUIT = 5
    # From the loop.
    READY = 10
    REFUSED = 11
    STATE = 12
    STATUS = 13
    ANSWER = 14
    DONE = 15


TARGETS = np.dtype([
    ('kind', 'u4'), ('state_tick', 'u4'), ('sequence', 'u8'), ('stamp', 'f8'),
    ('position', 'f8', _N), ('kp', 'f8', _N), ('kd', 'f8', _N), ('torque', 'f8', _N),
])  # fmt: skip
REQUEST = np.dtype([('kind', 'u4'), ('id', 'u4'), ('action', 'u4'), ('pad', 'u4'), ('asked_at', 'f8')])
PROBLEM = np.dtype([('kind', 'u4'), ('fault', 'u4'), ('text', f'S{TEXT}')])
BARE = np.dtype([('kind', 'u4')])
ANSWER = np.dtype([('kind', 'u4'), ('id', 'u4'), ('accepted', 'u4'), ('text', f'S{TEXT}')])
NOTICE = np.dtype([('kind', 'u4'), ('realtime', 'u4'), ('text', f'S{TEXT}')])  # READY, REFUSED
STATE = np.dtype([
    ('kind', 'u4'), ('tick', 'u4'), ('received_at', 'f8'), ('mode', 'u4'), ('keys', 'u4'),
    ('position', 'f8', _N), ('velocity', 'f8', _N), ('torque', 'f8', _N), ('temperature', 'f4', _N),
    ('quat', 'f8', 4), ('gyro', 'f8', 3), ('acceleration', 'f8', 3), ('sticks', 'f4', 4),
])  # fmt: skip
STATUS = np.dtype([
    ('kind', 'u4'), ('mode', 'u4'), ('fault', 'u4'), ('fault_count', 'u4'), ('estop', 'u4'), ('period_samples', 'u4'),
    ('made_at', 'f8'), ('fault_at', 'f8'),
    ('period_mean', 'f8'), ('period_p99', 'f8'), ('period_max', 'f8'), ('period_error_p99', 'f8'),
    ('cycles', 'u8'), ('misses', 'u8'), ('clamped', 'u8'),
    ('state_age', 'f8'), ('targets_age', 'f8'), ('response_p99', 'f8'), ('response_max', 'f8'),
    ('damaged_states', 'u8'), ('text', f'S{TEXT}'),
])  # fmt: skip
DONE = np.dtype([
    ('kind', 'u4'), ('pad', 'u4'), ('cycles', 'u8'), ('misses', 'u8'), ('cpu_seconds', 'f8'), ('seconds', 'f8'),
    ('period_mean', 'f8'), ('period_max', 'f8'), ('error_p50', 'f8'), ('error_p99', 'f8'),
    ('responses', 'u8'), ('response_p99', 'f8'), ('response_max', 'f8'),
])  # fmt: skip

DTYPES = {
    Kind.TARGETS: TARGETS, Kind.REQUEST: REQUEST, Kind.PROBLEM: PROBLEM, Kind.HEARTBEAT: BARE, Kind.QUIT: BARE,
    Kind.READY: NOTICE, Kind.REFUSED: NOTICE, Kind.STATE: STATE, Kind.STATUS: STATUS, Kind.ANSWER: ANSWER,
    Kind.DONE: DONE,
}  # fmt: skip
_LARGEST = max(dtype.itemsize for dtype in DTYPES.values())


class LinkClosed(Exception):
    """The process at the other end is gone."""


def packet(kind: Kind) -> np.ndarray:
    """Return a packet of this kind, zeroed: a structured array of shape () to fill and send, reusable."""
    record = np.zeros((), dtype=DTYPES[kind])
    record['kind'] = kind
    return record


def text(sentence: str) -> bytes:
    """Return a sentence as it goes into a packet, cut at a whole character."""
    return sentence.encode()[:TEXT].decode(errors='ignore').encode()


def read_text(value: bytes) -> str:
    return bytes(value).decode(errors='replace')


class Link:
    """One end of the pair."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._buffer = bytearray(_LARGEST)
        self._data = memoryview(self._buffer)

    @staticmethod
    def pair() -> tuple['Link', socket.socket]:
        """Return one end, and the other end's socket to hand to a child process."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return Link(ours), theirs

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, record: np.ndarray) -> bool:
        """Send a packet without waiting; False if the other end does not read (then it is dropped)."""
        try:
            self._socket.send(record.data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return False
        except (BrokenPipeError, ConnectionResetError) as error:
            raise LinkClosed from error
        return True

    def receive(self, wait_s: float = 0.0) -> np.void | None:
        """Return the next packet (a copy), or None if none comes within ``wait_s`` seconds."""
        if wait_s > 0.0:
            self._poll.poll(1e3 * wait_s)
        try:
            size = self._socket.recv_into(self._data)
        except BlockingIOError:
            return None
        except ConnectionResetError as error:
            raise LinkClosed from error
        if size == 0:
            raise LinkClosed
        kind = int.from_bytes(self._data[:4], 'little')
        dtype = DTYPES[Kind(kind)]
        if dtype.itemsize != size:
            raise ValueError(f'a packet of kind {kind} has {size} bytes, expected {dtype.itemsize}')
        return np.frombuffer(bytes(self._data[:size]), dtype=dtype)[0]

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.close()
