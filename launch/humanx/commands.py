"""``humanx up`` brings the graph up; ``humanx stand|run|damp|estop|status`` is the operator's side."""

from __future__ import annotations

import argparse
from pathlib import Path

from humanx import graph
from humanx_description.errors import UserError

_ACTIONS = {
    'stand': 'ask the driver to stand up',
    'run': 'ask the driver to follow the policy',
    'damp': 'damp all joints (also what clears a fault)',
    'estop': 'stop the robot: damping, latched',
}


def register(subparsers: argparse._SubParsersAction) -> None:
    """Add the commands of this package to the ``humanx`` command."""
    up = subparsers.add_parser('up', help='bring the whole graph up on this machine')
    up.add_argument('mode', choices=('nep', 'mocap'), help='nep: no external perception; mocap: object poses')
    up.add_argument('--skill', required=True, help='name of a trained skill, or path of a policy file')
    up.add_argument('--sim', action=argparse.BooleanOptionalAction, default=True, help='simulated G1 (default)')
    up.add_argument('--network-interface', default='', metavar='NAME', help="interface to the real robot's network")
    up.add_argument('--record', default='', metavar='DIR', help='record everything into a rosbag2 in this new folder')
    up.add_argument('--seed', type=int, default=0, help="seed of the simulated robot's scenario")
    up.add_argument('--duration', type=_positive, metavar='S', help='stop after this many seconds')
    up.add_argument('--go', action='store_true', help='with --sim: stand and run without waiting for the operator')
    up.add_argument('--visualize', action=argparse.BooleanOptionalAction, default=True, help='publish what RViz shows')
    up.add_argument('--dds-domain', type=int, help="DDS domain of the robot's topics (robot: 0, simulated: 1)")
    up.add_argument('--bodies', default='', metavar='ROLE=NAME,...', help='what motion capture calls the bodies')
    up.add_argument('--param', action='append', default=[], metavar='NODE.NAME=VALUE', help='set a node parameter')
    up.set_defaults(run=run_up)
    for action, text in _ACTIONS.items():
        parser = subparsers.add_parser(action, help=text)
        parser.add_argument('--timeout', type=_positive, default=5.0, metavar='S', help='how long to wait')
        parser.set_defaults(run=run_action, action=action)
    status = subparsers.add_parser('status', help='show what driver and policy say')
    status.add_argument('--timeout', type=_positive, default=3.0, metavar='S', help='how long to wait for a status')
    status.set_defaults(run=run_status)


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float('inf'):
        raise argparse.ArgumentTypeError(f'{text} is not a positive number')
    return value


def run_up(args: argparse.Namespace) -> int:
    """Bring the graph up and stay until it ends."""
    from humanx.launcher import Launcher
    from humanx.parameters import override

    options = graph.Options(
        mode=args.mode,
        skill=_absolute_if_file(args.skill),
        sim=args.sim,
        network_interface=args.network_interface,
        record=str(Path(args.record).resolve()) if args.record else '',
        seed=args.seed,
        visualize=args.visualize,
        go=args.go,
        dds_domain=args.dds_domain,
        bodies=tuple(filter(None, args.bodies.split(','))),
    )
    graph.check(options)
    specs = override(graph.nodes(options), args.param)
    return Launcher(specs, duration=args.duration).run()


def _absolute_if_file(skill: str) -> str:
    return str(Path(skill).resolve()) if skill.endswith('.onnx') or '/' in skill else skill


def run_action(args: argparse.Namespace) -> int:
    """Call one service of the driver and print its sentence."""
    from humanx.operator import operator

    with operator(f'operator_{args.action}') as node:
        success, sentence = node.call(args.action, args.timeout)
    print(sentence)
    return 0 if success else 1


def run_status(args: argparse.Namespace) -> int:
    """Print the newest status of driver and policy; 1 where the driver is damping because of a fault."""
    from humanx.operator import describe, operator
    from humanx_msgs.msg import PolicyStatus

    with operator('operator_status') as node:
        node.wait_for(lambda: node.driver and node.policy, args.timeout)
        driver, policy = node.driver, node.policy
    if driver is None:
        raise UserError('no status from a driver; expected a running graph (humanx up).')
    print(f'driver  {describe(driver)}')
    print(
        f'        period {driver.period_mean * 1e3:.3f} ms mean, {driver.period_p99 * 1e3:.3f} p99, '
        f'{driver.period_max * 1e3:.3f} max; {driver.misses} of {driver.cycles} cycles missed; on '
        f'{driver.network_interface}{", real-time" if driver.realtime else ", not real-time"}'
    )
    if policy is None:
        print('policy  no status')
    else:
        states = {PolicyStatus.IDLE: 'idle', PolicyStatus.RUNNING: 'running', PolicyStatus.WAITING: 'waiting'}
        print(f'policy  {policy.skill} ({policy.mode}), {states.get(policy.state, "failed")}: {policy.reason}')
        tick = f'{policy.tick_mean * 1e3:.2f} ms mean, {policy.tick_p99 * 1e3:.2f} p99'
        print(f'        tick {tick}; {policy.late_ticks} of {policy.ticks} late')
    return 1 if driver.fault else 0
