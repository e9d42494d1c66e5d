"""``humanx trial`` and ``humanx bag``."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from humanx_description.errors import UserError


def register(subparsers: argparse._SubParsersAction) -> None:
    """Add the commands of this package to the ``humanx`` command."""
    trial = subparsers.add_parser('trial', help='run judged real-time trials of the whole graph, simulated')
    trial.add_argument('--mode', choices=('nep', 'mocap'), required=True, help='how the policy perceives')
    trial.add_argument('--skill', required=True, help='name of a trained skill, or path of a policy file')
    trial.add_argument('--trials', type=int, default=1, metavar='K', help='how many trials (default 1)')
    trial.add_argument('--seed', type=int, default=0, metavar='N', help='seed of the first trial; the next has N+1')
    trial.add_argument('--json', type=Path, metavar='FILE', help='write rate, interval and every trial here')
    trial.add_argument('--record', type=Path, metavar='DIR', help='keep the bags in this new folder')
    trial.add_argument('--video', type=Path, metavar='FILE', help='film of the first trial, MP4')
    trial.add_argument('--generalise', action='store_true', help="vary the start over the scenario's ranges")
    trial.add_argument('--dropout', type=float, default=0.0, metavar='P', help='mocap: chance per frame of a loss')
    trial.add_argument('--burst', type=int, default=1, metavar='N', help='mocap: longest loss in frames')
    trial.add_argument('--loss', choices=('missing', 'frozen', 'gap'), default='missing', help='mocap: how it is lost')
    trial.add_argument('--balls', type=int, default=1, metavar='N', help='how often the partner sets the object going')
    trial.add_argument('--dds-domain', type=int, help="DDS domain of the robot's wire")
    trial.add_argument('--param', action='append', default=[], metavar='NODE.NAME=VALUE', help='set a node parameter')
    trial.set_defaults(run=run_trial)

    bag = subparsers.add_parser('bag', help='look at, replay or judge a recorded bag')
    actions = bag.add_subparsers(title='actions', dest='action', required=True, metavar='ACTION')
    info = actions.add_parser('info', help='show the trial, the topics, their rates and gaps')
    replay = actions.add_parser('replay', help='publish it again with its own timing')
    judge = actions.add_parser('judge', help='give the verdict from the bag alone; status 1 for a failure')
    film = actions.add_parser('film', help='render its ground truth to MP4')
    for parser, function in ((info, run_info), (replay, run_replay), (judge, run_judge), (film, run_film)):
        parser.add_argument('path', type=Path, metavar='PATH', help='folder of the bag')
        parser.set_defaults(run=function)
    replay.add_argument('--rate', type=float, default=1.0, metavar='R', help='2: twice as fast (default 1)')
    replay.add_argument('--topics', nargs='+', metavar='TOPIC', help='only these topics')
    replay.add_argument('--wait', type=float, default=2.0, metavar='S', help='for listeners to be found (default 2)')
    film.add_argument('--out', type=Path, required=True, metavar='FILE', help='MP4 to write')


def run_trial(args: argparse.Namespace) -> int:
    """Run the trials; 0 when they ran (whatever the verdicts), 1 if the graph failed."""
    from humanx_g1_driver.trial import run_trials, write_json
    from humanx_g1_driver.trial_types import TrialError, TrialOptions

    _check_trial(args)
    directory = args.record.resolve() if args.record else Path(tempfile.mkdtemp(prefix='humanx_trial_'))
    keep = bool(args.record)
    try:
        options = TrialOptions(
            mode=args.mode,
            skill=str(Path(args.skill).resolve()) if Path(args.skill).is_file() else args.skill,
            trials=args.trials,
            seed=args.seed,
            directory=directory,
            dropout=args.dropout,
            burst=args.burst,
            loss=args.loss,
            generalise=args.generalise,
            balls=args.balls,
            dds_domain=args.dds_domain,
            parameters=tuple(args.param),
        )
        try:
            data = run_trials(options, lambda text: print(text, flush=True))
        except TrialError as error:
            keep = True  # its log says why
            print(f'humanx: {error}', file=sys.stderr)
            return 1
        first_bag = Path(data['results'][0]['bag'])
        if not args.record:
            for result in data['results']:
                result['bag'] = ''
        if args.json:
            write_json(args.json, data)
        low, high = data['success_rate_wilson_95']
        print(
            f'{data["successes"]} of {args.trials} trials succeeded: {100 * data["success_rate"]:.0f} % '
            f'(95 % interval {100 * low:.0f} to {100 * high:.0f} %)' + (f'; bags in {directory}' if args.record else '')
        )
        if args.video:
            from humanx_g1_driver.video import render_bag

            frames = render_bag(first_bag, args.video.resolve())
            print(f'film: {args.video} ({frames} frames)')
        return 0
    finally:
        if not keep:
            shutil.rmtree(directory, ignore_errors=True)


def _check_trial(args: argparse.Namespace) -> None:
    for name, value, low, high in (
        ('--trials', args.trials, 1, 10_000),
        ('--seed', args.seed, 0, 2**62 - 10_000),
        ('--dropout', args.dropout, 0.0, 1.0),
        ('--burst', args.burst, 1, 1000),
        ('--balls', args.balls, 1, 1000),
    ):
        if not low <= value <= high:
            raise UserError(f'{name} is {value}; expected {low} to {high}.')
    for name, path in (('--json', args.json), ('--video', args.video)):
        if path is not None and not path.resolve().parent.is_dir():
            raise UserError(f'{name} {path}: its folder does not exist; expected a file in an existing folder.')
    if args.video is not None and args.video.suffix != '.mp4':
        raise UserError(f'--video {args.video}: expected a file ending in .mp4.')
    if args.record is not None and args.record.exists() and (
        not args.record.is_dir() or any(args.record.iterdir())
    ):
        raise UserError(f'--record {args.record}: exists already; expected a new or empty folder.')


def run_info(args: argparse.Namespace) -> int:
    """Describe a bag."""
    from humanx_g1_driver.bag_info import describe

    print('\n'.join(describe(args.path)))
    return 0


def run_replay(args: argparse.Namespace) -> int:
    """Publish a bag again."""
    from humanx_g1_driver.bag_replay import replay

    count = replay(args.path, rate=args.rate, topics=args.topics, discovery_s=max(args.wait, 0.0))
    print(f'{count} messages published')
    return 0


def run_judge(args: argparse.Namespace) -> int:
    """Print the verdict on every run of a bag; 0 if all succeeded."""
    from humanx_g1_driver.bag_judge import judge_bag

    good = True
    for run in judge_bag(args.path):
        good &= run.verdict.success
        measures = ', '.join(f'{key} {value:.3f}' for key, value in run.verdict.measures.items())
        ball = f', launch {run.launch}' if run.launch > 1 else ''
        outcome = 'success' if run.verdict.success else 'failure'
        print(f'seed {run.seed}{ball}: {outcome}: {run.verdict.reason} ({measures})')
    return 0 if good else 1


def run_film(args: argparse.Namespace) -> int:
    """Render a bag's ground truth."""
    from humanx_g1_driver.video import render_bag

    frames = render_bag(args.path, args.out.resolve())
    print(f'{args.out}: {frames} frames')
    return 0
