"""The whole graph with the simulated robot, in real time: load, real-time factor, deadlines, delay of the loop.

    python benchmarks/bench_graph.py --seconds 60 --json out/bench_graph.json

Starts what ``humanx up`` starts, stands the robot up and runs the skill; measures while the driver is in RUN. The delay
is from the arrival of a LowState at the driver (the stamp that the policy echoes) to the arrival of the JointTargets
that answer it, as another process of this machine receives them. Status 1 if a bound is not met.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil

BOUNDS = {
    'driver_cores': ('at most', 0.40),
    'graph_cores': ('at most', 1.60),
    'real_time_factor': ('at least', 0.99),
    'driver_miss_share': ('at most', 0.001),
    'driver_period_error_p99_s': ('at most', 300e-6),
    'wire_to_targets_p99_s': ('at most', 0.012),
    'policy_tick_p99_s': ('at most', 0.002),
}


class Measurement(threading.Thread):
    """Does the operator's part beside the launcher and reads the meters."""

    def __init__(self, launcher, seconds: float) -> None:
        super().__init__(daemon=True)
        self._launcher, self._seconds = launcher, seconds
        self.result: dict = {}
        self.error = ''

    def run(self) -> None:
        try:
            self._measure()
        except Exception as error:
            self.error = f'{type(error).__name__}: {error}'
        finally:
            self._launcher.stop()

    def _measure(self) -> None:
        import rclpy
        from rclpy.qos import QoSProfile
        from rclpy.signals import SignalHandlerOptions

        from humanx.operator import Operator, describe, start_robot
        from humanx_description.ros.polling import PolledSubscription
        from humanx_description.scheduling import raise_threads
        from humanx_msgs.msg import DriverStatus, JointTargets, PolicyStatus, SimTruth

        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        operator = Operator('bench')
        deep = QoSProfile(depth=2000)
        targets = PolledSubscription(operator, JointTargets, 'joint_targets', deep)
        truth = PolledSubscription(operator, SimTruth, 'sim/truth', deep)
        statuses = PolledSubscription(operator, DriverStatus, 'driver_status', deep)
        policies = PolledSubscription(operator, PolicyStatus, 'policy_status', deep)
        # Messages get their time of arrival from the middleware's threads, which must not wait for other programs.
        raise_threads(20)
        try:
            started, sentence = start_robot(operator, 60.0)
            if not started:
                raise RuntimeError(f'the robot does not run: {sentence}')
            operator.wait_for(lambda: False, 1.0)
            for meter in (targets, truth, statuses, policies):
                for _ in meter.all():
                    pass
            before = self._cpu()
            began = time.monotonic()
            delays, samples, driver, policy = [], [], [], []
            while time.monotonic() - began < self._seconds:
                time.sleep(0.25)
                for message, received in targets.all_received():
                    stamp = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
                    delays.append((received - stamp) * 1e-9)
                for message in truth.all():
                    stamp = message.header.stamp.sec + message.header.stamp.nanosec * 1e-9
                    samples.append((stamp, message.sim_time))
                driver += statuses.all()
                policy += policies.all()
            seconds = time.monotonic() - began
            after = self._cpu()
        finally:
            operator.close()
            rclpy.try_shutdown()
        cores = {name: (after[name] - before.get(name, 0.0)) / seconds for name in after}
        in_run = [status for status in driver if status.state == DriverStatus.RUN]
        delay = np.array(delays) if delays else np.array([np.nan])
        cycles, misses = driver[-1].cycles - driver[0].cycles, driver[-1].misses - driver[0].misses
        self.result = {
            'seconds': seconds,
            'seconds_in_run': len(in_run) * seconds / max(len(driver), 1),
            'left_run_because': '' if len(in_run) == len(driver) else describe(driver[-1]),
            'cores': cores,
            'driver_cores': cores.get('g1_driver', float('nan')),
            'graph_cores': sum(value for name, value in cores.items() if name != 'recorder'),
            'graph_cores_with_recorder': sum(cores.values()),
            'real_time_factor': (samples[-1][1] - samples[0][1]) / (samples[-1][0] - samples[0][0]),
            'driver_cycles': int(cycles),
            'driver_misses': int(misses),
            'driver_miss_share': misses / max(cycles, 1),
            'driver_period_max_s': max(s.period_max for s in driver),
            # Each status covers about one second: the typical second, and the worst.
            'driver_period_error_p99_s': float(np.median([s.period_error_p99 for s in driver])),
            'driver_period_error_p99_worst_second_s': max(s.period_error_p99 for s in driver),
            'wire_to_targets_p50_s': float(np.quantile(delay, 0.5)),
            'wire_to_targets_p99_s': float(np.quantile(delay, 0.99)),
            'wire_to_targets_max_s': float(delay.max()),
            'policy_tick_p99_s': float(np.median([s.tick_p99 for s in policy])),
            'policy_tick_p99_worst_second_s': max(s.tick_p99 for s in policy),
        }

    def _cpu(self) -> dict[str, float]:
        """Return the CPU seconds of each node with its children."""
        used = {}
        for child in self._launcher.children:
            process = psutil.Process(child.process.pid)
            times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
            used[child.spec.name] = sum(t.user + t.system for t in times)
        return used


