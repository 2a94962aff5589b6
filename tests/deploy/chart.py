"""The Helm chart in examples/helm/: renders each value set of its ci/ with Helm's own engine, validates what comes out against
the API schemas and checks what it means; then values that are legal but unusual. No cluster is used: whether a pod starts is not
seen here."""

import json
import re
import tempfile

import chart_values
from objects import check_configuration, check_schemas, check_workload, documents, named, one, yaml
from tools import EXAMPLES, ROOT, Faults, module, variable

helm = module("helm_python", "helm-python-sdk")

CHART = EXAMPLES / "helm/sql-exporter"
faults = Faults()
exporter = variable("TEST_EXPORTER_BINARY")


def value_sets():
    return {path.name.removesuffix("-values.yaml"): yaml.safe_load(path.read_text()) for path in sorted((CHART / "ci").iterdir())}


def documented():
    """The value sets that the manual and the chart's README show."""
    pages = [ROOT / "docs/installing.md", chart_values.README]
    blocks = {page.name: re.findall(r"```yaml\n# values.yaml\n(.*?)```", page.read_text(), re.S) for page in pages}
    return {f"{page} {number}": yaml.safe_load(block) for page, found in blocks.items() for number, block in enumerate(found, 1)}


def rendered(chart, values, name="demo"):
    """The objects, and the notes."""
    parts = chart.render(values, name=name, namespace="prod")
    objects = [d for name, text in parts.items() if name.endswith(".yaml") for d in documents(text)]
    return objects, next(text for name, text in parts.items() if name.endswith("NOTES.txt"))


def get(values, *path):
    for key in path:
        values = values.get(key) if isinstance(values, dict) else None
    return values


def prefix_of(values):
    """What paths begin with, without the chart's help."""
    prefix = get(values, "web", "routePrefix") or get(values, "config", "exporter", "route_prefix") or ""
    return "/" + prefix.strip("/") if prefix else ""


def scheme_of(values):
    return "HTTPS" if get(values, "web", "tls") else "HTTP"


