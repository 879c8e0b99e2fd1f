"""`kommuna check`: every finding has file, line and fix; a good bundle has none."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kommuna.cli.check.finding import BundleFindings
from kommuna.cli.check.process.start import inspect
from kommuna.cli.main import app

GOOD = """from kommuna.airflow import ApplyRulesOperator, ReadTableOperator, StepOperator, TeamDag

with TeamDag("good", schedule="0 3 * * *"):
    read = ReadTableOperator(task_id="read", source="store://inbox/m.csv", columns={"id": "String", "text": "String"})
    vote = ApplyRulesOperator(task_id="vote", messages=read["table"], rules="rules.yaml")
    StepOperator(task_id="own", function="own_steps:count", inputs={"votes": vote["votes"]}, parameters={"least": 2})
"""
RULES = """tags: [a, b]
rules:
  - name: words
    tag: a
    any: [x]
  - name: long
    tag: b
    sql: length(text) > 10
"""
STEPS = "import polars as pl\ndef count(votes: pl.LazyFrame, *, least: int = 1) -> dict[str, int]:\n    return {}\n"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    (tmp_path / "kommuna.yaml").write_text("teams:\n  support: {bundle: dags/support}\n  fraud: {bundle: dags/fraud}\n")
    folder = tmp_path / "dags/support"
    folder.mkdir(parents=True)
    (folder / "good.py").write_text(GOOD)
    (folder / "rules.yaml").write_text(RULES)
    (folder / "own_steps.py").write_text(STEPS)
    return folder


def found(bundle: Path) -> list[tuple[str, int, str]]:
    result: BundleFindings = inspect(bundle)
    assert all(finding.fix for finding in result.findings)
    return [(finding.file, finding.line, finding.what) for finding in result.findings]


@pytest.mark.slow
def test_a_good_bundle_has_no_finding(bundle: Path) -> None:
    result = inspect(bundle)
    assert result.findings == ()
    assert (result.files, result.dags, result.steps) == (2, 1, 3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "line", "what"),
    [
        (('"own_steps:count"', '"own_steps:cuont"'), 6, "task 'own': module 'own_steps' has no step 'cuont' (did you mean 'count'?)"),
        (('"least": 2', '"leest": 2'), 6, "task 'own': unknown parameter 'leest' of step own_steps:count (did you mean 'least'?)"),
        (('"least": 2', '"least": "two"'), 6, "task 'own': parameter 'least' of step own_steps:count: expected a whole number, found 'two'"),
        (('"least": 2', '"least": float("inf")'), 6, "task 'own': parameter 'least' of step own_steps:count is inf, which JSON does not have"),
        (('{"votes": vote["votes"]}', '{"vote": vote["votes"]}'), 6, "task 'own': unknown input 'vote' of step own_steps:count (did you mean 'votes'?)"),
        (('vote["votes"]}', 'vote["vots"]}'), 6, "task 'own': 'vote' has no output 'vots' (did you mean 'votes'?)"),
        (('rules="rules.yaml"', 'rules="rulez.yaml"'), 5, "task 'vote': input 'rules' names the file 'rulez.yaml', which is not in the bundle"),
        (('rules="rules.yaml"', 'rules="rules.yaml", text="txt"'), 5, "task 'vote': text='txt' is not a declared column (did you mean 'text'?)"),
        (('rules="rules.yaml"', 'rules="rules.yaml", pool="fraud__default"'), 5, "task 'vote' uses the pool 'fraud__default', which does not belong to team 'support'"),
        (('TeamDag("good"', 'TeamDag("fraud__good"'), 3, "'fraud__good' has the prefix of team 'fraud', but belongs to team 'support'"),
        (('"0 3 * * *"', '"0 33 * * *"'), 3, "DAG 'support__good': "),
        (("import ApplyRulesOperator", "import AplyRulesOperator"), 1, "ImportError: cannot import name 'AplyRulesOperator'"),
        (("with TeamDag", "with TeamDag("), 3, "not valid Python"),
        (('"text": "String"}', '"text": "Strin"}'), 4, "task 'read': parameter 'table_schema"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_dag_file_is_found_with_its_line(
    bundle: Path, change: tuple[str, str], line: int, what: str
) -> None:
    assert change[0] in GOOD
    (bundle / "good.py").write_text(GOOD.replace(*change))
    findings = found(bundle)
    assert any(file == "good.py" and at == line and said.startswith(what) for file, at, said in findings), findings


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "line", "what"),
    [
        (("any: [x]", "anny: [x]"), 5, "unknown key 'anny' at rules.0.anny (did you mean 'any'?)"),
        (("tag: b", "tag: bb"), 6, "rule 'long' has the unknown tag 'bb'"),
        (("any: [x]", "regex: '(x'"), 3, "rule 'words' has a bad regex"),
        (("rules:", "otherwise: bb\nrules:"), 2, "the default tag `otherwise` is the unknown tag 'bb'"),
        (("name: long", "name: words"), 6, "duplicate rule name 'words'"),
        (("length(text)", "length(txt)"), 6, "rule 'long' uses the column 'txt', which task 'vote' does not have (did you mean 'text'?)"),
        (("sql: length(text) > 10", "python: own_steps:conut"), 6, "rule 'long': module 'own_steps' has no step 'conut'"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_rules_file_is_found_with_its_line(
    bundle: Path, change: tuple[str, str], line: int, what: str
) -> None:
    assert change[0] in RULES
    (bundle / "rules.yaml").write_text(RULES.replace(*change))
    findings = found(bundle)
    assert any(file == "rules.yaml" and at == line and what in said for file, at, said in findings), findings


MAPPED = """from airflow.sdk import task
from kommuna.airflow import CleanOperator, StepOperator, TeamDag

