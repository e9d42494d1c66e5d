"""``humanx train teacher --teacher mpc --with-object``: clips whose object does its part in physics.

Writes what the teacher of the body alone writes (:mod:`.track_command`), with the object in the clips: PPO takes them
as its clips, ``humanx train student --teacher mpc`` the folder as its teacher.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

from humanx_description.config import from_mapping
from humanx_description.errors import UserError
from humanx_description.skills import Skill, load_skill
from humanx_training.clip import InteractionClip
from humanx_training.xgen.check import check
from humanx_training.xmimic.config import parse_overrides
from humanx_training.xmimic.mpc import tracking
from humanx_training.xmimic.mpc.folders import REPORT, new_teacher
from humanx_training.xmimic.mpc.interaction import Interaction, InteractionSettings, solve
from humanx_training.xmimic.mpc.track_command import clip_files, deviation


def run_teacher(args: argparse.Namespace) -> int:
    """Make the clips of ``--clips`` feasible, object included; keep those whose object does what it should.

    Returns 1 where no clip's object does.
    """
    skill = load_skill(args.skill)
    if not args.clips:
        raise UserError('--clips is missing; expected clips with an object (from humanx xgen run) or their folder.')
    seed = args.seed or 0
    if seed < 0:
        raise UserError(f'--seed is {seed}; expected 0 or more.')
    files = clip_files(args.clips)
    clips = [InteractionClip.load(file) for file in files]
    settings = from_mapping(InteractionSettings, parse_overrides(args.set), '--set')
    out = new_teacher(args, skill.name)
    began = time.monotonic()
    entries = _earlier(out)
    for index, (file, clip) in enumerate(zip(files, clips, strict=True)):
        name = f'clip_{index:03d}.npz'
        if (out / 'clips' / name).exists():
            continue
        found = solve(clip, skill.success, str(file), settings, seed=seed, threads=args.threads)
        entry = {'clip': name, 'file': file.name, **describe(found)}
        print(json.dumps(entry), file=sys.stderr, flush=True)
        if found.reached:
            _save(out, name, found)
        entries[name] = entry
        _report(out, skill, entries, time.monotonic() - began)
    kept = sum(entry['reached'] for entry in entries.values())
    print(f'wrote {out}: the object does its part in {kept} of {len(entries)} feasible clips', file=sys.stderr)
    return 0 if kept else 1


def describe(found: Interaction) -> dict:
    """Return what was found: outcome, key bodies' and object's distance to the original (m), what the check says."""
    gap = np.linalg.norm(found.clip.object_pos - found.original_object, axis=1)
    return {
        'reached': found.reached, **found.measures, 'seconds': round(found.clip.duration, 2),
        **deviation(found.motion.qpos, found.original.qpos()),
        'object_mean_m': round(float(gap.mean()), 4), 'object_worst_m': round(float(gap.max()), 4),
        'feedback_repeats': found.repeats, 'steps': found.steps, 'problems': check(found.clip).problems,
    }  # fmt: skip


def _save(out: Path, name: str, found: Interaction) -> None:
    """Write motion, original and clip, the clip last: where it is, the others are."""
    for folder in ('clips', 'motions', 'originals'):
        (out / folder).mkdir(parents=True, exist_ok=True)
    tracking.save_feasible(out / 'motions' / name, found.motion)
    found.original.save(out / 'originals' / name)
    found.clip.save(out / 'clips' / name)


def _earlier(out: Path) -> dict[str, dict]:
    """Return the entries of an interrupted run by clip."""
    if not (out / REPORT).exists():
        return {}
    return {entry['clip']: entry for entry in json.loads((out / REPORT).read_text())['deviation_from_clip']}


def _report(out: Path, skill: Skill, entries: dict[str, dict], seconds: float) -> None:
    out.mkdir(parents=True, exist_ok=True)
    report = {'skill': skill.name, 'seconds': round(seconds, 1), 'deviation_from_clip': list(entries.values())}
    (out / REPORT).write_text(json.dumps(report, indent=2) + '\n')
