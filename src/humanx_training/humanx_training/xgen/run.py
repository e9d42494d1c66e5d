"""``humanx xgen run``: from a skill file to a checked clip set, on all cores."""

from __future__ import annotations

import json
import os
import shutil
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from humanx_description.errors import UserError
from humanx_description.objects import ObjectSpec
from humanx_description.skills import Skill, load_skill, skill_path
from humanx_training.xgen.check import check
from humanx_training.xgen.motion_edit import still_wrists
from humanx_training.xgen.plan import ClipPlan, Infeasible, draw, nominal
from humanx_training.xgen.recipe import ContactSpec, Recipe, recipe_of
from humanx_training.xgen.robot_motion import RobotMotion
from humanx_training.xgen.source_motion import robot_motion
from humanx_training.xgen.stage import Stage
from humanx_training.xgen.surface import Surface
from humanx_training.xgen.synthesise import Synthesis, synthesise
from humanx_training.xgen.tool_clearance import clear_tools

MAX_DRAWS = 30  # attempts per clip before the run gives up


@dataclass(frozen=True)
class Job:
    """Everything a worker needs; the same for all clips of a run."""

    recipe: Recipe
    spec: ObjectSpec
    tools: tuple[ObjectSpec, ...]
    spares: tuple[ObjectSpec, ...]
    motion: RobotMotion
    seed: int
    provenance: dict[str, Any]
    folder: Path


@dataclass
class Made:
    """One clip that was written, and the draws that were thrown away for it."""

    index: int
    file: str
    refused: list[str] = field(default_factory=list)
    measures: dict[str, float] = field(default_factory=dict)


def job_of(skill: Skill, where: str, seed: int, folder: Path) -> Job:
    """Prepare a run: read the sources, retarget them. Raises :class:`UserError`."""
    recipe = recipe_of(skill, where)
    main = skill.main_object
    assert main is not None
    tools = tuple(o for o in skill.objects if o.attached_to)
    main = _with_mesh(main, where)
    spares = tuple(_with_mesh(o, f'{where}: xgen: augment: replace') for o in recipe.augment.replace)
    # Names of anchors and bodies are checked before anything long begins.
    stage = Stage(tools)
    for number, contact in enumerate(recipe.contacts):
        try:
            stage.anchor(np.zeros((0, 36)), contact.anchor)
        except UserError as error:
            raise UserError(f'{where}: xgen: contacts[{number}]: {error}') from None
        for body in contact.bodies:
            if body not in stage.body_names:
                raise UserError(f'{where}: xgen: contacts: body {body!r} does not exist; expected a body of the robot.')
    motion = robot_motion(recipe)
    if recipe.still_wrists:
        motion = still_wrists(motion)
    motion = clear_tools(motion, stage)
    recipe = replace(recipe, contacts=tuple(_slowed(c, recipe.time_scale) for c in recipe.contacts))
    lasts = (motion.clip_stop - motion.clip_start) / motion.fps
    for number, contact in enumerate(recipe.contacts):
        if contact.start > lasts or (contact.end is not None and contact.end > lasts + 0.1):
            raise UserError(
                f'{where}: xgen: contacts[{number}] lasts from {contact.start} to {contact.end} s; expected it '
                f'inside the '
                f'source motion of {lasts:.2f} s.'
            )
    provenance = {
        'skill': skill.name,
        'skill_file': where,
        'sources': [asdict(s) for s in recipe.sources],
        'retarget': {'scale': motion.scale},
        'notes': motion.provenance.get('notes', []),
        'seed': seed,
    }
    return Job(recipe, main, tools, spares, motion, seed, provenance, folder)


def _with_mesh(spec: ObjectSpec, where: str) -> ObjectSpec:
    """Return an object whose mesh file is found (beside the skill file, if its path is relative) and sound."""
    if spec.mesh is None:
        return spec
    beside = Path(where.split(': ')[0]).parent / spec.mesh
    spec = replace(spec, mesh=(beside if beside.is_file() else spec.mesh).absolute())
    try:
        Surface.of(spec)
    except UserError as error:
        raise UserError(f'{where}: object {spec.name!r}: {error}') from None
    return spec


def _slowed(contact: ContactSpec, factor: float) -> ContactSpec:
    return replace(
        contact, start=contact.start * factor, end=None if contact.end is None else contact.end * factor
    )


def plan_of(job: Job, index: int, attempt: int) -> ClipPlan:
    """Return the plan of clip ``index``: 0 is the skill as written, the others are draws from the seed."""
    if index == 0 and attempt == 0:
        return nominal(job.recipe, job.spec)
    return draw(job.recipe, job.spec, np.random.default_rng([job.seed, index, attempt]), job.spares)


