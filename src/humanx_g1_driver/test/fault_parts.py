"""What the fault tests are made of: helper processes, the operator's desk, and a second chance on a busy machine.

Every test brings the driver to RUN, causes one fault and asks the wire when the robot was first told to damp. All
processes share the monotonic clock, so the 50 ms are measured between the cause and the effect and do not depend on how
busy the test itself is.
"""

import functools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from std_msgs.msg import String
from std_srvs.srv import Trigger

from humanx_g1_driver.faults import Fault, Mode
from humanx_msgs.msg import DriverStatus

HERE = Path(__file__).parent
REACTION_S = 0.050
# What the measurement itself adds: the fake robot looks at its commands every 2 ms, the loop runs every 1 ms, the wire
# takes some tenths of a millisecond.
RESOLUTION_S = 0.005
HELD_UP_S = 0.004
ATTEMPTS = 4


def environment(domain: int) -> dict[str, str]:
    """Return what keeps processes in a ROS domain of their own on this machine."""
    return {**os.environ, 'ROS_DOMAIN_ID': str(domain), 'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST'}


class Peer:
    """A helper process that is told what to do in lines of JSON."""

    def __init__(self, domain: int, script: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / script), *arguments],
            env=environment(domain), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert json.loads(self.process.stdout.readline())['ready']

    def tell(self, **order) -> dict:
        self.process.stdin.write(json.dumps(order) + '\n')
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def kill(self) -> float:
        """Kill with SIGKILL; return when."""
        now = time.monotonic()
        self.process.kill()
        self.process.wait()
        return now


class Desk:
    """The operator's desk: services and status, in a context of its own."""

    def __init__(self, domain: int) -> None:
        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=domain)
        self._node = Node('desk', namespace='humanx', context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self.status: DriverStatus | None = None
        self.history: list[DriverStatus] = []
        self._node.create_subscription(DriverStatus, 'driver_status', self._on_status, 50)
        self.fault = self._node.create_publisher(String, 'g1_driver/fault', 1)
        self._clients = {
            name: self._node.create_client(Trigger, f'g1_driver/{name}') for name in ('damp', 'stand', 'run', 'estop')
        }

    def listen(self, kind: type, topic: str, qos: int | QoSProfile = 10) -> list:
        """Return a list that what comes on a topic is appended to."""
        heard: list = []
        self._node.create_subscription(kind, topic, heard.append, qos)
        return heard

    def speak(self, kind: type, topic: str) -> Publisher:
        """Return a publisher; wait until it has been found before it is used."""
        return self._node.create_publisher(kind, topic, 1)

    def _on_status(self, message: DriverStatus) -> None:
        self.status = message
        self.history.append(message)

    def until(self, condition, timeout_s: float = 15.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f'the awaited event did not come; last status: {self.status}'
            self._executor.spin_once(timeout_sec=0.1)

    def call(self, name: str) -> Trigger.Response:
        client = self._clients[name]
        self.until(client.service_is_ready)
        future = client.call_async(Trigger.Request())
        self.until(future.done)
        return future.result()

    def call_slowly(self, name: str) -> Trigger.Response:
        """Call, and if refused wait for the next status: the earliest reason to ask again."""
        response = self.call(name)
        if not response.success:
            self._executor.spin_once(timeout_sec=0.1)
        return response

    def climb(self) -> None:
        """Ask for what leads to RUN with targets coming; again after a fault that a busy machine makes on the way."""
        for _ in range(5):
            self.until(lambda: self.status is not None and self.status.state_age < 0.02)
            self.until_accepted('damp')
            self.until_accepted('stand')
            self.until(lambda: self.call_slowly('run').success or self.status.state == Mode.DAMP, 40.0)
            self.until(lambda: self.status.state == Mode.DAMP or self.status.targets_age < 0.05)
            if self.status.state == Mode.RUN:
                break
        self.history.clear()

    def until_accepted(self, name: str) -> None:
        self.until(lambda: self.call_slowly(name).success)

    def after_cycles(self, count: int) -> None:
        """Return once the loop has done that many cycles from now on."""
        now = self._node.get_clock().now().nanoseconds
        self.until(lambda: self.status is not None and _nanoseconds(self.status) > now)
        cycles = self.status.cycles
        self.until(lambda: self.status.cycles > cycles + count)

    def until_state(self, mode: Mode) -> None:
        self.until(lambda: self.status is not None and self.status.state == mode)

    def close(self) -> None:
        self._executor.shutdown()
        self._node.destroy_node()
        self._context.try_shutdown()


def _nanoseconds(status: DriverStatus) -> int:
    return status.header.stamp.sec * 1_000_000_000 + status.header.stamp.nanosec


class Play:
    """Everything together. ``robot`` answers what came over the wire; ``to_run`` is for the heir to write."""

    witness: Peer
    robot: Peer
    desk: Desk

    def to_run(self) -> None:
        raise NotImplementedError

    def assert_damped(self, cause_at: float, fault: Fault, text: str, within: float = REACTION_S) -> None:
        """Within ``within`` seconds of ``cause_at`` the robot was damped, the reason is published, and it stays so."""
        self.assert_told_to_damp(cause_at, within)
        self.desk.until(lambda: self.desk.status.state == Mode.DAMP)
        assert Fault(self.desk.status.fault) is fault, self.desk.status.reason
        assert text in self.desk.status.reason
        self.assert_stays_damped()

    def assert_told_to_damp(self, cause_at: float, within: float = REACTION_S) -> dict:
        """Within ``within`` seconds of ``cause_at`` the robot was told to damp; return what came over the wire."""
        report = self.robot.tell(until='damping')
        assert report['kind'] == 'damping', f'{report}; last status: {self.desk.status}'
        assert report['not_finite'] == 0
        assert report['since'] - cause_at <= within + RESOLUTION_S
        return report

    def assert_stays_damped(self) -> None:
        """Damping is resent every cycle, and nothing but an operator's call ends it."""
        before = self.robot.tell()
        self.desk.after_cycles(200)
        after = self.robot.tell()
        assert after['kind'] == 'damping'
        assert after['since'] == before['since'], 'it was damped all the time'
        # The robot reads the newest command every 2 ms; 200 cycles of 1 ms are about 100 of those.
        assert after['commands'] - before['commands'] > 50
        assert self.desk.status.state == Mode.DAMP


def in_run(test):
    """Bring the driver to RUN, then test; again if the machine held up even the witness meanwhile."""

    @functools.wraps(test)
    def wrapped(stage, **arguments):
        for _ in range(ATTEMPTS):
            stage.witness.tell()
            try:
                stage.to_run()
                return test(stage, **arguments)
            except AssertionError:
                held_up = stage.witness.tell()['worst']
                if held_up < HELD_UP_S:
                    raise
        pytest.skip(f'this machine holds up even real-time threads for {1e3 * held_up:.0f} ms')

    return wrapped
