"""`Answers`: what an LLM has answered before, kept in the store for every run of the team."""

from __future__ import annotations

import hashlib
import io
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import polars as pl
import structlog

from kommuna.errors import StoreError
from kommuna.spec.step import StoreAddress

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
        import fsspec

        self._fs: Any
        self._fs, root = fsspec.core.url_to_fs(address.url, **address.options)
        asked = hashlib.sha256(f"{model}\0{prompt_version}".encode()).hexdigest()[:32]
        self._folder = f"{root.rstrip('/')}/answers/{asked}"
        self._local = "file" in ((self._fs.protocol,) if isinstance(self._fs.protocol, str) else self._fs.protocol)

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
        path = f"{self._folder}/{uuid.uuid4().hex}.parquet"
        with self._faults():
            if not self._local:
                self._fs.pipe_file(path, raw.getvalue())
                return
            target = Path(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_suffix(".part")
            with partial.open("wb") as file:
                file.write(raw.getvalue())
                file.flush()
                os.fsync(file.fileno())
            partial.replace(target)

    def merge(self) -> None:
        """Makes one segment of many: the union is written before its parts are removed, so no reader misses any."""
        parts = self._segments()
        if len(parts) < MANY_SEGMENTS:
            return
        self._sweep()
        self.write(self._read(parts).unique())
        with self._faults():
            for part in parts:
                with suppress(FileNotFoundError):  # another run merges too
                    self._fs.rm_file(part)
        log.info("answers.merged", segments=len(parts))

    def _sweep(self) -> None:
        """Removes what killed runs left half-written; a file of this minute may be another run's."""
        for path in Path(self._folder).glob("*.part") if self._local else ():
            with suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > 60:
                    path.unlink()

    def _segments(self) -> list[str]:
        with self._faults():
            self._fs.invalidate_cache(self._folder)
            try:
                return sorted(
                    str(path) for path in self._fs.ls(self._folder, detail=False) if path.endswith(".parquet")
                )
            except FileNotFoundError:
                return []

    def _read(self, segments: list[str]) -> pl.DataFrame:
        for _ in range(_TRIES):
            with self._faults():
                raw: dict[str, bytes] = self._fs.cat(segments, on_error="omit") if segments else {}
            if len(raw) == len(segments):
                break
            segments = self._segments()  # another run has merged meanwhile: its union holds what is gone
        return pl.concat([pl.DataFrame(schema=_SCHEMA), *(_table(path, part) for path, part in raw.items())])

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except Exception as error:  # the drivers' errors share no base
            raise StoreError(
                f"the kept answers cannot be read or written: {type(error).__name__}: {error}",
                where=self._folder,
                mend="check the store; what was kept is safe",
            ) from error


def _table(path: str, raw: bytes) -> pl.DataFrame:
    """A segment's rows; none where its bytes were damaged: the questions are asked again."""
    try:
        return pl.read_parquet(io.BytesIO(raw)).select(list(_SCHEMA))
    except pl.exceptions.PolarsError as error:
        log.warning("answers.damaged", segment=path, why=str(error).splitlines()[0])
        return pl.DataFrame(schema=_SCHEMA)
