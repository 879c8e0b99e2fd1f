"""Results that a run receives never change: replaced files, later manifests, and concurrent runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.rigs.cache import CacheRig, Ran

from kommuna.store.definitions import traced
from kommuna.store.definitions.loading import LOADED_BEFORE
from kommuna.store.gc import collect
from kommuna.store.lookup import look_up
from kommuna.store.results import Results
from kommuna.store.why import between, not_given
from kommuna.waiting import wait_until

COPIES = "from pathlib import Path\ndef f(source: Path) -> dict[str, object]:\n    return {'n': source.read_text()}\n"
FILE = {"inputs": {"source": {"url": "in.txt"}}}


def from_task(ran: Ran, output: str = "result") -> dict[str, Any]:
    """Returns the input that a task makes from another task's XCom."""
    name = ran.result.outputs[output]
    return {"manifest": ran.result.key, "output": output, "digest": name.partition(".")[0]}


def unknown(rig: CacheRig, ran: Ran) -> str:
    """Returns the reason why a result is not reused."""
    return "; ".join(not_given(rig.manifest(ran.result)))


def test_a_step_reads_the_hashed_input_even_if_it_is_replaced_meanwhile(rig: CacheRig) -> None:
    """The step itself swaps the file before it reads its own input."""
    swaps = (
        "from pathlib import Path\n"
        "def f(source: Path, *, real: str) -> dict[str, object]:\n"
        "    Path(real).write_text('new')\n"
        "    return {'n': source.read_text()}\n"
    )
    inbox = Path(rig.folder, "store", "support", "inbox")
    inbox.mkdir(parents=True)
    (inbox / "in.txt").write_text("old")
    rig.write({"step.py": swaps})
    spec = {"inputs": {"source": {"url": "store://inbox/in.txt"}}, "params": {"real": str(inbox / "in.txt")}}
    assert rig.run(**spec).content == {"result": {"n": "old"}}
    (inbox / "in.txt").write_text("old")
    again = rig.run(**spec)
    assert again.content == {"result": {"n": "old"}}


def test_the_result_is_not_reused_if_a_module_changes_while_the_step_runs(rig: CacheRig) -> None:
    slow = "import lib, time\ndef f() -> dict[str, object]:\n    time.sleep(1)\n    return {'n': lib.n()}\n"
    rig.write({"step.py": slow, "lib.py": "def n():\n    return 1\n"})
    swap = threading.Timer(0.5, rig.write, [{"lib.py": "def n():\n    return 2\n"}])
    swap.start()
    first = rig.run()
    swap.join()
    assert first.content == {"result": {"n": 1}}
    assert unknown(rig, first) == "lib.py changed while the step ran"
    rig.write({"lib.py": "def n():\n    return 1\n"})
    assert not rig.run().hit


def test_a_module_that_is_swapped_around_a_late_import_leaves_nothing_stale(rig: CacheRig) -> None:
    late = (
        "import time\ndef f() -> dict[str, object]:\n    time.sleep(0.6)\n    import lib\n    return {'n': lib.n()}\n"
    )
    rig.write({"step.py": late, "lib.py": "def n():\n    return 1\n"})
    swap = threading.Timer(0.3, rig.write, [{"lib.py": "def n():\n    return 2\n"}])
    swap.start()
    first = rig.run()
    swap.join()
    assert first.content == {"result": {"n": 2}}
    rig.write({"lib.py": "def n():\n    return 1\n"})
    second = rig.run()
    assert (second.hit, second.content) == (False, {"result": {"n": 1}})


def test_an_input_that_keeps_being_replaced_is_reported(rig: CacheRig) -> None:
    rig.write({"step.py": COPIES, "in.txt": "x" * 20_000_000})
    stop = threading.Event()

    def replace() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            rig.write({"in.txt": chr(ord("a") + number % 26) * 20_000_000})

    writer = threading.Thread(target=replace)
    writer.start()
    try:
        spec = rig.spec(**FILE)
        done = subprocess.run(
            [sys.executable, "-m", "kommuna.runtime", "--result", str(rig.folder / "result.json")],
            input=spec.model_dump_json(), text=True, capture_output=True, timeout=60, check=False,
        )  # fmt: skip
    finally:
        stop.set()
        writer.join()
    if done.returncode:  # a fast machine may read it between two writes
        assert "an input keeps changing while it is read: in.txt" in done.stderr
    else:
        result = json.loads((rig.folder / "result.json").read_text())
        text = rig.store.read(rig.store.manifest(result["key"]).outputs["result"])  # type: ignore[union-attr]
        assert len(set(json.loads(text)["n"])) == 1  # of no two writings


