"""Figures of XGen: clip sets of all skills, physics, force closure, the captured ball, the video.

    python benchmarks/bench_xgen.py [--clips 50] [--skills football cargo] [--parts sets physics closure truth]

Needs the data folder (HUMANX_DATA). Prints one table per part. Retargeting has a benchmark of its own
(bench_retarget.py).
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from humanx_description.objects import ObjectSpec
from humanx_description.paths import data_dir
from humanx_description.skills import list_skills, load_skill
from humanx_training import rotation
from humanx_training.clip import InteractionClip
from humanx_training.xgen.check import check
from humanx_training.xgen.extract.detect import extract
from humanx_training.xgen.flight import GRAVITY, BodyState, World, arrive
from humanx_training.xgen.human_motion import JOINTS, HumanMotion
from humanx_training.xgen.run import run
from humanx_training.xgen.stage import Stage

BALL = ObjectSpec('ball', 'sphere', (0.12,), mass=0.6, restitution=0.76, rolling_rate=0.1)
UNIT = np.array([1.0, 0.0, 0.0, 0.0])


def clip_sets(skills: list[str], clips: int, out: Path) -> None:
    """Every skill's clip set: time, draws refused, what the check says of every file, force closure."""
    print(f'\n## Clip sets ({clips} clips per skill, {os.cpu_count()} cores)\n')
    print('| skill | seconds | sources, s | clips | pass check | draws refused | closure before -> after | '
          'gap, mm | penetration, mm | arrival, mm |')  # fmt: skip
    print('|---|---|---|---|---|---|---|---|---|---|')
    for name in skills:
        began = time.monotonic()
        try:
            manifest = run(name, out / name, clips=clips, progress=False)
        except Exception as error:  # one skill's failure is a row, not the end of the table
            print(f'| {name} | {time.monotonic() - began:.0f} | failed: {error} |')
            continue
        seconds = time.monotonic() - began
        tools = tuple(o for o in load_skill(name).objects if o.attached_to)
        stage = Stage(tools)
        files = sorted((out / name).glob('*.npz'))
        good = sum(check(InteractionClip.load(f), tools, stage=stage).good for f in files)
        rows = [c['measures'] for c in manifest['clips']]

        def worst(key: str, scale: float = 1000.0, rows: list = rows) -> str:
            values = [r[key] for r in rows if key in r]
            return f'{max(values) * scale:.1f}' if values else '-'

        before = [r['closure_before_mean'] for r in rows if 'closure_before_mean' in r]
        after = [r['closure_after_mean'] for r in rows if 'closure_after_mean' in r]
        closure = f'{np.mean(before):.3f} -> {np.mean(after):.3f}' if before else '-'
        print(
            f'| {name} | {seconds:.0f} | {manifest["seconds"]["sources_and_retargeting"]:.1f} | {len(files)} | '
            f'{good} | '
            f'{manifest["draws_refused"]} | {closure} | {worst("distance_after_mean")} | '
            f'{worst("penetration_after_max")} | {worst("arrival_error")} |',
            flush=True,
        )


