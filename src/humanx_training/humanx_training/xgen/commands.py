"""``humanx xgen propose`` and ``humanx xgen run``."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_commands(actions: argparse._SubParsersAction) -> None:
    """Add the actions to ``humanx xgen``."""
    parser = actions.add_parser(
        'run',
        help='make the checked clip set of a skill',
        description="From a skill file's source motion to a checked, varied clip set.",
    )
    parser.add_argument('skill', help='a skill by name or as a YAML file')
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='folder to make')
    parser.add_argument('--clips', type=int, default=50, help='how many (the first is the skill as written)')
    parser.add_argument('--seed', type=int, default=0, help='the same seed gives the same clips')
    parser.add_argument('--workers', type=int, help='processes (default: one per core)')
    parser.add_argument('--overwrite', action='store_true', help='replace an earlier clip set in DIR')
    parser.add_argument('--quiet', action='store_true', help='no progress bar')
    parser.set_defaults(run=run_run)

    parser = actions.add_parser(
        'propose',
        help='suggest contact phases of a motion',
        description='Suggest contact phases from speed peaks and palm distance, with a plot to confirm them.',
    )
    parser.add_argument('input', type=Path, help='a RobotMotion .npz, or any motion or video')
    parser.add_argument('--plot', type=Path, metavar='PNG', help='picture of the signals and the suggestions')
    parser.add_argument('--most', type=int, default=6, help='how many suggestions to print')
    parser.set_defaults(run=run_propose)


def run_run(args: argparse.Namespace) -> int:
    from humanx_training.xgen.run import run

    manifest = run(
        args.skill, args.out, clips=args.clips, seed=args.seed, workers=args.workers, overwrite=args.overwrite,
        progress=not args.quiet,
    )  # fmt: skip
    seconds = manifest['seconds']['total']
    count = len(manifest['clips'])
    print(f'{count} clips of {manifest["skill"]} in {args.out}, all pass the check, in {seconds:.0f} s.')
    for note in manifest['notes']:
        print(note)
    if manifest['draws_refused']:
        print(f'{manifest["draws_refused"]} draws were not feasible and drawn again:')
        for reason, count in sorted(manifest['refusals'].items(), key=lambda item: -item[1]):
            print(f'  {count} x {reason}')
    return 0


def run_propose(args: argparse.Namespace) -> int:
    from humanx_description.errors import UserError
    from humanx_training.xgen.propose import as_yaml, plot, propose, signals
    from humanx_training.xgen.recipe import ContactSpec, Recipe, Source
    from humanx_training.xgen.source_motion import robot_motion

    if not args.input.is_file():
        raise UserError(f'{args.input}: does not exist; expected a motion file or a video.')
    if args.most < 1:
        raise UserError(f'--most is {args.most}; expected at least 1.')
    if args.plot and (args.plot.suffix != '.png' or not args.plot.resolve().parent.is_dir()):
        raise UserError(f'{args.plot}: expected a name that ends in .png, in an existing folder.')
    recipe = Recipe((Source(str(args.input.resolve())),), (ContactSpec('palms'),))
    motion = robot_motion(recipe)
    seen = signals(motion)
    found = propose(seen)[: args.most]
    for note in motion.provenance.get('notes', []):
        print(f'# {note}')
    if args.plot:
        plot(seen, found, args.plot)
    if not found:
        print('No speed peak above 1 m/s and no steady palm distance; set the contacts by hand.')
        return 1
    print(as_yaml(found), end='')
    return 0