def test_a_run_keeps_the_result_that_it_was_given(rig: CacheRig) -> None:
    """Run A splits and trains; run B makes another random split; A is tested on its own split."""
    rig.write({
        "step.py": "import os\nfrom typing import NamedTuple\n\n"
        "class Split(NamedTuple):\n    train: list[int]\n    test: list[int]\n\n"
        "def split() -> Split:\n    n = int.from_bytes(os.urandom(8), 'big')\n    return Split([n], [n + 1])\n\n"
        "def train(rows: list[int]) -> dict[str, int]:\n    return {'n': rows[0]}\n\n"
        "def test(model: dict[str, int], rows: list[int]) -> dict[str, bool]:\n"
        "    return {'apart': rows[0] == model['n'] + 1}\n"
    })  # fmt: skip
    a = rig.run("step:split", cache=False, run_id="a")
    model = rig.run("step:train", inputs={"rows": from_task(a, "train")}, run_id="a")
    b = rig.run("step:split", cache=False, run_id="b")
    assert a.result.key != b.result.key
    tested = rig.run("step:test", inputs={"model": from_task(model), "rows": from_task(a, "test")}, run_id="a")
    assert tested.content == {"result": {"apart": True}}


def test_an_input_with_another_digest_than_the_upstream_output_is_refused(rig: CacheRig) -> None:
    rig.write(
        {"step.py": "def f() -> list[int]:\n    return [1]\ndef g(rows: list[int]) -> list[int]:\n    return rows\n"}
    )
    made = from_task(rig.run())
    refused = rig.run("step:g", inputs={"rows": {**made, "digest": "0" * 64}}, fails=True)
    assert "is not what the upstream task produced" in refused.result.message


def test_the_order_of_a_returned_dict_is_kept_and_counts(rig: CacheRig) -> None:
    rig.write({
        "step.py": "def f(*, names: str) -> dict[str, dict[str, int]]:\n    return {n: {m: 1 for m in names} for n in names}\n"
        "def g(made: dict[str, dict[str, int]]) -> dict[str, object]:\n"
        "    return {'n': [*made, *made['a']]}\n"
    })  # fmt: skip
    made = {names: rig.run(params={"names": names}) for names in ("ab", "ba")}
    reads = {names: rig.run("step:g", inputs={"made": from_task(ran)}) for names, ran in made.items()}
    assert [ran.hit for ran in reads.values()] == [False, False]
    assert {names: ran.content["result"]["n"] for names, ran in reads.items()} == {"ab": [*"abab"], "ba": [*"baba"]}


def test_a_dict_with_two_keys_that_are_equal_in_json_is_refused_by_name(rig: CacheRig) -> None:
    rig.write({"step.py": "def f() -> dict[str, object]:\n    return {'n': [{1: 'a', '1': 'b'}]}\n"})
    assert "output 'result' cannot be stored as JSON: result.n[0] has two keys that JSON writes as '1'" in (
        rig.run(fails=True).result.message
    )


