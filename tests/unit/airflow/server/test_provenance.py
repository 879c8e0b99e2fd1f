"""The header that the server adds to a report."""

from datetime import UTC, datetime

from kommuna.airflow.server.provenance import with_provenance
from kommuna.store import Manifest
from kommuna.store.manifest import Lineage


def _manifest(**changes: object) -> Manifest:
    lineage = (
        Lineage(input="gold", digest="a" * 64, source="store://inbox/gold.csv"),
        Lineage(input="model", digest="b" * 64, manifest="c" * 64, output="model"),
        Lineage(input="champion", digest="none", source="no champion of topics"),
    )
    fields = {
        "key": "e" * 64,
        "team": "support",
        "function": "kommuna.steps:evaluate",
        "outputs": {},
        "lineage": lineage,
        "code": "f" * 64,
        "version": "1.2.3",
        "started": datetime(2026, 9, 1, 6, 30, tzinfo=UTC),
        "seconds": 1.5,
        "peak_memory_bytes": 1,
        "dag_id": "support__topics",
        "run_id": "manual__2026-09-01",
        "task_id": "evaluate",
    }
    return Manifest.model_validate(fields | changes)


def test_a_report_says_who_made_it_when_and_from_what() -> None:
    page = with_provenance(b'<!doctype html><html><body class="x"><h1>Topics</h1></body></html>', _manifest()).decode()
    start, rest = page.split("<header", 1)
    header, rest = rest.split("</header>", 1)
    assert start == '<!doctype html><html><body class="x">'
    assert rest == "<h1>Topics</h1></body></html>"
    for said in (
        "team <b>support</b>",
        "DAG <b>support__topics</b>",
        "task <b>evaluate</b>",
        "run <b>manual__2026-09-01</b>",
        "made <b>2026-09-01 06:30:00 UTC</b>",
        "gold <b>store://inbox/gold.csv</b> aaaaaaaaaaaa",
        "model <b>model of cccccccccccc</b> bbbbbbbbbbbb",
        "champion <b>no champion of topics</b>",
    ):
        assert said in header


def test_names_in_the_header_are_text() -> None:
    page = with_provenance(b"<p>a fragment</p>", _manifest(run_id="</header><script>alert(1)</script>")).decode()
    assert "<script>" not in page
    assert page.endswith("<p>a fragment</p>")


def test_unknown_provenance_is_left_out() -> None:
    page = with_provenance(b"<body></body>", _manifest(dag_id="", run_id="", task_id="", lineage=())).decode()
    assert "DAG" not in page
    assert "from" not in page
