"""`Answers`: what an LLM has answered before, kept in the store for every run of the team."""

from __future__ import annotations

import hashlib
import io
import uuid
from collections.abc import Sequence

import polars as pl
import structlog

from kommuna.spec.step import StoreAddress
from kommuna.steps.shared_folder import SharedFolder

log = structlog.get_logger()

CONTRADICTED = 2  # two runs that asked at the same time were answered differently
MANY_SEGMENTS = 64

_SCHEMA = {"text": pl.Binary, "question": pl.Binary, "answer": pl.Int8}
_TRIES = 5


def digest_of(text: str) -> bytes:
    """16 bytes that stand for a text or a question."""
    return hashlib.blake2b(text.encode("utf-8", errors="surrogatepass"), digest_size=16).digest()


class Answers:
    """Answers of one model to one version of the prompt, by text and question.

    They lie in small Parquet files, segments, each written once and whole: readers never see a half one, writers never
    meet, and a killed run leaves all that it had written. Neither texts nor questions are in them, only digests.

    Args:
        address: the folder that the team's runs share.
        model: the model's name.
        prompt_version: of the prompt.
    """

    def __init__(self, address: StoreAddress, *, model: str, prompt_version: str) -> None:
        asked = hashlib.sha256(f"{model}\0{prompt_version}".encode()).hexdigest()[:32]
        self._folder = SharedFolder(address, f"answers/{asked}", what="answers")

    def load(self, questions: Sequence[bytes]) -> pl.DataFrame:
        """All answers to some questions.

        Returns:
            `text`, `question` (digests), `answer`: one row each; `CONTRADICTED` where runs were answered differently.
        """
        wanted = pl.Series(list(questions), dtype=pl.Binary).implode()
        rows = self._read(self._segments()).filter(pl.col("question").is_in(wanted))
        one = pl.when(pl.col("answer").n_unique() == 1).then(pl.col("answer").first())
        return rows.group_by("text", "question").agg(one.otherwise(pl.lit(CONTRADICTED, pl.Int8)).alias("answer"))

    def write(self, rows: pl.DataFrame) -> None:
        """Keeps answers, as one new segment; when it returns they are safe."""
        raw = io.BytesIO()
        rows.select(pl.col(name).cast(dtype) for name, dtype in _SCHEMA.items()).write_parquet(raw)
        self._folder.write(f"{uuid.uuid4().hex}.parquet", raw.getvalue())

    def merge(self) -> None:
        """Makes one segment of many: the union is written before its parts are removed, so no reader misses any."""
        parts = self._segments()
        if len(parts) < MANY_SEGMENTS:
            return
        self.write(self._read(parts).unique())
        self._folder.remove(parts)
        log.info("answers.merged", segments=len(parts))

    def _segments(self) -> list[str]:
        return self._folder.names(ending=".parquet")

    def _read(self, segments: list[str]) -> pl.DataFrame:
        for _ in range(_TRIES):
            raw = self._folder.read(segments)
            if len(raw) == len(segments):
                break
            segments = self._segments()  # another run has merged meanwhile: its union holds what is gone
        return pl.concat([pl.DataFrame(schema=_SCHEMA), *(_table(name, part) for name, part in raw.items())])


def _table(name: str, raw: bytes) -> pl.DataFrame:
    """A segment's rows; none where its bytes were damaged: the questions are asked again."""
    try:
        return pl.read_parquet(io.BytesIO(raw)).select(list(_SCHEMA))
    except pl.exceptions.PolarsError as error:
        log.warning("answers.damaged", segment=name, why=str(error).splitlines()[0])
        return pl.DataFrame(schema=_SCHEMA)
