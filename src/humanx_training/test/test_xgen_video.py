"""Video extraction: bridging, smoothing, odometry and people without a video; a real video where the data are."""

from __future__ import annotations

import numpy as np
import pytest

from humanx_description.errors import UserError
from humanx_training.xgen.extract import people
from humanx_training.xgen.extract.landmarks import constant_bones, motion_from_landmarks
from humanx_training.xgen.extract.smoothing import smooth_points
from humanx_training.xgen.extract.video import bridge, extract_video, longest_part
from humanx_training.xgen.human_motion import JOINT, PARENTS


# Landmarks ------------------------------------------------------------------------------------------------------------
def standing_landmarks(frames=60, lean=0.0):
    """MediaPipe's world landmarks (camera axes: x right, y down, z away) of a person who faces the camera."""
    at = {
        7: (0.07, -0.62, -0.02), 8: (-0.07, -0.62, -0.02), 11: (0.17, -0.48, 0), 12: (-0.17, -0.48, 0),
        13: (0.2, -0.22, 0), 14: (-0.2, -0.22, 0), 15: (0.22, 0.02, 0), 16: (-0.22, 0.02, 0),
        17: (0.23, 0.1, 0.02), 18: (-0.23, 0.1, 0.02), 19: (0.23, 0.11, -0.03), 20: (-0.23, 0.11, -0.03),
        23: (0.1, 0, 0), 24: (-0.1, 0, 0), 25: (0.1, 0.4, 0), 26: (-0.1, 0.4, 0), 27: (0.1, 0.78, 0.02),
        28: (-0.1, 0.78, 0.02), 29: (0.1, 0.83, 0.06), 30: (-0.1, 0.83, 0.06), 31: (0.1, 0.84, -0.12),
        32: (-0.1, 0.84, -0.12),
    }  # fmt: skip
    one = np.zeros((33, 3))
    for index, xyz in at.items():
        one[index] = xyz
    c, s = np.cos(lean), np.sin(lean)
    one = one @ np.array([[1, 0, 0], [0, c, s], [0, -s, c]])
    return np.tile(one, (frames, 1, 1))


def test_a_standing_person_is_upright_on_the_floor_and_faces_the_camera():
    motion = motion_from_landmarks(standing_landmarks(), np.ones((60, 33)), 30.0, {})
    assert motion.joint('left_shoulder')[0, 0] > motion.joint('right_shoulder')[0, 0]
    assert motion.joint('left_foot')[0, 1] < motion.joint('left_ankle')[0, 1]  # towards the camera, at -y
    assert np.abs(motion.joint('left_foot')[:, 2] - 0.03).max() < 0.03
    assert motion.joint('head')[0, 2] > 1.3
    assert np.ptp(motion.joint('pelvis'), axis=0).max() < 1e-6


def test_a_pitched_camera_is_levelled():
    motion = motion_from_landmarks(standing_landmarks(lean=0.25), np.ones((60, 33)), 30.0, {})
    up = motion.joint('neck')[0] - 0.5 * (motion.joint('left_ankle')[0] + motion.joint('right_ankle')[0])
    assert np.hypot(up[0], up[1]) / up[2] < 0.02
    assert abs(motion.provenance['camera_pitch_deg']) == pytest.approx(np.rad2deg(0.25), abs=3)


