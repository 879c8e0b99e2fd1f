"""Runs work in threads on a step's cores: NumPy, SciPy and Polars release the interpreter's lock while they compute."""

from __future__ import annotations

from collections.abc import Callable, Iterable
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
