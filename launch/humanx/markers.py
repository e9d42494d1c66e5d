"""Objects and status as RViz markers and frames. Pure functions from messages to messages."""

from __future__ import annotations

import math

from builtin_interfaces.msg import Time
from geometry_msgs.msg import TransformStamped
from rclpy.duration import Duration
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker

from humanx.operator import describe
from humanx_description.objects import ObjectSpec
from humanx_msgs.msg import DriverStatus, ObjectState, ObjectStates, PolicyStatus, RobotState

LOST_COLOUR = (0.9, 0.1, 0.1, 0.35)
STATUS_COLOURS = {
    DriverStatus.ZERO_TORQUE: (0.7, 0.7, 0.7, 1.0),
    DriverStatus.DAMP: (1.0, 0.6, 0.1, 1.0),
    DriverStatus.STAND: (0.3, 0.7, 1.0, 1.0),
    DriverStatus.RUN: (0.2, 0.9, 0.3, 1.0),
}
LOSS_NAMES = {
    getattr(ObjectState, name): name.removeprefix('LOSS_').lower().replace('_', ' ')
    for name in dir(ObjectState)
    if name.startswith('LOSS_')
}
# A node that died must not leave its last picture standing.
_LIFETIME = Duration(seconds=1.0).to_msg()


def object_markers(
    item: ObjectState, spec: ObjectSpec | None, index: int, stamp: Time, frame: str
) -> list[Marker]:
    """Return the object's body and its label; red, see-through and with the reason while it is not tracked."""
    body = _marker('objects', index, stamp, frame)
    body.pose = item.pose
    _set_shape(body, spec)
    colour = tuple(spec.rgba) if spec is not None else (0.9, 0.5, 0.1, 1.0)
    body.color = _colour(colour if item.tracked else LOST_COLOUR)
    label = _marker('labels', index, stamp, frame)
    label.type = Marker.TEXT_VIEW_FACING
    label.pose.position.x, label.pose.position.y = item.pose.position.x, item.pose.position.y
    label.pose.position.z = item.pose.position.z + 0.1 + (spec.bounding_radius() if spec is not None else 0.1)
    label.scale.z = 0.08
    label.text = item.name if item.tracked else f'{item.name}: {_loss(item)}'
    label.color = _colour((1.0, 1.0, 1.0, 1.0) if item.tracked else (1.0, 0.3, 0.3, 1.0))
    return [body, label]


def _loss(item: ObjectState) -> str:
    if not math.isfinite(item.age):
        return 'never seen'
    return f'lost for {item.age:.2f} s ({LOSS_NAMES.get(item.loss, "?")})'


def _set_shape(marker: Marker, spec: ObjectSpec | None) -> None:
    kind: str = 'sphere' if spec is None else spec.shape
    size: tuple[float, ...] = (0.05,) if spec is None else spec.size
    scale: tuple[float, ...]
    if kind == 'box':
        marker.type, scale = Marker.CUBE, tuple(size)
    elif kind == 'cylinder':
        marker.type, scale = Marker.CYLINDER, (2 * size[0], 2 * size[0], size[1])
    elif kind == 'shuttlecock':
        # RViz has no cone: an ellipsoid along the flight axis shows where it points.
        marker.type, scale = Marker.SPHERE, (size[0], 2 * size[1], 2 * size[1])
    elif kind == 'mesh' and spec is not None and spec.mesh is not None:
        marker.type, scale = Marker.MESH_RESOURCE, (size[0],) * 3
        marker.mesh_resource = spec.mesh.resolve().as_uri()
    else:
        marker.type, scale = Marker.SPHERE, (2 * size[0],) * 3
    marker.scale.x, marker.scale.y, marker.scale.z = scale


def status_marker(driver: DriverStatus | None, policy: PolicyStatus | None, stamp: Time, frame: str) -> Marker:
    """Return the text over the robot: the safety machine's state and the skill."""
    marker = _marker('status', 0, stamp, frame)
    marker.type = Marker.TEXT_VIEW_FACING
    marker.pose.position.z = 0.85 if frame != 'world' else 1.6
    marker.scale.z = 0.1
    marker.text = describe(driver)
    if policy is not None:
        marker.text += f'\n{policy.skill} ({policy.mode})'
    marker.color = _colour(STATUS_COLOURS.get(driver.state, (1.0,) * 4) if driver is not None else (1.0, 0.2, 0.2, 1.0))
    return marker


def object_frame(item: ObjectState, stamp: Time, world: str) -> TransformStamped:
    """Return the object's frame in the world."""
    transform = TransformStamped()
    transform.header.stamp, transform.header.frame_id = stamp, world
    transform.child_frame_id = f'object/{item.name}'
    _set_pose(transform, item)
    return transform


def pelvis_frame(
    state: RobotState, objects: ObjectStates | None, stamp: Time, world: str, pelvis: str, height: float
) -> TransformStamped:
    """Return where the robot is: as motion capture has it, else upright over the origin, turned as the IMU says."""
    transform = TransformStamped()
    transform.header.stamp, transform.header.frame_id, transform.child_frame_id = stamp, world, pelvis
    for item in objects.objects if objects is not None else ():
        if item.name == pelvis and math.isfinite(item.age):
            _set_pose(transform, item)
            return transform
    transform.transform.translation.z = height
    transform.transform.rotation = state.imu.orientation
    return transform


def renamed(transform: TransformStamped, child: str) -> TransformStamped:
    """Return a copy of the transform with another child frame."""
    copy = TransformStamped()
    copy.header, copy.transform, copy.child_frame_id = transform.header, transform.transform, child
    return copy


def _set_pose(transform: TransformStamped, item: ObjectState) -> None:
    position, translation = item.pose.position, transform.transform.translation
    translation.x, translation.y, translation.z = position.x, position.y, position.z
    transform.transform.rotation = item.pose.orientation


def _marker(namespace: str, index: int, stamp: Time, frame: str) -> Marker:
    marker = Marker()
    marker.header.stamp, marker.header.frame_id = stamp, frame
    marker.ns, marker.id = namespace, index
    marker.action = Marker.ADD
    marker.pose.orientation.w = 1.0
    marker.lifetime = _LIFETIME
    return marker


def _colour(rgba: tuple) -> ColorRGBA:
    red, green, blue, alpha = map(float, rgba)
    return ColorRGBA(r=red, g=green, b=blue, a=alpha)
