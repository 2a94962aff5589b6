"""Kubernetes objects: whether they fit the API's schemas, and what must hold for each way to run the exporter."""

import functools
import json
import re
import subprocess
import tempfile
import pathlib

from tools import leave_out, module, program, variable

validator = module("kubernetes_validate", "kubernetes-validate")
yaml = module("yaml", "PyYAML")

# The schemas of a version are one file of 2 MB; it is read once.
utils = module("kubernetes_validate.utils", "kubernetes-validate")
utils.schema_contents = functools.lru_cache(maxsize=None)(utils.schema_contents)

# The oldest version that Chart.yaml admits, and the newest that kubernetes-validate knows.
VERSIONS = ["1.25", validator.latest_version()]
OPERATOR = "monitoring.coreos.com/"


class Loader(yaml.SafeLoader):
    """PyYAML lets the last of equal keys win; the API server refuses them."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key) for key, _ in node.value]
        for key in {key for key in keys if keys.count(key) > 1}:
            raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is there twice", node.start_mark)
        return super().construct_mapping(node, deep)


def documents(text):
    return [document for document in yaml.load_all(text, Loader) if document]


def named(resource):
    return f"{resource['kind']} {resource['metadata']['name']}"


def check_schemas(faults, where, resources):
    """Each object against the API of two versions, unknown keys included."""
    for resource in resources:
        if resource["apiVersion"].startswith(OPERATOR):
            continue
        for version in VERSIONS:
            try:
                validator.validate(resource, version, strict=True)
            except validator.ValidationError as error:
                path = "/".join(map(str, error.path))
                faults.expect(False, f"{where}: {named(resource)} ({version})", f"{path}: {error.message}")
            except validator.SchemaNotFoundError as error:
                faults.expect(False, f"{where}: {named(resource)}", error.message)
    check_custom_resources(faults, where, [r for r in resources if r["apiVersion"].startswith(OPERATOR)])


def custom_resource_faults(resources):
    """What the Prometheus Operator's CRDs say against each."""
    script = pathlib.Path(__file__).with_name("custom-resources.mjs")
    node = program("node", "Debian's nodejs")
    done = subprocess.run([node, script, variable("TEST_NODE")], input=json.dumps(resources), text=True, capture_output=True)
    if "ERR_MODULE_NOT_FOUND" in done.stderr:
        leave_out("@kubernetes-models/prometheus-operator (npm)")
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)


def check_custom_resources(faults, where, resources):
    if resources:
        for resource, found in zip(resources, custom_resource_faults(resources)):
            for fault in found:
                faults.expect(False, f"{where}: {named(resource)}", fault)


def one(resources, kind):
    found = [resource for resource in resources if resource["kind"] == kind]
    return found[0] if len(found) == 1 else None


def check_workload(faults, where, resources, prefix="", scheme="HTTP"):
    """What must hold of the deployment, whatever else is set. `prefix` and `scheme` are those of the exporter."""
    deployment, service = one(resources, "Deployment"), one(resources, "Service")
    faults.expect(deployment and service, where, "has no deployment or no service")
    if not (deployment and service):
        return None
    template = deployment["spec"]["template"]
    pod, container = template["spec"], template["spec"]["containers"][0]
    selector = deployment["spec"]["selector"]["matchLabels"]
    labels = template["metadata"]["labels"]
    faults.expect(selector.items() <= labels.items(), where, "the deployment does not select its own pods")
    faults.expect(service["spec"]["selector"].items() <= labels.items(), where, "the service does not select the pods")
    check_probes(faults, where, container, prefix, scheme)
    check_privileges(faults, where, pod)
    check_ports(faults, where, service, container)
    check_mounts(faults, where, pod, container)
    return deployment


def check_probes(faults, where, container, prefix, scheme):
    for probe, path in [("livenessProbe", "/-/healthy"), ("readinessProbe", "/-/ready"), ("startupProbe", "/-/healthy")]:
        if probe == "startupProbe" and probe not in container:
            continue
        asked = container.get(probe, {})
        if "exec" in asked:
            faults.equal(asked["exec"]["command"][1:2], ["health"], where, f"what {probe} runs")
            continue
        request = asked.get("httpGet", {})
        faults.equal(request.get("path"), prefix + path, where, f"what {probe} asks for")
        faults.equal(request.get("port"), "http", where, f"the port of {probe}")
        faults.equal(request.get("scheme", "HTTP"), scheme, where, f"the scheme of {probe}")


