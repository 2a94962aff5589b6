"""The Helm chart in examples/helm/: renders each value set of its ci/ with Helm's own engine, validates what comes out against
the API schemas and checks what it means. No cluster is used: whether a pod starts is not seen here."""

import json
import re
import tempfile

from objects import check_configuration, check_schemas, check_workload, documents, named, one, yaml
from tools import EXAMPLES, ROOT, Faults, module, variable

helm = module("helm_python", "helm-python-sdk")

CHART = EXAMPLES / "helm/sql-exporter"
faults = Faults()
exporter = variable("TEST_EXPORTER_BINARY")


def value_sets():
    return {path.name.removesuffix("-values.yaml"): yaml.safe_load(path.read_text()) for path in sorted((CHART / "ci").iterdir())}


def documented():
    """The value sets that the manual shows."""
    blocks = re.findall(r"```yaml\n# values.yaml\n(.*?)```", (ROOT / "docs/installing.md").read_text(), re.S)
    return {f"installing.md {number}": yaml.safe_load(block) for number, block in enumerate(blocks, 1)}


def rendered(chart, values):
    """The objects, and the notes."""
    parts = chart.render(values, name="demo", namespace="prod")
    objects = [d for name, text in parts.items() if name.endswith(".yaml") for d in documents(text)]
    return objects, next(text for name, text in parts.items() if name.endswith("NOTES.txt"))


def get(values, *path):
    for key in path:
        values = values.get(key) if isinstance(values, dict) else None
    return values


def check_kinds(name, values, objects):
    """What is there is what was asked for."""
    expected = {
        "Deployment": True,
        "Service": True,
        "ConfigMap": bool(get(values, "config")),
        "ServiceAccount": get(values, "serviceAccount", "create") is not False,
        "NetworkPolicy": get(values, "networkPolicy", "enabled"),
        "PodDisruptionBudget": get(values, "podDisruptionBudget", "enabled"),
        "HorizontalPodAutoscaler": get(values, "autoscaling", "enabled"),
        "ServiceMonitor": get(values, "serviceMonitor", "enabled"),
        "ScrapeConfig": get(values, "scrapeConfig", "enabled"),
        "PrometheusRule": get(values, "prometheusRule", "enabled"),
    }
    own = [o for o in objects if not o["metadata"]["name"].endswith(("-more", "-text"))]
    faults.equal(sorted(o["kind"] for o in own), sorted(kind for kind, there in expected.items() if there), name, "what it renders")
    unique = {(o["kind"], o["metadata"]["name"], o["metadata"].get("namespace")) for o in objects}
    faults.equal(len(unique), len(objects), name, "the number of different names")
    for resource in own:
        faults.expect(resource["metadata"].get("namespace"), name, f"{named(resource)} has no namespace")
        labels = resource["metadata"]["labels"]
        faults.equal(labels.get("app.kubernetes.io/instance"), "demo", name, f"the instance of {named(resource)}")


def check_monitoring(name, values, objects):
    service = one(objects, "Service")
    host = f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc:{service['spec']['ports'][0]['port']}"
    scrape, monitor = one(objects, "ScrapeConfig"), one(objects, "ServiceMonitor")
    prefix = get(values, "config", "exporter", "route_prefix") or ""
    if scrape:
        discovery = scrape["spec"]["httpSDConfigs"][0]
        scheme = "https" if scrape["spec"].get("scheme") == "HTTPS" else "http"
        faults.equal(discovery["url"], f"{scheme}://{host}{prefix}/sd", name, "the URL of the ScrapeConfig")
        wanted = get(values, "scrapeConfig", "jobName") or "sql"
        faults.equal(scrape["spec"]["jobName"], wanted, name, "the job of the ScrapeConfig")
    if monitor:
        endpoint = monitor["spec"]["endpoints"][0]
        # Otherwise every target would be scraped twice.
        path = f"{prefix}/-/metrics" if scrape else f"{prefix}/metrics"
        faults.equal(endpoint["path"], path, name, "the path of the ServiceMonitor")
        job = [r["replacement"] for r in endpoint["relabelings"] if r["targetLabel"] == "job"]
        wanted = get(values, "serviceMonitor", "jobName") or ("sql-exporter" if scrape else "sql")
        faults.equal(job, [wanted], name, "the job of the ServiceMonitor")
        faults.expect(
            monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items(),
            name,
            "the ServiceMonitor does not select the Service",
        )
        faults.equal(
            monitor["spec"]["namespaceSelector"]["matchNames"], [service["metadata"]["namespace"]], name, "its namespaces"
        )
    if rule := one(objects, "PrometheusRule"):
        check_rules(name, values["prometheusRule"], rule)


