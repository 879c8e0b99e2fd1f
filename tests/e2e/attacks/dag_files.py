"""DAG files of the hostile team bench: what each tries, which layer refuses it, and what its import error says."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tests.rigs.secret_search import SEARCH

ADMISSION = "admission"
RELAY = "relay"
PARSER = "parser"
_HEAD = """
from datetime import datetime, timedelta
from airflow.sdk import DAG, Asset, Param
from airflow.providers.standard.operators.empty import EmptyOperator
"""
_PATCHED = """
from kommuna.airflow.admission import policies, rules
rules.judge = policies.judge = lambda *given, **named: []
"""
_LIE = """
from airflow.serialization import serialized_objects
honest = serialized_objects.DagSerialization.to_dict

def lie(dag):
    data = honest(dag)
    {lie}
    return data

serialized_objects.DagSerialization.to_dict = lie
"""


@dataclass(frozen=True)
class Attack:
    """A hostile DAG file.

    Attributes:
        what: what it tries.
        layer: what refuses it.
        source: its code.
        words: a pattern of its import error.
    """

    what: str
    layer: str
    source: str
    words: str

    def is_refused(self, error: str) -> bool:
        """Whether an import error is the expected one."""
        return re.search(self.words, error) is not None


def _dag(what: str, words: str, *, dag: str = "schedule=None", task: str = "", before: str = "") -> Attack:
    """Makes a file with one DAG of one task, with some arguments, which replaces the policy in its own process."""
    source = f"{_HEAD}{_PATCHED}{before}\nwith DAG('bench__attack', {dag}):\n    EmptyOperator(task_id='t', {task})\n"
    return Attack(what, ADMISSION, source, words)


def _lie(what: str, lie: str, words: str, layer: str = RELAY) -> Attack:
    """Makes a file that replaces what Airflow's code in the parser answers, too."""
    return replace(_dag(what, words, before=_LIE.format(lie=lie)), layer=layer)


def _code(what: str, code: str, words: str) -> Attack:
    """Makes a file that does something else than to define a DAG."""
    return Attack(what, PARSER, f"import os, sys, time  # airflow dag\n{code}\n", words)


