"use strict";
(() => {
  const table = document.getElementById("fleet");
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  // A repository that failed has no numbers: it stays at the end however the table is sorted.
  const value = (row, at, kind) => {
    const cell = row.cells[at];
    if (!cell || cell.dataset.value === undefined) return null;
    return kind === "number" ? Number(cell.dataset.value) : cell.dataset.value.toLowerCase();
  };
  heads.forEach((head, at) => {
    head.querySelector("button").addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") === "descending" ||
        (head.getAttribute("aria-sort") === null && head.dataset.kind === "text");
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const kind = head.dataset.kind;
      rows.sort((a, b) => {
        const x = value(a, at, kind), y = value(b, at, kind);
        if (x === null || y === null) return (x === null) - (y === null);
        return (x < y ? -1 : x > y ? 1 : 0) * (up ? 1 : -1);
      });
      body.append(...rows);
    });
  });
  const filter = document.getElementById("filter");
  const shown = document.getElementById("shown");
  const show = () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const row of rows) {
      row.hidden = !words.every((word) => row.dataset.words.includes(word));
      count += !row.hidden;
    }
    shown.textContent = `${count} of ${rows.length}`;
  };
  filter.addEventListener("input", show);
  document.getElementById("tools").hidden = false;
  show();
  document.documentElement.dataset.ready = "yes";
})();