def check_kinds(name, values, objects):
    """What is there is what was asked for."""
    in_secret = bool(values.get("secretConfig"))
    expected = {
        "Deployment": True,
        "Service": True,
        "ConfigMap": bool(get(values, "config")) and not in_secret,
        "Secret": in_secret,
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
    prefix, scheme = prefix_of(values), scheme_of(values)
    if scrape:
        discovery = scrape["spec"]["httpSDConfigs"][0]
        faults.equal(scrape["spec"]["scheme"], scheme, name, "the scheme of the ScrapeConfig")
        faults.equal(discovery["url"], f"{scheme.lower()}://{host}{prefix}/sd", name, "the URL of the ScrapeConfig")
        for key in ["tlsConfig", "basicAuth", "authorization"]:
            faults.equal(discovery.get(key), scrape["spec"].get(key), name, f"{key} of the discovery")
        wanted = get(values, "scrapeConfig", "jobName") or "sql"
        faults.equal(scrape["spec"]["jobName"], wanted, name, "the job of the ScrapeConfig")
    if monitor:
        endpoint = monitor["spec"]["endpoints"][0]
        # Otherwise every target would be scraped twice.
        path = get(values, "serviceMonitor", "path") or (f"{prefix}/-/metrics" if scrape else f"{prefix}/metrics")
        faults.equal(endpoint["path"], path, name, "the path of the ServiceMonitor")
        faults.equal(endpoint["scheme"], scheme.lower(), name, "the scheme of the ServiceMonitor")
        job = [r["replacement"] for r in endpoint["relabelings"] if r["targetLabel"] == "job"]
        wanted = get(values, "serviceMonitor", "jobName") or ("sql-exporter" if path.endswith("/-/metrics") else "sql")
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
    """The files of the ConfigMap or Secret that the chart makes, if it makes one."""
    own = [o for o in objects if o["kind"] in ("ConfigMap", "Secret") and o["metadata"]["name"] == deployment["metadata"]["name"]]
    return own[0].get("data") or own[0].get("stringData") if own else None


def check_set(chart, name, values):
    try:
        objects, notes = rendered(chart, values)
    except helm.HelmError as error:
        return faults.expect(False, name, f"does not render: {error}")
    check_schemas(faults, name, objects)
    deployment = check_workload(faults, name, objects, prefix_of(values), scheme_of(values))
    if not deployment:
        return
    service = one(objects, "Service")
    at = f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc:{service['spec']['ports'][0]['port']}"
    faults.expect(f"{scheme_of(values).lower()}://{at}{prefix_of(values)}/metrics" in notes, name, "the notes name another address")
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
    text = "\n".join(text for resource in rendered(chart, parts)[0] for text in [*scalars(resource), *keys(resource)])
    for scalar in scalars(parts):
        faults.expect(scalar in text, name, f"{scalar!r} is nowhere in what it renders")


def keys(value):
    if isinstance(value, list):
        return [key for part in value for key in keys(part)]
    return [key for part in value.values() for key in keys(part)] + list(value) if isinstance(value, dict) else []


def paths(values, prefix=""):
    """The named values: maps with keys of the chart's own are walked, free ones are not."""
    for key, value in values.items():
        walk = isinstance(value, dict) and value and key not in ("livenessProbe", "readinessProbe", "podSecurityContext", "securityContext")
        yield prefix + key
        if walk:
            yield from paths(value, f"{prefix}{key}.")


def schema_paths(schema, prefix=""):
    for key, value in schema["properties"].items():
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
    ({"config": "a: b", "fullnameOverride": "Shop"}, "fullnameOverride"),
    ({"config": "databases: ["}, "config is not YAML"),
    ({"config": "a: b", "podDisruptionBudget": {"minAvailable": "half"}}, "minAvailable"),
    ({"config": "a: b", "autoscaling": {"targetCPUUtilizationPercentage": "80%"}}, "targetCPUUtilizationPercentage"),
    ({"config": "a: b", "configFiles": {"more/orders.yaml": "b"}}, "more/orders.yaml"),
    # A null takes a value out.
    ({"config": "a: b", "serviceMonitor": None}, "serviceMonitor"),
    ({"config": "a: b", "service": {"port": None}}, "port"),
    ({"config": "a: b", "podDisruptionBudget": {"enabled": True, "maxUnavailable": None}}, "set minAvailable or maxUnavailable"),
    ({"config": {"exporter": {"route_prefix": "${PREFIX}"}}}, "set web.routePrefix"),
    # Passwords in a ConfigMap.
    ({"config": {"databases": {"zoo": {"password": "c4nary"}}}}, "databases.zoo has a password"),
    ({"config": {"databases": {"zoo": {"password": 7}}}}, "databases.zoo has a password"),
    ({"config": "databases: {zoo: {url: 'mysql://u:c4nary@zoo.example/zoo'}}"}, "databases.zoo has a password"),
    ({"config": {"databases": {"zoo": {"connection_string": "postgresql://u:c4nary@zoo.example"}}}}, "set `secretConfig: true`"),
    ({"config": {"databases": {"zoo": {"url": "postgres://u:c4n$ry@zoo.example"}}}}, "databases.zoo has a password"),
    ({"config": {"databases": {"zoo": {"url": "postgres://u@zoo.example/zoo?a=b&password=c4nary"}}}}, "databases.zoo has a password"),
    ({"config": {"databases": {"zoo": {"url": "host=zoo.example password='c4nary'"}}}}, "databases.zoo has a password"),
    ({"config": {"defaults": {"database": {"password": "c4nary"}}}}, "defaults.database has a password"),
    ({"config": "a: b", "configFiles": {"a.yaml": "databases: {zoo: {password: c4nary}}"}}, 'configFiles["a.yaml"]'),
]

# What is not a password, although it looks like one.
PUBLIC = [
    {"url": "postgres://u:${PW}@zoo.example/zoo"},
    {"url": "postgres://u@zoo.example:5432/zoo?application_name=a:b@c"},
    {"url": "host=zoo.example user=u password='${PW}'"},
    {"url": "postgres://u@zoo.example/zoo?password=${PW}"},
    {"url": "postgres://zoo.example:5432/a@b"},
    {"url": "sqlite:///a:b@c.db"},
    {"username": "u", "password": "${PW:-}"},
    {"password": None, "password_file": "/run/secrets/zoo"},
]

