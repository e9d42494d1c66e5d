"""Figures of XGen: clip sets of all skills, physics, force closure, the captured ball, the video.

    OMP_NUM_THREADS=1 python benchmarks/bench_xgen.py [--clips 50] [--skills football cargo]
                                                      [--parts sets physics closure truth]

Needs the data folder (HUMANX_DATA). Prints one table per part. Retargeting has a benchmark of its own
(bench_retarget.py).
"""

from __future__ import annotations

import argparse
import os
import resource
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
from humanx_training.xgen.contact_path import end_velocity
from humanx_training.xgen.extract.detect import extract
from humanx_training.xgen.flight import GRAVITY, BodyState, World, arrive, launch_velocity
from humanx_training.xgen.human_motion import JOINTS, HumanMotion
from humanx_training.xgen.rotations import mat_to_quat
from humanx_training.xgen.run import run
from humanx_training.xgen.stage import Stage

BALL = ObjectSpec('ball', 'sphere', (0.12,), mass=0.6, restitution=0.76, rolling_rate=0.1)
UNIT = np.array([1.0, 0.0, 0.0, 0.0])


def cpu_seconds() -> float:
    """Return the CPU time of this process and of its workers that have ended."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def clip_sets(skills: list[str], clips: int, out: Path) -> None:
    """Every skill's clip set: time (on the clock, and of CPU, which a busy machine stretches less), draws refused,
    what the check says of every file, force closure."""
    print(f'\n## Clip sets ({clips} clips per skill, {os.cpu_count()} cores)\n')
    print('| skill | seconds | CPU s | sources, s | clips | pass check | draws refused | closure before -> after | '
          'gap, mm | penetration, mm | arrival, mm |')  # fmt: skip
    print('|---|---|---|---|---|---|---|---|---|---|---|')
    for name in skills:
        began, used = time.monotonic(), cpu_seconds()
        try:
            manifest = run(name, out / name, clips=clips, progress=False)
        except Exception as error:  # one skill's failure is a row, not the end of the table
            print(f'| {name} | {time.monotonic() - began:.0f} | failed: {error} |')
            continue
        seconds, used = time.monotonic() - began, cpu_seconds() - used
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
            f'| {name} | {seconds:.0f} | {used:.0f} | {manifest["seconds"]["sources_and_retargeting"]:.1f} | '
            f'{len(files)} | '
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
    """The captured ball against the ball synthesised from the person's hands and the contacts alone.

    Given, as a skill file gives it: which hand, or both, has the ball when (near: within 20 cm of the hand's middle;
    the file's own label goes on until it is up to 40 cm off), and its place in the hand where a contact begins.
    The rest follows: the ball keeps that place; a change of hands is a handover; a flight between two contacts is
    solved from one to the next. After the last contact it is thrown in three ways: with the velocity of the hands at
    the end (`body`); through the point where the captured ball is last seen (a hoop, a partner), in the direction of
    the hands (`aimed`), or as slowly as that can be (`least`). Captured scale (a person's), 60 Hz.
    """
    print('\n## Truth: the captured ball\n')
    print(
        '| clip | contact frames | contact error, mean / max cm | flight between contacts, frames: mean cm '
        '| throw, frames '
        '| body: mean / end cm | target known, aimed: mean cm | target known, least speed: mean cm '
        '| release speed body / aimed / least / captured m/s |'
    )
    print('|---|---|---|---|---|---|---|---|---|')
    total: dict[str, list[float]] = {}
    for path in sorted((data_dir() / 'ballplay').glob('*.pt')):
        motion = extract(path)
        assert motion.captured is not None
        ball, fps = motion.captured.pos, motion.fps
        made, held, release = synthesise_ball(motion)
        known = np.isfinite(made[:, 0])
        error = np.linalg.norm(made - ball, axis=1) * 100
        contact, between = error[held & known], error[~held & known]
        total.setdefault('contact', []).extend(contact)
        total.setdefault('between', []).extend(between)
        cells = [path.stem, str(len(contact)), f'{contact.mean():.1f} / {contact.max():.1f}']
        cells.append(f'{len(between)}: {between.mean():.1f}' if len(between) else '-')
        frames = np.arange(len(ball)) > release
        # The throw is compared until the ball is caught, bounces or ends: until its captured path is no free fall.
        frames &= np.arange(len(ball)) < _falls_until(ball, release, fps)
        if frames.sum() < 4:
            print('| ' + ' | '.join([*cells, '-', '-', '-', '-', '-']) + ' |')
            continue
        speeds, columns = [], []
        for kind in ('body', 'aimed', 'least'):
            velocity = throw(kind, made[: release + 1], ball[frames][-1], fps)
            count = int(frames.sum()) + 1
            path_made = World(BALL).forward(BodyState(made[release], UNIT, velocity, np.zeros(3)), count, fps).pos[1:]
            off = np.linalg.norm(path_made - ball[frames], axis=1) * 100
            total.setdefault(kind, []).extend(off)
            columns.append(f'{off.mean():.1f} / {off[-1]:.1f}' if kind == 'body' else f'{off.mean():.1f}')
            speeds.append(np.linalg.norm(velocity))
        speeds.append(np.linalg.norm(end_velocity(ball[release : release + 5][::-1], fps)))
        cells += [str(int(frames.sum())), *columns, ' / '.join(f'{s:.1f}' for s in speeds)]
        print('| ' + ' | '.join(cells) + ' |')
    print('\nall frames: ' + ', '.join(f'{k} {np.mean(v):.1f} cm ({len(v)} frames)' for k, v in total.items()))


_NEAR = 0.20  # m from a hand's middle: the ball's radius and 8 cm


def _falls_until(ball: np.ndarray, release: int, fps: float) -> int:
    """Return the frame where the captured ball stops falling freely after a release."""
    rise = np.diff(ball[:, 2], n=2) * fps**2
    for t in range(release + 4, len(ball) - 2):
        if abs(np.median(rise[t - 1 : t + 2]) + GRAVITY) > 12.0:
            return t
    return len(ball)


def throw(kind: str, path: np.ndarray, target: np.ndarray, fps: float) -> np.ndarray:
    """Return the release velocity (3,) after a held path (T, 3); see :func:`truth`."""
    own = end_velocity(path, fps)
    if kind == 'body':
        return own
    if kind == 'least':
        return launch_velocity(path[-1], target)
    delta = target - path[-1]
    durations = np.linspace(0.1, 2.0, 400)[:, None]
    speeds = delta / durations + 0.5 * GRAVITY * durations * [0.0, 0.0, 1.0]
    cosine = speeds @ own / np.linalg.norm(speeds, axis=1) / max(np.linalg.norm(own), 1e-6)
    return speeds[cosine.argmax()]


def synthesise_ball(motion: HumanMotion) -> tuple[np.ndarray, np.ndarray, int]:
    """Return the synthesised ball (T, 3) up to the last release (NaN elsewhere), who holds it (T,), and that frame."""
    assert motion.captured is not None
    ball, fps = motion.captured.pos, motion.fps
    world, out = World(BALL), np.full((len(ball), 3), np.nan)
    runs = _contacts(motion)
    held = np.zeros(len(ball), dtype=bool)
    for number, (start, end, hand) in enumerate(runs):
        anchor, quat = _anchor(motion, hand)
        held[start:end] = True
        before = runs[number - 1][1] - 1 if number else -1
        # Handed over where it then is; else where the skill file says, which here is where it was captured.
        place = out[before] if number and before == start - 1 else ball[start]
        frame = start - 1 if number and before == start - 1 else start
        offset = rotation.rotate_inverse(quat[frame], place - anchor[frame])
        out[start:end] = anchor[start:end] + rotation.rotate(quat[start:end], offset)
        if number and before < start - 1:
            falling = end_velocity(out[: before + 1], fps)[2]
            goal = BodyState(out[start], UNIT, np.zeros(3), np.zeros(3))
            guess = np.array([*((out[start] - out[before])[:2] * fps / (start - before)), min(falling, -2.0)])
            found = arrive(world, goal, start - before + 1, fps, start_pos=out[before], guess=guess)
            out[before + 1 : start] = found.path.pos[1:-1]
    return out, held, runs[-1][1] - 1


def _contacts(motion: HumanMotion) -> list[tuple[int, int, str]]:
    """Return who has the ball when: ``(start, end, hand)``; hands that have it for under 8 frames do not count."""
    assert motion.captured is not None
    ball = motion.captured.pos
    near = np.stack([np.linalg.norm(motion.joint(f'{s}_hand') - ball, axis=1) < _NEAR for s in ('left', 'right')])
    code = near[0] + 2 * near[1]
    names = {1: 'left', 2: 'right', 3: 'both'}
    for _ in range(4):  # short spells become what was before them
        edges = np.flatnonzero(np.diff(np.r_[-1, code, -1]))
        for a, b in zip(edges[:-1], edges[1:]):
            if b - a < 8 and code[a] and (a or b < len(code)):
                other = code[a - 1] if a and code[a - 1] else (code[b] if b < len(code) else 0)
                code[a:b] = other
    edges = np.flatnonzero(np.diff(np.r_[-1, code, -1]))
    return [(int(a), int(b), names[int(code[a])]) for a, b in zip(edges[:-1], edges[1:]) if code[a]]


def _anchor(motion: HumanMotion, hand: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the anchor's path (T, 3) and orientation (T, 4): one hand's, or the middle between both."""
    if hand != 'both':
        return motion.joint(f'{hand}_hand'), motion.quat[:, list(JOINTS).index(f'{hand}_wrist')]
    left, right = motion.joint('left_hand'), motion.joint('right_hand')
    y = (left - right) / np.linalg.norm(left - right, axis=1, keepdims=True)
    x = np.cross(y, [0.0, 0.0, 1.0])
    x /= np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-6)
    matrix = np.stack([x, y, np.cross(x, y)], axis=2)
    return 0.5 * (left + right), rotation.continuous(mat_to_quat(matrix))


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
