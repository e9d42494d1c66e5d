"""The real ``recorder`` process and ``humanx bag replay``: what is published is in the bag, and comes out again."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip('humanx_msgs', reason='the message packages are not built')
pytestmark = pytest.mark.ros

import rclpy  # noqa: E402
from rclpy.node import Node  # noqa: E402

from humanx_g1_driver.bag_judge import STATUS_TOPIC, TRUTH_TOPIC  # noqa: E402
from humanx_g1_driver.bag_read import messages, open_bag, prepare, read_session  # noqa: E402
from humanx_msgs.msg import JointTargets, SimTruth  # noqa: E402

sys.path.insert(0, str(Path(__file__).parent))

from bag_factory import write_trial  # noqa: E402

from humanx.cli import main  # noqa: E402

DOMAIN = 66
ENV = os.environ | {'ROS_DOMAIN_ID': str(DOMAIN), 'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST'}


def start(module: str, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, '-m', module, *arguments],
        env=ENV, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def start_recorder(bag: Path, *parameters: str) -> subprocess.Popen:
    arguments = ['--ros-args', '-r', '__ns:=/humanx', '-p', f'directory:={bag}']
    for parameter in parameters:
        arguments += ['-p', parameter]
    return start('humanx_g1_driver.recorder', *arguments)


@pytest.fixture
def node() -> Iterator[Node]:
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=DOMAIN)
    node = Node('talker', namespace='/humanx', context=context)
    node.declare_parameter('answer', 42)
    executor = rclpy.executors.SingleThreadedExecutor(context=context)
    executor.add_node(node)
    node.spin_once = lambda seconds: executor.spin_once(timeout_sec=seconds)  # type: ignore[attr-defined]
    yield node
    node.destroy_node()
    rclpy.shutdown(context=context)


def wait(node: Node, condition, seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, 'timed out'
        node.spin_once(0.01)  # type: ignore[attr-defined]


def wait_matched(node: Node, publisher, count: int = 1) -> None:
    """Wait until both sides know of each other: the publisher hears of the match first."""
    wait(node, lambda: publisher.get_subscription_count() >= count)
    time.sleep(0.5)


def test_a_killed_recorder_leaves_all_but_the_last_second(tmp_path: Path, node: Node) -> None:
    bag = tmp_path / 'bag'
    recorder = start_recorder(bag, 'skill:=stand', 'seed:=9')
    publisher = node.create_publisher(JointTargets, 'joint_targets', 10)
    try:
        wait_matched(node, publisher)
        began, sent = time.monotonic(), []
        while time.monotonic() - began < 4.0:
            sent.append(time.monotonic())
            publisher.publish(JointTargets(sequence=len(sent)))
            node.spin_once(0.01)  # type: ignore[attr-defined]
    finally:
        os.kill(recorder.pid, signal.SIGKILL)
        killed = time.monotonic()
        recorder.wait()
    folder, recovered = prepare(bag)
    assert recovered
    with open_bag(folder) as reader:
        sequences = [m.sequence for _, m in messages(reader, '/humanx/joint_targets')]
        session = read_session(reader)
    assert sequences == list(range(1, len(sequences) + 1))
    assert killed - sent[len(sequences) - 1] < 1.0
    assert (session.skill, session.seed) == ('stand', 9)
    assert session.parameters['/humanx/talker']['answer'] == 42


def test_a_stopped_recorder_leaves_every_message_with_its_time(tmp_path: Path, node: Node) -> None:
    bag = tmp_path / 'bag'
    recorder = start_recorder(bag)
    publisher = node.create_publisher(SimTruth, 'sim/truth', 100)
    wait_matched(node, publisher)
    for count in range(200):
        publisher.publish(SimTruth(seed=count))
        time.sleep(0.002)
    time.sleep(0.3)
    recorder.send_signal(signal.SIGINT)
    output, _ = recorder.communicate(timeout=90)
    assert recorder.returncode == 0, output
    with open_bag(bag) as reader:
        stamps, seeds = zip(*((stamp, m.seed) for stamp, m in messages(reader, TRUTH_TOPIC)))
    assert list(seeds) == list(range(200))
    assert list(stamps) == sorted(stamps)
    # The first ones may have waited for the two to find each other.
    assert 0.19 < (stamps[-1] - stamps[100]) * 1e-9 < 3.0


@pytest.mark.parametrize(
    ('parameter', 'said'),
    [
        ("directory:=''", 'directory'),
        ('directory:=', 'arguments are wrong'),
        ('skill:=juggle', "unknown skill 'juggle'"),
        ('policy_file:=/no/such', 'policy_file'),
    ],
)
def test_bad_parameters_leave_nothing_behind(tmp_path: Path, parameter: str, said: str) -> None:
    recorder = start_recorder(tmp_path / 'bag', parameter)
    output, _ = recorder.communicate(timeout=120)
    assert recorder.returncode == 2
    assert said in output
    assert 'Traceback' not in output
    assert list(tmp_path.iterdir()) == []


def test_replay_keeps_order_and_timing_at_the_asked_rate(tmp_path: Path, node: Node) -> None:
    bag = write_trial(tmp_path / 'bag', 'stand', seconds=4.0)
    got: list[tuple[float, float]] = []
    node.create_subscription(SimTruth, 'sim/truth', lambda m: got.append((time.monotonic(), m.sim_time)), 1000)
    player = start('humanx.cli', 'bag', 'replay', str(bag), '--rate', '2', '--wait', '4', '--topics', TRUTH_TOPIC)
    wait(node, lambda: player.poll() is not None)
    wait(node, lambda: len(got) == 450)
    assert player.returncode == 0, player.stdout.read()
    times = [recorded for _, recorded in got]
    assert times == sorted(times)
    # Recorded 4.5 s: 2.25 s at twice the speed, and a quarter of the messages takes a quarter of it.
    assert got[-1][0] - got[0][0] == pytest.approx(2.25, abs=0.3)
    assert got[112][0] - got[0][0] == pytest.approx(0.56, abs=0.3)


def test_replay_never_speaks_to_a_driver(tmp_path: Path, node: Node) -> None:
    listener = Node('g1_driver', namespace='/humanx', context=node.context)
    heard: list[JointTargets] = []
    listener.create_subscription(JointTargets, 'joint_targets', heard.append, 10)
    bag = tmp_path / 'bag'
    recorder = start_recorder(bag)
    publisher = node.create_publisher(JointTargets, 'joint_targets', 10)
    wait_matched(node, publisher, 2)
    publisher.publish(JointTargets(sequence=1))
    time.sleep(0.3)
    recorder.send_signal(signal.SIGINT)
    recorder.communicate(timeout=90)
    node.destroy_publisher(publisher)
    player = start('humanx.cli', 'bag', 'replay', str(bag), '--wait', '4')
    output, _ = player.communicate(timeout=120)
    assert player.returncode == 2
    assert 'a driver listens' in output
    listener.destroy_node()


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_replay_that_is_told_to_stop_stops(tmp_path: Path, node: Node, number: int) -> None:
    bag = write_trial(tmp_path / 'bag', 'stand', seconds=10.0)
    heard: list[SimTruth] = []
    node.create_subscription(SimTruth, 'sim/truth', heard.append, 1000)
    player = start('humanx.cli', 'bag', 'replay', str(bag), '--rate', '0.5', '--topics', TRUTH_TOPIC)
    wait(node, lambda: heard)
    player.send_signal(number)
    output, _ = player.communicate(timeout=20)
    assert player.returncode == 0, output
    assert 'messages published' in output
    assert 'Traceback' not in output


def test_judge_and_info_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    good = write_trial(tmp_path / 'good', 'stand')
    bad = write_trial(tmp_path / 'bad', 'stand', fall_at=2.0)
    for bag, status, said in ((good, 0, 'success: stood'), (bad, 1, 'failure: fell'), (tmp_path / 'no', 2, 'expected')):
        assert main(['bag', 'judge', str(bag)]) == status
        printed = capsys.readouterr()
        assert said in printed.out + printed.err
    assert main(['bag', 'info', str(good)]) == 0
    printed = capsys.readouterr()
    assert STATUS_TOPIC in printed.out
    assert 'skill stand' in printed.out
