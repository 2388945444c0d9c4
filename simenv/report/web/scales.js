// What plots are made of: markers, scales, axes, and marks that can be pointed at.

const SHAPES = 4;

/** Marker of a series, centred at (x, y): ten colours, then the same with another shape. */
function marker(series, x, y, size = 5) {
  const kind = Math.floor(series / 10) % SHAPES;
  const at = { class: `mark series-${series % 10}` };
  if (kind === 0) return svg("circle", { ...at, cx: x, cy: y, r: size });
  const paths = [
    [
      [-1, -1],
      [1, -1],
      [1, 1],
      [-1, 1],
    ],
    [
      [0, -1.2],
      [1.1, 0.9],
      [-1.1, 0.9],
    ],
    [
      [0, -1.3],
      [1.3, 0],
      [0, 1.3],
      [-1.3, 0],
    ],
  ][kind - 1];
  return svg("polygon", { ...at, points: paths.map(([a, b]) => `${x + a * size},${y + b * size}`).join(" ") });
}

/** Round numbers between two others, about `count` of them. */
function ticks(low, high, count) {
  const step = 10 ** Math.floor(Math.log10((high - low) / count || 1));
  const wide = [1, 2, 5, 10].map((k) => k * step).find((s) => (high - low) / s <= count) || step;
  const found = [];
  for (let k = Math.ceil(low / wide - 1e-9); k * wide <= high + wide * 1e-9; k += 1) found.push(k * wide);
  return { values: found, decimals: Math.min(6, Math.max(0, -Math.floor(Math.log10(wide) + 1e-9))) };
}

/** Smallest and largest of the numbers that are known, a little wider; `and` are numbers that must be inside. */
function extent(numbers, and = []) {
  const known = [...numbers.filter((n) => n !== null && Number.isFinite(n)), ...and];
  if (!known.length) return [0, 1];
  const low = known.reduce((a, b) => Math.min(a, b));
  const high = known.reduce((a, b) => Math.max(a, b));
  const margin = (high - low || Math.abs(high) || 1) * 0.05;
  return [and.includes(low) ? low : low - margin, and.includes(high) ? high : high + margin];
}

/** The same for numbers that lie within limits by their nature: what intervals add beyond twice the values is cut. */
function limited(values, ends, [least, most]) {
  const known = values.filter((n) => n !== null && Number.isFinite(n));
  const room = known.length ? 2.2 * known.reduce((a, b) => Math.max(a, b)) : 1;
  const high = extent(ends, [least])[1];
  return [least, Math.min(most, high, room > least ? room : high)];
}

/** A number moved into a domain. */
function within([low, high], value) {
  return Math.min(high, Math.max(low, value));
}

function scale([low, high], from, to) {
  return (value) => from + ((value - low) / (high - low || 1)) * (to - from);
}

/** Grid, ticks and labels of both axes; without `y` only the horizontal axis. */
function axes(width, height, margin, x, y, labels) {
  const [left, right, top, bottom] = [margin.left, width - margin.right, margin.top, height - margin.bottom];
  const across = ticks(...x.domain, Math.max(3, Math.floor((right - left) / 80)));
  const parts = across.values.map((value) => [
    svg("line", { class: "grid", x1: x.at(value), x2: x.at(value), y1: top, y2: bottom }),
    svg(
      "text",
      { class: "tick", x: x.at(value), y: bottom + 16, "text-anchor": "middle" },
      value.toFixed(across.decimals),
    ),
  ]);
  if (y) {
    const up = ticks(...y.domain, Math.max(3, Math.floor((bottom - top) / 40)));
    parts.push(
      up.values.map((value) => [
        svg("line", { class: "grid", x1: left, x2: right, y1: y.at(value), y2: y.at(value) }),
        svg(
          "text",
          { class: "tick", x: left - 8, y: y.at(value) + 4, "text-anchor": "end" },
          value.toFixed(up.decimals),
        ),
      ]),
    );
    parts.push(svg("text", { class: "label", x: left, y: 14 }, labels.y));
  }
  parts.push(svg("text", { class: "label", x: right, y: height - 6, "text-anchor": "end" }, labels.x));
  return svg("g", { "aria-hidden": "true" }, parts);
}

function axis(domain, from, to) {
  return { domain, at: scale(domain, from, to) };
}

/** A mark that can be pointed at, focused and clicked. */
function active(element, lines, pick) {
  const press = (event) => {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      pick();
    }
  };
  const use = pick ? { click: pick, keydown: press, role: "button" } : { role: "img" };
  return tipped(set(element, { tabindex: 0, "aria-label": lines.join(", "), ...use }), lines);
}

function picture(width, height, name, ...children) {
  return svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": name }, children);
}
