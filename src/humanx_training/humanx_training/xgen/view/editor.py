"""What the viewer edits: a recipe's contact times, object place and release, and the clip that follows from them.

No browser in here: every action is a method, so that it can be tested and scripted.
"""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from humanx_description.config import read_yaml
from humanx_description.errors import UserError
from humanx_description.skills import load_skill, skill_path
from humanx_training import rotation
from humanx_training.clip import InteractionClip
from humanx_training.xgen.check import Report, check
from humanx_training.xgen.plan import Infeasible, nominal
from humanx_training.xgen.recipe import Recipe
from humanx_training.xgen.run import Job, job_of, make
from humanx_training.xgen.stage import Stage


class Editor:
    """A clip being edited together with the recipe that makes it.

    ``clip`` is what is shown; ``reference`` (T, 36) is the pose before refinement, once it was synthesised here.
    """

    def __init__(self, clip: InteractionClip, path: Path, skill: str | None = None) -> None:
        self.clip, self.path = clip, Path(path)
        self.reference: np.ndarray | None = None
        self.skill = skill
        self._job: Job | None = None
        self._shown_offset: tuple[float, float, float] | None = None  # the recipe's, of which `clip` was made
        self.tools = tuple(o for o in load_skill(skill).objects if o.attached_to) if skill else ()
        self.stage = Stage(self.tools)

    @property
    def can_edit(self) -> bool:
        """Whether a skill file is known from which the clip can be made again."""
        return self.skill is not None

    @property
    def job(self) -> Job:
        """The skill's prepared sources (read and retargeted on first use, seconds)."""
        if self.skill is None:
            raise UserError(f'{self.path}: names no skill; expected --skill to edit it.')
        if self._job is None:
            self._job = job_of(load_skill(self.skill), str(skill_path(self.skill)), 0, self.path.parent)
        return self._job

    @property
    def recipe(self) -> Recipe:
        return self.job.recipe

    def _change(self, **fields: Any) -> None:
        self._job = replace(self.job, recipe=replace(self.recipe, **fields))

    def source_time(self, frame: int) -> float:
        """Return the time (s) in the source motion, as contacts count it, that the clip shows in ``frame``."""
        motion = self.job.motion
        # The clip may have a walk or a wait before the motion and a wait behind it; its legs are the motion's own.
        legs, shown = motion.joint_pos[:, :12], self.clip.joint_pos[:, :12]
        room = max(len(shown) - len(legs), 0)
        apart = [np.abs(shown[lead : lead + len(legs)] - legs[: len(shown)]).max() for lead in range(room + 1)]
        return (frame - int(np.argmin(apart)) - motion.clip_start) / motion.fps

    def move_boundary(self, contact: int, start: float | None = None, end: float | None = None) -> None:
        """Move a contact's begin or end (s of the source motion); raises :class:`UserError` when it is no interval."""
        contacts = list(self.recipe.contacts)
        if not 0 <= contact < len(contacts):
            raise UserError(f'contact {contact} does not exist; expected 0 to {len(contacts) - 1}.')
        old = contacts[contact]
        try:
            contacts[contact] = replace(
                old, start=old.start if start is None else start, end=old.end if end is None else end
            )
            self._change(contacts=tuple(contacts))
        except ValueError as error:
            raise UserError(str(error)) from None

    def place_object(self, world: np.ndarray, frame: int) -> None:
        """Move the contact path so that the object lies at ``world`` (3,) m where it is shown in ``frame``."""
        if self._shown_offset is None:
            self._shown_offset = self.recipe.offset
        delta = np.asarray(world, dtype=float) - self.clip.object_pos[frame]
        local = rotation.rotate_inverse(rotation.from_yaw(rotation.yaw(self.clip.root_quat[0])), delta)
        # From where the shown clip has it: placing it twice before making the clip again does not add up.
        x, y, z = (float(a + b) for a, b in zip(self._shown_offset, local))
        self._change(offset=(x, y, z))

    def set_release_velocity(self, velocity: tuple[float, float, float]) -> None:
        """Let the object leave with this velocity (m/s; x ahead, y left as the robot faces then, z up)."""
        x, y, z = velocity
        self._change(release=replace(self.recipe.release, kind='velocity', velocity=(float(x), float(y), float(z))))

    def release_velocity(self) -> np.ndarray | None:
        """Return the object's velocity (3,) m/s where the last contact ends, as the robot faces then (None: kept)."""
        found = self.release()
        return None if found is None else rotation.rotate_inverse(found[2], found[1])

    def release(self) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """Return where the last contact ends (None: it lasts): the object's place (3,) m and velocity (3,) m/s in the
        world, and the robot's heading (4,) then."""
        contacts = [p for p in self.clip.phases if p.kind == 'contact']
        if not contacts or contacts[-1].end >= self.clip.num_frames - 2:
            return None
        end, pos = contacts[-1].end, self.clip.object_pos
        heading = rotation.from_yaw(rotation.yaw(self.clip.root_quat[end - 1]))
        return pos[end - 1], (pos[end] - pos[end - 1]) * self.clip.fps, heading

    def resynthesise(self) -> str:
        """Make the clip again from the edited recipe; return what happened in a sentence (the clip stays if it
        cannot)."""
        job = self.job
        try:
            made = make(job, nominal(job.recipe, job.spec), self.stage)
        except Infeasible as error:
            return f'Not feasible: {error}.'
        self.clip = made.clip
        self.reference = made.motion.qpos()
        self._shown_offset = self.recipe.offset
        return f'Synthesised {self.clip.num_frames} frames; the clip passes its check.'

    def check(self) -> Report:
        """Check the clip as it is shown."""
        return check(self.clip, self.tools, stage=self.stage)

    def save_copy(self, path: Path) -> tuple[Path, Path | None]:
        """Write the clip and beside it the skill file that reproduces it; never over an existing file."""
        path = Path(path)
        written = path.with_suffix('.yaml')
        for target in (path, written):
            if target.exists():
                raise UserError(f'{target}: exists; expected a new name.')
        if self.skill is None or self._job is None:
            return self.clip.save(path), None
        source = read_yaml(skill_path(self.skill))
        source['name'] = path.stem
        source['xgen'] = self._section()
        self.clip.provenance = {**self.clip.provenance, 'skill': self.skill, 'skill_file': written.name}
        saved = self.clip.save(path)
        temporary = written.with_name(f'.{written.name}.{os.getpid()}.tmp')
        temporary.write_text(yaml.safe_dump(source, sort_keys=False, allow_unicode=True), encoding='utf-8')
        temporary.replace(written)
        return saved, written

    def _section(self) -> dict[str, Any]:
        """Return the edited recipe as a mapping; contact times back in seconds of the unslowed source."""
        section = asdict(self.recipe)
        for contact in section['contacts']:
            contact['start'] /= self.recipe.time_scale
            if contact['end'] is not None:
                contact['end'] /= self.recipe.time_scale
        return _plain(section)


def _plain(value: Any) -> Any:
    """Return lists for tuples, so that YAML has no Python tags."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, Path):
        return str(value)
    return value
