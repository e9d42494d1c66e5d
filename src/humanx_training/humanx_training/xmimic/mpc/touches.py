"""Where in a clip its object is touched, and the part of the clip around that."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from humanx_training.clip import InteractionClip, Phase

_STRIKE = 10  # frames at 100 Hz: a shorter touch is a strike, in which the object has no path to keep
_SHIFT = 20  # frames by which a touch may come earlier or later than planned


@dataclass(frozen=True)
class Touch:
    """One contact phase: frames ``start <= t < end``; ``free``: the object leaves afterwards."""

    start: int
    end: int
    free: bool

    @property
    def held(self) -> bool:
        """Whether it lasts, so that the object has a path to keep."""
        return self.end - self.start > _STRIKE


def touches(clip: InteractionClip) -> list[Touch]:
    """Return the contact phases of a clip at 100 Hz."""
    return [Touch(p.start, p.end, p.end < clip.num_frames) for p in clip.phases if p.kind == 'contact']


def set_free(clip: InteractionClip) -> int:
    """Return the first frame from which physics alone brings the object to its first touch: what a partner does to it
    before (holding, throwing) is the clip's."""
    before = [p for p in clip.phases if p.end <= touches(clip)[0].start]
    return before[-1].start if before and before[-1].kind == 'flight' else 0


def cut(clip: InteractionClip, first: int, last: int) -> InteractionClip:
    """Return frames ``first <= t < last`` of a clip."""
    part = slice(first, last)
    phases = tuple(
        Phase(p.kind, max(p.start, first) - first, min(p.end, last) - first, p.anchor)
        for p in clip.phases if p.start < last and p.end > first
    )  # fmt: skip
    return dataclasses.replace(
        clip, root_pos=clip.root_pos[part], root_quat=clip.root_quat[part], joint_pos=clip.joint_pos[part],
        object_pos=clip.object_pos[part], object_quat=clip.object_quat[part], contact=clip.contact[part],
        phases=phases,
    )  # fmt: skip


def around_touches(clip: InteractionClip, before: float | None, after: float | None) -> InteractionClip:
    """Return the clip from ``before`` s before its first touch to ``after`` s after its last one; None: all of it."""
    found = touches(clip)
    first = 0 if before is None else max(found[0].start - round(before * clip.fps), 0)
    last = clip.num_frames if after is None else min(found[-1].end + round(after * clip.fps), clip.num_frames)
    return cut(clip, first, last)


def measured_phases(phases: tuple[Phase, ...], touched: np.ndarray) -> tuple[Phase, ...]:
    """Return the phases with their contacts where ``touched`` (T,) has them; unchanged where that does not fit."""
    edges = [p.start for p in phases] + [len(touched)]
    for index, phase in enumerate(phases):
        if phase.kind != 'contact':
            continue
        low = max(phase.start - _SHIFT, 0)
        frames = np.flatnonzero(touched[low : phase.end + _SHIFT]) + low
        if not len(frames):
            return phases
        edges[index] = int(frames[0]) if index else 0
        if index + 1 < len(phases):
            edges[index + 1] = int(frames[-1]) + 1
    if any(b <= a for a, b in pairwise(edges)):
        return phases
    return tuple(dataclasses.replace(p, start=a, end=b) for p, (a, b) in zip(phases, pairwise(edges), strict=True))
