"""``humanx train teacher|student``: from options to a run."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

import torch

from humanx_description.config import from_mapping
from humanx_description.errors import UserError
from humanx_description.skills import Skill, load_skill
from humanx_training.clip import InteractionClip
from humanx_training.xmimic import checkpoint, presets
from humanx_training.xmimic.clip_set import ClipSet, load_clips, make_clip_set
from humanx_training.xmimic.config import EnvConfig, TrainConfig, build, parse_overrides
from humanx_training.xmimic.dagger import distil
from humanx_training.xmimic.env import HumanXEnv
from humanx_training.xmimic.failure import kept_failures
from humanx_training.xmimic.memory import check_memory
from humanx_training.xmimic.teachers import NetworkTeacher
from humanx_training.xmimic.trainer import Trainer, init_distributed


@dataclasses.dataclass(frozen=True)
class Section:
    """The ``xmimic`` section of a skill file: where its clips are and what it changes in the settings.

    ``mpc`` is the model-based teacher's, which validates it itself (:mod:`.mpc.command`).
    """

    clips: tuple[str, ...] = ()
    settings: dict = dataclasses.field(default_factory=dict)
    mpc: dict = dataclasses.field(default_factory=dict)  # see mpc.command.MpcSection


def section(skill: Skill) -> Section:
    """Return the skill's validated section."""
    return from_mapping(Section, skill.xmimic, f'skill {skill.name}: xmimic')


def config_from(args: argparse.Namespace, skill: Skill) -> TrainConfig:
    """Lay scale, preset, the skill's settings and the command line over the defaults, in that order."""
    command: dict[str, Any] = parse_overrides(args.set)
    for name in ('iterations', 'seed'):
        if getattr(args, name) is not None:
            command[name] = getattr(args, name)
    if args.envs is not None:
        command.setdefault('env', {})['num_envs'] = args.envs
    return build(
        presets.scale(args.scale), presets.preset(args.preset), section(skill).settings, command, where='settings'
    )


def clip_files(args: argparse.Namespace, skill: Skill) -> list[Path]:
    """Return the clip files of ``--clips`` or of the skill's section."""
    given = [Path(p) for p in (args.clips or section(skill).clips)]
    if not given:
        raise UserError(f'skill {skill.name}: its xmimic section names no clips; give --clips FILE_OR_FOLDER.')
    files: list[Path] = []
    for path in given:
        files += sorted(path.glob('*.npz')) if path.is_dir() else [path]
    if not files:
        raise UserError(f'{given[0]}: holds no .npz file; expected interaction clips.')
    return files


def run(args: argparse.Namespace) -> int:
    """Train a teacher or a student with PPO (or DAgger)."""
    skill = load_skill(args.skill)
    config = config_from(args, skill)
    files = clip_files(args, skill)
    clips = load_clips(files)
    if not config.augmented:
        files, clips = originals(files, clips)
    mode = args.mode or skill.mode
    if mode == 'nep' and any(c.has_object for c in clips) and args.body_only:
        clips = [without_object(c) for c in clips]
    out: Path = args.out or Path('out') / f'{skill.name}_{args.kind}'
    if (out / 'last.pt').exists() and not args.resume:
        raise UserError(f'{out}: holds a training already; give --resume to continue it or another --out.')
    check_machine(config, args)
    torch.set_num_threads(args.threads)
    distributed = init_distributed()
    device = args.device
    clip_set = make_clip_set(clips, device)
    groups = ('privileged',) if args.kind == 'teacher' else ('policy', 'privileged')
    env = HumanXEnv(clip_set, config.env, mode=mode, simulator=args.sim, groups=groups, seed=config.seed)
    eval_envs = _eval_envs(clip_set, config, mode, args.sim, groups) if distributed.rank == 0 else {}
    teacher = None
    if args.kind == 'student' and config.student_teacher and args.teacher_from:
        teacher = NetworkTeacher([Path(p) for p in args.teacher_from], env, _clip_counts(args, clip_set))
    elif args.kind == 'student' and config.student_teacher:
        raise UserError('--teacher-from is missing: a student needs a teacher (or --preset base, which has none).')
    out.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(
        env, config, out, kind=args.kind, skill=skill.name, clip_names=checkpoint.digest(files), teacher=teacher,
        eval_envs=eval_envs, distributed=distributed,
    )
    if args.resume:
        trainer.resume(out / 'last.pt')
    elif args.kind == 'student' and teacher is not None:
        first = Path(args.teacher_from[0])
        trainer.start_from(checkpoint.load(first, 'teacher'), first, critic_only=True)
        if args.dagger:
            settings = dataclasses.replace(config.dagger, iterations=args.dagger)
            with kept_failures(out, env, 'while the student imitated'):
                distil(env, teacher, settings, config.ppo, student=trainer.ppo.actor)
            trainer.broadcast()  # every process imitated on states of its own
    trainer.run()
    if distributed.rank == 0 and config.iterations == 0:
        trainer.save(out / 'last.pt')
    trainer.write_summary()
    print(f'wrote {out / "last.pt"}', file=sys.stderr)
    return 0


