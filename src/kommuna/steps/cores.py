"""Runs work in threads on a step's cores: NumPy, SciPy and Polars release the interpreter's lock while they compute."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
S = TypeVar("S")


def side_by_side(work: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Applies `work` to each item in parallel, with as many threads as Polars has; returns the results in order.

    Args:
        work: the function. Calls must be independent, so that results do not depend on the number of cores.
        items: its arguments.
    """
    import polars as pl

    with ThreadPoolExecutor(pl.thread_pool_size(), thread_name_prefix="side-by-side") as pool:
        return list(pool.map(work, items))


def at_once(first: Callable[[], R], second: Callable[[], S]) -> tuple[R, S]:
    """The results of two functions that run at the same time."""
    with ThreadPoolExecutor(1, thread_name_prefix="at-once") as pool:
        running = pool.submit(first)
        done = second()
        return running.result(), done


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Lets BLAS use one thread, so that products of matrices do not depend on the number of cores.

    With several threads OpenBLAS splits sums of more than a few hundred terms elsewhere, and the last bits differ. Use
    `side_by_side` to compute independent parts on several cores.
    """
    import scipy.linalg  # noqa: F401  # loads SciPy's BLAS beside NumPy's: only loaded libraries can be limited
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped,unused-ignore]

    with threadpool_limits(1, user_api="blas"):
        yield
