"""A Llama model as an ONNX graph, with the kernels that onnxruntime has for language models.

The graph has no batch of its own: all tokens of all rows are rows of one matrix, and only attention tells them apart.
Its weights are those of transformers' safetensors file, in bfloat16 as they are there; loading the graph converts them
to float32.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from simenv.errors import InputError

if TYPE_CHECKING:
    import onnx

Weights = dict[str, npt.NDArray[Any]]

_FUSED = "com.microsoft"
"""Domain of onnxruntime's own operators."""


@dataclass(frozen=True)
class LlamaShape:
    """The numbers of a Llama model."""

    layers: int
    heads: int
    kv_heads: int
    head_size: int
    vocab_size: int
    positions: int
    rope_theta: float
    epsilon: float
    tied: bool
    """Whether the matrix of the input tokens is also that of the output."""

    @classmethod
    def read(cls, folder: Path) -> LlamaShape:
        """From a transformers folder.

        Raises:
            InputError: the folder has a model that this graph cannot compute.
        """
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        rope = config.get("rope_parameters") or {}
        plain = {
            "model_type": "llama",
            "hidden_act": "silu",
            "attention_bias": False,
            "mlp_bias": False,
        }
        other = {name: config.get(name) for name, value in plain.items() if config.get(name) != value}
        if other or rope.get("rope_type") != "default":
            raise InputError(f"{folder}: runtime onnx computes plain Llama models, got {other or rope}")
        heads = config["num_attention_heads"]
        head_size = config.get("head_dim") or config["hidden_size"] // heads
        if head_size % 16:
            raise InputError(f"{folder}: runtime onnx needs heads of a multiple of 16 numbers, got {head_size}")
        return cls(
            layers=config["num_hidden_layers"],
            heads=heads,
            kv_heads=config["num_key_value_heads"],
            head_size=head_size,
            vocab_size=config["vocab_size"],
            positions=config["max_position_embeddings"],
            rope_theta=rope["rope_theta"],
            epsilon=config["rms_norm_eps"],
            tied=config["tie_word_embeddings"],
        )


def read_weights(file: Path) -> Weights:
    """Name -> weights of a safetensors file, mapped into memory. bfloat16 is a type of ml_dtypes."""
    from ml_dtypes import bfloat16

    types: dict[str, Any] = {"BF16": bfloat16, "F16": np.float16, "F32": np.float32}
    whole = np.memmap(file, dtype=np.uint8, mode="r")
    start = 8 + int(whole[:8].view(np.int64)[0])
    header = json.loads(bytes(whole[8:start]))
    header.pop("__metadata__", None)
    weights: Weights = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        weights[name] = whole[start + begin : start + end].view(types[entry["dtype"]]).reshape(entry["shape"])
    return weights


def rotary_tables(shape: LlamaShape) -> Weights:
    """Cosines and sines of every position (Su et al. 2021, "RoFormer", eq. 34): shape (positions, head size / 2)."""
    frequencies = 1 / shape.rope_theta ** (np.arange(0, shape.head_size, 2, dtype=np.float32) / shape.head_size)
    angles = np.arange(shape.positions, dtype=np.float32)[:, None] * frequencies.astype(np.float32)
    return {"cos": np.cos(angles), "sin": np.sin(angles)}


class _Nodes:
    """The nodes of a graph so far."""

    def __init__(self, weights: Mapping[str, npt.NDArray[Any]], changed: Collection[str]) -> None:
        self._weights = weights
        self._changed = changed
        self._there: set[str] = set()
        self.made: list[onnx.NodeProto] = []

    def add(self, operator: str, inputs: list[str], outputs: list[str], domain: str = "", **attributes: Any) -> str:
        from onnx import helper

        self.made.append(helper.make_node(operator, inputs, outputs, domain=domain, **attributes))
        return outputs[0]

    def weight(self, name: str) -> str:
        """The weight in float32, with its change; onnxruntime computes it once, when the graph is loaded."""
        from onnx import TensorProto

        exact = self._weights[name].dtype == np.float32
        last = f"{name}.changed" if name in self._changed else name if exact else f"{name}.float32"
        if last == name or last in self._there:
            return last
        self._there.add(last)
        plain = name if exact else self.add("Cast", [name], [f"{name}.float32"], to=TensorProto.FLOAT)
        if name in self._changed:
            change = self.add("MatMul", [f"{name}.up", f"{name}.down"], [f"{name}.change"])
            self.add("Add", [plain, change], [last])
        return last

    def linear(self, x: str, names: list[str], out: str) -> str:
        """x W^T for the rows of several matrices, one below the other."""
        matrices = [self.weight(name) for name in names]
        joined = matrices[0] if len(matrices) == 1 else self.add("Concat", matrices, [f"{out}.weight"], axis=0)
        return self.add("Gemm", [x, joined], [out], transB=1)


