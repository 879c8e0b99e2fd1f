"""`AnswerCache`: the LLM's earlier answers, in the store, for all runs of the team."""

from __future__ import annotations

import hashlib
import io
import uuid
from collections.abc import Sequence

import polars as pl
import structlog

from kommuna.spec.step import StoreAddress
from kommuna.steps.shared_folder import SealedFolder

log = structlog.get_logger()

MANY_SEGMENTS = 64  # from so many segments on, they are merged

_SCHEMA = {
    "text": pl.Binary,
    "question": pl.Binary,
    "answer": pl.Int8,
    "asked_again": pl.Int32,
    "confidence": pl.Float32,
}
_PAIR = ["text", "question"]
_FORMAT = 2  # of segments; those of another format are not read
_TRIES = 5  # of reading segments that another run is merging


def digest_of(text: str) -> bytes:
    """Returns a digest of 16 bytes that identifies a text or a question."""
    return hashlib.blake2b(text.encode("utf-8", errors="surrogatepass"), digest_size=16).digest()


class AnswerCache:
    """Stores the answers of one model to one version of the prompt, by text and question.

    Answers are kept in small Parquet files (segments). Each segment is written once, atomically: readers never see a
    partial segment, writers do not conflict, and a killed run keeps all that it wrote. Segments end in a checksum; the
    answers of a damaged one are unknown. Segments contain digests only, neither texts nor questions.

    Concurrent runs may receive different answers. Then the answer is unknown, and the next one replaces both.

    Args:
        address: the folder that the team's runs share.
        model: the model's name.
        prompt_version: the version of the prompt.

    Attributes:
        contradicted: answers that `load` left out because runs received different ones: `text`, `question`, and
            `asked_again`, how often they will have been asked again.
    """

    def __init__(self, address: StoreAddress, *, model: str, prompt_version: str) -> None:
        digest = hashlib.sha256(f"{model}\0{prompt_version}\0{_FORMAT}".encode()).hexdigest()[:32]
        self._folder = SealedFolder(address, f"answers/{digest}", what="answers")
        self.contradicted = pl.DataFrame(schema={name: _SCHEMA[name] for name in (*_PAIR, "asked_again")})

    @property
    def damaged(self) -> int:
        """The number of damaged segments that were set aside."""
        return self._folder.damaged

    def load(self, questions: Sequence[bytes]) -> pl.DataFrame:
        """Returns all answers to some questions.

        Args:
            questions: digests of the questions.

        Returns:
            `text`, `question` (digests), `answer`, `confidence` (null if unknown): one row per text and question; none
            where runs received different answers.
        """
        digests = pl.Series(list(questions), dtype=pl.Binary).implode()
        rows = _latest(self._read(self._segments()).filter(pl.col("question").is_in(digests)))
        answers = rows.group_by(_PAIR).agg(
            pl.col("answer").first(),
            pl.col("answer").n_unique().alias("answers"),
            pl.col("asked_again").first() + 1,
            pl.col("confidence").min(),  # of runs that received the same answer at the same time
        )
        self.contradicted = answers.filter(pl.col("answers") > 1).select(*_PAIR, "asked_again")
        return answers.filter(pl.col("answers") == 1).select(*_PAIR, "answer", "confidence")

    def write(self, rows: pl.DataFrame) -> str:
        """Writes answers as a new segment; they are durable when it returns.

        Args:
            rows: `text`, `question` (digests), `answer`, `confidence`.

        Returns:
            The segment's name.
        """
        if self.contradicted.is_empty():
            return self._write(rows.with_columns(asked_again=0))
        return self._write(
            rows.join(self.contradicted, on=_PAIR, how="left").with_columns(pl.col("asked_again").fill_null(0))
        )

    def replace(self, parts: Sequence[str], rows: pl.DataFrame) -> None:
        """Writes the answers of some segments as one, then removes them: no reader misses an answer.

        Args:
            parts: the segments' names.
            rows: their answers, see `write`.
        """
        self.write(rows)
        self._folder.remove(parts)
        log.info("answers.merged", segments=len(parts))

    def merge(self) -> None:
        """Merges many segments into one, which is written before its parts are removed: no reader misses an answer."""
        parts = self._segments()
        if len(parts) < MANY_SEGMENTS:
            return
        self._write(_latest(self._read(parts)).unique())
        self._folder.remove(parts)
        log.info("answers.merged", segments=len(parts))

    def _write(self, rows: pl.DataFrame) -> str:
        raw = io.BytesIO()
        rows.select(pl.col(name).cast(dtype) for name, dtype in _SCHEMA.items()).write_parquet(raw, statistics=False)
        name = f"{uuid.uuid4().hex}.parquet"
        self._folder.write(name, raw.getvalue())
        return name

    def _segments(self) -> list[str]:
        return self._folder.names(ending=".parquet")

    def _read(self, segments: list[str]) -> pl.DataFrame:
        for _ in range(_TRIES):
            raw = self._folder.read(segments)
            if len(raw) == len(segments):
                break
            segments = self._segments()  # without damaged ones; a segment of another run has what it has merged
        tables = [pl.read_parquet(io.BytesIO(part)) for part in raw.values()]
        # Segments of older versions have no confidence.
        return pl.concat([pl.DataFrame(schema=_SCHEMA), *tables], how="diagonal").select(list(_SCHEMA))


def _latest(rows: pl.DataFrame) -> pl.DataFrame:
    """Returns the answers that no later one replaces."""
    return rows.filter(pl.col("asked_again") == pl.col("asked_again").max().over(_PAIR))
