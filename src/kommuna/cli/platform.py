"""`kommuna up`, `down`, `status`, `trigger`, `demo`: the embedded platform and runs on it."""

from __future__ import annotations

import signal
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from kommuna.cli import demo as demo_run
from kommuna.cli.here import console, embedded, message_console
from kommuna.cli.progress import follow
from kommuna.cli.run_arguments import Conf, LogicalDate, Params, given_conf, given_date, given_params, require_declared
from kommuna.cli.tables import AsJson, print_json, print_table, records
from kommuna.clients.airflow import AirflowApi
from kommuna.embedded import Access, Embedded
from kommuna.embedded.settings import airflow_url, logins, mlflow_url, passwords_file
from kommuna.errors import PlatformFault

app = typer.Typer()


@app.command()
def up(as_json: AsJson = False) -> None:
    """Start the embedded platform and leave it running."""
    platform = embedded()
    _sigterm_is_ctrl_c()
    messages = message_console(as_json=as_json)
    access = platform.up(lambda line: messages.print(line))
    if as_json:
        print_json(_access(access))
        return
    console.print("Already running." if access.already_running else "Running.", style="bold green")
    show_access(access)
    for line in platform.installation.platform.reduced_pools():
        console.print(line)
    console.print("Stop it with `make down` (or `kommuna down`).")


@app.command()
def down() -> None:
    """Stop the embedded platform and all of its processes."""
    console.print("Stopped." if embedded().down() else "Not running.")


@app.command()
def status(as_json: AsJson = False) -> None:
    """Show the embedded platform's processes, addresses and logins. Exits with 1 unless everything is healthy."""
    platform = embedded()
    processes, site = platform.status(), platform.installation
    healthy = bool(processes) and all(process.state == "running" and not process.trouble for process in processes)
    if as_json:
        people = [{"login": login, "team": team or None} for login, team in logins(site).items()]
        document = {"running": bool(processes), "busy": platform.is_busy(), "left": platform.orphan_count(),
                    "airflow": airflow_url(site), "mlflow": mlflow_url(site), "logins": people,
                    "passwords": str(passwords_file(site)), "state": str(platform.state),
                    "processes": [asdict(process) for process in processes]}  # fmt: skip
        print_json(document)
        raise typer.Exit(0 if healthy else 1)
    if platform.is_busy():
        console.print("A start or a stop of the platform is in progress.")
    if not processes:
        _print_down(platform)
        raise typer.Exit(1)
    rows = [(p.name, p.state, str(p.pid), f"{p.seconds} s", f"{p.memory >> 20} MiB", p.restarts, p.trouble or "none")
            for p in processes]  # fmt: skip
    print_table(console, ("process", "state", "pid", "up for", "memory", "restarts", "trouble"), rows)
    console.print(f"Airflow {airflow_url(site)}   MLflow {mlflow_url(site)}")
    names = ", ".join(f"{login} ({team or 'all teams'})" for login, team in logins(site).items())
    console.print(f"Logins: {names}; passwords are in {passwords_file(site)}")
    if not healthy:
        raise typer.Exit(1)


def _print_down(platform: Embedded) -> None:
    """Prints that the platform is down, and which of its processes still run."""
    if left := platform.orphan_count():
        console.print(
            f"The platform's supervisor is gone, but {left} of its processes still run. `kommuna up` ends them and "
            "starts the platform; `kommuna down` only ends them.",
        )
    elif not platform.is_busy():
        console.print("The platform is down. Start it with `make up` (or `kommuna up`).")


@app.command()
def trigger(
    dag_id: Annotated[str, typer.Argument(help="TEAM__DAG")],
    param: Params = None,
    conf: Conf = "",
    date: LogicalDate = "now",
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the run ends; exit with 1 if it fails.")] = False,
) -> None:
    """Start a run of a DAG. As in Airflow's form, its logical date is now unless `--date` is given."""
    parameters = given_params(param)
    whole = given_conf(conf) | parameters
    logical_date = given_date(date)
    platform = embedded()
    if not platform.running():
        raise PlatformFault("the platform is down", fix="start it with `kommuna up`")
    api = AirflowApi(platform.access.airflow, platform.token())
    if parameters:  # Airflow accepts any name, so a misspelt one would have no effect
        require_declared(dag_id, parameters, api.params(dag_id))
    run = api.trigger(dag_id, whole, date=logical_date)
    console.print(f"{run.dag_id} {run.run_id}: {run_url(platform, run.dag_id, run.run_id)}")
    if wait:
        follow(api, [run], console)
        if not demo_run.report_failures(api, [run], console):
            raise typer.Exit(1)
        console.print(f"{run.dag_id}: success in {run.seconds:.0f} s", style="green")


@app.command()
def demo(
    data: Annotated[
        Path | None, typer.Option(help="A folder with train.csv and test.csv (text, category) and rules.")
    ] = None,
    messages: Annotated[int, typer.Option(help="Number of messages, and of card transactions.")] = 50_000,
    output: Annotated[Path, typer.Option(help="Where to write the table as JSON.")] = Path("build/demo.json"),
    as_json: AsJson = False,
) -> None:
    """Run the demo: both example teams' DAGs, from raw data to registered models and tagged messages."""
    platform = embedded()
    _sigterm_is_ctrl_c()
    succeeded = demo_run.run(platform, message_console(as_json=as_json), data=data, messages=messages, output=output)
    if as_json:
        typer.echo(output.read_text(encoding="utf-8"))
    if not succeeded:
        raise typer.Exit(1)


def show_access(access: Access) -> None:
    """Prints the addresses, and the logins with their teams and passwords."""
    console.print(f"Airflow {access.airflow}   MLflow {access.mlflow}")
    people = [(team or "(all)", login, access.passwords[login]) for login, team in access.logins.items()]
    print_table(console, ("team", "login", "password"), people)


def _access(access: Access) -> dict[str, object]:
    people = [(team or None, login, access.passwords[login]) for login, team in access.logins.items()]
    columns = ("team", "login", "password")
    return {"airflow": access.airflow, "mlflow": access.mlflow, "logins": records(columns, people)}


def run_url(platform: Embedded, dag_id: str, run_id: str) -> str:
    """Returns the address of a run in Airflow's UI.

    Args:
        platform: the running platform.
        dag_id: the DAG's id, with the team's prefix.
        run_id: the run's id.
    """
    return f"{platform.access.airflow}/dags/{dag_id}/runs/{run_id}"


def _sigterm_is_ctrl_c() -> None:
    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
