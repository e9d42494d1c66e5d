"""Bags: written, killed in the middle, completed, read by others."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('humanx_msgs', reason='the message packages are not built')
pytestmark = pytest.mark.ros

from rosbags.rosbag2 import Reader  # noqa: E402

from humanx_description.errors import UserError  # noqa: E402
from humanx_g1_driver.bag_info import describe  # noqa: E402
from humanx_g1_driver.bag_read import SESSION_TOPIC, Session, open_bag, prepare, read_session  # noqa: E402
from humanx_g1_driver.bag_types import typestore  # noqa: E402
from humanx_g1_driver.bag_write import BagWriter, qos  # noqa: E402

STRING = typestore().types['std_msgs/msg/String']


def text(value: str) -> bytes:
    return bytes(typestore().serialize_cdr(STRING(data=value), 'std_msgs/msg/String'))


def write(directory: Path, count: int = 10) -> BagWriter:
    writer = BagWriter(directory)
    writer.add_topic('/a', 'std_msgs/msg/String', qos())
    writer.add_topic(SESSION_TOPIC, 'std_msgs/msg/String', qos(latched=True))
    writer.add_topic('/silent', 'humanx_msgs/msg/SimTruth', qos())
    writer.write(SESSION_TOPIC, 1, text(Session(skill='stand', seed=7).to_json()))
    for index in range(count):
        writer.write('/a', 1000 + index, text(f'message {index}'))
    return writer


def read(directory: Path) -> list[str]:
    with open_bag(directory) as reader:
        return [reader.deserialize(data, c.msgtype).data for c, _, data in reader.messages() if c.topic == '/a']


def test_a_closed_bag_is_a_rosbag2_for_everybody(tmp_path: Path) -> None:
    write(tmp_path / 'bag').close()
    with Reader(tmp_path / 'bag') as reader:
        assert reader.message_count == 11
        assert {c.topic: c.msgtype for c in reader.connections}['/silent'] == 'humanx_msgs/msg/SimTruth'
        assert all(c.msgdef.data for c in reader.connections)
    assert read(tmp_path / 'bag') == [f'message {i}' for i in range(10)]
    with open_bag(tmp_path / 'bag') as reader:
        assert read_session(reader).seed == 7


def test_an_existing_folder_is_never_touched(tmp_path: Path) -> None:
    (tmp_path / 'bag').mkdir()
    (tmp_path / 'bag' / 'mine.txt').write_text('x')
    with pytest.raises(UserError, match='exists already'):
        BagWriter(tmp_path / 'bag')
    assert [p.name for p in (tmp_path / 'bag').iterdir()] == ['mine.txt']


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / 'bag').mkdir()
    write(tmp_path / 'bag').close()
    assert len(read(tmp_path / 'bag')) == 10


KILLED = """
import sys, time
from pathlib import Path
sys.path.insert(0, {test!r})
from test_bag_write import write, text
writer = write(Path({bag!r}), 500)
writer.flush()
for index in range(500, 600):
    writer.write('/a', 1000 + index, text(f'message {{index}}'))
print('written', flush=True)
time.sleep(60)
"""


def killed(bag: Path) -> subprocess.Popen:
    script = KILLED.format(test=str(Path(__file__).parent), bag=str(bag))
    process = subprocess.Popen([sys.executable, '-c', script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == 'written\n'
    return process


def test_a_killed_writer_leaves_all_that_was_flushed(tmp_path: Path) -> None:
    bag = tmp_path / 'bag'
    process = killed(bag)
    with pytest.raises(UserError, match='still being recorded'):
        prepare(bag)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    folder, recovered = prepare(bag)
    assert recovered
    assert read(folder) == [f'message {i}' for i in range(500)]
    with open_bag(folder) as reader:
        assert read_session(reader).skill == 'stand'
    assert any('killed' in line for line in describe_again(bag))
    # And it now is a whole rosbag2: the real reader opens it without help.
    with Reader(folder) as reader:
        assert reader.message_count == 501
    assert prepare(bag) == (folder, False)
    assert (bag / 'bag.mcap.unfinished').is_file()


def describe_again(bag: Path) -> list[str]:
    """Return what info says of the same bag unfinished once more."""
    twin = bag.with_name('twin')
    twin.mkdir()
    (twin / 'twin.mcap').write_bytes((bag / 'bag.mcap.unfinished').read_bytes())
    return describe(twin)


@pytest.mark.parametrize('share', [0.3, 0.6, 0.9, 0.999])
def test_a_file_cut_anywhere_gives_its_whole_chunks(tmp_path: Path, share: float) -> None:
    bag = tmp_path / 'bag'
    writer = BagWriter(bag)
    writer.add_topic('/a', 'std_msgs/msg/String', qos())
    for index in range(1000):
        writer.write('/a', index, text(f'message {index}'))
        if index % 50 == 49:
            writer.flush()
    writer.close()
    path = bag / 'bag.mcap'
    content = path.read_bytes()
    (bag / 'metadata.yaml').unlink()
    path.write_bytes(content[: int(len(content) * share)])
    got = read(bag)
    assert got == [f'message {i}' for i in range(len(got))]
    assert len(got) % 50 == 0
    assert len(got) >= 1000 * share * 0.8 - 50


def test_info_counts_rates_and_gaps(tmp_path: Path) -> None:
    writer = BagWriter(tmp_path / 'bag')
    writer.add_topic('/a', 'std_msgs/msg/String', qos())
    for stamp in np.cumsum([10**7] * 50 + [3 * 10**8] + [10**7] * 50):
        writer.write('/a', int(stamp), text('x'))
    writer.close()
    line = next(line for line in describe(tmp_path / 'bag') if '/a' in line and 'String' in line)
    assert '101' in line
    assert 'longest gap 300 ms' in line


@pytest.mark.parametrize('kind', ['missing', 'empty', 'garbage', 'two'])
def test_what_is_no_bag_is_refused_in_a_sentence(tmp_path: Path, kind: str) -> None:
    bag = tmp_path / 'bag'
    if kind != 'missing':
        bag.mkdir()
    if kind == 'garbage':
        (bag / 'bag.mcap').write_bytes(b'not a bag' * 100)
    if kind == 'two':
        (bag / 'a.mcap').touch()
        (bag / 'b.mcap').touch()
    with pytest.raises(UserError, match='expected'):
        prepare(bag)
    if kind == 'garbage':
        assert [p.name for p in bag.iterdir()] == ['bag.mcap']
