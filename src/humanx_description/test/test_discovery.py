"""What a process of ours tells ROS about whom to talk to."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from humanx_description import discovery

pytest.importorskip('rclpy', reason='ROS is not installed')

_NODE = """
import sys
from pathlib import Path
from rclpy.node import Node
from humanx_description.ros.main import run_node

class Teller(Node):
    def __init__(self):
        super().__init__('teller')
        maps = Path('/proc/self/maps').read_text()
        print('shared memory', 'fastrtps_port' in maps)
        links = [str(fd.readlink()) for fd in Path('/proc/self/fd').iterdir() if fd.is_symlink()]
        inodes = {link.strip('socket:[]') for link in links if link.startswith('socket:')}
        sockets = [line.split() for line in Path('/proc/net/udp').read_text().splitlines()[1:]]
        print('addresses', sorted({s[1].split(':')[0] for s in sockets if s[9] in inodes}))
        raise KeyboardInterrupt

sys.exit(run_node(Teller))
"""
_LOOPBACK_HEX = '0100007F'


def _environment(**given: str) -> dict[str, str]:
    ours = (discovery.RANGE, discovery.PROFILES, 'FASTDDS_BUILTIN_TRANSPORTS', 'RMW_IMPLEMENTATION')
    return {key: value for key, value in os.environ.items() if key not in ours} | given


def _tell(environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, '-c', _NODE], env=environment | {'ROS_DOMAIN_ID': '46'},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.ros
@pytest.mark.parametrize('given', [{}, {discovery.RANGE: 'LOCALHOST'}])
def test_a_node_stays_on_this_machine_and_out_of_shared_memory(given):
    told = _tell(_environment(**given))
    assert 'shared memory False' in told
    assert f"addresses ['{_LOOPBACK_HEX}']" in told


@pytest.mark.ros
def test_a_node_that_is_told_to_goes_beyond_this_machine(tmp_path):
    told = _tell(_environment(**{discovery.RANGE: 'SUBNET'}))
    assert 'shared memory False' in told
    assert "'00000000'" in told


def test_settings_are_inherited_and_another_range_undoes_them():
    environment = _environment()
    discovery.stay_on_this_machine(environment)
    assert Path(environment[discovery.PROFILES]).is_file()
    again = dict(environment)
    discovery.stay_on_this_machine(again)
    assert again == environment
    assert discovery.is_confined(again)
    again[discovery.RANGE] = 'SUBNET'
    discovery.stay_on_this_machine(again)
    assert again[discovery.RANGE] == 'SUBNET'
    assert discovery.PROFILES not in again
    assert not discovery.is_confined(again)


@pytest.mark.parametrize(
    'given',
    [
        {discovery.PROFILES: '/somewhere/mine.xml'},
        {'FASTDDS_DEFAULT_PROFILES_FILE': '/somewhere/mine.xml'},
        {'RMW_IMPLEMENTATION': 'rmw_cyclonedds_cpp'},
    ],
)
def test_what_the_user_chose_for_the_middleware_stays(given):
    environment = _environment(**given)
    discovery.stay_on_this_machine(environment)
    assert environment == _environment(**given) | {discovery.RANGE: 'LOCALHOST'}
