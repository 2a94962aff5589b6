"use strict";
// Hides the targets that do not hold every word of the field. Without this script the page is whole, and unfiltered.
const field = document.querySelector("input");
const shown = document.querySelector("output");
const targets = [...document.querySelectorAll("details")];
const texts = targets.map((target) => target.textContent.toLowerCase());

function filter() {
  const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  targets.forEach((target, index) => {
    const fits = words.every((word) => texts[index].includes(word));
    target.hidden = !fits;
    count += fits;
  });
  shown.textContent = words.length ? `${count} of ${targets.length}` : "";
}

document.addEventListener("keydown", (event) => {
  const inField = document.activeElement === field;
  if (event.key === "/" && !inField) {
    event.preventDefault();
    field.focus();
  } else if (event.key === "Escape" && inField) {
    field.value = "";
    filter();
    field.blur();
  }
});
field.addEventListener("input", filter);
field.closest("p").hidden = false;
// A browser may have kept what stood there.
filter();
