"""Bring up the graph without external perception: ``ros2 launch humanx bringup_nep.launch.py skill:=stand``."""

from launch import LaunchDescription

from humanx.bringup import bringup


def generate_launch_description() -> LaunchDescription:
    """Return the nodes of the nep graph."""
    return bringup('nep')
