"""The embedded model on onnxruntime: the logits of transformers, and the same bits for a row in any company."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from simenv.errors import InputError
from simenv.llm.chat_tokenizer import ChatTokenizer
from simenv.llm.local import LocalLLM
from simenv.llm.onnx_runtime import OnnxRuntime
from simenv.llm.prefixes import Prefixes
from simenv.llm.runtime import Logits
from simenv.llm.special_tokens import control_tokens
from simenv.llm.weights import embedded_path

pytestmark = pytest.mark.weights


@pytest.fixture(scope="module")
def runtime(embedded: LocalLLM) -> OnnxRuntime:
    assert isinstance(embedded._runtime, OnnxRuntime)
    return embedded._runtime


def random_prompts(*lengths: int) -> list[list[int]]:
    rng = np.random.default_rng(0)
    return [rng.integers(3, 40_000, length).tolist() for length in lengths]


def decode(runtime: OnnxRuntime, prompts: Sequence[Sequence[int]], steps: int = 2) -> list[Logits]:
    """Logits after each prompt and after each of the likeliest next tokens; nothing is known of the prompts before."""
    runtime.prefixes = Prefixes()
    batch, logits = runtime.read(prompts)
    rows = [[row.copy()] for row in logits]
    for _ in range(steps):
        logits = batch.step([[int(token)] for token in logits.argmax(axis=1)])
        for row, after in zip(rows, logits, strict=True):
            row.append(after)
    return [np.stack(row) for row in rows]


def test_a_row_has_the_same_bits_alone_and_in_any_batch(runtime: OnnxRuntime) -> None:
    """At any place, beside shorter and longer rows, with a beginning that others share, and after rows left."""
    begin, *ends = random_prompts(40, 3, 17, 30)
    prompts = [*(begin + end for end in ends), *random_prompts(5, 70), begin + ends[0]]
    together = decode(runtime, prompts)
    for i in (0, 2, 4):
        assert np.array_equal(decode(runtime, [prompts[i]])[0], together[i])
    assert np.array_equal(together[0], together[5])
    assert np.array_equal(decode(runtime, prompts[::-1])[3], together[2])
    pair = decode(runtime, [prompts[2], prompts[3]])
    batch, logits = runtime.read(prompts)
    batch.keep([3, 2])  # in another order
    assert np.array_equal(logits[[3, 2]], [pair[1][0], pair[0][0]])
    after = batch.step([[int(pair[1][0].argmax())], [int(pair[0][0].argmax())]])
    assert np.array_equal(after, [pair[1][1], pair[0][1]])
    joined = batch.add([prompts[4]])
    assert np.array_equal(joined[0], together[4][0])
    tokens = [pair[1][1], pair[0][1], together[4][0]]
    after = batch.step([[int(row.argmax())] for row in tokens])
    assert np.array_equal(after, [pair[1][2], pair[0][2], together[4][1]])


def test_a_prompt_has_the_same_bits_read_whole_and_in_parts(runtime: OnnxRuntime) -> None:
    """So that a shared beginning may be read once. Parts have two tokens or more."""
    (prompt,) = random_prompts(120)
    (whole,) = decode(runtime, [prompt], steps=0)
    for parts in ([2, 118], [118, 2], [50, 2, 68], [64, 56]):
        memory, done = runtime.memory(1, len(prompt)), 0
        for part in parts:
            logits = runtime.run(memory, [prompt[done : done + part]], done)
            done += part
        assert np.array_equal(logits, whole), parts


def test_the_last_token_of_a_pass_is_never_alone_in_a_block_of_attention(runtime: OnnxRuntime) -> None:
    """A block has 128 tokens. Alone in one, a token took another kernel: 129 tokens at once gave other bits."""
    (prompt,) = random_prompts(129)
    whole = next(iter(runtime.score(prompt[:20], [prompt[20:]])))
    memory = runtime.memory(1, len(prompt))
    runtime.run(memory, [prompt[:60]], 0)
    assert np.array_equal(runtime.run(memory, [prompt[60:]], 60), whole[-1:])
    at_once = runtime.run(runtime.memory(1, len(prompt)), [prompt], 0, [30, 126, 127, 128])
    assert np.array_equal(at_once, whole[[11, 107, 108, 109]])


@pytest.mark.slow  # `pytest -m slow tests/llm/test_onnx_runtime.py`: loads the embedded model twice
def test_threads_change_no_bit(runtime: OnnxRuntime) -> None:
    prompts = random_prompts(30, 7, 200)
    one, two = (decode(OnnxRuntime(embedded_path(), threads=threads), prompts, 8) for threads in (1, 2))
    assert np.array_equal(np.stack(one), np.stack(two))


def test_logits_are_those_of_transformers(runtime: OnnxRuntime, on_torch: LocalLLM) -> None:
    (prompt,) = random_prompts(60)
    ours = next(iter(runtime.score(prompt[:20], [prompt[20:]])))
    with torch.inference_mode():
        theirs = on_torch._model(torch.tensor([prompt])).logits[0, 19:]
    assert np.abs(ours - theirs.numpy()).max() < 5e-4


def test_scores_of_a_prompt_do_not_depend_on_what_was_scored_before(runtime: OnnxRuntime) -> None:
    first, second = random_prompts(20, 35)
    rows = random_prompts(4, 1)
    before = list(map(np.copy, runtime.score(first, [*rows, []])))
    list(runtime.score(second, rows))
    list(runtime.score(first, [rows[1]]))
    for a, b in zip(before, runtime.score(first, [*rows, []]), strict=True):
        assert np.array_equal(a, b)
    assert [len(scores) for scores in before] == [5, 2, 1]


def test_the_tokenizer_is_that_of_transformers(embedded: LocalLLM, on_torch: LocalLLM) -> None:
    ours, theirs = embedded._tokenizer, on_torch._tokenizer
    assert isinstance(ours, ChatTokenizer)
    assert control_tokens(ours) == control_tokens(theirs)
    assert (len(ours), ours.eos_token_id) == (len(theirs), theirs.eos_token_id)
    for text in ("Hi , there!\n\n  <|im_end|> it's <s>", "Grüße 😀 @Boots@[ad-1]", ""):
        for split in (True, False):
            ids = ours.encode(text, split_special_tokens=split)
            assert ids == theirs.encode(text, add_special_tokens=False, split_special_tokens=split)
            assert ours.decode(ids) == theirs.decode(ids)
            assert ours.convert_ids_to_tokens(ids) == theirs.convert_ids_to_tokens(ids)
    for system in ([], [{"role": "system", "content": " Be brief. "}]):
        messages = [*system, {"role": "user", "content": "Which boots?"}]
        assert ours.apply_chat_template(messages) == theirs.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )


def test_what_the_graph_cannot_compute_is_refused(tiny: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny, tmp_path / "model")
    config = tmp_path / "model" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"model_type": "qwen3"}))
    with pytest.raises(InputError, match=r"runtime onnx computes plain Llama models, got .'model_type': 'qwen3'"):
        LocalLLM(tmp_path / "model", runtime="onnx")
    with pytest.raises(InputError, match="runtime onnx computes in float32 on the CPU, got dtype bfloat16"):
        LocalLLM(tiny, runtime="onnx", dtype="bfloat16")
