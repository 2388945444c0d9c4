// Plots as SVG: points with intervals, rows with intervals, and lines. Each has its numbers in a table beside it.

const SHAPES = 4;

/** Marker of a series, centred at (x, y): ten colours, then the same with another shape. */
function marker(series, x, y, size = 5) {
  const kind = Math.floor(series / 10) % SHAPES;
  const at = { class: `mark series-${series % 10}` };
  if (kind === 0) return svg("circle", { ...at, cx: x, cy: y, r: size });
  const paths = [
    [[-1, -1], [1, -1], [1, 1], [-1, 1]],
    [[0, -1.2], [1.1, 0.9], [-1.1, 0.9]],
    [[0, -1.3], [1.3, 0], [0, 1.3], [-1.3, 0]],
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
    svg("text", { class: "tick", x: x.at(value), y: bottom + 16, "text-anchor": "middle" }, value.toFixed(across.decimals)),
  ]);
  if (y) {
    const up = ticks(...y.domain, Math.max(3, Math.floor((bottom - top) / 40)));
    parts.push(
      up.values.map((value) => [
        svg("line", { class: "grid", x1: left, x2: right, y1: y.at(value), y2: y.at(value) }),
        svg("text", { class: "tick", x: left - 8, y: y.at(value) + 4, "text-anchor": "end" }, value.toFixed(up.decimals)),
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

/** Points with intervals in both directions. points: [{name, series, x, y, best}], x and y: [value, low, high]. */
function scatter(host, { points, xLabel, yLabel, name, pick }) {
  drawn(host, (width) => {
    const height = Math.min(460, Math.max(320, width * 0.72));
    const margin = { left: 52, right: 16, top: 26, bottom: 44 };
    const x = axis(extent(points.flatMap((p) => p.x)), margin.left, width - margin.right);
    const y = axis(extent(points.flatMap((p) => p.y)), height - margin.bottom, margin.top);
    const placed = points.map((p) => ({ ...p, at: [x.at(p.x[0]), y.at(p.y[0])] }));
    const bars = placed.map((p) =>
      svg("g", { class: `bar series-${p.series % 10}` },
        p.x[1] !== null && svg("line", { x1: x.at(p.x[1]), x2: x.at(p.x[2]), y1: p.at[1], y2: p.at[1] }),
        p.y[1] !== null && svg("line", { x1: p.at[0], x2: p.at[0], y1: y.at(p.y[1]), y2: y.at(p.y[2]) }),
      ),
    );
    const best = placed.filter((p) => p.best).sort((a, b) => a.at[0] - b.at[0]);
    const edge = best.length > 1 && svg("polyline", { class: "edge", points: best.map((p) => p.at.join(",")).join(" ") });
    const marks = placed.map((p) => {
      const near = placed.filter((other) => other !== p && Math.hypot(other.at[0] - p.at[0], other.at[1] - p.at[1]) < 8).map((other) => other.name);
      const lines = [p.name, `${xLabel}: ${estimate(p.x)}`, `${yLabel}: ${estimate(p.y)}`, p.best && "no other has more of both", near.length > 0 && `at the same place: ${near.join(", ")}`];
      return active(svg("g", { class: "point", "data-mechanism": p.name }, svg("circle", { class: "target", cx: p.at[0], cy: p.at[1], r: 8 }), marker(p.series, ...p.at)), lines.filter(Boolean), pick && (() => pick(p.name)));
    });
    const area = { left: margin.left, right: width - margin.right, top: margin.top, bottom: height - margin.bottom };
    host.replaceChildren(picture(width, height, name, axes(width, height, margin, x, y, { x: xLabel, y: yLabel }), edge, bars, marks, names(placed, area)));
  });
}

/** Names beside points, where they hide no other name or point; what finds no place has its name in the tip only. */
function names(placed, area) {
  const taken = placed.map((p) => ({ left: p.at[0] - 6, right: p.at[0] + 6, top: p.at[1] - 6, bottom: p.at[1] + 6 }));
  const order = [...placed].sort((a, b) => Number(b.best) - Number(a.best) || b.at[1] - a.at[1]);
  return order.map((p) => {
    const wide = p.name.length * 6.4;
    const [px, py] = p.at;
    const places = [[9, 4, "start"], [-9, 4, "end"], [0, -10, "middle"], [0, 19, "middle"], [8, -8, "start"], [8, 16, "start"], [-8, -8, "end"], [-8, 16, "end"]];
    for (const [dx, dy, anchor] of places) {
      const left = px + dx - (anchor === "end" ? wide : anchor === "middle" ? wide / 2 : 0);
      const box = { left, right: left + wide, top: py + dy - 10, bottom: py + dy + 2 };
      const inside = box.left >= area.left && box.right <= area.right && box.top >= area.top && box.bottom <= area.bottom;
      if (inside && !taken.some((t) => t.left < box.right && t.right > box.left && t.top < box.bottom && t.bottom > box.top)) {
        taken.push(box);
        return svg("text", { class: "name", x: px + dx, y: py + dy, "text-anchor": anchor, "aria-hidden": "true" }, p.name);
      }
    }
    return null;
  });
}

/**
 * Rows with intervals. rows: [{label, marks: [{name, series, value: [value, low, high], lines, pick}]}].
 * `limits`: the numbers lie between these, so that the plot ends there.
 */
function forest(host, { rows, xLabel, name, zero, limits = null }) {
  drawn(host, (width) => {
    const most = Math.max(1, ...rows.map((row) => row.marks.length));
    const tall = Math.max(24, most * 11 + 8);
    const letters = Math.max(4, ...rows.map((row) => row.label.length));
    const margin = { left: Math.min(width * 0.4, letters * 6.6 + 16), right: 16, top: 6, bottom: 44 };
    const height = rows.length * tall + margin.top + margin.bottom;
    const fits = Math.floor((margin.left - 16) / 6.6);
    const all = rows.flatMap((row) => row.marks);
    const ends = all.flatMap((m) => m.value);
    const domain = limits ? limited(all.map((m) => m.value[0]), ends, limits) : extent(ends, zero ? [0] : []);
    const x = axis(domain, margin.left, width - margin.right);
    const end = (value) => x.at(within(domain, value));
    const parts = rows.map((row, i) => {
      const top = margin.top + i * tall;
      const shown = row.label.length > fits ? `${row.label.slice(0, fits - 1)}…` : row.label;
      return [
        svg("rect", { class: i % 2 ? "band" : "band odd", x: 0, y: top, width, height: tall }),
        svg("text", { class: "row", x: margin.left - 10, y: top + tall / 2 + 4, "text-anchor": "end" }, shown, svg("title", {}, row.label)),
      ];
    });
    const marks = rows.flatMap((row, i) =>
      row.marks.map((m, k) => {
        const y = margin.top + i * tall + tall / 2 + (k - (row.marks.length - 1) / 2) * 11;
        if (m.value[0] === null) return null;
        const line = m.value[1] !== null && svg("line", { class: `bar series-${m.series % 10}`, x1: end(m.value[1]), x2: end(m.value[2]), y1: y, y2: y });
        return active(svg("g", { class: m.hollow ? "point hollow" : "point", "data-mechanism": m.name }, line, svg("circle", { class: "target", cx: x.at(m.value[0]), cy: y, r: 7 }), marker(m.series, x.at(m.value[0]), y, 4)), m.lines, m.pick);
      }),
    );
    const naught = zero && svg("line", { class: "zero", x1: x.at(0), x2: x.at(0), y1: margin.top, y2: height - margin.bottom });
    host.replaceChildren(picture(width, height, name, parts, axes(width, height, margin, x, null, { x: xLabel }), naught, marks));
  });
}

/** Lines with intervals. series: [{name, series, points: [{x, value: [value, low, high], lines}]}]. */
function lines(host, { series, xLabel, yLabel, name, zero = true, limits = null, pick }) {
  drawn(host, (width) => {
    const height = Math.min(380, Math.max(220, width * 0.6));
    const margin = { left: 52, right: 16, top: 26, bottom: 44 };
    const points = series.flatMap((s) => s.points);
    const x = axis(extent(points.map((p) => p.x)), margin.left, width - margin.right);
    const ends = points.flatMap((p) => p.value);
    const domain = limits ? limited(points.map((p) => p.value[0]), ends, limits) : extent(ends, zero ? [0] : []);
    const y = axis(domain, height - margin.bottom, margin.top);
    const end = (value) => y.at(within(domain, value));
    const parts = series.map((s) => {
      const known = s.points.filter((p) => p.value[0] !== null);
      const path = known.map((p) => `${x.at(p.x)},${y.at(p.value[0])}`).join(" ");
      return svg("g", {},
        svg("polyline", { class: `line series-${s.series % 10}`, points: path }),
        known.map((p) => {
          const bar = p.value[1] !== null && p.value[1] !== undefined && svg("line", { class: `bar series-${s.series % 10}`, x1: x.at(p.x), x2: x.at(p.x), y1: end(p.value[1]), y2: end(p.value[2]) });
          return active(svg("g", { class: "point", "data-mechanism": s.name }, bar, svg("circle", { class: "target", cx: x.at(p.x), cy: y.at(p.value[0]), r: 7 }), marker(s.series, x.at(p.x), y.at(p.value[0]), 3.5)), p.lines, pick && (() => pick(s.name)));
        }),
      );
    });
    host.replaceChildren(picture(width, height, name, axes(width, height, margin, x, y, { x: xLabel, y: yLabel }), parts));
  });
}
