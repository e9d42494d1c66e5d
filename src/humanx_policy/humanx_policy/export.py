"""Writing a policy file. Needs the ``onnx`` package; used by training, never on the robot."""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from humanx_policy import model_file
from humanx_policy.metadata import PolicyError, PolicyMetadata

Activation = Literal['elu', 'relu', 'tanh']
# Old enough for the onnxruntime of any robot's computer, new enough for everything used here.
OPSET, IR_VERSION = 17, 8


@dataclass(frozen=True)
class Mlp:
    """A perceptron with its input normalisation.

    ``action = W_n f(... f(W_1 clip((obs - mean) / std) + b_1) ...) + b_n``; every ``W`` (out, in)
    as torch keeps it, ``b`` (out,). ``obs_mean`` and ``obs_std`` (O,) or None; ``obs_clip`` limits
    the normalised observation, ``action_lower`` and ``action_upper`` (A,), given together, the action.
    """

    layers: Sequence[tuple[np.ndarray, np.ndarray]]
    activation: Activation = 'elu'
    obs_mean: np.ndarray | None = None
    obs_std: np.ndarray | None = None
    obs_clip: float | None = None
    action_lower: np.ndarray | None = None
    action_upper: np.ndarray | None = None

    def __post_init__(self) -> None:
        if not self.layers:
            raise ValueError('layers are empty; expected at least one')
        if self.activation not in ('elu', 'relu', 'tanh'):
            raise ValueError(f'activation is {self.activation!r}; expected elu, relu or tanh')
        width = self.layers[0][0].shape[1]
        for name in ('obs_mean', 'obs_std'):
            value = getattr(self, name)
            if value is not None and np.shape(value) != (width,):
                raise ValueError(f'{name} has shape {np.shape(value)}; expected ({width},)')
        if self.obs_std is not None and not np.all(np.asarray(self.obs_std) > 0):
            raise ValueError('obs_std holds a number that is not above 0')
        for index, (weight, bias) in enumerate(self.layers):
            if weight.shape != (bias.shape[0], width) or bias.ndim != 1:
                raise ValueError(
                    f'layer {index} has weights {weight.shape} and bias {bias.shape}; '
                    f'expected (out, {width}) and (out,)'
                )
            if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
                raise ValueError(f'layer {index} holds a non-finite number')
            width = weight.shape[0]


def build_graph(mlp: Mlp) -> bytes:
    """Return the ONNX model of ``mlp``: ``obs`` (1, O) to ``action`` (1, A), float32."""
    from onnx import TensorProto, helper, numpy_helper

    nodes, constants = [], []
    value = model_file.INPUT

    def constant(name: str, array: Any) -> str:
        constants.append(numpy_helper.from_array(np.asarray(array, dtype=np.float32), name))
        return name

    def add(operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    if mlp.obs_mean is not None:
        value = add('Sub', [value, constant('obs_mean', mlp.obs_mean)], 'centred')
    if mlp.obs_std is not None:
        value = add('Div', [value, constant('obs_std', mlp.obs_std)], 'normalised')
    if mlp.obs_clip is not None:
        limits = [constant('clip_lower', -mlp.obs_clip), constant('clip_upper', mlp.obs_clip)]
        value = add('Clip', [value, *limits], 'clipped')
    last = len(mlp.layers) - 1
    for index, (weight, bias) in enumerate(mlp.layers):
        inputs = [value, constant(f'weight_{index}', weight), constant(f'bias_{index}', bias)]
        output = model_file.OUTPUT if index == last and mlp.action_lower is None else f'linear_{index}'
        value = add('Gemm', inputs, output, transB=1)
        if index != last:
            value = add(mlp.activation.capitalize(), [value], f'hidden_{index}')
    if mlp.action_lower is not None and mlp.action_upper is not None:
        value = add('Max', [value, constant('action_lower', np.atleast_2d(mlp.action_lower))], 'raised')
        add('Min', [value, constant('action_upper', np.atleast_2d(mlp.action_upper))], model_file.OUTPUT)
    shapes = [mlp.layers[0][0].shape[1], mlp.layers[-1][0].shape[0]]
    tensors = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, width])
        for name, width in zip((model_file.INPUT, model_file.OUTPUT), shapes)
    ]
    graph = helper.make_graph(nodes, 'policy', tensors[:1], tensors[1:], constants)
    model = helper.make_model(graph, producer_name='humanx', opset_imports=[helper.make_opsetid('', OPSET)])
    model.ir_version = IR_VERSION
    return model.SerializeToString()


def with_metadata(model: bytes, metadata: PolicyMetadata) -> bytes:
    """Return ``model`` with its ``metadata_props`` replaced by ``metadata``."""
    import onnx

    proto = onnx.load_from_string(model)
    onnx.helper.set_model_props(proto, metadata.to_strings())
    return proto.SerializeToString()


def write_policy(path: Path, model: Mlp | bytes, metadata: PolicyMetadata) -> str:
    """Write a policy file and return its SHA-256.

    ``model`` is a perceptron or any serialised ONNX graph from ``obs`` to ``action`` (its own
    weights inside). The result is checked as the robot will check it before anything is written,
    and replaces ``path`` at once or not at all. Raises :class:`PolicyError`.
    """
    graph = build_graph(model) if isinstance(model, Mlp) else model
    content = with_metadata(graph, metadata)
    try:
        model_file.inspect(content)
    except PolicyError as error:
        raise PolicyError([f'{path}: {problem}' for problem in error.problems]) from None
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.')
    try:
        with os.fdopen(handle, 'wb') as file:
            file.write(content)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    return model_file.sha256(content)
