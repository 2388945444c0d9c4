// The sections above the answers: tables, trade-offs, differences, clicks, bids, training and reports of other commands.

/** A figure with a heading, choices, a plot and its numbers. `numbers` returns [header, rows]. */
function figure(title, { choices = [], note = null, numbers, draw, wide = false }) {
  const host = el("div", { class: "plot" });
  const table = el("div");
  const refresh = () => details.open && table.replaceChildren(dataTable(...numbers(), { texts: 2 }));
  const details = el("details", { class: "numbers", toggle: () => refresh() }, el("summary", {}, "Numbers"), table);
  const root = el("figure", { class: wide ? "wide" : null }, el("figcaption", {}, el("h3", {}, title), note && el("p", {}, note), choices.length > 0 && el("div", { class: "choices" }, choices)), host, details);
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
  const buttons = parts.map(([title], i) => el("button", { type: "button", role: "tab", class: "tab", id: name("tab", i), "aria-controls": name("panel", i), click: () => show(i) }, short(title)));
  const panels = parts.map(([, part], i) => el("div", { role: "tabpanel", id: name("panel", i), "aria-labelledby": name("tab", i) }, part));
  show(0);
  return el("div", { class: "tabs" }, el("div", { role: "tablist", "aria-label": "Tables", keydown: move }, buttons), panels);
}

/** Revenue against what users and advertisers get. */
function tradeoffSection(summary, seriesOf, browse) {
  const known = summary.frontiers;
  if (!known.length) return null;
  const one = (first) => {
    let shown = known[first];
    const options = known.map((f, i) => [i, f.x]);
    const pick = choice("", options, (i) => {
      shown = known[i];
      it.redraw();
    }, first);
    const it = figure("Revenue against", {
      choices: [pick],
      numbers: () => [["mechanism", "", shown.x, "low", "high", shown.y, "low", "high"], shown.points.map((p) => [p.mechanism, p.best ? "frontier" : "", ...intervalCells(p.x), ...intervalCells(p.y)])],
      draw: (host) => scatter(host, { points: shown.points.map((p) => ({ ...p, name: p.mechanism, series: seriesOf(p.mechanism) })), xLabel: shown.x, yLabel: shown.y, name: `${shown.y} against ${shown.x}`, pick: (mechanism) => browse({ mechanism }) }),
    });
    it.redraw();
    return it.root;
  };
  const place = (metric, otherwise) => Math.max(otherwise, known.findIndex((f) => f.metric === metric));
  const second = known.length > 1 && place("welfare", 1);
  return section("tradeoffs", "Trade-offs",
    el("p", { class: "lead" }, "Each mechanism with 95% intervals. The line joins those that no other one beats in both. A click on a mechanism shows its answers."),
    el("div", { class: "figures" }, one(place("satisfaction", 0)), second !== false && one(second)));
}

/** Differences against the baseline. */
function differenceSection(summary, seriesOf, browse) {
  const known = summary.differences;
  if (!known.length) return null;
  let shown = known[0];
  const pick = choice("of", known.map((d, i) => [i, d.label]), (i) => {
    shown = known[i];
    it.redraw();
  });
  const rows = () => [...shown.rows].sort((a, b) => b.estimate[0] - a.estimate[0]);
  const said = (d) => [d.mechanism, `${d.paired ? "paired" : "other auctions, unpaired"}: ${estimate(d.estimate)}`, d.tied && `tied: ${d.tied}`].filter(Boolean);
  const it = figure("Difference", {
    choices: [pick],
    wide: true,
    numbers: () => [["mechanism", "", "difference", "low", "high"], rows().map((d) => [d.mechanism, [d.paired ? "paired" : "unpaired", d.tied && `tied: ${d.tied}`].filter(Boolean).join(", "), ...intervalCells(d.estimate)])],
    draw: (host) => forest(host, {
      rows: rows().map((d) => ({ label: d.mechanism, marks: [{ name: d.mechanism, series: seriesOf(d.mechanism), value: d.estimate, hollow: Boolean(d.tied), lines: said(d), pick: () => browse({ mechanism: d.mechanism }) }] })),
      xLabel: `${shown.label}, minus ${summary.baseline}`, name: `Differences of ${shown.label} against ${summary.baseline}`, zero: true,
    }),
  });
  it.redraw();
  return section("differences", `Differences against ${summary.baseline}`,
    el("p", { class: "lead" }, "On the auctions that both answered. An interval that does not cross the line at 0 is a difference at the 95% level, one comparison at a time. Hollow marks are ties: the interval crosses the line, or the difference is inside the judge's noise floor."),
    el("div", { class: "figures" }, it.root));
}

