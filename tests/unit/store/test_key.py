"""The cache key: it changes with all that a step's result depends on, and with nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from kommuna.errors import StepNotFound
from kommuna.store.key import cache_key, code_digest, python_references


def write(bundle: Path, **modules: str) -> None:
    for name, source in modules.items():
        (bundle / f"{name}.py").write_text(source)


def test_code_changes_the_digest_and_comments_do_not(tmp_path: Path) -> None:
    write(tmp_path, mine="def f():\n    return 1\n")
    before = code_digest(["mine"], bundle=tmp_path)
    write(tmp_path, mine="# a comment\ndef f():\n\n    return 1  # why\n")
    assert code_digest(["mine"], bundle=tmp_path) == before
    write(tmp_path, mine="def f():\n    return 2\n")
    assert code_digest(["mine"], bundle=tmp_path) != before


@pytest.mark.parametrize("line", ["import lib", "from lib import g", "def h():\n    import lib"])
def test_a_module_that_the_step_imports_counts(tmp_path: Path, line: str) -> None:
    write(tmp_path, mine=f"{line}\n", lib="g = 1\n")
    before = code_digest(["mine"], bundle=tmp_path)
    write(tmp_path, lib="g = 2\n")
    assert code_digest(["mine"], bundle=tmp_path) != before


def test_a_relative_import_inside_a_package_counts(tmp_path: Path) -> None:
    package = tmp_path / "features"
    package.mkdir()
    (package / "__init__.py").write_text("")
    write(package, a="from . import b\nfrom .c import x\n", b="n = 1\n", c="x = 1\n")
    before = code_digest(["features.a"], bundle=tmp_path)
    write(package, c="x = 2\n")
    middle = code_digest(["features.a"], bundle=tmp_path)
    write(package, b="n = 2\n")
    assert len({before, middle, code_digest(["features.a"], bundle=tmp_path)}) == 3


def test_an_unrelated_module_does_not_count(tmp_path: Path) -> None:
    write(tmp_path, mine="x = 1\n", other="y = 1\n")
    before = code_digest(["mine"], bundle=tmp_path)
    write(tmp_path, other="y = 2\n")
    assert code_digest(["mine"], bundle=tmp_path) == before


def test_modules_that_import_each_other_end(tmp_path: Path) -> None:
    write(tmp_path, a="import b\n", b="import a\n")
    assert len(code_digest(["a"], bundle=tmp_path)) == 64


def test_a_missing_module_and_bad_syntax_are_named(tmp_path: Path) -> None:
    with pytest.raises(StepNotFound, match="no module 'absent_module'"):
        code_digest(["absent_module"], bundle=tmp_path)
    write(tmp_path, bad="def f(:\n")
    with pytest.raises(StepNotFound, match=r"bad\.py is not valid Python"):
        code_digest(["bad"], bundle=tmp_path)


def test_the_key_depends_on_every_part_and_not_on_order() -> None:
    keys = {
        cache_key("m:f", "c", {"a": 1, "b": 2}, {"x": "d"}),
        cache_key("m:g", "c", {"a": 1, "b": 2}, {"x": "d"}),
        cache_key("m:f", "C", {"a": 1, "b": 2}, {"x": "d"}),
        cache_key("m:f", "c", {"a": 1, "b": 3}, {"x": "d"}),
        cache_key("m:f", "c", {"a": 1, "b": 2}, {"x": "D"}),
        cache_key("m:f", "c", {"a": 1, "b": 2}, {"y": "d"}),
    }
    assert len(keys) == 6
    assert cache_key("m:f", "c", {"b": 2, "a": 1}, {"x": "d"}) in keys


def test_a_rules_file_names_the_modules_of_its_python_rules(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text('rules:\n  - {name: a, python: "team_rules:f"}\n  - name: b\n    python: deep.rules:g\n')
    assert python_references(path) == ["deep.rules", "team_rules"]
