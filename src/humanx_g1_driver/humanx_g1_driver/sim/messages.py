"""Snapshots and mocap frames as ROS messages."""

from array import array

import numpy as np
from builtin_interfaces.msg import Time
from mocap4r2_msgs.msg import RigidBodies, RigidBody

from humanx_g1_driver.sim.mocap import MocapFrame
from humanx_g1_driver.sim.protocol import Snapshot
from humanx_msgs.msg import SimTruth

WORLD_FRAME = 'world'


def ros_time(stamp_ns: int) -> Time:
    """Return nanoseconds since 1970 as a message."""
    return Time(sec=stamp_ns // 1_000_000_000, nanosec=stamp_ns % 1_000_000_000)


def rigid_bodies(frame: MocapFrame) -> RigidBodies:
    """Return a mocap frame as ``mocap4r2_msgs`` has it: poses of the bodies that are seen, no markers."""
    message = RigidBodies()
    message.header.stamp = ros_time(frame.capture_ns)
    message.header.frame_id = WORLD_FRAME
    message.frame_number = frame.number & 0xFFFFFFFF
    for name, pose in frame.bodies:
        x, y, z, qw, qx, qy, qz = pose.tolist()
        body = RigidBody()
        body.rigid_body_name = name
        position, orientation = body.pose.position, body.pose.orientation
        position.x, position.y, position.z = x, y, z
        orientation.w, orientation.x, orientation.y, orientation.z = qw, qx, qy, qz
        message.rigidbodies.append(body)
    return message


class TruthMessage:
    """One SimTruth that is filled again and again; contacts of snapshots that are not sent are kept for the next."""

    def __init__(self, skill: str, object_names: list[str]) -> None:
        self._message = SimTruth(skill=skill, object_names=object_names)
        self._message.header.frame_id = WORLD_FRAME
        self._contacts: set[tuple[str, str]] = set()

    def skip(self, snapshot: Snapshot) -> None:
        """Keep the contacts of a snapshot that is not sent."""
        self._contacts.update(snapshot.contacts)

    def fill(self, snapshot: Snapshot) -> SimTruth:
        """Return the message of a snapshot (valid until the next call)."""
        message = self._message
        self._contacts.update(snapshot.contacts)
        pairs = sorted(self._contacts)
        self._contacts.clear()
        message.header.stamp = ros_time(snapshot.stamp_ns)
        message.sim_time = snapshot.sim_time
        message.steps_dropped = snapshot.health.steps_dropped
        message.seed = snapshot.seed
        message.episode = snapshot.episode
        message.gantry = snapshot.gantry
        message.objects = SimTruth.OBJECTS_LIVE if snapshot.live else SimTruth.OBJECTS_WAITING
        message.launches = snapshot.launches
        message.since_run = snapshot.since_run
        message.since_launch = snapshot.since_launch
        message.scenario_origin = snapshot.origin
        message.scenario_yaw = snapshot.yaw
        message.partner = np.asarray(snapshot.partner, dtype=np.float64)
        message.qpos = array('d', snapshot.qpos.tobytes())
        message.qvel = array('d', snapshot.qvel.tobytes())
        message.torque = snapshot.torque
        message.contact_body1 = [a for a, _ in pairs]
        message.contact_body2 = [b for _, b in pairs]
        return message
