"""The visualizer as a process, between real topics."""

import subprocess
import time
import xml.etree.ElementTree as ElementTree

import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from tf2_msgs.msg import TFMessage
from visualization_msgs.msg import MarkerArray

from humanx.graph import NodeSpec
from humanx.launcher import command
from humanx_description import robot
from humanx_msgs.msg import DriverStatus, JointTargets, ObjectState, ObjectStates, PolicyStatus, RobotState

pytestmark = pytest.mark.ros
LATCHED = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
OUTPUTS = {
    '/joint_states': (JointState, 10),
    '/tf': (TFMessage, 100),
    '/tf_static': (TFMessage, LATCHED),
    '/robot_description': (String, LATCHED),
    '/humanx/markers': (MarkerArray, 10),
    '/diagnostics': (DiagnosticArray, 10),
}


@pytest.fixture
def ros(ros_env):
    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    node = rclpy.create_node('test', namespace='humanx', context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    yield node, executor, ros_env
    executor.shutdown()
    node.destroy_node()
    rclpy.shutdown(context=context)


def visualizer(env, **parameters) -> subprocess.Popen:
    spec = NodeSpec('visualizer', 'humanx', 'visualizer', 'humanx.visualizer', 'visualizer.yaml', parameters)
    return subprocess.Popen(command(spec), env=env, stderr=subprocess.PIPE, text=True)


def test_everything_rviz_expects_is_published(ros):
    node, executor, env = ros
    inputs = {
        'robot_state': RobotState(position=[0.1] * 29),
        'objects': ObjectStates(
            objects=[ObjectState(name='pelvis', tracked=True), ObjectState(name='ball', tracked=False, age=0.5)]
        ),
        'joint_targets': JointTargets(position=[0.2] * 29),
        'driver_status': DriverStatus(state=DriverStatus.RUN, reason='as asked'),
        'policy_status': PolicyStatus(skill='football', mode='mocap', state=PolicyStatus.RUNNING),
    }
    publishers = {
        topic: node.create_publisher(type(message), topic, qos_profile_sensor_data) for topic, message in inputs.items()
    }
    got: dict = {topic: [] for topic in OUTPUTS}
    for topic, (kind, qos) in OUTPUTS.items():
        node.create_subscription(kind, topic, got[topic].append, qos)
    process = visualizer(env)
    try:
        deadline = time.monotonic() + 90

        def complete() -> bool:
            frames = {t.child_frame_id for message in got['/tf'] for t in message.transforms}
            wanted = {'pelvis', 'object/ball', 'left_knee_link', 'target/pelvis', 'target/left_knee_link'}
            texts = {m.text for array in got['/humanx/markers'] for m in array.markers}
            said = {s.message for array in got['/diagnostics'] for s in array.status}
            return (
                wanted <= frames
                and 'RUN: as asked\nfootball (mocap)' in texts
                and any(text.startswith('ball: lost for 0.50 s') for text in texts)
                and 'RUN: as asked' in said
                and all(got.values())
            )

        while not complete():
            assert time.monotonic() < deadline, {topic: len(messages) for topic, messages in got.items()}
            assert process.poll() is None, process.stderr.read()
            for topic, publisher in publishers.items():
                publisher.publish(inputs[topic])
            executor.spin_once(timeout_sec=0.02)
        assert list(got['/joint_states'][-1].name) == list(robot.JOINT_NAMES)
        assert got['/joint_states'][-1].position[3] == pytest.approx(0.1)
        assert ElementTree.fromstring(got['/robot_description'][0].data).get('name', '').startswith('g1')
        assert any(t.child_frame_id == 'head_link' for t in got['/tf_static'][0].transforms)
        process.send_signal(2)
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()


@pytest.mark.parametrize(('name', 'value', 'word'), [('rate', 0.0, 'rate'), ('rat', 5.0, 'rat')])
def test_bad_parameters_are_refused_in_one_sentence(ros_env, name, value, word):
    process = visualizer(ros_env, **{name: value})
    _, error = process.communicate(timeout=120)
    assert process.returncode == 2
    assert len(error.strip().splitlines()) == 1, error
    assert repr(word) in error
    assert 'expected' in error


@pytest.mark.parametrize('text', ['rate: fast', 'rate: [1.0', 'rate: 20'])
def test_a_bad_parameter_file_is_refused_in_one_sentence(ros_env, tmp_path, text):
    path = tmp_path / 'bad.yaml'
    path.write_text(f'/**:\n  ros__parameters:\n    {text}\n')
    spec = NodeSpec('visualizer', 'humanx', 'visualizer', 'humanx.visualizer', str(path))
    process = subprocess.run(command(spec), env=ros_env, capture_output=True, text=True, timeout=120)
    assert process.returncode == 2
    assert 'Traceback' not in process.stderr
    assert 'rate' in process.stderr or str(path) in process.stderr
