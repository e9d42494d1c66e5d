"""The HumanMotion file: what is written is read back, and nothing wrong is read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from humanx_description.errors import UserError
from humanx_training.xgen.human_motion import CapturedObject, load_human_motion, read_npz


def test_round_trip_keeps_everything(person, tmp_path):
    frames = person.num_frames
    quat = np.tile([1.0, 0, 0, 0], (frames, 1))
    ball = CapturedObject('ball', np.random.default_rng(0).normal(size=(frames, 3)), quat, np.arange(frames) > 5)
    motion = replace(person, captured=ball)
    motion.save(tmp_path / 'm.npz')
    back = load_human_motion(tmp_path / 'm.npz')
    np.testing.assert_allclose(back.pos, motion.pos, atol=1e-6)
    np.testing.assert_allclose(back.quat, motion.quat, atol=1e-6)
    np.testing.assert_allclose(back.captured.pos, ball.pos, atol=1e-6)
    assert back.captured.contact.tolist() == ball.contact.tolist()
    assert back.fps == motion.fps
    assert back.provenance == motion.provenance


def test_cut_cuts_the_object_too(person):
    quat = np.tile([1.0, 0, 0, 0], (person.num_frames, 1))
    ball = CapturedObject('ball', np.zeros((person.num_frames, 3)), quat, np.zeros(person.num_frames, bool))
    part = replace(person, captured=ball).cut(10, 20)
    assert part.num_frames == 10
    assert len(part.captured.pos) == 10


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        ({'fps': np.array(0.0)}, 'fps is 0'),
        ({'fps': np.array(np.nan)}, 'fps is nan'),
        ({'joint_names': np.array(['a'] * 24)}, 'joint_names differ'),
        ({'format': np.array('other')}, 'field format'),
        ({'format_version': np.array(99)}, 'format_version is 99'),
        ({'quat': None}, "field 'quat' is missing"),
        ({'confidence': np.zeros((3, 24))}, 'confidence has shape'),
        ({'object_pos': np.zeros((61, 3))}, "field 'object_name' is missing"),
    ],
)
def test_a_wrong_file_is_refused_with_field_and_expectation(person, tmp_path, change, said):
    path = tmp_path / 'm.npz'
    person.save(path)
    data = dict(np.load(path))
    for name, value in change.items():
        if value is None:
            del data[name]
        else:
            data[name] = value
    np.savez(path, **data)
    with pytest.raises(UserError, match=said) as error:
        load_human_motion(path)
    assert str(path) in str(error.value)


def test_nan_names_the_frame(person):
    pos = person.pos.copy()
    pos[17, 3, 1] = np.nan
    with pytest.raises(ValueError, match='pos is not finite in frame 17'):
        replace(person, pos=pos)


def test_pickled_arrays_are_never_unpickled(tmp_path):
    path = tmp_path / 'evil.npz'
    np.savez(path, poses=np.array([{'a': 1}], dtype=object))
    with pytest.raises(UserError, match="'poses' wants pickle"):
        read_npz(path, 'a motion')


@pytest.mark.parametrize('content', [b'', b'not an archive', b'PK\x03\x04 broken'])
def test_files_that_are_no_archives(tmp_path, content):
    path = tmp_path / 'm.npz'
    path.write_bytes(content)
    with pytest.raises(UserError, match='expected'):
        load_human_motion(path)


def test_a_failing_write_leaves_the_earlier_file(person, tmp_path, monkeypatch):
    path = tmp_path / 'm.npz'
    person.save(path)
    before = path.read_bytes()

    def broken(*_args, **_kwargs):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(np, 'savez_compressed', broken)
    with pytest.raises(UserError, match='cannot be written'):
        person.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ['m.npz']
