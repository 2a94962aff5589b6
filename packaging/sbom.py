"""Writes the SBOM: the crates that are compiled into the binary, as CycloneDX JSON."""

import datetime
import os
import sys
import uuid

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

from crates import compiled

try:
    import tomllib
except ImportError:
    from pip._vendor import tomli as tomllib

SCHEMA = SchemaVersion.V1_6


def checksums():
    with open("Cargo.lock", "rb") as file:
        return {(p["name"], p["version"]): p.get("checksum") for p in tomllib.load(file)["package"]}


def component(package, checksum, kind):
    name, version = package["name"], package["version"]
    license_text = (package["license"] or "").replace("/", " OR ")
    links = [(ExternalReferenceType.VCS, package["repository"])] if package["repository"] else []
    return Component(
        type=kind,
        name=name,
        version=version,
        bom_ref=f"pkg:cargo/{name}@{version}",
        purl=PackageURL("cargo", name=name, version=version),
        description=package["description"],
        licenses=[LicenseFactory().make_from_string(license_text)] if license_text else [],
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=checksum)] if checksum else [],
        external_references=[ExternalReference(type=kind, url=XsUri(url)) for kind, url in links],
    )


def main(path):
    sums = checksums()
    root, packages, graph = compiled()
    components = {
        key: component(
            packages[key],
            sums.get((packages[key]["name"], packages[key]["version"])),
            ComponentType.APPLICATION if key == root else ComponentType.LIBRARY,
        )
        for key in graph
    }
    bom = Bom(components=[part for key, part in components.items() if key != root])
    bom.metadata.component = components[root]
    bom.metadata.timestamp = datetime.datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), datetime.timezone.utc)
    bom.serial_number = uuid.uuid5(uuid.NAMESPACE_URL, "\n".join(sorted(part.bom_ref.value for part in components.values())))
    for key, needed in graph.items():
        bom.register_dependency(components[key], [components[dependency] for dependency in needed])
    text = make_outputter(bom, OutputFormat.JSON, SCHEMA).output_as_string(indent=2) + "\n"
    fault = JsonStrictValidator(SCHEMA).validate_str(text)
    if fault:
        sys.exit(f"the SBOM is not CycloneDX: {fault}")
    with open(path, "w") as file:
        file.write(text)


main(sys.argv[1])
