"""Who may hear the graph: nobody beyond this machine, unless somebody asks for more."""

import os

RANGE = 'ROS_AUTOMATIC_DISCOVERY_RANGE'
THIS_MACHINE = 'LOCALHOST'


def stay_on_this_machine() -> None:
    """Keep the ROS discovery of this process, and of those it starts, on this machine; a range that is set counts.

    ROS itself would look around in the whole network. To be called before ``rclpy.init``.
    """
    os.environ.setdefault(RANGE, THIS_MACHINE)
