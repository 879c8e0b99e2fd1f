"""Cached analyses are never used if a new one would find something else."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kommuna.store import Store
from kommuna.store.analyses import Analyses
from kommuna.store.definitions import definitions, traced
from kommuna.store.definitions.files import BundleFiles
from kommuna.store.digests import file_digest

from .random_bundles import LIBRARY, Bundle, random_bundle

POINTS = ("steps:run",)
STEPS = 'from helpers import clean, K\ndef run(df):\n    """Runs."""\n    return clean(df)\n'
HELPERS = (
    "K = 3\ndef clean(df):\n    return df.head(K)\n\ndef unrelated(df):\n    return df\n\n"
    "class Point:\n    x: int = 0\n    def far(self): return 1\n"
)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "steps.py").write_text(STEPS)
    (folder / "helpers.py").write_text(HELPERS)
    return folder


@pytest.fixture
def analysed(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Records each analysis."""
    done: list[None] = []

    def counted(*given: object) -> object:
        done.append(None)
        return traced(*given)  # type: ignore[arg-type]

    monkeypatch.setattr("kommuna.store.analyses.traced", counted)
    return done


def found(store: Store, bundle: Path) -> str:
    """Returns the cached or computed digest, after checking that a new analysis finds the same."""
    given = Analyses(store).definitions(POINTS, (), bundle)
    assert given == definitions(POINTS, bundle, libraries=())
    return given.digest


def test_a_known_bundle_is_not_analysed_again(store: Store, bundle: Path, analysed: list[None]) -> None:
    first = found(store, bundle)
    assert found(store, bundle) == first
    moved = bundle.with_name("moved")
    shutil.copytree(bundle, moved)
    assert found(store, moved) == first
    assert len(analysed) == 1


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("helpers.py", "K = 3", "# Why three.\nK = (\n    3\n)"),
        ("helpers.py", "K = 3", '"""Helpers."""\nK = 3'),
        ("helpers.py", "(df):\n    return df\n", "(df):\n    return df.tail(K)\n"),
        ("helpers.py", "return 1", "return self.x"),
        ("steps.py", "Runs.", "Runs it."),
        ("steps.py", '    """Runs."""\n', ""),
    ],
)
def test_comments_docstrings_and_unreached_bodies_are_not_analysed_again(
    store: Store, bundle: Path, analysed: list[None], path: str, old: str, new: str
) -> None:
    first = found(store, bundle)
    text = (bundle / path).read_text()
    assert old in text
    (bundle / path).write_text(text.replace(old, new, 1))
    assert found(store, bundle) == first
    assert len(analysed) == 1


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("helpers.py", "head(K)", "tail(K)"),
        ("helpers.py", "K = 3", "K = 3.0"),
        ("helpers.py", "(df):\n    return df\n", "(df):\n    global K\n    K = 4\n"),
        ("helpers.py", "(df):\n    return df\n", "(df):\n    import steps\n    steps.clean = df\n"),
        ("helpers.py", "def unrelated(df)", "def unrelated(df=print(1))"),
        ("helpers.py", "def unrelated(df)", "def clean(df)"),
        ("helpers.py", "class Point", "@print\nclass Point"),
        ("helpers/__init__.py", "", HELPERS),
    ],
)
def test_changes_that_may_count_are_analysed(
    store: Store, bundle: Path, analysed: list[None], path: str, old: str, new: str
) -> None:
    first = found(store, bundle)
    target = bundle / path
    target.parent.mkdir(exist_ok=True)
    text = target.read_text() if target.exists() else ""
    target.write_text(text.replace(old, new, 1))
    found(store, bundle)
    assert len(analysed) == 2
    if target.name == "__init__.py":
        shutil.rmtree(target.parent)
    else:
        target.write_text(text)
    assert found(store, bundle) == first
    assert len(analysed) == 2


@pytest.mark.parametrize("damage", [b"", b"[", b"[{}]", b"\xff"])
def test_a_damaged_cache_file_is_ignored(store: Store, bundle: Path, analysed: list[None], damage: bytes) -> None:
    found(store, bundle)
    path = Path(Analyses(store).path(POINTS, ()))
    path.write_bytes(damage)
    found(store, bundle)
    found(store, bundle)
    assert len(analysed) == 2


def test_with_a_read_only_store_the_analysis_is_repeated_and_the_run_succeeds(
    store: Store, bundle: Path, analysed: list[None]
) -> None:
    Path(store.root).mkdir(parents=True)
    Path(store.root, "analyses").write_text("no folder")
    assert found(store, bundle) == found(store, bundle)
    assert len(analysed) == 2


def edited(bundle: Bundle, rng: random.Random) -> Bundle:
    """Returns the bundle after a random edit, often of a part that an analysis may not have read."""
    if rng.random() < 0.5:
        return bundle.edited(rng)
    modules = {name: list(lines) for name, lines in bundle.modules.items()}
    lines = modules[rng.choice(sorted(modules))]
    functions = [at for at, line in enumerate(lines) if line.startswith(("def ", "class ")) and "\n" in line]
    at = rng.choice(functions or [0])
    body = rng.choice(
        ['    """Says."""', "    n1 = 2", "    n0.value = 2", "    global n2; n2 = 3", "    import a", "    __all__"]
    )
    head, _, rest = lines[at].partition("\n")
    lines[at] = f"{head}\n{body}\n{rest}" if functions else f"# {lines[at]}\n{lines[at]}"
    return Bundle(modules)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**9))
def test_an_unchanged_trace_means_that_another_analysis_finds_the_same(
    seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = random.Random(seed)
    folder = tmp_path_factory.mktemp("bundles")
    bundle = random_bundle(rng)
    bundle.write(folder / "before")
    before, trace = traced(POINTS, BundleFiles(folder / "before", {LIBRARY}))
    assert before == definitions(POINTS, folder / "before", libraries={LIBRARY})
    assert (trace is None) == (before.unclear != "")
    for number in range(12):
        now = edited(bundle, rng).write(folder / str(number))
        after = definitions(POINTS, now, libraries={LIBRARY})
        holds = trace and trace.now(BundleFiles(now, {LIBRARY}), lambda name, now=now: file_digest(now / name))
        if holds:
            assert after == before
