"""Faults on the real driver and the real wire, beside a robot and a policy that do as they are told.

What the tests are made of is in ``fault_parts.py``. Needs the built messages and CycloneDDS.
"""

import os
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip('cyclonedds', reason='cyclonedds 0.10.2 is not built')
pytest.importorskip('humanx_msgs.msg', reason='the messages are not built')

sys.path.insert(0, str(Path(__file__).parent))

from fault_parts import Desk, Peer, Play, environment, in_run
from std_msgs.msg import String

from humanx_g1_driver.faults import Fault, Mode
from humanx_g1_driver.remote import KEYS
from humanx_msgs.msg import DriverStatus

pytestmark = pytest.mark.ros
DOMAIN = 40
ENVIRONMENT = environment(DOMAIN)


class Driver:
    """The driver's process."""

    def __init__(self, *parameters: str, extra: dict[str, str] | None = None) -> None:
        values = ['dds_domain:=%d' % DOMAIN, 'safety.stand_seconds:=0.2', 'orphan_s:=1.0', *parameters]  # noqa: UP031
        arguments = [part for value in values for part in ('-p', value)]
        self.process = subprocess.Popen(
            [sys.executable, '-m', 'humanx_g1_driver.node', '--ros-args', *arguments],
            env={**ENVIRONMENT, **(extra or {})}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        self.lines.extend(self.process.stdout)

    @property
    def loop_pid(self) -> int:
        children = Path(f'/proc/{self.process.pid}/task/{self.process.pid}/children').read_text().split()
        assert len(children) == 1
        return int(children[0])

    def wait(self) -> int:
        status = self.process.wait(40)
        self._reader.join(5)
        return status

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()


class Stage(Play):
    """The driver between a robot and a policy that do as they are told; what a test killed is started anew."""

    def __init__(self) -> None:
        self.witness = Peer(DOMAIN, 'witness.py')
        self.robot = Peer(DOMAIN, 'fake_robot.py', str(DOMAIN))
        self.policy = Peer(DOMAIN, 'fake_policy.py')
        self.desk = Desk(DOMAIN)
        self.driver = Driver()

    def to_run(self) -> None:
        if self.robot.process.poll() is not None:
            self.robot = Peer(DOMAIN, 'fake_robot.py', str(DOMAIN))
        if self.policy.process.poll() is not None:
            self.policy = Peer(DOMAIN, 'fake_policy.py')
        if self.driver.process.poll() is not None:
            self.driver = Driver()
            self.desk.status = None
        self.robot.tell(calm=True)
        self.policy.tell(silent=False, old_state=False)
        self.desk.climb()
        report = self.robot.tell()
        assert report['kind'] == 'stiff', self.desk.status.reason
        assert report['wrong_mode_machine'] == 0

    def close(self) -> None:
        self.driver.stop()
        self.robot.process.kill()
        self.policy.process.kill()
        self.witness.process.kill()
        self.desk.close()


@pytest.fixture(scope='module')
def theatre():
    stage = Stage()
    yield stage
    stage.close()


@pytest.fixture
def stage(theatre):
    return theatre


# The policy.


@in_run
def test_killed_policy(stage):
    stage.assert_damped(stage.policy.kill(), Fault.TARGETS_STALE, 'no joint targets for')
    stage.to_run()  # a new one is accepted when the operator asks


@in_run
def test_targets_that_stop(stage):
    stage.assert_damped(stage.policy.tell(silent=True)['now'], Fault.TARGETS_STALE, 'no joint targets for')
    stage.policy.tell(silent=False)
    stage.assert_stays_damped()
    assert not stage.desk.call('run').success


@pytest.mark.parametrize(
    ('order', 'fault', 'text'),
    [
        ({'position': [3, None]}, Fault.TARGET_INVALID, 'left_knee_joint is nan'),
        ({'position': [3, 57.0]}, Fault.TARGET_INVALID, 'left_knee_joint is 57'),
        ({'position': [12, 2.6]}, Fault.TARGET_INVALID, 'waist_yaw_joint jumps by 2.60 rad'),
        ({'back': 1}, Fault.SEQUENCE, 'repeated'),
        ({'back': 10}, Fault.SEQUENCE, 'came after'),
        ({'back': 10**9}, Fault.SEQUENCE, 'came after'),
        ({'stamp_back': 2}, Fault.CLOCK, 'went back by'),
    ],
)
@in_run
def test_bad_targets(stage, order, fault, text):
    stage.assert_damped(stage.policy.tell(**order)['now'], fault, text)


@in_run
def test_targets_that_answer_an_old_state(stage):
    """A policy that goes on with the last thing it saw: 50 ms later its answers are too old."""
    stage.assert_damped(stage.policy.tell(old_state=True)['now'], Fault.TARGETS_STALE, 'answer a robot state')


@in_run
def test_paused_policy(stage):
    now = time.monotonic()
    stage.policy.process.send_signal(signal.SIGSTOP)
    try:
        stage.assert_damped(now, Fault.TARGETS_STALE, 'no joint targets for')
    finally:
        stage.policy.process.send_signal(signal.SIGCONT)
    stage.assert_stays_damped()


@in_run
def test_second_publisher_of_targets_is_named_and_refused(stage):
    other = Peer(DOMAIN, 'fake_policy.py', 'stranger')
    try:
        stage.robot.tell(until='damping')
        stage.desk.until(lambda: stage.desk.status.state == Mode.DAMP)
        # The middleware checks the shared memory of a newcomer, and where a killed process has left something there it
        # holds everybody up for 0.33 s: the driver has damped for want of targets then, before the stranger spoke.
        if stage.desk.status.fault in (DriverStatus.FAULT_TARGETS_STALE, DriverStatus.FAULT_INTERNAL):
            stage.desk.until(lambda: '/humanx/stranger' in stage.desk.call('run').message)
            other.kill()
            stage.to_run()
            other = Peer(DOMAIN, 'fake_policy.py', 'stranger')
            stage.robot.tell(until='damping')
            stage.desk.until(lambda: stage.desk.status.state == Mode.DAMP)
        assert stage.desk.status.fault == DriverStatus.FAULT_SECOND_PUBLISHER, stage.desk.status.reason
        stage.desk.until(lambda: '/humanx/fake_policy and /humanx/stranger' in stage.desk.status.reason)
        stage.desk.until_accepted('stand')
        stage.desk.until(lambda: 'expected one publisher' in stage.desk.call('run').message)
    finally:
        other.kill()
    stage.to_run()  # with the stranger gone


# The robot.


@pytest.mark.parametrize(
    ('order', 'fault', 'text'),
    [
        ({'silent': True}, Fault.STATE_STALE, 'no robot state for'),
        ({'frozen': True}, Fault.STATE_STALE, 'no robot state for'),
        ({'damaged': True}, Fault.STATE_STALE, 'no robot state for'),
        ({'pause_states': 0.06}, Fault.STATE_STALE, 'no robot state for'),
        ({'tilt': 1.1}, Fault.TILT, 'tilted by 63 degrees'),
        ({'dq': [3, 31.0]}, Fault.JOINT_VELOCITY, 'left_knee_joint moves at 31.0 rad/s'),
        ({'q': [3, float('nan')]}, Fault.STATE_INVALID, 'not finite'),
        ({'quaternion': [0, 0, 0, 0]}, Fault.STATE_INVALID, 'norm 0.000'),
        ({'temperature': 140}, Fault.TEMPERATURE, '140 degrees'),
        ({'keys': KEYS['L2'] | KEYS['B']}, Fault.ESTOP, 'from the remote'),
    ],
)
@in_run
def test_robot_states_to_damp_in(stage, order, fault, text):
    stage.assert_damped(stage.robot.tell(**order)['now'], fault, text)


@in_run
def test_killed_robot(stage):
    stage.robot.kill()
    stage.desk.until(lambda: stage.desk.status.state == Mode.DAMP)
    assert stage.desk.status.fault == DriverStatus.FAULT_STATE_STALE
    assert not stage.desk.call('stand').success
    stage.robot = Peer(DOMAIN, 'fake_robot.py', str(DOMAIN))
    report = stage.robot.tell(until='damping')  # the first thing the new one hears
    assert report['kind'] == 'damping'
    stage.desk.until(lambda: stage.desk.status.state_age < 0.02)
    stage.assert_stays_damped()


@in_run
def test_paused_robot(stage):
    stage.robot.process.send_signal(signal.SIGSTOP)
    try:
        stage.desk.until(lambda: stage.desk.status.state == Mode.DAMP)
        assert stage.desk.status.fault == DriverStatus.FAULT_STATE_STALE
    finally:
        stage.robot.process.send_signal(signal.SIGCONT)
    stage.robot.tell(until='damping')
    stage.desk.until(lambda: stage.desk.status.state_age < 0.02)
    stage.assert_stays_damped()


# The operator.


@in_run
def test_estop_by_service_holds_until_damp_is_asked_for(stage):
    called = time.monotonic()
    assert stage.desk.call('estop').success
    stage.assert_damped(called, Fault.ESTOP, 'by service')
    assert stage.desk.status.estop
    refused = stage.desk.call('stand')
    assert not refused.success
    assert 'ask for damp first' in refused.message
    assert stage.desk.call('damp').success
    assert stage.desk.call('stand').success


@in_run
def test_a_fault_that_somebody_reports_is_the_reason(stage):
    stage.desk.until(lambda: stage.desk.fault.get_subscription_count() > 0)
    now = stage.robot.tell()['now']
    stage.desk.fault.publish(String(data='policy: the ball is on\nfire'))
    stage.assert_damped(now, Fault.REPORTED, 'policy: the ball is on fire')


@in_run
def test_going_back_to_stand_from_run(stage):
    assert stage.desk.call('stand').success
    stage.desk.until_state(Mode.STAND)
    stage.policy.kill()
    stage.desk.after_cycles(500)
    assert stage.desk.status.state == Mode.STAND, 'standing does not need a policy'
    assert not stage.desk.call('run').success or stage.desk.status.state != Mode.RUN


# The driver itself.


@in_run
def test_killed_ros_side_leaves_a_loop_that_damps(stage):
    loop = stage.driver.loop_pid
    cause = time.monotonic()
    stage.driver.process.kill()
    report = stage.assert_told_to_damp(cause)
    # It goes on for some seconds, then leaves by itself: nothing is left running.
    stage.desk.until(lambda: not Path(f'/proc/{loop}').exists())
    after = stage.robot.tell()
    assert after['kind'] == 'damping'
    assert 0.8 <= after['last'] - report['since'] <= 1.5
    stage.driver.wait()


@in_run
def test_paused_ros_side(stage):
    cause = time.monotonic()
    stage.driver.process.send_signal(signal.SIGSTOP)
    try:
        stage.assert_told_to_damp(cause)
    finally:
        stage.driver.process.send_signal(signal.SIGCONT)
    stage.desk.until(lambda: stage.desk.status.state == Mode.DAMP)
    assert stage.desk.status.fault != DriverStatus.FAULT_NONE
    stage.assert_stays_damped()


@in_run
def test_paused_ros_side_while_standing(stage):
    assert stage.desk.call('stand').success
    stage.desk.until_state(Mode.STAND)
    cause = time.monotonic()
    stage.driver.process.send_signal(signal.SIGSTOP)
    try:
        stage.assert_told_to_damp(cause)
    finally:
        stage.driver.process.send_signal(signal.SIGCONT)
    stage.desk.until(lambda: 'ROS side' in stage.desk.status.reason)


@in_run
def test_paused_loop_damps_when_it_comes_back(stage):
    loop = stage.driver.loop_pid
    os.kill(loop, signal.SIGSTOP)
    try:
        # The ROS side says that nobody commands the robot.
        stage.desk.until(lambda: 'has been silent' in stage.desk.status.reason)
        assert stage.desk.status.state == Mode.DAMP
        assert not stage.desk.call('stand').success
    finally:
        before = stage.robot.tell()
        os.kill(loop, signal.SIGCONT)
    report = stage.robot.tell(until='damping')
    assert report['commands'] > before['commands']
    stage.desk.until(lambda: stage.desk.status.fault == DriverStatus.FAULT_LOOP_OVERRUN)
    stage.assert_stays_damped()


@in_run
def test_killed_loop_ends_the_driver(stage):
    os.kill(stage.driver.loop_pid, signal.SIGKILL)
    stage.desk.until(lambda: 'control loop died' in stage.desk.status.reason)
    assert stage.driver.wait() == 1
    assert any('The control loop died' in line for line in stage.driver.lines)


@in_run
def test_stopped_driver_lets_the_robot_down(stage):
    stage.driver.process.terminate()
    report = stage.robot.tell(until='damping')
    assert stage.driver.wait() == 0
    after = stage.robot.tell()
    assert after['kind'] == 'damping'
    assert after['last'] - report['since'] > 0.2, 'damping is sent for a while, not once'
    assert not any('Traceback' in line for line in stage.driver.lines)


_CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

static volatile long *seconds;

__attribute__((constructor)) static void begin(void) {
    int file = open(getenv("CLOCK_FILE"), O_RDONLY);
    if (file >= 0) seconds = mmap(NULL, sizeof *seconds, PROT_READ, MAP_SHARED, file, 0);
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    static int (*system_gettime)(clockid_t, struct timespec *);
    if (!system_gettime) system_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    int status = system_gettime(clock, time);
    if (clock == CLOCK_REALTIME && seconds) time->tv_sec += *seconds;
    return status;
}
"""


@pytest.fixture
def clock(theatre, tmp_path):
    """Give the driver's processes a wall clock that can be set by seconds, without setting this machine's."""
    if shutil.which('gcc') is None:
        pytest.skip('no C compiler')
    (tmp_path / 'clock.c').write_text(_CLOCK)
    library, file = tmp_path / 'clock.so', tmp_path / 'seconds'
    subprocess.run(['gcc', '-shared', '-fPIC', '-o', library, tmp_path / 'clock.c', '-ldl'], check=True)
    file.write_bytes(bytes(8))
    theatre.driver.stop()
    theatre.driver = Driver(extra={'LD_PRELOAD': str(library), 'CLOCK_FILE': str(file)})
    theatre.desk.status = None

    def set_by(seconds: int) -> float:
        with file.open('r+b', buffering=0) as opened:
            now = time.monotonic()
            opened.write(struct.pack('<q', seconds))
        return now

    yield set_by
    theatre.driver.stop()


@in_run
def test_a_wall_clock_that_is_set_back(stage, clock):
    cause = clock(-3)
    try:
        stage.assert_told_to_damp(cause)
    finally:
        clock(0)  # forward again, which is no fault
    stage.assert_damped(cause, Fault.CLOCK, 'the wall clock was set back by 3.0')


@in_run
def test_second_driver_is_refused_and_the_first_goes_on(stage):
    second = Driver('discovery_s:=5.0')
    assert second.wait() == 2
    text = ''.join(second.lines)
    assert 'already has a writer' in text
    assert f'pid {stage.driver.loop_pid}' in text
    assert 'Traceback' not in text
    # The first has not been told to stop by anything the second did, and still commands the robot.
    disturbed = (DriverStatus.FAULT_SECOND_WRITER, DriverStatus.FAULT_SECOND_PUBLISHER, DriverStatus.FAULT_ESTOP)
    assert not [status.reason for status in stage.desk.history if status.fault in disturbed]
    before = stage.robot.tell()['commands']
    stage.desk.after_cycles(100)
    assert stage.robot.tell()['commands'] > before + 20


_FOREIGN = """
import sys, time
from humanx_g1_driver.transport import DdsCommandTransport
from humanx_g1_driver.wire import LowCmdBuffer
t = DdsCommandTransport(int(sys.argv[1]), 'lo')
t.open_writer()
print('ready', flush=True)
time.sleep(60)
"""


@in_run
def test_second_writer_of_commands_is_named_and_damped_for(stage):
    other = subprocess.Popen(
        [sys.executable, '-c', _FOREIGN, str(DOMAIN)], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    try:
        assert other.stdout.readline().strip() == 'ready'
        stage.desk.until(lambda: stage.desk.status.state == Mode.DAMP)
        assert stage.desk.status.fault == DriverStatus.FAULT_SECOND_WRITER, stage.desk.status.reason
        assert 'rt/lowcmd has a second writer' in stage.desk.status.reason
        stage.desk.until(lambda: f'pid {other.pid}' in stage.desk.status.reason)
        assert not stage.desk.call('stand').success
    finally:
        other.kill()
        other.wait()


@pytest.mark.parametrize(
    ('parameter', 'text'),
    [
        ('network_interface:=nope0', "network_interface 'nope0' does not exist"),
        ('safety.taregts_timeout:=0.05', "unknown parameter 'safety.taregts_timeout'"),
    ],
)
def test_bad_parameters_are_one_sentence_and_status_2(parameter, text):
    driver = Driver(parameter)
    assert driver.wait() == 2
    said = [line for line in driver.lines if line.strip() and 'not multicast-capable' not in line]
    assert len(said) == 1, said
    assert text in said[0]
