"""``humanx clip``: check, render, view and convert interaction clips."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from humanx_description.errors import UserError
from humanx_description.objects import ObjectSpec


def register(subparsers: argparse._SubParsersAction) -> None:
    """Add ``humanx clip`` with its actions."""
    parser = subparsers.add_parser('clip', help='check, render, view and convert interaction clips')
    actions = parser.add_subparsers(title='actions', dest='action', required=True, metavar='ACTION')

    check = actions.add_parser(
        'check', help='say what is wrong with clips',
        description='Say in sentences what is wrong: units, order, conventions, feet, limits, jumps, penetration, '
        'energy. Status 0: all are good; 1: some are bad; 2: a file cannot be read.',
    )  # fmt: skip
    check.add_argument('clips', type=Path, nargs='+', help='clip files, HOI files, or folders of clips')
    check.add_argument('--json', action='store_true', help='print measures as JSON')
    check.add_argument('--skill', help='skill whose tools the robot holds (default: as the clip says)')
    check.set_defaults(run=run_check)

    render = actions.add_parser('render', help='make a video or a contact sheet')
    render.add_argument('clip', type=Path)
    render.add_argument('-o', '--out', type=Path, required=True, help='.mp4 or .png (contact sheet)')
    render.add_argument('--skill', help='skill whose tools the robot holds (default: as the clip says)')
    render.add_argument('--fps', type=float, default=25.0, help='pictures per second of an .mp4')
    render.set_defaults(run=run_render)

    view = actions.add_parser('view', help='look at a clip and edit it in the browser')
    view.add_argument('clip', type=Path)
    view.add_argument('--skill', help='skill file to edit along (default: as the clip says)')
    view.add_argument('--port', type=int, default=8080)
    view.add_argument('--host', default='127.0.0.1', help='address to listen on (default: this machine only)')
    view.set_defaults(run=run_view)

    convert = actions.add_parser('convert', help="to and from other projects' files")
    convert.add_argument('source', type=Path, help='a clip, a HOI .npz or a G1 .npz (recognised by its fields)')
    convert.add_argument('target', type=Path)
    convert.add_argument('--to', choices=('clip', 'hoi', 'g1'), default='clip')
    convert.add_argument('--object', metavar='SHAPE', help='where the file says none: box:0.3,0.4,0.2, sphere:0.12')
    convert.set_defaults(run=run_convert)


def run_check(args: argparse.Namespace) -> int:
    from humanx_training.xgen.check import check
    from humanx_training.xgen.stage import Stage

    stages: dict[tuple[ObjectSpec, ...], Stage] = {}
    bad, measures = 0, {}
    for path in _clip_files(args.clips):
        clip = load_any(path)
        tools = tools_of(clip.provenance, args.skill)
        if tools not in stages:
            stages[tools] = Stage(tools)
        report = check(clip, tools, stage=stages[tools])
        measures[str(path)] = {'good': report.good, 'problems': report.problems, **report.measures}
        if not args.json:
            print(f'{path}: {"good" if report.good else "bad"}')
            for problem in report.problems:
                print(f'  {problem}')
        bad += not report.good
    if args.json:
        print(json.dumps(measures, indent=1))
    return 1 if bad else 0


def run_render(args: argparse.Namespace) -> int:
    from humanx_training.xgen.render import to_mp4, to_sheet

    clip = load_any(args.clip)
    tools = tools_of(clip.provenance, args.skill)
    if args.out.suffix == '.mp4':
        to_mp4(clip, args.out, tools, fps=args.fps)
    elif args.out.suffix == '.png':
        to_sheet(clip, args.out, tools)
    else:
        raise UserError(f'{args.out}: ends in {args.out.suffix!r}; expected .mp4 or .png.')
    print(args.out)
    return 0


def run_view(args: argparse.Namespace) -> int:
    from humanx_training.xgen.view import serve

    clip = load_any(args.clip)
    serve(clip, args.clip, skill=args.skill or clip.provenance.get('skill'), host=args.host, port=args.port)
    return 0


def run_convert(args: argparse.Namespace) -> int:
    from humanx_training.xgen.formats import convert, parse_shape

    convert(args.source, args.target, args.to, parse_shape(args.object) if args.object else None)
    print(args.target)
    return 0


def load_any(path: Path):
    """Return a clip from a clip file or a HOI file."""
    from humanx_training.clip import InteractionClip, load_npz
    from humanx_training.xgen.formats import import_hoi

    if path.suffix == '.npz' and path.is_file() and 'base_pos_w' in load_npz(path):
        return import_hoi(path)
    return InteractionClip.load(path)


def tools_of(provenance: dict, skill: str | None) -> tuple[ObjectSpec, ...]:
    """Return the tools that the robot holds in a clip's skill (none for an unknown one)."""
    from humanx_description.skills import list_skills, load_skill

    name = skill or provenance.get('skill')
    if not name or (skill is None and name not in list_skills()):
        return ()
    return tuple(o for o in load_skill(name).objects if o.attached_to)


def _clip_files(paths: list[Path]) -> list[Path]:
    out: list[Path] = []
    for path in paths:
        if path.is_dir():
            found = sorted(path.glob('*.npz'))
            if not found:
                raise UserError(f'{path}: holds no .npz file; expected a folder of clips.')
            out += found
        else:
            out.append(path)
    return out
