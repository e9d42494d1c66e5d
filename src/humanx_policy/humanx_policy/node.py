"""The policy node: state in, joint targets out, 100 times a second.

The loop runs in its own thread on absolute deadlines and reads its topics itself; the executor only
serves the slow things (service, status). The rules:

- Targets are published whenever the inputs are fresh. Until the driver is in RUN every tick is
answered as the first of
  an episode would be (history filled with the present, last action zero), so RUN begins exactly as
  training episodes do.
- A stale or broken input: nothing is published (the driver then damps by itself after 50 ms), and
if the driver is in
  RUN it is asked to damp at once, which keeps the whole reaction within 50 ms.
- Somebody else publishing joint targets: this node falls silent, names the other, and stays so
while RUN lasts and
  until the other has been silent for a while. At its own start it listens before it speaks, and
  leaves.
"""

import gc
import math
import sys
import threading
import time

import rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from std_msgs.msg import String

from humanx_description.deadline import Deadlines
from humanx_description.errors import UserError
from humanx_description.ros.main import run_node
from humanx_description.ros.parameters import Param, declare
from humanx_description.ros.polling import PolledSubscription
from humanx_description.scheduling import raise_threads
from humanx_msgs.msg import DriverStatus, JointTargets, ObjectStates, PolicyStatus, RobotState
from humanx_msgs.srv import SetSkill
from humanx_policy import inputs, library
from humanx_policy.cdr import ObjectsReading, StateReading, read_objects, read_robot_state
from humanx_policy.controller import NonFiniteActionError, PolicyController
from humanx_policy.metadata import CONTROL_PERIOD
from humanx_policy.runtime import PolicyRuntime
from humanx_policy.tick_stats import TickStats
from humanx_policy.watch import PublisherWatch

TARGETS_TOPIC = 'joint_targets'
TARGETS_QOS = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.RELIABLE)
# Best effort matches any driver's offer; its status is repeated ten times a second.
STATUS_QOS = QoSProfile(depth=10, reliability=QoSReliabilityPolicy.BEST_EFFORT)
LISTEN_AT_START = 0.5  # s
FOREIGN_SILENCE = 2.0  # s
DRIVER_TIMEOUT = 1.0  # s: the driver reports ten times a second

PARAMS = (
    Param('skill', 'stand', 'Name of a trained skill, or path of a policy file (.onnx).'),
    Param(
        'mode', '', 'Observation mode; empty: the one the skill was trained for.',
        choices=('', 'nep', 'mocap'),
    ),
    Param('state_timeout', 0.035, 'Robot state older than this is not acted on, s.', 0.005, 0.05),
    Param('objects_timeout', 0.035, 'Objects older than this are not acted on, s.', 0.015, 0.5),
    Param('realtime_priority', 30, 'SCHED_FIFO priority of the node; 0 asks for none.', 0, 90),
)  # fmt: skip


