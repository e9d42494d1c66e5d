"""Messages into frames: the raw reader against rclpy, poses of one capture together."""

# ruff: noqa: E402 (what may be missing is skipped before it is imported)

import numpy as np
import pytest

mocap = pytest.importorskip('mocap4r2_msgs.msg')

from rclpy.serialization import serialize_message

from humanx_mocap_bridge import sources

pytestmark = pytest.mark.ros


def rigid_bodies(marker_names: list[str]) -> object:
    rng = np.random.default_rng(0)
    message = mocap.RigidBodies(frame_number=77)
    message.header.frame_id = 'mocap'
    message.header.stamp.sec, message.header.stamp.nanosec = 1_700_000_000, 250_000_000
    for name in ('pelvis', 'ball', 'Häkchen 3'):
        body = mocap.RigidBody(rigid_body_name=name)
        p, q = body.pose.position, body.pose.orientation
        p.x, p.y, p.z, q.x, q.y, q.z, q.w = rng.normal(size=7).tolist()
        for index, marker in enumerate(marker_names):
            body.markers.append(mocap.Marker(id_type=2, marker_index=-index, marker_name=marker))
        message.rigidbodies.append(body)
    return message


@pytest.mark.parametrize('marker_names', [[], ['a'], ['', 'ab', 'abc', 'abcdefg', 'abcdefgh']])
def test_rigid_bodies_are_read_as_rclpy_reads_them(marker_names):
    message = rigid_bodies(marker_names)
    raw = serialize_message(message)
    time, number, poses = sources.read_rigid_bodies(raw)
    want = sources.rigid_bodies_frame(message, sources.seconds(message.header.stamp))
    assert (time, number) == (want.time, want.number)
    assert list(poses) == list(want.poses)
    for name, pose in poses.items():
        np.testing.assert_array_equal(pose, want.poses[name])
    for size in (8, len(raw) // 2, len(raw) - 20):
        with pytest.raises(ValueError, match='ends before'):
            sources.read_rigid_bodies(raw[:size])


def test_poses_of_one_capture_make_one_frame():
    pose = np.zeros(7)
    samples = [(1.0003, 'b', pose), (1.0, 'a', pose), (1.01, 'a', pose), (1.0105, 'a', pose)]
    frames = sources.group_poses(samples)
    assert [(f.time, sorted(f.poses)) for f in frames] == [
        (1.0, ['a', 'b']),
        (1.01, ['a']),
        (1.0105, ['a']),
    ]
    assert not any(f.complete for f in frames)
