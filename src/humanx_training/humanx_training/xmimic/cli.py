"""``humanx eval`` (and ``train``, ``export``): the command line of XMimic."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from humanx_description.errors import UserError


def register(subparsers: argparse._SubParsersAction) -> None:
    """Add the commands of XMimic to the ``humanx`` command."""
    _register_train(subparsers)
    _register_export(subparsers)
    _register_eval(subparsers)


def _register_train(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser('train', help='train a teacher on clips, or a student from teachers')
    parser.add_argument('kind', choices=('teacher', 'student'))
    parser.add_argument('--skill', required=True, help='name of a skill, or its file')
    parser.add_argument('--clips', nargs='+', help="clip files or folders; default: the skill's")
    parser.add_argument('--teacher', choices=('ppo', 'mpc'), default='ppo', help='kind of teacher')
    parser.add_argument('--teacher-from', nargs='+', default=[], metavar='FILE', help="a student's teachers (.pt)")
    parser.add_argument('--dagger', type=int, default=0, metavar='N', help='iterations of DAgger before PPO')
    parser.add_argument('--sim', choices=('mujoco', 'mujoco_warp', 'isaacgym'), default='mujoco')
    parser.add_argument('--mode', choices=('nep', 'mocap'), help="what the student perceives; default: the skill's")
    parser.add_argument('--body-only', action='store_true', help='NEP: leave the clips\' object out of the simulation')
    parser.add_argument('--with-object', action='store_true',
                        help='teacher mpc: make the clips feasible with their object, its outcome in the cost')
    parser.add_argument('--envs', type=int, help='environments')
    parser.add_argument('--iterations', type=int, help='PPO iterations')
    parser.add_argument('--seed', type=int)
    parser.add_argument('--samples', type=int, default=8_000_000, help='budget of a kick\'s student of --teacher mpc')
    parser.add_argument('--preset', default='xmimic', help='method: xmimic, skillmimic, hdmi, base, +di, +it, ...')
    parser.add_argument('--scale', default='laptop', help='size: laptop, or paper')
    parser.add_argument('--set', nargs='+', default=[], metavar='KEY=VALUE', help='settings, as in ppo.epochs=5')
    parser.add_argument('--resume', action='store_true', help='continue the training in --out')
    parser.add_argument('--out', type=Path, help='folder of the run; default: out/<skill>_<kind>')
    parser.add_argument('--device', help='default: cuda:0 with --sim mujoco_warp where there is one, else cpu')
    parser.add_argument('--threads', type=int, default=2, help="torch's threads for gradients")
    parser.set_defaults(run=run_train)


def run_train(args: argparse.Namespace) -> int:
    """Train with PPO, or with the model-based teacher (``--teacher mpc``)."""
    if args.with_object and (args.kind, args.teacher) != ('teacher', 'mpc'):
        raise UserError(f'--with-object: is for train teacher --teacher mpc; got {args.kind} --teacher {args.teacher}.')
    for name, least in (('envs', 1), ('threads', 1), ('samples', 1), ('dagger', 0)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise UserError(f'--{name} is {value}; expected {least} or more.')
    _check_writable(args.out, folder=True)
    if args.teacher == 'mpc':
        from humanx_training.xmimic.mpc import command

        return command.run(args)
    from humanx_training.xmimic import train_command

    return train_command.run(args)


def _register_export(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser('export', help="write a student's policy file (.onnx)")
    parser.add_argument('checkpoint', type=Path, help='checkpoint of a student (.pt)')
    parser.add_argument('--out', type=Path, required=True, help='policy file to write')
    parser.add_argument('--measured', type=Path, help='JSON report of humanx eval to carry along')
    parser.set_defaults(run=run_export)


def run_export(args: argparse.Namespace) -> int:
    """Export a checkpoint and check that the file computes the same."""
    import json

    from humanx_training.xmimic.export import export_checkpoint

    measured = None
    _check_writable(args.out)
    if args.measured:
        try:
            measured = json.loads(args.measured.read_text())
        except (OSError, ValueError):
            raise UserError(f'{args.measured}: is not readable JSON; expected a report of humanx eval.') from None
    difference = export_checkpoint(args.checkpoint, args.out, measured=measured)
    print(f'wrote {args.out}; largest relative difference from torch {difference:.1e}')
    return 0


def _register_eval(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        'eval', help='evaluate a policy in closed loop: SR, GSR, E_o, E_h with confidence intervals'
    )
    parser.add_argument('--skill', required=True, help='name of a skill, or its file')
    parser.add_argument('--policy', help='policy file (.onnx); default: the shipped policy of the skill')
    parser.add_argument(
        '--trials', type=int, default=200, help='trials from the nominal start, and as many over the whole range'
    )
    parser.add_argument('--seed', type=int, default=0, help='seed of the first trial; each next trial takes the next')
    parser.add_argument('--json', type=Path, help='write the report to this file')
    parser.add_argument('--clip', type=Path, help='original clip (.npz), for E_o and E_h')
    parser.add_argument('--nominal-only', action='store_true', help='skip the generalisation trials')
    parser.add_argument('--noise', type=float, default=0.0, help='sensor noise, 1: as in training')
    parser.add_argument('--latency', type=float, default=0.0, metavar='S', help='motion capture latency, s')
    parser.add_argument('--action-latency', type=float, default=0.0, metavar='S', help='latency of the targets, s')
    parser.add_argument('--frame-loss', type=float, default=0.0, help='share of frames in which the object is lost')
    parser.add_argument('--loss-burst', type=int, default=1, help='frames lost in a row')
    parser.add_argument('--push', type=float, default=0.0, help='speed of pushes every 1 to 5 s, m/s')
    parser.add_argument('--timestep', type=float, default=0.001, help='physics time step, s')
    parser.add_argument('--duration', type=float, help='length of a trial, s; default: the skill\'s')
    parser.add_argument('--threads', type=int, help='threads of the simulator; default: all cores')
    parser.add_argument('--video', type=Path, help='write a grid of the first nine trials to this MP4')
    parser.set_defaults(run=run_eval)


def run_eval(args: argparse.Namespace) -> int:
    """Evaluate a policy and print the report."""
    import dataclasses

    from humanx_description.skills import load_skill
    from humanx_policy.library import find_policy
    from humanx_training.clip import InteractionClip
    from humanx_training.xmimic.batch_policy import OnnxPolicy
    from humanx_training.xmimic.closed_loop import CONTROL_PERIOD, Conditions
    from humanx_training.xmimic.evaluate import evaluate, write_report

    for path in (args.json, args.video):
        _check_writable(path)
    if args.video and args.video.suffix.lower() != '.mp4':
        raise UserError(f'--video {args.video}: expected a name that ends in .mp4.')
    if args.trials < 1:
        raise UserError(f'--trials is {args.trials}; expected 1 or more.')
    steps = CONTROL_PERIOD / args.timestep if args.timestep > 0 else 0.0
    if not steps > 0.9 or abs(steps - round(steps)) > 1e-6:
        raise UserError(f'--timestep is {args.timestep}; expected a whole fraction of {CONTROL_PERIOD} s.')
    skill = load_skill(args.skill)
    if args.duration is not None:
        scenario = _checked(dataclasses.replace, skill.scenario, duration_s=args.duration)
        skill = dataclasses.replace(skill, scenario=scenario)
    policy = OnnxPolicy(find_policy(args.policy or skill.name))
    conditions = _checked(
        Conditions, noise=args.noise, mocap_latency_s=args.latency, action_latency_s=args.action_latency,
        frame_loss=args.frame_loss, loss_burst=args.loss_burst, push=args.push,
    )
    clip = InteractionClip.load(args.clip) if args.clip else None
    report = evaluate(
        skill, policy, trials=args.trials, seed=args.seed, conditions=conditions, clip=clip,
        generalise=not args.nominal_only, timestep=args.timestep, threads=args.threads,
    )
    print(report.text())
    if args.json:
        write_report(report, args.json, {'policy': str(policy.path), 'sha256': policy.sha256})
        print(f'wrote {args.json}', file=sys.stderr)
    if args.video:
        from humanx_training.xmimic.video import write_grid

        write_grid(skill, policy, list(range(args.seed, args.seed + 9)), conditions, args.video)
        print(f'wrote {args.video}', file=sys.stderr)
    return 0


def _check_writable(path: Path | None, folder: bool = False) -> None:
    """Refuse a place to write to before anything is computed for it."""
    if path is None:
        return
    above = path if folder else path.parent
    existing = next(p for p in (above, *above.parents) if p.exists())
    if not existing.is_dir():
        raise UserError(f'{existing}: is not a folder; expected one to write to.')
    if not folder and path.is_dir():
        raise UserError(f'{path}: is a folder; expected the name of a file to write.')


def _checked(make, *args, **kwargs):
    try:
        return make(*args, **kwargs)
    except ValueError as error:
        raise UserError(f'options: {error}') from None
