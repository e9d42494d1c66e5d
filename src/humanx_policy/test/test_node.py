"""The policy node as a real process, on real topics, against a robot that this test plays.

Each test has a node process of its own in the ROS domain 90 of this machine only.
"""

# ruff: noqa: E402 (what may be missing is skipped before it is imported)

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

rclpy = pytest.importorskip('rclpy')
msgs = pytest.importorskip('humanx_msgs.msg')

from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from rclpy.serialization import serialize_message
from std_msgs.msg import String

from humanx_description import robot
from humanx_description.scheduling import raise_threads
from humanx_msgs.srv import SetSkill
from humanx_policy import export, library
from humanx_policy import observation as ob
from humanx_policy.cdr import read_robot_state
from humanx_policy.controller import PolicyController
from humanx_policy.metadata import PolicyMetadata
from humanx_policy.runtime import PolicyRuntime

pytestmark = pytest.mark.ros
DOMAIN = 90
SENSOR = QoSProfile(depth=5, reliability=QoSReliabilityPolicy.BEST_EFFORT)
RUN, STAND = msgs.DriverStatus.RUN, msgs.DriverStatus.STAND
IDLE, RUNNING, WAITING, FAILED = (getattr(msgs.PolicyStatus, name) for name in ('IDLE', 'RUNNING', 'WAITING', 'FAILED'))


