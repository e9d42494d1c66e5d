"""What a killed process leaves behind is removed, what a running one uses is not."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from humanx import shared_memory

pytestmark = pytest.mark.ros
FOLDER = Path('/dev/shm')
NODE = """
import rclpy, sys
rclpy.init()
node = rclpy.create_node('leftover')
print('up', flush=True)
sys.stdin.read()
"""


def segments() -> set[str]:
    return {path.name for path in FOLDER.glob('fastrtps_*')}


@pytest.mark.skipif(shutil.which('fastdds') is None, reason='the fastdds tool is not installed')
def test_only_leftovers_are_removed(ros_env):
    before = segments()
    process = subprocess.Popen(
        [sys.executable, '-c', NODE], env=ros_env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == 'up\n'
        made = segments() - before
        assert made
        shared_memory.clean_up()
        assert made <= segments(), 'in use'
    finally:
        process.kill()
        process.wait()
    assert made & segments(), 'a killed process leaves something'
    shared_memory.clean_up()
    assert not made & segments()


def test_without_the_tool_nothing_happens(monkeypatch):
    monkeypatch.setenv('PATH', '/nowhere')
    shared_memory.clean_up()
