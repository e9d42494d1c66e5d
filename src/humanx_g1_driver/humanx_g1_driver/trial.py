"""Judged real-time trials of the whole graph with the simulated G1: what ``humanx trial`` runs.

The graph is started once. Each trial hangs the robot up with the trial's seed, records a bag, does what an operator
does (stand, wait for the gantry to let go, run), lets the robot stand afterwards, and is judged from its bag alone.
"""

from __future__ import annotations

import ctypes
import datetime
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from humanx_description.errors import UserError
from humanx_description.skills import Skill, load_skill
from humanx_description.statistics import wilson
from humanx_g1_driver.bag_judge import judge_bag
from humanx_g1_driver.bag_read import open_bag, read_session
from humanx_g1_driver.trial_report import driver_timing

_START_S = 60.0  # for the graph to come up on a busy machine
_STAND_S = 30.0  # from the gantry to standing free
_SETTLE_S = 1.0  # standing free before RUN
_AFTER_S = 1.0  # standing after RUN
_BALL_S = 12.0  # longest time between two launches of consecutive balls


@dataclass(frozen=True)
class TrialOptions:
    """What ``humanx trial`` is asked for. ``dropout`` and ``burst`` are those of the simulated mocap."""

    mode: str
    skill: str
    trials: int
    seed: int
    directory: Path
    dropout: float = 0.0
    burst: int = 1
    loss: str = 'missing'
    generalise: bool = False
    balls: int = 1
    dds_domain: int | None = None
    parameters: tuple[str, ...] = ()


@dataclass
class TrialResult:
    """One trial. ``returns`` counts successive successes from the first ball on; ``driver`` is its loop's timing."""

    seed: int
    success: bool
    reason: str
    bag: str
    measures: dict[str, float] = field(default_factory=dict)
    returns: int = 0
    launches: int = 0
    real_time_factor: float = 0.0
    policy_sha256: str = ''
    driver: dict[str, float] = field(default_factory=dict)


class TrialError(Exception):
    """The graph failed; no verdict can be given."""


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
    extra = {
        'mocap.dropout': options.dropout,
        'mocap.burst': options.burst,
        'mocap.loss': options.loss,
        'generalise': options.generalise,
        'balls': options.balls,
    }
    nodes = override(graph.nodes(chosen), options.parameters)
    return [replace(n, parameters={**n.parameters, **extra}) if n.name == 'sim_g1' else n for n in nodes]