def check_rules(name, wanted, rule):
    groups = {group["name"]: group["rules"] for group in rule["spec"]["groups"]}
    faults.equal(len(groups), len(rule["spec"]["groups"]), name, "the number of different groups")
    files = [f"alerts-{file}.yml" for file in wanted["alerts"]] + (["recording.yml"] if wanted.get("recording") else [])
    expected = {}
    for file in files:
        for group in yaml.safe_load((EXAMPLES / "prometheus" / file).read_text())["groups"]:
            expected[group["name"]] = group["rules"]
    if wanted.get("rules"):
        expected["demo-sql-exporter"] = wanted["rules"]
    faults.equal(groups, expected, name, "the groups of rules")


def check_others(name, values, objects, deployment):
    selected = deployment["spec"]["selector"]["matchLabels"]
    if policy := one(objects, "NetworkPolicy"):
        wanted = values.get("networkPolicy", {})
        faults.equal(policy["spec"]["podSelector"]["matchLabels"], selected, name, "the pods of the NetworkPolicy")
        faults.equal(policy["spec"]["policyTypes"], ["Ingress"] + ["Egress"] * bool(wanted.get("egress")), name, "policyTypes")
        faults.equal(policy["spec"]["ingress"][0]["ports"], [{"port": "http", "protocol": "TCP"}], name, "open ports")
        faults.equal(policy["spec"]["ingress"][0].get("from"), wanted.get("from"), name, "who may connect")
        faults.equal(policy["spec"].get("egress"), wanted.get("egress"), name, "where the exporter may connect to")
    if budget := one(objects, "PodDisruptionBudget"):
        faults.equal(budget["spec"]["selector"]["matchLabels"], selected, name, "the pods of the PodDisruptionBudget")
        faults.expect(("minAvailable" in budget["spec"]) != ("maxUnavailable" in budget["spec"]), name, "one bound of the budget")
    scaler = one(objects, "HorizontalPodAutoscaler")
    faults.equal("replicas" in deployment["spec"], scaler is None, name, "`replicas` is there without an autoscaler:")
    if scaler:
        faults.equal(scaler["spec"]["scaleTargetRef"]["name"], deployment["metadata"]["name"], name, "what is scaled")


def configuration(objects, deployment):
    """The files of the ConfigMap that the chart makes, if it makes one."""
    own = [o for o in objects if o["kind"] == "ConfigMap" and o["metadata"]["name"] == deployment["metadata"]["name"]]
    return own[0]["data"] if own else None


def check_set(chart, name, values):
    try:
        objects, notes = rendered(chart, values)
    except helm.HelmError as error:
        return faults.expect(False, name, f"does not render: {error}")
    check_schemas(faults, name, objects)
    deployment = check_workload(faults, name, objects)
    if not deployment:
        return
    faults.expect("status page" in notes, name, "the notes say nothing")
    check_kinds(name, values, objects)
    check_monitoring(name, values, objects)
    check_others(name, values, objects, deployment)
    pod = deployment["spec"]["template"]
    container = pod["spec"]["containers"][0]
    if files := configuration(objects, deployment):
        check_configuration(faults, name, exporter, container, files, "config.yaml")
        if isinstance(values["config"], str):
            faults.equal(files["config.yaml"], values["config"], name, "the configuration as a text")
        else:
            faults.equal(yaml.safe_load(files["config.yaml"]), values["config"], name, "the configuration as a map")
        faults.expect("checksum/config" in pod["metadata"]["annotations"], name, "a change of the configuration restarts nothing")


def scalars(value):
    """All texts and numbers in a value, as text."""
    if isinstance(value, (dict, list)):
        return [text for part in (value.values() if isinstance(value, dict) else value) for text in scalars(part)]
    return [] if value is None or isinstance(value, bool) else [str(value).strip()]


def check_values_arrive(chart, name, values):
    """What a value set says stands somewhere in what it renders."""
    parts = {key: part for key, part in values.items() if key not in ("extraManifests", "prometheusRule", "nameOverride")}
    text = "\n".join(text for resource in rendered(chart, parts)[0] for text in scalars(resource))
    for scalar in scalars(parts):
        faults.expect(scalar in text, name, f"{scalar!r} is nowhere in what it renders")


def paths(values, prefix=""):
    """The named values: maps with keys of the chart's own are walked, free ones are not."""
    for key, value in values.items():
        walk = isinstance(value, dict) and value and key not in ("livenessProbe", "readinessProbe", "podSecurityContext", "securityContext")
        yield prefix + key
        if walk:
            yield from paths(value, f"{prefix}{key}.")


