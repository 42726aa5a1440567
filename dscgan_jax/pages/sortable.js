// A table of exams: sorts by a click on a heading, filters while one types. Without it the page is a plain table.
"use strict";
(() => {
  const table = document.querySelector("table.sortable");
  if (!table) return;
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const first = [...rows]; // as the page was written
  const shown = document.getElementById("shown");
  const words = document.getElementById("words");
  const kind = document.getElementById("kind");
  const order = document.getElementById("order");
  const least = document.getElementById("least");
  const buttons = [...table.tHead.querySelectorAll("button")];

  // Numbers as numbers, words as words; what is undefined comes last in either direction.
  const valueOf = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
  const compare = (one, other, numeric) =>
    numeric ? Number(one) - Number(other) : one.localeCompare(other, undefined, { numeric: true, sensitivity: "base" });

  function sort(button, again = true) {
    const heading = button.parentElement;
    const column = heading.cellIndex;
    const numeric = heading.dataset.kind === "number";
    const before = again ? heading.getAttribute("aria-sort") : "none";
    const direction = before === "none" ? (numeric ? "descending" : "ascending")
      : before === "descending" ? "ascending" : "descending";
    order.value = buttons.indexOf(button);
    buttons.forEach((one) => one.parentElement.setAttribute("aria-sort", "none"));
    heading.setAttribute("aria-sort", direction);
    const sign = direction === "ascending" ? 1 : -1;
    const sorted = [...first].sort((a, b) => {
      const [one, other] = [valueOf(a, column), valueOf(b, column)];
      if (one === "" || other === "") return (one === "") - (other === "");
      return sign * compare(one, other, numeric);
    });
    body.append(...sorted);
  }

  function filter() {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const volume = !least || least.value === "" ? null : Number(least.value);
    let count = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      const late = row.dataset.late;
      const fits = wanted.every((word) => text.includes(word))
        && (kind.value === "" || row.dataset.kind.split(" ").includes(kind.value))
        && (volume === null || (late !== undefined && Number(late) >= volume));
      row.hidden = !fits;
      count += fits;
    }
    shown.textContent = `${count} of ${rows.length} exams shown`;
  }

  function unsort() {
    buttons.forEach((one) => one.parentElement.setAttribute("aria-sort", "none"));
    body.append(...first);
    order.value = "";
  }

  function reset() {
    unsort();
    words.value = kind.value = "";
    if (least) least.value = "";
    filter();
  }

  // A narrow screen has no headings.
  buttons.forEach((button, number) => order.append(new Option(button.textContent, number)));
  order.addEventListener("change", () => (order.value === "" ? unsort() : sort(buttons[order.value], false)));
  buttons.forEach((button) => button.addEventListener("click", () => sort(button)));
  [words, least].filter(Boolean).forEach((input) => input.addEventListener("input", filter));
  kind.addEventListener("change", filter);
  document.getElementById("reset").addEventListener("click", reset);
  document.querySelector(".filters").hidden = false;
  filter();
})();
