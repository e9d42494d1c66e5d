"""Bring up the graph with motion capture: ``ros2 launch humanx bringup_mocap.launch.py skill:=stand``."""

from launch import LaunchDescription

from humanx.bringup import bringup


def generate_launch_description() -> LaunchDescription:
    """Return the nodes of the mocap graph."""
    return bringup('mocap')
