"""Bring up the graph with motion capture: ``ros2 launch humanx bringup_mocap.launch.py skill:=stand``."""

from humanx.bringup import bringup
from launch import LaunchDescription


def generate_launch_description() -> LaunchDescription:
    """Return the nodes of the mocap graph."""
    return bringup('mocap')
