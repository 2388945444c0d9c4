// Learning curves, reports of other commands, and what was run.

/** Curves of a training or an audit, each in a plot of its own. */
function curveFigures(curves, seriesOf) {
  return curves.map((curve) => {
    const series = Object.entries(curve.series).map(([part, points], i) => ({
      name: part,
      series: seriesOf(part, i),
      points: points.map(([x, y]) => ({
        x,
        value: [y, null, null],
        lines: [part || curve.metric, `${curve.x} ${number(x)}`, `${curve.metric} ${number(y, 4)}`],
      })),
    }));
    const it = figure(curve.metric, {
      numbers: () => [
        ["part", "", curve.x, curve.metric],
        series.flatMap((s) => s.points.map((p) => [s.name, "", number(p.x), number(p.value[0], 4)])),
      ],
      draw: (host) => lines(host, { series, xLabel: curve.x, yLabel: "", name: curve.metric, zero: false }),
    });
    it.redraw();
    const parts =
      series.length > 1 &&
      series.length <= 24 &&
      el(
        "p",
        { class: "legend" },
        series.map((s) =>
          el(
            "span",
            {},
            svg(
              "svg",
              { width: 12, height: 12, viewBox: "-7 -7 14 14", "aria-hidden": "true" },
              marker(s.series, 0, 0),
            ),
            s.name,
          ),
        ),
      );
    if (parts) it.root.firstChild.append(parts);
    return it.root;
  });
}

function trainingSection(summary) {
  if (!summary.training.length) return null;
  return section(
    "training",
    "Training",
    summary.training.map((t) => [
      el("h3", { dir: "auto" }, t.title),
      el(
        "div",
        { class: "figures small" },
        curveFigures(t.curves, (part, i) => i),
      ),
    ]),
  );
}

/** Reports of validate-judge and audit. */
function reportSection(summary, seriesOf) {
  if (!summary.reports.length) return null;
  const known = new Set(summary.mechanisms);
  const shown = summary.reports.map((report) => [
    el("h3", { dir: "auto" }, report.title),
    el("p", { class: "lead", dir: "auto" }, report.caption),
    report.warnings.length > 0 &&
      el(
        "ul",
        { class: "notes" },
        report.warnings.map((text) => el("li", { dir: "auto" }, text)),
      ),
    tabs(
      report.tables
        .filter((t) => t.rows.length > 0)
        .map((t) => [
          t.title,
          [
            dataTable(t.header, t.rows, { caption: t.title, texts: t.texts }),
            t.note && el("p", { class: "small note", dir: "auto" }, t.note),
          ],
        ]),
    ),
    report.curves.length > 0 &&
      el(
        "div",
        { class: "figures" },
        curveFigures(report.curves, (part, i) => (known.has(part) ? seriesOf(part) : i)),
      ),
  ]);
  return section(
    "reports",
    "Validity and incentives",
    shown.map((parts) => el("div", { class: "report" }, parts)),
  );
}

/** What was run. */
function aboutSection(summary) {
  return section(
    "about",
    "About",
    summary.runs.map((run) =>
      el(
        "div",
        {},
        el("h3", { dir: "auto" }, run.name),
        el(
          "dl",
          {},
          run.rows.map(([name, text]) => [el("dt", {}, name), el("dd", { dir: "auto" }, text)]),
        ),
      ),
    ),
  );
}
