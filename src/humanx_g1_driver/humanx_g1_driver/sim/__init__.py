"""The simulated G1: a process that speaks the robot's wire and publishes what a mocap system would see."""
