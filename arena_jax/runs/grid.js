"use strict";
// Builds each figure of class "grid" from the JSON in it: a table of cells, and what is known of the one under the pointer.
function build(figure) {
  const grid = JSON.parse(figure.querySelector("script").textContent);
  const largest = Math.max(1e-300, ...grid.cells.map((cell) => Math.abs(cell.value)));
  const table = document.createElement("table"), panel = document.createElement("div"), buttons = new Map();
  panel.className = "panel";
  panel.setAttribute("aria-live", "polite");
  panel.textContent = grid.hint;
  const make = (parent, tag, text) => {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    parent.append(element);
    return element;
  };
  const head = make(table, "tr");
  make(head, "th");
  grid.columns.forEach((column) => make(head, "th", column));
  const rows = grid.rows.map((name) => {
    const row = make(table, "tr");
    make(row, "th", name);
    return grid.columns.map(() => make(row, "td"));
  });

  function show(cell) {
    panel.replaceChildren();
    make(panel, "b", cell.name);
    const facts = make(panel, "table");
    for (const [name, value] of cell.facts) {
      const row = make(facts, "tr");
      make(row, "td", name);
      make(row, "td", value).className = "n";
    }
    if (cell.partners.length) make(panel, "p", grid.partners);
    const list = make(panel, "table");
    buttons.forEach((button) => button.style.removeProperty("outline"));
    for (const [name, value] of cell.partners) {
      const row = make(list, "tr");
      make(row, "td", name);
      make(row, "td", (value > 0 ? "+" : "") + Number(value.toPrecision(3))).className = "n";
      buttons.get(name).style.outline = `3px solid ${value < 0 ? "#b8460e" : "#1b7f4b"}`;
    }
  }

  for (const cell of grid.cells) {
    const button = make(rows[cell.row][cell.column], "button");
    const strength = Math.sqrt(Math.abs(cell.value) / largest);
    button.style.background = `rgb(${cell.value < 0 ? "200 80 20" : "30 90 190"} / ${(0.06 + 0.94 * strength).toFixed(3)})`;
    button.setAttribute("aria-label", cell.name);
    for (const event of ["pointerenter", "focus"]) button.addEventListener(event, () => show(cell));
    buttons.set(cell.name, button);
  }
  const box = make(figure, "div");
  box.className = "side";
  const scroll = make(box, "div");
  scroll.className = "t";
  scroll.append(table);
  box.append(panel);
}

document.querySelectorAll("figure.grid").forEach(build);
