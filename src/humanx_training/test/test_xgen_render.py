"""Pictures of a clip: which moments, what is in view, a film and a contact sheet of a short clip."""

import dataclasses
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from humanx.cli import main
from humanx_training.clip import Phase
from humanx_training.xgen.render import sheet_frames, view_of

sys.path.insert(0, str(Path(__file__).parent))
from clips_for_tests import standing


def struck(frames=300, at=200):
    clip = standing(frames)
    return dataclasses.replace(
        clip, phases=(Phase('flight', 0, at), Phase('contact', at, at + 2, 'foot'), Phase('flight', at + 2, frames))
    )


def test_a_sheet_shows_begin_end_and_every_contact_and_is_dense_around_it():
    index = sheet_frames(struck(), 12)
    assert index[0] == 0
    assert index[-1] == 299
    assert 200 in index
    assert (np.diff(index) > 0).all()
    assert ((index > 100) & (index < 300)).sum() >= 2 * (index <= 100).sum()
    assert len(sheet_frames(standing(5), 12)) <= 5


@pytest.mark.parametrize('place', [[1.2, 0.4, 0.2], [-0.5, 1.5, 1.9]])
def test_robot_and_object_are_in_view_and_what_is_far_away_is_left_out(place):
    fovy, aspect = 45.0, 4 / 3
    clip = standing(120)
    near = dataclasses.replace(clip, object_pos=np.tile(place, (120, 1)))
    far = dataclasses.replace(clip, object_pos=np.tile([9.0, 0.0, 0.2], (120, 1)))
    centre, distance = view_of(near, fovy, aspect)
    azimuth, elevation = np.deg2rad(130.0), np.deg2rad(-15.0)
    ahead = np.array([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)])
    right = np.array([np.sin(azimuth), -np.cos(azimuth), 0.0])
    for point in (np.array(place), clip.root_pos[0] + [0, 0, 0.5], clip.root_pos[0] - [0, 0, 0.7]):
        ray = point - (centre[60] - distance[60] * ahead)
        depth = ray @ ahead
        tangent = np.tan(np.deg2rad(0.5 * fovy))
        assert abs(ray @ np.cross(right, ahead)) < depth * tangent
        assert abs(ray @ right) < depth * tangent * aspect
    assert view_of(far, fovy, aspect)[1].max() < distance[60]


@pytest.mark.slow
def test_a_film_and_a_sheet(tmp_path, capsys):
    file = standing(24).save(tmp_path / 'clip.npz')
    film, sheet = tmp_path / 'clip.mp4', tmp_path / 'clip.png'
    try:
        assert main(['clip', 'render', str(file), '-o', str(film), '--fps', '25']) == 0
        assert main(['clip', 'render', str(file), '-o', str(sheet)]) == 0
    except AssertionError:
        error = capsys.readouterr().err
        if 'no picture can be rendered' in error:
            pytest.skip(error)
        raise
    capture = cv2.VideoCapture(str(film))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(25)
    pictures = []
    while True:
        ok, picture = capture.read()
        if not ok:
            break
        pictures.append(picture.astype(int))
    assert len(pictures) == 6
    # Robot and ball are in it, and the ball moves.
    assert pictures[0][30:].std() > 15
    assert np.abs(pictures[0] - pictures[-1]).max() > 60
    image = cv2.imread(str(sheet))
    assert image.shape == (3 * 260, 4 * 320, 3)
    # The orange ball (BGR) is in the first tile and the time is written above it.
    tile = image[20:260, :320].astype(int)
    assert ((tile[..., 2] > 150) & (tile[..., 0] < 90)).sum() > 20
    assert (image[:20, :320] > 200).sum() > 30
    assert sorted(p.name for p in tmp_path.iterdir()) == ['clip.mp4', 'clip.npz', 'clip.png']


@pytest.mark.parametrize(
    ('out', 'more', 'said'),
    [
        ('a.gif', [], "ends in '.gif'; expected .mp4 or .png"),
        ('nowhere/a.mp4', [], 'its folder does not exist'),
        ('a.mp4', ['--fps', '0'], '--fps is 0; expected 1 to'),
    ],
)
def test_wrong_targets(tmp_path, capsys, out, more, said):
    file = standing(24).save(tmp_path / 'clip.npz')
    assert main(['clip', 'render', str(file), '-o', str(tmp_path / out), *more]) == 2
    assert said in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ['clip.npz']
