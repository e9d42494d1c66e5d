"""Judged real-time trials of the whole graph with the simulated G1: what ``humanx trial`` runs.

The graph is started once. Each trial hangs the robot up with the trial's seed, records a bag, does what an operator
does (stand, wait for the gantry to let go, run), lets the robot stand afterwards, and is judged from its bag alone.
"""

from __future__ import annotations

import datetime
import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from humanx_description.errors import UserError
from humanx_description.skills import load_skill
from humanx_description.statistics import wilson
from humanx_g1_driver.trial_runner import Trials
from humanx_g1_driver.trial_types import TrialError, TrialOptions, TrialResult


def graph_nodes(options: TrialOptions) -> list:
    """Return the nodes of the graph with the trial's choices; raises :class:`UserError` for a bad one."""
    from humanx import graph
    from humanx.parameters import override

    chosen = graph.Options(
        mode=options.mode,  # type: ignore[arg-type]
        skill=options.skill,
        seed=options.seed,
        visualize=True,  # its topics belong into the bag
        dds_domain=options.dds_domain,
    )
    graph.check(chosen)
    extra: dict[str, graph.Value] = {
        'mocap.dropout': options.dropout,
        'mocap.burst': options.burst,
        'mocap.loss': options.loss,
        'generalise': options.generalise,
        'balls': options.balls,
    }
    nodes = override(graph.nodes(chosen), options.parameters)
    return [replace(n, parameters={**n.parameters, **extra}) if n.name == 'sim_g1' else n for n in nodes]


def run_trials(options: TrialOptions, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Run the trials and return their summary, ready for JSON.

    Raises :class:`UserError` for a bad choice (nothing has been started then) and :class:`TrialError` if the graph
    failed. The nodes' output goes to ``nodes.log`` beside the bags.
    """
    from humanx.graph import Options as GraphOptions
    from humanx.graph import skill_name
    from humanx.launcher import Launcher

    nodes = graph_nodes(options)
    _refuse_other_driver()
    skill = load_skill(skill_name(GraphOptions(mode=options.mode, skill=options.skill)))  # type: ignore[arg-type]
    started = datetime.datetime.now(datetime.timezone.utc)
    options.directory.mkdir(parents=True, exist_ok=True)
    log = options.directory / 'nodes.log'
    with log.open('w', encoding='utf-8') as out:
        launcher = Launcher(nodes, out=out)
        trials = Trials(options, skill, say, launcher.stop)
        worker = threading.Thread(target=trials.run, name='trials', daemon=True)
        worker.start()
        try:
            status = launcher.run()
        finally:
            trials.stopped.set()
            worker.join(timeout=30.0)
    if trials.error is not None:
        failed = f'{trials.error} (see {log})' + ('' if status == 0 else f'; the graph ended with status {status}')
        if isinstance(trials.error, UserError):
            raise UserError(failed) from trials.error
        raise TrialError(failed) from trials.error
    if len(trials.results) < options.trials:
        raise TrialError(f'interrupted after {len(trials.results)} of {options.trials} trials (see {log})')
    return summary(options, trials.results, started.isoformat(timespec='seconds'))


def _refuse_other_driver(discovery_s: float = 4.0) -> None:
    """Raise :class:`UserError` if a driver is in this ROS domain already: a trial must never start somebody's robot.

    Discovery repeats its announcements every 3 s, should the first ones get lost.
    """
    import rclpy
    from rclpy.signals import SignalHandlerOptions

    context = rclpy.Context()
    rclpy.init(context=context, signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = rclpy.create_node('trial_lookout', context=context, namespace='/humanx')
        deadline = time.monotonic() + discovery_s
        while time.monotonic() < deadline:
            if 'g1_driver' in node.get_node_names():
                domain = os.environ.get('ROS_DOMAIN_ID', '0')
                raise UserError(
                    f'a g1_driver already runs in ROS domain {domain}; expected none (stop it, or set ROS_DOMAIN_ID to '
                    'another number).'
                )
            time.sleep(0.1)
        node.destroy_node()
    finally:
        rclpy.shutdown(context=context)


def summary(options: TrialOptions, results: list[TrialResult], started: str) -> dict[str, Any]:
    """Return what ``--json`` writes: the choices, the success rate with its Wilson interval, every trial."""
    successes = sum(result.success for result in results)
    low, high = wilson(successes, len(results))
    chosen = {key: value for key, value in asdict(options).items() if key not in ('directory', 'parameters')}
    return {
        'format_version': 1,
        'started': started,
        **chosen,
        'parameters': list(options.parameters),
        'policy_sha256': next((r.policy_sha256 for r in results if r.policy_sha256), ''),
        'successes': successes,
        'success_rate': successes / len(results) if results else None,
        'success_rate_wilson_95': [low, high],
        'mean_returns': sum(r.returns for r in results) / len(results) if results else None,
        'results': [asdict(result) for result in results],
    }


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write the summary so that a reader sees the old file or the whole new one."""
    partial = path.with_name(f'.{path.name}.{os.getpid()}')
    partial.write_text(json.dumps(data, indent=2) + '\n', encoding='utf-8')
    os.replace(partial, path)
