"""The floor under a person whose source does not know where it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from humanx_training.xgen.human_motion import JOINT, HumanMotion

TOE_HEIGHT = 0.03  # m, of the toe joint above the floor when the foot stands


def put_on_floor(motion: HumanMotion) -> HumanMotion:
    """Return the motion moved up or down so that its toes, when lowest, are where standing toes are."""
    toes = motion.pos[:, [JOINT['left_foot'], JOINT['right_foot']], 2].min(axis=1)
    drop = float(np.percentile(toes, 10)) - TOE_HEIGHT
    pos = motion.pos.copy()
    pos[..., 2] -= drop
    captured = motion.captured
    if captured is not None:
        captured = replace(captured, pos=captured.pos - np.array([0.0, 0.0, drop]))
    return replace(motion, pos=pos, captured=captured, provenance={**motion.provenance, 'floor_shift_m': -drop})
