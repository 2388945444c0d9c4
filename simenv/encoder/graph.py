"""The BERT encoder of all-MiniLM-L6-v2 as an ONNX graph, for token rows without padding.

The texts of a batch stand one after another in one matrix of shape (tokens, 384), so the layers that treat each token
alone, 97% of the arithmetic, do none for padding. Attention needs one row per text: tokens are spread into shape
(texts, longest) and gathered again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import onnx

WIDTH = 384
_LAYERS = 6
_HEADS = 12
_EPSILON = 1e-12
_FUSED = "com.microsoft"
"""Domain of onnxruntime's fused operators. BiasGelu is the exact GELU with erf, as in the model's configuration."""

Weights = dict[str, npt.NDArray[Any]]


def minilm_graph(saved: Mapping[str, npt.NDArray[Any]]) -> tuple[onnx.GraphProto, Weights]:
    """Builds the graph.

    Args:
        saved: The weights by their names in the model's safetensors file.

    Returns:
        The graph and its weights. Inputs, all int32: `ids` and `places`, shape (tokens,), a token's number in the
        vocabulary and its place in its text; `spread`, shape (texts, longest), the row of each token of a text, any
        row where the text has ended; `mask`, the same shape, 1 for a token and 0 behind the end; `gather`, shape
        (tokens,), where in `spread`, read row by row, each token stands. Output `hidden`: shape (tokens, 384).
    """
    from onnx import TensorProto, helper

    weights: Weights = {}
    nodes = []

    def node(kind: str, inputs: list[str], output: str, domain: str = "", **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, [output], domain=domain, **attributes))
        return output

    def weight(name: str, value: npt.NDArray[Any]) -> str:
        weights[name] = value
        return name

    def vector(name: str) -> str:
        return weight(name, saved[name])

    def dense(x: str, name: str, output: str, *bias: str) -> str:
        """A linear layer; its bias may be added by the fused operator that follows."""
        return node("Gemm", [x, vector(f"{name}.weight"), *bias], output, transB=1)

    def normed(x: str, residual: str, name: str, output: str, *bias: str) -> str:
        parts = [x, residual, vector(f"{name}.weight"), vector(f"{name}.bias"), *bias]
        return node("SkipLayerNormalization", parts, output, _FUSED, epsilon=_EPSILON)

    node("Constant", [], "flat", value_ints=[-1, WIDTH])
    kind = saved["embeddings.token_type_embeddings.weight"][0]  # all tokens are of the first kind
    word = node("Gather", [vector("embeddings.word_embeddings.weight"), "ids"], "words")
    places = weight("places_and_kind", saved["embeddings.position_embeddings.weight"] + kind)
    hidden = normed(word, node("Gather", [places, "places"], "placed"), "embeddings.LayerNorm", "hidden0")
    for layer in range(_LAYERS):
        name = f"encoder.layer.{layer}"
        spread = []
        for part in ("query", "key", "value"):
            of_part = f"{name}.attention.self.{part}"
            rows = dense(hidden, of_part, f"{part}{layer}", vector(f"{of_part}.bias"))
            spread.append(node("Gather", [rows, "spread"], f"spread_{part}{layer}"))
        rows = node("MultiHeadAttention", [*spread, "", "mask"], f"mixed{layer}", _FUSED, num_heads=_HEADS)
        rows = node("Gather", [node("Reshape", [rows, "flat"], f"flat{layer}"), "gather"], f"gathered{layer}")
        block = f"{name}.attention.output"
        rows = dense(rows, f"{block}.dense", f"attended{layer}")
        between = normed(rows, hidden, f"{block}.LayerNorm", f"between{layer}", vector(f"{block}.dense.bias"))
        block = f"{name}.intermediate.dense"
        rows = dense(between, block, f"wide{layer}")
        rows = node("BiasGelu", [rows, vector(f"{block}.bias")], f"active{layer}", _FUSED)
        block = f"{name}.output"
        rows = dense(rows, f"{block}.dense", f"narrow{layer}")
        output = "hidden" if layer == _LAYERS - 1 else f"hidden{layer + 1}"
        hidden = normed(rows, between, f"{block}.LayerNorm", output, vector(f"{block}.dense.bias"))
    shapes = {"ids": ["tokens"], "places": ["tokens"], "gather": ["tokens"]}
    shapes |= {"spread": ["texts", "longest"], "mask": ["texts", "longest"]}
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT32, shape) for name, shape in shapes.items()]
    outputs = [helper.make_tensor_value_info("hidden", TensorProto.FLOAT, ["tokens", WIDTH])]
    return helper.make_graph(nodes, "all-MiniLM-L6-v2", inputs, outputs), weights


def batch_of(texts: list[list[int]]) -> dict[str, npt.NDArray[np.int32]]:
    """The inputs of the graph for texts given as token numbers; a text has at least one token.

    `longest` is a multiple of 16, the widest vector of a processor: the sum over a row of attention then adds the
    zeros behind a text's end without changing the order of the others, so a text's bits are those it has alone.
    """
    lengths = np.array([len(ids) for ids in texts])
    longest = -(-int(lengths.max()) // 16) * 16
    mask = np.arange(longest) < lengths[:, None]
    spread = np.zeros(mask.shape, np.int32)
    spread[mask] = np.arange(lengths.sum())
    batch = {
        "ids": np.concatenate(texts),
        "places": np.concatenate([np.arange(length) for length in lengths]),
        "spread": spread,
        "mask": mask,
        "gather": np.flatnonzero(mask),
    }
    return {name: values.astype(np.int32) for name, values in batch.items()}