class FakeRobot:
    """Publishes robot states (200 Hz), objects (100 Hz) and driver status; hears targets and status."""

    def __init__(self) -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=DOMAIN)
        self.node = rclpy.create_node('g1_driver', namespace='humanx', context=self.context)
        create = self.node.create_publisher
        self.states = create(msgs.RobotState, 'robot_state', SENSOR)
        self.objects = create(msgs.ObjectStates, 'objects', SENSOR)
        self.driver = create(msgs.DriverStatus, 'driver_status', 10)
        self.targets: list = []
        self.status: list = []
        self.damped: list[float] = []
        self.reasons: list[str] = []
        self.sent: dict[int, msgs.RobotState] = {}
        self.send_states, self.send_objects, self.send_status = True, False, True
        self.change_state: Callable = lambda message: None
        self.change_objects: Callable = lambda message: None
        self.mode = STAND
        self.last_objects = 0.0
        subscribe = self.node.create_subscription
        subscribe(msgs.JointTargets, 'joint_targets', self._on_targets, 100)
        subscribe(msgs.PolicyStatus, 'policy_status', self.status.append, 10)
        self.node.create_subscription(String, 'g1_driver/fault', self._on_fault, 10)
        self.skill = self.node.create_client(SetSkill, 'policy/set_skill')
        self._tick = 0
        self._rng = np.random.default_rng(0)
        self._stop = threading.Event()
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._threads = [
            threading.Thread(target=self._spin, daemon=True),
            threading.Thread(target=self._send, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _spin(self) -> None:
        while not self._stop.is_set():
            self._executor.spin_once(timeout_sec=0.05)

    def _on_targets(self, message) -> None:
        self.targets.append(message)

    def _on_fault(self, message: String) -> None:
        self.damped.append(time.monotonic())
        self.reasons.append(message.data)
        self.mode = msgs.DriverStatus.DAMP

    def _send(self) -> None:
        next_time = time.monotonic()
        while not self._stop.is_set():
            self._tick += 1
            stamp = self.node.get_clock().now().to_msg()
            if self.send_states:
                self.states.publish(self._state(stamp))
            if self.send_objects and self._tick % 2 == 0:
                self.objects.publish(self._objects(stamp))
                self.last_objects = time.monotonic()
            if self._tick % 4 == 0 and self.send_status:
                self.driver.publish(msgs.DriverStatus(state=self.mode))
            next_time = max(next_time + 0.005, time.monotonic() - 0.005)
            time.sleep(max(0.0, next_time - time.monotonic()))

    def _state(self, stamp):
        message = msgs.RobotState(tick=self._tick)
        message.header.stamp = stamp
        message.imu.orientation.w = 1.0
        message.imu.angular_velocity.x = float(self._rng.normal() * 0.1)
        message.position[:] = robot.DEFAULT_JOINT_POS + 0.01 * self._rng.normal(size=29)
        message.velocity[:] = 0.1 * self._rng.normal(size=29)
        self.change_state(message)
        self.sent[message.tick] = message
        return message

    def _objects(self, stamp):
        message = msgs.ObjectStates()
        message.header.stamp = stamp
        message.header.frame_id = 'world'
        for name, x in (('pelvis', 1.0), ('ball', 3.0)):
            entry = msgs.ObjectState(name=name, tracked=True)
            entry.pose.position.x = x
            message.objects.append(entry)
        self.change_objects(message)
        return message

    def set_skill(self, skill: str, mode: str = ''):
        assert self.skill.wait_for_service(30)
        future = self.skill.call_async(SetSkill.Request(skill=skill, mode=mode))
        wait(future.done, 'an answer to set_skill')
        return future.result()

    def state(self) -> int:
        return self.status[-1].state if self.status else -1

    def close(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self.context)


def wait(condition: Callable[[], object], what: str, timeout: float = 40.0) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, f'no {what} within {timeout} s'
        time.sleep(0.005)


def start_node(*params: str) -> subprocess.Popen:
    command = [sys.executable, '-m', 'humanx_policy.node', '--ros-args']
    for param in params:
        command += ['-p', param]
    environment = os.environ | {
        'ROS_DOMAIN_ID': str(DOMAIN),
        'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
    }
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def fake() -> Iterator[FakeRobot]:
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    played = FakeRobot()
    # The robot that is played keeps its rates on a busy machine too, where that is permitted.
    raise_threads(25)
    yield played
    played.close()
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


@pytest.fixture
def node() -> Iterator[Callable[..., subprocess.Popen]]:
    processes: list[subprocess.Popen] = []

    def start(*params: str) -> subprocess.Popen:
        processes.append(start_node(*params))
        return processes[-1]

    yield start
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        process.communicate()


@pytest.fixture
def mocap_policy(tmp_path) -> Path:
    layout = ob.ObservationLayout(ob.mocap_terms())
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(robot.NUM_JOINTS, layout.size)) * 0.02
    path = tmp_path / 'catch.onnx'
    export.write_policy(
        path,
        export.Mlp([(weight, np.zeros(robot.NUM_JOINTS))]),
        PolicyMetadata(skill='catch', mode='mocap', observation_terms=layout, object_roles=('ball',)),
    )
    return path


def test_targets_answer_states_and_equal_the_controller(fake, node):
    process = node('skill:=stand')
    wait(lambda: len(fake.targets) > 30, 'targets')
    wait(lambda: fake.state() == IDLE and fake.targets, 'status IDLE')
    fake.mode = RUN
    wait(lambda: fake.state() == RUNNING, 'status RUNNING')
    begun = len(fake.targets)
    wait(lambda: len(fake.targets) > begun + 50, 'targets in RUN')
    # A driver whose reports get lost is in RUN still.
    fake.send_status = False
    wait(lambda: fake.state() == IDLE, 'status IDLE')
    wait(lambda: len(fake.targets) > begun + 250, 'targets without status')
    targets = list(fake.targets)
    metadata = PolicyRuntime(library.find_policy('stand')).metadata
    np.testing.assert_array_equal(targets[0].kp, metadata.kp)
    np.testing.assert_array_equal(targets[0].kd, metadata.kd)
    for message in targets:
        assert message.header.stamp == fake.sent[message.state_tick].header.stamp
    assert [m.sequence for m in targets] == list(range(targets[0].sequence, targets[0].sequence + len(targets)))

    # Until RUN each answer is an episode's first; from then on the history runs.
    controller = PolicyController(PolicyRuntime(library.find_policy('stand')))

    def answer(message) -> np.ndarray:
        return controller.step(read_robot_state(serialize_message(fake.sent[message.state_tick])).sample)

    first = []
    for message in targets:
        controller.reset()
        first.append(np.allclose(answer(message), message.position, atol=1e-5))
    assert all(first[:30])
    last_before_run = int(np.flatnonzero(first)[-1])
    assert last_before_run < len(targets) - 40
    controller.reset()
    for message in targets[last_before_run:]:
        np.testing.assert_allclose(answer(message), message.position, atol=1e-5)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0


def broken_state(message) -> None:
    message.velocity[3] = math.nan


def no_orientation(message) -> None:
    message.imu.orientation.w = 0.0


def stopped_robot(message) -> None:
    message.tick = 7


def stamped_in_the_past(message) -> None:
    message.header.stamp.sec -= 10


def stamped_in_the_future(message) -> None:
    message.header.stamp.sec += 10


@pytest.mark.parametrize(
    ('fault', 'said'),
    [
        (None, 'old'),
        (broken_state, 'non-finite'),
        (no_orientation, 'unit quaternion'),
        (stopped_robot, 'old'),
        (stamped_in_the_past, 'old'),
        (stamped_in_the_future, 'future'),
    ],
)
def test_bad_states_silence_the_policy_and_damp_the_robot(fake, node, fault, said):
    node('skill:=stand')
    wait(lambda: fake.state() == IDLE and fake.targets, 'targets')
    fake.mode = RUN
    wait(lambda: fake.state() == RUNNING, 'status RUNNING')
    if fault is None:
        fake.send_states = False
    else:
        fake.change_state = fault
    wait(lambda: fake.damped, 'the fault')
    wait(lambda: fake.state() == WAITING and said in fake.status[-1].reason, 'reason')
    count = len(fake.targets)
    time.sleep(0.1)
    assert len(fake.targets) == count
    assert len(fake.reasons) == 1
    assert fake.reasons[0].startswith('policy: ')
    assert said in fake.reasons[0]
    fake.send_states, fake.change_state = True, lambda message: None
    wait(lambda: fake.state() == IDLE and fake.targets, 'recovery outside RUN')


def test_after_a_pause_nothing_old_is_acted_on(fake, node):
    process = node('skill:=stand')
    wait(lambda: fake.state() == IDLE and fake.targets, 'targets')
    process.send_signal(signal.SIGSTOP)
    time.sleep(1.0)
    count = len(fake.targets)
    process.send_signal(signal.SIGCONT)
    wait(lambda: len(fake.targets) >= count + 20, 'targets again')
    stamps = [m.header.stamp.sec + m.header.stamp.nanosec * 1e-9 for m in fake.targets]
    # The second that was slept through is not answered afterwards, and there is no burst to catch up.
    gap = int(np.argmax(np.diff(stamps)))
    assert stamps[gap + 1] - stamps[gap] > 0.9
    after = np.diff(stamps[gap + 1 :])
    assert (after >= 0).all()  # a late state is answered twice, an older one never
    assert np.median(after) == pytest.approx(0.01, abs=0.003)


def test_objects(fake, node, mocap_policy):
    node(f'skill:={mocap_policy}')
    wait(lambda: fake.state() == WAITING and 'No objects' in fake.status[-1].reason, 'reason')
    assert not fake.targets
    fake.send_objects = True
    wait(lambda: fake.state() == IDLE and fake.targets, 'IDLE once objects come')
    seen = fake.targets[-1].position.copy()
    assert fake.status[-1].mode == 'mocap'

    def lose(name: str) -> Callable:
        def change(message) -> None:
            for entry in message.objects:
                entry.tracked = entry.tracked and entry.name != name

        return change

    # A lost ball and a lost pelvis both mask the ball; the policy goes on.
    for name in ('ball', 'pelvis'):
        fake.change_objects = lose(name)
        time.sleep(0.05)
        enough = len(fake.targets) + 5
        wait(lambda enough=enough: len(fake.targets) > enough, 'targets')
        assert not np.allclose(fake.targets[-1].position, seen, atol=0.02)
    fake.change_objects = lambda message: message.objects.pop()
    wait(lambda: "no 'ball'" in fake.status[-1].reason, 'reason')
    fake.change_objects = lambda message: setattr(message.header, 'frame_id', 'map')
    wait(lambda: "the frame 'map'" in fake.status[-1].reason, 'reason')
    fake.change_objects = lambda message: None
    wait(lambda: fake.state() == IDLE and fake.targets, 'IDLE')
    fake.mode = RUN
    wait(lambda: fake.state() == RUNNING, 'RUN')
    # The bridge dies: damping within 50 ms of the last message.
    fake.send_objects = False
    wait(lambda: fake.damped, 'the fault')
    assert fake.damped[0] - fake.last_objects < 0.05


def test_set_skill(fake, node, mocap_policy, tmp_path):
    node('skill:=stand')
    wait(lambda: fake.state() == IDLE and fake.targets, 'IDLE')
    before = fake.status[-1].model_sha256
    answer = fake.set_skill('chess')
    assert not answer.success
    assert 'stand' in answer.message
    assert answer.model_sha256 == before
    answer = fake.set_skill(str(mocap_policy), 'nep')
    assert not answer.success
    assert "'mocap'" in answer.message
    cut = tmp_path / 'cut.onnx'
    cut.write_bytes(mocap_policy.read_bytes()[:5000])
    answer = fake.set_skill(str(cut))
    assert not answer.success
    assert 'no ONNX model' in answer.message
    fake.mode = RUN
    wait(lambda: fake.state() == RUNNING, 'RUN')
    answer = fake.set_skill(str(mocap_policy))
    assert not answer.success
    assert 'RUN' in answer.message
    fake.mode = STAND
    wait(lambda: fake.state() == IDLE and fake.targets, 'IDLE')
    answer = fake.set_skill(str(mocap_policy), 'mocap')
    assert answer.success, answer.message
    wait(lambda: fake.status[-1].skill == 'catch', 'the new skill in the status')
    assert fake.status[-1].model_sha256 == answer.model_sha256 != before


def test_second_publisher_is_named_and_silences(fake, node):
    node('skill:=stand')
    wait(lambda: fake.state() == IDLE and fake.targets, 'targets')
    other = rclpy.create_node('rogue', namespace='humanx', context=fake.context)
    publisher = other.create_publisher(msgs.JointTargets, 'joint_targets', 1)
    wait(lambda: publisher.get_subscription_count() >= 2, 'discovery')
    fake.mode = RUN
    wait(lambda: fake.state() == RUNNING, 'RUN')
    publisher.publish(msgs.JointTargets(sequence=5))
    wait(lambda: fake.damped, 'the fault')
    wait(lambda: fake.state() == FAILED, 'FAILED')
    wait(lambda: '/humanx/rogue' in fake.status[-1].reason, 'name of the rogue')
    # A newcomer hears the rogue and does not start.
    stop = threading.Event()

    def speak() -> None:
        while not stop.wait(0.02):
            publisher.publish(msgs.JointTargets(sequence=6))

    speaker = threading.Thread(target=speak)
    speaker.start()
    newcomer = node('skill:=stand')
    try:
        _, stderr = newcomer.communicate(timeout=60)
    finally:
        stop.set()
        speaker.join()
    assert newcomer.returncode == 1
    assert 'publishes joint_targets already' in stderr
    wait(lambda: fake.state() == IDLE and fake.targets, 'recovery once the rogue is silent')
    other.destroy_node()


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def of_another_robot(content: bytes) -> bytes:
    return with_metadata(content, joint_names=json.dumps(robot.JOINT_NAMES[:23]))


def without_gains(content: bytes) -> bytes:
    return with_metadata(content, kp=None)


def with_metadata(content: bytes, **change: str | None) -> bytes:
    import onnx

    model = onnx.load_from_string(content)
    strings = {prop.key: prop.value for prop in model.metadata_props} | change
    onnx.helper.set_model_props(model, {key: value for key, value in strings.items() if value is not None})
    return model.SerializeToString()


@pytest.mark.parametrize(
    ('damage', 'said'),
    [(cut, 'is it cut?'), (of_another_robot, '23 names'), (without_gains, "Metadata key 'kp' is missing")],
    ids=lambda value: getattr(value, '__name__', ''),
)
def test_bad_policy_files_are_refused_at_the_start_and_later(fake, node, tmp_path, damage, said):
    path = tmp_path / 'bad.onnx'
    path.write_bytes(damage(library.find_policy('stand').read_bytes()))
    process = node(f'skill:={path}')
    _, stderr = process.communicate(timeout=90)
    assert process.returncode == 2
    assert f'{path}: ' in stderr
    assert said in stderr
    assert 'Traceback' not in stderr
    # A running node keeps the policy that it has.
    node('skill:=stand')
    wait(lambda: fake.state() == IDLE and fake.targets, 'targets')
    answer = fake.set_skill(str(path))
    assert not answer.success
    assert said in answer.message
    assert answer.model_sha256 == fake.status[-1].model_sha256
    count = len(fake.targets)
    wait(lambda: len(fake.targets) > count + 20, 'targets of the policy that stayed')


@pytest.mark.parametrize(
    ('param', 'said'),
    [
        ('skill:=chess', 'expected one of'),
        ('skill:=/nowhere/x.onnx', 'is not a file'),
        ('mode:=mocap', "trained in mode 'nep'"),
        ('mode:=both', "expected one of '', 'nep', 'mocap'"),
        ('state_timeout:=3.0', "'state_timeout' is 3.0; expected a floating-point number from"),
        ('state_timeout:=soon', 'expected a floating-point number'),
        ('skil:=stand', "unknown parameter 'skil'"),
    ],
)
def test_bad_parameters_are_refused_with_one_sentence(node, param, said):
    process = node(param)
    _, stderr = process.communicate(timeout=90)
    assert process.returncode == 2
    assert said in stderr
    assert 'Traceback' not in stderr
