"""A robot for the driver's fault tests: a process on the real wire that does exactly what it is told.

It writes LowState every 2 ms and watches LowCmd. Lines of JSON on standard input change what it does; every line is
answered by one line of JSON with the time (s, monotonic: the same clock in all processes of a computer) at which it
took effect and with what has been seen of the commands. ``{"until": "damping"}`` answers when that is seen.
With ``watch`` as second argument it writes nothing and only watches what another robot is told.
"""

import json
import math
import select
import sys
import time

import numpy as np

from humanx_description import robot
from humanx_g1_driver.realtime import ask_for_realtime, sleep_until
from humanx_g1_driver.sdk import message_types
from humanx_g1_driver.transport import DdsRobotTransport
from humanx_g1_driver.wire import LowCmdBuffer, LowStateBuffer

PERIOD_NS = 2_000_000
N = robot.NUM_JOINTS


class FakeRobot:
    def __init__(self, domain: int, watch: bool) -> None:
        self.wire = DdsRobotTransport(domain, 'lo')
        self.state, self.command = LowStateBuffer(), LowCmdBuffer()
        self.state.mode_machine = 5
        self.state.q[:N] = robot.DEFAULT_JOINT_POS
        self.state.temperature[:N] = 40
        self.state.quaternion[0] = 1.0
        self.tick = 0
        self.options = {'silent': watch, 'frozen': False, 'damaged': False}
        self.tilt = 0.0
        self.kind = 'none'  # of the newest command: damping, stiff, limp
        self.since = 0.0  # when the newest run of commands of one kind began
        self.last = 0.0
        self.commands = 0
        self.wrong_mode_machine = 0
        self.not_finite = 0
        self.resume_at = 0.0

    def cycle(self, now: float) -> None:
        while self.wire.poll_command(self.command):
            self.commands += 1
            self.last = now
            self.not_finite += not np.isfinite(self.command.buffer[4:].view('<f4')[1:-5]).all()
            self.wrong_mode_machine += self.command.mode_machine != 5
            kp, kd = self.command.kp[:N], self.command.kd[:N]
            stiff, damped = bool((kp > 0).any()), bool((kd > 0).all())
            kind = 'stiff' if stiff else 'damping' if damped else 'limp'
            if kind != self.kind:
                self.kind, self.since = kind, now
        self.tick += 2
        if self.options['silent'] or now < self.resume_at:
            return
        state = self.state
        if not self.options['frozen']:
            state.tick = self.tick
        if self.options['damaged']:
            image = bytearray(state.seal())
            image[100] ^= 0x40
            self.wire._writer.write(bytes(image))
        else:
            self.wire.send_state(state)

    def obey(self, order: dict, now: float) -> None:
        state = self.state
        for name, value in order.items():
            if name in self.options:
                self.options[name] = value
            elif name == 'tilt':
                state.quaternion[:] = [math.cos(value / 2), 0.0, math.sin(value / 2), 0.0]
            elif name == 'dq':
                state.dq[value[0]] = value[1]
            elif name == 'q':
                state.q[value[0]] = value[1]
            elif name == 'quaternion':
                state.quaternion[:] = value
            elif name == 'temperature':
                state.temperature[3] = value
            elif name == 'keys':
                state.wireless_remote[2:4] = np.frombuffer(int(value).to_bytes(2, 'little'), dtype=np.uint8)
            elif name == 'pause_states':
                self.resume_at = now + value
        if order.get('calm'):
            self.options.update(silent=False, frozen=False, damaged=False)
            state.quaternion[:] = [1, 0, 0, 0]
            state.dq[:] = 0
            state.q[:N] = robot.DEFAULT_JOINT_POS
            state.temperature[:N] = 40
            state.wireless_remote[:] = 0

    def report(self, now: float) -> dict:
        return {
            'now': now, 'kind': self.kind, 'since': self.since, 'last': self.last, 'commands': self.commands,
            'wrong_mode_machine': self.wrong_mode_machine, 'not_finite': self.not_finite,
            'q': self.command.q[:N].tolist(),
            'kp': self.command.kp[:N].tolist(),
        }  # fmt: skip


def main() -> None:
    message_types()
    ask_for_realtime(40, lock_memory=False)
    fake = FakeRobot(int(sys.argv[1]), watch=sys.argv[2:] == ['watch'])
    poll = select.poll()
    poll.register(sys.stdin, select.POLLIN)
    deadline = time.monotonic_ns()
    waiting: tuple[str, float] | None = None
    print(json.dumps({'ready': True}), flush=True)
    while True:
        deadline = max(deadline + PERIOD_NS, time.monotonic_ns())
        sleep_until(deadline)
        now = time.monotonic()
        if poll.poll(0):
            line = sys.stdin.readline()
            if not line:
                return
            order = json.loads(line)
            fake.obey(order, now)
            if 'until' in order:
                waiting = (order['until'], now + order.get('within', 10.0))
            else:
                print(json.dumps(fake.report(now)), flush=True)
        fake.cycle(now)
        if waiting is not None and (fake.kind == waiting[0] or now > waiting[1]):
            print(json.dumps(fake.report(now)), flush=True)
            waiting = None


if __name__ == '__main__':
    main()
