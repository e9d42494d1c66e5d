# Training on NVIDIA GPUs: the pip environment of `make setup`, with the CUDA build of torch and mujoco_warp.
#   docker build -f docker/training.Dockerfile -t humanx-training .
#   docker run --gpus all -v "$PWD/runs:/humanx/runs" humanx-training humanx train --help
FROM python:3.11-bookworm

WORKDIR /humanx
COPY requirements.lock requirements.txt Makefile ./
COPY scripts scripts
RUN scripts/setup --no-build && rm -rf /var/lib/apt/lists/* /root/.cache

# The engine for thousands of environments on one GPU; it follows mujoco's version.
RUN .venv/bin/python -m pip install --no-cache-dir mujoco-warp~=3.11.0

COPY . .
RUN scripts/build

ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility,graphics MUJOCO_GL=egl
ENTRYPOINT ["bash", "-c", ". scripts/env.sh && exec \"$@\"", "--"]
CMD ["humanx", "--help"]
