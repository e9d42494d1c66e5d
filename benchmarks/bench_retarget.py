"""Retargeting over real motions: keypoints, feet, penetration, limits and speed, before and after refinement.

    OMP_NUM_THREADS=1 python benchmarks/bench_retarget.py --json out/bench_retarget.json
    python benchmarks/bench_retarget.py data/smpl/*.npz data/ballplay/*.pt

Without arguments: all SMPL motions of the data folder (``$HUMANX_DATA``). `plain` is per-frame IK (mink) on the scaled
keypoints; `before` the same with the feet's targets planted; `after` the whole-trajectory refinement, with the stances
and the ways into and out of them.
One process, one thread; `real time` is seconds of motion per second of CPU, for everything from the person's joints to
the robot's motion. Status 1 if a bound is not met after refinement.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

import numpy as np

from humanx_description.errors import UserError
from humanx_description.paths import data_dir
from humanx_training.xgen.extract.detect import extract
from humanx_training.xgen.retarget.metrics import measure, support_margin
from humanx_training.xgen.retarget.pipeline import plain_ik, retarget

# Field of the measures, heading, bound after refinement (None: shown only).
COLUMNS = (
    ('keypoint_mean_cm', 'keyp cm', 5.0),
    ('keypoint_max_cm', 'max cm', None),
    ('skate_cm_per_100ms', 'skate cm', 1.0),
    ('tilt_deg', 'tilt deg', 2.0),
    ('float_mm', 'float mm', 5.0),
    ('sink_mm', 'sink mm', 5.0),
    ('self_penetration_mm', 'self mm', 5.0),
    ('range_excess_rad', 'range', 0.0),
    ('speed_ratio', 'speed', 1.0),
    ('arm_locked_share', 'locked', 0.0),
    ('peak_speed_kept', 'peak', None),
)


def bench(path: Path) -> dict:
    """Retarget one file and return its figures."""
    human = extract(path)
    begin = time.process_time()
    result = retarget(human)
    seconds = time.process_time() - begin
    motion = result.motion
    return {
        'motion': path.stem,
        'seconds': round(human.duration, 3),
        'real_time': round(human.duration / seconds, 3),
        'solves': result.report.solves,
        'plain': measure(*plain_ik(human)).as_dict(),
        'before': measure(result.unrefined, result.plan.targets).as_dict(),
        'after': measure(motion, result.plan.targets).as_dict(),
        'support_margin_m': round(min(support_margin(motion, 0), support_margin(motion, motion.num_frames - 1)), 4),
    }


def failures(row: dict) -> list[str]:
    """Return the bounds a motion does not meet."""
    out = [
        f'{row["motion"]}: {name} is {row["after"][name]:g}, above {bound:g}'
        for name, _, bound in COLUMNS
        if bound is not None and row['after'][name] > bound
    ]
    if row['real_time'] < 1:
        out.append(f'{row["motion"]}: {row["real_time"]:g} times real time, below 1')
    if row['support_margin_m'] <= 0:
        out.append(f'{row["motion"]}: the stance is not balanced')
    return out


def print_table(rows: list[dict]) -> None:
    """Print one line per motion and stage, and the worst of each column."""
    print(f'{"motion":28s} {"":6s} ' + ' '.join(f'{head:>8s}' for _, head, _ in COLUMNS) + '  x real time')
    for stage in ('plain', 'before', 'after'):
        for row in rows:
            cells = ' '.join(f'{row[stage][name]:8.2f}' for name, _, _ in COLUMNS)
            print(f'{row["motion"][:28]:28s} {stage:6s} {cells}  {row["real_time"] if stage == "after" else "":>6}')
        worst = [
            (min if name == 'peak_speed_kept' else max)(row[stage][name] for row in rows) for name, _, _ in COLUMNS
        ]
        mean = np.mean([row[stage]['keypoint_mean_cm'] for row in rows])
        print(f'{"worst":28s} {stage:6s} ' + ' '.join(f'{v:8.2f}' for v in worst) + f'  (mean keypoint {mean:.2f} cm)')


def on_one_core() -> None:
    """Keep this process on one CPU: what numpy's threads would add is not counted."""
    if hasattr(os, 'sched_setaffinity'):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def main() -> int:
    """Run over the files; return 0 when every bound is met."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').split('\n')[0])
    parser.add_argument('motions', nargs='*', type=Path, help='motion files (default: the SMPL data)')
    parser.add_argument('--json', type=Path, help='where to write the figures')
    args = parser.parse_args()
    files = args.motions or sorted((data_dir() / 'smpl').glob('*.npz'))
    if not files:
        print(f'bench_retarget: no motions in {data_dir() / "smpl"} (set HUMANX_DATA)', file=sys.stderr)
        return 2
    on_one_core()
    try:
        retarget(extract(files[0]).cut(0, 12))  # compiles and loads what is loaded once
        rows = []
        for path in files:
            rows.append(bench(path))
            print(f'{path.stem}: {rows[-1]["real_time"]:g} times real time', file=sys.stderr, flush=True)
    except UserError as error:
        print(f'bench_retarget: {error}', file=sys.stderr)
        return 2
    print_table(rows)
    missed = [text for row in rows for text in failures(row)]
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps({'motions': rows, 'missed': missed}, indent=1))
    for text in missed:
        print(text)
    print('all bounds met' if not missed else f'{len(missed)} bounds missed')
    return 1 if missed else 0


if __name__ == '__main__':
    sys.exit(main())