_POD = """
from kubernetes.client import models as k8s
spec = k8s.V1PodSpec(containers=[k8s.V1Container(name="base")], {spec})
config = {{"pod_override": k8s.V1Pod(spec=spec)}}
"""
_READ = """
from airflow.sdk import Variable
raise ValueError("read " + Variable.get("fraud__guard_secret"))
"""
_SECONDLY = "schedule=timedelta(seconds=1), start_date=datetime(2026, 1, 1)"
FILES: dict[str, Attack] = {
    "id.py": _lie("a DAG with another team's prefix", "data['dag']['dag_id'] = 'fraud__attack'", "prefix of team 'fraud'", ADMISSION),
    "no_prefix.py": _lie("a DAG without a prefix, behind Airflow's back", "data['dag']['dag_id'] = 'attack'", "prefix", ADMISSION),
    "path.py": _lie(
        "an id that leads to another team's folder",
        "data['dag']['dag_id'] = 'bench__x/../../fraud'", "has other characters",
    ),
    "pool.py": _dag("a task in another team's pool", "uses the pool 'fraud__default'", task="pool='fraud__default'"),
    "executor.py": _dag("a task on the platform's executor", "names the executor", task="executor='LocalExecutor'"),
    "host_path.py": _dag(
        "a pod with the node's disk", "names the type 'k8s.V1Pod'", task="executor_config=config",
        before=_POD.format(spec="volumes=[k8s.V1Volume(name='x', host_path=k8s.V1HostPathVolumeSource(path='/'))]"),
    ),
    "account.py": _dag(
        "a pod with another service account", "names the type 'k8s.V1Pod'", task="executor_config=config",
        before=_POD.format(spec="service_account_name='kommuna-scheduler'"),
    ),
    "resources.py": _dag(
        "a task with more cores than the quota", "more than the team's quota",
        task="executor_config={'resources': {'cpu': '64', 'memory': '1Gi'}}",
    ),
    "priority.py": _dag("a task of a high priority", "has the priority_weight", task="priority_weight=1000"),
    "weight.py": _dag("a task that adds up priorities", "has the weight_rule", task="weight_rule='upstream'"),
    "slots.py": _dag("a task with all slots and more", "slots of the pool", task="pool_slots=1000"),
    "retries.py": _dag("a task with endless retries", "retries", task="retries=100000"),
    "delay.py": _dag(
        "a delay beyond the calendar", "retry delay", task="retries=1, retry_delay=timedelta(days=900_000_000)"
    ),
    "starts.py": _lie(
        "a task that starts from a trigger of its own",
        "data['dag']['tasks'][0]['__var'].update(start_from_trigger=True, start_trigger_args={'__type': 'START_TRIGGER_ARGS',"
        " 'trigger_cls': 'subprocess.Popen', 'trigger_kwargs': {}, 'next_method': 'x', 'next_kwargs': None, 'timeout': None})",
        "names the type",
    ),
    "secondly.py": _dag("a run each second", "runs every 1 s", dag=_SECONDLY),
    "continuous.py": _dag(
        "runs without a pause", "@continuous",
        dag="schedule='@continuous', max_active_runs=1, start_date=datetime(2026, 1, 1)",
    ),
    "storm.py": _dag("a storm of catch-up runs", "has max_active_runs", dag="schedule=None, max_active_runs=100_000"),
    "huge.py": Attack(
        "a DAG of 2,000 tasks", ADMISSION,
        f"{_HEAD}{_PATCHED}\nwith DAG('bench__attack', schedule=None):\n"
        "    for number in range(2000):\n        EmptyOperator(task_id=f't{number}')\n",
        "has 2000 tasks",
    ),
    "link.py": _lie(
        "a link that runs code in a browser",
        "data['dag']['owner_links'] = {'airflow': 'javascript:alert(1)'}", "links its owner",
    ),
    "rights.py": _dag("rights for a role", "grants rights", dag="schedule=None, access_control={'Public': {'can_edit'}}"),
    "ref.py": _dag(
        "a param whose schema is a file of the control plane", r"uses \$ref",
        dag="schedule=None, params={'x': Param(type='string', **{'$ref': 'file:///etc/passwd'})}",
    ),
    "pattern.py": _dag(
        "a param whose pattern is searched for ever", "uses pattern",
        dag="schedule=None, params={'x': Param(type='string', pattern='^(a+)+$')}",
    ),
    "outlet.py": _dag("another team's asset as an outlet", "belong", task="outlets=[Asset.ref(name='fraud__x')]"),
    "asset.py": _dag("a declared asset of another team", "prefix", task="outlets=[Asset(name='fraud__x', uri='s3://fraud/x')]"),
    "reads.py": _dag("another team's variable, read while parsing", "fraud__guard_secret", before=_READ),
    "class_name.py": _lie(
        "an answer that names a class", "data['dag']['tasks'][0]['__var']['x'] = {'__classname__': 'subprocess.Popen'}",
        "names the class",
    ),
    "type.py": _lie(
        "an answer with a type of its own", "data['dag']['timetable'] = {'__type': 'subprocess.Popen', '__var': {}}",
        "names the type",
    ),
    "callback.py": _lie(
        "a deadline whose callback is anybody's",
        "data['dag']['deadline'] = [{'reference': {}, 'interval': 1, 'callback': {'path': 'subprocess.Popen'}}]",
        "has a deadline",
    ),
    "watcher.py": _lie(
        "an asset whose watcher is anybody's",
        "data['dag']['timetable'] = {'__type': 'airflow.timetables.simple.AssetTriggeredTimetable', '__var': {'asset_condition':"
        " {'__type': 'asset', 'name': 'bench__a', 'uri': 'bench__a', 'group': '', 'extra': {}, 'watchers': [{'name': 'w',"
        " 'trigger': {'classpath': 'subprocess.Popen', 'kwargs': {}}}]}}}",
        "has a watcher",
    ),
    "deep.py": _lie(
        "an answer nested 300 deep",
        "import functools; data['dag']['default_args'] = functools.reduce(lambda deep, _: {'a': deep}, range(300), {})",
        "not usable",
    ),
    "null.py": _lie("a null character", "data['dag']['description'] = 'a\\0b'", "null character"),
    "date.py": _lie("a date that is not a number", "data['dag']['start_date'] = float('nan')", "number that JSON does not allow"),
    "many.py": _dag("101 DAGs of a file", "101 DAGs", before="for number in range(100):\n    globals()[f'dag{number}'] = DAG(f'bench__many{number}', schedule=None)\n"),
    "loop.py": _code(
        "an endless loop without alarms", "import signal\nsignal.signal(signal.SIGALRM, signal.SIG_IGN)\nwhile True: pass",
        "took too long|did not end in time",
    ),
    "slow.py": _code("a slow import", "time.sleep(1000)", "import timeout"),
    "exits.py": _code("sys.exit", "sys.exit(3)", "SystemExit: 3"),
    "leaves.py": _code("os._exit", "os._exit(0)", "before its DAGs were read"),
    "kills.py": _code("a signal to itself", "os.kill(os.getpid(), 9)", "with signal 9"),
    "kills_parent.py": _code("a signal to the parser's fork server", "os.kill(os.getppid(), 9)\ntime.sleep(1)", "kills_parent.py"),
    "eats.py": _code("memory without end", "hoard = []\nwhile True: hoard.append(bytearray(10_000_000))", "MemoryError"),
    "forks.py": _code("forks without end", "while True:\n    try: os.fork()\n    except OSError: pass", "more than 64 processes"),
    "big.py": _code("a file of 2 MB", "# " + "x" * 2_000_000, "is not a regular file"),
}  # fmt: skip

