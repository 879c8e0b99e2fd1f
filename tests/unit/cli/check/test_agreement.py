"""`kommuna check` and the platform agree on a file: Airflow's own parsing, with the platform's policies."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.rigs.check import dag, findings_of, zipped

# What the platform's parsing does with each file of a bundle, without a database.
PARSE = """
import json, sys
from pathlib import Path
from airflow.dag_processing.dagbag import BundleDagBag
from airflow.dag_processing.processor import _serialize_dags
from kommuna.airflow.isolation.listing import dag_files
import structlog
bundle, said = Path(sys.argv[1]), {}
for path in dag_files(bundle):
    bag = BundleDagBag(dag_folder=str(bundle / path), bundle_path=bundle, bundle_name="support", load_op_links=False)
    dags, errors = _serialize_dags(bag, structlog.get_logger())
    for dag in dags:
        dag.next_dagrun_info(last_automated_run_info=None)
    said[str(path)] = [sorted(d.dag_id for d in dags), [*bag.import_errors.values(), *errors.values()]]
Path(sys.argv[2]).write_text(json.dumps(said))
"""
GOOD = {
    "good.py": dag("good"),
    "bom.py": b"\xef\xbb\xbf" + dag("bom").encode(),
    "cookie.py": "# -*- coding: cp1251 -*-\n# карта\n".encode("cp1251") + dag("cookie").encode(),
    "sub/inside.py": "from sub.helper import NAME\n" + dag("inside"),
    "sub/helper.py": "NAME = 1\n",
    "hourly.py": dag("hourly", schedule="'@hourly'"),
    "slow_pool.py": dag("slow_pool", "EmptyOperator(task_id='t', pool='support__slow')"),
    "bare_pool.py": dag("bare_pool", "EmptyOperator(task_id='t', pool='slow')"),
    "mapped_pool.py": "from airflow.providers.standard.operators.bash import BashOperator\n"
    + dag("mapped_pool", "BashOperator.partial(task_id='t', pool='slow').expand(bash_command=['true'])"),
    "asset_like.txt": "airflow dag",
}
BAD = {
    "cycle.py": (dag("cycle", "a = EmptyOperator(task_id='a')\nb = EmptyOperator(task_id='b')\na >> b\nb >> a"), 5,
                 "DAG 'support__cycle' has a cycle: a >> b >> a"),
    "every5.py": (dag("every5", schedule="'@every5'"), 3, "DAG 'support__every5': the schedule '@every5' cannot be read"),
    "dayly.py": (dag("dayly", schedule="'@dayly'"), 3,
                 "DAG 'support__dayly': the schedule '@dayly' cannot be read (did you mean '@daily'?)"),
    "continuous.py": (dag("continuous", schedule="'@continuous'"), 3,
                      "DAG 'support__continuous' runs again as soon as it ends"),
    "latin.py": ("x = 'карта'\n".encode("cp1251") + dag("latin").encode(), 1, "not valid Python: "),
    "sub/beside.py": ("from helper import NAME\n" + dag("beside"), 1, "ModuleNotFoundError: No module named 'helper'"),
    "nul.py": (dag("nul").encode() + b"\0", 1, "not valid Python: source code string cannot contain null bytes"),
    "exits.py": ("# airflow dag\nimport sys\nsys.exit(3)\n", 3, "SystemExit: 3"),
    "own_pool.py": (dag("own_pool", "a = EmptyOperator(task_id='a')\nEmptyOperator(task_id='b', pool='fraud__default')"),
                    5, "task 'b' uses the pool 'fraud__default', which does not belong to team 'support'"),
    "unserializable.py": (dag("unserializable", params="{'a': object()}"), 3, ""),
}  # fmt: skip
LEFT_OUT = {
    ".airflowignore": "drafts/\n*_old.py\n",
    "drafts/draft.py": "# airflow dag\nnope\n",
    "x_old.py": "# airflow dag\nthis is no python\n",
    "sub/.airflowignore": "left_out.py\n",
    "sub/left_out.py": "# airflow dag\nnope\n",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("platform")


@pytest.fixture(scope="module")
def check_findings(folder: Path) -> dict[str, list[tuple[int, str, str]]]:
    archive = zipped(folder / "dags.zip", in_zip=dag("in_zip"))
    bad = {name: content for name, (content, _, _) in BAD.items()}
    return findings_of(folder, {**GOOD, **bad, **LEFT_OUT, "dags.zip": archive})


@pytest.fixture(scope="module")
def platform_errors(
    folder: Path, check_findings: dict[str, list[tuple[int, str, str]]]
) -> dict[str, tuple[list[str], list[str]]]:
    assert check_findings  # writes the bundle
    result = folder / "said.json"
    command = [sys.executable, "-P", "-c", PARSE, str(folder / "dags"), str(result)]
    subprocess.run(command, check=True, capture_output=True, cwd=folder)
    return {name: (dags, errors) for name, (dags, errors) in json.loads(result.read_text()).items()}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_named_with_its_line_and_the_platform_refuses_it(
    name: str,
    check_findings: dict[str, list[tuple[int, str, str]]],
    platform_errors: dict[str, tuple[list[str], list[str]]],
) -> None:
    _, line, what = BAD[name]
    ((at, said, _),) = check_findings[name]
    assert at == line
    assert said.startswith(what)
    _, errors = platform_errors[name]
    assert errors


def test_the_platform_accepts_every_file_without_findings(
    check_findings: dict[str, list[tuple[int, str, str]]], platform_errors: dict[str, tuple[list[str], list[str]]]
) -> None:
    refused = {name for name, (_, errors) in platform_errors.items() if errors}
    assert refused == set(check_findings) - {"dags.zip"} == set(BAD)
    taken = {dag for dags, errors in platform_errors.values() if not errors for dag in dags}
    assert taken == {
        f"support__{name}"
        for name in ("good", "bom", "cookie", "inside", "hourly", "slow_pool", "bare_pool", "mapped_pool")
    }


def test_an_archive_is_reported(
    check_findings: dict[str, list[tuple[int, str, str]]],
) -> None:
    assert check_findings["dags.zip"] == [
        (1, "an archive: the platform reads no DAGs from archives", "put the files themselves there")
    ]


def test_a_module_beside_a_file_in_a_sub_folder_is_imported_from_the_bundles_folder(
    check_findings: dict[str, list[tuple[int, str, str]]],
) -> None:
    ((_, _, fix),) = check_findings["sub/beside.py"]
    assert fix == "imports start at the bundle's folder: write `from sub import helper`"