class Trials:
    """Runs the trials in a thread of its own, beside the launcher that owns the processes."""

    def __init__(self, options: TrialOptions, skill: Skill, say: Callable[[str], None]) -> None:
        self._options = options
        self._skill = skill
        self._say = say
        self.stopped = threading.Event()
        self.results: list[TrialResult] = []
        self.error: BaseException | None = None
        self._truth: Any = None

    def run(self) -> None:
        """Run all trials; then ask the launcher (this process) to stop."""
        try:
            self._run()
        except BaseException as error:  # reported by the command, which waits for the launcher
            self.error = error
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    def _run(self) -> None:
        import rclpy
        from rclpy.signals import SignalHandlerOptions

        from humanx.operator import Operator
        from humanx_msgs.msg import SimTruth
        from humanx_msgs.srv import ResetSim

        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        operator = Operator('trial')
        try:
            operator.create_subscription(SimTruth, 'sim/truth', self._on_truth, 1)
            self._operator = operator
            self._reset = operator.create_client(ResetSim, 'sim_g1/reset')
            self._wait(lambda: self._truth is not None, _START_S, 'the simulated robot to come up')
            self._wait(lambda: operator.driver is not None, _START_S, 'the driver to come up')
            self._wait(lambda: operator.policy is not None, _START_S, 'the policy to come up')
            for index in range(self._options.trials):
                result = self._one(index)
                self.results.append(result)
                verdict = 'success' if result.success else 'FAILURE'
                self._say(f'trial {index + 1}/{self._options.trials}, seed {result.seed}: {verdict} ({result.reason})')
        finally:
            operator.close()
            rclpy.try_shutdown()

    def _on_truth(self, message: Any) -> None:
        self._truth = message

    # --- one trial ---

    def _one(self, index: int) -> TrialResult:
        seed = self._options.seed + index
        bag = self._options.directory / f'trial_{index:03d}_seed_{seed}'
        self._hang_up(seed)
        recorder = self._record(bag, seed)
        trouble = ''
        try:
            trouble = self._drive()
        finally:
            self._finish(recorder)
        result = self._verdict(seed, bag)
        if trouble and result.reason == _NOTHING:
            result.reason = trouble
        return result

    def _hang_up(self, seed: int) -> None:
        from humanx_msgs.msg import DriverStatus
        from humanx_msgs.srv import ResetSim

        self._operator.call('damp')
        self._wait(lambda: self._operator.driver.state == DriverStatus.DAMP, 5.0, 'the driver to damp')
        before = self._truth.episode
        deadline = time.monotonic() + 5.0
        while True:
            # The simulation hears the driver's state ten times a second: it may still refuse for a moment.
            future = self._reset.call_async(ResetSim.Request(seed=seed, generalise=self._options.generalise))
            self._wait(future.done, 5.0, 'sim_g1/reset to answer')
            if future.result().success:
                break
            if time.monotonic() > deadline:
                raise TrialError(f'sim_g1/reset: {future.result().message}')
            self._pause(0.1)
        self._wait(lambda: self._truth.episode > before, 5.0, 'the simulation to start over')

    def _record(self, bag: Path, seed: int) -> subprocess.Popen:
        from humanx.graph import NodeSpec
        from humanx.launcher import command

        spec = NodeSpec(
            'recorder',
            'humanx_g1_driver',
            'recorder',
            'humanx_g1_driver.recorder',
            parameters={'directory': str(bag), 'seed': seed, 'skill': self._skill.name},
        )
        recorder = subprocess.Popen(
            command(spec),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # Ctrl-C is for this process, which lets the recorder close its bag
            preexec_fn=_stop_with_parent,
        )

        def ready() -> bool:
            if recorder.poll() is not None:
                assert recorder.stdout is not None
                raise TrialError(f'the recorder ended at its start: {recorder.stdout.read().strip()}')
            return 'recorder' in self._operator.get_node_names() and (bag / f'{bag.name}.mcap').is_file()

        try:
            self._wait(ready, 20.0, 'the recorder to come up')
            self._pause(1.0)  # its subscriptions are matched, its first look at the parameters is over
        except BaseException:
            recorder.kill()
            recorder.wait()
            raise
        return recorder

    def _drive(self) -> str:
        """Stand, run, stand; return why there was no run, if there was none."""
        from humanx_msgs.msg import DriverStatus, SimTruth

        operator = self._operator
        asked, sentence = self._insist('stand', DriverStatus.STAND)
        if not asked:
            return f'the driver refused to stand: {sentence}'
        free = self._wait(
            lambda: self._truth.gantry == SimTruth.FREE or operator.driver.state != DriverStatus.STAND, _STAND_S
        )
        self._pause(_SETTLE_S)
        if not free or operator.driver.state != DriverStatus.STAND:
            return f'the robot did not stand: {operator.driver.reason}'
        asked, sentence = self._insist('run', DriverStatus.RUN)
        if not asked:
            return f'the driver refused to run: {sentence}'
        limit = self._skill.scenario.duration_s + (self._options.balls - 1) * _BALL_S
        self._wait(lambda: self._over() or operator.driver.state != DriverStatus.RUN, 2.0 * limit + 5.0)
        if operator.driver.state == DriverStatus.RUN:
            operator.call('stand')
        self._pause(_AFTER_S)
        return ''

    def _insist(self, action: str, state: int) -> tuple[bool, str]:
        """Ask until the driver agrees, for ten seconds: right after a reset it may not have settled."""
        deadline = time.monotonic() + 10.0
        while True:
            agreed, sentence = self._operator.call(action)
            if agreed:
                reached = self._wait(lambda: self._operator.driver.state == state, 5.0)
                return reached, '' if reached else self._operator.driver.reason
            if time.monotonic() > deadline:
                return False, sentence
            self._pause(0.25)

    def _over(self) -> bool:
        truth, scenario = self._truth, self._skill.scenario
        if self._options.balls == 1:
            return truth.since_run > scenario.duration_s + 0.1
        fallen = truth.since_run > 0 and truth.qpos[2] < 0.4
        last = truth.launches >= self._options.balls and truth.since_launch > scenario.duration_s - scenario.delay_s[0]
        return fallen or last or truth.since_run > scenario.duration_s + (self._options.balls - 1) * _BALL_S

    def _finish(self, recorder: subprocess.Popen) -> None:
        recorder.send_signal(signal.SIGINT)
        try:
            output, _ = recorder.communicate(timeout=20.0)
        except subprocess.TimeoutExpired:
            recorder.kill()
            output, _ = recorder.communicate()
        if recorder.returncode != 0:
            self._say(f'the recorder ended with status {recorder.returncode}: {output.strip()}')

    def _verdict(self, seed: int, bag: Path) -> TrialResult:
        try:
            judged = judge_bag(bag)
        except UserError as error:
            never = 'never was in RUN' in str(error)
            return TrialResult(seed, False, _NOTHING if never else str(error), str(bag))
        first = judged[0]
        with open_bag(bag) as reader:
            sha = read_session(reader).policy_sha256
        returns = 0
        for run in judged:
            if not run.verdict.success:
                break
            returns += 1
        worst = next((run for run in judged if not run.verdict.success), first)
        return TrialResult(
            seed=seed,
            success=all(run.verdict.success for run in judged),
            reason=worst.verdict.reason,
            bag=str(bag),
            measures=first.verdict.measures,
            returns=returns,
            launches=max(run.launch for run in judged),
            real_time_factor=first.real_time_factor,
            policy_sha256=sha,
            driver=driver_timing(bag),
        )

    # --- waiting ---

    def _wait(self, condition: Callable[[], bool], timeout: float, what: str = '') -> bool:
        """Wait for a condition; False after the timeout, or :class:`TrialError` if ``what`` says what was awaited."""
        value = self._operator.wait_for(lambda: self.stopped.is_set() or condition(), timeout)
        if self.stopped.is_set():
            raise TrialError('the graph stopped')
        if not value and what:
            raise TrialError(f'waited {timeout:.0f} s for {what}')
        return bool(value)

    def _pause(self, seconds: float) -> None:
        self._wait(lambda: False, seconds)


