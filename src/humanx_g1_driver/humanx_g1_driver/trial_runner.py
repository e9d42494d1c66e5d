"""Does an operator's part for each trial and has it recorded and judged."""

from __future__ import annotations

import ctypes
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from humanx_description import interrupts
from humanx_description.errors import UserError
from humanx_description.skills import Skill
from humanx_g1_driver.bag_judge import judge_bag
from humanx_g1_driver.bag_read import open_bag, read_session
from humanx_g1_driver.trial_report import driver_timing
from humanx_g1_driver.trial_types import NEVER_RAN, TrialError, TrialOptions, TrialResult

_START_S = 180.0  # for the graph to come up on a very busy machine
_CALL_S = 30.0  # for the driver to answer a call
_STAND_S = 30.0  # from the gantry to standing free
_SETTLE_S = 1.0  # standing free before RUN
_AFTER_S = 1.0  # standing after RUN
_BALL_S = 12.0  # longest time between two launches of consecutive balls


class Trials:
    """Runs the trials in a thread of its own, beside the launcher that owns the processes."""

    def __init__(
        self, options: TrialOptions, skill: Skill, say: Callable[[str], None], stop_graph: Callable[[], None]
    ) -> None:
        self._stop_graph = stop_graph
        self._options = options
        self._skill = skill
        self._say = say
        self.stopped = threading.Event()
        self.results: list[TrialResult] = []
        self.error: BaseException | None = None
        self._truth: Any = None

    def run(self) -> None:
        """Run all trials; then have the launcher stop the graph."""
        try:
            self._run()
        except BaseException as error:  # reported by the command, which waits for the launcher
            self.error = error
        finally:
            self._stop_graph()

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

    @property
    def _driver(self) -> Any:
        """The driver's last status; it has been waited for."""
        assert self._operator is not None
        assert self._operator.driver is not None
        return self._operator.driver

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
        if trouble and result.reason == NEVER_RAN:
            result.reason = trouble
        return result

    def _hang_up(self, seed: int) -> None:
        from humanx_msgs.msg import DriverStatus
        from humanx_msgs.srv import ResetSim

        self._operator.call('damp', _CALL_S)
        self._wait(lambda: self._driver.state == DriverStatus.DAMP, 5.0, 'the driver to damp')
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
            self._wait(ready, _START_S, 'the recorder to come up')
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
            lambda: self._truth.gantry == SimTruth.FREE or self._driver.state != DriverStatus.STAND, _STAND_S
        )
        self._pause(_SETTLE_S)
        if not free or self._driver.state != DriverStatus.STAND:
            return f'the robot did not stand: {self._driver.reason}'
        asked, sentence = self._insist('run', DriverStatus.RUN)
        if not asked:
            return f'the driver refused to run: {sentence}'
        limit = self._skill.scenario.duration_s + (self._options.balls - 1) * _BALL_S
        self._wait(lambda: self._over() or self._driver.state != DriverStatus.RUN, 2.0 * limit + 5.0)
        if self._driver.state == DriverStatus.RUN:
            operator.call('stand', _CALL_S)
        self._pause(_AFTER_S)
        return ''

    def _insist(self, action: str, state: int) -> tuple[bool, str]:
        """Ask until the driver agrees, for ten seconds: right after a reset it may not have settled."""
        deadline = time.monotonic() + 10.0
        while True:
            agreed, sentence = self._operator.call(action, _CALL_S)
            if agreed:
                reached = self._wait(lambda: self._driver.state == state, 5.0)
                return reached, '' if reached else self._driver.reason
            if time.monotonic() > deadline:
                return False, sentence
            self._pause(0.25)

    def _over(self) -> bool:
        truth, scenario = self._truth, self._skill.scenario
        if self._options.balls == 1:
            return truth.since_run > scenario.duration_s + 0.5  # on a busy machine the bag lags behind
        fallen = truth.since_run > 0 and truth.qpos[2] < 0.4
        last = truth.launches >= self._options.balls and truth.since_launch > scenario.duration_s - scenario.delay_s[0]
        return fallen or last or truth.since_run > scenario.duration_s + (self._options.balls - 1) * _BALL_S

    def _finish(self, recorder: subprocess.Popen) -> None:
        recorder.send_signal(signal.SIGINT)
        try:
            output, _ = recorder.communicate(timeout=60.0)
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
            return TrialResult(seed, False, NEVER_RAN if never else str(error), str(bag))
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
    interrupts.hold()
