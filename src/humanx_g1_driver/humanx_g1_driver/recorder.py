"""Process ``recorder``: every topic of the graph, its parameters and the trial's identity into one rosbag2 (MCAP).

Messages are taken as serialised bytes in batches, 50 times a second, straight from the middleware's queues with the
time at which it received them: an executor that wakes for each of 1,000 messages a second would cost ten times as much.
"""

import datetime
import hashlib
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rclpy
from rcl_interfaces.srv import GetParameters, ListParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import parameter_value_to_python
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from rclpy.signals import SignalHandlerOptions
from std_msgs.msg import String

from humanx_description import interrupts
from humanx_description.discovery import stay_on_this_machine
from humanx_description.errors import UserError
from humanx_description.ros.parameters import Param, declare
from humanx_description.ros.polling import PolledSubscription
from humanx_description.scheduling import raise_threads
from humanx_description.skills import load_skill, skill_path
from humanx_g1_driver.bag_read import SESSION_TOPIC, Session
from humanx_g1_driver.bag_write import BagWriter, check_new, qos
from humanx_g1_driver.message_class import message_class

POLL_S = 0.02
_QUEUE = 500  # messages; the fastest topic fills it in half a second


@dataclass(frozen=True)
class Topic:
    """A topic to record and how its publishers offer it."""

    name: str
    type: str
    reliable: bool = True
    latched: bool = False


TOPICS = (
    Topic('/humanx/objects', 'humanx_msgs/msg/ObjectStates', reliable=False),
    Topic('/humanx/joint_targets', 'humanx_msgs/msg/JointTargets'),
    Topic('/humanx/robot_state', 'humanx_msgs/msg/RobotState', reliable=False),
    Topic('/humanx/driver_status', 'humanx_msgs/msg/DriverStatus'),
    Topic('/humanx/policy_status', 'humanx_msgs/msg/PolicyStatus'),
    Topic('/humanx/g1_driver/fault', 'std_msgs/msg/String'),
    Topic('/humanx/sim/truth', 'humanx_msgs/msg/SimTruth'),
    Topic('/humanx/markers', 'visualization_msgs/msg/MarkerArray'),
    Topic('/mocap/rigid_bodies', 'mocap4r2_msgs/msg/RigidBodies', reliable=False),
    Topic('/joint_states', 'sensor_msgs/msg/JointState', reliable=False),
    Topic('/tf', 'tf2_msgs/msg/TFMessage'),
    Topic('/diagnostics', 'diagnostic_msgs/msg/DiagnosticArray'),
    Topic('/parameter_events', 'rcl_interfaces/msg/ParameterEvent'),
    Topic('/rosout', 'rcl_interfaces/msg/Log'),
)


PARAMS = (
    Param('directory', '', 'Folder of the bag: new, or empty.'),
    Param('skill', '', 'Skill of the trial: a name or a skill file.'),
    Param('seed', 0, 'Seed of the trial.', 0, 2**62),
    Param('policy_file', '', 'Policy file that runs, for its hash; may stay empty.'),
    Param('realtime_priority', 20, 'SCHED_FIFO priority of receiving, not of writing; 0 asks for none.', 0, 90),
)


