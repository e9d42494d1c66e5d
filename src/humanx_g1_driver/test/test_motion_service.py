"""Releasing the robot's own motion service: odd answers, and a server that speaks the SDK's remote calls."""

import subprocess
import sys

import pytest

pytest.importorskip('cyclonedds', reason='cyclonedds 0.10.2 is not built')

from humanx_description.errors import UserError
from humanx_g1_driver.motion_service import release_motion_service

DOMAIN = 45


class Answers:
    """Answers of the service, one after the other; the last one for ever."""

    def __init__(self, *answers) -> None:
        self._answers = list(answers)
        self.released = 0

    def check_mode(self):
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]

    def release_mode(self) -> int:
        self.released += 1
        return 0


def _release(answers: Answers, attempts: int = 3) -> None:
    release_motion_service(DOMAIN, 'eth0', client=answers, attempts=attempts, pause_s=0.0)


def test_nothing_active_is_left_alone():
    answers = Answers((0, {'form': '0', 'name': ''}))
    _release(answers)
    assert answers.released == 0


def test_an_active_service_is_asked_until_it_lets_go():
    answers = Answers((0, {'name': 'ai'}), (0, {'name': 'ai'}), (0, {'name': ''}))
    _release(answers)
    assert answers.released == 2


def test_an_empty_answer_says_nothing():
    answers = Answers((0, None), (3104, None), (0, {'name': None}))
    _release(answers)
    assert answers.released == 0


def test_one_that_does_not_let_go_is_named():
    with pytest.raises(UserError, match=r"motion service 'ai' does not let go.*3 requests.*debug mode"):
        _release(Answers((0, {'name': 'ai'})))


def test_silence_is_no_permission():
    with pytest.raises(UserError, match=r"did not answer on 'eth0'"):
        _release(Answers((3104, None)))


# The SDK's own remote-call server in a process of its own, on the wire.
_SERVER = """
import json, sys, time, types
sys.modules['unitree_sdk2py.b2'] = types.ModuleType('unitree_sdk2py.b2')
from unitree_sdk2py.core.channel import ChannelFactoryInitialize
from unitree_sdk2py.rpc.server import Server
ChannelFactoryInitialize(int(sys.argv[1]), 'lo')
mode = ['ai']
class Motion(Server):
    def __init__(self):
        super().__init__('motion_switcher')
    def Init(self):
        self._SetApiVersion('1.0.0.1')
        self._RegistHandler(1001, lambda p: (0, json.dumps({'form': '0', 'name': mode[0]})), False)
        self._RegistHandler(1003, self.release, False)
    def release(self, parameter):
        mode[0] = ''
        print('released', flush=True)
        return 0, ''
server = Motion()
server.Init()
server.Start(False)
print('ready', flush=True)
time.sleep(60)
"""

_CLIENT = """
import sys
from humanx_g1_driver.motion_service import release_motion_service
from humanx_g1_driver.transport import DdsCommandTransport
transport = DdsCommandTransport(int(sys.argv[1]), 'lo')
release_motion_service(int(sys.argv[1]), 'lo', attempts=10, pause_s=0.2)
print('done', flush=True)
"""


def test_against_the_sdks_own_server():
    server = subprocess.Popen([sys.executable, '-c', _SERVER, str(DOMAIN)], stdout=subprocess.PIPE, text=True)
    try:
        assert any(line.strip() == 'ready' for line in server.stdout)
        client = subprocess.run(
            [sys.executable, '-c', _CLIENT, str(DOMAIN)], capture_output=True, text=True, timeout=60, check=False
        )
        assert client.stdout.strip().endswith('done'), client.stderr
        assert any(line.strip() == 'released' for line in server.stdout)
    finally:
        server.kill()
        server.wait()
