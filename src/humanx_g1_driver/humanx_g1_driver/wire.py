"""The G1's two low-level messages as fixed-size buffers that numpy reads and writes in place.

``rt/lowcmd`` (driver to robot) and ``rt/lowstate`` (robot to driver) have no variable part, so one buffer per
direction, allocated once, replaces serialisation: the fields below are views into it, in the Unitree motor order.
The buffer is the wire image: a 4-byte CDR header (little endian) and the CDR body. The checksum is taken over the C
struct, which differs from the CDR body only in that the first motor's ``mode`` byte starts a word of its own.

Byte equality with Unitree's own Python SDK is tested in ``test/test_wire.py``.
"""

import numpy as np

from humanx_g1_driver.crc import WordsCrc

NUM_MOTORS = 35  # slots in the messages; the 29-joint G1 uses the first 29
CDR_HEADER = b'\x00\x01\x00\x00'
# Robots may announce the second version of CDR: with no member wider than 4 bytes the body is the same.
_CDR_HEADERS = (CDR_HEADER, b'\x00\x07\x00\x00')
_HEADER = 4


class _Message:
    """A buffer, its views and its checksum; ``_MODE_WORD`` is the body's word that holds the first motor's mode."""

    SIZE: int
    _MODE_WORD: int

    def __init__(self) -> None:
        self.buffer = np.zeros(self.SIZE, dtype=np.uint8)
        self.buffer[:_HEADER] = np.frombuffer(CDR_HEADER, dtype=np.uint8)
        self._body_words = self.buffer[_HEADER:].view('<u4')
        self._struct = WordsCrc(len(self._body_words))  # one word more for the mode, one less for the crc itself
        self._data = self.buffer.data

    def _view(self, offset: int, dtype: str, count: int, stride: int | None = None) -> np.ndarray:
        itemsize = np.dtype(dtype).itemsize
        return np.ndarray(
            (count,), dtype=dtype, buffer=self._data, offset=_HEADER + offset, strides=(stride or itemsize,)
        )

    def computed_crc(self) -> int:
        """Return the checksum that the message should carry."""
        body, struct, k = self._body_words, self._struct.words, self._MODE_WORD
        word = int(body[k])
        struct[:k] = body[:k]
        struct[k] = word & 0xFFFF
        struct[k + 1] = (word >> 16) & 0xFF
        struct[k + 2 :] = body[k + 1 : -1]
        return self._struct.value()

    def seal(self) -> memoryview:
        """Write the checksum and return the wire image (valid until the next change)."""
        self._body_words[-1] = self.computed_crc()
        return self._data

    def crc_ok(self) -> bool:
        """Tell whether the checksum in the message is right."""
        return int(self._body_words[-1]) == self.computed_crc()

    @property
    def crc(self) -> int:
        return int(self._body_words[-1])

    def load(self, data: bytes) -> bool:
        """Take over a wire image; return False, changing nothing, if its size or header is not this message's."""
        if len(data) != self.SIZE or data[:_HEADER] not in _CDR_HEADERS:
            return False
        self.buffer[:] = np.frombuffer(data, dtype=np.uint8)
        return True

    def to_bytes(self) -> bytes:
        """Return a copy of the wire image as it is (see :meth:`seal`)."""
        return self.buffer.tobytes()