def check_privileges(faults, where, pod):
    faults.equal(pod.get("securityContext", {}).get("runAsNonRoot"), True, where, "runAsNonRoot of the pod")
    faults.expect(pod["securityContext"].get("runAsUser") != 0, where, "the pod runs as root")
    faults.equal(pod["securityContext"].get("seccompProfile"), {"type": "RuntimeDefault"}, where, "seccompProfile")
    faults.expect("automountServiceAccountToken" in pod, where, "says nothing about the token of the Kubernetes API")
    faults.expect(not (pod.get("hostNetwork") or pod.get("hostPID") or pod.get("hostIPC")), where, "uses namespaces of the host")
    for container in pod["containers"] + pod.get("initContainers", []):
        context = container.get("securityContext", {})
        place = f"{where}: container {container['name']}"
        faults.equal(context.get("allowPrivilegeEscalation"), False, place, "allowPrivilegeEscalation")
        faults.equal(context.get("readOnlyRootFilesystem"), True, place, "readOnlyRootFilesystem")
        faults.equal(context.get("capabilities"), {"drop": ["ALL"]}, place, "capabilities")
        faults.expect(not context.get("privileged"), place, "is privileged")
        faults.expect(context.get("runAsNonRoot") is not False and context.get("runAsUser") != 0, place, "runs as root")


def check_ports(faults, where, service, container):
    port = container["ports"][0]["containerPort"]
    faults.equal(container["ports"][0]["name"], "http", where, "the name of the container's port")
    faults.equal(service["spec"]["ports"][0]["targetPort"], "http", where, "targetPort of the service")
    faults.expect(f"--listen=:{port}" in container["args"], where, f"the exporter is not told to listen on {port}")


def check_mounts(faults, where, pod, container):
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    for mount in container["volumeMounts"]:
        faults.expect(mount["name"] in volumes, where, f"mounts {mount['name']}, which is not a volume")
        writable = "emptyDir" in volumes.get(mount["name"], {})
        faults.expect(writable or mount.get("readOnly"), where, f"{mount['mountPath']} is writable")
    config = [volume for volume in (volumes.get("config", {}),) if "configMap" in volume or "secret" in volume]
    mounted = [mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "config"]
    faults.expect(config and mounted == ["/etc/sql-exporter"], where, "the configuration is not mounted")
    file = next((a.removeprefix("--config=") for a in container["args"] if a.startswith("--config=")), "")
    faults.expect(file.startswith("/etc/sql-exporter/"), where, f"--config names {file!r}")


@functools.lru_cache(maxsize=None)
def errors_of(exporter, files, main):
    """What the exporter's own `check` finds in files, with a word for each variable. It takes a second, so equal ones run once."""
    used = re.findall(r"\$\{(\w+)\}", "\n".join(text for _, text in files))
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files:
            (pathlib.Path(folder) / name).write_text(text)
        command = [exporter, "check", "-c", main]
        done = subprocess.run(command, cwd=folder, env=dict.fromkeys(used, "secret"), text=True, capture_output=True)
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("error")]


def check_configuration(faults, where, exporter, container, files, main):
    """The files of a ConfigMap load, with the variables that the container has."""
    names = {entry["name"] for entry in container.get("env", [])}
    used = set(re.findall(r"\$\{(\w+)\}", "\n".join(files.values())))
    faults.expect("envFrom" in container or used <= names, where, f"no variable {', '.join(sorted(used - names))} in the container")
    for entry in container.get("env", []):
        faults.expect("valueFrom" in entry or "PASSWORD" not in entry["name"], where, f"{entry['name']} is not from a Secret")
    # A web-config file is read, too; the examples have theirs in a Secret.
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    lines = [line for line in errors_of(exporter, tuple(sorted(files.items())), main)
             if not any(line.startswith(f"error: {mount}/") for mount in mounts)]
    faults.expect(not lines, where, f"check -c {main}: {lines}")
