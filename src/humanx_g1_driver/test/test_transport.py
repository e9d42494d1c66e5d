"""Both ends of the wire on loopback, against each other and against the SDK's own channels."""

import os
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

pytest.importorskip('cyclonedds', reason='cyclonedds 0.10.2 is not built')

from humanx_description.errors import UserError
from humanx_g1_driver import dds, network, sdk
from humanx_g1_driver.transport import DdsCommandTransport, DdsRobotTransport
from humanx_g1_driver.wire import LowCmdBuffer, LowStateBuffer

DOMAIN = 30


def _until(condition, timeout_s=10.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, 'the awaited event did not come'
        time.sleep(0.005)


@pytest.fixture
def pair():
    robot, driver = DdsRobotTransport(DOMAIN, 'lo'), DdsCommandTransport(DOMAIN, 'lo')
    driver.open_writer()
    yield robot, driver
    driver.close()
    robot.close()


def test_commands_and_states_arrive_as_sent(pair):
    robot, driver = pair
    sent, got = LowCmdBuffer(), LowCmdBuffer()
    sent.q[:] = np.arange(35)

    def command_arrived():
        driver.send_command(sent)
        return robot.wait_command(0.05) and robot.poll_command(got)

    _until(command_arrived)
    assert got.to_bytes() == sent.to_bytes()

    state, seen = LowStateBuffer(), LowStateBuffer()
    state.tick = 42

    def state_arrived():
        robot.send_state(state)
        return driver.wait_state(0.05) and driver.poll_state(seen)

    _until(state_arrived)
    assert seen.tick == 42


def test_only_the_newest_state_is_kept(pair):
    robot, driver = pair
    state, seen = LowStateBuffer(), LowStateBuffer()

    def flowing():
        robot.send_state(state)
        return driver.poll_state(seen)

    _until(flowing)
    for tick in range(1, 21):
        state.tick = tick
        robot.send_state(state)
    _until(lambda: driver.poll_state(seen) and seen.tick == 20)
    assert not driver.poll_state(seen)


def test_a_damaged_state_is_counted_and_not_used(pair):
    robot, driver = pair
    state, seen = LowStateBuffer(), LowStateBuffer()
    state.tick = 5
    image = bytearray(state.seal())
    image[40] ^= 1

    def damaged_arrived():
        robot._writer.write(bytes(image))
        assert not driver.poll_state(seen)
        return driver.damaged_states > 0

    _until(damaged_arrived)


_OTHER = """
import sys, time
from humanx_g1_driver.transport import DdsCommandTransport
from humanx_g1_driver.wire import LowCmdBuffer
t = DdsCommandTransport({domain}, 'lo')
t.open_writer()
command = LowCmdBuffer()
print('ready', flush=True)
while True:
    t.send_command(command)
    time.sleep(0.002)
"""


def test_a_second_writer_is_noticed_named_and_forgotten_when_killed(pair):
    _, driver = pair
    assert driver.find_foreign_writers(0.2) == []
    other = subprocess.Popen([sys.executable, '-c', _OTHER.format(domain=DOMAIN)], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline().strip() == 'ready'
        found = driver.find_foreign_writers(10.0)
        assert [writer.pid for writer in found] == [other.pid]
        assert str(other.pid) in str(found[0])
        _until(driver.foreign_command_heard)
    finally:
        other.kill()
        other.wait()
    # Its writer is still matched, but the process is gone: it must not keep a new driver from starting.
    assert driver.find_foreign_writers(0.0) == []
    _until(lambda: driver.foreign_writers() == [], timeout_s=dds.LEASE_S + 8)


_SDK_PEER = textwrap.dedent("""
    import sys, types
    sys.modules['unitree_sdk2py.b2'] = types.ModuleType('unitree_sdk2py.b2')
    from unitree_sdk2py.core.channel import ChannelFactoryInitialize, ChannelPublisher, ChannelSubscriber
    from unitree_sdk2py.idl.default import unitree_hg_msg_dds__LowState_
    from unitree_sdk2py.idl.unitree_hg.msg.dds_ import LowCmd_, LowState_
    ChannelFactoryInitialize({domain}, 'lo')
    states = ChannelPublisher('rt/lowstate', LowState_)
    states.Init()
    commands = ChannelSubscriber('rt/lowcmd', LowCmd_)
    commands.Init()
    print('ready', flush=True)
    state = unitree_hg_msg_dds__LowState_()
    from humanx_g1_driver.wire import LowStateBuffer
    image = LowStateBuffer()
    while True:
        command = commands.Read(1.0)
        if command is None:
            continue
        state.tick = int(command.motor_cmd[3].q)
        image.load(state.serialize())
        state.crc = image.computed_crc()
        states.Write(state)
""")


def test_the_sdks_own_channels_understand_us_and_we_them():
    driver = DdsCommandTransport(DOMAIN + 1, 'lo')
    driver.open_writer()
    peer = subprocess.Popen(
        [sys.executable, '-c', _SDK_PEER.format(domain=DOMAIN + 1)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert peer.stdout.readline().strip() == 'ready'
        command, state = LowCmdBuffer(), LowStateBuffer()
        command.q[3] = 1234.0

        def answered():
            driver.send_command(command)
            return driver.wait_state(0.05) and driver.poll_state(state) and state.tick == 1234

        _until(answered)
    finally:
        peer.kill()
        peer.wait()
        driver.close()


def test_an_interface_that_does_not_exist_is_refused_by_name():
    with pytest.raises(UserError, match=r"network_interface 'nope0' does not exist.*expected one of.*lo"):
        network.check_interface('nope0')


def test_loopback_is_recognised():
    assert network.check_interface('lo').is_loopback


def test_another_cyclonedds_may_not_join_a_robots_network():
    with pytest.raises(UserError, match=r"'eth0'.*is 11\.0\.1.*0\.10"):
        sdk.refuse_wrong_cyclonedds({'cyclonedds (Python)': '0.10.2', 'libddsc.so': '11.0.1'}, 'eth0')
    sdk.refuse_wrong_cyclonedds({'cyclonedds (Python)': '0.10.2', 'libddsc.so': '0.10.5'}, 'eth0')


def test_the_loaded_cyclonedds_is_the_robots():
    versions = sdk.cyclonedds_versions()
    assert len(versions) >= 2, 'both the binding and the library must be found'
    assert all(version.startswith('0.10.') for version in versions.values()), versions


def test_join_asks_for_the_version_on_anything_but_loopback(monkeypatch):
    monkeypatch.setattr(dds, 'check_interface', lambda name: network.NetworkInterface(name, '10.0.0.1', False))
    monkeypatch.setattr(dds, 'cyclonedds_versions', lambda: {'cyclonedds (Python)': '11.0.1'})
    with pytest.raises(UserError, match='Refusing to join'):
        dds.join(DOMAIN + 2, 'eth0')
    assert DOMAIN + 2 not in dds._domains


@pytest.mark.parametrize('domain', [-1, 233])
def test_a_domain_out_of_range_is_refused(domain):
    with pytest.raises(UserError, match='dds_domain'):
        dds.join(domain, 'lo')


def test_no_trace_file_is_left():
    # The SDK's own configuration writes a trace to a fixed path; ours must not.
    assert 'OutputFile' not in dds._CONFIG
    assert os.environ.get('CYCLONEDDS_URI') is None
