"use strict";
// Filters while one types, links to each target and copies commands. Without this script the form searches by a request.
const form = document.querySelector("form");
const field = form.elements.search;
const shown = form.querySelector("output");
const targets = [...document.querySelectorAll("details")];
// What the server searches: `TargetView::text`.
const parts = "h2, h2 + span, summary + p, .why, .command, tbody th, td:nth-child(2), td:last-child";
const texts = targets.map((target) =>
  [...target.querySelectorAll(parts)].map((part) => part.textContent).join("\n").toLowerCase());
const wordsOf = (text) => text.toLowerCase().split(/\s+/).filter(Boolean);
// The page has the targets that hold these.
const served = wordsOf(field.defaultValue);

function filter() {
  const words = wordsOf(field.value);
  let count = 0;
  targets.forEach((target, index) => {
    const fits = words.every((word) => texts[index].includes(word));
    target.hidden = !fits;
    count += fits;
  });
  const isWhole = served.every((known) => words.some((word) => word.includes(known)));
  shown.textContent = !isWhole ? "Enter searches all targets" : words.length ? `${count} of ${shown.dataset.total}` : "";
}

// The address and the links to other orders say what is searched for.
function keep(link) {
  const url = new URL(link);
  const text = field.value.trim();
  if (text) url.searchParams.set("search", text);
  else url.searchParams.delete("search");
  return url.href;
}

function typed() {
  filter();
  history.replaceState(null, "", keep(location.href));
  document.querySelectorAll("nav.sort a").forEach((link) => { link.href = keep(link.href); });
}

document.addEventListener("keydown", (event) => {
  const inField = document.activeElement === field;
  if (event.key === "/" && !inField) {
    event.preventDefault();
    field.focus();
  } else if (event.key === "Escape" && inField) {
    field.value = "";
    typed();
    field.blur();
    if (served.length) form.requestSubmit();
  }
});
field.addEventListener("input", typed);
field.placeholder = "press /";
// Enter is enough.
form.querySelector("button").hidden = true;
// A browser may have kept what stood there.
filter();

for (const target of targets) {
  const link = document.createElement("a");
  link.href = `#${target.id}`;
  link.textContent = "link";
  target.querySelector("a").after(" · ", link);
}
const unfold = () => {
  const target = document.getElementById(location.hash.slice(1));
  if (target) target.open = true;
};
addEventListener("hashchange", unfold);
unfold();

// Without TLS a browser lets only pages of this machine copy.
if (navigator.clipboard) {
  for (const command of document.querySelectorAll(".command")) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(command.textContent);
      button.textContent = "Copied";
    });
    command.after(" ", button);
  }
}