def llama_graph(
    shape: LlamaShape, weights: Mapping[str, npt.NDArray[Any]], changed: Collection[str] = ()
) -> onnx.GraphProto:
    """The graph.

    Inputs:
        ids: Token ids of all rows, one row after the other: shape (rows * new,).
        shape: (rows, new, width of queries, keys and values together).
        last: Of all rows' tokens, those whose logits are asked for.
        ends, total: For each row the place of its last token, and the longest row's number of tokens.
        past_k.i, past_v.i: Keys and values of the tokens before: shape (rows, kv heads, room, head size). Rows are
            padded on the right.
    Outputs:
        logits: shape (len(last), vocab).
        new_k.i, new_v.i: The same as past_k.i and past_v.i with the new tokens; they may be in the same memory.

    Args:
        shape: The model's numbers.
        weights: The model's weights; only names and types are read.
        changed: Names of weights to which the product of two more weights is added, NAME.up and NAME.down.
    """
    from onnx import TensorProto, helper

    nodes = _Nodes(weights, changed)
    nodes.add("Constant", [], ["flat"], value_ints=[-1, shape.heads * shape.head_size])
    x = nodes.add("Gather", [nodes.weight("model.embed_tokens.weight"), "ids"], ["embedded"])
    scale = nodes.weight("model.layers.0.input_layernorm.weight")
    h = nodes.add("SimplifiedLayerNormalization", [x, scale], ["normed"], epsilon=shape.epsilon, axis=-1)
    for i in range(shape.layers):
        name = f"model.layers.{i}."

        def added(y: str, x: str, norm: str, i: int = i) -> tuple[str, str]:
            """x + y, and the same normalized."""
            outputs = [f"{norm}.{i}.normed", "", "", f"{norm}.{i}.sum"]
            nodes.add(
                "SkipSimplifiedLayerNormalization", [y, x, nodes.weight(norm)], outputs, _FUSED, epsilon=shape.epsilon
            )
            return outputs[3], outputs[0]

        qkv = nodes.linear(h, [f"{name}self_attn.{part}_proj.weight" for part in "qkv"], f"qkv.{i}")
        nodes.add("Reshape", [qkv, "shape"], [f"qkv_rows.{i}"])
        nodes.add(
            "GroupQueryAttention",
            [f"qkv_rows.{i}", "", "", f"past_k.{i}", f"past_v.{i}", "ends", "total", "cos", "sin"],
            [f"attended.{i}", f"new_k.{i}", f"new_v.{i}"],
            _FUSED,
            num_heads=shape.heads,
            kv_num_heads=shape.kv_heads,
            do_rotary=1,
            rotary_interleaved=0,
            scale=shape.head_size**-0.5,
        )
        attended = nodes.add("Reshape", [f"attended.{i}", "flat"], [f"attended_flat.{i}"])
        out = nodes.linear(attended, [f"{name}self_attn.o_proj.weight"], f"out.{i}")
        x, h = added(out, x, f"{name}post_attention_layernorm.weight")
        nodes.linear(h, [f"{name}mlp.gate_proj.weight", f"{name}mlp.up_proj.weight"], f"gate_up.{i}")
        nodes.add("Split", [f"gate_up.{i}"], [f"gate.{i}", f"up.{i}"], axis=-1, num_outputs=2)
        nodes.add("QuickGelu", [f"gate.{i}"], [f"silu.{i}"], _FUSED, alpha=1.0)  # x sigmoid(x)
        nodes.add("Mul", [f"silu.{i}", f"up.{i}"], [f"gated.{i}"])
        down = nodes.linear(f"gated.{i}", [f"{name}mlp.down_proj.weight"], f"down.{i}")
        if i == shape.layers - 1:
            x, down = nodes.add("Gather", [x, "last"], ["last_x"]), nodes.add("Gather", [down, "last"], ["last_down"])
            x, h = added(down, x, "model.norm.weight")
        else:
            x, h = added(down, x, f"model.layers.{i + 1}.input_layernorm.weight")
    nodes.linear(h, ["model.embed_tokens.weight" if shape.tied else "lm_head.weight"], "logits")

    value = helper.make_tensor_value_info
    inputs = [
        value("ids", TensorProto.INT64, ["tokens"]),
        value("shape", TensorProto.INT64, [3]),
        value("last", TensorProto.INT64, ["asked"]),
        value("ends", TensorProto.INT32, ["rows"]),
        value("total", TensorProto.INT32, [1]),
    ]
    outputs = [value("logits", TensorProto.FLOAT, ["asked", shape.vocab_size])]
    for i in range(shape.layers):
        for part in "kv":
            sizes: list[str | int | None] = ["rows", shape.kv_heads, "room", shape.head_size]
            inputs.append(value(f"past_{part}.{i}", TensorProto.FLOAT, sizes))
            outputs.append(value(f"new_{part}.{i}", TensorProto.FLOAT, sizes))
    return helper.make_graph(nodes.made, "llama", inputs, outputs)