# Legal values that YAML, templates or the API would read as something else.
UNUSUAL = {
    "a release of digits": ("2024", {"fullnameOverride": "exporter"}),
    "a release with dots": ("shop.eu.v2", {}),
    "a long release": ("a" * 53, {}),
    "a name that is cut at dashes": ("r", {"nameOverride": "a" * 59 + "--bcd"}),
    "names of digits": (
        "r",
        {
            "nameOverride": "123",
            "namespaceOverride": "77",
            "serviceAccount": {"name": "0123"},
            "priorityClassName": "5",
            "imagePullSecrets": [{"name": "1e3"}],
            "serviceMonitor": {"enabled": True, "jobName": "1", "namespace": "0o7"},
            "scrapeConfig": {"enabled": True, "jobName": "true", "namespace": "1_000"},
        },
    ),
    "labels of digits and words": ("r", {"commonLabels": {"a": "true", "b": "1e3", "c": ""}, "podLabels": {"d": "null"}, "podAnnotations": {"e": "0x10"}}),
    "labels that are the chart's": (
        "r",
        {
            "commonLabels": {"app.kubernetes.io/name": "x", "team": "a", "app.kubernetes.io/part-of": "shop"},
            "podLabels": {"app.kubernetes.io/instance": "y", "team": "b"},
            "service": {"labels": {"team": "c"}},
            "podDisruptionBudget": {"enabled": True},
            "networkPolicy": {"enabled": True},
        },
    ),
    "large numbers": (
        "r",
        {
            "config": {"databases": {"shop": {"url": "postgres://shop"}}, "exporter": {"max_series": 10_000_000}},
            "serviceMonitor": {"enabled": True, "sampleLimit": 1_000_000},
            "scrapeConfig": {"enabled": True, "sampleLimit": 2_000_000},
        },
    ),
    "no replica and no disruption": ("r", {"replicaCount": 0, "podDisruptionBudget": {"enabled": True, "minAvailable": 0}}),
    "nulls": (
        "r",
        {
            "podDisruptionBudget": {"enabled": True, "minAvailable": None},
            "autoscaling": {"enabled": True, "targetCPUUtilizationPercentage": None, "behavior": None},
            "image": {"tag": None, "registry": None, "digest": None},
            **dict.fromkeys(["revisionHistoryLimit", "resources", "nodeSelector", "extraEnv", "nameOverride", "commonLabels", "tolerations", "startupProbe"]),
            "service": {"nodePort": None, "annotations": None},
            "serviceAccount": {"name": None},
        },
    ),
    "empty lists": (
        "r",
        {
            **{key: [] for key in ["extraArgs", "extraEnv", "extraEnvFrom", "extraVolumes", "extraVolumeMounts", "extraManifests"]},
            "prometheusRule": {"enabled": True, "alerts": [], "rules": []},
            "networkPolicy": {"enabled": True, "from": [], "egress": []},
        },
    ),
    "files whose names are not texts": ("r", {"existingConfig": {"key": "007"}, "configFiles": {"1.5": "a: b", "yes": "c: d", "null": ""}}),
    "texts that are not simple": (
        "r",
        {
            "config": "databases:\n  shop: {url: 'postgres://shop'}\n# {{ .Values.x }} '\"\\ ${X} #\t\n\n",
            "configFiles": {"a.yaml": "  first: line\n", "b.yaml": "a: '{{ fail \"no\" }}'\n", "c.yaml": "---\na: b\n...\n"},
        },
    ),
    "a prefix in a text": ("r", {"config": "exporter:\n  route_prefix: /a/b\ndatabases: {}\n"}),
    "an IPv6 address": ("r", {"service": {"clusterIP": "fd00::1"}}),
}
LABEL = re.compile(r"([A-Za-z0-9]([-._A-Za-z0-9]*[A-Za-z0-9])?)?")
NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


def check_names_of(name, resource):
    """What the API's schemas do not say: the forms of names and labels."""
    metadata = resource["metadata"]
    form = NAME if resource["kind"] != "Service" else re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
    full = metadata["name"]
    faults.expect(len(full) <= 63 and form.fullmatch(full), name, f"{named(resource)} is not a name")
    for key, value in metadata["labels"].items():
        faults.expect(len(value) <= 63 and LABEL.fullmatch(value), name, f"{key}={value!r} of {named(resource)} is not a label")


