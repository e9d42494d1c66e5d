"""What a process of ours tells ROS about whom to talk to."""

import os
import subprocess
import sys

import pytest

from humanx_description import discovery

pytest.importorskip('rclpy', reason='ROS is not installed')

_NODE = """
import os, sys
from rclpy.node import Node
from humanx_description.ros.main import run_node

class Teller(Node):
    def __init__(self):
        super().__init__('teller')
        print('range', os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'])
        raise KeyboardInterrupt

sys.exit(run_node(Teller))
"""


@pytest.mark.ros
@pytest.mark.parametrize(('given', 'used'), [(None, 'LOCALHOST'), ('SUBNET', 'SUBNET')])
def test_a_node_stays_on_this_machine_unless_told_otherwise(given, used):
    environment = {key: value for key, value in os.environ.items() if key != discovery.RANGE}
    environment |= {'ROS_DOMAIN_ID': '46'} | ({discovery.RANGE: given} if given else {})
    done = subprocess.run(
        [sys.executable, '-c', _NODE], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f'range {used}' in done.stdout
