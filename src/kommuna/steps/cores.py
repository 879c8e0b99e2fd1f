"""Work spread over a step's cores by threads: NumPy, SciPy and Polars leave the interpreter free while they compute."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
S = TypeVar("S")


def side_by_side(work: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """The results of `work` on each item, in the items' order; as many at once as Polars has threads.

    What an item's work does must not depend on another's: then the results do not depend on the number of cores.
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
