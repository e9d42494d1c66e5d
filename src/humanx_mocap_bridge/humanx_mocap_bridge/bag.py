"""Replay of recorded motion capture from a rosbag2 (MCAP or sqlite3), with its original timing."""

import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from humanx_description.errors import UserError
from humanx_mocap_bridge.estimator import SourceFrame
from humanx_mocap_bridge.sources import group_poses, pose_array, rigid_bodies_frame, seconds

RIGID_BODIES = 'mocap4r2_msgs/msg/RigidBodies'
POSE = 'geometry_msgs/msg/PoseStamped'


class BagSource:
    """Frames of a bag, restamped to now: the first frame is captured when replay starts.

    A reader thread stays at most a few hundred messages ahead, so a long bag needs no memory. After
    the last frame nothing comes any more, and the bodies are reported as lost; ``loop`` begins
    again instead.
    """

    def __init__(
        self,
        path: Path,
        topic: str,
        pattern: str,
        *,
        rate: float = 1.0,
        loop: bool = False,
        by_arrival: bool = False,
    ) -> None:
        """Open ``path``: ``topic`` of RigidBodies if it is in the bag, else PoseStamped topics by
        ``pattern``.

        Raises :class:`UserError` where the bag cannot be read or holds neither.
        """
        self._path, self._rate, self._loop = path, rate, loop
        self._by_arrival = by_arrival
        self._pattern = pattern
        self._rigid = self._find(topic)
        self._queue: queue.Queue = queue.Queue(maxsize=512)
        self._next: tuple[float, float, Any, str] | None = None  # recorded, captured (s), message, body
        self._start: float | None = None
        self._first: float | None = None
        self._stop = threading.Event()
        self._failure = ''
        self._thread = threading.Thread(target=self._read, name='bag reader', daemon=True)
        self._thread.start()

    def _reader(self) -> Any:
        from rosbags.highlevel import AnyReader
        from rosbags.typesys import Stores, get_typestore

        return AnyReader([self._path], default_typestore=get_typestore(Stores.ROS2_JAZZY))

    def _find(self, topic: str) -> str | None:
        try:
            with self._reader() as reader:
                types = {c.topic: c.msgtype for c in reader.connections}
        except Exception as error:  # whatever a broken bag makes the reader raise
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(f'{self._path}: is no bag that can be read ({reason}).') from None
        if types.get(topic) == RIGID_BODIES:
            return topic
        if any(t == POSE and self._body(name) for name, t in types.items()):
            return None
        raise UserError(f'{self._path}: holds neither {topic} ({RIGID_BODIES}) nor topics {self._pattern} ({POSE}).')

    def _body(self, topic: str) -> str:
        """Return the body's name in a topic of the pattern, empty for another topic."""
        before, _, after = self._pattern.partition('{name}')
        if topic.startswith(before) and topic.endswith(after) and len(topic) > len(before + after):
            return topic[len(before) : len(topic) - len(after)]
        return ''

    def _read(self) -> None:
        """Put (recording time, capture time, message, body) on the queue; None marks the end of one pass."""
        try:
            while not self._stop.is_set():
                for item in self._messages():
                    if not self._put(item):
                        return
                if not self._put(None) or not self._loop:
                    return
        except Exception as error:
            self._failure = f'{self._path}: {error!r}'
            self._put(None)

    def _put(self, item: Any) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def _messages(self) -> Iterator[tuple[float, float, Any, str]]:
        with self._reader() as reader:
            wanted = [c for c in reader.connections if (c.topic == self._rigid if self._rigid else c.msgtype == POSE)]
            for connection, recorded_ns, raw in reader.messages(connections=wanted):
                body = '' if self._rigid else self._body(connection.topic)
                if not self._rigid and not body:
                    continue
                message = reader.deserialize(raw, connection.msgtype)
                yield recorded_ns * 1e-9, seconds(message.header.stamp), message, body

    def poll(self, now: float) -> list[SourceFrame]:
        """Return the frames whose time has come. Raises ``RuntimeError`` where reading failed."""
        if self._failure:
            raise RuntimeError(self._failure)
        frames, poses = [], []
        while True:
            if self._next is None:
                try:
                    self._next = self._queue.get_nowait()
                except queue.Empty:
                    break
                if self._next is None:  # end of a pass: the next one starts now
                    self._start = self._first = None
                    break
            recorded, captured, message, body = self._next
            if self._first is None or self._start is None:
                self._first, self._start = recorded, now
            if (recorded - self._first) / self._rate > now - self._start:
                break
            self._next = None
            # The latency that the recording saw is kept, unless its stamps are not to be trusted.
            latency = 0.0 if self._by_arrival else recorded - captured
            time = self._start + (recorded - self._first) / self._rate - latency
            if body:
                poses.append((time, body, pose_array(message.pose)))
            else:
                frames.append(rigid_bodies_frame(message, time))
        return frames + group_poses(poses)

    def close(self) -> None:
        """Stop reading."""
        self._stop.set()
        self._thread.join(timeout=2.0)