class LowCmdBuffer(_Message):
    """``unitree_hg::msg::dds_::LowCmd_``, 1004 bytes on the wire.

    Views, all writable, 35 slots in motor order: ``q`` (rad), ``dq`` (rad/s), ``tau`` (N m), ``kp`` (N m/rad),
    ``kd`` (N m s/rad). The motor adds ``kp (q - q_measured) + kd (dq - dq_measured) + tau``.
    """

    SIZE = 1004
    _MODE_WORD = 0

    def __init__(self) -> None:
        super().__init__()
        stride = 28
        self.q, self.dq, self.tau, self.kp, self.kd = (
            self._view(4 + 4 * i, '<f4', NUM_MOTORS, stride) for i in range(5)
        )
        self._mode_pr = self._view(0, 'u1', 1)
        self._mode_machine = self._view(1, 'u1', 1)
        self._first_mode = self._view(2, 'u1', 1)
        self._other_modes = self._view(stride, 'u1', NUM_MOTORS - 1, stride)

    @property
    def mode_pr(self) -> int:
        """0: ankles and waist are commanded as pitch and roll; 1: as the linkage's A and B."""
        return int(self._mode_pr[0])

    @mode_pr.setter
    def mode_pr(self, value: int) -> None:
        self._mode_pr[0] = value

    @property
    def mode_machine(self) -> int:
        """The machine type: must echo what the robot's LowState says, or the robot does not move."""
        return int(self._mode_machine[0])

    @mode_machine.setter
    def mode_machine(self, value: int) -> None:
        self._mode_machine[0] = value

    @property
    def mode(self) -> np.ndarray:
        """(35,) uint8, a copy: 1 where a motor is enabled."""
        return np.concatenate([self._first_mode, self._other_modes])

    @mode.setter
    def mode(self, values: np.ndarray) -> None:
        self._first_mode[0] = values[0]
        self._other_modes[:] = values[1:]


class LowStateBuffer(_Message):
    """``unitree_hg::msg::dds_::LowState_``, 2092 bytes on the wire.

    Views, all writable, 35 slots in motor order: ``q`` (rad), ``dq`` (rad/s), ``ddq`` (rad/s^2), ``tau_est`` (N m),
    ``temperature`` (35, 2; degrees Celsius: case, winding), ``vol`` (V), ``motorstate`` (error bits); the pelvis IMU:
    ``quaternion`` (4, w first), ``gyroscope`` (3, rad/s), ``accelerometer`` (3, m/s^2), ``rpy`` (3, rad); and
    ``wireless_remote`` (40 bytes), ``version`` (2).
    """

    SIZE = 2092
    _MODE_WORD = 17

    def __init__(self) -> None:
        super().__init__()
        stride, first = 56, 72
        self.version = self._view(0, '<u4', 2)
        self._mode_pr = self._view(8, 'u1', 1)
        self._mode_machine = self._view(9, 'u1', 1)
        self._tick = self._view(12, '<u4', 1)
        self.quaternion = self._view(16, '<f4', 4)
        self.gyroscope = self._view(32, '<f4', 3)
        self.accelerometer = self._view(44, '<f4', 3)
        self.rpy = self._view(56, '<f4', 3)
        self.imu_temperature = self._view(68, '<i2', 1)
        self._first_mode = self._view(70, 'u1', 1)
        self._other_modes = self._view(68 + stride, 'u1', NUM_MOTORS - 1, stride)
        self.q, self.dq, self.ddq, self.tau_est = (
            self._view(first + 4 * i, '<f4', NUM_MOTORS, stride) for i in range(4)
        )
        self.temperature: np.ndarray = np.ndarray(
            (NUM_MOTORS, 2), '<i2', self._data, offset=_HEADER + first + 16, strides=(stride, 2)
        )
        self.vol = self._view(first + 20, '<f4', NUM_MOTORS, stride)
        self.motorstate = self._view(first + 32, '<u4', NUM_MOTORS, stride)
        self.wireless_remote = self._view(2028, 'u1', 40)

    @property
    def mode_pr(self) -> int:
        return int(self._mode_pr[0])

    @mode_pr.setter
    def mode_pr(self, value: int) -> None:
        self._mode_pr[0] = value

    @property
    def mode_machine(self) -> int:
        """The machine type, to be echoed in every LowCmd."""
        return int(self._mode_machine[0])

    @mode_machine.setter
    def mode_machine(self, value: int) -> None:
        self._mode_machine[0] = value

    @property
    def tick(self) -> int:
        """The robot's own counter, ms, 32 bits."""
        return int(self._tick[0])

    @tick.setter
    def tick(self, value: int) -> None:
        self._tick[0] = value & 0xFFFFFFFF

    @property
    def mode(self) -> np.ndarray:
        """(35,) uint8, a copy: 1 where a motor is enabled."""
        return np.concatenate([self._first_mode, self._other_modes])

    @mode.setter
    def mode(self, values: np.ndarray) -> None:
        self._first_mode[0] = values[0]
        self._other_modes[:] = values[1:]
