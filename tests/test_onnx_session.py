"""Graphs of our own on onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from simenv.onnx_session import open_session


@pytest.mark.parametrize("threads", [1, 2])
def test_a_graph_runs_on_weights_in_memory_and_a_row_does_not_depend_on_its_batch(threads: int) -> None:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((64, 96), dtype=np.float32)
    rows = rng.standard_normal((16, 64), dtype=np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 96])],
    )
    session = open_session(graph, {"w": weight}, threads=threads)
    (together,) = session.run(None, {"x": rows})
    assert np.allclose(together, rows @ weight, atol=1e-4)
    (some,) = session.run(None, {"x": rows[4:9]})
    assert np.array_equal(some, together[4:9])