def _stop_with_parent() -> None:
    """In the child: should this process be killed, the kernel interrupts the recorder, which then closes its bag."""
    ctypes.CDLL(None).prctl(1, signal.SIGINT)  # PR_SET_PDEATHSIG


_NOTHING = 'the skill never ran'


def run_trials(options: TrialOptions, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Run the trials and return their summary, ready for JSON.

    Raises :class:`UserError` for a bad choice (nothing has been started then) and :class:`TrialError` if the graph
    failed. The nodes' output goes to ``nodes.log`` beside the bags.
    """
    from humanx.graph import Options as GraphOptions
    from humanx.graph import skill_name
    from humanx.launcher import Launcher

    nodes = graph_nodes(options)
    skill = load_skill(skill_name(GraphOptions(mode=options.mode, skill=options.skill)))  # type: ignore[arg-type]
    started = datetime.datetime.now(datetime.timezone.utc)
    options.directory.mkdir(parents=True, exist_ok=True)
    log = options.directory / 'nodes.log'
    trials = Trials(options, skill, say)
    with log.open('w', encoding='utf-8') as out:
        launcher = Launcher(nodes, out=out)
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


def print_error(error: Exception) -> None:
    """Print one line on standard error."""
    print(f'humanx: {error}', file=sys.stderr)