def check_unusual(chart):
    for name, (release, values) in UNUSUAL.items():
        values = {"config": "databases: {shop: {url: 'postgres://shop'}}\n"} | values
        try:
            objects, _ = rendered(chart, values, release)
        except (helm.HelmError, yaml.YAMLError) as error:
            faults.expect(False, name, f"does not render: {error}")
            continue
        check_schemas(faults, name, objects)
        deployment = check_workload(faults, name, objects, "/a/b" if "prefix" in name else "")
        for resource in objects:
            check_names_of(name, resource)
        files = configuration(objects, deployment)
        key = get(values, "existingConfig", "key") or "config.yaml"
        if isinstance(values["config"], str):
            # A block of YAML ends with one line break.
            wanted = {key: values["config"]} | values.get("configFiles", {})
            faults.equal({n: t.strip("\n") for n, t in files.items()}, {n: t.strip("\n") for n, t in wanted.items()}, name, "its files")
        else:
            faults.equal(yaml.safe_load(files[key]), values["config"], name, "its configuration")
        if policy := one(objects, "NetworkPolicy"):
            faults.equal(policy["spec"]["podSelector"], deployment["spec"]["selector"], name, "the pods of the NetworkPolicy")


def check_two_releases(chart):
    """Two releases in a namespace share no object and no pod."""
    values = {"config": "databases: {}\n", "serviceMonitor": {"enabled": True}, "podDisruptionBudget": {"enabled": True}}
    first, second = (rendered(chart, values, name)[0] for name in ["shop", "zoo"])
    faults.equal({named(r) for r in first} & {named(r) for r in second}, set(), "two releases", "the shared objects")
    selected = [one(objects, "Service")["spec"]["selector"] for objects in (first, second)]
    pods = [one(objects, "Deployment")["spec"]["template"]["metadata"]["labels"] for objects in (first, second)]
    for selector, labels in zip(selected, reversed(pods)):
        faults.expect(not selector.items() <= labels.items(), "two releases", "a Service selects the pods of the other")


def check_restarts(chart):
    """A change of the configuration replaces the pods, and nothing else does."""

    def pods(values):
        return one(rendered(chart, values)[0], "Deployment")["spec"]["template"]

    text = "databases: {}\n"
    for secret in [False, True]:
        values = {"config": text, "configFiles": {"a.yaml": "b"}, "secretConfig": secret}
        for change in [{"config": text + "queries: []\n"}, {"configFiles": {"a.yaml": "c"}}]:
            faults.expect(pods(values) != pods(values | change), "restarts", f"{change} replaces no pod")
        faults.equal(pods(values), pods(values | {"service": {"port": 80}}), "restarts", "the pods behind another port of the service")


def check_secrets(chart):
    """A configuration with passwords is a Secret, and they are nowhere else."""
    values = next(iter(value for name, value in value_sets().items() if name == "secret-config"))
    objects, notes = rendered(chart, values)
    for resource in objects:
        if resource["kind"] != "Secret":
            faults.expect("c4nary" not in json.dumps(resource), "secret-config", f"{named(resource)} has the password")
    faults.expect("c4nary" not in notes, "secret-config", "the notes have the password")
    for keys_ in PUBLIC:
        try:
            chart.render({"config": {"databases": {"zoo": keys_}}}, name="demo", namespace="prod")
        except helm.HelmError as error:
            faults.expect(False, "passwords", f"{keys_} is refused: {error}")


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
    faults.equal(len(shown), 3, "docs/installing.md and the chart's README.md", "the number of value sets")
    sets |= shown
    faults.equal(chart_values.README.read_text(), chart_values.readme(), "the chart's README.md", "it needs `make docs`: it")
    table = chart_values.table()
    for path in paths(yaml.safe_load((CHART / "values.yaml").read_text())):
        faults.expect(f"`{path}`" in table or f"`{path}." in table, "the chart's README.md", f"has no {path}")
    with helm.Chart.load(CHART) as chart:
        for name, values in sets.items():
            check_set(chart, name, values)
            check_values_arrive(chart, name, values)
        check_extra(rendered(chart, sets["extra-manifests"])[0])
        check_names(chart, sets)
        check_refused(chart)
        check_unusual(chart)
        check_two_releases(chart)
        check_restarts(chart)
        check_secrets(chart)
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