def originals(
    files: list[Path], clips: list[InteractionClip]
) -> tuple[list[Path], list[InteractionClip]]:
    """Return the clips that augmentation has not changed: those whose provenance names no draws."""
    kept = [(file, clip) for file, clip in zip(files, clips, strict=True) if not clip.provenance.get('draws')]
    if not kept:
        raise UserError(
            f'--clips: all {len(files)} are augmented; expected an original among them (clip_000.npz of a clip set) '
            'with this preset, or augmented=true.'
        )
    print(f'{len(kept)} of {len(files)} clips are originals; the augmented ones are left out', file=sys.stderr)
    return [file for file, _ in kept], [clip for _, clip in kept]


def without_object(clip: InteractionClip) -> InteractionClip:
    """Return the body's motion alone."""
    import numpy as np

    frames = clip.num_frames
    return dataclasses.replace(
        clip, object_name='', object_shape={}, contact=np.zeros((frames, 0), bool), contact_bodies=(), phases=(),
    )


def _clip_counts(args: argparse.Namespace, clips: ClipSet) -> list[int] | None:
    if len(args.teacher_from) == 1:
        return None
    counts = []
    for path in args.teacher_from:
        counts.append(len(checkpoint.load(Path(path), 'teacher')['clips']))
    if sum(counts) != clips.num_clips:
        raise UserError(
            f'--teacher-from: the teachers were trained on {sum(counts)} clips, the student gets {clips.num_clips}; '
            'expected the teachers\' clips in the same order.'
        )
    return counts


def _eval_envs(
    clips: ClipSet, config: TrainConfig, mode: str, sim: str, groups: tuple[str, ...]
) -> dict[str, HumanXEnv]:
    """Return environments for evaluation: undisturbed, and with everything the training has."""
    base = dataclasses.replace(config.env, num_envs=min(128, config.env.num_envs))
    clean: EnvConfig = dataclasses.replace(
        base,
        init=dataclasses.replace(base.init, disturb=False),
        randomisation=dataclasses.replace(base.randomisation, enabled=False),
        frame_loss=dataclasses.replace(base.frame_loss, enabled=False),
    )

    def make(settings: EnvConfig) -> HumanXEnv:
        return HumanXEnv(clips, settings, mode=mode, simulator=sim, groups=groups)  # type: ignore[arg-type]

    return {'noisy': make(base), 'clean': make(clean)}


def check_machine(config: TrainConfig, args: argparse.Namespace) -> None:
    """Refuse what this machine has not got, more environments than memory holds included, before anything begins.

    Fills in the device where none was named.
    """
    if args.device is None:
        args.device = 'cuda:0' if args.sim == 'mujoco_warp' and torch.cuda.is_available() else 'cpu'
    if args.sim == 'mujoco' and args.device != 'cpu':
        raise UserError(f'--device {args.device}: the simulator mujoco runs on the CPU; expected cpu.')
    if args.device.startswith('cuda') and not torch.cuda.is_available():
        raise UserError(f'--device {args.device}: torch sees no CUDA device here; expected cpu.')
    if args.sim != 'mujoco':
        return
    check_memory(config.env.num_envs, config.ppo.steps)
