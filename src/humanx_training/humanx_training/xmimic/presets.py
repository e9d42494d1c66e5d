"""Methods of the paper's comparison as settings alone (``--preset``), and sizes of the training (``--scale``).

The ladder: ``base``; ``+di`` adds disturbed initialisation; ``+it`` interaction termination (and adaptive sampling of
hard segments); ``+aug`` the augmented clips of a clip set, of which those before it take the originals only;
``+teastu``, which is all of ``xmimic``, a student that learns from teachers.
"""

from __future__ import annotations

from typing import Any

from humanx_description.errors import UserError

_OFF: dict[str, Any] = {'weight': 0.0}
_NO_INTERACTION = {'interaction': False}
_TRACKING_ONLY = dict.fromkeys(
    ('object_pos', 'relative_pos', 'hands_relative_pos', 'contact', 'object_rot', 'object_vel'), _OFF
)
_BASE: dict[str, Any] = {
    'env': {'init': {'disturb': False, 'adaptive': 0.0}, 'termination': _NO_INTERACTION},
    'augmented': False,
    'student_teacher': False,
}
_DI: dict[str, Any] = {
    'env': {'init': {'disturb': True, 'adaptive': 0.0}, 'termination': _NO_INTERACTION},
    'augmented': False,
    'student_teacher': False,
}
_IT: dict[str, Any] = {
    'env': {'init': {'disturb': True}, 'termination': {'interaction': True}},
    'augmented': False,
    'student_teacher': False,
}

PRESETS: dict[str, dict[str, Any]] = {
    # SkillMimic: groups of errors multiplied, lambda: p 20, r 20, object 1, relative 20, contact 5.
    'skillmimic': {
        'env': {
            'residual': False,
            'reward': {
                'combine': 'product',
                'upper_body_pos': {'weight': 20.0}, 'lower_body_pos': {'weight': 20.0},
                'hands_pos': _OFF, 'feet_pos': _OFF, 'body_rot': {'weight': 20.0}, 'body_ang_vel': _OFF,
                'body_lin_vel': _OFF, 'joint_pos': _OFF, 'joint_vel': _OFF,
                'object_pos': {'weight': 1.0}, 'relative_pos': {'weight': 20.0}, 'hands_relative_pos': _OFF,
                'contact': {'weight': 5.0},
            },
            'init': {'disturb': False, 'adaptive': 0.0},
            'termination': _NO_INTERACTION,
        },
        'augmented': False,
        'student_teacher': False,
    },
    # HDMI: residual actions, tracking 0.5 per term, object 1.0 at 0.5, contact 1.0 at 0.3, no interaction termination
    # but an end after 25 steps of lost contact: the same expected time as p = 0.04 per step.
    'hdmi': {
        'env': {
            'residual': True,
            'reward': {
                'upper_body_pos': {'weight': 0.5}, 'lower_body_pos': {'weight': 0.5}, 'hands_pos': {'weight': 0.5},
                'feet_pos': {'weight': 0.5}, 'body_rot': {'weight': 0.5}, 'body_lin_vel': {'weight': 0.5},
                'joint_pos': {'weight': 0.5}, 'object_pos': {'weight': 1.0, 'scale': 0.5},
                'relative_pos': _OFF, 'hands_relative_pos': _OFF, 'contact': {'weight': 1.0, 'scale': 0.3},
            },
            'init': {'disturb': False, 'adaptive': 0.0},
            'termination': {'interaction': True, 'interaction_p': 0.04},
        },
        'augmented': False,
        'student_teacher': False,
    },
    # OmniRetarget-style: a tracker of the body's motion on augmented clips; the object is only simulated.
    'omniretarget': {
        'env': {
            'reward': _TRACKING_ONLY, 'termination': {'motion': 0.25, 'orientation': 0.8, 'interaction': False},
            'init': {'disturb': False},
        },
        'student_teacher': False,
    },
    'base': _BASE,
    '+di': _DI,
    '+it': _IT,
    '+aug': {**_IT, 'augmented': True},
    '+teastu': {'student_teacher': True},
    'xmimic': {},
}  # fmt: skip

SCALES: dict[str, dict[str, Any]] = {
    'laptop': {},
    'paper': {
        'env': {'num_envs': 16384},
        'ppo': {'hidden': [512, 256, 256], 'init_std': 0.8, 'epochs': 5, 'entropy': 0.01},
        'amp': {'enabled': True},
        'iterations': 20_000,
    },
}


def preset(name: str) -> dict[str, Any]:
    """Return the settings of a method; raises :class:`UserError` with the known names."""
    if name not in PRESETS:
        raise UserError(f'--preset {name!r} does not exist; expected one of {", ".join(PRESETS)}.')
    return PRESETS[name]


def scale(name: str) -> dict[str, Any]:
    """Return the settings of a size; raises :class:`UserError` with the known names."""
    if name not in SCALES:
        raise UserError(f'--scale {name!r} does not exist; expected one of {", ".join(SCALES)}.')
    return SCALES[name]
