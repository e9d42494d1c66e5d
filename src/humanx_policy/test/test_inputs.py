"""Messages into samples: quaternion order, frames, what is not believed, and age."""

# ruff: noqa: E402 (what may be missing is skipped before it is imported)

import math
import time

import numpy as np
import pytest

msgs = pytest.importorskip('humanx_msgs.msg')

from rclpy.serialization import serialize_message

from humanx_policy import cdr, inputs
from humanx_policy.tick_stats import TickStats
from humanx_policy.watch import read_mark

pytestmark = pytest.mark.ros


def objects(**change) -> cdr.ObjectsReading:
    return cdr.read_objects(serialize_message(objects_message(**change)))


def objects_message(**change) -> object:
    message = msgs.ObjectStates()
    message.header.frame_id = 'world'
    message.source_frame = 77
    for name, place in (('hand', 9.0), ('pelvis', 1.0), ('ball', 3.0)):
        entry = msgs.ObjectState(name=name, tracked=True)
        p, q = entry.pose.position, entry.pose.orientation
        p.x, p.y, p.z = place, place + 0.1, place + 0.2
        q.x, q.y, q.z, q.w = 0.1, 0.2, 0.3, math.sqrt(1 - 0.14)
        for field, value in change.get(name, {}).items():
            if field == 'x':
                p.x = value
            elif field == 'w':
                q.w = value
            else:
                setattr(entry, field, value)
        message.objects.append(entry)
    return message


@pytest.mark.parametrize('frame_id', ['', 'imu_in_pelvis', 'abc'])
def test_robot_states_are_read_as_rclpy_reads_them(frame_id):
    message = msgs.RobotState(tick=2**31 + 5)
    message.header.stamp.sec, message.header.stamp.nanosec = 12, 345
    message.header.frame_id = frame_id
    message.imu.header.frame_id = frame_id[:4]
    q, w = message.imu.orientation, message.imu.angular_velocity
    q.x, q.y, q.z, q.w = 0.1, 0.2, 0.3, 0.9
    w.x, w.y, w.z = 1.0, 2.0, 3.0
    message.position[:] = np.arange(29)
    message.velocity[:] = -np.arange(29)
    message.torque[:] = 7
    raw = serialize_message(message)
    got = cdr.read_robot_state(raw)
    assert (got.stamp.sec, got.stamp.nanosec, got.tick) == (12, 345, 2**31 + 5)
    np.testing.assert_array_equal(got.sample.root_quat, [0.9, 0.1, 0.2, 0.3])
    np.testing.assert_array_equal(got.sample.base_ang_vel, [1, 2, 3])
    np.testing.assert_array_equal(got.sample.joint_pos, np.arange(29))
    np.testing.assert_array_equal(got.sample.joint_vel, -np.arange(29))
    for size in (4, 100, len(raw) // 2):
        with pytest.raises(ValueError, match='ends before'):
            cdr.read_robot_state(raw[:size])


def test_objects_come_in_the_order_of_the_roles():
    sample = inputs.objects_sample(objects(), ('ball', 'hand'))
    np.testing.assert_allclose(sample.object_pos, [[3, 3.1, 3.2], [9, 9.1, 9.2]])
    np.testing.assert_allclose(sample.pelvis_pos, [1, 1.1, 1.2])
    np.testing.assert_allclose(sample.pelvis_quat, [math.sqrt(0.86), 0.1, 0.2, 0.3])
    assert sample.pelvis_tracked
    assert sample.tracked.tolist() == [True, True]


@pytest.mark.parametrize(
    ('change', 'pelvis', 'ball'),
    [
        ({'ball': {'tracked': False}}, True, False),
        ({'ball': {'x': math.nan}}, True, False),
        ({'pelvis': {'tracked': False}}, False, True),
        ({'pelvis': {'x': math.inf}}, False, True),
        ({'pelvis': {'w': 0.0}}, False, True),
        ({'hand': {'x': math.nan}}, True, True),
    ],
)
def test_what_is_not_believed(change, pelvis, ball):
    sample = inputs.objects_sample(objects(**change), ('ball',))
    assert sample.pelvis_tracked == pelvis
    assert sample.tracked.tolist() == [ball]
    assert np.isfinite(sample.pelvis_pos).all()


def test_sentences_about_unusable_messages():
    assert "no 'box'" in inputs.objects_sample(objects(), ('box',))
    message = objects_message()
    message.header.frame_id = ''
    reading = cdr.read_objects(serialize_message(message))
    assert "expected 'world'" in inputs.objects_sample(reading, ('ball',))


def test_age_is_the_larger_of_stamp_and_arrival():
    freshness = inputs.Freshness()
    assert freshness.age(0) == math.inf
    second = 1_000_000_000
    freshness.seen(100 * second)
    assert freshness.age(100 * second + 30_000_000) == pytest.approx(0.03)
    assert freshness.age(90 * second) == math.inf  # the clock was set back
    time.sleep(0.02)
    assert freshness.age(100 * second) >= 0.02  # the clock stands still


@pytest.mark.parametrize('frame_id', ['', 'a', 'seven__', 'eight___'])
def test_marks_are_read_from_serialised_targets(frame_id):
    message = msgs.JointTargets(sequence=2**40 + 3)
    message.header.stamp.sec, message.header.stamp.nanosec = 17, 999
    message.header.frame_id = frame_id
    assert read_mark(serialize_message(message)) == (17, 999, 2**40 + 3)


def test_tick_stats_keep_a_window():
    stats = TickStats(10, late_after=0.005)
    assert stats.summary()['tick_max'] == 0
    for k in range(25):
        stats.waited(0.006 if k % 5 == 0 else 0.001)
        stats.ran(1e-3 * (1 if k < 20 else 2), 1e-4)
    summary = stats.summary()
    assert (stats.ticks, stats.late_ticks) == (25, 5)
    assert summary['tick_mean'] == pytest.approx(1.5e-3)
    assert summary['tick_max'] == pytest.approx(2e-3)
    assert summary['inference_mean'] == pytest.approx(1e-4)