def test_a_spec_with_a_duplicate_parameter_is_refused(rig: CacheRig) -> None:
    text = rig.spec(params={"k": 1}).model_dump_json().replace('"k":1', '"k":1,"k":2')
    done = subprocess.run(
        [sys.executable, "-m", "kommuna.runtime", "--spec-json", text], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "duplicate key 'k'" in done.stderr


def test_a_result_made_without_the_cache_is_not_reused(rig: CacheRig) -> None:
    rig.write({"step.py": "def f() -> dict[str, int]:\n    return {'n': 1}\n"})
    assert not rig.run(cache=False).hit
    assert not rig.run().hit
    assert rig.run().hit
    assert not rig.run(cache=False).hit


@pytest.mark.slow
def test_six_concurrent_runs_compute_once(rig: CacheRig) -> None:
    counts = (
        "import time, uuid\nfrom pathlib import Path\n"
        "def f(*, at: str) -> dict[str, int]:\n"
        "    Path('/tmp', f'{at}-{uuid.uuid4()}').touch()\n"
        "    time.sleep(1.5)\n    return {'n': 1}\n"
    )
    rig.write({"step.py": counts})
    at = f"kommuna-{os.getpid()}-{time.time_ns()}"
    spec = rig.spec(params={"at": at}).model_dump_json()
    started = [
        subprocess.Popen([sys.executable, "-m", "kommuna.runtime", "--result", str(rig.folder / f"{n}.json")],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for n in range(6)
    ]  # fmt: skip
    for process in started:
        assert process.stdin is not None
        process.stdin.write(spec)
        process.stdin.close()
        process.stdin = None
    said = [process.communicate(timeout=60)[0] for process in started]
    assert [process.returncode for process in started] == [0] * 6, said
    results = [json.loads((rig.folder / f"{n}.json").read_text()) for n in range(6)]
    computed = list(Path("/tmp").glob(f"{at}-*"))  # where a step's writing counts for nothing
    for path in computed:
        path.unlink()
    assert len(computed) == 1
    assert sorted(result["cached"] for result in results) == [False, *[True] * 5]
    assert len({result["key"] for result in results}) == 1
    assert any("another run computes the same" in text for text in said)


def test_others_do_not_wait_for_a_killed_worker(rig: CacheRig) -> None:
    started = Path(f"/tmp/kommuna-{uuid.uuid4()}")  # where a step's writing counts for nothing
    slow = f"import time\ndef f() -> dict[str, int]:\n    open('{started}', 'w').close()\n    time.sleep(30)\n    return {{'n': 1}}\n"
    rig.write({"step.py": slow})
    first = subprocess.Popen([sys.executable, "-m", "kommuna.runtime"], stdin=subprocess.PIPE, text=True)
    assert first.stdin is not None
    first.stdin.write(rig.spec().model_dump_json())
    first.stdin.close()
    wait_until("the step runs", started.exists, every=0.05)
    started.unlink()
    first.kill()
    first.wait()
    rig.write({"step.py": "def f() -> dict[str, int]:\n    return {'n': 2}\n"})
    assert rig.run().content == {"result": {"n": 2}}


UDP = "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)"


def asks(what: str) -> str:
    """A step that queries a peer and accepts a missing answer."""
    return f"import socket\ndef f() -> dict[str, int]:\n    try:\n        {what}\n    except OSError:\n        pass\n    return {{'n': 1}}\n"


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("import urllib.request\ndef f() -> dict[str, int]:\n    try:\n        urllib.request.urlopen('http://127.0.0.1:9/')\n"
         "    except OSError:\n        pass\n    return {'n': 1}\n", "it asks 127.0.0.1:9, which is not a service of the platform"),
        (asks("socket.create_connection(('kommuna.invalid', 80))"), "it asks kommuna.invalid, which is not a service of the platform"),
        (asks("socket.gethostbyname('kommuna.invalid')"), "it asks kommuna.invalid, which is not a service of the platform"),
        (asks("socket.socket(socket.AF_UNIX).connect('/tmp/kommuna-nobody')"), "it asks /tmp/kommuna-nobody, which is not a service of the platform"),
        (asks("socket.socket(socket.AF_UNIX).connect('\\0kommuna-nobody')"), "it asks @kommuna-nobody, which is not a service of the platform"),
        (asks(f"{UDP}.sendto(b'x', ('127.0.0.1', 9))"), "it asks 127.0.0.1:9, which is not a service of the platform"),
        (asks(f"{UDP}.sendmsg([b'x'], [], 0, ('127.0.0.1', 9))"), "it asks 127.0.0.1:9, which is not a service of the platform"),
        (asks("socket.create_server(('127.0.0.1', 46391)).close()"), "it opens port 46391, where other processes can connect to it"),
        (asks(f"{UDP}.bind(('127.0.0.1', 46391))"), "it opens port 46391, where other processes can connect to it"),
        (asks(f"{UDP}.sendto(b'x', ('192.0.2.1', 53))"), "it asks 192.0.2.1:53, which is not a service of the platform"),
        ("import os\nfrom pathlib import Path\ndef f() -> dict[str, int]:\n    (Path(__file__).parent / 'made').mkdir(exist_ok=True)\n    return {'n': 1}\n", "it changes made, which a cached result would not repeat"),
        ("from pathlib import Path\ndef f() -> dict[str, int]:\n    Path(__file__).with_name('out.txt').write_text('x')\n"
         "    return {'n': 1}\n", "it writes out.txt, which a cached result would not write again"),
        ("from kommuna.spec.caching import step\n@step(cacheable=False)\ndef f() -> dict[str, int]:\n    return {'n': 1}\n",
         "the step has cacheable=False, or the task has cache=False"),
    ],
)  # fmt: skip
def test_a_use_that_cannot_be_compared_keeps_the_result_from_reuse_and_is_reported(
    rig: CacheRig, source: str, why: str
) -> None:
    rig.write({"step.py": source})
    first = rig.run()
    assert unknown(rig, first) == why
    assert not rig.run().hit


@pytest.mark.slow
def test_an_expiring_result_is_reused_until_then(rig: CacheRig) -> None:
    asks = (
        "import urllib.request\nfrom kommuna.spec.caching import step\n@step(expires='3s')\n"
        "def f() -> dict[str, int]:\n    try:\n        urllib.request.urlopen('http://127.0.0.1:9/')\n"
        "    except OSError:\n        pass\n    return {'n': 1}\n"
    )
    rig.write({"step.py": asks})
    rig.run()
    assert rig.run().hit
    time.sleep(1.1)
    assert not rig.run(expires="1s").hit  # the task may want it younger than the step does
    assert rig.run(expires="1h").hit
    time.sleep(3)
    assert not rig.run().hit


HIDES = "def hides(function):\n    def other() -> dict[str, int]:\n        return {how}\n    return other\n"
DECLARED = (
    "import functools, multiprocessing, os, sys, subprocess\nfrom kommuna.spec.caching import step\n{hides}"
    "@hides\n@step({said})\ndef f() -> dict[str, int]:\n    return {{'n': 1}}\n"
)