/** Buttons that say which mechanisms the plots below show. */
function mechanismButtons(names, seriesOf, chosen, changed) {
  const buttons = names.map((name) => {
    const press = () => {
      if (chosen.has(name)) chosen.delete(name);
      else chosen.add(name);
      update();
    };
    return el("button", { type: "button", class: "chip", click: press, "data-mechanism": name }, svg("svg", { width: 12, height: 12, viewBox: "-7 -7 14 14", "aria-hidden": "true" }, marker(seriesOf(name), 0, 0)), el("span", { dir: "auto" }, name));
  });
  const update = () => {
    buttons.forEach((button, i) => button.setAttribute("aria-pressed", chosen.has(names[i])));
    changed();
  };
  const all = (on) => () => {
    names.forEach((name) => (on ? chosen.add(name) : chosen.delete(name)));
    update();
  };
  buttons.forEach((button, i) => button.setAttribute("aria-pressed", chosen.has(names[i])));
  return el("div", { class: "chips", role: "group", "aria-label": "Mechanisms in the plots below" }, buttons,
    el("button", { type: "button", class: "plain", click: all(true) }, "all"), el("button", { type: "button", class: "plain", click: all(false) }, "none"));
}

/** Click-through rate by group, and allocation and payment by bid. */
function clickSection(summary, seriesOf, browse) {
  const groupings = Object.keys(summary.clicks);
  const names = summary.mechanisms.filter((name) => name in summary.bids);
  if (!groupings.length && !names.length) return null;
  const ever = names.filter((name) => groupings.some((by) => summary.clicks[by].some((r) => r.mechanism === name)));
  const chosen = new Set((ever.length ? ever : names).slice(0, 4));
  const made = [];
  for (const by of groupings.filter((name) => name === "position" || name === "category")) made.push(rateFigure(summary, seriesOf, chosen, [by], browse));
  const people = groupings.filter((name) => name !== "position" && name !== "category");
  if (people.length) made.push(rateFigure(summary, seriesOf, chosen, people, browse));
  if (names.length) made.push(bidFigure(summary, seriesOf, chosen, "shown", browse), bidFigure(summary, seriesOf, chosen, "payment", browse));
  const redraw = () => made.forEach((it) => it.redraw());
  redraw();
  const basis = summary.expected ? "Clicks are click probabilities." : "Clicks are realised.";
  return section("clicks", "Clicks and payments",
    el("p", { class: "lead" }, `${basis} Shown ads without a verdict are left out of these plots. Intervals are clustered by persona.`),
    mechanismButtons(names, seriesOf, chosen, redraw), el("div", { class: "columns" }, made.map((it) => it.root)));
}

function rateFigure(summary, seriesOf, chosen, groupings, browse) {
  let by = groupings[0];
  const title = { position: "Click-through rate by position", category: "Click-through rate by the ad's category" };
  const pick = groupings.length > 1 ? [choice("by", groupings.map((name) => [name, name]), (name) => {
    by = name;
    it.redraw();
  })] : [];
  const rates = () => summary.clicks[by].filter((rate) => chosen.has(rate.mechanism)).sort((a, b) => seriesOf(a.mechanism) - seriesOf(b.mechanism));
  const groups = () => [...new Set(summary.clicks[by].map((rate) => rate.group))].filter((group) => rates().some((rate) => rate.group === group));
  const filters = (rate) => ({ mechanism: rate.mechanism, ...(by === "category" ? { category: rate.group } : {}) });
  const said = (rate) => [rate.mechanism, `${by} ${rate.group}`, `CTR ${estimate(rate.ctr)}`, `${rate.ads} shown ads`, rate.abstained > 0 && `${rate.abstained} more without a verdict`].filter(Boolean);
  const it = figure(title[by] || "Click-through rate by group of personas", {
    choices: pick,
    numbers: () => [[by, "mechanism", "CTR", "low", "high", "ads", "abstained"], groups().flatMap((group) => rates().filter((r) => r.group === group)).map((r) => [r.group, r.mechanism, ...intervalCells(r.ctr), r.ads, r.abstained])],
    draw: (host) => forest(host, {
      rows: groups().map((group) => ({
        label: group,
        marks: rates().filter((r) => r.group === group).map((r) => ({ name: r.mechanism, series: seriesOf(r.mechanism), value: r.ctr, lines: said(r), pick: () => browse(filters(r)) })),
      })),
      xLabel: "clicks per shown ad", name: `Click-through rate by ${by}`, limits: [0, 1],
    }),
  });
  return it;
}

