"""Writes a rosbag2 (MCAP) that stays readable if the writer is killed.

``rosbags`` writes the format; what is added here is that every half second what came so far goes to the file as a chunk
of its own. A file without its end is completed by :mod:`humanx_g1_driver.bag_recover`.
"""

import fcntl
import time
from pathlib import Path
from typing import Any

from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.rosbag2.storage_mcap import McapWriter

from humanx_description.errors import UserError
from humanx_g1_driver.bag_types import typestore

FLUSH_PERIOD_S = 0.5
_ENDLESS = QosTime(2147483647, 4294967295)


def qos(*, reliable: bool = True, latched: bool = False, depth: int = 10) -> Qos:
    """Return how a topic was offered, as a bag notes it."""
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=depth,
        reliability=QosReliability.RELIABLE if reliable else QosReliability.BEST_EFFORT,
        durability=QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        deadline=_ENDLESS,
        lifespan=_ENDLESS,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=_ENDLESS,
        avoid_ros_namespace_conventions=False,
    )


def check_new(directory: Path) -> None:
    """Raise :class:`UserError` unless a bag can be written to ``directory``: new, or an empty folder."""
    if directory.is_dir() and not any(directory.iterdir()):
        return
    if directory.exists():
        raise UserError(f'{directory}: exists already; expected a new folder for the bag.')


class BagWriter:
    """One bag being written. Topics are added first, then messages as serialised CDR with their time of arrival."""

    def __init__(self, directory: Path) -> None:
        check_new(directory)
        if directory.is_dir():
            directory.rmdir()
        self._writer = Writer(directory, version=9, storage_plugin=StoragePlugin.MCAP)
        try:
            self._writer.open()
        except OSError as error:
            raise UserError(f'{directory}: cannot be written ({error.strerror}).') from None
        assert isinstance(self._writer.storage, McapWriter)
        self._storage = self._writer.storage
        # Whoever opens an unfinished bag can tell by this lock whether its writer still lives.
        fcntl.flock(self._storage.bio, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._connections: dict[str, Any] = {}
        self._flushed = time.monotonic()
        self.messages = 0

    def add_topic(self, topic: str, message_type: str, offered: Qos) -> None:
        """Announce a topic of a type such as ``std_msgs/msg/String``."""
        self._connections[topic] = self._writer.add_connection(
            topic, message_type, typestore=typestore(), offered_qos_profiles=[offered]
        )

    def write(self, topic: str, stamp_ns: int, data: bytes) -> None:
        """Add one message that arrived at ``stamp_ns`` (ns since 1970)."""
        self._writer.write(self._connections[topic], stamp_ns, data)
        self.messages += 1

    def note(self, key: str, value: str) -> None:
        """Put a note into the bag's ``metadata.yaml`` (written when the bag is closed)."""
        self._writer.set_custom_data(key, value)

    def flush_if_due(self) -> None:
        """Hand what came so far to the operating system if the last time was half a second ago."""
        now = time.monotonic()
        if now - self._flushed >= FLUSH_PERIOD_S:
            self._flushed = now
            self.flush()

    def flush(self) -> None:
        """Hand what came so far to the operating system: it survives the end of this process."""
        if self._storage.chunk.msgs:
            self._storage.close_chunk()
        self._storage.bio.flush()

    def close(self) -> None:
        """Write the index and ``metadata.yaml``."""
        self._writer.close()
