"""The wireless remote's 40 bytes."""

import struct

import numpy as np
import pytest

from humanx_g1_driver.remote import ESTOP_CHORDS, KEYS, is_estop, read_keys, read_remote


def _bytes(keys: int = 0, lx=0.0, rx=0.0, ry=0.0, ly=0.0) -> np.ndarray:
    data = bytearray(40)
    struct.pack_into('<H', data, 2, keys)
    struct.pack_into('<3f', data, 4, lx, rx, ry)
    struct.pack_into('<f', data, 20, ly)
    return np.frombuffer(bytes(data), dtype=np.uint8)


@pytest.mark.parametrize(('name', 'bit'), [('R1', 0), ('select', 3), ('L2', 5), ('A', 8), ('B', 9), ('left', 15)])
def test_every_key_is_its_bit(name, bit):
    remote = read_remote(_bytes(1 << bit))
    assert remote.pressed == [name]
    assert read_keys(_bytes(1 << bit)) == 1 << bit == KEYS[name]


def test_sticks_are_left_then_right():
    assert read_remote(_bytes(lx=0.25, ly=-0.5, rx=0.75, ry=-1.0)).sticks == (0.25, -0.5, 0.75, -1.0)


def test_a_broken_stick_reads_as_centred():
    assert read_remote(_bytes(lx=float('nan'), ry=float('inf'))).sticks == (0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize('chord', ESTOP_CHORDS)
def test_a_stop_is_a_whole_chord_with_or_without_other_keys(chord):
    assert is_estop(chord)
    assert is_estop(chord | KEYS['up'])
    assert not is_estop(0)
    assert not is_estop(0xFFFF & ~KEYS['select'] & ~KEYS['B'])