def physics(draws: int = 40) -> None:
    """Energy in free flight; arrival of backward runs that are played forward."""
    world, rng = World(BALL), np.random.default_rng(0)
    drift = 0.0
    for _ in range(draws):
        start = BodyState(np.array([0, 0, rng.uniform(1, 2)]), UNIT, rng.uniform(-4, 4, 3) + [0, 0, 5], np.zeros(3))
        path = world.forward(start, 60, 100.0)
        up = path.pos[:, 2] > 0.13
        energy = GRAVITY * path.pos[:, 2] + 0.5 * (path.vel**2).sum(axis=1)
        drift = max(drift, float(np.abs(energy[up] / energy[0] - 1).max()))
    print('\n## Physics\n')
    print(f'energy drift in free flight, worst of {draws}: {drift:.3%}')
    shuttle = World(ObjectSpec('shuttle', 'shuttlecock', (0.085, 0.033), mass=0.0053, drag_length=4.6))
    for label, used, vertical, frames, roll in (
        ('flight', world, (-3, -1), 40, False),
        ('through a bounce', world, (1, 3), 80, False),
        ('rolling', world, (0, 0), 220, True),
        ('shuttlecock with drag', shuttle, (-5, -2), 60, False),
    ):
        errors = []
        for _ in range(draws // 2):
            velocity = np.array([-rng.uniform(1, 4), rng.uniform(-0.5, 0.5), rng.uniform(*vertical)])
            height = 0.12 if roll else rng.uniform(0.9, 1.3)
            spin = np.cross([0, 0, 1.0], velocity) / 0.12 if roll else np.zeros(3)
            end = BodyState(np.array([0.3, 0, height]), UNIT, velocity, spin)
            found = arrive(used, end, frames, 100.0, rolling=roll)
            again = used.forward(found.path.state(0), frames, 100.0)
            errors.append(np.linalg.norm((again.pos[-1] - end.pos)[: 2 if roll else 3]))
        print(f'backward, then played forward, {label}: worst {max(errors) * 1000:.2f} mm of {len(errors)}')


def truth() -> None:
    """The captured ball against the ball synthesised from the person's hands and the contact interval alone.

    The relative pose at the begin of each contact is given (as a skill file gives it); the rest follows: the ball keeps
    that
    pose to the hand's anchor; a flight between two contacts is solved from one to the next; after the last contact the
    ball leaves with the velocity that the hands gave it. Captured scale (a person's), 60 Hz.
    """
    print('\n## Truth: the captured ball\n')
    print(
        '| clip | contact frames | contact error, mean / max cm | flight frames | flight error, mean / end cm '
        '| release speed synthesised / captured m/s |'
    )
    print('|---|---|---|---|---|---|')
    contact_errors, flight_errors = [], []
    for path in sorted((data_dir() / 'ballplay').glob('*.pt')):
        motion = extract(path)
        assert motion.captured is not None
        ball, touching = motion.captured.pos, motion.captured.contact
        made, speeds = synthesise_ball(motion, touching)
        known = np.isfinite(made[:, 0])
        error = np.linalg.norm(made - ball, axis=1)
        held, free = known & touching, known & ~touching
        contact_errors += error[held].tolist()
        flight_errors += error[free].tolist()
        flight = f'{error[free].mean() * 100:.1f} / {error[free][-1] * 100:.1f}' if free.any() else '-'
        speed = f'{speeds[0]:.1f} / {speeds[1]:.1f}' if speeds else '-'
        print(
            f'| {path.stem} | {held.sum()} | {error[held].mean() * 100:.1f} / {error[held].max() * 100:.1f} | '
            f'{free.sum()} | '
            f'{flight} | {speed} |'
        )
    print(f'\nall: contact {np.mean(contact_errors) * 100:.1f} cm, flight {np.mean(flight_errors) * 100:.1f} cm (mean)')


def synthesise_ball(motion: HumanMotion, touching: np.ndarray) -> tuple[np.ndarray, tuple[float, float] | None]:
    """Return the synthesised ball (T, 3), NaN before the first contact, and release speeds (synthesised, captured)."""
    assert motion.captured is not None
    ball, fps = motion.captured.pos, motion.fps
    frames = len(ball)
    edges = np.flatnonzero(np.diff(np.r_[0, touching.astype(int), 0]))
    runs = [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2]) if b - a >= 4]
    world, out = World(BALL), np.full((frames, 3), np.nan)
    for number, (start, end) in enumerate(runs):
        anchor, quat = _anchor(motion, start, end)
        offset = rotation.rotate_inverse(quat[start], ball[start] - anchor[start])
        out[start:end] = anchor[start:end] + rotation.rotate(quat[start:end], offset)
        if number:
            before = runs[number - 1][1] - 1
            velocity = (out[before] - out[before - 2]) * fps / 2
            goal = BodyState(out[start], UNIT, np.zeros(3), np.zeros(3))
            guess = np.array([*((out[start] - out[before])[:2] * fps / (start - before)), min(velocity[2], -2.0)])
            found = arrive(world, goal, start - before + 1, fps, start_pos=out[before], guess=guess)
            out[before + 1 : start] = found.path.pos[1:-1]
    last = runs[-1][1] - 1
    if last >= frames - 3:
        return out, None
    velocity = (out[last] - out[last - 2]) * fps / 2
    path = world.forward(BodyState(out[last], UNIT, velocity, np.zeros(3)), frames - last, fps)
    out[last:] = path.pos
    captured = np.linalg.norm(ball[last + 2] - ball[last]) * fps / 2
    return out, (float(np.linalg.norm(velocity)), float(captured))


def _anchor(motion: HumanMotion, start: int, end: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the anchor's path: the midpoint of both hands where they are close all the time, else the nearer
    hand's."""
    assert motion.captured is not None
    left, right = motion.joint('left_hand'), motion.joint('right_hand')
    apart = np.linalg.norm(left - right, axis=1)[start:end]
    names = list(JOINTS)
    if apart.max() < 0.5:
        y = (left - right) / np.linalg.norm(left - right, axis=1, keepdims=True)
        x = np.cross(y, [0.0, 0.0, 1.0])
        x /= np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-6)
        matrix = np.stack([x, y, np.cross(x, y)], axis=2)
        from humanx_training.xgen.rotations import mat_to_quat

        return 0.5 * (left + right), rotation.continuous(mat_to_quat(matrix))
    ball = motion.captured.pos[start]
    side = 'left' if np.linalg.norm(left[start] - ball) < np.linalg.norm(right[start] - ball) else 'right'
    return motion.joint(f'{side}_hand'), motion.quat[:, names.index(f'{side}_wrist')]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--clips', type=int, default=50)
    parser.add_argument('--skills', nargs='*')
    parts = ['physics', 'truth', 'sets']
    parser.add_argument('--parts', nargs='*', default=parts, choices=parts)
    parser.add_argument('--out', type=Path, help='keep the clip sets here')
    args = parser.parse_args()
    if 'physics' in args.parts:
        physics()
    if 'truth' in args.parts:
        truth()
    if 'sets' in args.parts:
        skills = args.skills or [s for s in list_skills() if load_skill(s).xgen]
        with tempfile.TemporaryDirectory() as folder:
            clip_sets(skills, args.clips, args.out or Path(folder))


if __name__ == '__main__':
    main()