@pytest.mark.parametrize("said", ["cacheable=False", "expires='2s'"])
@pytest.mark.parametrize(
    "hides",
    [
        HIDES.format(how="function()"),
        HIDES.format(how="[function][0]()"),
        "class Hides:\n    def __init__(self, function): self.function = function\n    def call(self): return self.function()\n"
        "def hides(function):\n    hidden = Hides(function)\n    def other() -> dict[str, int]:\n        return hidden.call()\n    return other\n",
        HIDES.format(how="multiprocessing.get_context('fork').Pool(1).apply(call)")
        + "def call():\n    return hidden()\n"
        "def hides(function, plain=hides):\n    global hidden\n    hidden = function\n    return plain(function)\n",
    ],
    ids=["closure", "list", "object", "worker"],
)
def test_the_declarations_of_a_step_hold_under_another_decorator(rig: CacheRig, hides: str, said: str) -> None:
    rig.write({"step.py": DECLARED.format(hides=hides, said=said)})
    rig.run()
    if said != "cacheable=False":
        assert rig.run().hit
        time.sleep(2)
    assert not rig.run().hit


def test_the_declarations_of_a_helper_restrict_the_step_that_calls_it_but_allow_nothing(rig: CacheRig) -> None:
    rig.write({
        "step.py": "import socket\nfrom kommuna.spec.caching import step\n@step(cacheable=False)\ndef tells() -> None: ...\n"
        "@step(expires='1h')\ndef rates() -> None: ...\n"
        "def f() -> dict[str, int]:\n    tells()\n    return {'n': 1}\n"
        "def g() -> dict[str, int]:\n    rates()\n    return {'n': 1}\n"
        f"def h() -> dict[str, int]:\n    rates()\n    {UDP}.sendto(b'x', ('127.0.0.1', 9))\n    return {{'n': 1}}\n"
        "def k() -> dict[str, int]:\n    return {'n': 1}\n"
    })  # fmt: skip
    for name in "fghk":
        rig.run(f"step:{name}")
    assert [rig.run(f"step:{name}").hit for name in "fghk"] == [False, True, False, True]


def test_a_local_worker_pool_belongs_to_the_step(rig: CacheRig) -> None:
    rig.write({
        "step.py": "import multiprocessing, socket, threading\ndef f() -> dict[str, int]:\n"
        "    with socket.create_server(('127.0.0.1', 0)) as server:\n"
        "        threading.Thread(target=lambda: server.accept()[0].close(), daemon=True).start()\n"
        "        socket.create_connection(server.getsockname()).close()\n"
        f"    with {UDP} as server, {UDP} as client:\n"
        "        server.bind(('127.0.0.1', 0))\n        client.sendto(b'x', server.getsockname())\n"
        "    with multiprocessing.Manager() as manager:\n        return {'n': manager.list([1])[0]}\n"
    })  # fmt: skip
    assert unknown(rig, rig.run()) == ""
    assert rig.run().hit


def test_the_environment_is_the_same_whatever_the_caller_has(rig: CacheRig, tmp_path: Path) -> None:
    looks = (
        "import os, time, locale\ndef f() -> dict[str, object]:\n"
        "    return {'tz': time.tzname, 'lang': locale.getpreferredencoding(), 'foreign': os.environ.get('FOREIGN'),\n"
        "            'hash': hash('a'), 'hour': time.localtime(0).tm_hour, 'threads': os.environ['POLARS_MAX_THREADS']}\n"
    )
    rig.write({"step.py": looks})
    here = rig.run(cache=False).content
    other = tmp_path / "other"
    other.mkdir()
    environment = {"TZ": "Asia/Vladivostok", "LC_ALL": "C", "FOREIGN": "yes", "POLARS_MAX_THREADS": "7"}
    elsewhere = CacheRig(other, environment)
    elsewhere.write({"step.py": looks})
    try:
        assert elsewhere.run().content == here
    finally:
        elsewhere.close()
    assert here["result"]["tz"] == ["UTC", "UTC"]


@pytest.mark.parametrize(
    "reads",
    ["os.environ['AWS_REGION']", "os.getenv('AWS_REGION')", "os.environ.get('AWS_REGION')", "'AWS_REGION' in os.environ",
     "os.path.expandvars('$AWS_REGION')", "os.environb[b'AWS_REGION'].decode()",
     "multiprocessing.get_context('fork').Pool(1).apply(work)", "dict(os.environ)['AWS_REGION']"],
)  # fmt: skip
def test_a_kept_environment_variable_counts_for_the_step_that_reads_it(tmp_path: Path, reads: str) -> None:
    here = CacheRig(tmp_path, {"AWS_REGION": "a-secret"})
    here.write({
        "step.py": f"import multiprocessing, os\ndef work():\n    return os.getenv('AWS_REGION')\ndef f() -> dict[str, object]:\n    return {{'n': {reads}}}\n"
        "def g() -> dict[str, object]:\n    return {'n': os.path.exists(os.path.expanduser('~/none'))}\n"
    })  # fmt: skip
    try:
        first = here.run()
        assert here.run().hit
        here.run("step:g")
        assert "a-secret" not in here.manifest(first.result).model_dump_json(exclude={"question"})
        here.close()
        here.environment = {"AWS_REGION": "b"} if " in " not in reads else {}
        assert not here.run().hit
        assert here.run("step:g").hit
    finally:
        here.close()


