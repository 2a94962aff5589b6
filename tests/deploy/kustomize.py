"""The kustomize base in examples/kustomize/ and an overlay as its comment describes one: built by kubectl, validated against the
API schemas, checked for meaning. No cluster is used."""

import pathlib
import subprocess
import tempfile

from objects import check_configuration, check_schemas, check_workload, documents, one, yaml
from tools import EXAMPLES, Faults, program, variable

BASE = EXAMPLES / "kustomize"
faults = Faults()
kubectl = program("kubectl", "Debian's kubernetes-client")

OVERLAY = """
BASES
namespace: monitoring
images: [{name: ghcr.io/sql-exporter/sql-exporter, newTag: 9.9.9}]
configMapGenerator:
  - {name: sql-exporter, behavior: replace, files: [config.yaml=own.yaml]}
secretGenerator:
  - {name: sql-exporter, literals: [ZOO_PASSWORD=secret]}
"""
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


def check_overlay(folder):
    # Debian 12 has kubectl 1.20, where a folder is not among the resources yet.
    version = subprocess.run([kubectl, "version", "--client", "-o", "yaml"], text=True, capture_output=True).stdout
    old = int(yaml.safe_load(version)["clientVersion"]["minor"].rstrip("+")) < 21
    bases = "resources: [servicemonitor.yaml]\nbases: [base]" if old else "resources: [servicemonitor.yaml, base]"
    (folder / "kustomization.yaml").write_text(OVERLAY.replace("BASES", bases))
    (folder / "own.yaml").write_text(OWN)
    (folder / "servicemonitor.yaml").write_text((BASE / "servicemonitor.yaml").read_text())
    # Old versions of kustomize refuse absolute paths.
    (folder / "base").mkdir()
    for path in BASE.iterdir():
        (folder / "base" / path.name).write_text(path.read_text())
    resources = built(str(folder))
    container = check("overlay", resources, OWN)
    faults.equal({resource["metadata"].get("namespace") for resource in resources}, {"monitoring"}, "overlay", "the namespaces")
    faults.equal(container["image"], "ghcr.io/sql-exporter/sql-exporter:9.9.9", "overlay", "the image")
    secret = one(resources, "Secret")["metadata"]["name"]
    faults.equal(container["envFrom"][0]["secretRef"]["name"], secret, "overlay", "the Secret of the variables")
    monitor, service = one(resources, "ServiceMonitor"), one(resources, "Service")
    selected = monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    faults.expect(selected, "overlay", "the ServiceMonitor does not select the Service")


def main():
    check("base", built(str(BASE)), (BASE / "sql-exporter.yaml").read_text())
    files = set(yaml.safe_load((BASE / "kustomization.yaml").read_text())["resources"])
    there = {path.name for path in BASE.iterdir()} - {"kustomization.yaml", "sql-exporter.yaml", "servicemonitor.yaml"}
    faults.equal(there, files, "kustomization.yaml", "the files beside it")
    with tempfile.TemporaryDirectory() as folder:
        check_overlay(pathlib.Path(folder))
    faults.end("base and overlay")


main()
