"""`AnswerCache`: the LLM's earlier answers, in the store, for all runs of the team."""

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

CONTRADICTED = 2  # two concurrent runs received different answers
MANY_SEGMENTS = 64  # from so many segments on, they are merged

_SCHEMA = {"text": pl.Binary, "question": pl.Binary, "answer": pl.Int8}
_TRIES = 5  # of reading segments that another run is merging


def digest_of(text: str) -> bytes:
    """Returns a digest of 16 bytes that identifies a text or a question."""
    return hashlib.blake2b(text.encode("utf-8", errors="surrogatepass"), digest_size=16).digest()


class AnswerCache:
    """Stores the answers of one model to one version of the prompt, by text and question.

    Answers are kept in small Parquet files (segments). Each segment is written once, atomically: readers never see a
    partial segment, writers do not conflict, and a killed run keeps all that it wrote. Segments contain digests only,
    neither texts nor questions.

    Args:
        address: the folder that the team's runs share.
        model: the model's name.
        prompt_version: the version of the prompt.
    """

    def __init__(self, address: StoreAddress, *, model: str, prompt_version: str) -> None:
        digest = hashlib.sha256(f"{model}\0{prompt_version}".encode()).hexdigest()[:32]
        self._folder = SharedFolder(address, f"answers/{digest}", what="answers")

    def load(self, questions: Sequence[bytes]) -> pl.DataFrame:
        """Returns all answers to some questions.

        Args:
            questions: digests of the questions.

        Returns:
            `text`, `question` (digests), `answer`: one row per text and question; `CONTRADICTED` where runs received
            different answers.
        """
        digests = pl.Series(list(questions), dtype=pl.Binary).implode()
        rows = self._read(self._segments()).filter(pl.col("question").is_in(digests))
        unanimous = pl.when(pl.col("answer").n_unique() == 1).then(pl.col("answer").first())
        return rows.group_by("text", "question").agg(unanimous.otherwise(pl.lit(CONTRADICTED, pl.Int8)).alias("answer"))

    def write(self, rows: pl.DataFrame) -> None:
        """Writes answers as a new segment; they are durable when it returns.

        Args:
            rows: `text`, `question` (digests), `answer`.
        """
        raw = io.BytesIO()
        rows.select(pl.col(name).cast(dtype) for name, dtype in _SCHEMA.items()).write_parquet(raw)
        self._folder.write(f"{uuid.uuid4().hex}.parquet", raw.getvalue())

    def merge(self) -> None:
        """Merges many segments into one, which is written before its parts are removed: no reader misses an answer."""
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
            segments = self._segments()  # another run has merged meanwhile: its segment has the missing answers
        return pl.concat([pl.DataFrame(schema=_SCHEMA), *(_table(name, part) for name, part in raw.items())])


def _table(name: str, raw: bytes) -> pl.DataFrame:
    """Returns a segment's rows; none if it is damaged: those questions are then asked again."""
    try:
        return pl.read_parquet(io.BytesIO(raw)).select(list(_SCHEMA))
    except pl.exceptions.PolarsError as error:
        log.warning("answers.damaged", segment=name, why=str(error).splitlines()[0])
        return pl.DataFrame(schema=_SCHEMA)
