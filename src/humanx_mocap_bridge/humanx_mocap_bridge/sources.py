"""Where frames come from: topics, or a bag. Each source is asked once per tick and never blocks."""

from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
from geometry_msgs.msg import PoseStamped
from mocap4r2_msgs.msg import RigidBodies
from rclpy.node import Node
from rclpy.qos import QoSProfile, QoSReliabilityPolicy

from humanx_description.cdr import CdrReader, read_stamp
from humanx_description.ros.polling import PolledSubscription
from humanx_mocap_bridge.estimator import SourceFrame

# Poses of one capture that come as one message per body carry nearly the same stamp.
SAME_CAPTURE = 0.002  # s
# A tick's worth of the fastest system, and what piles up when this process is held up for a moment.
# Best effort matches a reliable publisher too.
QOS = QoSProfile(depth=64, reliability=QoSReliabilityPolicy.BEST_EFFORT)


class Source(Protocol):
    """Delivers the frames that came since the last call, in order."""

    def poll(self, now: float) -> Iterable[SourceFrame]:
        """Return new frames; ``now`` (s, ROS time) stands in for stamps where arrival times are used."""

    def close(self) -> None:
        """Let go of whatever the source holds."""


def pose_array(pose: Any) -> np.ndarray:
    """Return a geometry_msgs/Pose as (7,): position, quaternion w first."""
    p, q = pose.position, pose.orientation
    return np.array([p.x, p.y, p.z, q.w, q.x, q.y, q.z])


def seconds(stamp: Any) -> float:
    """Return a builtin_interfaces/Time in s."""
    return stamp.sec + stamp.nanosec * 1e-9


def rigid_bodies_frame(message: Any, time: float) -> SourceFrame:
    """Return a mocap4r2_msgs/RigidBodies as a frame captured at ``time``."""
    poses = {body.rigid_body_name: pose_array(body.pose) for body in message.rigidbodies}
    return SourceFrame(time, poses, message.frame_number)


def group_poses(samples: Iterable[tuple[float, str, np.ndarray]]) -> list[SourceFrame]:
    """Return frames of single poses (time, name, pose): those of one capture together, oldest first."""
    frames: list[tuple[float, dict[str, np.ndarray]]] = []
    for time, name, pose in sorted(samples, key=lambda sample: sample[0]):
        if frames and time - frames[-1][0] < SAME_CAPTURE and name not in frames[-1][1]:
            frames[-1][1][name] = pose
        else:
            frames.append((time, {name: pose}))
    return [SourceFrame(time, poses, complete=False) for time, poses in frames]


def read_rigid_bodies(raw: bytes) -> tuple[float, int, dict[str, np.ndarray]]:
    """Return stamp (s), frame number and poses by name of a serialised mocap4r2_msgs/RigidBodies.

    Raises ``ValueError`` for a cut message. The markers are passed over.
    """
    reader = CdrReader(raw)
    stamp = read_stamp(reader)
    reader.string()
    number = reader.uint32()
    poses = {}
    for _ in range(reader.uint32()):
        name = reader.string()
        for _ in range(reader.uint32()):
            reader.uint8()  # kind, index, name, place of a marker
            reader.int32()
            reader.string()
            reader.skip(3, 8)
        poses[name] = reader.float64s(7)[[0, 1, 2, 6, 3, 4, 5]]
    return stamp.ns * 1e-9, number, poses


class RigidBodiesSource:
    """``mocap4r2_msgs/RigidBodies``: every frame names all bodies that were seen."""

    def __init__(self, node: Node, topic: str, *, by_arrival: bool) -> None:
        self._subscription = PolledSubscription(node, RigidBodies, topic, QOS, raw=True)
        self._by_arrival = by_arrival

    def poll(self, now: float) -> list[SourceFrame]:
        frames = []
        for raw in self._subscription.all():
            time, number, poses = read_rigid_bodies(raw)
            frames.append(SourceFrame(now if self._by_arrival else time, poses, number))
        return frames

    def close(self) -> None:
        pass


class PoseStampedSource:
    """``geometry_msgs/PoseStamped`` on one topic per body, as vrpn_mocap and others publish."""

    def __init__(self, node: Node, pattern: str, names: Iterable[str], *, by_arrival: bool) -> None:
        """``pattern``: the topic with ``{name}`` where the body's name stands."""
        self._subscriptions = {
            name: PolledSubscription(node, PoseStamped, pattern.replace('{name}', name), QOS) for name in names
        }
        self._by_arrival = by_arrival

    def poll(self, now: float) -> list[SourceFrame]:
        samples = []
        for name, subscription in self._subscriptions.items():
            for message in subscription.all():
                time = now if self._by_arrival else seconds(message.header.stamp)
                samples.append((time, name, pose_array(message.pose)))
        return group_poses(samples)

    def close(self) -> None:
        pass