@task
def least():
    return 2

with TeamDag("mapped"):
    made = StepOperator.partial(task_id="made", function="own_steps:one").expand(parameters=[{"least": 1}, {"least": 2}])
    clean = CleanOperator.partial(task_id="clean").expand(table=made.output)
    StepOperator(task_id="all", function="own_steps:join", inputs={"tables": made.output}, parameters={"least": least()})
    StepOperator(task_id="listed", function="own_steps:join", inputs={"tables": [made.output, clean["table"]]})
    StepOperator(task_id="named", function="own_steps:join", inputs={"tables": made["result"]})
"""
JOINS = """import polars as pl
def one(*, least: int = 1) -> pl.LazyFrame:
    return pl.LazyFrame({"n": [least]})
def join(tables: list[pl.LazyFrame], *, least: int = 1) -> pl.LazyFrame:
    return pl.concat(tables)
"""


@pytest.mark.slow
def test_mapped_steps_and_their_consumers_are_checked(bundle: Path) -> None:
    (bundle / "good.py").write_text(MAPPED)
    (bundle / "own_steps.py").write_text(JOINS)
    result = inspect(bundle)
    assert result.findings == ()
    assert result.steps == 5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "line", "what"),
    [
        (('{"least": 2}]', '{"leest": 2}]'), 9, "task 'made': unknown parameter 'leest' of step own_steps:one"),
        (('"least": 2}]', '"least": "x"}]'), 9, "task 'made': parameter 'least' of step own_steps:one: expected a whole number, found 'x'"),
        (('made["result"]', 'made["resultt"]'), 13, "task 'named': 'made' has no output 'resultt' (did you mean 'result'?)"),
        (('function="own_steps:one"', 'function="own_steps:oen"'), 9, "task 'made': module 'own_steps' has no step 'oen'"),
        (('.partial(task_id="clean").expand(table=made.output)', '(task_id="clean", table=made.output)'), 10, "task 'clean': input 'table' takes one artifact, and the mapped 'made' returns a list"),
        (('"made", function', '"made", step_resources={"memory": "1Ti"}, function'), 9, "task 'made' requests 1 cores and 1Ti, more than the team's quota"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_mapped_step_is_found_with_its_line(
    bundle: Path, change: tuple[str, str], line: int, what: str
) -> None:
    assert change[0] in MAPPED
    (bundle / "good.py").write_text(MAPPED.replace(*change))
    (bundle / "own_steps.py").write_text(JOINS)
    findings = found(bundle)
    assert any(file == "good.py" and at == line and said.startswith(what) for file, at, said in findings), findings


OWN_LISTS = """from kommuna.airflow import AsofJoinOperator, CleanOperator, ReadTableOperator, TeamDag

with TeamDag("lists"):
    read = ReadTableOperator(task_id="read", source="store://inbox/m.csv", columns={"id": "String", "at": "Date"})
    join = AsofJoinOperator.partial(task_id="join", left=read, right=read, on="at").expand(by=[[], ["id", 1], "id"])
    clean = CleanOperator.partial(task_id="clean").expand(table=join.output)
    CleanOperator.partial(task_id="odd").expand_kwargs([{"table": read}, {"key": "id"}])
"""


@pytest.mark.slow
def test_a_refused_mapped_value_is_found_with_its_line(bundle: Path) -> None:
    (bundle / "good.py").write_text(OWN_LISTS)
    assert found(bundle) == [
        ("good.py", 5, "task 'join': `by` is a list of texts; it holds 1, a int"),
        ("good.py", 5, "task 'join': `by` is a list of texts; got the text 'id'"),
        ("good.py", 7, "task 'odd': TypeError: missing keyword argument 'table'"),
    ]


@pytest.mark.slow
def test_two_dags_with_one_id_are_found(bundle: Path) -> None:
    (bundle / "twin.py").write_text(GOOD)
    assert ("twin.py", 3, "two DAGs have the id 'support__good': the other is in good.py") in found(bundle)


@pytest.mark.slow
def test_a_file_that_exits_is_named_with_the_line(bundle: Path) -> None:
    (bundle / "good.py").write_text("# airflow dag\nimport sys\nsys.exit(3)\n")
    assert ("good.py", 3, "SystemExit: 3") in [(f.file, f.line, f.what) for f in inspect(bundle).findings]


@pytest.mark.slow
def test_the_command_exits_1_on_any_finding_and_0_on_none(bundle: Path) -> None:
    assert CliRunner().invoke(app, ["check", str(bundle)]).exit_code == 0
    (bundle / "rules.yaml").write_text(RULES.replace("tag: b", "tag: bb"))
    result = CliRunner().invoke(app, ["check", str(bundle)])
    assert result.exit_code == 1
    assert "rules.yaml:6: " in result.stdout


@pytest.mark.slow
def test_the_example_bundles_pass(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "dags", tmp_path / "dags")
    shutil.copy(root / "kommuna.yaml", tmp_path)
    for team in ("support", "fraud"):
        result = inspect(tmp_path / "dags" / team)
        assert result.findings == ()
        assert result.steps > 10