def test_a_miss_is_explained(rig: CacheRig) -> None:
    def why(**fields: Any) -> str:
        return look_up(rig.spec(**fields), rig.store, rig.folder).miss

    rig.write(
        {
            "step.py": "import lib\ndef f(*, k: int = 1) -> dict[str, int]:\n    return {'n': lib.n()}\n",
            "lib.py": "def n():\n    return 1\n",
        }
    )
    assert why() == "it has not run before"
    rig.run()
    assert why() == ""
    assert why(params={"k": 2}) == "parameter 'k': 1 → 2"
    rig.write({"lib.py": "def n():\n    return 2\n"})
    assert why() == "lib.py changed"
    rig.write({"lib.py": None})
    assert why() == "lib.py is gone"


@pytest.mark.parametrize(
    ("kind", "before", "after", "words"),
    [
        ("set[int]", [1], [2], "parameter 'x': [1] → [2]"),
        ("bytes", "a", "b", "parameter 'x': b'a' → b'b'"),
        ("timedelta", 60, 90, "parameter 'x': '0:01:00' → '0:01:30'"),
        ("date", "2026-01-01", "2026-01-02", "parameter 'x': '2026-01-01' → '2026-01-02'"),
        ("dict[int, int]", {"1": 1}, {"1": 2}, "parameter 'x.1': 1 → 2"),
        ("Unheard", {"a": 1}, {"a": 2}, "parameter 'x.a': 1 → 2"),
        ("str", "\u00e9", "e\u0301", "parameter 'x': '\\xe9' → 'e\\u0301'"),
        ("list[int]", [*range(99)], [*range(98), 7], "parameter 'x[98]': 98 → 7"),
    ],
)
def test_a_changed_parameter_is_shown_as_people_write_it(
    rig: CacheRig, kind: str, before: Any, after: Any, words: str
) -> None:
    head = "from datetime import date, timedelta\nfrom typing import Any\nclass Unheard(dict[str, Any]): pass\n"
    rig.write(
        {
            "step.py": f"{head}def f(*, x: {kind.replace('Unheard', 'Any if 1 else Unheard')}) -> dict[str, int]:\n    return {{'n': 1}}\n"
        }
    )
    rig.run(params={"x": before})
    assert look_up(rig.spec(params={"x": after}), rig.store, rig.folder).miss == words


