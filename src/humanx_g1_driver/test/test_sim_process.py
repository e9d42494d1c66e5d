"""The real ``sim_g1`` process on the real wire: what it obeys, and what it publishes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import psutil
import pytest

from humanx_description import robot

pytest.importorskip('humanx_msgs', reason='the message packages are not built')
pytestmark = pytest.mark.ros

import rclpy  # noqa: E402
from mocap4r2_msgs.msg import RigidBodies  # noqa: E402
from rclpy.node import Node  # noqa: E402
from std_msgs.msg import String  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402

from humanx_g1_driver.transport import DdsCommandTransport  # noqa: E402
from humanx_g1_driver.wire import LowCmdBuffer, LowStateBuffer  # noqa: E402
from humanx_msgs.msg import DriverStatus, SimTruth  # noqa: E402
from humanx_msgs.srv import ResetSim  # noqa: E402

DOMAIN = 61
ENV = os.environ | {'ROS_DOMAIN_ID': str(DOMAIN), 'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST'}


def start_sim(*parameters: str) -> subprocess.Popen:
    command = [sys.executable, '-m', 'humanx_g1_driver.sim.node', '--ros-args', '-r', '__ns:=/humanx']
    for parameter in parameters:
        command += ['-p', parameter]
    return subprocess.Popen(command, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


class Operator:
    """A driver reduced to its wire, and a ROS node beside it."""

    def __init__(self) -> None:
        self.wire = DdsCommandTransport(DOMAIN, 'lo')
        self.wire.open_writer()
        self.command, self.state = LowCmdBuffer(), LowStateBuffer()
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=DOMAIN)
        self.node = Node('operator', context=self.context, namespace='/humanx')
        self.executor = rclpy.executors.SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.truth: list[SimTruth] = []
        self.mocap: list[RigidBodies] = []
        self.node.create_subscription(SimTruth, 'sim/truth', self.truth.append, 100)
        self.node.create_subscription(RigidBodies, '/mocap/rigid_bodies', self.mocap.append, 100)
        self.status = self.node.create_publisher(DriverStatus, 'driver_status', 10)
        self.remote = self.node.create_publisher(String, 'sim_g1/remote', 10)
        self.reset = self.node.create_client(ResetSim, 'sim_g1/reset')
        self.release = self.node.create_client(Trigger, 'sim_g1/release')

    def close(self) -> None:
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)
        self.wire.close()

    def stand_command(self, mode_machine: int = 5) -> None:
        c, n = self.command, robot.NUM_JOINTS
        c.mode_machine = mode_machine
        c.mode = (np.arange(len(c.q)) < n).astype(np.uint8)
        c.q[:n] = robot.DEFAULT_JOINT_POS
        c.kp[:n], c.kd[:n] = robot.KP * 3, robot.KD * 1.7
        c.kp[[4, 10]], c.kd[[4, 10]] = 300.0, 6.0

    def spin_until(self, condition, timeout_s: float = 60.0, send: bool = False) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, 'timed out'
            if send:
                self.wire.send_command(self.command)
            self.wire.poll_state(self.state)
            self.executor.spin_once(timeout_sec=0.002)

    def call(self, client, request):
        future = client.call_async(request)
        self.spin_until(future.done)
        return future.result()


@pytest.fixture(scope='module')
def sim() -> Iterator[subprocess.Popen]:
    process = start_sim(
        'skill:=football', f'dds_domain:={DOMAIN}', 'mocap.latency:=0.0', 'mocap.jitter:=0.0',
        # This test's own pauses on a busy machine must not count as the silence of a driver.
        'command_timeout_ms:=1500',
    )
    yield process
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0, process.stdout.read()


@pytest.fixture(scope='module')
def operator(sim: subprocess.Popen) -> Iterator[Operator]:
    operator = Operator()
    operator.spin_until(lambda: operator.state.tick > 0 and operator.truth and operator.mocap)
    operator.spin_until(lambda: operator.reset.service_is_ready() and operator.release.service_is_ready())
    yield operator
    operator.close()


@pytest.fixture(autouse=True)
def fresh_episode(operator: Operator) -> None:
    assert operator.call(operator.reset, ResetSim.Request(seed=1)).success
    # What was sent before the reset may still be in the queue.
    called = time.time()
    operator.spin_until(
        lambda: (
            operator.truth
            and operator.truth[-1].header.stamp.sec + operator.truth[-1].header.stamp.nanosec * 1e-9 > called
        )
    )
    operator.truth.clear()
    operator.mocap.clear()


def test_states_come_every_millisecond_with_mode_machine_and_crc(operator: Operator) -> None:
    first = operator.state.tick
    began = time.monotonic()
    operator.spin_until(lambda: operator.state.tick > first + 1000)
    # Simulated time runs at the wall clock's rate, whatever else this machine does meanwhile.
    assert (operator.state.tick - first) / (time.monotonic() - began) == pytest.approx(1000, rel=0.1)
    assert operator.state.mode_machine == 5
    assert operator.wire.damaged_states == 0
    assert abs(float(np.linalg.norm(operator.state.quaternion)) - 1) < 1e-3


def test_mocap_and_truth_agree_on_every_body(operator: Operator) -> None:
    operator.spin_until(lambda: len(operator.truth) > 20 and len(operator.mocap) > 20)
    frame = operator.mocap[-1]
    assert [b.rigid_body_name for b in frame.rigidbodies] == ['pelvis', 'ball']
    truth = {t.header.stamp.sec * 10**9 + t.header.stamp.nanosec: t for t in operator.truth}
    stamp = frame.header.stamp.sec * 10**9 + frame.header.stamp.nanosec
    operator.spin_until(
        lambda: (
            stamp in truth
            or truth.update({t.header.stamp.sec * 10**9 + t.header.stamp.nanosec: t for t in operator.truth})
            or stamp in truth
        )
    )
    ball = frame.rigidbodies[1].pose.position
    np.testing.assert_allclose([ball.x, ball.y, ball.z], truth[stamp].qpos[36:39], atol=0.005)
    # A busy machine may lose frames on the way to this test, never their order.
    numbers = [m.frame_number for m in operator.mocap]
    assert numbers == sorted(set(numbers))


def test_a_command_moves_the_robot_and_silence_damps_it(operator: Operator) -> None:
    operator.stand_command()
    operator.spin_until(lambda: abs(operator.state.q[3] - robot.DEFAULT_JOINT_POS[3]) < 0.05, send=True)
    operator.spin_until(lambda: np.abs(operator.state.tau_est[:29]).max() > 0.5, send=True)
    mean = lambda: float(np.abs(np.array(operator.truth[-1].torque)).max())  # noqa: E731
    operator.spin_until(lambda: operator.truth and mean() < 0.5)


@pytest.mark.parametrize('fault', ['mode_machine', 'crc', 'nan'])
def test_a_wrong_command_is_as_if_it_had_not_come(operator: Operator, fault: str) -> None:
    operator.stand_command(mode_machine=4 if fault == 'mode_machine' else 5)
    if fault == 'nan':
        operator.command.q[7] = np.nan
    count = len(operator.truth)

    def send() -> bool:
        image = bytearray(operator.command.seal())
        if fault == 'crc':
            image[-1] ^= 1
        operator.wire._writer.write(bytes(image))
        return len(operator.truth) > count + 50

    operator.spin_until(send)
    operator.command.q[7] = 0.0
    # Limp on the gantry: no motor ever gave torque.
    assert max(np.abs(np.array(t.torque)).max() for t in operator.truth[count:]) == 0.0


def test_start_procedure_releases_by_itself_and_run_sets_the_ball_going(operator: Operator) -> None:
    operator.stand_command()
    state = DriverStatus.STAND
    sent = 0.0

    def drive(condition) -> bool:
        nonlocal sent
        if time.monotonic() - sent > 0.1:
            sent = time.monotonic()
            operator.status.publish(DriverStatus(state=state))
        return condition()

    last = lambda: operator.truth[-1] if operator.truth else SimTruth()  # noqa: E731
    operator.spin_until(lambda: drive(lambda: last().gantry == SimTruth.FREE), send=True)
    assert last().qpos[2] > 0.7
    assert last().since_run == -1.0
    refused = operator.call(operator.reset, ResetSim.Request(seed=2))
    assert not refused.success
    assert 'STAND or RUN' in refused.message
    state = DriverStatus.RUN
    operator.spin_until(lambda: drive(lambda: last().objects == SimTruth.OBJECTS_LIVE), send=True)
    low, high = 1.0, 2.0
    assert low <= last().since_run - last().since_launch <= high + 0.02
    operator.spin_until(lambda: drive(lambda: last().since_launch > 0.3), send=True)
    assert last().qvel[35] < -0.5
    # Damp, or the following tests could not reset.
    state = DriverStatus.DAMP
    operator.spin_until(
        lambda: drive(lambda: False) or operator.call(operator.reset, ResetSim.Request(seed=2)).success, 10.0
    )


def test_buttons_of_the_remote_are_on_the_wire(operator: Operator) -> None:
    operator.remote.publish(String(data='L1+A'))
    keys = lambda: int(operator.state.wireless_remote[2]) | int(operator.state.wireless_remote[3]) << 8  # noqa: E731
    operator.spin_until(lambda: keys() == (1 << 1 | 1 << 8))
    operator.remote.publish(String(data='nonsense'))
    operator.remote.publish(String(data=''))
    operator.spin_until(lambda: keys() == 0)


def test_release_on_demand_works_once(operator: Operator) -> None:
    assert operator.call(operator.release, Trigger.Request()).success
    again = operator.call(operator.release, Trigger.Request())
    assert not again.success
    assert 'LOWERING' in again.message or 'FREE' in again.message


@pytest.mark.parametrize(
    ('parameter', 'said'),
    [
        ('skill:=juggle', "unknown skill 'juggle'"),
        ('mocap.dropout:=1.5', 'mocap.dropout'),
        ('seed:=first', 'seed'),
        ('network_interface:=eth77', "'eth77' does not exist"),
    ],
)
def test_bad_parameters_end_the_process_with_one_sentence(sim: subprocess.Popen, parameter: str, said: str) -> None:
    process = start_sim(parameter)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 2
    assert said in output
    assert 'Traceback' not in output


def children(process: subprocess.Popen) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_is_left_running_however_it_ends(number: int) -> None:
    process = start_sim('dds_domain:=62')
    assert process.stdout is not None
    assert any('simulating' in line for line in iter(process.stdout.readline, ''))
    (ros_side,) = children(process)
    process.send_signal(number)
    process.wait(60)
    _, alive = psutil.wait_procs([ros_side], timeout=30)
    assert not alive
    if number != signal.SIGKILL:
        assert process.returncode == 0


def test_the_robot_stops_when_its_ros_side_dies() -> None:
    process = start_sim('dds_domain:=62')
    assert process.stdout is not None
    assert any('simulating' in line for line in iter(process.stdout.readline, ''))
    children(process)[0].kill()
    assert process.wait(60) == 1


def test_a_suspended_robot_goes_on_where_it_was(sim: subprocess.Popen, operator: Operator) -> None:
    operator.spin_until(lambda: operator.truth)
    os.kill(sim.pid, signal.SIGSTOP)
    try:
        time.sleep(1.0)
        while operator.wire.poll_state(operator.state):
            pass
        tick = operator.state.tick
        time.sleep(0.2)
        assert not operator.wire.poll_state(operator.state)
        # Its services say so, and survive.
        refused = operator.call(operator.release, Trigger.Request())
        assert not refused.success
        assert 'does not answer' in refused.message
    finally:
        os.kill(sim.pid, signal.SIGCONT)
    operator.spin_until(lambda: operator.state.tick > tick)
    # It does not race through the second it slept.
    assert operator.state.tick < tick + 200
    operator.truth.clear()
    operator.spin_until(lambda: operator.truth and operator.truth[-1].steps_dropped > 500)
