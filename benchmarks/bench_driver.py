"""The driver's wire and loop against Unitree's own Python SDK, in one run.

    python benchmarks/bench_driver.py --seconds 20 --json out/bench/driver.json

Messages: fill, checksum and write of a LowCmd, and take, checksum and read of a LowState, both ways on the same DDS
topics on loopback, in alternating rounds. Loop: the driver's control loop in its process against the SDK's
``RecurrentThread`` doing the SDK's read, fill, checksum and write at 1 kHz, one after the other, on an otherwise idle
machine and beside one busy process per core (there also with the SDK's loop under SCHED_FIFO, which the driver asks
for by itself). Status 1 if a bound is not met.

The SDK's wheel lacks its checksum library (C). It is given ours for the checksum itself, so the comparison flatters it:
with its own pure-Python checksum a command takes milliseconds.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from humanx_description import robot
from humanx_g1_driver.control_process import ControlConfig
from humanx_g1_driver.crc import crc32_words
from humanx_g1_driver.faults import Action
from humanx_g1_driver.limits import SafetyLimits
from humanx_g1_driver.realtime import ask_for_realtime
from humanx_g1_driver.sdk import message_types, prepare_sdk_import
from humanx_g1_driver.state import RobotSnapshot
from humanx_g1_driver.transport import DdsCommandTransport, DdsRobotTransport
from humanx_g1_driver.wire import LowCmdBuffer, LowStateBuffer

ROOT = Path(__file__).resolve().parents[1]
DOMAIN = 55
BOUNDS = {
    'command_us': ('at most', 25.0),
    'command_ratio': ('at least', 8.0),
    'state_us': ('at most', 25.0),
    'state_ratio': ('at least', 8.0),
    'idle_miss_share': ('at most', 0.001),
    'idle_error_p99_us': ('at most', 300.0),
    'busy_miss_share': ('at most', 0.001),
    'busy_error_p99_us': ('at most', 300.0),
    'loop_cores': ('at most', 0.40),
}


def sdk_crc():
    """Return the SDK's checksum object with a fast core in place of the library that its wheel lacks."""
    prepare_sdk_import()
    from unitree_sdk2py.utils.crc import CRC

    crc = object.__new__(CRC)
    crc.platform = 'Linux'
    crc._CRC__packFmtHGLowCmd = '<2B2x' + 'B3x5fI' * 35 + '5I'
    crc._CRC__packFmtHGLowState = '<2I2B2xI' + '13fh2x' + 'B3x4f2hf7I' * 35 + '40B5I'
    crc.crc_lib = SimpleNamespace(crc32_core=lambda words, _: crc32_words(np.frombuffer(words, dtype='<u4')))
    return crc


def timed(function) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def message_times(rounds: int) -> dict[str, np.ndarray]:
    """Return seconds per operation, (rounds,) each: ours and the SDK's, for commands and states."""
    from cyclonedds.pub import DataWriter
    from cyclonedds.sub import DataReader
    from cyclonedds.topic import Topic

    from humanx_g1_driver import dds

    command_type, state_type = message_types()
    from unitree_sdk2py.idl.default import unitree_hg_msg_dds__LowCmd_

    robot_end, ours = DdsRobotTransport(DOMAIN, 'lo'), DdsCommandTransport(DOMAIN, 'lo')
    ours.open_writer()
    participant = dds.join(DOMAIN, 'lo')
    writer = DataWriter(participant, Topic(participant, 'rt/lowcmd', command_type))
    reader = DataReader(participant, Topic(participant, 'rt/lowstate', state_type))
    crc = sdk_crc()
    rng = np.random.default_rng(0)
    targets = rng.normal(size=(rounds, 29)).astype(np.float32)
    buffer, seen, snapshot = LowCmdBuffer(), LowCmdBuffer(), RobotSnapshot()
    state, received = LowStateBuffer(), LowStateBuffer()
    state.quaternion[0] = 1.0
    message = unitree_hg_msg_dds__LowCmd_()

    def our_command(q: np.ndarray) -> None:
        buffer.q[:29], buffer.kp[:29], buffer.kd[:29] = q, robot.KP, robot.KD
        ours.send_command(buffer)

    def sdk_command(q: np.ndarray) -> None:
        for i in range(29):
            motor = message.motor_cmd[i]
            motor.q, motor.kp, motor.kd = q[i], robot.KP[i], robot.KD[i]
        message.crc = crc.Crc(message)
        writer.write(message)

    def our_state() -> None:
        assert ours.poll_state(received)
        snapshot.read(received)

    def sdk_state() -> None:
        sample = reader.take(1)[0]
        assert sample.crc == crc.Crc(sample)
        np.array([m.q for m in sample.motor_state[:29]])
        np.array([m.dq for m in sample.motor_state[:29]])

    times: dict[str, list[float]] = {name: [] for name in ('our_command', 'sdk_command', 'our_state', 'sdk_state')}
    for k in range(rounds + 20):
        q = targets[k % rounds]
        first = timed(lambda: our_command(q))  # noqa: B023
        robot_end.wait_command(1.0)
        robot_end.poll_command(seen)
        image = seen.to_bytes()
        second = timed(lambda: sdk_command(q))  # noqa: B023
        robot_end.wait_command(1.0)
        robot_end.poll_command(seen)
        state.tick = k + 1
        robot_end.send_state(state)
        if not ours.wait_state(1.0):
            raise RuntimeError('no state arrived on loopback')
        while not reader.read(1):
            time.sleep(1e-4)
        third, fourth = timed(our_state), timed(sdk_state)
        if k >= 20:  # the first rounds pay for discovery and cold caches
            assert seen.to_bytes()[8:] != image[8:] or np.array_equal(seen.q[:29], q)
            for name, value in zip(times, (first, second, third, fourth)):
                times[name].append(value)
    ours.close()
    robot_end.close()
    return {name: np.array(values) for name, values in times.items()}