def test_a_walk_in_place_of_hip_centred_landmarks_becomes_a_path():
    """The right foot stands while everything else moves: the hips travel as far as the foot moves under them."""
    marks = standing_landmarks(40)
    for frame, angle in enumerate(np.linspace(-0.3, 0.3, 40)):
        c, s = np.cos(angle), np.sin(angle)
        sideways = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
        for index in (26, 28, 30, 32):
            marks[frame, index] = marks[frame, 24] + sideways @ (marks[frame, index] - marks[frame, 24])
    c, s = np.cos(0.8), np.sin(0.8)
    forward = np.array([[1, 0, 0], [0, c, s], [0, -s, c]])  # the left leg is lifted towards the camera
    for index in (25, 27, 29, 31):
        marks[:, index] = marks[:, 23] + (marks[:, index] - marks[:, 23]) @ forward.T
    motion = motion_from_landmarks(marks, np.ones((40, 33)), 30.0, {})
    travel = marks[0, 28, 0] - marks[-1, 28, 0]
    assert travel > 0.4
    moved = motion.joint('pelvis')[-1] - motion.joint('pelvis')[0]
    assert moved[0] == pytest.approx(travel, rel=0.12)
    foot = motion.joint('right_foot')
    assert np.linalg.norm(foot[-1] - foot[0]) < 0.08


def test_bones_become_constant():
    rng = np.random.default_rng(0)
    pos = np.cumsum(rng.normal(size=(1, 24, 3)), axis=1) + rng.normal(scale=0.02, size=(50, 24, 3))
    fixed = constant_bones(pos)
    for joint, parent in enumerate(PARENTS):
        if parent >= 0:
            assert np.linalg.norm(fixed[:, joint] - fixed[:, parent], axis=1).std() < 1e-9
    left = np.linalg.norm(fixed[0, JOINT['left_knee']] - fixed[0, JOINT['left_hip']])
    right = np.linalg.norm(fixed[0, JOINT['right_knee']] - fixed[0, JOINT['right_hip']])
    assert left == pytest.approx(right)


def test_smoothing_calms_rest_and_keeps_a_strike():
    fps, time = 30.0, np.arange(90) / 30.0
    rng = np.random.default_rng(0)
    strike = 0.6 / (1 + np.exp(-(time - 1.5) * 25))  # 0.6 m in about 0.15 s, 3.75 m/s at its peak
    clean = np.stack([strike, np.zeros_like(time), np.zeros_like(time)], axis=1)[:, None]
    noisy = clean + rng.normal(scale=0.01, size=clean.shape)
    smooth = smooth_points(noisy, fps)
    rest = slice(3, 33)
    assert (smooth - clean)[rest].std() < 0.55 * (noisy - clean)[rest].std()

    def peak(path):
        return np.abs(np.diff(path[:, 0, 0])).max() * fps

    assert peak(smooth_points(clean, fps)) > 0.9 * peak(clean)
    assert abs(int(np.argmax(np.diff(smooth[:, 0, 0]))) - int(np.argmax(np.diff(clean[:, 0, 0])))) <= 1


# Lost frames ----------------------------------------------------------------------------------------------------------
def test_short_losses_are_bridged_and_marked():
    points = np.tile(np.linspace(0, 1, 20)[:, None, None], (1, 33, 3))
    holes = points.copy()
    holes[7:10] = np.nan
    sure = np.ones((20, 33))
    out, confidence = bridge(holes, sure)
    np.testing.assert_allclose(out, points, atol=1e-9)
    assert (confidence[7:10] < 0.5).all()
    assert (confidence[:7] == 1).all()


def test_a_long_loss_ends_the_motion():
    seen = np.ones(100, dtype=bool)
    seen[20:22] = False
    seen[40:60] = False
    assert longest_part('v', seen, 30.0) == (0, 40, 2)
    assert longest_part('v', np.r_[np.zeros(5, bool), seen[:40]], 30.0) == (5, 45, 2)


def test_nobody_is_an_error():
    with pytest.raises(UserError, match='a person is seen in 2 of 100 frames'):
        longest_part('v', np.arange(100) < 2, 30.0)


# People ---------------------------------------------------------------------------------------------------------------
def fake_finder(first, second):
    """Return a finder that sees ``first`` (left, top, right, bottom) unless it is painted over, then ``second``."""

    def find(image):
        for box in (first, second):
            height, width = image.shape[:2]
            centre = image[int((box[1] + box[3]) / 2 * height), int((box[0] + box[2]) / 2 * width)]
            if centre.max() > 200:
                marks = np.zeros((33, 4))
                marks[:, 0] = np.linspace(box[0], box[2], 33)
                marks[:, 1] = np.linspace(box[1], box[3], 33)
                marks[:, 3] = 1
                return marks
        return None

    return find


