"""The wireless remote as it comes in every LowState: 40 bytes with a key field and four sticks."""

import struct
from typing import NamedTuple

import numpy as np

KEY_NAMES = (
    'R1', 'L1', 'start', 'select', 'R2', 'L2', 'F1', 'F2', 'A', 'B', 'X', 'Y', 'up', 'right', 'down', 'left',
)  # fmt: skip
KEYS = {name: 1 << bit for bit, name in enumerate(KEY_NAMES)}

# Any of these, fully pressed, is an emergency stop: L2+B is the vendor's own damping chord, select is one key that no
# other function of ours uses and that a frightened thumb finds.
ESTOP_CHORDS = (KEYS['L2'] | KEYS['B'], KEYS['select'])


class Remote(NamedTuple):
    """Buttons as a bit field (bit 0 = R1, see :data:`KEY_NAMES`); sticks left x, left y, right x, right y in -1..1."""

    keys: int
    sticks: tuple[float, float, float, float]

    @property
    def pressed(self) -> list[str]:
        """Names of the pressed buttons."""
        return [name for name, bit in KEYS.items() if self.keys & bit]


def read_keys(data: np.ndarray) -> int:
    """Return the key field of the 40 bytes (uint8) alone."""
    return int(data[2]) | int(data[3]) << 8


def read_remote(data: np.ndarray | bytes) -> Remote:
    """Read the 40 bytes. Sticks that are not finite read as centred."""
    raw = bytes(data)
    keys = struct.unpack_from('<H', raw, 2)[0]
    lx, rx, ry = struct.unpack_from('<3f', raw, 4)
    ly = struct.unpack_from('<f', raw, 20)[0]
    sticks = tuple(float(v) if np.isfinite(v) else 0.0 for v in (lx, ly, rx, ry))
    return Remote(keys, sticks)  # type: ignore[arg-type]


def is_estop(keys: int) -> bool:
    """Tell whether the pressed keys hold an emergency-stop chord."""
    return any(keys & chord == chord for chord in ESTOP_CHORDS)
