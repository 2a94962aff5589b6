"""The kustomize base in examples/kustomize/, and the overlays that its comment and the manual show: built by kubectl, validated against
the API schemas, checked for meaning. No cluster is used."""

import pathlib
import re
import subprocess
import tempfile

from objects import check_configuration, check_schemas, check_workload, documents, named, one, yaml
from tools import EXAMPLES, ROOT, Faults, program, variable

BASE = EXAMPLES / "kustomize"
faults = Faults()
kubectl = program("kubectl", "Debian's kubernetes-client")

BASE_URL = re.compile(r"resources: \[github\.com/sql-exporter/sql-exporter/examples/kustomize\?ref=v[\d.]+\]")
OWN = "databases: {zoo: {url: 'mysql://exporter@zoo.example/zoo', password: '${ZOO_PASSWORD}', tls: {mode: verify-full}}}\n"


def built(folder):
    done = subprocess.run([kubectl, "kustomize", folder], text=True, capture_output=True)
    faults.equal((done.returncode, done.stderr), (0, ""), folder, "what kubectl kustomize says")
    return documents(done.stdout)


def check(name, resources, config):
    check_schemas(faults, name, resources)
    deployment = check_workload(faults, name, resources)
    if not deployment:
        return None
    pod = deployment["spec"]["template"]["spec"]
    map_ = one(resources, "ConfigMap")
    # Its name has a hash of its content: a change replaces the pods.
    faults.expect(map_["metadata"]["name"].startswith("sql-exporter-"), name, "the ConfigMap's name has no hash")
    faults.equal(pod["volumes"][0]["configMap"]["name"], map_["metadata"]["name"], name, "the mounted ConfigMap")
    faults.equal(map_["data"], {"config.yaml": config}, name, "the data of the ConfigMap")
    check_configuration(faults, name, variable("TEST_EXPORTER_BINARY"), pod["containers"][0], map_["data"], "config.yaml")
    return pod["containers"][0]


def overlays():
    """What the manual and the base's own comment show."""
    page = re.search(r"```yaml\n# kustomization.yaml\n(.*?)```", (ROOT / "docs/installing.md").read_text(), re.S)[1]
    comment = re.search(r"^#   # kustomization.yaml\n((?:#  .*\n)+)", (BASE / "kustomization.yaml").read_text(), re.M)[1]
    return {"installing.md": page, "kustomization.yaml": re.sub("^#   ", "", comment, flags=re.M)}


def check_second(folder):
    """A second exporter in a namespace, as the manual describes it."""
    manual = " ".join((ROOT / "docs/installing.md").read_text().split())
    prefix, labels = re.search(r"`(namePrefix: \S+)` and `(labels: [^`]*)`", manual).groups()
    base(folder)
    (folder / "kustomization.yaml").write_text(f"resources: [base]\n{prefix}\n{labels}\n")
    resources = built(str(folder))
    check_workload(faults, "a second exporter", resources)
    first = built(str(BASE))
    shared = {named(resource) for resource in resources} & {named(resource) for resource in first}
    faults.equal(shared, set(), "a second exporter", "what it shares with the first")
    for kind in ["Service", "Deployment"]:
        selector = one(resources, kind)["spec"]["selector"]
        pods = one(first, "Deployment")["spec"]["template"]["metadata"]["labels"]
        selects = selector.get("matchLabels", selector).items() <= pods.items()
        faults.expect(not selects, "a second exporter", f"its {kind} selects the pods of the first")


def base(folder):
    """A copy: old versions of kustomize refuse absolute paths."""
    (folder / "base").mkdir()
    for path in BASE.iterdir():
        (folder / "base" / path.name).write_text(path.read_text())


def is_old():
    """Debian 12 has kubectl 1.20; before 1.22 neither a folder is among the resources nor `labels` can be relied on."""
    version = subprocess.run([kubectl, "version", "--client", "-o", "yaml"], text=True, capture_output=True).stdout
    return int(yaml.safe_load(version)["clientVersion"]["minor"].rstrip("+")) < 22


def check_overlay(name, text, folder):
    bases = "resources: [servicemonitor.yaml]\nbases: [base]" if is_old() else "resources: [servicemonitor.yaml, base]"
    faults.equal(len(BASE_URL.findall(text)), 1, name, "the bases")
    (folder / "kustomization.yaml").write_text(BASE_URL.sub(bases, text.replace("newTag: 1.0.0", "newTag: 9.9.9")))
    (folder / "sql-exporter.yaml").write_text(OWN)
    (folder / "passwords.env").write_text("ZOO_PASSWORD=secret\n")
    (folder / "servicemonitor.yaml").write_text((BASE / "servicemonitor.yaml").read_text())
    base(folder)
    resources = built(str(folder))
    container = check(name, resources, OWN)
    faults.equal({resource["metadata"].get("namespace") for resource in resources}, {"monitoring"}, name, "the namespaces")
    if "newTag" in text:
        faults.equal(container["image"], "ghcr.io/sql-exporter/sql-exporter:9.9.9", name, "the image")
    secret = one(resources, "Secret")
    faults.equal(container["envFrom"][0]["secretRef"]["name"], secret["metadata"]["name"], name, "the Secret of the variables")
    faults.equal(list(secret["data"]), ["ZOO_PASSWORD"], name, "the variables")
    monitor, service = one(resources, "ServiceMonitor"), one(resources, "Service")
    selected = monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    faults.expect(selected, name, "the ServiceMonitor does not select the Service")


def main():
    check("base", built(str(BASE)), (BASE / "sql-exporter.yaml").read_text())
    files = set(yaml.safe_load((BASE / "kustomization.yaml").read_text())["resources"])
    there = {path.name for path in BASE.iterdir()} - {"kustomization.yaml", "sql-exporter.yaml", "servicemonitor.yaml"}
    faults.equal(there, files, "kustomization.yaml", "the files beside it")
    shown = overlays()
    for name, text in shown.items():
        with tempfile.TemporaryDirectory() as folder:
            check_overlay(name, text, pathlib.Path(folder))
    if not is_old():
        with tempfile.TemporaryDirectory() as folder:
            check_second(pathlib.Path(folder))
    faults.end(f"base and {len(shown)} overlays")


main()
