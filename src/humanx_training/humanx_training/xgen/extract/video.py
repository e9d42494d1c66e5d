"""A person's motion from a video with MediaPipe's pose model (inside its wheel: nothing is downloaded)."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.interpolate import PchipInterpolator

from humanx_description.errors import UserError
from humanx_training.xgen.extract import people
from humanx_training.xgen.extract.landmarks import motion_from_landmarks
from humanx_training.xgen.human_motion import HumanMotion

MIN_FRAMES = 10
MIN_SEEN = 0.3  # share of frames in which a person must be found
LONGEST_GAP = 0.5  # s; longer losses end the motion
BRIDGED_CONFIDENCE = 0.3


def extract_video(path: Path, complexity: int = 1) -> HumanMotion:
    """Follow the largest person of a video. ``complexity`` 0, 1 or 2: MediaPipe's model size (2 is slowest).

    Frames in which the person is lost are bridged up to half a second; the longest part without longer losses is
    returned. What was noticed (lost frames, a second person, the cut) is in the provenance's ``notes``.
    """
    path = Path(path)
    capture, fps, count = _open(path)
    cv2, pose_class = _libraries()
    found = _survey(path, cv2, pose_class, count)
    notes = []
    if found.two_people:
        notes.append('two people are in the picture; the larger one is followed')
    world, visibility = [], []
    with (
        _native_chatter_off(),
        pose_class(model_complexity=complexity, min_detection_confidence=0.5, min_tracking_confidence=0.5) as pose,
    ):
        frame = 0
        while True:
            ok, image = capture.read()
            if not ok:
                break
            other = found.other_at(frame) if found.two_people else None
            if other is not None:
                image = people.paint_over(image, other.grown(0.1))
            result = pose.process(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
            if result.pose_world_landmarks is None:
                world.append(np.full((33, 3), np.nan))
                visibility.append(np.zeros(33))
            else:
                marks = result.pose_world_landmarks.landmark
                world.append(np.array([[m.x, m.y, m.z] for m in marks]))
                visibility.append(np.array([m.visibility for m in marks]))
            frame += 1
    capture.release()
    if frame < MIN_FRAMES:
        raise UserError(f'{path}: holds {frame} frames; expected a video of at least {MIN_FRAMES}.')
    points, sure = np.array(world), np.array(visibility)
    start, stop, bridged = longest_part(path, ~np.isnan(points[:, 0, 0]), fps)
    if bridged:
        notes.append(f'{bridged} lost frames are bridged')
    if (start, stop) != (0, frame):
        notes.append(f'frames {start} to {stop - 1} of {frame} are used; elsewhere nobody is seen for too long')
    points, sure = bridge(points[start:stop], sure[start:stop])
    provenance = {
        'source': path.name,
        'format': 'video',
        'model': f'MediaPipe pose, complexity {complexity}',
        'frames': [start, stop],
        'lost_frames': bridged,
        'two_people': found.two_people,
        'notes': notes,
    }
    try:
        return motion_from_landmarks(points, sure, fps, provenance)
    except ValueError as error:
        raise UserError(f'{path}: {error}.') from None


def longest_part(path: Path, seen: np.ndarray, fps: float) -> tuple[int, int, int]:
    """Return start and stop of the longest part (T,) without long losses, and how many lost frames it holds."""
    if seen.mean() < MIN_SEEN or seen.sum() < MIN_FRAMES:
        raise UserError(
            f'{path}: a person is seen in {int(seen.sum())} of {len(seen)} frames; '
            'expected one whole person in most of them.'
        )
    known = np.flatnonzero(seen)
    cuts = np.flatnonzero(np.diff(known) > LONGEST_GAP * fps + 1)
    parts = np.split(known, cuts + 1)
    best = max(parts, key=lambda p: p[-1] - p[0])
    start, stop = int(best[0]), int(best[-1]) + 1
    if stop - start < MIN_FRAMES:
        raise UserError(
            f'{path}: a person is seen for {stop - start} frames at a stretch; expected at least {MIN_FRAMES}.'
        )
    return start, stop, int((~seen[start:stop]).sum())


def bridge(points: np.ndarray, sure: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fill lost frames of landmarks (T, 33, 3) along smooth paths and mark them as less certain (T, 33)."""
    seen = ~np.isnan(points[:, 0, 0])
    if seen.all():
        return points, sure
    at = np.arange(len(points))
    out, confidence = points.copy(), sure.copy()
    out[~seen] = PchipInterpolator(at[seen], points[seen], axis=0)(at[~seen])
    confidence[~seen] = BRIDGED_CONFIDENCE
    return out, confidence


def _open(path: Path):  # type: ignore[no-untyped-def]
    """Return the opened video, its frame rate and its number of frames."""
    if not path.is_file():
        raise UserError(f'{path}: does not exist; expected a video.')
    if path.stat().st_size == 0:
        raise UserError(f'{path}: is empty; expected a video.')
    cv2, _ = _libraries()
    capture = cv2.VideoCapture(str(path))
    ok, _image = capture.read()
    if not capture.isOpened() or not ok:
        raise UserError(f'{path}: cannot be read as a video; expected mp4, mov, avi, mkv or webm.')
    capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
    fps = float(capture.get(cv2.CAP_PROP_FPS))
    if not np.isfinite(fps) or not 5 <= fps <= 500:
        raise UserError(f'{path}: its frame rate is {fps:g}; expected 5 to 500 frames per second.')
    return capture, fps, int(capture.get(cv2.CAP_PROP_FRAME_COUNT))


@contextlib.contextmanager
def _native_chatter_off() -> Iterator[None]:
    """Send what native libraries write to standard error away: TensorFlow Lite greets there whatever its log level."""
    sys.stderr.flush()
    kept = os.dup(2)
    away = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(away, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(away)


def _libraries():  # type: ignore[no-untyped-def]
    """Import OpenCV and MediaPipe with their chatter off."""
    os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')
    os.environ.setdefault('OPENCV_LOG_LEVEL', 'ERROR')
    os.environ.setdefault('GLOG_minloglevel', '3')
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
    import cv2
    import mediapipe

    return cv2, mediapipe.solutions.pose.Pose


def _survey(path: Path, cv2, pose_class, count: int) -> people.Survey:  # type: ignore[no-untyped-def]
    """Look for one or two people in a few frames spread over the video."""
    wanted = sorted({int(f) for f in np.linspace(0, max(count - 1, 0), people.SAMPLES + 2)[1:-1]})
    capture = cv2.VideoCapture(str(path))
    images, frames = [], []
    for frame in wanted:
        capture.set(cv2.CAP_PROP_POS_FRAMES, frame)
        ok, image = capture.read()
        if ok:
            images.append(image)
            frames.append(frame)
    capture.release()
    with (
        _native_chatter_off(),
        pose_class(static_image_mode=True, model_complexity=1, min_detection_confidence=0.5) as pose,
    ):

        def find(image: np.ndarray) -> np.ndarray | None:
            result = pose.process(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
            if result.pose_landmarks is None:
                return None
            return np.array([[m.x, m.y, m.z, m.visibility] for m in result.pose_landmarks.landmark])

        return people.survey(images, frames, find)
