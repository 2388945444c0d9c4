"""Graphs that simenv writes in ONNX, run by onnxruntime on weights that are in memory.

onnxruntime gives a row of a batch the same bits for any other rows in the batch and for any number of threads, which
transformers does not, and it needs no torch. Whether both hold for a graph is tested where the graph is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import onnx


def open_session(graph: onnx.GraphProto, weights: Mapping[str, npt.NDArray[Any]], *, threads: int = 1) -> Any:
    """Loads a graph for inference on the CPU.

    Args:
        graph: The graph, without initializers.
        weights: Name of an input of a node -> its value. An array that is not contiguous is copied; the others are
            used where they are, and must not change.
        threads: Threads of one call of `run`. Threads that wait do not spin: they leave the processor to others.

    Returns:
        The `onnxruntime.InferenceSession`.
    """
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    with_weights = onnx.GraphProto()
    with_weights.CopyFrom(graph)
    held = []  # the session reads these arrays as long as it lives
    for name, value in weights.items():
        array = np.ascontiguousarray(value)
        place = with_weights.initializer.add()  # says that the weight is elsewhere; the session gets it from `options`
        place.name, place.data_type = name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        place.dims.extend(array.shape)
        place.data_location = onnx.TensorProto.EXTERNAL
        place.external_data.add(key="location", value="in memory")
        held.append(_ort_value(array, place.data_type))
    options.add_external_initializers(list(weights), held)
    opsets = [onnx.helper.make_opsetid("", 21), onnx.helper.make_opsetid("com.microsoft", 1)]
    model = onnx.helper.make_model(with_weights, opset_imports=opsets, ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    session.weights = held
    return session


def _ort_value(array: npt.NDArray[Any], onnx_type: int) -> Any:
    from onnxruntime import OrtValue

    if array.dtype.kind in "fiub":
        return OrtValue.ortvalue_from_numpy(array)
    raw = array.view(np.dtype(f"u{array.dtype.itemsize}"))  # a type of ml_dtypes, such as bfloat16
    return OrtValue.ortvalue_from_numpy_with_onnx_type(raw, onnx_type)