def our_loop(seconds: float) -> dict:
    """Run the control loop's process in STAND against the robot of the tests; return its own statistics."""
    from humanx_g1_driver.loop_handle import ControlLoopProcess

    fake = subprocess.Popen(
        [sys.executable, str(ROOT / 'src/humanx_g1_driver/test/fake_robot.py'), str(DOMAIN + 1)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert fake.stdout is not None
        fake.stdout.readline()
        limits = SafetyLimits(stand_seconds=0.2)
        loop = ControlLoopProcess(ControlConfig(dds_domain=DOMAIN + 1, limits=limits, discovery_s=0.3))
        # This process stands in for the ROS side, which has a real-time priority too.
        ask_for_realtime(30, lock_memory=False)
        end = time.monotonic() + seconds
        mode, stood, reason = 0, False, ''

        def on_packet(packet) -> None:
            nonlocal mode, stood, reason
            if packet is not None and 'mode' in packet.dtype.names:
                mode = int(packet['mode'])
                stood = stood or mode == 2
                if 'text' in packet.dtype.names:
                    reason = bytes(packet['text']).decode()

        threading.Thread(target=loop.listen, args=(on_packet, 0.1), daemon=True).start()
        while time.monotonic() < end:
            loop.send_heartbeat()
            if mode == 1:  # at the start, and after a fault: a machine that is busy otherwise makes some
                loop.ask(Action.STAND)
            time.sleep(0.02)
        if not stood:
            raise RuntimeError(f'the loop never stood: {reason}')
        loop.stop()
        time.sleep(0.2)
        summary = loop.summary
        if summary is None:
            raise RuntimeError('the loop gave no summary')
        return {
            'cycles': int(summary['cycles']), 'misses': int(summary['misses']),
            'error_p50': float(summary['error_p50']), 'error_p99': float(summary['error_p99']),
            'period_max': float(summary['period_max']), 'cores': float(summary['cpu_seconds'] / summary['seconds']),
            'realtime': loop.realtime,
        }  # fmt: skip
    finally:
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        fake.kill()
        fake.wait()


def sdk_loop(seconds: float, fifo: bool, answer) -> None:
    """In a process of its own: the SDK's RecurrentThread with the SDK's way to read and to command."""
    crc = sdk_crc()
    message_types()
    from unitree_sdk2py.core.channel import ChannelFactoryInitialize, ChannelPublisher, ChannelSubscriber
    from unitree_sdk2py.idl.default import unitree_hg_msg_dds__LowCmd_
    from unitree_sdk2py.idl.unitree_hg.msg.dds_ import LowCmd_, LowState_
    from unitree_sdk2py.utils.thread import RecurrentThread

    ChannelFactoryInitialize(DOMAIN + 2, 'lo')
    latest: list = []
    states = ChannelSubscriber('rt/lowstate', LowState_)
    states.Init(lambda sample: latest.__setitem__(slice(None), [sample]), 1)
    commands = ChannelPublisher('rt/lowcmd', LowCmd_)
    commands.Init()
    message = unitree_hg_msg_dds__LowCmd_()
    stamps: list[int] = []

    def step() -> None:
        stamps.append(time.monotonic_ns())
        for i in range(29):
            motor = message.motor_cmd[i]
            motor.q, motor.kp, motor.kd = float(robot.DEFAULT_JOINT_POS[i]), robot.KP[i], robot.KD[i]
        message.crc = crc.Crc(message)
        commands.Write(message)

    if fifo:
        ask_for_realtime(70)
    thread = RecurrentThread(interval=0.001, target=step, name='control')
    cpu = time.process_time()
    thread.Start()
    time.sleep(seconds)
    cpu = time.process_time() - cpu
    thread.Wait(1.0)
    periods = np.diff(np.array(stamps)) * 1e-9
    errors = np.abs(periods - 1e-3)
    answer.put({
        'cycles': len(periods), 'misses': int((periods > 2e-3).sum()), 'error_p50': float(np.percentile(errors, 50)),
        'error_p99': float(np.percentile(errors, 99)), 'period_max': float(periods.max()), 'cores': cpu / seconds,
        'rate': len(periods) / (np.sum(periods)),
    })  # fmt: skip


def sdk_loop_in_process(seconds: float, fifo: bool = False) -> dict:
    fake = subprocess.Popen(
        [sys.executable, str(ROOT / 'src/humanx_g1_driver/test/fake_robot.py'), str(DOMAIN + 2)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert fake.stdout is not None
        fake.stdout.readline()
        context = multiprocessing.get_context('spawn')
        answer = context.Queue()
        process = context.Process(target=sdk_loop, args=(seconds, fifo, answer))
        process.start()
        result = answer.get(timeout=seconds + 60)
        process.join()
        return result
    finally:
        fake.kill()
        fake.wait()


def busy_processes() -> list[subprocess.Popen]:
    """Start one endless computation per core, at normal priority."""
    return [subprocess.Popen([sys.executable, '-c', 'while True: pass']) for _ in range(os.cpu_count() or 1)]


def loop_row(name: str, result: dict) -> str:
    share = 100 * result['misses'] / result['cycles']
    return (
        f'{name:34s} {1e6 * result["error_p50"]:8.0f} {1e6 * result["error_p99"]:8.0f} '
        f'{1e3 * result["period_max"]:9.2f} {share:8.3f} {result["cycles"]:8d} {100 * result["cores"]:7.0f}'
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seconds', type=float, default=20.0, help='of each loop in each condition')
    parser.add_argument('--rounds', type=int, default=2000, help='of each message operation')
    parser.add_argument('--json', type=Path, help='where to write the figures')
    options = parser.parse_args()

    times = message_times(options.rounds)
    median = {name: float(np.median(values)) * 1e6 for name, values in times.items()}
    print(f'{"median / p99, us":34s} {"ours":>16s} {"SDK":>18s} {"ratio":>7s}')
    for what, label in (('command', 'LowCmd: fill, checksum, write'), ('state', 'LowState: take, checksum, read')):
        p99 = {who: float(np.percentile(times[f'{who}_{what}'], 99)) * 1e6 for who in ('our', 'sdk')}
        print(
            f'{label:34s} {median[f"our_{what}"]:7.1f} / {p99["our"]:6.1f} {median[f"sdk_{what}"]:9.1f} / '
            f'{p99["sdk"]:6.1f} {median[f"sdk_{what}"] / median[f"our_{what}"]:6.1f}x'
        )
    loops = {'idle': our_loop(options.seconds), 'idle SDK': sdk_loop_in_process(options.seconds)}
    busy = busy_processes()
    try:
        loops['busy'] = our_loop(options.seconds)
        loops['busy SDK'] = sdk_loop_in_process(options.seconds)
        loops['busy SDK, SCHED_FIFO'] = sdk_loop_in_process(options.seconds, fifo=True)
    finally:
        for process in busy:
            process.kill()
            process.wait()
    heads = ('p50 us', 8), ('p99 us', 8), ('worst ms', 9), ('misses %', 8), ('cycles', 8), ('core %', 7)
    print(f'\n{"1 kHz loop: error of the period":34s} ' + ' '.join(f'{name:>{width}s}' for name, width in heads))
    for condition, result in loops.items():
        who = 'RecurrentThread' if 'SDK' in condition else 'driver'
        print(loop_row(f'{condition}: {who}', result))
    figures = {
        'command_us': median['our_command'],
        'command_ratio': median['sdk_command'] / median['our_command'],
        'state_us': median['our_state'],
        'state_ratio': median['sdk_state'] / median['our_state'],
        'loop_cores': loops['idle']['cores'],
    }
    for condition in ('idle', 'busy'):
        figures[f'{condition}_miss_share'] = loops[condition]['misses'] / loops[condition]['cycles']
        figures[f'{condition}_error_p99_us'] = loops[condition]['error_p99'] * 1e6
    if not loops['idle']['realtime']:
        print('Without SCHED_FIFO and locked memory the figures of the busy machine are not bounded.')
    missed = [
        f'{name} is {figures[name]:.4g}, expected {how} {bound:g}'
        for name, (how, bound) in BOUNDS.items()
        if (figures[name] > bound if how == 'at most' else figures[name] < bound)
    ]
    for sentence in missed:
        print(sentence, file=sys.stderr)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        record = {
            'machine': platform.platform(), 'cores': os.cpu_count(), 'figures': figures, 'loops': loops,
            'medians_us': median, 'bounds': BOUNDS, 'missed': missed,
        }  # fmt: skip
        options.json.write_text(json.dumps(record, indent=1) + '\n', encoding='utf-8')
    return 1 if missed else 0


if __name__ == '__main__':
    sys.exit(main())
