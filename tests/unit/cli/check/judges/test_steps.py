"""`kommuna check` on a step's function, inputs, parameters, columns and rules."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.rigs.check import dag, findings_of

OWN = """import polars as pl
def made(*, n: int = 1) -> pl.LazyFrame: ...
def joined(tables: list[pl.LazyFrame], *, n: int = 1) -> dict[str, int]: ...
"""
READ = "r = ReadTableOperator(task_id='r', source='store://m.csv', columns={COLUMNS})\n"
VOTES = "".join(
    f"ApplyRulesOperator(task_id='v{i}', messages=r['table'], rules='{{rules}}', text='note')\n" for i in range(3)
)
RULES = "tags: [a, b]\nrules:\n"


def chain(name: str, rules: str, columns: str = "{'id': 'String', 'note': 'String', 'amount': 'Float64'}") -> str:
    return dag(name, READ.replace("{COLUMNS}", columns) + VOTES.replace("{rules}", rules).rstrip())


CASES = {
    "list.py": (dag("list", "m = StepOperator(task_id='m', function='own:made')\n"
                    "StepOperator(task_id='j', function='own:joined', inputs={'tables': [m, m['tabel']]})"),
                [("list.py", 5, "task 'j': 'm' has no output 'tabel'")]),
    "returned.py": (dag("returned", "@task\ndef two():\n    return 2\nStepOperator(task_id='m', function='own:made',"
                        " parameters={'n': two()})").replace("from kom", "from airflow.sdk import task\nfrom kom"), []),
    "no_function.py": (dag("no_function", "StepOperator.partial(task_id='m').expand(function={'a': 1})"),
                       [("no_function.py", 4, "task 'm': ('a', 1) does not name a step")]),
    "no_inlets.py": (dag("no_inlets", "EmptyOperator(task_id='m', inlets=None)\nStepOperator.partial(task_id='n',"
                         " function='own:made', inlets=None).expand(parameters=[{}])"), []),
    "unnamed.py": (dag("unnamed", "StepOperator(task_id='m', function='')"),
                   [("unnamed.py", 4, "task 'm': '' does not name a step")]),
    "broken_module.py": (dag("broken_module", "StepOperator(task_id='m', function='broken_steps:f')"),
                         [("broken_module.py", 4, "task 'm': the import of module 'broken_steps' fails: NameError: ")]),
    "sql.py": (chain("sql", "sql.yaml"), [
        ("sql.yaml", 3, "rule 'words': the SQL cannot be read: unable to parse 'amount >' as Expr"),
        ("sql.yaml", 4, "rule 'kinds': the SQL gives Float64, not true or false"),
    ]),
    "missing.py": (chain("missing", "missing.yaml"), [
        ("missing.yaml", 3, "rule 'one' and 1 more uses the column 'amont', which task 'v0' does not have"
                            " (did you mean 'amount'?)"),
    ]),
    "typo.py": (chain("typo", "good.yaml", "{'id': 'String', 'noet': 'String', 'amount': 'Float64'}"),
                [("typo.py", 5, "task 'v0': text='note' is not a declared column (did you mean 'noet'?)")]),
    "nested.py": (chain("nested", "nested.yaml"), [("nested.yaml", 1, "nested.yaml is nested too deeply")]),
}  # fmt: skip
FILES = {
    "own.py": OWN,
    "broken_steps.py": "def f(): ...\nnope\n",
    "sql.yaml": RULES + "- {name: words, tag: a, sql: 'amount >'}\n- {name: kinds, tag: b, sql: 'amount + 1'}\n",
    "missing.yaml": RULES + "- {name: one, tag: a, sql: 'amont > 1'}\n- {name: two, tag: b, sql: 'amont < 1'}\n",
    "good.yaml": RULES + "- {name: one, tag: a, sql: 'amount > 1'}\n",
    "nested.yaml": "[" * 5000,
}


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, int, str]]:
    files = FILES | {name: content for name, (content, _) in CASES.items()}
    found = findings_of(tmp_path_factory.mktemp("steps"), files)
    return [(file, line, what) for file, all_of in found.items() for line, what, _ in all_of]


@pytest.mark.parametrize("name", CASES)
def test_each_mistake_is_found_once_at_its_line(name: str, said: list[tuple[str, int, str]]) -> None:
    wanted = CASES[name][1]
    files = {name} | {file for file, _, _ in wanted}
    found = [(file, line, what) for file, line, what in said if file in files]
    assert len(found) == len(wanted), found
    for (file, line, what), (wanted_file, wanted_line, beginning) in zip(found, wanted, strict=True):
        assert (file, line) == (wanted_file, wanted_line)
        assert what.startswith(beginning)


def test_there_are_no_other_findings(said: list[tuple[str, int, str]]) -> None:
    assert len(said) == sum(len(wanted) for _, wanted in CASES.values())


def test_a_step_of_a_module_that_fails_is_the_teams_mistake(tmp_path: Path) -> None:
    from kommuna.errors import StepNotFound
    from kommuna.runtime.binding import find_step

    (tmp_path / "failing_module_zz.py").write_text("def f(): ...\nnope\n")
    with pytest.raises(StepNotFound, match="NameError: name 'nope' is not defined") as caught:
        find_step("failing_module_zz:f", bundle=tmp_path)
    assert caught.value.where == f"{tmp_path}/failing_module_zz.py:2"
    assert caught.value.exit_code == 2
    for name in ("", "a", "a:", ":b", "a:b:c", "../a:b", "a.:b"):
        with pytest.raises(StepNotFound, match="does not name a step"):
            find_step(name)
