"""The embedded encoder: what it computes, and that a text's vector depends on the text alone."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from safetensors.numpy import load_file

from simenv.encoder import Vectors, default_encoder
from simenv.encoder.graph import batch_of, minilm_graph
from simenv.llm.torch_env import set_torch_defaults
from simenv.llm.weights import encoder_path
from simenv.market.catalog import load_catalog
from simenv.onnx_session import open_session

SENTENCE = "warm boots for a long winter walk in the Alps: [SEP] über 日本語 🎉 bid-free, 20% off!"
WORDS = SENTENCE.split()
LENGTHS = (1, 2, 5, 9, 12, 13, 14, 15, 16, 40)
TEXTS = ["", "a", *(" ".join(itertools.islice(itertools.cycle(WORDS), n)) for n in LENGTHS)]
LONG = " ".join(itertools.islice(itertools.cycle(WORDS), 300))

EXPECTED = [
    [-0.1188384, 0.0359495, 0.0377175, -0.0184271],
    [-0.0364329, 0.007633, 0.1274897, -0.0450193],
    [-0.0688785, 0.0328076, 0.0795885, -0.0183944],
    [-0.0971369, 0.0086604, 0.079275, 0.0236822],
    [-0.0857385, -0.0118427, 0.085795, 0.0315821],
    [-0.0610629, 3.33e-05, 0.1057896, 0.0867601],
    [-0.0753555, 0.0249812, 0.0839642, 0.0932928],
    [-0.0823498, 0.0031238, 0.0506974, 0.0864881],
    [-0.0925028, 0.008239, 0.0618059, 0.0871711],
    [-0.1123647, 0.0179729, 0.0565761, 0.0804725],
    [-0.085271, 0.0116173, 0.0645762, 0.0976626],
    [-0.0885496, 0.0046437, 0.0627524, 0.0957846],
    [-0.1044191, 0.0149666, 0.0422062, 0.0889017],
]
"""Components 0, 100, 200 and 300 of the vectors of TEXTS and LONG, from transformers."""

pytestmark = pytest.mark.weights


@pytest.fixture(scope="module")
def alone() -> dict[str, Vectors]:
    """Each text's vector, computed in a batch of its own."""
    encoder = default_encoder()
    return {text: encoder._forward([text])[0] for text in (*TEXTS, LONG)}


def test_the_vectors_are_those_of_the_transformers_model(alone: dict[str, Vectors]) -> None:
    """Some of their numbers are known; the slow test below computes others."""
    some = np.stack(list(alone.values()))[:, ::100]
    assert np.abs(some - np.array(EXPECTED)).max() < 1e-6


@pytest.mark.slow  # loads torch and transformers: pytest -m slow tests/encoder
def test_hundreds_of_vectors_are_those_of_the_transformers_model(alone: dict[str, Vectors]) -> None:
    set_torch_defaults()
    import torch
    from transformers import AutoModel, AutoTokenizer

    texts = [*alone, *(ad.text for ad in load_catalog())]
    tokenizer = AutoTokenizer.from_pretrained(encoder_path())
    model = AutoModel.from_pretrained(encoder_path()).eval()
    options = {"truncation": True, "max_length": 256, "split_special_tokens": True, "return_tensors": "pt"}
    with torch.inference_mode():
        hidden = [model(**tokenizer(text, **options)).last_hidden_state[0].mean(0) for text in texts]
    expected = torch.nn.functional.normalize(torch.stack(hidden)).numpy()
    found = default_encoder().encode(texts)
    assert len(texts) > 200
    assert np.abs(found - expected).max() < 1e-6
    assert (found * expected).sum(axis=1).min() > 0.999999


def test_a_vector_does_not_depend_on_the_batch(alone: dict[str, Vectors]) -> None:
    """Every text with every other one, at the first and at the last place, and all together in two orders."""
    encoder = default_encoder()
    ids = {text: encoder._tokenizer.encode(text).ids for text in alone}
    batches = [list(pair) for pair in itertools.permutations([*TEXTS[:4], TEXTS[-2], TEXTS[-1]], 2)]
    for batch in [*batches, list(alone), list(alone)[::-1], [*TEXTS, *TEXTS]]:
        for text, vector in zip(batch, encoder._run([ids[text] for text in batch]), strict=True):
            assert np.array_equal(vector, alone[text]), (text, batch)


def test_a_vector_does_not_depend_on_other_threads(alone: dict[str, Vectors]) -> None:
    encoder = default_encoder()
    with ThreadPoolExecutor(4) as pool:
        for vectors in pool.map(encoder._forward, [TEXTS] * 4):
            assert all(np.array_equal(vector, alone[text]) for text, vector in zip(TEXTS, vectors, strict=True))


def test_a_vector_does_not_depend_on_the_number_of_threads(alone: dict[str, Vectors]) -> None:
    encoder = default_encoder()
    session = open_session(*minilm_graph(load_file(encoder_path() / "model.safetensors")), threads=2)
    batch = batch_of([encoder._tokenizer.encode(text).ids for text in TEXTS])
    assert np.array_equal(session.run(None, batch)[0], encoder._session.run(None, batch)[0])


def test_only_the_first_256_tokens_count(alone: dict[str, Vectors]) -> None:
    assert len(default_encoder()._tokenizer.encode(LONG).ids) == 256
    assert np.array_equal(default_encoder()._forward([f"{LONG} and more"])[0], alone[LONG])


def test_vectors_have_length_one_and_come_in_the_order_of_the_texts(alone: dict[str, Vectors]) -> None:
    vectors = default_encoder().encode([*TEXTS, LONG, *TEXTS])
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-6
    assert np.array_equal(vectors, np.stack([alone[text] for text in (*TEXTS, LONG, *TEXTS)]))
    assert default_encoder().encode([]).shape == (0, 384)
