// Plots as SVG: points with intervals, rows with intervals, and lines.

/** Points with intervals in both directions. points: [{name, series, x, y, best}], x and y: [value, low, high]. */
function scatter(host, { points, xLabel, yLabel, name, pick }) {
  drawn(host, (width) => {
    const height = Math.min(460, Math.max(320, width * 0.72));
    const margin = { left: 52, right: 16, top: 26, bottom: 44 };
    const x = axis(extent(points.flatMap((p) => p.x)), margin.left, width - margin.right);
    const y = axis(extent(points.flatMap((p) => p.y)), height - margin.bottom, margin.top);
    const placed = points.map((p) => ({ ...p, at: [x.at(p.x[0]), y.at(p.y[0])] }));
    const bars = placed.map((p) =>
      svg(
        "g",
        { class: `bar series-${p.series % 10}` },
        p.x[1] !== null && svg("line", { x1: x.at(p.x[1]), x2: x.at(p.x[2]), y1: p.at[1], y2: p.at[1] }),
        p.y[1] !== null && svg("line", { x1: p.at[0], x2: p.at[0], y1: y.at(p.y[1]), y2: y.at(p.y[2]) }),
      ),
    );
    const best = placed.filter((p) => p.best).sort((a, b) => a.at[0] - b.at[0]);
    const edge =
      best.length > 1 && svg("polyline", { class: "edge", points: best.map((p) => p.at.join(",")).join(" ") });
    const marks = placed.map((p) => {
      const near = placed
        .filter((other) => other !== p && Math.hypot(other.at[0] - p.at[0], other.at[1] - p.at[1]) < 8)
        .map((other) => other.name);
      const lines = [
        p.name,
        `${xLabel}: ${estimate(p.x)}`,
        `${yLabel}: ${estimate(p.y)}`,
        p.best && "no other has more of both",
        near.length > 0 && `at the same place: ${near.join(", ")}`,
      ];
      return active(
        svg(
          "g",
          { class: "point", "data-mechanism": p.name },
          svg("circle", { class: "target", cx: p.at[0], cy: p.at[1], r: 8 }),
          marker(p.series, ...p.at),
        ),
        lines.filter(Boolean),
        pick && (() => pick(p.name)),
      );
    });
    const area = { left: margin.left, right: width - margin.right, top: margin.top, bottom: height - margin.bottom };
    host.replaceChildren(
      picture(
        width,
        height,
        name,
        axes(width, height, margin, x, y, { x: xLabel, y: yLabel }),
        edge,
        bars,
        marks,
        names(placed, area),
      ),
    );
  });
}

/** Names beside points, where they hide no other name or point; what finds no place has its name in the tip only. */
function names(placed, area) {
  const taken = placed.map((p) => ({ left: p.at[0] - 6, right: p.at[0] + 6, top: p.at[1] - 6, bottom: p.at[1] + 6 }));
  const order = [...placed].sort((a, b) => Number(b.best) - Number(a.best) || b.at[1] - a.at[1]);
  return order.map((p) => {
    const wide = p.name.length * 6.4;
    const [px, py] = p.at;
    const places = [
      [9, 4, "start"],
      [-9, 4, "end"],
      [0, -10, "middle"],
      [0, 19, "middle"],
      [8, -8, "start"],
      [8, 16, "start"],
      [-8, -8, "end"],
      [-8, 16, "end"],
    ];
    for (const [dx, dy, anchor] of places) {
      const left = px + dx - (anchor === "end" ? wide : anchor === "middle" ? wide / 2 : 0);
      const box = { left, right: left + wide, top: py + dy - 10, bottom: py + dy + 2 };
      const inside =
        box.left >= area.left && box.right <= area.right && box.top >= area.top && box.bottom <= area.bottom;
      if (
        inside &&
        !taken.some((t) => t.left < box.right && t.right > box.left && t.top < box.bottom && t.bottom > box.top)
      ) {
        taken.push(box);
        return svg(
          "text",
          { class: "name", x: px + dx, y: py + dy, "text-anchor": anchor, "aria-hidden": "true" },
          p.name,
        );
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
    const domain = limits
      ? limited(
          all.map((m) => m.value[0]),
          ends,
          limits,
        )
      : extent(ends, zero ? [0] : []);
    const x = axis(domain, margin.left, width - margin.right);
    const end = (value) => x.at(within(domain, value));
    const parts = rows.map((row, i) => {
      const top = margin.top + i * tall;
      const shown = row.label.length > fits ? `${row.label.slice(0, fits - 1)}…` : row.label;
      return [
        svg("rect", { class: i % 2 ? "band" : "band odd", x: 0, y: top, width, height: tall }),
        svg(
          "text",
          { class: "row", x: margin.left - 10, y: top + tall / 2 + 4, "text-anchor": "end" },
          shown,
          svg("title", {}, row.label),
        ),
      ];
    });
    const marks = rows.flatMap((row, i) =>
      row.marks.map((m, k) => {
        const y = margin.top + i * tall + tall / 2 + (k - (row.marks.length - 1) / 2) * 11;
        if (m.value[0] === null) return null;
        const line =
          m.value[1] !== null &&
          svg("line", { class: `bar series-${m.series % 10}`, x1: end(m.value[1]), x2: end(m.value[2]), y1: y, y2: y });
        return active(
          svg(
            "g",
            { class: m.hollow ? "point hollow" : "point", "data-mechanism": m.name },
            line,
            svg("circle", { class: "target", cx: x.at(m.value[0]), cy: y, r: 7 }),
            marker(m.series, x.at(m.value[0]), y, 4),
          ),
          m.lines,
          m.pick,
        );
      }),
    );
    const naught =
      zero && svg("line", { class: "zero", x1: x.at(0), x2: x.at(0), y1: margin.top, y2: height - margin.bottom });
    host.replaceChildren(
      picture(width, height, name, parts, axes(width, height, margin, x, null, { x: xLabel }), naught, marks),
    );
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
    const domain = limits
      ? limited(
          points.map((p) => p.value[0]),
          ends,
          limits,
        )
      : extent(ends, zero ? [0] : []);
    const y = axis(domain, height - margin.bottom, margin.top);
    const end = (value) => y.at(within(domain, value));
    const parts = series.map((s) => {
      const known = s.points.filter((p) => p.value[0] !== null);
      const path = known.map((p) => `${x.at(p.x)},${y.at(p.value[0])}`).join(" ");
      return svg(
        "g",
        {},
        svg("polyline", { class: `line series-${s.series % 10}`, points: path }),
        known.map((p) => {
          const bar =
            p.value[1] !== null &&
            p.value[1] !== undefined &&
            svg("line", {
              class: `bar series-${s.series % 10}`,
              x1: x.at(p.x),
              x2: x.at(p.x),
              y1: end(p.value[1]),
              y2: end(p.value[2]),
            });
          return active(
            svg(
              "g",
              { class: "point", "data-mechanism": s.name },
              bar,
              svg("circle", { class: "target", cx: x.at(p.x), cy: y.at(p.value[0]), r: 7 }),
              marker(s.series, x.at(p.x), y.at(p.value[0]), 3.5),
            ),
            p.lines,
            pick && (() => pick(s.name)),
          );
        }),
      );
    });
    host.replaceChildren(
      picture(width, height, name, axes(width, height, margin, x, y, { x: xLabel, y: yLabel }), parts),
    );
  });
}