def picture(*boxes):
    image = np.zeros((100, 200, 3), dtype=np.uint8)
    for left, top, right, bottom in boxes:
        image[int(top * 100) : int(bottom * 100), int(left * 200) : int(right * 200)] = 255
    return image


def test_the_larger_of_two_is_kept_whoever_is_found_first():
    small, large = (0.1, 0.4, 0.2, 0.8), (0.6, 0.1, 0.8, 0.9)
    images = [picture(small, large)] * 3
    for first, second in ((small, large), (large, small)):
        survey = people.survey(images, [0, 10, 20], fake_finder(first, second))
        assert survey.two_people
        assert survey.larger[0].left == pytest.approx(0.6)
        assert survey.other_at(12).left == pytest.approx(0.1)


def test_a_distant_spectator_does_not_count():
    small, large = (0.1, 0.5, 0.15, 0.7), (0.6, 0.05, 0.8, 0.95)
    survey = people.survey([picture(small, large)], [0], fake_finder(large, small))
    assert not survey.two_people


# Files ----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize('content', [b'', b'this is no video'])
def test_files_that_are_no_video(tmp_path, content, capfd):
    path = tmp_path / 'a.mp4'
    path.write_bytes(content)
    with pytest.raises(UserError, match='expected') as error:
        extract_video(path)
    assert str(path) in str(error.value)


def write_video(path, images, fps=30):
    cv2 = pytest.importorskip('cv2')
    height, width = images[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), fps, (width, height))
    for image in images:
        writer.write(image)
    writer.release()
    return path


def test_a_video_without_a_person(tmp_path):
    pytest.importorskip('mediapipe')
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (120, 160, 3), dtype=np.uint8) for _ in range(14)]
    with pytest.raises(UserError, match='a person is seen in 0 of 14 frames'):
        extract_video(write_video(tmp_path / 'noise.mp4', images))


def test_a_video_that_is_too_short(tmp_path):
    pytest.importorskip('mediapipe')
    images = [np.zeros((120, 160, 3), dtype=np.uint8)] * 3
    with pytest.raises(UserError, match='holds 3 frames'):
        extract_video(write_video(tmp_path / 'short.mp4', images))


def read_frames(path, frames):
    cv2 = pytest.importorskip('cv2')
    capture = cv2.VideoCapture(str(path))
    out = []
    for frame in range(max(frames) + 1):
        _, image = capture.read()
        if frame in frames:
            out.append(image)
    return out


def test_two_real_people_and_lost_frames(data, tmp_path):
    """The player of the real video beside a copy of himself at 60 %; black frames in between."""
    pytest.importorskip('mediapipe')
    cv2 = pytest.importorskip('cv2')
    images = []
    for index, image in enumerate(read_frames(data / 'video/tennis.mp4', range(60, 84))):
        player = image[:, 60:460]
        small = cv2.resize(player, None, fx=0.6, fy=0.6)
        canvas = np.full((720, 700, 3), 110, dtype=np.uint8)
        canvas[:, 300:700] = player
        canvas[720 - small.shape[0] :, : small.shape[1]] = small
        images.append(np.zeros_like(canvas) if index in (10, 11) else canvas)
    motion = extract_video(write_video(tmp_path / 'two.mp4', images))
    assert motion.provenance['two_people']
    assert any('the larger one is followed' in note for note in motion.provenance['notes'])
    assert motion.num_frames == 24
    assert (motion.confidence[10:12, JOINT['left_knee']] < 0.5).all()
    leg = np.linalg.norm(motion.joint('left_hip') - motion.joint('left_knee'), axis=1)
    assert 0.3 < leg.mean() < 0.5
    assert motion.joint('head')[:, 2].min() > 1.2
