"""The model-based teacher: feasible motions, feedback around them, and labels from both."""
