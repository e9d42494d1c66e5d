"""Completes a bag whose recorder was killed: no index at the end of the file, no ``metadata.yaml``."""

import fcntl
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import lz4.frame
from backports import zstd
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from humanx_description.errors import UserError

_MAGIC = b'\x89MCAP0\r\n'
_HEADER, _FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK = 1, 2, 3, 4, 5, 6


@dataclass(frozen=True)
class _Channel:
    topic: str
    message_type: str
    definition: str


def is_being_written(path: Path) -> bool:
    """Tell whether a recorder of this computer still has the MCAP file open."""
    with path.open('rb') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def recover(directory: Path, path: Path) -> int:
    """Rewrite the MCAP file ``path`` of the bag ``directory`` with every complete chunk; return the message count.

    The new bag is made beside the old one and put in its place only when it is whole; the unfinished file stays beside
    it with the ending ``.unfinished``. Raises :class:`UserError` if the file holds no messages.
    """
    if is_being_written(path):
        raise UserError(f'{directory}: is still being recorded; expected a bag whose recorder has stopped.')
    messages, channels = _scan(path)
    if not messages:
        raise UserError(f'{path}: holds no complete chunk of messages; nothing can be recovered.')
    staging = directory.with_name(f'.{directory.name}.recovering-{os.getpid()}')
    store = get_typestore(Stores.ROS2_JAZZY)
    for channel in channels.values():
        store.register(_types(channel))
    inner = staging / directory.name
    writer = Writer(inner, version=9, storage_plugin=StoragePlugin.MCAP)
    writer.set_custom_data('recovered', 'true')
    try:
        with writer:
            connections = {
                key: writer.add_connection(c.topic, c.message_type, typestore=store) for key, c in channels.items()
            }
            for stamp, key, data in sorted(messages, key=lambda message: message[0]):
                writer.write(connections[key], stamp, data)
        made = inner / f'{directory.name}.mcap'
        os.replace(path, path.with_suffix('.mcap.unfinished'))
        os.replace(made, directory / made.name)
        os.replace(inner / 'metadata.yaml', directory / 'metadata.yaml')
    finally:
        for left in sorted(staging.rglob('*'), reverse=True):
            left.rmdir() if left.is_dir() else left.unlink()
        if staging.is_dir():
            staging.rmdir()
    return len(messages)


def _types(channel: _Channel) -> dict:
    """Return the types of a channel: its definition holds those it is made of after lines of ``=``."""
    first, *others = channel.definition.split('=' * 80 + '\n')
    types = dict(get_types_from_msg(first, channel.message_type))
    for other in others:
        name, text = other.split('\n', 1)
        package, kind = name.removeprefix('MSG: ').strip().split('/', 1)
        types.update(get_types_from_msg(text, f'{package}/msg/{kind.removeprefix("msg/")}'))
    return types


def _scan(path: Path) -> tuple[list[tuple[int, int, bytes]], dict[int, _Channel]]:
    """Return every message (stamp, channel, data) of the complete records, and the channels."""
    messages: list[tuple[int, int, bytes]] = []
    channels: dict[int, _Channel] = {}
    schemas: dict[int, tuple[str, str]] = {}
    with path.open('rb') as file:
        content = file.read()
    if not content.startswith(_MAGIC):
        raise UserError(f'{path}: does not begin as an MCAP file; expected a bag of rosbag2 (MCAP).')
    for kind, body in _records(content, len(_MAGIC)):
        if kind == _FOOTER:
            break
        inner = _records(_unpacked(body), 0) if kind == _CHUNK else [(kind, body)]
        for inner_kind, record in inner:
            if inner_kind == _SCHEMA:
                (key,) = struct.unpack_from('<H', record)
                name, at = _string(record, 2)
                _, at = _string(record, at)
                schemas[key] = (name, _string(record, at)[0])
            elif inner_kind == _CHANNEL:
                key, schema = struct.unpack_from('<HH', record)
                channels[key] = _Channel(_string(record, 4)[0], *schemas[schema])
            elif inner_kind == _MESSAGE:
                key, _, stamp, _ = struct.unpack_from('<HIQQ', record)
                messages.append((stamp, key, bytes(record[22:])))
    return messages, channels


def _records(content: bytes | memoryview, at: int) -> Iterator[tuple[int, memoryview]]:
    """Yield the complete records of a piece of MCAP; what is cut off at the end is left out."""
    view = memoryview(content)
    while at + 9 <= len(view):
        kind, size = struct.unpack_from('<BQ', view, at)
        if at + 9 + size > len(view):
            return
        yield kind, view[at + 9 : at + 9 + size]
        at += 9 + size


def _unpacked(chunk: memoryview) -> bytes | memoryview:
    compression, at = _string(chunk, 28)
    records = chunk[at + 8 :]
    if compression == 'zstd':
        return zstd.decompress(records)
    if compression == 'lz4':
        return lz4.frame.decompress(records)
    return records


def _string(record: memoryview, at: int) -> tuple[str, int]:
    (size,) = struct.unpack_from('<I', record, at)
    return bytes(record[at + 4 : at + 4 + size]).decode(), at + 4 + size