const BID_NUMBERS = { shown: "share of candidates shown", clicks: "clicks per candidate", payment: "payment per candidate, currency", price: "payment per click, currency" };

const LIMITS = { shown: [0, 1], clicks: [0, 1] };

function bidFigure(summary, seriesOf, chosen, first, browse) {
  let metric = first;
  const pick = choice("show", Object.entries(BID_NUMBERS), (name) => {
    metric = name;
    it.redraw();
  }, first);
  const series = () => Object.entries(summary.bids).filter(([name]) => chosen.has(name));
  const range = (bin) => (bin.high === null ? `bids from ${number(bin.low)}` : `bids from ${number(bin.low)} to ${number(bin.high)}`);
  const it = figure(first === "shown" ? "Allocation by bid" : "Payment by bid", {
    choices: [pick],
    numbers: () => [["mechanism", "bids", "mean bid", BID_NUMBERS[metric], "low", "high", "candidates"], series().flatMap(([name, bins]) => bins.map((bin) => [name, range(bin), number(bin.bid), ...intervalCells(bin[metric]), bin.candidates]))],
    draw: (host) => lines(host, {
      series: series().map(([name, bins]) => ({ name, series: seriesOf(name), points: bins.map((bin) => ({ x: bin.bid, value: bin[metric], lines: [name, range(bin), `${BID_NUMBERS[metric]}: ${estimate(bin[metric])}`, `${bin.candidates} candidates`] })) })),
      xLabel: "bid, currency per click", yLabel: BID_NUMBERS[metric], name: BID_NUMBERS[metric], limits: LIMITS[metric] || null, pick: (mechanism) => browse({ mechanism }),
    }),
  });
  return it;
}

/** Curves of a training or an audit, each in a plot of its own. */
function curveFigures(curves, seriesOf) {
  return curves.map((curve) => {
    const series = Object.entries(curve.series).map(([part, points], i) => ({
      name: part, series: seriesOf(part, i), points: points.map(([x, y]) => ({ x, value: [y, null, null], lines: [part || curve.metric, `${curve.x} ${number(x)}`, `${curve.metric} ${number(y, 4)}`] })),
    }));
    const it = figure(curve.metric, {
      numbers: () => [["part", "", curve.x, curve.metric], series.flatMap((s) => s.points.map((p) => [s.name, "", number(p.x), number(p.value[0], 4)]))],
      draw: (host) => lines(host, { series, xLabel: curve.x, yLabel: "", name: curve.metric, zero: false }),
    });
    it.redraw();
    const parts = series.length > 1 && series.length <= 24 && el("p", { class: "legend" }, series.map((s) => el("span", {}, svg("svg", { width: 12, height: 12, viewBox: "-7 -7 14 14", "aria-hidden": "true" }, marker(s.series, 0, 0)), s.name)));
    if (parts) it.root.firstChild.append(parts);
    return it.root;
  });
}

function trainingSection(summary) {
  if (!summary.training.length) return null;
  return section("training", "Training", summary.training.map((t) => [el("h3", { dir: "auto" }, t.title), el("div", { class: "figures small" }, curveFigures(t.curves, (part, i) => i))]));
}

/** Reports of validate-judge and audit. */
function reportSection(summary, seriesOf) {
  if (!summary.reports.length) return null;
  const known = new Set(summary.mechanisms);
  const shown = summary.reports.map((report) => [
    el("h3", { dir: "auto" }, report.title),
    el("p", { class: "lead", dir: "auto" }, report.caption),
    report.warnings.length > 0 && el("ul", { class: "notes" }, report.warnings.map((text) => el("li", { dir: "auto" }, text))),
    tabs(report.tables.filter((t) => t.rows.length > 0).map((t) => [t.title, [dataTable(t.header, t.rows, { caption: t.title, texts: t.texts }), t.note && el("p", { class: "small note", dir: "auto" }, t.note)]])),
    report.curves.length > 0 && el("div", { class: "figures" }, curveFigures(report.curves, (part, i) => (known.has(part) ? seriesOf(part) : i))),
  ]);
  return section("reports", "Validity and incentives", shown.map((parts) => el("div", { class: "report" }, parts)));
}

/** What was run. */
function aboutSection(summary) {
  return section("about", "About", summary.runs.map((run) => el("div", {}, el("h3", { dir: "auto" }, run.name), el("dl", {}, run.rows.map(([name, text]) => [el("dt", {}, name), el("dd", { dir: "auto" }, text)])))));
}
