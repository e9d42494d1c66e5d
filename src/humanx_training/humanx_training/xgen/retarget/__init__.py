"""Retargeting of a :class:`HumanMotion` to the G1: keypoints, scaling, IK, foot plan, whole-trajectory refinement."""
