"""Reading a policy file: the bytes, the session, the checks. Needs onnxruntime only.

A file is read once and hashed, and the session is made from those same bytes: what was checked is
what runs.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from humanx_description import robot
from humanx_description.errors import UserError
from humanx_policy.metadata import PolicyError, PolicyMetadata

INPUT, OUTPUT = 'obs', 'action'
MAX_BYTES = 512 * 2**20


def read_bytes(path: Path) -> bytes:
    """Return the content of a policy file, or raise :class:`UserError`."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f'{path}: is larger than {MAX_BYTES >> 20} MiB; expected a policy file.')
        return path.read_bytes()
    except OSError as error:
        raise UserError(f'{path}: cannot be read ({error.strerror}); expected a policy file (.onnx).') from None


def sha256(content: bytes) -> str:
    """Return the SHA-256 of a file's content in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def open_session(content: bytes) -> Any:
    """Return an onnxruntime session of one thread, or raise :class:`PolicyError`.

    One thread: the network is small, and threads that wake each other cost more than they save and
    disturb the driver's loop.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(content, options, providers=['CPUExecutionProvider'])
    except Exception as error:  # onnxruntime has a class per failure, all without a common base
        reason = str(error).splitlines()[0]
        raise PolicyError([f'The file is no ONNX model that can be loaded ({reason}); is it cut?']) from None


def inspect(content: bytes) -> tuple[Any, PolicyMetadata]:
    """Return a policy's session and metadata, or raise :class:`PolicyError` with every problem."""
    session = open_session(content)
    problems = _signature_problems(session)
    metadata = None
    try:
        metadata = PolicyMetadata.from_strings(session.get_modelmeta().custom_metadata_map)
    except PolicyError as error:
        problems += error.problems
    if metadata is not None and not problems:
        problems += _run_problems(session, metadata)
    if problems or metadata is None:
        raise PolicyError(problems)
    return session, metadata


def _signature_problems(session: Any) -> list[str]:
    problems = []
    for kind, values, name in (
        ('input', session.get_inputs(), INPUT),
        ('output', session.get_outputs(), OUTPUT),
    ):
        names = [value.name for value in values]
        if names != [name]:
            problems.append(f'The model has the {kind}s {names}; expected one, {name!r}.')
            continue
        value = values[0]
        if value.type != 'tensor(float)':
            problems.append(f'The {kind} {name!r} is a {value.type}; expected float32.')
        batch = value.shape[0] if len(value.shape) == 2 else None
        if len(value.shape) != 2 or (isinstance(batch, int) and batch != 1):
            problems.append(f'The {kind} {name!r} has shape {value.shape}; expected (1, width).')
        elif name == OUTPUT and value.shape[1] != robot.NUM_JOINTS:
            problems.append(
                f'The output {name!r} has width {value.shape[1]}; expected {robot.NUM_JOINTS}, one number per joint.'
            )
    return problems


def _run_problems(session: Any, metadata: PolicyMetadata) -> list[str]:
    """Run the network on a few plausible observations."""
    size = metadata.observation_terms.size
    width = session.get_inputs()[0].shape[1]
    if width != size:
        return [
            f"The input {INPUT!r} has width {width}, but the metadata key 'observation_terms' "
            f'describes {size} numbers; expected the same.'
        ]
    rng = np.random.default_rng(0)
    samples = [np.zeros((1, size)), *rng.normal(size=(4, 1, size))]
    for sample in samples:
        try:
            first = session.run([OUTPUT], {INPUT: sample.astype(np.float32)})[0]
            second = session.run([OUTPUT], {INPUT: sample.astype(np.float32)})[0]
        except Exception as error:
            return [f'The model cannot run ({str(error).splitlines()[0]}).']
        if first.shape != (1, robot.NUM_JOINTS):
            return [f'The model returned shape {first.shape}; expected (1, {robot.NUM_JOINTS}).']
        if not np.isfinite(first).all():
            return ['The model returned a non-finite action for a plausible observation.']
        if not np.array_equal(first, second):
            return ['The model is not deterministic: two runs on one observation differ.']
    return []


def check_file(path: Path) -> list[str]:
    """Return what is wrong with a policy file in sentences, empty if nothing is.

    Raises :class:`UserError` only where the file cannot be read at all.
    """
    try:
        inspect(read_bytes(path))
    except PolicyError as error:
        return error.problems
    return []
