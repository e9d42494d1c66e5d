"""The wire images against Unitree's own SDK: byte equality, both directions, and the checksum."""

import struct

import numpy as np
import pytest

from humanx_g1_driver.crc import crc32_words
from humanx_g1_driver.sdk import message_types
from humanx_g1_driver.wire import NUM_MOTORS, LowCmdBuffer, LowStateBuffer

pytest.importorskip('cyclonedds', reason='cyclonedds 0.10.2 is not built')


def _crc_bit_by_bit(words) -> int:
    """The definition, one bit at a time."""
    crc = 0xFFFFFFFF
    for word in words:
        for bit in range(31, -1, -1):
            top = crc >> 31
            crc = (crc << 1) & 0xFFFFFFFF
            if top:
                crc ^= 0x04C11DB7
            if (int(word) >> bit) & 1:
                crc ^= 0x04C11DB7
    return crc


def _random_command(rng):
    command_type, _ = message_types()
    from unitree_sdk2py.idl.default import unitree_hg_msg_dds__LowCmd_

    sdk = unitree_hg_msg_dds__LowCmd_()
    assert isinstance(sdk, command_type)
    ours = LowCmdBuffer()
    sdk.mode_pr = ours.mode_pr = 1
    sdk.mode_machine = ours.mode_machine = 6
    modes = rng.integers(0, 2, NUM_MOTORS, dtype=np.uint8)
    ours.mode = modes
    for name in ('q', 'dq', 'tau', 'kp', 'kd'):
        values = rng.normal(size=NUM_MOTORS).astype(np.float32)
        getattr(ours, name)[:] = values
        for i in range(NUM_MOTORS):
            setattr(sdk.motor_cmd[i], name, float(values[i]))
    for i in range(NUM_MOTORS):
        sdk.motor_cmd[i].mode = int(modes[i])
    return sdk, ours


def _random_state(rng):
    message_types()
    from unitree_sdk2py.idl.default import unitree_hg_msg_dds__LowState_

    sdk, ours = unitree_hg_msg_dds__LowState_(), LowStateBuffer()
    sdk.version = [3, 9]
    ours.version[:] = [3, 9]
    sdk.mode_pr, sdk.mode_machine, sdk.tick = 0, 5, 123456789
    ours.mode_pr, ours.mode_machine, ours.tick = 0, 5, 123456789
    for name, size in (('quaternion', 4), ('gyroscope', 3), ('accelerometer', 3), ('rpy', 3)):
        values = rng.normal(size=size).astype(np.float32)
        getattr(ours, name)[:] = values
        setattr(sdk.imu_state, name, [float(v) for v in values])
    sdk.imu_state.temperature = -7
    ours.imu_temperature[0] = -7
    modes = rng.integers(0, 2, NUM_MOTORS, dtype=np.uint8)
    ours.mode = modes
    for name in ('q', 'dq', 'ddq', 'tau_est', 'vol'):
        values = rng.normal(size=NUM_MOTORS).astype(np.float32)
        getattr(ours, name)[:] = values
        for i in range(NUM_MOTORS):
            setattr(sdk.motor_state[i], name, float(values[i]))
    for i in range(NUM_MOTORS):
        sdk.motor_state[i].mode = int(modes[i])
        sdk.motor_state[i].temperature = [40 + i, -i]
        sdk.motor_state[i].motorstate = i * 1000003
        ours.temperature[i] = [40 + i, -i]
        ours.motorstate[i] = i * 1000003
    remote = rng.integers(0, 256, 40, dtype=np.uint8)
    ours.wireless_remote[:] = remote
    sdk.wireless_remote = [int(b) for b in remote]
    return sdk, ours


def _c_struct_words(message, pack_format: str, values: list) -> np.ndarray:
    packed = struct.pack(pack_format, *values)
    return np.frombuffer(packed, dtype='<u4')


def _sdk_command_words(sdk) -> np.ndarray:
    values = [sdk.mode_pr, sdk.mode_machine]
    for m in sdk.motor_cmd:
        values += [m.mode, m.q, m.dq, m.tau, m.kp, m.kd, m.reserve]
    values += [*sdk.reserve, 0]
    return _c_struct_words(sdk, '<2B2x' + 'B3x5fI' * 35 + '5I', values)