def schema_paths(schema, prefix=""):
    for key, value in schema["properties"].items():
        if key != "global":
            yield prefix + key
        if "properties" in value:
            yield from schema_paths(value, f"{prefix}{key}.")


def check_names(chart, sets):
    """values.yaml, the schema and the templates name the same values."""
    values = set(paths(yaml.safe_load((CHART / "values.yaml").read_text())))
    schema = set(schema_paths(json.loads((CHART / "values.schema.json").read_text())))
    faults.equal(sorted(schema - values), [], "values.schema.json", "what values.yaml lacks")
    faults.equal(sorted(values - schema), [], "values.yaml", "what values.schema.json lacks")
    # Each value is tried by some set.
    tried = {path for one in sets.values() for path in paths(one)}
    faults.equal(sorted(values - tried), [], "ci/", "the values that no set names")
    text = "".join(template["data"] for template in chart.templates)
    for path in sorted(values):
        top, *rest = path.split(".")
        used = f".Values.{path}" in text or (f".Values.{top}" in text and (not rest or re.search(rf"[ (]\.{rest[0]}\b|own\.{rest[0]}\b", text)))
        faults.expect(used, "values.yaml", f"no template uses {path}")


# What must not render, with a part of what is said.
REFUSED = [
    ({}, "set one of `config`"),
    ({"config": "a: b", "existingConfig": {"secret": "a"}}, "set one of `config`"),
    ({"existingConfig": {"secret": "a"}, "configFiles": {"a.yaml": "b"}}, "`configFiles` goes with `config`"),
    ({"config": "a: b", "replicas": 2}, "replicas"),
    ({"config": "a: b", "service": {"prot": 1}}, "prot"),
    ({"config": "a: b", "prometheusRule": {"alerts": ["oracle"]}}, "alerts"),
    ({"config": "a: b", "containerPort": 80}, "containerPort"),
    ({"config": "a: b", "serviceMonitor": {"interval": "often"}}, "interval"),
]


def check_refused(chart):
    for values, words in REFUSED:
        try:
            chart.render(values, name="demo", namespace="prod")
            said = "nothing"
        except helm.HelmError as error:
            said = str(error)
        faults.expect(words in said, "refused", f"{values}: says {said}")


def check_lint(sets):
    for name, values in sets.items():
        report = helm.lint(CHART, values, strict=True)
        found = [m for m in report["messages"] if m["severity"] > 1 or "icon" not in m["error"]]
        faults.expect(not found and not report["errors"], name, f"helm lint: {found} {report['errors']}")


def check_notes(chart):
    """The notes warn of replicas that all run every query."""
    values = {"config": "a: b", "replicaCount": 2, "serviceMonitor": {"enabled": True}}
    faults.expect("WARNING" in rendered(chart, values)[1], "notes", "no warning of two replicas behind a ServiceMonitor")
    values["scrapeConfig"] = {"enabled": True}
    faults.expect("WARNING" not in rendered(chart, values)[1], "notes", "a warning although /sd shares the replicas")


def check_extra(objects):
    more = next((o for o in objects if o["metadata"]["name"] == "demo-sql-exporter-more"), {})
    faults.equal(more.get("data"), {"port": "9399"}, "extra-manifests", "the data of the map with templates")
    text = next((o for o in objects if o["metadata"]["name"] == "demo-sql-exporter-text"), {})
    faults.equal(get(text, "metadata", "labels", "app.kubernetes.io/instance"), "demo", "extra-manifests", "the text's label")


def check_version(chart):
    """The image that the chart runs is that of this version; tests/suite/versions.rs compares the other files."""
    version = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]
    faults.equal(chart.metadata["appVersion"], version, "Chart.yaml", "appVersion")


def main():
    sets = value_sets()
    faults.expect(len(sets) >= 10, "ci/", f"has {len(sets)} value sets")
    shown = documented()
    faults.equal(len(shown), 2, "docs/installing.md", "the number of value sets")
    sets |= shown
    with helm.Chart.load(CHART) as chart:
        for name, values in sets.items():
            check_set(chart, name, values)
            check_values_arrive(chart, name, values)
        check_extra(rendered(chart, sets["extra-manifests"])[0])
        check_names(chart, sets)
        check_refused(chart)
        check_notes(chart)
        check_lint(sets)
        check_version(chart)
    with tempfile.TemporaryDirectory() as folder:
        # What `helm package` writes renders the same: no file is left behind.
        with helm.Chart.load(helm.package(CHART, destination=folder)) as packed, helm.Chart.load(CHART) as chart:
            values = sets["scrape-config"]
            faults.equal(rendered(packed, values)[0], rendered(chart, values)[0], "helm package", "what it renders")
    faults.end(f"{len(sets)} value sets")


main()