# Files of the bundle that Python or Airflow would run or read by themselves, if they found them.
SHADOWS = {
    "airflow/__init__.py": "raise RuntimeError('the bundle shadows airflow')\n",
    "kommuna/__init__.py": "raise RuntimeError('the bundle shadows kommuna')\n",
    "sitecustomize.py": "import builtins; builtins.ATTACKED = 'sitecustomize'\n",
    "usercustomize.py": "import builtins; builtins.ATTACKED = 'usercustomize'\n",
    "plugins/attack.py": "import builtins; builtins.ATTACKED = 'plugin'\n",
    "airflow.cfg": "[core]\nparallelism = 1\nexecutor = attacks.Executor\n",
    "airflow_local_settings.py": "import builtins; builtins.ATTACKED = 'airflow_local_settings'\n",
    "log_config.py": "import builtins; builtins.ATTACKED = 'log_config'\n",
}

# Links of the bundle that lead out of it.
LINKS = {"link_to_secrets.py": "/proc/self/environ", "link_to_folder": "/etc", "link_above.py": "../fraud/cards.py"}
MARKS = f"""
import builtins, os
import airflow, kommuna
from airflow.sdk import DAG, task

def marks():
    return {{
        "ran": getattr(builtins, "ATTACKED", ""),
        "airflow": "bundles" in airflow.__file__,
        "kommuna": "bundles" in kommuna.__file__,
        "links": [name for name in {list(LINKS)} if os.path.lexists(os.path.join(os.path.dirname(__file__), name))],
    }}

with DAG("bench__marks", schedule=None, description=repr(marks())):
    task(marks)()
"""


def reader(secrets: Sequence[str]) -> str:
    """Returns a DAG file that searches for some texts wherever its process can, and reports how many it found.

    The file names each text in two parts, so that it does not find itself.
    """
    halves = [(text[: len(text) // 2], text[len(text) // 2 :]) for text in secrets]
    pattern = "|".join(f"{re.escape(first)}(?:){re.escape(last)}" for first, last in halves)
    return f"""
import os, re
from airflow.sdk import DAG, task
{SEARCH}
WANTED = re.compile({pattern!r}.encode())

def report():
    return {{
        "environment": len(WANTED.findall(repr(dict(os.environ)).encode())),
        "parents": in_environments(WANTED),
        "memory": in_memory("self", WANTED),
        "files": in_files(WANTED),
        "parent_memory": in_memory(os.getppid(), WANTED),
    }}

with DAG("bench__reads", schedule=None, description=repr(report())):
    task(report)()
"""