def test_the_least_recently_used_candidate_is_removed_first(rig: CacheRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kommuna.store.results.MOST_CANDIDATES", 3)
    results, keys = Results(rig.store), []
    for n in range(3):
        rig.write({"step.py": f"def f() -> dict[str, int]:\n    return {{'n': {n}}}\n"})
        keys.append(rig.run().result.key)
        time.sleep(0.02)
    question = look_up(rig.spec(), rig.store, rig.folder).digest
    rig.write({"step.py": "def f() -> dict[str, int]:\n    return {'n': 0}\n"})
    assert rig.run().result.key == keys[0]
    assert results.candidates(question) == [keys[0], keys[2], keys[1]]
    results.add(question, "f" * 64)
    assert results.candidates(question) == ["f" * 64, keys[0], keys[2]]


def test_a_damaged_artifact_of_equal_size_is_made_again(rig: CacheRig) -> None:
    rig.write({"step.py": "def f() -> dict[str, int]:\n    return {'n': 1}\n"})
    artifact = rig.manifest(rig.run().result).outputs["result"]
    path = Path(rig.store.url(artifact).removeprefix("file://"))
    good = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(good.replace(b"1", b"7"))
    assert not rig.run().hit
    assert path.read_bytes() == good


def test_old_candidates_are_hits_again_when_code_is_reverted(rig: CacheRig) -> None:
    one, two = "def f() -> dict[str, int]:\n    return {'n': 1}\n", "def f() -> dict[str, int]:\n    return {'n': 2}\n"
    rig.write({"step.py": one})
    first = rig.run()
    rig.write({"step.py": two})
    assert not rig.run().hit
    rig.write({"step.py": one})
    again = rig.run()
    assert (again.hit, again.content) == (True, first.content)
    assert len(Results(rig.store).candidates(rig.manifest(first.result).question.digest)) == 2  # type: ignore[union-attr]


def test_a_hit_by_definitions_is_remembered(rig: CacheRig, monkeypatch: pytest.MonkeyPatch) -> None:
    lib = "def n():\n    return {0}\n\ndef unrelated():\n    return 1\n"
    rig.write(
        {"step.py": "import lib\ndef f() -> dict[str, int]:\n    return {'n': lib.n()}\n", "lib.py": lib.format(1)}
    )
    rig.run()
    analyses: list[object] = []

    def counted(*given: Any) -> Any:
        analyses.append(given)
        return traced(*given)

    monkeypatch.setattr("kommuna.store.analyses.traced", counted)

    def looked_up(text: str) -> tuple[str, int]:
        rig.write({"lib.py": text})
        before = len(analyses)
        return look_up(rig.spec(), rig.store, rig.folder).miss, len(analyses) - before

    added = lib.format(1) + "\nK = 1\n"
    assert looked_up(lib.format(1)) == ("", 0)
    assert looked_up("# why\n" + lib.format(1)) == ("", 0)
    assert looked_up(added) == ("", 1)
    assert looked_up(added) == ("", 0)
    assert looked_up("# why\n" + added) == ("", 0)
    assert looked_up(lib.format(2)) == ("lib.py changed", 1)
    assert looked_up(lib.format(2)) == ("lib.py changed", 0)
    assert looked_up(added.replace("return 1", "return 3", 1))[0] == "lib.py changed"
    assert looked_up(lib.format(1)) == ("", 0)
    assert looked_up(added) == ("", 0)


def test_gc_removes_references_to_missing_manifests(rig: CacheRig) -> None:
    rig.write({"step.py": "def f(*, k: int = 1) -> dict[str, int]:\n    return {'n': k}\n"})
    manifest = rig.manifest(rig.run().result)
    store = rig.store
    path = Path(store.manifest_url(manifest.key).removeprefix("file://"))
    long_ago = time.time() - 90 * 86400
    store.write_manifest(manifest.model_copy(update={"started": datetime.fromtimestamp(long_ago, UTC)}))
    os.utime(path, (long_ago, long_ago))
    assert collect(store, keep_days=30, grace_seconds=0).manifests == 1
    assert [at.relative_to(store.root).parts[0] for at in Path(store.root).rglob("*") if at.is_file()] == []
    assert not rig.run().hit


def test_why_explains_the_differences_between_two_runs(rig: CacheRig) -> None:
    rig.write({"step.py": "import lib\ndef f(*, k: int = 1) -> dict[str, int]:\n    return {'n': lib.n() + k}\n",
               "lib.py": "def n():\n    return 1\n"})  # fmt: skip
    first = rig.manifest(rig.run().result)
    rig.write({"lib.py": "def n():\n    return 2\n"})
    second = rig.manifest(rig.run(params={"k": 2}).result)
    assert list(between(first, second)) == ["parameter 'k': 1 → 2", "lib.py changed"]
    assert list(between(first, first)) == []


def test_only_modules_with_relevant_changes_are_named(rig: CacheRig) -> None:
    lib = "def n():\n    return {0}\n"
    rig.write({
        "step.py": "import a, b, z\ndef f() -> dict[str, int]:\n    return {'n': a.n() + b.n() + z.n()}\n",
        **{f"{name}.py": lib.format(1) for name in "abz"},
    })  # fmt: skip
    first = rig.manifest(rig.run().result)
    rig.write({"a.py": "# why\n" + lib.format(1), "b.py": lib.format(2)})
    assert look_up(rig.spec(), rig.store, rig.folder).miss == "b.py changed"
    second = rig.manifest(rig.run().result)
    rig.write({"z.py": lib.format("1  # why")})
    third = rig.manifest(rig.run(cache=False).result)
    assert list(between(first, second)) == ["b.py changed"]
    assert list(between(second, third)) == [f"{third.key[:12]}: {next(not_given(third))}"]


def test_a_switched_link_to_the_bundle_is_followed_even_if_the_step_resolves_it(rig: CacheRig) -> None:
    for version in ("v1", "v2"):
        rig.write({
            f"{version}/step.py": "from pathlib import Path\nimport os\n"
            "def f() -> dict[str, object]:\n    here = Path(__file__).resolve().parent\n"
            "    os.chdir(here)\n    return {'n': [here.joinpath('d').read_text(), open('d').read()]}\n",
            f"{version}/d": version,
        })  # fmt: skip
    link = rig.folder / "current"
    link.symlink_to(rig.bundle / "v1")
    spec = {"bundle": str(link)}
    first = rig.run(**spec)
    assert rig.run(**spec).hit
    link.unlink()
    link.symlink_to(rig.bundle / "v2")
    second = rig.run(**spec)
    assert (second.hit, second.content) == (False, {"result": {"n": ["v2", "v2"]}})
    assert first.content == {"result": {"n": ["v1", "v1"]}}


def test_a_switched_link_to_an_identical_bundle_is_a_hit(rig: CacheRig) -> None:
    """As git-sync does at each commit."""
    for version in ("v1", "v2"):
        rig.write({f"{version}/step.py": "import lib\ndef f() -> dict[str, int]:\n    return {'n': lib.K}\n",
                   f"{version}/lib.py": "K = 1\n"})  # fmt: skip
    link = rig.folder / "current"
    link.symlink_to(rig.bundle / "v1")
    spec = {"bundle": str(link)}
    rig.run(**spec)
    link.unlink()
    link.symlink_to(rig.bundle / "v2")
    assert rig.run(**spec).hit


def test_places_inspected_outside_the_bundle_count(rig: CacheRig) -> None:
    """Files, links and folders that are no temporary ones: here below the rig's own, which the step cannot know."""
    place = Path("/var/kommuna-test") / str(os.getpid())
    place.mkdir(parents=True)
    try:
        rig.write({
            "step.py": "import os\ndef f(*, at: str) -> dict[str, object]:\n"
            "    return {'n': [os.path.exists(f'{at}/flag'), os.path.islink(f'{at}/link') and os.readlink(f'{at}/link')]}\n"
        })  # fmt: skip
        spec = {"params": {"at": str(place)}}
        rig.run(**spec)
        assert rig.run(**spec).hit
        (place / "flag").touch()
        assert not rig.run(**spec).hit
        (place / "link").symlink_to("a")
        assert not rig.run(**spec).hit
        assert rig.run(**spec).hit
        (place / "link").unlink()
        (place / "link").symlink_to("b")
        assert rig.run(**spec).content == {"result": {"n": [True, "b"]}}
    finally:
        shutil.rmtree(place)


def test_places_inspected_by_a_started_program_count(rig: CacheRig) -> None:
    rig.write({
        "step.py": "import subprocess\nfrom pathlib import Path\ndef f() -> dict[str, object]:\n"
        "    return {'n': subprocess.call(['test', '-e', str(Path(__file__).with_name('flag'))])}\n"
    })  # fmt: skip
    rig.run()
    assert rig.run().hit
    rig.write({"flag": ""})
    assert rig.run().content == {"result": {"n": 0}}


def test_modules_assumed_to_be_loaded_before_the_teams_are(rig: CacheRig) -> None:
    rig.write({"step.py": "import sys\nLOADED = set(sys.modules)\ndef f(*, names: list[str]) -> dict[str, object]:\n"
               "    return {'n': sorted(set(names) - LOADED)}\n"})  # fmt: skip
    assert rig.run(params={"names": sorted(LOADED_BEFORE)}).content == {"result": {"n": []}}


def test_a_library_that_is_installed_later_is_a_miss(
    rig: CacheRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.write({"step.py": "try:\n    import made_up_for_this_test as m\nexcept ImportError:\n    m = None\n"
               "def f() -> dict[str, object]:\n    return {'n': m is not None}\n"})  # fmt: skip
    first = rig.run()
    uses = rig.manifest(first.result).uses
    assert uses is not None
    assert uses.absent_libraries == ("made_up_for_this_test",)
    monkeypatch.setattr("kommuna.store.present.library_folders", lambda: (str(tmp_path / "libraries"),))
    assert look_up(rig.spec(), rig.store, rig.folder).miss == ""
    (tmp_path / "libraries").mkdir()
    (tmp_path / "libraries" / "made_up_for_this_test.py").touch()
    assert look_up(rig.spec(), rig.store, rig.folder).miss == "made_up_for_this_test is installed now"


def test_the_context_can_be_handed_to_workers(rig: CacheRig) -> None:
    rig.write({
        "step.py": "import multiprocessing, os\nfrom kommuna.spec.step import StepContext\n"
        "def work(c):\n    return c.run_id\n"
        "def f(*, context: StepContext) -> dict[str, object]:\n"
        "    with multiprocessing.get_context('fork').Pool(1) as pool:\n"
        "        return {'n': [pool.apply(work, (context,)), len(pool.map(os.stat, ['/']))]}\n"
    })  # fmt: skip
    assert rig.run(run_id="a").content == {"result": {"n": ["a", 1]}}
    assert rig.run(run_id="b").content == {"result": {"n": ["b", 1]}}


@pytest.mark.parametrize(
    "body",
    [
        "import sys; sys.stdout.close()",
        "import sys; sys.stdout = None",
        "import sys; sys.stderr = None",
        "import sys; print('x'); sys.stdout = object()",
        "import os; print('x'); os.close(1)",
        "import os, sys; print('x'); os.dup2(os.open('/dev/full', os.O_WRONLY), 1)",
        "import os\nif os.fork() == 0:\n    return {'n': 2}\nos.wait()",
    ],
)
def test_a_step_may_modify_its_output_and_its_result_is_reused(rig: CacheRig, body: str) -> None:
    rig.write({"step.py": f"def f() -> dict[str, object]:\n{textwrap.indent(body, '    ')}\n    return {{'n': 1}}\n"})
    assert rig.run().content == {"result": {"n": 1}}
    assert rig.run(cache=False).content == {"result": {"n": 1}}  # the forked process has not answered as the runtime


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ("class E(Exception):\n    def __str__(self): raise ValueError\n", "E: (its own text fails with ValueError)"),
        ("class E(Exception): pass\nE.__module__ = None\n", "E: "),
        ("import sys\nclass E(Exception):\n    def __init__(self): sys.stderr.close()\n", "E: "),
    ],
)
def test_an_unusual_failure_of_a_step_is_explained(rig: CacheRig, head: str, said: str) -> None:
    rig.write({"step.py": f"{head}def f() -> dict[str, object]:\n    raise E()\n"})
    assert rig.run(fails=True).result.message.splitlines()[0] == said
    assert rig.run(fails=True).result.message.splitlines()[0] == said


