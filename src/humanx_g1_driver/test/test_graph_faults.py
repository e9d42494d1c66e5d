"""Faults in the whole graph: every node a process of its own, as ``humanx up mocap`` starts them, and the robot's wire.

The simulated robot hangs on its gantry and the policy, one that looks at a ball, asks for the default pose: so a test
may leave the robot in RUN for as long as it likes. A process that watches the wire says when it was told to damp.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('cyclonedds', reason='cyclonedds 0.10.2 is not built')
pytest.importorskip('humanx_msgs.msg', reason='the messages are not built')

sys.path.insert(0, str(Path(__file__).parent))

from diagnostic_msgs.msg import DiagnosticArray
from fault_parts import Desk, Peer, Play, environment, in_run
from rclpy.qos import qos_profile_sensor_data
from std_msgs.msg import String

from humanx import graph
from humanx.launcher import command
from humanx.parameters import override
from humanx_description import robot
from humanx_g1_driver.faults import Fault, Mode
from humanx_msgs.msg import ObjectStates, PolicyStatus
from humanx_policy import export, observation
from humanx_policy.metadata import PolicyMetadata

pytestmark = pytest.mark.ros
DOMAIN = 41
PAUSE_S = 10.0
# What may be noticed first where the ROS side of the driver stands still: targets pass through it.
SILENT_DRIVER = (Fault.TARGETS_STALE, Fault.INTERNAL)


def write_policy(path: Path) -> None:
    """Write a policy that needs to see the ball, whatever it makes of it: its targets are the default pose."""
    layout = observation.ObservationLayout(observation.mocap_terms())
    network = export.Mlp([(np.zeros((robot.NUM_JOINTS, layout.size)), np.zeros(robot.NUM_JOINTS))])
    about = PolicyMetadata(skill='football', mode='mocap', observation_terms=layout, object_roles=('ball',))
    export.write_policy(path, network, about)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f'/proc/{pid}/task/{pid}/children').read_text().split()]


class Graph(Play):
    """The nodes of the mocap graph; those that a test killed are started anew."""

    def __init__(self, folder: Path) -> None:
        write_policy(folder / 'hang.onnx')
        options = graph.Options('mocap', str(folder / 'hang.onnx'), dds_domain=DOMAIN, visualize=False)
        choices = ['sim_g1.auto_release=false', 'g1_driver.safety.stand_seconds=0.5', 'g1_driver.orphan_s=1.0']
        self._specs = override(graph.nodes(options), choices)
        self._folder = folder
        self._processes: dict[str, subprocess.Popen] = {}
        self.witness = Peer(DOMAIN, 'witness.py')
        self.robot = Peer(DOMAIN, 'fake_robot.py', str(DOMAIN), 'watch')
        self.desk = Desk(DOMAIN)
        self.objects = self.desk.listen(ObjectStates, 'objects', qos_profile_sensor_data)
        self.policy = self.desk.listen(PolicyStatus, 'policy_status')
        self.diagnostics = self.desk.listen(DiagnosticArray, '/diagnostics')
        self.remote = self.desk.speak(String, 'sim_g1/remote')

    def start_missing(self) -> None:
        missing = [spec for spec in self._specs if self._poll(spec.name) is not None]
        for spec in missing:
            with (self._folder / f'{spec.name}.log').open('a') as log:
                self._processes[spec.name] = subprocess.Popen(
                    command(spec), env=environment(DOMAIN), stdout=log, stderr=subprocess.STDOUT
                )
            if spec.name == 'g1_driver':
                self.desk.status = None

    def _poll(self, name: str) -> int | None:
        process = self._processes.get(name)
        return -1 if process is None else process.poll()

    def pid(self, part: str) -> int:
        """Return the process of a node, or of what a node started: ``g1_driver/loop``, ``sim_g1/mocap``."""
        node, _, child = part.partition('/')
        pid = self._processes[node].pid
        if not child:
            return pid
        (own,) = children(pid)
        return own

    def kill(self, name: str) -> float:
        """Kill with SIGKILL; return when."""
        now = time.monotonic()
        self._processes[name].kill()
        self._processes[name].wait()
        return now

    def wait(self, name: str) -> int:
        return self._processes[name].wait(20)

    def to_run(self) -> None:
        self.start_missing()
        self.desk.until(lambda: self.desk.status is not None, 60.0)
        self.desk.climb()
        self.desk.until(lambda: self.robot.tell()['kind'] == 'stiff')

    def until_all_speak(self) -> None:
        """Return once bridge, policy and driver have been heard from now on."""
        self.objects.clear()
        self.policy.clear()
        self.desk.status = None
        ready = lambda: self.policy and self.policy[-1].state == PolicyStatus.IDLE  # noqa: E731
        self.desk.until(lambda: self.objects and ready() and self.desk.status is not None, 60.0)

    def assert_recovers_only_when_asked(self) -> None:
        """With everything there again the robot stays damped, and runs when somebody has it stand and run."""
        self.start_missing()
        self.until_all_speak()
        self.assert_stays_damped()
        assert not self.desk.call('run').success
        self.to_run()

    def close(self) -> None:
        for spec in sorted(self._specs, key=lambda spec: spec.stop_order):
            process = self._processes.get(spec.name)
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
        self.robot.process.kill()
        self.witness.process.kill()
        self.desk.close()


@pytest.fixture(scope='module')
def theatre(tmp_path_factory):
    stage = Graph(tmp_path_factory.mktemp('graph'))
    yield stage
    stage.close()


@pytest.fixture
def stage(theatre):
    return theatre


@pytest.mark.parametrize(
    ('node', 'fault', 'text'),
    [
        ('policy', Fault.TARGETS_STALE, 'no joint targets for'),
        ('mocap_bridge', Fault.REPORTED, 'policy: The objects are'),
        ('sim_g1', Fault.STATE_STALE, 'no robot state for'),
    ],
)
@in_run
def test_a_killed_node(stage, node, fault, text):
    stage.assert_damped(stage.kill(node), fault, text)
    stage.assert_recovers_only_when_asked()


@in_run
def test_a_killed_driver(stage):
    loop = stage.pid('g1_driver/loop')
    cause = stage.kill('g1_driver')
    stage.assert_told_to_damp(cause)
    stage.desk.until(lambda: not Path(f'/proc/{loop}').exists())
    assert stage.robot.tell()['kind'] == 'damping'
    stage.assert_recovers_only_when_asked()


@in_run
def test_a_killed_control_loop(stage):
    """Nobody commands the robot then: its motors damp by themselves, and the driver says so and ends."""
    stage.diagnostics.clear()
    os.kill(stage.pid('g1_driver/loop'), signal.SIGKILL)
    stage.desk.until(lambda: 'control loop died' in stage.desk.status.reason)
    assert stage.wait('g1_driver') == 1
    said = lambda: [s.message for d in stage.diagnostics for s in d.status if s.name == 'sim_g1']  # noqa: E731
    stage.desk.until(lambda: any('motors damp by themselves' in message for message in said()))
    stage.assert_recovers_only_when_asked()


@pytest.mark.parametrize(
    ('part', 'faults'),
    [
        ('policy', (Fault.TARGETS_STALE,)),
        ('mocap_bridge', (Fault.REPORTED,)),
        ('sim_g1', (Fault.STATE_STALE,)),
        ('g1_driver', SILENT_DRIVER),
        ('g1_driver/loop', (Fault.LOOP_OVERRUN,)),
    ],
)
@in_run
def test_a_pause_of_ten_seconds(stage, part, faults):
    pid = stage.pid(part)
    cause = time.monotonic()
    os.kill(pid, signal.SIGSTOP)
    try:
        if part != 'g1_driver/loop':
            stage.assert_told_to_damp(cause)
        time.sleep(max(cause + PAUSE_S - time.monotonic(), 0.0))
    finally:
        os.kill(pid, signal.SIGCONT)
    report = stage.robot.tell(until='damping')
    assert report['kind'] == 'damping'
    stage.desk.until(lambda: stage.desk.status.state == Mode.DAMP and stage.desk.status.fault in faults)
    stage.assert_recovers_only_when_asked()


@in_run
def test_mocap_that_is_silent_is_no_reason_to_stop(stage):
    """A policy knows lost objects from its training: it goes on without seeing them, and sees them again later."""
    pid = stage.pid('sim_g1/mocap')
    os.kill(pid, signal.SIGSTOP)
    try:
        seen = lambda: [o.tracked for o in stage.objects[-1].objects]  # noqa: E731
        stage.desk.until(lambda: stage.objects and not any(seen()))
        stage.objects.clear()
        stage.desk.after_cycles(1000)
        assert stage.objects
        assert not any(o.tracked for message in stage.objects for o in message.objects)
    finally:
        os.kill(pid, signal.SIGCONT)
    stage.desk.until(lambda: all(seen()))
    assert stage.desk.status.state == Mode.RUN, stage.desk.status.reason


@in_run
def test_the_emergency_stop_of_the_remote(stage):
    stage.desk.until(lambda: stage.remote.get_subscription_count() > 0)
    cause = time.monotonic()
    stage.remote.publish(String(data='L2+B'))
    try:
        stage.assert_damped(cause, Fault.ESTOP, 'from the remote')
        assert not stage.desk.call('stand').success
    finally:
        stage.remote.publish(String(data=''))
    stage.desk.until_accepted('damp')
    stage.assert_recovers_only_when_asked()
