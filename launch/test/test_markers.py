import math

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus
from visualization_msgs.msg import Marker

from humanx import diagnostics, markers
from humanx.frames import FramePublisher
from humanx_description import robot, urdf
from humanx_description.objects import ObjectSpec
from humanx_msgs.msg import DriverStatus, ObjectState, ObjectStates, PolicyStatus, RobotState

STAMP = Time(sec=5)


def ball(**fields) -> ObjectState:
    state = ObjectState(name='ball', tracked=True)
    state.pose.position.x, state.pose.position.z = 1.0, 0.11
    state.pose.orientation.w = 1.0
    for name, value in fields.items():
        setattr(state, name, value)
    return state


def test_a_tracked_object_has_its_own_colour_and_size():
    spec = ObjectSpec('ball', 'sphere', (0.11,), rgba=(0.1, 0.2, 0.3, 1.0))
    body, label = markers.object_markers(ball(), spec, 0, STAMP, 'world')
    assert body.type == Marker.SPHERE
    assert body.scale.x == pytest.approx(0.22)
    assert (body.color.r, body.color.a) == pytest.approx((0.1, 1.0))
    assert label.text == 'ball'


def test_a_lost_object_is_red_and_says_why():
    lost = ball(tracked=False, age=0.32, loss=ObjectState.LOSS_FROZEN)
    body, label = markers.object_markers(lost, None, 0, STAMP, 'world')
    assert (body.color.r, body.color.g) == pytest.approx((0.9, 0.1))
    assert body.color.a < 0.5
    assert label.text == 'ball: lost for 0.32 s (frozen)'
    never = ball(tracked=False, age=math.inf)
    assert markers.object_markers(never, None, 0, STAMP, 'world')[1].text == 'ball: never seen'


@pytest.mark.parametrize(
    ('shape', 'size', 'kind', 'scale'),
    [
        ('box', (0.1, 0.2, 0.3), Marker.CUBE, (0.1, 0.2, 0.3)),
        ('cylinder', (0.1, 0.5), Marker.CYLINDER, (0.2, 0.2, 0.5)),
        ('shuttlecock', (0.08, 0.03), Marker.SPHERE, (0.08, 0.06, 0.06)),
    ],
)
def test_shapes(shape, size, kind, scale):
    body = markers.object_markers(ball(), ObjectSpec('ball', shape, size), 0, STAMP, 'world')[0]
    assert body.type == kind
    assert (body.scale.x, body.scale.y, body.scale.z) == pytest.approx(scale)


def test_the_pelvis_is_where_mocap_has_it_and_upright_without():
    state = RobotState()
    state.imu.orientation.w, state.imu.orientation.z = 0.8, 0.6
    seen = ball(name='pelvis')
    frame = markers.pelvis_frame(state, ObjectStates(objects=[seen]), STAMP, 'world', 'pelvis', 0.76)
    assert (frame.transform.translation.x, frame.transform.rotation.w) == (1.0, 1.0)
    for objects in (None, ObjectStates(), ObjectStates(objects=[ball(name='pelvis', age=math.inf)])):
        frame = markers.pelvis_frame(state, objects, STAMP, 'world', 'pelvis', 0.76)
        assert (frame.transform.translation.z, frame.transform.rotation.z) == (0.76, 0.6)


def test_frames_hold_every_link_once_and_turn_with_the_joints():
    publisher = FramePublisher(urdf.frames(), prefix='target/')
    joint_pos = np.zeros(29)
    joint_pos[robot.JOINT_INDEX['left_knee_joint']] = 0.5
    moving = publisher.moving(joint_pos, STAMP)
    children = [t.child_frame_id for t in moving + publisher.fixed(STAMP)]
    assert len(set(children)) == len(children) >= 29
    assert all(child.startswith('target/') for child in children)
    knee = next(t for t in moving if t.child_frame_id == 'target/left_knee_link')
    rest = FramePublisher(urdf.frames()).moving(np.zeros(29), STAMP)
    still = next(t for t in rest if t.child_frame_id == 'left_knee_link')
    a, b = (np.array([q.w, q.x, q.y, q.z]) for q in (knee.transform.rotation, still.transform.rotation))
    assert 2 * math.acos(abs(a @ b)) == pytest.approx(0.5, abs=1e-6)


def test_driver_diagnosis():
    status = DriverStatus(state=DriverStatus.RUN, reason='as asked', cycles=10_000, misses=1)
    assert diagnostics.driver(status).level == DiagnosticStatus.OK
    status.misses = 100
    assert diagnostics.driver(status).level == DiagnosticStatus.WARN
    status.fault = DriverStatus.FAULT_TILT
    assert diagnostics.driver(status).level == DiagnosticStatus.ERROR
    assert diagnostics.driver(None).level == DiagnosticStatus.STALE


def test_policy_diagnosis():
    assert diagnostics.policy(PolicyStatus(state=PolicyStatus.RUNNING)).level == DiagnosticStatus.OK
    assert diagnostics.policy(PolicyStatus(state=PolicyStatus.WAITING)).level == DiagnosticStatus.WARN
    assert diagnostics.policy(PolicyStatus(state=PolicyStatus.FAILED)).level == DiagnosticStatus.ERROR
    assert diagnostics.policy(None).level == DiagnosticStatus.STALE


def test_status_text_shows_state_and_skill():
    driver = DriverStatus(state=DriverStatus.DAMP, reason='joint targets are 51 ms old')
    marker = markers.status_marker(driver, PolicyStatus(skill='football', mode='mocap'), STAMP, 'pelvis')
    assert marker.text == 'DAMP: joint targets are 51 ms old\nfootball (mocap)'
    assert markers.status_marker(None, None, STAMP, 'world').text == 'no status from the driver'
