// Figures with headings and numbers, and the sections of a run's table: summary, trade-offs, differences.

/** A figure with a heading, choices, a plot and its numbers. `numbers` returns [header, rows]. */
function figure(title, { choices = [], note = null, numbers, draw, wide = false }) {
  const host = el("div", { class: "plot" });
  const table = el("div");
  const refresh = () => details.open && table.replaceChildren(dataTable(...numbers(), { texts: 2 }));
  const details = el("details", { class: "numbers", toggle: () => refresh() }, el("summary", {}, "Numbers"), table);
  const root = el(
    "figure",
    { class: wide ? "wide" : null },
    el(
      "figcaption",
      {},
      el("h3", {}, title),
      note && el("p", {}, note),
      choices.length > 0 && el("div", { class: "choices" }, choices),
    ),
    host,
    details,
  );
  const redraw = () => {
    draw(host);
    refresh();
  };
  return { root, redraw };
}

function section(id, title, ...children) {
  return el("section", { id, "aria-labelledby": `${id}-title` }, el("h2", { id: `${id}-title` }, title), children);
}

function intervalCells([value, low, high]) {
  return [value, low, high].map((n) => number(n, 4));
}

/** The run's own tables. */
function summarySection(summary) {
  const notes = summary.notes.map((note) => el("li", { dir: "auto" }, note));
  return section(
    "summary",
    "Summary",
    el("p", { class: "lead", dir: "auto" }, summary.caption),
    notes.length > 0 && el("ul", { class: "notes" }, notes),
    tabs(summary.tables.map((t) => [t.title, dataTable(t.header, t.rows, { caption: t.title, texts: t.texts })])),
  );
}

let groups = 0;

/** Tables, one of which is shown; on paper all are. parts: [[title, element]]. */
function tabs(parts) {
  const short = (title) => title.split(/[,:] /)[0].replace(/ \(.*/, "");
  const show = (i) => {
    buttons.forEach((button, k) => set(button, { "aria-selected": String(k === i), tabindex: k === i ? 0 : -1 }));
    panels.forEach((panel, k) => panel.toggleAttribute("hidden", k !== i));
  };
  const move = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = (buttons.indexOf(event.target) + step + buttons.length) % buttons.length;
    show(next);
    buttons[next].focus();
  };
  groups += 1;
  const group = groups;
  const name = (kind, i) => `${kind}-${group}-${i}`;
  const buttons = parts.map(([title], i) =>
    el(
      "button",
      {
        type: "button",
        role: "tab",
        class: "tab",
        id: name("tab", i),
        "aria-controls": name("panel", i),
        click: () => show(i),
      },
      short(title),
    ),
  );
  const panels = parts.map(([, part], i) =>
    el("div", { role: "tabpanel", id: name("panel", i), "aria-labelledby": name("tab", i) }, part),
  );
  show(0);
  return el(
    "div",
    { class: "tabs" },
    el("div", { role: "tablist", "aria-label": "Tables", keydown: move }, buttons),
    panels,
  );
}

/** Revenue against what users and advertisers get. */
function tradeoffSection(summary, seriesOf, browse) {
  const known = summary.frontiers;
  if (!known.length) return null;
  const one = (first) => {
    let shown = known[first];
    const options = known.map((f, i) => [i, f.x]);
    const pick = choice(
      "",
      options,
      (i) => {
        shown = known[i];
        it.redraw();
      },
      first,
    );
    const it = figure("Revenue against", {
      choices: [pick],
      numbers: () => [
        ["mechanism", "", shown.x, "low", "high", shown.y, "low", "high"],
        shown.points.map((p) => [p.mechanism, p.best ? "frontier" : "", ...intervalCells(p.x), ...intervalCells(p.y)]),
      ],
      draw: (host) =>
        scatter(host, {
          points: shown.points.map((p) => ({ ...p, name: p.mechanism, series: seriesOf(p.mechanism) })),
          xLabel: shown.x,
          yLabel: shown.y,
          name: `${shown.y} against ${shown.x}`,
          pick: (mechanism) => browse({ mechanism }),
        }),
    });
    it.redraw();
    return it.root;
  };
  const place = (metric, otherwise) =>
    Math.max(
      otherwise,
      known.findIndex((f) => f.metric === metric),
    );
  const second = known.length > 1 && place("welfare", 1);
  return section(
    "tradeoffs",
    "Trade-offs",
    el(
      "p",
      { class: "lead" },
      "Each mechanism with 95% intervals. The line joins those that no other one beats in both. A click on a mechanism shows its answers.",
    ),
    el("div", { class: "figures" }, one(place("satisfaction", 0)), second !== false && one(second)),
  );
}

/** Differences against the baseline. */
function differenceSection(summary, seriesOf, browse) {
  const known = summary.differences;
  if (!known.length) return null;
  let shown = known[0];
  const pick = choice(
    "of",
    known.map((d, i) => [i, d.label]),
    (i) => {
      shown = known[i];
      it.redraw();
    },
  );
  const rows = () => [...shown.rows].sort((a, b) => b.estimate[0] - a.estimate[0]);
  const said = (d) =>
    [
      d.mechanism,
      `${d.paired ? "paired" : "other auctions, unpaired"}: ${estimate(d.estimate)}`,
      d.tied && `tied: ${d.tied}`,
    ].filter(Boolean);
  const it = figure("Difference", {
    choices: [pick],
    wide: true,
    numbers: () => [
      ["mechanism", "", "difference", "low", "high"],
      rows().map((d) => [
        d.mechanism,
        [d.paired ? "paired" : "unpaired", d.tied && `tied: ${d.tied}`].filter(Boolean).join(", "),
        ...intervalCells(d.estimate),
      ]),
    ],
    draw: (host) =>
      forest(host, {
        rows: rows().map((d) => ({
          label: d.mechanism,
          marks: [
            {
              name: d.mechanism,
              series: seriesOf(d.mechanism),
              value: d.estimate,
              hollow: Boolean(d.tied),
              lines: said(d),
              pick: () => browse({ mechanism: d.mechanism }),
            },
          ],
        })),
        xLabel: `${shown.label}, minus ${summary.baseline}`,
        name: `Differences of ${shown.label} against ${summary.baseline}`,
        zero: true,
      }),
  });
  it.redraw();
  return section(
    "differences",
    `Differences against ${summary.baseline}`,
    el(
      "p",
      { class: "lead" },
      "On the auctions that both answered. An interval that does not cross the line at 0 is a difference at the 95% level, one comparison at a time. Hollow marks are ties: the interval crosses the line, or the difference is inside the judge's noise floor.",
    ),
    el("div", { class: "figures" }, it.root),
  );
}