class PolicyNode(Node):
    """Runs one policy at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # controller and gate, between loop and service
        self._stop = threading.Event()
        self._state: StateReading | None = None
        self._seen: ObjectsReading | None = None
        self._driver_state: int | None = None
        self._driver_seen = -math.inf
        self._latched = ''  # a failure that lasts until RUN is over
        self._intruded = False  # likewise: somebody else publishes joint targets
        self._intruder = ''
        self._damp_asked = False
        self._sequence = 0
        self._message = JointTargets()
        self.failure = ''
        super().__init__('policy', namespace='humanx')
        try:
            self._start()
        except BaseException:
            self.destroy_node()
            raise

    def _start(self) -> None:
        values = declare(self, PARAMS)
        self._state_timeout = values['state_timeout']
        self._objects_timeout = values['objects_timeout']
        self._install(self._load(values['skill'], values['mode']))
        self._status = PolicyStatus(state=PolicyStatus.IDLE, reason='No robot state yet.')
        self._stats = TickStats(round(1 / CONTROL_PERIOD), 0.5 * CONTROL_PERIOD)
        self._state_age, self._objects_age = inputs.Freshness(), inputs.Freshness()
        newest = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.BEST_EFFORT)
        self._states = PolledSubscription(self, RobotState, 'robot_state', newest, raw=True)
        self._objects = PolledSubscription(self, ObjectStates, 'objects', newest, raw=True)
        self._driver = PolledSubscription(self, DriverStatus, 'driver_status', STATUS_QOS)
        self._watch = PublisherWatch(
            self, TARGETS_TOPIC, QoSProfile(depth=20, reliability=QoSReliabilityPolicy.BEST_EFFORT)
        )
        self._targets_publisher = self.create_publisher(JointTargets, TARGETS_TOPIC, TARGETS_QOS)
        self._status_publisher = self.create_publisher(PolicyStatus, 'policy_status', 10)
        self._fault_publisher = self.create_publisher(String, 'g1_driver/fault', TARGETS_QOS)
        self.create_service(SetSkill, 'policy/set_skill', self._on_set_skill)
        self.create_timer(0.1, self._publish_status)
        # Everything the node has is there by now; the loop's thread inherits.
        if refusal := raise_threads(values['realtime_priority']):
            self.get_logger().warning(refusal)
        self._thread = threading.Thread(target=self._loop, name='policy loop', daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop the loop."""
        self._stop.set()
        if hasattr(self, '_thread'):
            self._thread.join(timeout=1.0)

    # Skills

    def _load(self, skill: str, mode: str) -> PolicyController:
        """Return a controller of that skill, or raise :class:`UserError`."""
        runtime = PolicyRuntime(library.find_policy(skill))
        trained = runtime.metadata.mode
        if mode and mode != trained:
            raise UserError(f'{runtime.path}: was trained in mode {trained!r}; expected {mode!r} as asked.')
        return PolicyController(runtime)

    def _install(self, controller: PolicyController) -> None:
        metadata = controller.runtime.metadata
        self._controller = controller
        self._roles = metadata.object_roles
        self._message.kp[:] = metadata.kp
        self._message.kd[:] = metadata.kd

    def _on_set_skill(self, request: SetSkill.Request, response: SetSkill.Response) -> SetSkill.Response:
        response.success = False
        try:
            controller = self._load(request.skill, request.mode)
        except UserError as error:
            response.message = str(error)
        else:
            with self._lock:
                # Asked again under the lock: the driver may have entered RUN while the file was
                # read.
                if self._running():
                    response.message = 'The driver is in RUN; a skill is changed in STAND or DAMP.'
                else:
                    self._install(controller)
                    self._latched = ''
                    response.success = True
                    response.message = f'Loaded {controller.runtime.path}.'
        response.model_sha256 = self._controller.runtime.sha256
        self.get_logger().info(response.message)
        return response

    # The loop

    def _loop(self) -> None:
        try:
            if self._refused_at_start():
                return
            gc.collect()
            gc.freeze()  # what lives now lives for ever: no need to look at it again in the loop
            deadlines = Deadlines(CONTROL_PERIOD)
            while not self._stop.is_set():
                self._stats.waited(deadlines.wait())
                start = time.perf_counter()
                with self._lock:
                    self._tick(start)
        except Exception as error:
            if not self._stop.is_set() and rclpy.ok():
                self.failure = f'The policy loop broke: {error!r}.'
        finally:
            if self.failure:
                rclpy.try_shutdown()

    def _refused_at_start(self) -> bool:
        """Listen before speaking; two policies would both be refused by the driver."""
        # Who has found the robot has found its other listeners and speakers too, near enough.
        end = math.inf
        while time.monotonic() < end and not self._stop.wait(0.02):
            self._read()
            if self._state is not None and end == math.inf:
                end = time.monotonic() + LISTEN_AT_START
                self._set_status(PolicyStatus.IDLE, f'Listening for others on {TARGETS_TOPIC}.')
            self._watch.poll()
            if self._watch.silence() < math.inf:
                self.failure = (
                    f'{self._watch.names()} publishes {TARGETS_TOPIC} already; expected no other policy node.'
                )
                return True
        return False

    def _tick(self, start: float) -> None:
        self._read()
        now_ns = self.get_clock().now().nanoseconds
        self._watch.poll()
        running = self._running()
        if not running:
            self._damp_asked = False
            self._latched = ''
            self._intruded &= self._watch.silence() < FOREIGN_SILENCE
        state, reason, sample, objects = self._gate(now_ns)
        if sample is None:
            self._refuse(state, reason, running)
            return
        # A driver that has only stopped reporting may be in RUN still: the history goes on.
        if self._driver_state != DriverStatus.RUN:
            self._controller.reset()
        try:
            targets = self._controller.step(sample, objects)
        except NonFiniteActionError as error:
            self._latched = str(error)
            self._controller.reset()
            self._refuse(PolicyStatus.FAILED, self._latched, running)
            return
        self._publish(targets)
        self._stats.ran(time.perf_counter() - start, self._controller.inference_s)
        if running:
            self._set_status(PolicyStatus.RUNNING, 'The driver runs this policy.')
        else:
            self._set_status(PolicyStatus.IDLE, 'Ready: the inputs are fresh, the driver is not in RUN.')

    def _read(self) -> None:
        if (raw := self._states.newest()) is not None:
            state = read_robot_state(raw)
            # A robot whose own counter stands still has stopped, however often its last state is
            # repeated.
            if self._state is None or state.tick != self._state.tick:
                self._state_age.seen(state.stamp.ns)
            self._state = state
        if self._roles and (raw := self._objects.newest()) is not None:
            self._seen = read_objects(raw)
            self._objects_age.seen(self._seen.stamp.ns)
        if (driver := self._driver.newest()) is not None:
            self._driver_state, self._driver_seen = driver.state, time.monotonic()

    def _running(self) -> bool:
        """Whether the driver is in RUN as far as is known; a driver that stopped reporting is not."""
        fresh = time.monotonic() - self._driver_seen < DRIVER_TIMEOUT
        return fresh and self._driver_state == DriverStatus.RUN

    def _gate(self, now_ns: int) -> tuple:
        """Return (status, reason, robot sample, objects sample); no robot sample: do not publish."""
        if self._watch.silence() < FOREIGN_SILENCE and not self._intruded:
            self._intruded, self._intruder = True, self._watch.names()
        if self._intruded:
            reason = f'Somebody else publishes {TARGETS_TOPIC}: {self._intruder}.'
            return PolicyStatus.FAILED, reason, None, None
        if self._latched:
            return PolicyStatus.FAILED, self._latched, None, None
        if self._state is None:
            return PolicyStatus.IDLE, 'No robot state yet.', None, None
        age = self._state_age.age(now_ns)
        if age > self._state_timeout:
            reason = f'The robot state is {_in_ms(age)} old; allowed are {_in_ms(self._state_timeout)}.'
            return PolicyStatus.WAITING, reason, None, None
        sample = self._state.sample
        if problem := inputs.robot_problem(sample):
            return PolicyStatus.WAITING, problem, None, None
        if not self._roles:
            return PolicyStatus.RUNNING, '', sample, None
        if self._seen is None:
            return PolicyStatus.WAITING, 'No objects yet: is the mocap bridge running?', None, None
        age = self._objects_age.age(now_ns)
        if age > self._objects_timeout:
            reason = f'The objects are {_in_ms(age)} old; allowed are {_in_ms(self._objects_timeout)}.'
            return PolicyStatus.WAITING, reason, None, None
        objects = inputs.objects_sample(self._seen, self._roles)
        if isinstance(objects, str):
            return PolicyStatus.WAITING, objects, None, None
        return PolicyStatus.RUNNING, '', sample, objects

    def _refuse(self, state: int, reason: str, running: bool) -> None:
        self._set_status(state, reason)
        if running and not self._damp_asked:
            self._damp_asked = True
            # Should this be lost: without targets the driver damps by itself.
            self._fault_publisher.publish(String(data=f'policy: {reason}'))
            self._publish_status()  # the reason must not wait for its turn
            self.get_logger().error(f'Asked the driver to damp: {reason}')

    def _publish(self, targets: object) -> None:
        message = self._message
        assert self._state is not None  # the targets answer it
        stamp = self._state.stamp
        message.header.stamp.sec, message.header.stamp.nanosec = stamp.sec, stamp.nanosec
        message.state_tick = self._state.tick
        self._sequence += 1
        message.sequence = self._sequence
        message.position[:] = targets
        self._watch.sending(message)
        self._targets_publisher.publish(message)

    # Status

    def _set_status(self, state: int, reason: str) -> None:
        self._status.state, self._status.reason = state, reason

    def _publish_status(self) -> None:
        status, now = self._status, self.get_clock().now()
        runtime = self._controller.runtime
        if self._intruded:  # discovery may tell the name later than the message came
            self._intruder = self._watch.names()
        status.header.stamp = now.to_msg()
        status.skill, status.mode = runtime.metadata.skill, runtime.metadata.mode
        status.model_sha256 = runtime.sha256
        status.ticks, status.late_ticks = self._stats.ticks, self._stats.late_ticks
        for name, value in self._stats.summary().items():
            setattr(status, name, value)
        status.state_age = self._state_age.age(now.nanoseconds)
        status.objects_age = self._objects_age.age(now.nanoseconds)
        status.sequence = self._sequence
        self._status_publisher.publish(status)


def _in_ms(seconds: float) -> str:
    return f'{seconds * 1e3:.0f} ms' if math.isfinite(seconds) else 'stamped in the future or never'


def main() -> int:
    """Run the policy node."""
    # The loop must not wait 5 ms for the executor's thread to give up the interpreter.
    sys.setswitchinterval(5e-4)
    return run_node(PolicyNode)


if __name__ == '__main__':
    sys.exit(main())
