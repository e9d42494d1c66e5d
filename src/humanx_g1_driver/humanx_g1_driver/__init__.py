"""The Unitree G1: 1 kHz driver with its safety machine, wire format, transports, and the simulated robot."""