@pytest.mark.parametrize(("body", "code"), [("return {'n': 1}", 0), ("raise RuntimeError('boom')", 1)])
def test_an_unwritable_log_does_not_fail_the_run(rig: CacheRig, tmp_path: Path, body: str, code: int) -> None:
    rig.write({"step.py": f"def f() -> dict[str, int]:\n    print('x' * 100)\n    {body}\n"})
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "kommuna.runtime", "--result", str(tmp_path / "result.json")],
            input=rig.spec().model_dump_json(), text=True, stdout=full, stderr=full, timeout=60, check=False,
        )  # fmt: skip
    result = json.loads((tmp_path / "result.json").read_text())
    assert (done.returncode, result["exit_code"]) == (code, code)
    assert ("boom" in str(result["failure"])) == bool(code)


def test_the_standard_input_of_a_step_is_always_empty(rig: CacheRig, tmp_path: Path) -> None:
    rig.write({
        "step.py": "import os, sys\ndef f() -> dict[str, object]:\n    return {'n': [sys.stdin.read(), os.read(0, 9).decode()]}\n"
    })  # fmt: skip
    (tmp_path / "spec.json").write_text(rig.spec().model_dump_json())
    for _ in range(2):
        subprocess.run(
            [sys.executable, "-m", "kommuna.runtime", "--spec", str(tmp_path / "spec.json")],
            input="the caller's", text=True, capture_output=True, timeout=60, check=True,
        )  # fmt: skip
    ran = rig.run()
    assert (ran.hit, ran.content) == (True, {"result": {"n": ["", ""]}})


