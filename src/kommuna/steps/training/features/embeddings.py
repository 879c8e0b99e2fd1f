"""Features of texts: sentence embeddings by a named encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Self

import numpy as np
import structlog

from kommuna.spec.choices import Encoder, EncoderChoice
from kommuna.steps.training.features import encoders
from kommuna.steps.training.fit.soft_logistic import Matrix

log = structlog.get_logger()

MAX_CHARACTERS = 2_000  # the encoders read 256 and 512 tokens; the rest would only cost time
BLOCK = 2_048  # distinct texts per pass
SAMPLED = 2_000  # texts whose letters choose an encoder
ENGLISH = 0.99  # share of ASCII letters: 2 % of letters in German have umlauts, 3 % in French and Spanish accents
CACHED = 50_000  # texts per process, 77 MB: model, baseline and champion all embed the same gold rows


@dataclass(frozen=True)
class TextEmbeddings:
    """Turns texts into rows of a dense matrix: `n x 384`, float32, of norm one (Reimers and Gurevych 2019, SBERT).

    Holds no weights, so a saved model stays small; they are loaded from disk once per process.

    Models saved before encoders had names load with the defaults, with which they were trained.

    Attributes:
        encoder: the encoder's name.
        centre: `384`; subtracted from each vector, which is then normalised again. All vectors of E5 lie in a narrow
            cone, in which similarities and the penalty of a linear model mean little (Mu and Viswanath 2018).
    """

    encoder: Encoder = "minilm"
    centre: Matrix | None = None

    def centred(self, texts: Sequence[str]) -> Self:
        """Returns a copy whose centre is the mean vector of the texts.

        Raises:
            SpecError: as `transform`.
        """
        return replace(self, centre=replace(self, centre=None).transform(texts).mean(axis=0))

    def transform(self, texts: Sequence[str]) -> Matrix:
        """Returns the embeddings of texts; each distinct text is encoded once per process.

        Raises:
            SpecError: there is no such encoder, or the extra is not installed.
        """
        model = encoders.load(encoders.known(self.encoder))
        short = [" ".join(text[:MAX_CHARACTERS].split()) for text in texts]
        known = _cache(self.encoder)
        if len(known) > CACHED:
            known.clear()
        fresh = sorted({text for text in short if text not in known}, key=lambda text: (len(text), text))
        found: dict[str, Matrix] = {text: known[text] for text in short if text in known}
        for start in range(0, len(fresh), BLOCK):
            block = fresh[start : start + BLOCK]
            found |= zip(block, model.encode(block), strict=True)
            if len(fresh) > BLOCK:
                log.info("texts.embedded", texts=start + len(block), of=len(fresh))
        for text in fresh[: max(0, CACHED - len(known))]:
            known[text] = found[text]
        out = np.zeros((len(short), encoders.WIDTH), np.float32)
        for i, text in enumerate(short):
            out[i] = found[text]
        if self.centre is not None:
            out -= self.centre
            out /= np.maximum(np.linalg.norm(out, axis=1, keepdims=True), np.float32(1e-6))
        return out


def chosen(choice: EncoderChoice, texts: Sequence[str]) -> Encoder:
    """Returns the encoder for some texts: with `auto`, MiniLM if nearly all letters are ASCII.

    Raises:
        SpecError: there is no such encoder.
    """
    if choice != "auto":
        return encoders.known(choice)
    letters = english = 0
    for text in texts[:SAMPLED]:
        own = [character for character in text[:MAX_CHARACTERS] if character.isalpha()]
        letters += len(own)
        english += sum(character.isascii() for character in own)
    return "minilm" if english >= ENGLISH * letters else "multilingual_e5"


@cache
def _cache(encoder: Encoder) -> dict[str, Matrix]:
    return {}
