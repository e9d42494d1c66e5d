"""Who is in a video: one pass over a few frames finds the largest person and a second one, if there is any.

MediaPipe's pose solution follows one person. To see another, the first is painted over and the search is repeated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

SAMPLES = 9
MIN_SECOND = 0.4  # of the first person's height in pixels; smaller people are background
MIN_SHARE = 0.34  # of the samples in which somebody must be seen to count
VISIBLE = 0.5
# A guess on spectators: at least this mean visibility over shoulders and hips.
_TRUNK = (11, 12, 23, 24)


@dataclass(frozen=True)
class Box:
    """A person's bounding box in relative image coordinates (0..1)."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def height(self) -> float:
        return self.bottom - self.top

    def grown(self, share: float) -> Box:
        """Return the box with a margin of ``share`` of its size on every side."""
        dx, dy = share * (self.right - self.left), share * self.height
        return Box(max(0, self.left - dx), max(0, self.top - dy), min(1, self.right + dx), min(1, self.bottom + dy))


@dataclass(frozen=True)
class Survey:
    """What the samples showed: the larger person's boxes and the other's (None where not seen)."""

    frames: list[int]
    larger: list[Box | None]
    other: list[Box | None]

    @property
    def two_people(self) -> bool:
        return sum(b is not None for b in self.other) >= MIN_SHARE * len(self.frames)

    def other_at(self, frame: int) -> Box | None:
        """Return where the other person is in ``frame``, from the nearest sample in which they were seen."""
        seen = [(abs(f - frame), box) for f, box in zip(self.frames, self.other) if box is not None]
        return min(seen, key=lambda pair: pair[0])[1] if seen else None


def survey(images: list[np.ndarray], frames: list[int], find: Callable[[np.ndarray], np.ndarray | None]) -> Survey:
    """Look for two people in images (H, W, 3). ``find`` returns landmarks (33, 4: x, y, z, visibility) or None."""
    first: list[Box | None] = []
    second: list[Box | None] = []
    for image in images:
        box = _box(find(image))
        first.append(box)
        second.append(_box(find(paint_over(image, box.grown(0.15)))) if box is not None else None)
    # The detector's first answer need not be the larger person, and may change from sample to sample.
    larger, other = [], []
    for a, b in zip(first, second):
        if a is not None and b is not None and b.height > a.height:
            a, b = b, a
        larger.append(a)
        other.append(b if a is not None and b is not None and b.height >= MIN_SECOND * a.height else None)
    return Survey(frames, larger, other)


def paint_over(image: np.ndarray, box: Box) -> np.ndarray:
    """Return the image with a box filled with its border's mean colour."""
    out = image.copy()
    height, width = image.shape[:2]
    x0, x1 = int(box.left * width), int(np.ceil(box.right * width))
    y0, y1 = int(box.top * height), int(np.ceil(box.bottom * height))
    border = np.concatenate([image[y0:y1, max(x0 - 2, 0)], image[y0:y1, min(x1, width - 1)]])
    out[y0:y1, x0:x1] = border.mean(axis=0) if len(border) else 127
    return out


def _box(landmarks: np.ndarray | None) -> Box | None:
    if landmarks is None or landmarks[list(_TRUNK), 3].mean() < VISIBLE:
        return None
    seen = landmarks[landmarks[:, 3] > VISIBLE, :2]
    low, high = np.clip(seen.min(axis=0), 0, 1), np.clip(seen.max(axis=0), 0, 1)
    if (high - low).min() <= 0.01:
        return None
    return Box(float(low[0]), float(low[1]), float(high[0]), float(high[1]))
