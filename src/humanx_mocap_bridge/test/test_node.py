"""The bridge as a real process: sources in, object states out. ROS domain 92 of this machine only."""

# ruff: noqa: E402 (what may be missing is skipped before it is imported)

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
mocap = pytest.importorskip('mocap4r2_msgs.msg')

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import qos_profile_sensor_data

from humanx_description.scheduling import raise_threads

pytestmark = pytest.mark.ros
DOMAIN = 92
STATE = msgs.ObjectState


class FakeMocap:
    """Publishes a standing pelvis and a rolling ball, and hears what the bridge says."""

    def __init__(self) -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=DOMAIN)
        self.node = rclpy.create_node('mocap_system', context=self.context)
        self.rigid = self.node.create_publisher(mocap.RigidBodies, '/mocap/rigid_bodies', 10)
        self.poses = {
            name: self.node.create_publisher(PoseStamped, f'/vrpn_mocap/{name}/pose', 10)
            for name in ('pelvis', 'Ball1')
        }
        self.kind = 'rigid'
        self.rate = 120.0
        self.change: Callable = lambda message: message
        self.sending = True
        self.heard: list = []
        self.diagnostics: list = []
        subscribe = self.node.create_subscription
        subscribe(msgs.ObjectStates, '/humanx/objects', self._hear, qos_profile_sensor_data)
        subscribe(DiagnosticArray, '/diagnostics', self.diagnostics.append, 10)
        self._rng = np.random.default_rng(0)
        self.number = 0
        self._stop = threading.Event()
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._threads = [
            threading.Thread(target=self._spin, daemon=True),
            threading.Thread(target=self._send, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _hear(self, message) -> None:
        self.heard.append((time.monotonic(), message))

    def _spin(self) -> None:
        while not self._stop.is_set():
            self._executor.spin_once(timeout_sec=0.05)

    def _send(self) -> None:
        next_time = time.monotonic()
        while not self._stop.is_set():
            self.number += 1
            if self.sending:
                (self._send_rigid if self.kind == 'rigid' else self._send_poses)()
            next_time = max(next_time + 1 / self.rate, time.monotonic() - 0.01)
            time.sleep(max(0.0, next_time - time.monotonic()))

    def _noisy(self, pose, position) -> None:
        p = np.array(position) + 5e-4 * self._rng.normal(size=3)
        pose.position.x, pose.position.y, pose.position.z = p.tolist()
        pose.orientation.w = 1.0

    def places(self) -> dict[str, list[float]]:
        return {'pelvis': [0.0, 0.0, 0.76], 'Ball1': [3.0 - 0.5 * self.number / self.rate, 0, 0.11]}

    def _send_rigid(self) -> None:
        message = mocap.RigidBodies(frame_number=self.number)
        message.header.stamp = self.node.get_clock().now().to_msg()
        for name, place in self.places().items():
            body = mocap.RigidBody(rigid_body_name=name)
            self._noisy(body.pose, place)
            message.rigidbodies.append(body)
        message = self.change(message)
        if message is not None:
            self.rigid.publish(message)

    def _send_poses(self) -> None:
        for name, place in self.places().items():
            message = PoseStamped()
            message.header.stamp = self.node.get_clock().now().to_msg()
            self._noisy(message.pose, place)
            self.poses[name].publish(message)

    def latest(self, role: str):
        return next(o for o in self.heard[-1][1].objects if o.name == role)

    def wait_for(self, role: str, tracked: bool, loss: int | None = None) -> None:
        def there() -> bool:
            if not self.heard:
                return False
            state = self.latest(role)
            return state.tracked == tracked and (loss is None or state.loss == loss)

        wait(there, f'{role} with tracked={tracked} and loss={loss}')

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


@pytest.fixture
def fake() -> Iterator[FakeMocap]:
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    played = FakeMocap()
    # The mocap system that is played here keeps its rates on a busy machine too, where that is permitted.
    raise_threads(25)
    yield played
    played.close()
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


@pytest.fixture
def bridge() -> Iterator[Callable[..., subprocess.Popen]]:
    processes: list[subprocess.Popen] = []

    def start(*params: str) -> subprocess.Popen:
        command = [sys.executable, '-m', 'humanx_mocap_bridge.node', '--ros-args']
        for param in params:
            command += ['-p', param]
        environment = os.environ | {
            'ROS_DOMAIN_ID': str(DOMAIN),
            'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
        }
        processes.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
        return processes[-1]

    yield start
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        process.communicate()


BODIES = 'bodies:=[pelvis, ball=Ball1]'


def test_states_come_at_100_hz_whatever_the_source_does(fake, bridge):
    process = bridge(BODIES)
    fake.wait_for('ball', True)
    ball = fake.latest('ball')
    message = fake.heard[-1][1]
    assert [o.name for o in message.objects] == ['pelvis', 'ball']
    assert message.header.frame_id == 'world'
    assert message.source_frame > 0
    assert ball.pose.position.z == pytest.approx(0.11, abs=5e-3)
    wait(lambda: abs(fake.latest('ball').twist.linear.x + 0.5) < 0.1, 'velocity')
    # The source falls silent, then floods: the output keeps its rate, and its stamps their
    # distance.
    count = len(fake.heard)
    fake.sending = False
    fake.wait_for('ball', False, STATE.LOSS_MISSING)
    fake.wait_for('pelvis', False, STATE.LOSS_MISSING)
    time.sleep(0.2)
    lost = fake.latest('ball')
    assert lost.age > 0.2
    assert lost.occlusion_frames > 15
    fake.rate, fake.sending = 360.0, True
    fake.wait_for('ball', True)
    time.sleep(0.3)
    stamps = [m.header.stamp.sec + m.header.stamp.nanosec * 1e-9 for _, m in fake.heard[count:]]
    periods = np.diff(stamps)
    assert np.median(periods) == pytest.approx(0.01, abs=5e-4)
    assert len(periods) >= 0.9 * (stamps[-1] - stamps[0]) / 0.01
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0


def without_ball(message):
    message.rigidbodies = [b for b in message.rigidbodies if b.rigid_body_name != 'Ball1']
    return message


def renamed(message):
    message.rigidbodies[1].rigid_body_name = 'Ball2'
    return message


def stamped_in_the_past(message):
    message.header.stamp.sec -= 5
    return message


def frozen(message):
    message.rigidbodies[1].pose.position.x = 2.5
    message.rigidbodies[1].pose.position.y = 0.25
    message.rigidbodies[1].pose.position.z = 0.11
    return message


def jumped(message):
    message.rigidbodies[1].pose.position.y += 30.0 * (message.frame_number % 2) + 10.0
    return message


def swapped(message):
    a, b = message.rigidbodies[:2]
    a.pose, b.pose = b.pose, a.pose
    return message


def not_a_number(message):
    message.rigidbodies[1].pose.position.x = float('nan')
    return message


def no_frame(_message):
    return None


@pytest.mark.parametrize(
    ('fault', 'loss'),
    [
        (without_ball, STATE.LOSS_MISSING),
        (renamed, STATE.LOSS_MISSING),
        (no_frame, STATE.LOSS_MISSING),
        (stamped_in_the_past, STATE.LOSS_STALE),
        (frozen, STATE.LOSS_FROZEN),
        (jumped, STATE.LOSS_JUMP),
        (swapped, STATE.LOSS_SWAP),
        (not_a_number, STATE.LOSS_INVALID),
    ],
    ids=lambda value: getattr(value, '__name__', ''),
)
def test_every_loss_is_flagged_with_its_reason_and_ends(fake, bridge, fault, loss):
    bridge(BODIES)
    fake.wait_for('ball', True)
    time.sleep(0.1)
    fake.change = fault
    begun = time.monotonic()
    fake.wait_for('ball', False, loss)
    assert time.monotonic() - begun < 0.5
    pose = fake.latest('ball').pose
    assert np.isfinite([pose.position.x, pose.position.y, pose.position.z]).all()
    fake.change = lambda message: message
    fake.wait_for('ball', True)
    fake.wait_for('pelvis', True)
    if fault is renamed:
        wait(
            lambda: any('Ball2' in v.value for d in fake.diagnostics for v in d.status[0].values),
            'the unknown name in the diagnostics',
        )


@pytest.mark.parametrize('frames', [1, 2, 10, 50])
def test_a_body_is_lost_for_as_long_as_frames_lack_it(fake, bridge, frames):
    bridge(BODIES)
    fake.wait_for('ball', True)
    wait(lambda: len(fake.heard) > 30, 'objects')
    lost = range(fake.number + 20, fake.number + 20 + frames)
    fake.change = lambda message: without_ball(message) if message.frame_number in lost else message
    wait(lambda: fake.heard[-1][1].source_frame >= lost.stop + 10, 'frames after the loss')
    fake.wait_for('ball', True)
    balls = [message.objects[1] for _, message in list(fake.heard) if message.source_frame in lost]
    assert len(balls) >= frames // 2  # of 120 frames a second 100 are seen
    assert {(ball.tracked, ball.loss) for ball in balls} <= {(False, STATE.LOSS_MISSING)}
    assert all(ball.pose == balls[0].pose for ball in balls)
    counts = [ball.occlusion_frames for ball in balls]
    assert counts == sorted(set(counts))
    assert all(count > 0 for count in counts)


def test_after_a_pause_old_frames_are_not_believed(fake, bridge):
    process = bridge(BODIES)
    fake.wait_for('ball', True)
    process.send_signal(signal.SIGSTOP)
    time.sleep(1.0)
    count = len(fake.heard)
    process.send_signal(signal.SIGCONT)
    wait(lambda: len(fake.heard) > count + 20, 'objects again')
    fake.wait_for('ball', True)
    for _, message in fake.heard[count:]:
        for entry in message.objects:
            assert not (entry.tracked and entry.age > 0.06)
    stamps = [m.header.stamp.sec + m.header.stamp.nanosec * 1e-9 for _, m in fake.heard]
    assert (np.diff(stamps) > 0.001).all()  # no burst


def test_pose_per_body_in_another_frame(fake, bridge):
    fake.kind = 'poses'
    # What is published in metres, z up, is read as y up: z becomes -y, y becomes z.
    bridge(BODIES, 'source:=pose_stamped', 'axes:=y_up', 'origin:=[1.0, 0.0, 0.5, 0.0]')
    fake.wait_for('pelvis', True)
    fake.wait_for('ball', True)
    p = fake.latest('pelvis').pose.position
    np.testing.assert_allclose([p.x, p.y, p.z], [1.0, -0.76, 0.5], atol=5e-3)
    fake.sending = False
    fake.wait_for('ball', False, STATE.LOSS_MISSING)


def write_bag(path: Path, frames: int) -> None:
    from rosbags.rosbag2 import Writer
    from rosbags.rosbag2.enums import StoragePlugin
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS2_JAZZY)
    definitions = {
        'Marker': 'int8 USE_NAME=0\nint8 USE_INDEX=1\nint8 USE_BOTH=2\nint8 id_type\n'
        'int32 marker_index\nstring marker_name\ngeometry_msgs/Point translation',
        'RigidBody': 'string rigid_body_name\nMarker[] markers\ngeometry_msgs/Pose pose',
        'RigidBodies': 'std_msgs/Header header\nuint32 frame_number\nRigidBody[] rigidbodies',
    }
    for name, text in definitions.items():
        store.register(get_types_from_msg(text, f'mocap4r2_msgs/msg/{name}'))
    types = store.types
    kind = 'mocap4r2_msgs/msg/RigidBodies'
    rng = np.random.default_rng(0)
    start = 1_600_000_000_000_000_000
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection('/mocap/rigid_bodies', kind, typestore=store)
        for k in range(frames):
            stamp = start + 10_000_000 * k
            bodies = []
            for name, place in (('pelvis', [0, 0, 0.76]), ('Ball1', [3 - 0.02 * k, 0, 0.11])):
                p = np.array(place) + 5e-4 * rng.normal(size=3)
                bodies.append(
                    types['mocap4r2_msgs/msg/RigidBody'](
                        rigid_body_name=name,
                        markers=[],
                        pose=types['geometry_msgs/msg/Pose'](
                            position=types['geometry_msgs/msg/Point'](*p.tolist()),
                            orientation=types['geometry_msgs/msg/Quaternion'](0, 0, 0, 1),
                        ),
                    )
                )
            message = types[kind](
                header=types['std_msgs/msg/Header'](
                    stamp=types['builtin_interfaces/msg/Time'](sec=stamp // 10**9, nanosec=stamp % 10**9),
                    frame_id='mocap',
                ),
                frame_number=k + 1,
                rigidbodies=bodies,
            )
            writer.write(connection, stamp + 4_000_000, store.serialize_cdr(message, kind))


def test_a_bag_is_replayed_in_its_own_time(fake, bridge, tmp_path):
    fake.sending = False
    write_bag(tmp_path / 'bag', 150)
    bridge(BODIES, 'source:=bag', f'bag:={tmp_path / "bag"}')
    fake.wait_for('ball', True)
    fake.wait_for('ball', False, STATE.LOSS_MISSING)  # the bag is over
    seen = [(m.source_frame, o) for _, m in fake.heard for o in m.objects[1:] if o.tracked]
    assert max(frame for frame, _ in seen) == 150
    assert len(seen) > 0.9 * 150 * (1 - min(frame for frame, _ in seen) / 150)
    moving = [o for frame, o in seen if frame > 20]
    # 2 cm per 10 ms: the speed is right only if the time between frames is.
    assert np.median([o.twist.linear.x for o in moving]) == pytest.approx(-2.0, abs=0.1)
    assert np.median([o.age for o in moving]) < 0.025


@pytest.mark.parametrize(
    ('params', 'said'),
    [
        (['bodies:=[ball]'], "lacks 'pelvis'"),
        (['bodies:=[pelvis, a=B, c=B]'], "holds 'c=B'"),
        (['offsets:=["hat=0,0,0"]'], "names 'hat'"),
        (['offsets:=["ball=1,2"]'], "holds 'ball=1,2'"),
        (['axes:=x_up'], "expected one of 'z_up', 'y_up'"),
        (['unit:=inch'], "expected one of 'm', 'mm', 'cm'"),
        (['hold:=-1.0'], 'from 0.005 to 0.2'),
        (['origin:=[1.0]'], 'expected 4 finite numbers'),
        (['source:=bag'], "parameter 'bag' is ''"),
        (['source:=bag', f'bag:={__file__}'], 'is no bag that can be read'),
        (['source:=pose_stamped', 'pose_topic:=/x'], 'with {name} in it'),
        (['speed:=3'], "unknown parameter 'speed'"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else '',
)
def test_bad_parameters_are_refused_with_one_sentence(bridge, params, said):
    process = bridge(*params)
    _, stderr = process.communicate(timeout=90)
    assert process.returncode == 2, stderr
    assert said in stderr
    assert 'Traceback' not in stderr