def _sdk_state_words(sdk) -> np.ndarray:
    imu = sdk.imu_state
    values = [*sdk.version, sdk.mode_pr, sdk.mode_machine, sdk.tick]
    values += [*imu.quaternion, *imu.gyroscope, *imu.accelerometer, *imu.rpy, imu.temperature]
    for m in sdk.motor_state:
        values += [m.mode, m.q, m.dq, m.ddq, m.tau_est, *m.temperature, m.vol, *m.sensor, m.motorstate, *m.reserve]
    values += [*sdk.wireless_remote, *sdk.reserve, 0]
    return _c_struct_words(sdk, '<2I2B2xI' + '13fh2x' + 'B3x4f2hf7I' * 35 + '40B5I', values)


@pytest.mark.parametrize('seed', range(5))
def test_command_is_byte_equal_with_the_sdk(seed):
    sdk, ours = _random_command(np.random.default_rng(seed))
    sdk.crc = crc32_words(_sdk_command_words(sdk)[:-1])
    assert bytes(ours.seal()) == sdk.serialize()
    assert ours.crc_ok()


@pytest.mark.parametrize('seed', range(5))
def test_state_is_byte_equal_with_the_sdk(seed):
    sdk, ours = _random_state(np.random.default_rng(seed))
    sdk.crc = crc32_words(_sdk_state_words(sdk)[:-1])
    assert bytes(ours.seal()) == sdk.serialize()


def test_state_is_read_from_the_sdks_bytes():
    rng = np.random.default_rng(7)
    sdk, expected = _random_state(rng)
    sdk.crc = crc32_words(_sdk_state_words(sdk)[:-1])
    got = LowStateBuffer()
    assert got.load(sdk.serialize())
    assert got.crc_ok()
    np.testing.assert_array_equal(got.q, expected.q)
    np.testing.assert_array_equal(got.quaternion, expected.quaternion)
    np.testing.assert_array_equal(got.mode, expected.mode)
    np.testing.assert_array_equal(got.temperature, expected.temperature)
    assert got.tick == expected.tick


def test_the_sdk_reads_our_command():
    command_type, _ = message_types()
    _, ours = _random_command(np.random.default_rng(3))
    sdk = command_type.deserialize(bytes(ours.seal()))
    assert sdk.motor_cmd[28].kp == ours.kp[28]
    assert sdk.motor_cmd[0].mode == ours.mode[0]
    assert sdk.crc == ours.crc


def test_crc_is_the_definition():
    words = np.random.default_rng(1).integers(0, 2**32, 50, dtype=np.uint32)
    assert crc32_words(words) == _crc_bit_by_bit(words)
    _, ours = _random_command(np.random.default_rng(4))
    sdk, _ = _random_command(np.random.default_rng(4))
    assert ours.computed_crc() == _crc_bit_by_bit(_sdk_command_words(sdk)[:-1])
    sdk, state = _random_state(np.random.default_rng(5))
    assert state.computed_crc() == _crc_bit_by_bit(_sdk_state_words(sdk)[:-1])


@pytest.mark.parametrize('offset', [4, 6, 7 * 4 + 5, 500, 999])
def test_one_flipped_bit_is_noticed(offset):
    _, ours = _random_command(np.random.default_rng(2))
    damaged = bytearray(ours.seal())
    damaged[offset] ^= 0x10
    got = LowCmdBuffer()
    assert got.load(bytes(damaged))
    # The bytes that pad the struct are no part of it, in the SDK either.
    assert got.crc_ok() == (offset == 7)


def test_a_wrong_size_or_header_changes_nothing():
    got = LowCmdBuffer()
    got.q[:] = 1.0
    before = got.to_bytes()
    assert not got.load(b'\x00\x01\x00\x00' + b'\x00' * 999)
    assert not got.load(b'\x00\x00\x00\x00' + b'\x00' * 1000)
    assert not got.load(b'')
    assert got.to_bytes() == before
