"""Opens recorded bags: finds the file, completes an unfinished one, and reads what is noted about the trial."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rosbags.highlevel import AnyReader, AnyReaderError
from rosbags.interfaces import Connection

from humanx_description.errors import UserError
from humanx_g1_driver.bag_recover import recover
from humanx_g1_driver.bag_types import typestore

SESSION_TOPIC = '/humanx/session'


@dataclass
class Session:
    """What a recorder notes about a trial: the newest of its session messages.

    ``parameters`` are those of every node, by node name; ``skill_yaml`` is the skill file as it was.
    """

    skill: str = ''
    skill_yaml: str = ''
    seed: int = 0
    mode: str = ''
    policy_file: str = ''
    policy_sha256: str = ''
    started: str = ''
    parameters: dict[str, dict[str, Any]] = field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps(vars(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> 'Session':
        known = cls().__dict__
        return cls(**{key: value for key, value in json.loads(text).items() if key in known})


def prepare(path: Path) -> tuple[Path, bool]:
    """Return the bag's folder, completed if its recorder was killed, and whether that was necessary."""
    if path.is_file() and path.suffix == '.mcap':
        path = path.parent
    if not path.is_dir():
        raise UserError(f'{path}: is not a folder; expected a bag (a folder with metadata.yaml and an MCAP file).')
    if (path / 'metadata.yaml').is_file():
        return path, False
    files = sorted(path.glob('*.mcap'))
    if len(files) != 1:
        raise UserError(f'{path}: holds {len(files)} MCAP files and no metadata.yaml; expected one recorded bag.')
    recover(path, files[0])
    return path, True


@contextmanager
def open_bag(path: Path) -> Iterator[AnyReader]:
    """Open a bag for reading; raises :class:`UserError` if it is none or is broken."""
    folder, _ = prepare(path)
    reader = AnyReader([folder], default_typestore=typestore())
    try:
        reader.open()
    except (AnyReaderError, OSError, ValueError, KeyError) as error:
        raise UserError(f'{folder}: cannot be read as a bag: {error}') from None
    try:
        yield reader
    finally:
        reader.close()


def connections(reader: AnyReader, topic: str) -> list[Connection]:
    """Return the connections of a topic."""
    return [connection for connection in reader.connections if connection.topic == topic]


def messages(reader: AnyReader, topic: str) -> Iterator[tuple[int, Any]]:
    """Yield the messages of a topic with their time of arrival (ns since 1970)."""
    wanted = connections(reader, topic)
    if not wanted:
        return
    for connection, stamp, data in reader.messages(connections=wanted):
        yield stamp, reader.deserialize(data, connection.msgtype)


def read_session(reader: AnyReader) -> Session:
    """Return what the recorder noted, completed by what the policy said of itself; empty for other people's bags."""
    session = Session()
    for _, message in messages(reader, SESSION_TOPIC):
        session = Session.from_json(message.data)
    for _, status in messages(reader, '/humanx/policy_status'):
        session.mode = session.mode or status.mode
        session.policy_sha256 = status.model_sha256 or session.policy_sha256
    return session
