"""``humanx xgen``: motion files in, checked interaction clips out."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from humanx_description.errors import UserError
from humanx_training.xgen.commands import add_commands


def register(subparsers: argparse._SubParsersAction) -> None:
    """Add ``humanx xgen`` with its actions."""
    parser = subparsers.add_parser('xgen', help='make interaction clips from videos and motion files')
    actions = parser.add_subparsers(title='actions', dest='action', required=True, metavar='ACTION')
    _add_extract(actions)
    _add_retarget(actions)
    add_commands(actions)


def _add_extract(actions: argparse._SubParsersAction) -> None:
    parser = actions.add_parser(
        'extract',
        help="read a person's motion from a video or a motion file",
        description='Read a video (MediaPipe), SMPL or SMPL-X .npz, GVHMR .pt, BVH, DeepMimic .txt or BallPlay .pt '
        'into a HumanMotion .npz (24 joints, metres, z up).',
    )
    parser.add_argument('input', type=Path, help='video or motion file')
    parser.add_argument('-o', '--out', type=Path, required=True, help='HumanMotion .npz to write')
    _add_source_options(parser)
    parser.set_defaults(run=run_extract)


def _add_source_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--fps', type=float, help='frames per second, where the file does not say')
    parser.add_argument('--unit', help='length unit of a BVH: m, cm, mm, inch or cmu (default: from the leg length)')
    parser.add_argument('--body-models', type=Path, metavar='DIR', help='folder with SMPL or SMPL-X models for smplx')
    parser.add_argument('--start', type=float, default=0.0, metavar='S', help='first second to keep')
    parser.add_argument('--stop', type=float, metavar='S', help='last second to keep')


def _add_retarget(actions: argparse._SubParsersAction) -> None:
    parser = actions.add_parser(
        'retarget',
        help="put a person's motion on the G1",
        description='Retarget a HumanMotion .npz (or any source that `humanx xgen extract` reads) to a RobotMotion '
        '.npz: feet planted flat, a balanced stance before and after, joint and speed limits kept.',
    )
    parser.add_argument('input', type=Path, help='HumanMotion .npz, or a video or motion file')
    parser.add_argument('-o', '--out', type=Path, required=True, help='RobotMotion .npz to write')
    _add_source_options(parser)
    parser.add_argument('--rate', type=float, default=50.0, metavar='HZ', help='frames per second out (default 50)')
    parser.add_argument('--stance-before', type=float, default=1.0, metavar='S', help='stance before (default 1 s)')
    parser.add_argument('--stance-after', type=float, default=1.0, metavar='S', help='stance after (default 1 s)')
    parser.add_argument('--entry', type=float, default=1.0, metavar='S', help='from the stance into the clip')
    parser.add_argument('--leave', type=float, default=1.2, metavar='S', help='from the clip to the stance')
    parser.set_defaults(run=run_retarget)


def run_extract(args: argparse.Namespace) -> int:
    """Read a source and write a HumanMotion; print what was found."""
    _check_out(args.out, args.input)
    motion = _read(args)
    motion.save(args.out)
    ball = f', with the captured {motion.captured.name}' if motion.captured is not None else ''
    print(
        f'{args.out}: {motion.num_frames} frames at {motion.fps:g} Hz ({motion.duration:.2f} s) '
        f'from {motion.provenance.get("format", "a motion file")}{ball}'
    )
    for note in motion.provenance.get('notes', []):
        print(f'  {note}')
    return 0


def run_retarget(args: argparse.Namespace) -> int:
    """Retarget a motion, write it and print its measures."""
    from humanx_training.xgen.retarget.metrics import measure
    from humanx_training.xgen.retarget.pipeline import RetargetConfig, at_rate, retarget

    _check_out(args.out, args.input)
    if not 20 <= args.rate <= 1000:
        raise UserError(f'--rate is {args.rate:g}; expected 20 to 1000 frames per second.')
    # Beyond 50 Hz the refinement gains nothing that a person's motion holds; the result is resampled instead.
    config = RetargetConfig(
        fps=min(args.rate, 50.0),
        stance_before=args.stance_before,
        stance_after=args.stance_after,
        entry=args.entry,
        leave=args.leave,
    )
    human = _read(args)
    for note in human.provenance.get('notes', []):
        print(f'{args.input}: {note}')
    begin = time.perf_counter()
    result = retarget(human, config)
    seconds = time.perf_counter() - begin
    motion = at_rate(result.motion, args.rate)
    motion.save(args.out)
    figures = measure(result.motion, result.plan.targets)
    print(
        f'{args.out}: {motion.num_frames} frames at {motion.fps:g} Hz ({motion.duration:.2f} s), '
        f'retargeted {human.duration:.2f} s in {seconds:.2f} s'
    )
    print(
        f'  keypoints {figures.keypoint_mean_cm:.1f} cm, skate {figures.skate_cm_per_100ms:.2f} cm per 100 ms, '
        f'stance tilt {figures.tilt_deg:.2f} deg, self-penetration {figures.self_penetration_mm:.1f} mm, '
        f'floor {figures.sink_mm:.1f} mm'
    )
    return 0


def _read(args: argparse.Namespace):  # type: ignore[no-untyped-def]
    from humanx_training.xgen.extract.detect import ExtractOptions, extract

    options = ExtractOptions(fps=args.fps, unit=args.unit, model_dir=args.body_models, start=args.start, stop=args.stop)
    return extract(args.input, options)


def _check_out(out: Path, source: Path) -> None:
    """Refuse a bad output path before any work is done."""
    if out.suffix != '.npz':
        raise UserError(f'{out}: has the ending {out.suffix!r}; expected .npz.')
    if not out.parent.is_dir():
        raise UserError(f'{out}: the folder {out.parent} does not exist; expected an existing folder.')
    if out.exists() and source.exists() and out.samefile(source):
        raise UserError(f'{out}: is the input itself; expected another file to write.')