@pytest.mark.parametrize("damage", [b"\xff\xfe", b"", b"../../../../../etc/passwd", b"0" * 63])
def test_a_damaged_record_of_a_tasks_last_run_is_ignored(rig: CacheRig, damage: bytes) -> None:
    rig.write({"step.py": "def f(*, k: int) -> dict[str, int]:\n    return {'n': k}\n"})
    rig.run(params={"k": 1})
    for path in Path(rig.store.root, "tasks").rglob("*"):
        if path.is_file():
            path.write_bytes(damage)
    assert look_up(rig.spec(params={"k": 2}), rig.store, rig.folder).miss == "it has not run before"
    assert rig.run(params={"k": 2}).content == {"result": {"n": 2}}
    collect(rig.store, keep_days=0, grace_seconds=0)


def test_a_name_missing_from_a_module_is_reported_at_the_teams_line(rig: CacheRig) -> None:
    rig.write(
        {"step.py": "import lib\nK = lib.missing\ndef f() -> dict[str, int]:\n    return {'n': 1}\n", "lib.py": ""}
    )
    said = rig.run(fails=True).result.message
    assert "AttributeError: module 'lib' has no attribute 'missing'" in said
    assert "step.py:2" in said


def test_a_run_leaves_no_descriptor_open(rig: CacheRig) -> None:
    rig.write({"step.py": "def f(*, n: int = 1) -> dict:\n    return {'n': n}\n"})
    rig.run()
    descriptors = Path(f"/proc/{rig.pid}/fd")
    before = len(list(descriptors.iterdir()))
    for number in range(3):
        rig.run(cache=False)
        rig.run(params={"n": number})
        rig.run(params={"n": number})
    assert len(list(descriptors.iterdir())) == before


def test_a_model_is_loaded_from_a_step_and_from_no_file(rig: CacheRig) -> None:
    """Loading a model may run code, so one that a person put into the inbox, the bundle or elsewhere is not opened."""
    models = (
        "import pickle\nfrom pathlib import Path\n"
        "class Model:\n"
        "    def save(self, path):\n        path.write_bytes(pickle.dumps(1))\n"
        "    @classmethod\n    def load(cls, path):\n        pickle.loads(path.read_bytes())\n        return cls()\n"
        "def train() -> Model:\n    return Model()\n"
        "def use(model: Model) -> dict[str, object]:\n    return {'n': 1}\n"
    )
    mark = rig.folder / "ran"
    evil = b"cos\nsystem\n(S'touch " + str(mark).encode() + b"'\ntR."
    inbox = Path(rig.folder, "store", "support", "inbox")
    inbox.mkdir(parents=True)
    (inbox / "evil.model").write_bytes(evil)
    rig.write({"step.py": models, "evil.model": evil})
    for url in ("store://inbox/evil.model", "evil.model", (inbox / "evil.model").as_uri()):
        refused = rig.run("step:use", fails=True, inputs={"model": {"url": url}})
        assert refused.result.failure
        assert "is not a Model that a step made, and is not opened" in str(refused.result.failure)
    assert not mark.exists()
    trained = rig.run("step:train")
    assert rig.run("step:use", inputs={"model": from_task(trained)}).content == {"result": {"n": 1}}
