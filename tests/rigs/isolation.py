"""Both halves of the split DAG processor on loopback: a real parser, a real processor, a real database, real TLS."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kommuna.waiting import wait_until

TOKEN = "t0ken-of-the-parser"
SECRET = "s3cr3t" + "DB"  # stands in the database's address, as a password does
PLATFORM = """
teams:
  support: {bundle: dags/support, pools: {default: 4, gpu: 1}}
  fraud: {bundle: dags/fraud}
"""
GOOD = """
from airflow.sdk import DAG
from airflow.providers.standard.operators.empty import EmptyOperator
with DAG("{team}__{name}", schedule=None, default_args={{"pool": "{team}__default"}}):
    EmptyOperator(task_id="one") >> EmptyOperator(task_id="two")
"""


def free_port() -> int:
    """Returns a free port on loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def certify(folder: Path, *, host: str = "localhost") -> None:
    """Writes `ca.crt`, `tls.crt` and `tls.key`: a certificate authority, and a parser's certificate issued by it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    folder.mkdir(parents=True, exist_ok=True)
    now = datetime.datetime.now(datetime.UTC)

    def signed(name: str, issuer: str, key: ec.EllipticCurvePrivateKey, by: ec.EllipticCurvePrivateKey) -> bytes:
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=name == issuer, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        )
        return builder.sign(by, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    authority, own = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    (folder / "ca.crt").write_bytes(signed("kommuna-ca", "kommuna-ca", authority, authority))
    (folder / "tls.crt").write_bytes(signed(host, "kommuna-ca", own, authority))
    (folder / "tls.key").write_bytes(
        own.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def migrated_database(path: Path) -> None:
    """Returns an Airflow database with both teams, created once and copied by every rig."""
    path.parent.mkdir(parents=True, exist_ok=True)
    script = (
        "from airflow.cli.cli_parser import get_parser\n"
        "a = get_parser().parse_args(['db', 'migrate']); a.func(a)\n"
        "from airflow.models.team import Team\nfrom airflow.utils.session import create_session\n"
        "with create_session() as s: s.add_all([Team(name='support'), Team(name='fraud')])\n"
    )
    environment = {**_clean(), "AIRFLOW_HOME": str(path.parent / "migration")}
    environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = f"sqlite:///{path}"
    subprocess.run([sys.executable, "-c", script], env=environment, check=True, capture_output=True)


@dataclass
class Rig:
    """A platform of two teams in a folder; parsers and processors are started when needed.

    Args:
        folder: of all its state.
        database: a migrated one, to be copied.
        patience: seconds that a processor may take for all files.
    """

    folder: Path
    database: Path
    parsers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    bundles: dict[str, dict[str, object]] = field(default_factory=dict)
    patience: float = 280

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for team in ("support", "fraud"):
            (self.folder / "dags" / team).mkdir(parents=True)
            self.bundles[team] = {
                "name": team,
                "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
                "kwargs": {"path": str(self.folder / "dags" / team)},
                "team_name": team,
            }
        (self.folder / "kommuna.yaml").write_text(PLATFORM)
        self.db = self.folder / "control" / SECRET / "airflow.db"
        self.db.parent.mkdir(parents=True)
        shutil.copy(self.database, self.db)
        certify(self.folder / "tls")
        (self.folder / "token").write_text(TOKEN)
        self.port = {"support": free_port(), "fraud": free_port()}

    def write(self, name: str, source: str, *, team: str = "support") -> Path:
        """Writes a file of a team's bundle."""
        path = self.folder / "dags" / team / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
        return path

    def good(self, name: str, *, team: str = "support") -> Path:
        """Writes a file that defines the DAG `TEAM__NAME`."""
        return self.write(f"{name}.py", GOOD.format(team=team, name=name), team=team)

    def start_parser(self, team: str = "support", **settings: str) -> subprocess.Popen[bytes]:
        """Starts a parser as in its pod, with only its own settings in the environment."""
        environment = {
            **{name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ},
            "HOME": str(self.folder),
            "AIRFLOW_HOME": str(self.folder / f"parser-{team}" / "airflow"),
            "KOMMUNA_TEAM": team,
            "KOMMUNA_PLATFORM": str(self.folder / "kommuna.yaml"),
            "KOMMUNA_PARSER_LISTEN": f"127.0.0.1:{self.port[team]}",
            "KOMMUNA_PARSER_CERTIFICATE": str(self.folder / "tls/tls.crt"),
            "KOMMUNA_PARSER_KEY": str(self.folder / "tls/tls.key"),
            "KOMMUNA_PARSER_TOKEN_SHA256": hashlib.sha256(TOKEN.encode()).hexdigest(),
            "KOMMUNA_PARSER_FOLDER": str(self.folder / f"parser-{team}"),
            **settings,
        }
        log = (self.folder / f"parser-{team}.log").open("ab")
        process = subprocess.Popen(
            [sys.executable, "-m", "kommuna.airflow.isolation.parser"],
            env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, start_new_session=True,
        )  # fmt: skip
        self.parsers.append(process)

        def is_up() -> bool:
            assert process.poll() is None, (self.folder / f"parser-{team}.log").read_text()
            return self.listens(team)

        wait_until("the parser listens", is_up, every=0.05)
        return process

    def listens(self, team: str = "support") -> bool:
        """Whether a team's parser can be connected to."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port[team])) == 0

    def environment(self, team: str = "support", **settings: str) -> dict[str, str]:
        """Returns the processor's environment: that of the control plane, including secrets."""
        return {
            **_clean(),
            "AIRFLOW_HOME": str(self.folder / "airflow"),
            "AIRFLOW__CORE__MULTI_TEAM": "True",
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor;support=LocalExecutor;fraud=LocalExecutor",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.db}?timeout=60",
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(list(self.bundles.values())),
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(self.folder / "bundles"),
            "AIRFLOW__DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT": "50",
            "AIRFLOW__LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY": str(self.folder / "logs"),
            "KOMMUNA_PLATFORM": str(self.folder / "kommuna.yaml"),
            "KOMMUNA_PARSER_ADDRESS": f"localhost:{self.port[team]}",
            "KOMMUNA_PARSER_CA": str(self.folder / "tls/ca.crt"),
            "KOMMUNA_PARSER_TOKEN_FILE": str(self.folder / "token"),
            **settings,
        }

    def process(self, team: str = "support", *, runs: int = 1, **settings: str) -> str:
        """Parses every file of a team with its parser; returns the processor's output."""
        script = (
            f"import sys; from kommuna.airflow.isolation import processor; processor.run({team!r}, max_runs={runs})"
        )
        return self._run([sys.executable, "-c", script], team, settings)

    def process_by_stock(self, team: str = "support", **settings: str) -> str:
        """Parses every file of a team with Airflow's processor."""
        command = [str(Path(sys.executable).with_name("airflow")), "dag-processor", "-B", team, "-n", "1"]
        return self._run(command, team, settings)

    def dags(self) -> dict[str, dict[str, object]]:
        """Returns the database's record of each DAG."""
        rows = self._rows("select dag_id, description, fileloc, relative_fileloc, is_stale, bundle_name from dag")
        names = ("description", "fileloc", "relative_fileloc", "is_stale", "bundle_name")
        return {row[0]: dict(zip(names, row[1:], strict=True)) for row in rows}

    def errors(self) -> dict[str, str]:
        """Returns the import errors by file."""
        return {str(name): str(text) for name, text in self._rows("select filename, stacktrace from import_error")}

    def serialized(self) -> dict[str, dict[str, object]]:
        """Returns the newest serialised form of each DAG."""
        rows = self._rows("select dag_id, data from serialized_dag order by last_updated")
        return {str(dag_id): json.loads(str(data)) for dag_id, data in rows}

    def stop(self) -> None:
        """Stops every started parser."""
        import psutil

        for process in self.parsers:
            if process.poll() is None:
                family = psutil.Process(process.pid).children(recursive=True)
                for one in (psutil.Process(process.pid), *family):
                    if one.is_running():
                        one.kill()
            process.wait(timeout=20)

    def _rows(self, query: str) -> list[Sequence[object]]:
        with sqlite3.connect(self.db) as connection:
            return list(connection.execute(query))

    def _run(self, command: list[str], team: str, settings: dict[str, str]) -> str:
        done = subprocess.run(
            command, env=self.environment(team, **settings), cwd=self.folder,
            capture_output=True, text=True, timeout=self.patience, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout + done.stderr


def _clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "KOMMUNA"))}
