"""The mocap bridge: whatever the source delivers in, ``objects`` out at a steady 100 Hz.

The loop runs in its own thread on absolute deadlines and reads its source itself, so that neither a
fast nor a silent source changes the rate of the output. Diagnostics once a second say what was lost
and why.
"""

import gc
import sys
import threading
from pathlib import Path

import rclpy
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data

from humanx_description.deadline import Deadlines
from humanx_description.errors import UserError
from humanx_description.ros.main import run_node
from humanx_description.ros.parameters import declare
from humanx_description.scheduling import raise_threads
from humanx_mocap_bridge.bag import BagSource
from humanx_mocap_bridge.config import PARAMS, make_estimator, parse_bodies
from humanx_mocap_bridge.estimator import Report
from humanx_mocap_bridge.sources import PoseStampedSource, RigidBodiesSource, Source
from humanx_mocap_bridge.track import Loss
from humanx_msgs.msg import ObjectState, ObjectStates

PERIOD = 0.01  # s


class MocapBridge(Node):
    """Asks a source every 10 ms and publishes what the estimator makes of it."""

    def __init__(self) -> None:
        self.failure = ''
        self._stop = threading.Event()
        self._reports: list[Report] = []
        self._late = 0
        self._ticks = 0
        super().__init__('mocap_bridge', namespace='humanx')
        try:
            self._start()
        except BaseException:
            self.close()
            self.destroy_node()
            raise

    def _start(self) -> None:
        values = declare(self, PARAMS)
        self._estimator = make_estimator(values)
        names = parse_bodies(values['bodies'])
        self._source = self._open_source(values, list(names.values()))
        self._message = ObjectStates()
        self._message.header.frame_id = 'world'
        self._message.objects = [ObjectState(name=role) for role in names]
        self._publisher = self.create_publisher(ObjectStates, 'objects', qos_profile_sensor_data)
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self.create_timer(1.0, self._publish_diagnostics)
        # Everything the node has is there by now; the loop's thread inherits.
        if refusal := raise_threads(values['realtime_priority']):
            self.get_logger().warning(refusal)
        self._thread = threading.Thread(target=self._loop, name='bridge loop', daemon=True)
        self._thread.start()

    def _open_source(self, values: dict, names: list[str]) -> Source:
        kind, by_arrival = values['source'], values['stamp'] == 'arrival'
        if kind == 'rigid_bodies':
            return RigidBodiesSource(self, values['topic'], by_arrival=by_arrival)
        if '{name}' not in values['pose_topic']:
            raise UserError(
                f"mocap_bridge: parameter 'pose_topic' is {values['pose_topic']!r}; expected a "
                'topic with {name} in it.'
            )
        if kind == 'pose_stamped':
            return PoseStampedSource(self, values['pose_topic'], names, by_arrival=by_arrival)
        path = Path(values['bag'])
        if not values['bag'] or not path.exists():
            raise UserError(f"mocap_bridge: parameter 'bag' is {values['bag']!r}; expected the path of a bag.")
        return BagSource(
            path,
            values['topic'],
            values['pose_topic'],
            rate=values['bag_rate'],
            loop=values['bag_loop'],
            by_arrival=by_arrival,
        )

    def close(self) -> None:
        """Stop the loop and the source."""
        self._stop.set()
        if hasattr(self, '_thread'):
            self._thread.join(timeout=1.0)
        if hasattr(self, '_source'):
            self._source.close()

    def _loop(self) -> None:
        try:
            gc.collect()
            gc.freeze()
            deadlines = Deadlines(PERIOD)
            while not self._stop.is_set():
                self._late += deadlines.wait() > 0.5 * PERIOD
                self._ticks += 1
                self._tick()
        except Exception as error:
            if not self._stop.is_set() and rclpy.ok():
                self.failure = f'The bridge loop broke: {error!r}.'
        finally:
            if self.failure:
                rclpy.try_shutdown()

    def _tick(self) -> None:
        stamp = self.get_clock().now()
        now = stamp.nanoseconds * 1e-9
        for frame in self._source.poll(now):
            self._estimator.frame(frame, now)
        self._reports = self._estimator.report(now)
        message = self._message
        message.header.stamp = stamp.to_msg()
        newest = self._estimator.newest
        if newest is not None:
            message.source_stamp = _to_stamp(newest.time)
            message.source_frame = newest.number
        for state, report in zip(message.objects, self._reports):
            _fill(state, report)
        self._publisher.publish(message)

    def _publish_diagnostics(self) -> None:
        counters = self._estimator.counters
        lost = [r for r in self._reports if not r.tracked]
        status = DiagnosticStatus(name='humanx: mocap bridge', hardware_id='mocap')
        if lost:
            status.level = DiagnosticStatus.WARN
            status.message = 'Lost: ' + ', '.join(f'{r.role} ({_words(r.loss)})' for r in lost)
        else:
            status.message = 'Every body is tracked.'
        values = {
            'frames': counters.frames,
            'frames too old or from the future': counters.stale,
            'frames with a stamp that did not advance': counters.repeated_stamps,
            'frames missing by number': counters.missing_numbers,
            'restarts of the source': counters.restarts,
            'bodies nobody asked for': ', '.join(sorted(counters.unknown_bodies)[:20]) or 'none',
            'ticks': self._ticks,
            'late ticks': self._late,
        }
        status.values = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)


def _words(loss: Loss) -> str:
    return loss.name.lower().replace('_', ' ')


def _to_stamp(time_s: float) -> Time:
    nanoseconds = max(round(time_s * 1e9), 0)
    return Time(sec=nanoseconds // 1_000_000_000, nanosec=nanoseconds % 1_000_000_000)


def _fill(state: ObjectState, report: Report) -> None:
    p, q = state.pose.position, state.pose.orientation
    p.x, p.y, p.z, q.w, q.x, q.y, q.z = report.pose.tolist()
    v, w = state.twist.linear, state.twist.angular
    v.x, v.y, v.z, w.x, w.y, w.z = report.twist.tolist()
    state.tracked = report.tracked
    state.age = report.age
    state.occlusion_frames = report.occlusion_frames
    state.loss = int(report.loss)


def main() -> int:
    """Run the mocap bridge."""
    sys.setswitchinterval(5e-4)  # the loop must not wait 5 ms for the executor's thread
    return run_node(MocapBridge)


if __name__ == '__main__':
    sys.exit(main())