def make(job: Job, plan: ClipPlan, stage: Stage) -> Synthesis:
    """Synthesise and check one plan. Raises :class:`Infeasible` when the clip is bad."""
    motion = job.motion
    if plan.start_place is not None:
        from humanx_training.xgen.approach import approach

        motion = approach(motion, plan, stage)
    made = synthesise(motion, plan, job.tools, stage)
    report = check(made.clip, job.tools, stage=stage)
    if not report.good:
        raise Infeasible('the clip fails its check: ' + ' '.join(report.problems))
    refined = made.refined
    measures = {**report.measures, 'arrival_error': made.arrival_error, 'throw_velocity_change': made.velocity_change}
    if refined is not None:
        for name in ('closure', 'distance', 'penetration'):
            for when in ('before', 'after'):
                values = getattr(refined, f'{name}_{when}')
                if np.isfinite(values).any():
                    measures[f'{name}_{when}_max'] = float(np.nanmax(values))
                    measures[f'{name}_{when}_mean'] = float(np.nanmean(values))
    made.clip.provenance = {**job.provenance, 'draws': plan.draws, 'measures': measures}
    return made


_STAGES: dict[tuple[ObjectSpec, ...], Stage] = {}


def _work(job: Job, index: int) -> Made:
    stage = _STAGES.setdefault(job.tools, Stage(job.tools)) if job.tools not in _STAGES else _STAGES[job.tools]
    made = Made(index, f'clip_{index:03d}.npz')
    for attempt in range(MAX_DRAWS):
        try:
            result = make(job, plan_of(job, index, attempt), stage)
        except Infeasible as error:
            made.refused.append(str(error))
            continue
        result.clip.provenance['index'], result.clip.provenance['attempt'] = index, attempt
        result.clip.save(job.folder / made.file)
        made.measures = result.clip.provenance['measures']
        return made
    raise UserError(
        f'{job.provenance["skill_file"]}: xgen: no feasible clip in {MAX_DRAWS} draws for number {index}; the last '
        f'refusal: '
        f'{made.refused[-1]}'
    )


def run(
    skill_name: str | Path,
    out: Path,
    *,
    clips: int = 50,
    seed: int = 0,
    workers: int | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> dict[str, Any]:
    """Make ``clips`` clips of a skill in ``out`` and return the manifest, which is also written there.

    The set is made in a folder beside ``out`` and moved into place when it is complete: a run that fails leaves ``out``
    as it was. Raises :class:`UserError`.
    """
    if clips < 1:
        raise UserError(f'--clips is {clips}; expected at least 1.')
    if workers is not None and workers < 1:
        raise UserError(f'--workers is {workers}; expected at least 1.')
    if seed < 0:
        raise UserError(f'--seed is {seed}; expected 0 or more.')
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise UserError(f'{out}: is a file; expected a folder to make.')
    if out.is_dir() and any(out.iterdir()):
        if not overwrite:
            raise UserError(f'{out}: is not empty; expected a new folder (or --overwrite).')
        if not (out / 'manifest.json').is_file():
            raise UserError(f'{out}: is not a clip set (it has no manifest.json); it is not overwritten.')
    began = time.monotonic()
    skill = load_skill(skill_name)
    partial = out.with_name(f'.{out.name}.partial-{os.getpid()}')
    job = job_of(skill, str(skill_path(skill_name)), seed, partial)
    prepared = time.monotonic()
    partial.mkdir(parents=True)
    try:
        made = _make_all(job, clips, workers or os.cpu_count() or 1, progress)
        manifest = _manifest(job, made, seed, prepared - began, time.monotonic() - began)
        (partial / 'manifest.json').write_text(json.dumps(manifest, indent=1))
        if out.exists():
            shutil.rmtree(out)
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return manifest


def _make_all(job: Job, clips: int, workers: int, progress: bool) -> list[Made]:
    from tqdm import tqdm

    bar = tqdm(total=clips, desc=job.provenance['skill'], unit='clip', disable=not progress)
    made = []
    if workers == 1:
        for index in range(clips):
            made.append(_work(job, index))
            bar.update()
    else:
        with ProcessPoolExecutor(min(workers, clips)) as pool:
            futures = [pool.submit(_work, job, index) for index in range(clips)]
            try:
                for future in as_completed(futures):
                    made.append(future.result())
                    bar.set_postfix(redrawn=sum(len(m.refused) for m in made))
                    bar.update()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    bar.close()
    return sorted(made, key=lambda m: m.index)


def _manifest(job: Job, made: list[Made], seed: int, prepare: float, total: float) -> dict[str, Any]:
    from importlib.metadata import PackageNotFoundError, version

    def installed(name: str) -> str:
        try:
            return version(name)
        except PackageNotFoundError:
            return 'not installed'

    reasons: dict[str, int] = {}
    for clip in made:
        for reason in clip.refused:
            short = reason.split(';')[0]
            reasons[short] = reasons.get(short, 0) + 1
    return {
        'skill': job.provenance['skill'],
        'seed': seed,
        'sources': job.provenance['sources'],
        'notes': job.provenance['notes'],
        'clips': [asdict(m) for m in made],
        'draws_refused': sum(len(m.refused) for m in made),
        'refusals': reasons,
        'seconds': {'sources_and_retargeting': round(prepare, 2), 'total': round(total, 2)},
        'versions': {n: installed(n) for n in ('mujoco', 'numpy')},
    }