def main() -> int:
    """Measure and print; status 0 if every bound is met."""
    from humanx import graph
    from humanx.launcher import Launcher
    from humanx_policy.library import known_skills

    ready = 'football' in known_skills()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--seconds', type=float, default=60.0)
    parser.add_argument('--mode', choices=('nep', 'mocap'), default='mocap' if ready else 'nep')
    parser.add_argument('--skill', default='football' if ready else 'stand')
    parser.add_argument('--record', action='store_true', help='with the recorder; it is not counted in graph_cores')
    parser.add_argument('--visualize', action='store_true', help='with what RViz shows')
    parser.add_argument('--dds-domain', type=int)
    parser.add_argument('--json', type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        options = graph.Options(
            mode=args.mode, skill=args.skill, dds_domain=args.dds_domain, visualize=args.visualize,
            record=f'{folder}/bag' if args.record else '',
        )  # fmt: skip
        graph.check(options)
        log = io.StringIO()
        launcher = Launcher(graph.nodes(options), out=log)
        measurement = Measurement(launcher, args.seconds)
        measurement.start()
        launcher.run()
        measurement.join(10.0)
    if measurement.error or not measurement.result:
        print(log.getvalue(), file=sys.stderr)
        print(f'bench_graph: {measurement.error or "no result"}', file=sys.stderr)
        return 1
    result = {
        'mode': args.mode,
        'skill': args.skill,
        'cpus': os.cpu_count(),
        'load_average_1min': os.getloadavg()[0],
        'machine': platform.machine(),
        **measurement.result,
    }
    good = report(result)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(result, indent=2) + '\n', encoding='utf-8')
    return 0 if good else 1


def report(result: dict) -> bool:
    """Print the table; return whether every bound is met."""
    print(
        f'{result["mode"]} {result["skill"]}: {result["seconds"]:.0f} s, {result["seconds_in_run"]:.0f} s of it in RUN '
        f'{result["left_run_because"]}; load average {result["load_average_1min"]:.1f} on {result["cpus"]} CPUs'
    )
    for name, value in result['cores'].items():
        print(f'  {name:<28} {value:10.3f}  cores')
    good = True
    for name, (side, bound) in BOUNDS.items():
        met = result[name] <= bound if side == 'at most' else result[name] >= bound
        good &= met
        print(f'  {name:<28} {result[name]:10.6f}  {side} {bound:g}: {"met" if met else "NOT MET"}')
    for name in ('driver_period_max_s', 'wire_to_targets_p50_s', 'wire_to_targets_max_s', 'driver_misses'):
        print(f'  {name:<28} {result[name]:10.6f}')
    return good


if __name__ == '__main__':
    sys.exit(main())
