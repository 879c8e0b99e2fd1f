"""The rendered objects of the chart: what each team gets, and what no team gets."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.chart.conftest import CHART, KEYCLOAK, NETWORK, ROOT, one, pods, program, values

Render = Callable[..., list[dict[str, Any]]]
COUNTS = [0, 1, 2, 20]


def environment(container: dict[str, Any]) -> dict[str, Any]:
    return {item["name"]: item.get("value", item.get("valueFrom")) for item in container.get("env", [])}


def worker(objects: list[dict[str, Any]], team: str) -> dict[str, Any]:
    return yaml.safe_load(one(objects, "ConfigMap", "kommuna-pods")["data"][f"{team}.yaml"])


@pytest.mark.parametrize("teams", COUNTS)
def test_helm_lint_finds_nothing(helm: str, teams: int, tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(values(teams)))
    done = subprocess.run([helm, "lint", "--strict", CHART, "--values", file], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("auth", [{}, KEYCLOAK], ids=["simple", "keycloak"])
@pytest.mark.parametrize("teams", COUNTS)
def test_every_object_matches_the_api_servers_schema(
    render: Render, teams: int, auth: dict[str, str], tmp_path: Path
) -> None:
    objects = render(values(teams, auth=auth, ingress={"enabled": True, "host": "airflow.example"}))
    objects += (
        [yaml.safe_load(t) for o in objects if o["metadata"]["name"] == "kommuna-pods" for t in o["data"].values()]
        if teams
        else []
    )
    file = tmp_path / "rendered.yaml"
    file.write_text(yaml.safe_dump_all(objects))
    schemas = program("schemas") + "/{{.ResourceKind}}{{.KindSuffix}}.json"
    done = subprocess.run(
        [program("kubeconform"), "-strict", "-summary", "-output", "json", "-schema-location", schemas, file],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout)["summary"]["valid"] == len(objects)


@pytest.mark.parametrize("auth", [{}, KEYCLOAK], ids=["simple", "keycloak"])
def test_the_api_server_believes_named_proxies_only(render: Render, auth: dict[str, Any]) -> None:
    ingress = {"enabled": True, "host": "airflow.example", "proxies": ["10.1.0.0/16", "10.2.0.7"]}
    for extra, expected in ((ingress, "10.1.0.0/16,10.2.0.7"), (ingress | {"proxies": []}, None)):
        deployment = one(render(values(1, auth=auth, ingress=extra)), "Deployment", "kommuna-api-server")
        (server,) = deployment["spec"]["template"]["spec"]["containers"]
        assert ("--proxy-headers" in " ".join(server["command"])) is bool(expected)
        assert environment(server).get("FORWARDED_ALLOW_IPS") == expected


def test_mlflow_has_an_ingress_if_it_has_a_host_and_links_point_there(render: Render) -> None:
    ingress = {"enabled": True, "host": "airflow.example", "mlflow_host": "mlflow.example", "tls_secret": "tls"}
    objects = render(values(1, ingress=ingress))
    spec = one(objects, "Ingress", "kommuna")["spec"]
    backends = {rule["host"]: rule["http"]["paths"][0]["backend"]["service"]["name"] for rule in spec["rules"]}
    assert backends == {"airflow.example": "kommuna-api-server", "mlflow.example": "kommuna-mlflow"}
    assert spec["tls"] == [{"hosts": ["airflow.example", "mlflow.example"], "secretName": "tls"}]
    platform = one(objects, "ConfigMap", "platform", "kommuna-team00")["data"]["kommuna.yaml"]
    assert yaml.safe_load(platform)["mlflow_pages"] == "https://mlflow.example"
    doors = one(objects, "NetworkPolicy", "kommuna-mlflow")["spec"]["ingress"]
    assert {"ports": [{"protocol": "TCP", "port": 5000}]} in doors
    closed = render(values(1, ingress=ingress | {"mlflow_host": ""}))
    assert len(one(closed, "Ingress", "kommuna")["spec"]["rules"]) == 1
    assert all("from" in door for door in one(closed, "NetworkPolicy", "kommuna-mlflow")["spec"]["ingress"])


@pytest.mark.parametrize("teams", COUNTS)
def test_each_team_has_all_of_its_objects(render: Render, teams: int) -> None:
    objects = render(values(teams))
    for number in range(teams):
        team, namespace = f"team{number:02}", f"kommuna-team{number:02}"
        labels = one(objects, "Namespace", namespace)["metadata"]["labels"]
        assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
        assert one(objects, "ServiceAccount", "worker", namespace)["automountServiceAccountToken"] is False
        for kind, name in (
            ("ResourceQuota", "tasks"), ("ResourceQuota", "parser"), ("LimitRange", "team"),
            ("NetworkPolicy", "default-deny"), ("NetworkPolicy", "worker"), ("NetworkPolicy", "parser"),
            ("Deployment", "parser"), ("Service", "parser"), ("ConfigMap", "platform"),
        ):  # fmt: skip
            one(objects, kind, name, namespace)
        one(objects, "Deployment", f"kommuna-dag-processor-{team}")
    assert sum(o["kind"] == "Namespace" for o in objects) == teams


def test_the_scheduler_may_only_launch_pods_in_the_teams_namespaces(render: Render) -> None:
    objects = render(values(2))
    assert not [o for o in objects if o["kind"].startswith("Cluster")]
    bindings = [o for o in objects if o["kind"] == "RoleBinding" and o["subjects"][0]["name"] == "kommuna-scheduler"]
    assert sorted(o["metadata"]["namespace"] for o in bindings) == ["kommuna-team00", "kommuna-team01"]
    for binding in bindings:
        role = one(objects, "Role", binding["roleRef"]["name"], binding["metadata"]["namespace"])
        assert {resource for rule in role["rules"] for resource in rule["resources"]} == {"pods", "pods/log"}


@pytest.mark.parametrize("teams", COUNTS)
def test_every_pod_is_restricted_and_has_resources(render: Render, teams: int) -> None:
    for owner, spec in pods(render(values(teams))):
        about = f"{owner['kind']} {owner['metadata']['name']}"
        assert spec["securityContext"]["runAsNonRoot"] is True, about
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, about
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False, about
            assert security["readOnlyRootFilesystem"] is True, about
            assert security["capabilities"] == {"drop": ["ALL"]}, about
            assert set(container["resources"]["requests"]) >= {"cpu", "memory"}, about


def test_only_clients_of_the_kubernetes_api_have_a_service_account_token(render: Render) -> None:
    having = {
        owner["metadata"]["name"]
        for owner, spec in pods(render(values(2)))
        if spec.get("automountServiceAccountToken") is not False
    }
    servers, jobs = {"kommuna-scheduler", "kommuna-api-server"}, {n for n in having if "-credentials" in n}
    assert having == servers | jobs
    assert len(jobs) == 2


def test_no_pod_of_a_team_names_a_secret_of_the_control_plane(render: Render) -> None:
    objects = render(values(2))
    mine = [spec for owner, spec in pods(objects) if owner["metadata"].get("namespace", "").startswith("kommuna-team")]
    mine += [worker(objects, team)["spec"] for team in ("team00", "team01")]
    assert len(mine) == 4
    for spec in mine:
        text = json.dumps(spec)
        for word in ("SQL_ALCHEMY", "FERNET", "JWT", "kommuna-keys", "kommuna-database", "kommuna-passwords"):
            assert word not in text
    parser = one(objects, "Deployment", "parser", "kommuna-team00")["spec"]["template"]["spec"]
    assert "AWS" not in json.dumps(parser)
    assert "MLFLOW" not in json.dumps(parser)


def test_a_teams_executor_inherits_nothing_and_waits_for_its_quota(render: Render) -> None:
    settings = one(render(values(2)), "ConfigMap", "kommuna-airflow")["data"]
    assert settings["AIRFLOW__CORE__EXECUTOR"] == (
        "LocalExecutor;team00=kommuna.airflow.executor.TeamExecutor;team01=kommuna.airflow.executor.TeamExecutor"
    )
    prefix = "AIRFLOW__TEAM01___KUBERNETES_EXECUTOR__"
    assert settings[prefix + "NAMESPACE"] == "kommuna-team01"
    assert settings[prefix + "POD_TEMPLATE_FILE"] == "/etc/kommuna/pods/team01.yaml"
    assert settings[prefix + "TASK_PUBLISH_MAX_RETRIES"] == "-1"
    bundles = json.loads(settings["AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"])
    assert [(b["name"], b["team_name"]) for b in bundles] == [
        ("team00", "team00"), ("team00-check", "team00"), ("team01", "team01"), ("team01-check", "team01"),
    ]  # fmt: skip


def test_a_team_only_sees_its_own_description(render: Render) -> None:
    objects = render(values(2))
    mine = yaml.safe_load(one(objects, "ConfigMap", "platform", "kommuna-team00")["data"]["kommuna.yaml"])
    everything = yaml.safe_load(one(objects, "ConfigMap", "kommuna-platform")["data"]["kommuna.yaml"])
    assert list(mine["teams"]) == ["team00"]
    assert list(everything["teams"]) == ["team00", "team01"]


def test_the_rendered_kommuna_yaml_matches_the_model_of_the_embedded_platform(render: Render) -> None:
    from kommuna.spec.team import Platform

    teams = {
        "support": {
            "bundle": "dags/support", "people": {"ann": "op"}, "pools": {"default": 2, "heavy": 1},
            "quota": {"cpu": "4", "memory": "8Gi", "pods": 5}, "namespace": "ml-support", "retries": 2, "parallelism": 3,
            "repository": {"url": "https://git.example/support.git", "ref": "prod", "secret": "support-git"},
        }
    }  # fmt: skip
    objects = render({"teams": teams, "network": NETWORK, "store_options": {"endpoint_url": "http://s3.example"}})
    platform = Platform.read(
        yaml.safe_load(one(objects, "ConfigMap", "kommuna-platform")["data"]["kommuna.yaml"]), where="chart"
    )
    assert platform.teams["support"].pools == {"default": 2, "heavy": 1}
    assert platform.teams["support"].people == {"ann": "op"}
    quota = one(objects, "ResourceQuota", "tasks", "ml-support")["spec"]["hard"]
    assert (quota["limits.cpu"], quota["limits.memory"], quota["pods"]) == ("4", "8Gi", "5")


def test_a_private_repositorys_secret_is_only_in_its_teams_processor(render: Render) -> None:
    given = values(2)
    given["teams"]["team01"]["repository"] = {"url": "https://git.example/own.git", "secret": "own-git"}
    holders = {
        found["metadata"]["name"]
        for found in render(given)
        if found["kind"] in ("Deployment", "Job", "StatefulSet") and "'name': 'own-git'" in str(found)
    }
    assert holders == {"kommuna-dag-processor-team01"}


def test_workers_get_their_code_from_the_store_and_know_no_repository(render: Render) -> None:
    given = values(1, repository={"url": "https://git.example/platform.git", "secret": "git"})
    for owner, spec in pods(render(given)):
        if owner["kind"] == "ConfigMap":
            bundles = json.loads(environment(spec["containers"][0])["AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"])
            assert (bundles[0]["classpath"], bundles[0]["kwargs"]) == (
                "kommuna.airflow.bundles.PublishedBundle", {"subdir": "dags/team00"},
            )  # fmt: skip
            assert "git.example" not in str(spec)
    (processor,) = one(render(given), "Deployment", "kommuna-dag-processor-team00")["spec"]["template"]["spec"][
        "containers"
    ]
    assert environment(processor)["AWS_ACCESS_KEY_ID"]["secretKeyRef"]["name"] == "store-0"


def test_workers_know_the_address_of_airflows_pages(render: Render) -> None:
    made = pods(render(values(1, url="https://airflow.example")))
    workers = [spec["containers"][0] for owner, spec in made if owner["kind"] == "ConfigMap"]
    assert [environment(worker)["AIRFLOW__API__BASE_URL"] for worker in workers] == ["https://airflow.example"]


def test_the_teams_people_are_airflow_users_with_their_teams(render: Render) -> None:
    given = values(2)
    given["teams"]["team00"]["people"] = {"ann": "op", "bob": "viewer"}
    given["teams"]["team01"]["people"] = {"ann": "op"}
    users = one(render(given), "ConfigMap", "kommuna-airflow")["data"]["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"]
    assert users.split(",") == [
        "admin:admin", "ann:op:team00|team01", "bob:viewer:team00", "team00:op:team00", "team01:op:team01",
    ]  # fmt: skip


def test_with_keycloak_there_are_no_passwords_and_only_its_job_mounts_the_administrators_secret(
    render: Render,
) -> None:
    objects = render(values(2, auth=KEYCLOAK))
    settings = one(objects, "ConfigMap", "kommuna-airflow")["data"]
    assert settings["AIRFLOW__CORE__AUTH_MANAGER"] == "kommuna.airflow.server.keycloak.TeamKeycloakAuthManager"
    assert "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS" not in settings
    texts = {owner["metadata"]["name"]: json.dumps(pod) for owner, pod in pods(objects)}
    assert {name for name, text in texts.items() if '"realm-admin"' in text} == {"kommuna-keycloak"}
    assert {name for name, text in texts.items() if '"sign-in"' in text} == {"kommuna-keycloak", "kommuna-api-server"}
    assert not {name for name, text in texts.items() if "kommuna-passwords" in text}


def test_a_worker_may_only_reach_dns_api_mlflow_and_store(render: Render) -> None:
    policy = one(render(values(1)), "NetworkPolicy", "worker", "kommuna-team00")["spec"]
    ports = [sorted(port["port"] for port in rule["ports"]) for rule in policy["egress"]]
    assert ports == [[53, 53], [443], [8080], [5000]]
    assert all(rule.get("to") for rule in policy["egress"])
    assert one(render(values(1)), "NetworkPolicy", "default-deny", "kommuna-team00")["spec"]["podSelector"] == {}


def test_the_api_server_and_mlflow_connect_only_to_their_services(render: Render) -> None:
    def doors(name: str, **options: Any) -> list[list[int]]:
        policy = one(render(values(1, **options)), "NetworkPolicy", f"kommuna-{name}")["spec"]
        assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
        assert all(rule["to"] and all(rule["to"]) for rule in policy["egress"])
        return [sorted(port["port"] for port in rule["ports"]) for rule in policy["egress"]]

    assert doors("mlflow") == [[53, 53], [443], [5432]]
    assert doors("api-server") == [[53, 53], [443], [5432], [443], [443], [8794]]
    external = {"database_secret": "bank", "postgresql": {"enabled": False}}
    assert doors("mlflow", **external) == [[53, 53], [443], [443]]


def test_a_teams_own_doors_are_its_own(render: Render) -> None:
    door = {"to": [{"ipBlock": {"cidr": "192.0.2.7/32"}}], "ports": [{"protocol": "TCP", "port": 443}]}
    given = values(2)
    given["teams"]["team00"]["egress"] = [door]
    objects = render(given)
    for team, has in (("team00", True), ("team01", False)):
        policy = one(objects, "NetworkPolicy", "worker", f"kommuna-{team}")["spec"]
        assert (door in policy["egress"]) is has


def test_each_team_has_a_triggerer_that_runs_only_allowed_classes(render: Render) -> None:
    objects = render(values(2))
    for number in range(2):
        team = f"team{number:02}"
        spec = one(objects, "Deployment", f"kommuna-triggerer-{team}")["spec"]
        assert spec["replicas"] == 1
        (container,) = spec["template"]["spec"]["containers"]
        assert container["command"] == ["python", "-m", "kommuna.airflow.triggers.process", team]
        # Its logs go below the team's prefix: by the team's own credentials, since the platform's only read.
        store = environment(container)["AWS_ACCESS_KEY_ID"]["secretKeyRef"]["name"]
        assert store == f"store-{number}"
        assert {"startupProbe", "livenessProbe"} <= container.keys()
    (rule,) = one(objects, "NetworkPolicy", "kommuna-triggerer")["spec"]["ingress"]
    assert [port["port"] for port in rule["ports"]] == [8794]
    assert rule["from"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "api-server"


def test_without_triggerers_none_of_their_objects_are_rendered(render: Render) -> None:
    assert not [o for o in render(values(2, triggerer={"replicas": 0})) if "triggerer" in o["metadata"]["name"]]


def test_two_replicas_get_a_disruption_budget_and_one_gets_none(render: Render) -> None:
    names = lambda objects: {o["metadata"]["name"] for o in objects if o["kind"] == "PodDisruptionBudget"}  # noqa: E731
    assert names(render(values(1))) == set()
    two = values(1, api_server={"replicas": 2}, scheduler={"replicas": 2}, mlflow={"replicas": 2})
    assert names(render(two)) == {"kommuna-api-server", "kommuna-scheduler", "kommuna-mlflow"}


def test_an_external_database_replaces_the_bundled_one(render: Render) -> None:
    objects = render(values(1, database_secret="bank-postgres", postgresql={"enabled": False}))
    assert not [o for o in objects if "postgresql" in o["metadata"]["name"]]
    scheduler = one(objects, "Deployment", "kommuna-scheduler")["spec"]["template"]["spec"]["containers"][0]
    reference = environment(scheduler)["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]["secretKeyRef"]
    assert reference == {"name": "bank-postgres", "key": "airflow"}


def test_an_upgrade_prepares_the_databases_before_any_other_change(render: Render) -> None:
    (install,) = [o for o in render(values(1)) if o["metadata"]["name"].startswith("kommuna-prepare-install-")]
    assert "annotations" not in install["metadata"]
    upgrade = one(render(values(1), "--is-upgrade"), "Job", "kommuna-prepare")
    assert upgrade["metadata"]["annotations"]["helm.sh/hook"] == "pre-upgrade,pre-rollback"


def test_the_committed_schema_matches_the_models() -> None:
    done = subprocess.run(
        [ROOT / ".venv" / "bin" / "kommuna", "schema", "chart"], capture_output=True, text=True, check=True
    )
    assert json.loads((CHART / "values.schema.json").read_text()) == json.loads(done.stdout), "make it anew: make chart"


def test_the_values_are_the_models_defaults_with_their_descriptions() -> None:
    from kommuna.cluster.chart import values

    written = (CHART / "values.yaml").read_text(encoding="utf-8")
    assert written == values(), "make it anew: make chart"
    lines = written.splitlines()
    named = [place for place, line in enumerate(lines) if re.match(r" *\w+: ", line)]
    undescribed = [
        lines[place] for place in named if not lines[place - 1].strip().startswith("#")
        and not re.match(r" *(to|ports): ", lines[place])
    ]  # fmt: skip
    assert not undescribed


def test_the_default_values_match_the_model() -> None:
    from kommuna.spec.chart import ChartValues

    ChartValues.from_yaml(CHART / "values.yaml")
