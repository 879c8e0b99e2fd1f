"""Changes of a champion: one at a time."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from kommuna.steps.registry.client import Registry
from kommuna.steps.registry.moving import only_mover
from kommuna.steps.registry.standing import Standing


def test_claims_of_threads_never_overlap() -> None:
    """The protocol itself, over an in-memory registry that answers each call at once."""
    shared: dict[str, str] = {}
    lock, inside, most = threading.Lock(), [0], [0]

    class Memory(Registry):
        def set_model_tag(self, name: str, key: str, value: str) -> None:
            with lock:
                shared[key] = value

        def drop_model_tag(self, name: str, key: str) -> None:
            with lock:
                shared.pop(key, None)

        def standing(self, name: str) -> Standing:
            with lock:
                return Standing(name=name, claims=dict(shared))

    def work(_: int) -> None:
        with only_mover(Memory("http://x"), "m", by="t", patience=60):
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            time.sleep(0.002)
            inside[0] -= 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(24)))
    assert most == [1]
    assert shared == {}
