// Reads a JSON list of custom resources of the Prometheus Operator from stdin, and prints a list of faults for each, by the
// validators that @kubernetes-models/prometheus-operator generates from the CRDs. argv[2]: the folder with node_modules.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const schemas = `${process.argv[2]}/node_modules/@kubernetes-models/prometheus-operator/_schemas`;
const prefix = "ComGithubPrometheusOperatorPrometheusOperatorPkgApisMonitoring";

// The validators do not mind unknown keys, but they look at each key that they know: a key that none looked at is unknown.
function watched(value, path, unseen) {
  if (value === null || typeof value !== "object") return value;
  const copy = Array.isArray(value) ? [] : {};
  for (const key of Object.keys(value)) {
    copy[key] = watched(value[key], `${path}/${key}`, unseen);
    unseen.add(`${path}/${key}`);
  }
  return new Proxy(copy, {
    get(target, key) {
      unseen.delete(`${path}/${String(key)}`);
      return target[key];
    },
  });
}

async function faults(resource) {
  const version = resource.apiVersion.split("/")[1].replace(/^v/, "V");
  const file = pathToFileURL(`${schemas}/${prefix}${version}${resource.kind}.js`);
  const { validate } = await import(file.href);
  const unseen = new Set();
  const copy = watched(resource, "", unseen);
  if (!validate(copy)) return validate.errors.map((e) => `${e.instancePath}: ${e.keyword} ${JSON.stringify(e.params)}`);
  // What hangs below a map with free keys (labels, annotations) is not looked at, and neither is a map that may hold anything.
  return [...unseen].filter((path) => !/^\/metadata\/|\/(labels|annotations|matchLabels)\//.test(path)).map((path) => `${path}: unknown key`);
}

const resources = JSON.parse(readFileSync(0, "utf8"));
console.log(JSON.stringify(await Promise.all(resources.map(faults))));
