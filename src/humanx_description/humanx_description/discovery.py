"""Who may hear the graph, and over what: nobody beyond this machine unless somebody asks for more, and over UDP.

Where discovery is limited to localhost, rmw_fastrtps always adds shared memory, and a process that stood still for more
than a second can be deaf there for ever: the others give its port up, and the new one that it opens when it goes on is
not always found (Fast DDS 2.14, seen in one of some hundred pauses). What killed processes leave in shared memory was
also seen to hold up every other process for a third of a second. A paused or killed node must cost its own work only,
so the graph does without: Fast DDS is told in a profile to stay on the loopback interface, which is the same range.
"""

import os
from collections.abc import Mapping, MutableMapping
from pathlib import Path

RANGE = 'ROS_AUTOMATIC_DISCOVERY_RANGE'
THIS_MACHINE = 'LOCALHOST'
PROFILES = 'FASTRTPS_DEFAULT_PROFILES_FILE'
_TRANSPORTS = 'FASTDDS_BUILTIN_TRANSPORTS'
_OTHER_PROFILES = 'FASTDDS_DEFAULT_PROFILES_FILE'
_LOOPBACK = str(Path(__file__).with_name('loopback.xml'))
_LEFT_TO_FAST_DDS = 'SYSTEM_DEFAULT'


def is_confined(environ: Mapping[str, str]) -> bool:
    """Tell whether these settings keep a process's discovery on this machine."""
    chosen = environ.get(RANGE)
    return chosen == THIS_MACHINE or (chosen == _LEFT_TO_FAST_DDS and environ.get(PROFILES) == _LOOPBACK)


def stay_on_this_machine(environ: MutableMapping[str, str] = os.environ) -> None:
    """Keep the ROS discovery of this process, and of those it starts, on this machine, and out of shared memory.

    A range that is set counts: ROS itself would look around in the whole network. So do Fast DDS profiles of the
    user's, and static peers, which only ROS's own ranges know. To be called before ``rclpy.init``.
    """
    chosen = environ.setdefault(RANGE, THIS_MACHINE)
    ours = environ.get(PROFILES) == _LOOPBACK
    if 'fastrtps' not in (environ.get('RMW_IMPLEMENTATION') or 'rmw_fastrtps_cpp'):
        return
    if _OTHER_PROFILES in environ or (PROFILES in environ and not ours):
        return
    environ.setdefault(_TRANSPORTS, 'UDPv4')
    if chosen == THIS_MACHINE and not environ.get('ROS_STATIC_PEERS'):
        environ[PROFILES] = _LOOPBACK
        environ[RANGE] = _LEFT_TO_FAST_DDS
    elif ours and chosen != _LEFT_TO_FAST_DDS:
        del environ[PROFILES]  # inherited, and then somebody asked for another range
