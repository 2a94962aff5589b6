"""Runs the container of the pods that the chart renders: its arguments, variables and files, in a root folder as in image.py. Then asks
what the kubelet and Prometheus would ask. The kubelet itself, the network and the Secrets are not there."""

import pathlib
import ssl
import tempfile
import urllib.error
import urllib.request

from image import CONFIG, WEB, Container, free_port
from objects import documents, one, yaml
from sandbox import need_mounts
from tools import EXAMPLES, Faults, module, variable

helm = module("helm_python", "helm-python-sdk")

CHART = EXAMPLES / "helm/sql-exporter"
faults = Faults()


def ask(scheme, port, path):
    """The status code."""
    unverified = ssl.create_default_context()
    unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
    context = unverified if scheme == "https" else None
    try:
        with urllib.request.urlopen(f"{scheme}://127.0.0.1:{port}{path}", context=context, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def check_probes(name, container, spec, port):
    for probe in ["livenessProbe", "readinessProbe"]:
        if request := spec[probe].get("httpGet"):
            status = ask(request["scheme"].lower(), port, request["path"])
            faults.equal(status, 200, name, f"the answer to {probe}")
        else:
            command = [word.replace(":9399", f":{port}") for word in spec[probe]["exec"]["command"]]
            faults.equal(container.run(command), (0, "healthy\n"), name, f"the command of {probe}")


def check_prometheus(name, objects, port, protected):
    """What Prometheus asks for is there; behind a login it says so."""
    wanted = 401 if protected else 200
    if scrape := one(objects, "ScrapeConfig"):
        scheme, rest = scrape["spec"]["httpSDConfigs"][0]["url"].split("://")
        faults.equal(ask(scheme, port, "/" + rest.split("/", 1)[1]), wanted, name, "the answer at /sd")
    endpoint = one(objects, "ServiceMonitor")["spec"]["endpoints"][0]
    faults.equal(ask(endpoint["scheme"], port, endpoint["path"]), wanted, name, "the answer to a scrape")


def check(chart, name, values, secrets=None, protected=False, reachable=True):
    port = free_port()
    # The databases of the sets are nowhere: a scrape tells of them at once.
    values = values | {"containerPort": port, "serviceMonitor": {"enabled": True} | values.get("serviceMonitor", {})}
    parts = chart.render(values, name="demo", namespace="prod")
    objects = [d for file, text in parts.items() if file.endswith(".yaml") for d in documents(text)]
    pod = one(objects, "Deployment")["spec"]["template"]["spec"]
    spec = pod["containers"][0]
    config = one(objects, "Secret") or one(objects, "ConfigMap") or {}
    files = config.get("stringData") or config.get("data") or {}
    files = {f"/etc/sql-exporter/{file}": text for file, text in files.items()} | (secrets or {})
    environment = {entry["name"]: "secret" for entry in spec.get("env", [])}
    with tempfile.TemporaryDirectory() as folder:
        container = Container(folder, files, environment, spec["args"])
        faults.equal(container.user, pod["securityContext"]["runAsUser"], name, "the user of the image")
        if not container.exporter.wait_for("listening on"):
            faults.expect(False, name, f"does not start: {container.exporter.log}")
            return
        check_probes(name, container, spec, port)
        if reachable:
            check_prometheus(name, objects, port, protected)
        faults.equal(container.exporter.stop(), 0, name, f"the exit code ({container.exporter.log})")


def main():
    need_mounts()
    sets = {path.name.removesuffix("-values.yaml"): yaml.safe_load(path.read_text()) for path in (CHART / "ci").iterdir()}
    certificates = pathlib.Path(variable("TEST_TLS"))
    web = {f"/etc/sql-exporter-web/{name}": (certificates / name).read_text() for name in ["server.pem", "server.key", "ca.pem"]}
    wanting = "tls_server_config: {cert_file: server.pem, key_file: server.key, client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.pem}\n"
    with helm.Chart.load(CHART) as chart:
        check(chart, "minimal", sets["minimal"])
        check(chart, "text-config", sets["text-config"])
        check(chart, "secret-config", sets["secret-config"])
        check(chart, "tls-and-logins", sets["tls-and-logins"], web | {"/etc/sql-exporter-web/web.yml": WEB}, protected=True)
        exporter = "exporter: {route_prefix: /sql, web_config_file: /etc/sql-exporter-web/web.yml}\n"
        files = {"/etc/sql-exporter/config.yaml": CONFIG + exporter, "/etc/sql-exporter-web/web.yml": wanting}
        probes = sets["client-certificates"]
        # Nobody connects without a certificate.
        check(chart, "client-certificates", probes, web | files, reachable=False)
    faults.end("5 pods")


main()
