"""What the operator does: ask the driver's safety machine for a state, and read what it is in."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from std_srvs.srv import Trigger

from humanx.graph import NAMESPACE
from humanx_description import interrupts
from humanx_description.discovery import stay_on_this_machine
from humanx_description.errors import UserError
from humanx_msgs.msg import DriverStatus, PolicyStatus, SimTruth

STATE_NAMES = {
    DriverStatus.ZERO_TORQUE: 'ZERO_TORQUE',
    DriverStatus.DAMP: 'DAMP',
    DriverStatus.STAND: 'STAND',
    DriverStatus.RUN: 'RUN',
}
ACTIONS = ('stand', 'run', 'damp', 'estop')
T = TypeVar('T')


class Operator(Node):
    """A client of the driver's services that also hears the status of driver and policy."""

    def __init__(self, name: str = 'operator') -> None:
        super().__init__(name, namespace=NAMESPACE)
        self.driver: DriverStatus | None = None
        self.policy: PolicyStatus | None = None
        self.truth: SimTruth | None = None
        self._spinner = SingleThreadedExecutor(context=self.context)
        self._spinner.add_node(self)
        self._by_action = {action: self.create_client(Trigger, f'g1_driver/{action}') for action in ACTIONS}
        self.create_subscription(DriverStatus, 'driver_status', self._on_driver, 10)
        self.create_subscription(PolicyStatus, 'policy_status', self._on_policy, 10)
        self.create_subscription(SimTruth, 'sim/truth', self._on_truth, 1)

    def _on_driver(self, message: DriverStatus) -> None:
        self.driver = message

    def _on_policy(self, message: PolicyStatus) -> None:
        self.policy = message

    def _on_truth(self, message: SimTruth) -> None:
        self.truth = message

    def wait_for(self, condition: Callable[[], T], timeout: float) -> T:
        """Process messages until ``condition`` is true or ``timeout`` seconds have passed; return its last value."""
        deadline = time.monotonic() + timeout
        while not (value := condition()) and time.monotonic() < deadline:
            self._spinner.spin_once(timeout_sec=0.05)
        return value

    def call(self, action: str, timeout: float = 5.0) -> tuple[bool, str]:
        """Ask the driver for ``action``; return whether it agreed and its sentence.

        Raises :class:`UserError` where no driver answers within ``timeout`` seconds.
        """
        client = self._by_action[action]
        deadline = time.monotonic() + timeout
        if not self.wait_for(client.service_is_ready, timeout):
            raise UserError(f'no driver answers on {client.srv_name}; expected a running graph (humanx up).')
        future = client.call_async(Trigger.Request())
        if not self.wait_for(future.done, max(deadline - time.monotonic(), 1.0)):
            raise UserError(f'{client.srv_name} gave no answer within {timeout:g} s; expected a running driver.')
        response = future.result()
        assert response is not None
        return response.success, response.message

    def close(self) -> None:
        """Leave the graph."""
        self._spinner.shutdown()
        self.destroy_node()


@contextlib.contextmanager
def operator(name: str) -> Iterator[Operator]:
    """Join the graph as an operator for the time of a ``with`` block."""
    rclpy.init(args=[])
    try:
        node = Operator(name)
        try:
            yield node
        finally:
            node.close()
    finally:
        rclpy.try_shutdown()


def start_robot(operator: Operator, timeout: float = 30.0) -> tuple[bool, str]:
    """Do with a simulated robot what an operator does: damp, stand, wait until it stands on the floor, run.

    A refusal is asked again until ``timeout`` seconds have passed, because right after the start the driver has no
    robot state. It is run when nothing but the floor carries it. Return whether the robot runs, and the driver's last
    sentence.
    """
    deadline = time.monotonic() + timeout

    def left() -> float:
        return max(deadline - time.monotonic(), 1.0)

    success, sentence = False, 'the driver was not asked'

    def fell() -> bool:
        return operator.driver is not None and operator.driver.state != DriverStatus.STAND

    # A policy that publishes targets has everything it needs, and the rush of starting processes is over.
    if not operator.wait_for(lambda: operator.policy is not None and operator.policy.sequence > 0, left()):
        return False, f'the policy publishes no joint targets: {_why(operator.policy)}'
    for action, state in (('damp', DriverStatus.DAMP), ('stand', DriverStatus.STAND), ('run', DriverStatus.RUN)):
        if action == 'run':
            operator.wait_for(lambda: fell() or _on_its_feet(operator), left())
            if not fell() and not _on_its_feet(operator):
                return False, f'the simulated robot is still on its gantry after {timeout:g} s'
        while True:
            if action == 'run' and fell():
                return False, f'the robot does not stand any more: {describe(operator.driver)}'
            success, sentence = operator.call(action, left())
            if success or time.monotonic() > deadline:
                break
            operator.wait_for(lambda: False, 0.25)
        if not success:
            return False, sentence

        def reached(state: int = state) -> bool:
            return operator.driver is not None and operator.driver.state == state

        if not operator.wait_for(reached, left()):
            return False, f'the driver agreed to {action} but did not get there: {describe(operator.driver)}'
    return True, sentence


def _why(status: PolicyStatus | None) -> str:
    return 'no status from the policy node' if status is None else status.reason


def _on_its_feet(operator: Operator) -> bool:
    """Whether nothing but the floor carries the simulated robot."""
    return operator.truth is not None and operator.truth.gantry == SimTruth.FREE


def describe(status: DriverStatus | None) -> str:
    """Return a driver status in one line."""
    if status is None:
        return 'no status from the driver'
    return f'{STATE_NAMES.get(status.state, status.state)}: {status.reason}'


def main(args: list[str] | None = None) -> None:
    """Start the robot once, as ``humanx up --go`` asks: for simulated robots."""
    stay_on_this_machine()
    rclpy.init(args=args)
    operator = None
    status = 1
    try:
        interrupts.release()
        operator = Operator()
        success, sentence = start_robot(operator)
        print(sentence, flush=True)
        status = 0 if success else 1
    except UserError as error:
        print(error, file=sys.stderr, flush=True)
    except (KeyboardInterrupt, rclpy.executors.ExternalShutdownException):
        status = 0
    finally:
        if operator is not None:
            operator.close()
        rclpy.try_shutdown()
    sys.exit(status)


if __name__ == '__main__':
    main()
