"""Ablation of the football student at equal budgets: what each ingredient is worth.

    python benchmarks/ablate_football.py --clips out/football_clips --teacher out/football_teacher [--samples 3000000]

Trains four students with the same number of samples and the same seed, evaluates each under the same trials (noise,
late motion capture, lost frames) and prints the table:

- ``full``: the model-based teacher, balls over the whole range and as in the augmented clips, half of the episodes
  ended where the foot missed the ball (interaction termination).
- ``no interaction termination``: every episode goes on to its end.
- ``no augmentation``: the original clip's ball alone; the robot stays randomised.
- ``no teacher``: PPO from scratch on the same clips with everything else (``--preset +aug``), as many samples.

A part that is there already is not made again: interrupted, it goes on. About half an hour on two cores as it stands.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from humanx_description.skills import load_skill

CONDITIONS = ('--noise', '0.1', '--latency', '0.01', '--action-latency', '0.005', '--frame-loss', '0.1')
PPO_STEP = 512 * 24  # samples of one iteration of the default PPO configuration


@dataclass(frozen=True)
class Variant:
    """One row: its name, the settings that differ, whether it has a teacher."""

    name: str
    settings: list[str] = field(default_factory=list)
    teacher: bool = True

    @property
    def folder(self) -> str:
        """Name of its folder."""
        return self.name.replace(' ', '_')


def variants() -> list[Variant]:
    """Return the rows; the original ball is the scenario's."""
    scenario = load_skill('football').scenario
    x, y, _ = scenario.start_pos
    speed = -scenario.start_vel[0]
    original = [
        f'start_x=[{x},{x}]', f'start_y=[{y},{y}]', f'speed=[{speed},{speed}]', 'heading=0.0', 'clip_share=0.0',
        'absent=0.0', 'resting=0.0',
    ]  # fmt: skip
    return [
        Variant('full', ['interaction_termination=0.5']),
        Variant('no interaction termination', ['interaction_termination=0.0']),
        Variant('no augmentation', ['interaction_termination=0.5', *original]),
        Variant('no teacher', teacher=False),
    ]


def train(variant: Variant, args: argparse.Namespace) -> tuple[Path, float]:
    """Train one row, or find it trained; return its policy file and the minutes that it took."""
    out = args.out / variant.folder
    policy, note = out / 'football.onnx', out / 'minutes.json'
    if not (policy.exists() and note.exists()):
        began = time.monotonic()
        if variant.teacher:
            run('train', 'student', '--teacher', 'mpc', '--skill', 'football', '--teacher-from', args.teacher,
                '--samples', args.samples, '--seed', args.seed, '--out', out, '--set', *variant.settings,
                *(['--resume'] if (out / 'student.pt').exists() else []))  # fmt: skip
        else:
            run('train', 'student', '--skill', 'football', '--clips', args.clips, '--preset', '+aug',
                '--iterations', -(-args.samples // PPO_STEP), '--seed', args.seed, '--out', out,
                *(['--resume'] if (out / 'last.pt').exists() else []))  # fmt: skip
            best = out / 'best.pt'
            run('export', best if best.exists() else out / 'last.pt', '--out', policy)
        note.write_text(json.dumps((time.monotonic() - began) / 60) + '\n')
    return policy, json.loads(note.read_text())


def evaluate(policy: Path, args: argparse.Namespace) -> dict:
    """Return the report of ``humanx eval``."""
    report = policy.with_name('eval.json')
    if not report.exists():
        run('eval', '--skill', 'football', '--policy', policy, '--trials', args.trials, '--json', report, *CONDITIONS)
    return json.loads(report.read_text())


def run(*arguments: object) -> None:
    """Run a ``humanx`` command; an error ends this program with its status."""
    command = ['humanx', *map(str, arguments)]
    print('$', *command, file=sys.stderr, flush=True)
    done = subprocess.run(command, check=False)
    if done.returncode:
        sys.exit(done.returncode)


def main() -> int:
    """Train, evaluate, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--clips', type=Path, required=True, help='clip set of humanx xgen run')
    parser.add_argument('--teacher', type=Path, required=True, help='folder of the model-based teacher')
    parser.add_argument('--samples', type=int, default=3_000_000)
    parser.add_argument('--trials', type=int, default=100)
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--out', type=Path, default=Path('out/ablation'))
    parser.add_argument('--json', type=Path)
    args = parser.parse_args()
    rows = []
    for variant in variants():
        policy, minutes = train(variant, args)
        report = evaluate(policy, args)
        rows.append({'variant': variant.name, 'minutes': round(minutes, 1), 'samples': args.samples, 'report': report})
    print(f'{"":<28} {"minutes":>8} {"SR":>22} {"GSR":>22}')
    for row in rows:
        report = row['report']
        print(f'{row["variant"]:<28} {row["minutes"]:8.1f} {_rate(report["sr"]):>22} {_rate(report["gsr"]):>22}')
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(rows, indent=2) + '\n')
    return 0


def _rate(entry: dict) -> str:
    low, high = entry['interval']
    return f'{entry["rate"]:.0%} [{low:.0%}, {high:.0%}]'


if __name__ == '__main__':
    sys.exit(main())
