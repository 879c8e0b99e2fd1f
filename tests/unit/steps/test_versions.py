"""Each shared step has a version, and gives the results recorded for that version in `recorded.json`."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.recorded.cases import CASES, results, results_of_a_process
from tests.recorded.results import RecordedFile, differences, fault, plain

import kommuna.steps
from kommuna.errors import StepNotFound
from kommuna.runtime.binding import find_step
from kommuna.spec.rules import RuleSet
from kommuna.spec.step import StepSpec
from kommuna.spec.versions import STEPS, VERSIONS, address_of, code_of
from kommuna.store.parameters import parameter_types

RECORDED = RecordedFile(Path(__file__).with_name("recorded.json"))
# With a server, in registry/test_versions.py.
REGISTRY = {"kommuna.steps:register", "kommuna.steps:promote"}
TRAIN = "kommuna.steps:train_classifier"


@pytest.mark.slow
@pytest.mark.parametrize("step", CASES)
def test_a_step_gives_the_results_recorded_for_its_version(step: str, tmp_path: Path, record: bool) -> None:
    found = (results_of_a_process if step == TRAIN else results)(step, tmp_path)
    said = RECORDED.fault(step, VERSIONS[step], found, constant=f"STEPS['{step}']", record=record)
    assert not said, said


def test_every_shared_step_has_a_version_and_recorded_results() -> None:
    """Shared steps are the functions of `kommuna.steps` that return metrics, including those of the operators."""
    assert _with_metrics() == {code_of(address) for address in STEPS}
    assert set(STEPS) == set(CASES) | REGISTRY == set(RECORDED.read())


@pytest.mark.parametrize("address", STEPS)
def test_every_address_of_a_step_leads_to_its_stable_address(address: str) -> None:
    """The stable address, and the module path that older DAG files use, give the same question."""
    signature = find_step(address)
    assert find_step(code_of(address)).function is signature.function
    assert find_step(code_of(address)).name == signature.name == address
    store = {"url": "file:///tmp/store"}
    specs = [
        StepSpec.read({"function": name, "team": "support", "store": store}) for name in (address, code_of(address))
    ]
    assert {spec.function for spec in specs} == {address}
    assert parameter_types(code_of(address)).keys() == parameter_types(address).keys()


# Addresses in DAG files of before there were stable ones.
OLD = (
    "kommuna.steps.check:check", "kommuna.steps.etl.asof:asof_join", "kommuna.steps.etl.clean:clean",
    "kommuna.steps.etl.mask:mask_pii", "kommuna.steps.etl.prepare:prepare_messages", "kommuna.steps.etl.query:query",
    "kommuna.steps.etl.read:read_table", "kommuna.steps.labeling.apply:apply_rules",
    "kommuna.steps.labeling.ask.votes:ask_votes", "kommuna.steps.labeling.label:label_messages",
    "kommuna.steps.labeling.refine.step:refine_rules", "kommuna.steps.labeling.rule_report:rule_report",
    "kommuna.steps.registry.promote:promote", "kommuna.steps.registry.register:register",
    "kommuna.steps.training.evaluate:evaluate", "kommuna.steps.training.predict:predict",
    "kommuna.steps.training.train:train_classifier",
)  # fmt: skip


@pytest.mark.parametrize("old", OLD)
def test_an_old_address_still_leads_to_its_step(old: str) -> None:
    stable = f"kommuna.steps:{old.rpartition(':')[2]}"
    assert address_of(old) == stable
    assert find_step(old).function is find_step(stable).function


def test_the_former_name_of_a_parameter_is_still_read(tmp_path: Path) -> None:
    spec = StepSpec.read({
        "function": "kommuna.steps:refine_rules", "team": "support", "store": {"url": "file:///tmp/store"},
        "params": {"several_tags": True},
    })  # fmt: skip
    assert spec.params == {"multi_label": True}
    (tmp_path / "rules.yaml").write_text("tags: [card]\nseveral_tags: true\nrules: [{name: a, tag: card, any: [a]}]\n")
    assert RuleSet.read(tmp_path / "rules.yaml").multi_label


def test_an_unknown_shared_step_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(StepNotFound, match=r"no shared step 'kommuna.steps:lable_messages' \(did you mean"):
        find_step("kommuna.steps:lable_messages")


def _with_metrics() -> set[str]:
    """Returns the public functions whose source returns a named tuple with `metrics`."""
    found = set()
    package = Path(kommuna.steps.__path__[0])
    for path in package.rglob("*.py"):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        results = {one.name for one in body if isinstance(one, ast.ClassDef) and _has_metrics(one)}
        functions = [one for one in body if isinstance(one, ast.FunctionDef) and not one.name.startswith("_")]
        module = ".".join(("kommuna", "steps", *path.relative_to(package).with_suffix("").parts))
        returned = {f"{module}:{one.name}": ast.unparse(one.returns) for one in functions if one.returns}
        found |= {address for address, made in returned.items() if made in results}
    return found


def _has_metrics(made: ast.ClassDef) -> bool:
    fields = [one.target.id for one in made.body if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)]
    return "metrics" in fields and "NamedTuple" in [ast.unparse(base) for base in made.bases]


def test_the_table_of_steps_is_read_without_importing_their_libraries() -> None:
    script = "import sys, kommuna.spec.versions; print({'polars', 'numpy', 'pydantic', 'sklearn'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


STEP = "kommuna.steps:clean"


@pytest.mark.parametrize(
    ("patched", "value", "place"),
    [
        ("kommuna.steps.etl.clean.INVISIBLE", "x", "clean_texts.table.text: String"),
        ("kommuna.steps.etl.clean._VISIBLE", "[^ ]", "clean_texts.metrics.dropped_empty"),
    ],
)
def test_a_changed_helper_of_a_step_is_detected(
    patched: str, value: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patched, value)
    said = fault(RECORDED.read()[STEP], VERSIONS[STEP], results(STEP, tmp_path), constant=f"STEPS['{STEP}']")
    assert said.startswith(f"the results changed, and the version did not: raise STEPS['{STEP}'] to ")
    assert "--record" in said
    assert place in said


BEFORE = {"version": 2, "cases": {"one": {"rows": 3.0, "tags": ["a", None]}}}


@pytest.mark.parametrize(
    ("version", "case", "said"),
    [
        (2, {"rows": 3.0000001, "tags": ["a", None]}, ""),
        (2, {"rows": 3.0001, "tags": ["a", None]}, "raise X to 3"),
        (2, {"rows": 3, "tags": ["a", None]}, "one.rows: 3.0 is recorded, now it is 3"),
        (2, {"rows": 3.0, "tags": [None, "a"]}, 'one.tags[0]: "a" is recorded, now it is null'),
        (2, {"rows": 3.0, "tags": ["a"]}, "raise X to 3"),
        (2, {"rows": 3.0}, "one: no 'tags' any more"),
        (2, {"rows": 3.0, "tags": ["a", None], "n": 1}, "one: 'n' is new"),
        (2, {"tags": ["a", None], "rows": 3.0}, "one: the order was rows, tags, now tags, rows"),
        (3, {"rows": 4.0, "tags": []}, "X is 3, and the recorded results are those of 2: record the results"),
        (1, {"rows": 3.0, "tags": ["a", None]}, "a version only goes up"),
    ],
)
def test_results_are_compared_by_version(version: int, case: Any, said: str) -> None:
    found = fault(BEFORE, version, {"one": case}, constant="X")
    assert (found == "") == (said == "")
    assert said in found


def test_changed_results_are_only_recorded_under_a_higher_version(tmp_path: Path) -> None:
    file = RecordedFile(tmp_path / "recorded.json")

    def given(version: int, **cases: Any) -> str:
        return file.fault("step", version, cases, constant="X", record=True)

    assert given(1, one=0.5) == ""
    assert given(1, one=0.5, two={"Ё": [None, True]}) == ""  # another case of the same results
    assert "raise X to 2" in given(1, one=0.25)
    assert file.read() == {"step": {"version": 1, "cases": {"one": 0.5, "two": {"Ё": [None, True]}}}}
    assert "the recorded cases of X are one, two, not one" in fault(file.read()["step"], 1, {"one": 0.5}, constant="X")
    assert given(2, one=0.25) == ""
    assert file.read() == {"step": {"version": 2, "cases": {"one": 0.25}}}
    assert "has no recorded results" in fault(None, 1, {}, constant="X")


def test_special_numbers_are_distinguished() -> None:
    values = plain([float("nan"), float("inf"), None, "", 0.0, 0])
    assert [differences(values[0], other, "x") == [] for other in values] == [True] + [False] * 5
    assert differences(values[4], values[5], "x") == ["x: 0.0 is recorded, now it is 0"]
