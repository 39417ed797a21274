"use strict";
// Draws each figure of class "chart" from the JSON in it: lines, axes, a legend of switches, and values under the pointer.
const SVG = "http://www.w3.org/2000/svg", WIDTH = 960, HEIGHT = 330, LEFT = 64, RIGHT = 14, TOP = 12, BOTTOM = 42;

function node(parent, name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const key in attributes) element.setAttribute(key, attributes[key]);
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
}

const write = (value) => (value === null ? "none" : String(Number(value.toPrecision(4))));

function ticks(low, high, logarithmic) {
  const marks = [];
  if (logarithmic) {
    for (let power = Math.floor(Math.log10(low)); 10 ** power <= high; power++)
      for (const digit of [1, 2, 5]) marks.push(digit * 10 ** power);
    const inside = marks.filter((mark) => mark >= low && mark <= high);
    if (inside.length > 1) return inside;
  }
  const rough = (high - low) / 6, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  marks.length = 0;
  for (let i = Math.ceil(low / step); i * step <= high; i++) marks.push(i * step);
  return marks;
}

function draw(figure) {
  const chart = JSON.parse(figure.querySelector("script").textContent), hidden = new Set(), key = "hidden: " + chart.title;
  try { JSON.parse(sessionStorage.getItem(key) || "[]").forEach((name) => hidden.add(name)); } catch { /* no storage */ }
  const svg = node(figure, "svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": chart.title });
  const legend = document.createElement("div"), tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  figure.append(legend, tip);
  let shown = [], toX, toY, fromX;

  function paint() {
    svg.replaceChildren();
    shown = chart.lines.filter((line) => !hidden.has(line.name));
    const all = shown.flatMap((line) => line.points), values = all.map((p) => p[1]).filter((y) => y !== null);
    if (!values.length) return void node(svg, "text", { x: WIDTH / 2, y: HEIGHT / 2, "text-anchor": "middle" }, "nothing is shown");
    const extent = (numbers) => numbers.reduce(([a, b], n) => [Math.min(a, n), Math.max(b, n)], [Infinity, -Infinity]);
    let [first, last] = extent(all.map((p) => p[0])), [low, high] = extent(values);
    const logarithmic = chart.logarithmic && low > 0;
    if (first === last) [first, last] = [first - 1, last + 1];
    if (low === high) [low, high] = logarithmic ? [low / 2, high * 2] : [low - (Math.abs(low) || 1) / 10, high + (Math.abs(high) || 1) / 10];
    else if (!logarithmic) [low, high] = [low > 0 && low < 0.3 * high ? 0 : low - (high - low) / 20, high + (high - low) / 20];
    const scale = logarithmic ? Math.log : Number, span = scale(high) - scale(low);
    toX = (x) => LEFT + ((x - first) / (last - first)) * (WIDTH - LEFT - RIGHT);
    fromX = (pixel) => first + ((pixel - LEFT) / (WIDTH - LEFT - RIGHT)) * (last - first);
    toY = (y) => HEIGHT - BOTTOM - ((scale(y) - scale(low)) / span) * (HEIGHT - TOP - BOTTOM);
    for (const y of ticks(low, high, logarithmic)) {
      node(svg, "line", { x1: LEFT, x2: WIDTH - RIGHT, y1: toY(y), y2: toY(y), stroke: "#e4e4e4" });
      node(svg, "text", { x: LEFT - 8, y: toY(y) + 4, "text-anchor": "end" }, write(y));
    }
    const whole = all.every((p) => Number.isInteger(p[0])); // steps are; the values of a histogram are not
    for (const x of ticks(first, last, false).filter((x) => !whole || Number.isInteger(x)))
      node(svg, "text", { x: toX(x), y: HEIGHT - BOTTOM + 18, "text-anchor": "middle" }, whole ? x.toLocaleString("en") : write(x));
    node(svg, "text", { x: WIDTH - RIGHT, y: HEIGHT - 6, "text-anchor": "end" }, chart.x);
    const alone = whole && !shown.some((line) => line.thin); // then lines are often equal: the first are broader, so that all are seen
    for (const [i, line] of [...shown].sort((a, b) => b.thin - a.thin).entries()) {
      let path = "", pen = "M";
      for (const [x, y] of line.points) {
        if (y !== null) path += `${pen}${toX(x).toFixed(1)},${toY(y).toFixed(1)}`;
        pen = y === null ? "M" : "L";
      }
      const style = { fill: "none", stroke: line.colour, "stroke-width": line.thin ? 1 : 2 + (alone ? 1.5 * (shown.length - 1 - i) : 0), "stroke-opacity": line.thin ? 0.5 : 1 };
      node(svg, "path", { d: path, ...style, ...(line.dashed ? { "stroke-dasharray": "6 4" } : {}) });
      if (line.points.length <= 25 && !line.thin)
        for (const [x, y] of line.points) if (y !== null) node(svg, "circle", { cx: toX(x), cy: toY(y), r: 3, fill: line.colour });
    }
  }

  for (const line of chart.lines) {
    const button = document.createElement("button"), mark = document.createElement("i");
    mark.style.background = line.dashed ? `repeating-linear-gradient(90deg, ${line.colour} 0 5px, transparent 5px 8px)` : line.colour;
    mark.style.opacity = line.thin ? 0.5 : 1;
    button.append(mark, line.name);
    button.setAttribute("aria-pressed", !hidden.has(line.name));
    button.onclick = () => {
      if (!hidden.delete(line.name)) hidden.add(line.name);
      button.setAttribute("aria-pressed", !hidden.has(line.name));
      try { sessionStorage.setItem(key, JSON.stringify([...hidden])); } catch { /* no storage */ }
      paint();
    };
    legend.append(button);
  }

  svg.onpointermove = (event) => {
    const box = svg.getBoundingClientRect(), pointer = fromX && fromX(((event.clientX - box.left) / box.width) * WIDTH);
    const nearest = (points) => points.reduce((a, b) => (Math.abs(b[0] - pointer) < Math.abs(a[0] - pointer) ? b : a));
    const lines = shown.filter((line) => line.points.length);
    if (!lines.length) return;
    const at = nearest(lines.map((line) => nearest(line.points)))[0];
    const rows = lines.filter((line) => nearest(line.points)[0] === at).map((line) => `${line.name}: ${write(nearest(line.points)[1])}`);
    tip.replaceChildren(...[`${chart.x} ${Number.isInteger(at) ? at.toLocaleString("en") : write(at)}`, ...rows].map((text) => {
      const row = document.createElement("div");
      row.textContent = text;
      return row;
    }));
    svg.querySelector(".at")?.remove();
    node(svg, "line", { class: "at", x1: toX(at), x2: toX(at), y1: TOP, y2: HEIGHT - BOTTOM, stroke: "#999" });
    tip.hidden = false;
    const left = (toX(at) / WIDTH) * box.width;
    tip.style.left = `${left + tip.offsetWidth + 12 < box.width ? left + 12 : left - tip.offsetWidth - 12}px`;
  };
  svg.onpointerleave = () => {
    tip.hidden = true;
    svg.querySelector(".at")?.remove();
  };
  paint();
}

document.querySelectorAll("figure.chart").forEach(draw);
