"""Raw bytes in and out of the SDK's DDS topics, past the binding's pure-Python serialisation.

``ddspy_write`` and ``ddspy_take`` are private to the binding (``cyclonedds`` is pinned to 0.10.2); they take and give
the CDR image. Topics carry the SDK's own types, so that type names and hashes match the robot's.
"""

import ctypes
import os
import socket
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cyclonedds._clayer import ddspy_take, ddspy_write
from cyclonedds.builtin import BuiltinDataReader, BuiltinTopicDcpsParticipant
from cyclonedds.core import DDSException, InstanceState, ReadCondition, SampleState, ViewState, WaitSet
from cyclonedds.domain import Domain, DomainParticipant
from cyclonedds.internal import DDS
from cyclonedds.pub import DataWriter
from cyclonedds.qos import Policy, Qos
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic

from humanx_description.errors import UserError
from humanx_g1_driver.network import check_interface
from humanx_g1_driver.sdk import cyclonedds_versions, refuse_wrong_cyclonedds

LEASE_S = 2.0  # a participant that died without a word is forgotten after this

_CONFIG = """<CycloneDDS><Domain Id="any">
<General><Interfaces><NetworkInterface name="{name}" priority="default" multicast="default"/></Interfaces></General>
<Discovery><LeaseDuration>{lease}s</LeaseDuration><MaxAutoParticipantIndex>31</MaxAutoParticipantIndex></Discovery>
<Tracing><Verbosity>none</Verbosity></Tracing>
</Domain></CycloneDDS>"""

_domains: dict[int, tuple[str, Domain]] = {}
_domains_lock = threading.Lock()


class DdsError(RuntimeError):
    """The DDS library refused an operation."""


def join(domain_id: int, network_interface: str) -> DomainParticipant:
    """Join a DDS domain on one network interface only.

    Raises :class:`UserError` if the interface cannot be used, if CycloneDDS is not 0.10.x on anything but loopback, or
    if this process already is in the domain on another interface.
    """
    if not 0 <= domain_id <= 232:
        raise UserError(f"dds_domain is {domain_id}; expected 0 (the robot's) to 232.")
    interface = check_interface(network_interface)
    if not interface.is_loopback:
        refuse_wrong_cyclonedds(cyclonedds_versions(), network_interface)
    with _domains_lock:
        if domain_id not in _domains:
            config = _CONFIG.format(name=interface.name, lease=LEASE_S)
            _domains[domain_id] = (interface.name, Domain(domain_id, config))
        joined = _domains[domain_id][0]
    if joined != interface.name:
        raise UserError(
            f'dds_domain {domain_id} is already open on {joined!r} in this process; expected {network_interface!r}.'
        )
    try:
        return DomainParticipant(domain_id)
    except DDSException as error:
        raise UserError(f'DDS domain {domain_id} on {network_interface!r} cannot be joined: {error}') from None


class RawWriter:
    """Writes wire images to one topic."""

    def __init__(self, participant: DomainParticipant, topic: Topic) -> None:
        self._writer = DataWriter(participant, topic)
        self._ref = self._writer._ref

    def write(self, data: memoryview | bytes) -> None:
        status = ddspy_write(self._ref, data)
        if status < 0:
            raise DdsError(f'writing to {self._writer.topic.name} failed with DDS code {status}')


class RawReader:
    """Takes the newest wire image of one topic; samples of this process's own participant are not seen."""

    def __init__(self, participant: DomainParticipant, topic: Topic) -> None:
        self._participant = participant
        self._reader = DataReader(participant, topic, Qos(Policy.IgnoreLocal.Participant, Policy.History.KeepLast(1)))
        self._ref = self._reader._ref
        self._waitset: WaitSet | None = None

    def take(self) -> tuple[bytes, int] | None:
        """Return the newest unread image and the handle of its writer, or None. Never blocks."""
        samples = ddspy_take(self._ref, 1)
        if not samples:
            return None
        if isinstance(samples, int):
            raise DdsError(f'taking from {self._reader._topic.name} failed with DDS code {samples}')
        data, info = samples[0]
        return (data, info.publication_handle) if info.valid_data else None

    def wait(self, timeout_s: float) -> bool:
        """Block, without holding the interpreter, until something can be taken; False after the timeout."""
        if self._waitset is None:
            self._waitset = WaitSet(self._participant)
            self._condition = ReadCondition(self._reader, SampleState.NotRead | ViewState.Any | InstanceState.Any)
            self._waitset.attach(self._condition)
        return self._waitset.wait(int(timeout_s * 1e9)) > 0

    def writers(self) -> list[int]:
        """Return the handles of the writers matched now, those of other participants only. A few microseconds."""
        count = _matched_publications(self._ref, _handles, len(_handles))
        return list(_handles[: min(max(count, 0), len(_handles))])


@dataclass(frozen=True)
class WriterIdentity:
    """Who writes a topic, as far as discovery tells."""

    handle: int
    hostname: str
    process: str
    pid: int
    addresses: str

    def is_dead(self) -> bool:
        """True for a process of this computer that no longer runs but has not yet been forgotten by discovery."""
        return self.hostname == socket.gethostname() and self.pid > 0 and not Path(f'/proc/{self.pid}').exists()

    def __str__(self) -> str:
        if not self.hostname and not self.pid:
            return f'an unnamed process at {self.addresses or "an unknown address"}'
        return f'{self.process or "a process"} (pid {self.pid}) on {self.hostname or self.addresses}'


def identify(participant: DomainParticipant, reader: RawReader, handle: int) -> WriterIdentity:
    """Return who is behind a writer's handle. Slow (allocates, parses): not for the control loop's thread."""
    unknown = WriterIdentity(handle, '', '', 0, '')
    pointer = _matched_publication_data(reader._ref, handle)
    if not pointer:
        return unknown
    try:
        key = bytes(pointer.contents.participant_key)
    finally:
        _free_endpoint(pointer)
    builtin = BuiltinDataReader(participant, BuiltinTopicDcpsParticipant)
    for sample in builtin.read(64):
        if sample.key.bytes == key:
            properties = {p.key: p.value for p in sample.qos if isinstance(p, Policy.Property)} if sample.qos else {}
            pid = properties.get('__Pid', '')
            return WriterIdentity(
                handle,
                properties.get('__Hostname', ''),
                properties.get('__ProcessName', ''),
                int(pid) if pid.isdigit() else 0,
                properties.get('__NetworkAddresses', ''),
            )
    return unknown


class _BuiltinEndpoint(ctypes.Structure):
    """``dds_builtintopic_endpoint_t``, its first members."""

    _fields_ = [('key', ctypes.c_uint8 * 16), ('participant_key', ctypes.c_uint8 * 16)]


_library: Any = DDS._dll_handle
_matched_publications = _library.dds_get_matched_publications
_matched_publications.argtypes = [ctypes.c_int32, ctypes.POINTER(ctypes.c_uint64), ctypes.c_size_t]
_matched_publications.restype = ctypes.c_int32
_matched_publication_data = _library.dds_get_matched_publication_data
_matched_publication_data.argtypes = [ctypes.c_int32, ctypes.c_uint64]
_matched_publication_data.restype = ctypes.POINTER(_BuiltinEndpoint)
_free_endpoint = _library.dds_builtintopic_free_endpoint
_free_endpoint.argtypes = [ctypes.POINTER(_BuiltinEndpoint)]
_free_endpoint.restype = None
_handles = (ctypes.c_uint64 * 16)()


def this_process() -> str:
    """Return how this process appears to others."""
    return f'pid {os.getpid()} on {socket.gethostname()}'