class Recorder(Node):
    """Subscribes to everything and writes it down."""

    def __init__(self) -> None:
        super().__init__('recorder')
        values = declare(self, PARAMS)
        directory = values['directory']
        if not directory:
            raise UserError("recorder: parameter 'directory' is empty; expected a new folder for the bag.")
        self.directory = Path(directory)
        check_new(self.directory)
        self._session = _first_session(values['skill'], values['seed'], values['policy_file'])
        self._writer = BagWriter(self.directory)
        self._topics = []
        for topic in TOPICS:
            self._writer.add_topic(topic.name, topic.type, qos(reliable=topic.reliable, latched=topic.latched))
            subscription = PolledSubscription(self, message_class(topic.type), topic.name, _profile(topic), raw=True)
            self._topics.append((topic.name, subscription))
        self._writer.add_topic(SESSION_TOPIC, 'std_msgs/msg/String', qos(latched=True, depth=1))
        self._note_session()
        # A message's time of arrival is taken by the middleware's threads; this one, which writes, can wait.
        policy, parameter = os.sched_getscheduler(0), os.sched_getparam(0)
        raise_threads(values['realtime_priority'])
        os.sched_setscheduler(0, policy, parameter)
        self._asked: set[str] = set()
        self.create_timer(1.0, self._ask_parameters)

    # --- messages ---

    def poll(self) -> None:
        """Write down what has arrived, in the order of arrival over all topics."""
        batch = []
        for name, subscription in self._topics:
            batch += [(received_ns or time.time_ns(), name, data) for data, received_ns in subscription.all_received()]
        batch.sort(key=lambda entry: entry[0])
        for stamp, name, data in batch:
            self._writer.write(name, stamp, data)
        self._writer.flush_if_due()

    def finish(self) -> int:
        """Close the bag; return how many messages it holds."""
        self._writer.note('session', self._session.to_json())
        self._writer.close()
        return self._writer.messages

    # --- what the trial is ---

    def _note_session(self) -> None:
        data = serialize_message(String(data=self._session.to_json()))
        self._writer.write(SESSION_TOPIC, time.time_ns(), data)

    def _ask_parameters(self) -> None:
        """Ask every node of the graph that has not been asked yet for its parameters."""
        for name, namespace in self.get_node_names_and_namespaces():
            full = f'{namespace.rstrip("/")}/{name}'
            if name != self.get_name() and full not in self._asked and not name.startswith('_'):
                client = self.create_client(ListParameters, f'{full}/list_parameters')
                if not client.service_is_ready():
                    self.destroy_client(client)
                    continue
                self._asked.add(full)
                future = client.call_async(ListParameters.Request())
                future.add_done_callback(lambda done, full=full: self._ask_values(full, done))

    def _ask_values(self, node: str, done: Any) -> None:
        names = list(done.result().result.names)
        client = self.create_client(GetParameters, f'{node}/get_parameters')
        future = client.call_async(GetParameters.Request(names=names))
        future.add_done_callback(lambda done: self._keep_values(node, names, done))

    def _keep_values(self, node: str, names: list[str], done: Any) -> None:
        values = [_plain(parameter_value_to_python(value)) for value in done.result().values]
        self._session.parameters[node] = dict(zip(names, values))
        self._note_session()


def _profile(topic: Topic) -> QoSProfile:
    # Best effort hears reliable and best-effort publishers alike; on this machine nothing gets lost below a full queue.
    reliability = ReliabilityPolicy.RELIABLE if topic.reliable else ReliabilityPolicy.BEST_EFFORT
    durability = DurabilityPolicy.TRANSIENT_LOCAL if topic.latched else DurabilityPolicy.VOLATILE
    return QoSProfile(depth=_QUEUE, reliability=reliability, durability=durability)


def _plain(value: Any) -> Any:
    """Return a parameter's value as JSON can hold it."""
    if isinstance(value, bool | int | float | str) or value is None:
        return value
    if isinstance(value, bytes):
        return value.hex()
    return [_plain(item) for item in value]


def _first_session(skill: str, seed: int, policy_file: str) -> Session:
    session = Session(skill=skill, seed=seed, policy_file=policy_file)
    session.started = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='milliseconds')
    if skill:
        session.skill = load_skill(skill).name
        session.skill_yaml = skill_path(skill).read_text(encoding='utf-8')
    if policy_file:
        try:
            session.policy_sha256 = hashlib.sha256(Path(policy_file).read_bytes()).hexdigest()
        except OSError as error:
            raise UserError(f'recorder: policy_file {policy_file} cannot be read ({error.strerror}).') from None
    return session


def main() -> int:
    """Record until interrupted; returns 2 for bad parameters, 1 if writing failed."""
    stay_on_this_machine()
    try:
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    except Exception as error:  # rclpy names no common base for what a bad YAML file or argument raises
        print(f'The ROS arguments are wrong: {str(error).splitlines()[0]}', file=sys.stderr)
        return 2
    stop = interrupts.StopRequest()
    recorder = None
    try:
        recorder = Recorder()
        executor = SingleThreadedExecutor()
        executor.add_node(recorder)
        recorder.get_logger().info(f'recording to {recorder.directory}')
        while not stop():
            time.sleep(POLL_S)
            recorder.poll()
            executor.spin_once(timeout_sec=0.0)
        recorder.poll()
        count = recorder.finish()
        print(f'recorded {count} messages to {recorder.directory}', flush=True)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        where = recorder.directory if recorder else 'the bag'
        print(f'recorder: writing {where} failed ({error.strerror}).', file=sys.stderr)
        return 1
    finally:
        rclpy.try_shutdown()
    return 0


if __name__ == '__main__':
    sys.exit(main())
