// Clicks by group of ads and personas, allocation and payment by bid, for the mechanisms that are chosen.

/** Buttons that say which mechanisms the plots below show. */
function mechanismButtons(names, seriesOf, chosen, changed) {
  const buttons = names.map((name) => {
    const press = () => {
      if (chosen.has(name)) chosen.delete(name);
      else chosen.add(name);
      update();
    };
    return el(
      "button",
      { type: "button", class: "chip", click: press, "data-mechanism": name },
      svg(
        "svg",
        { width: 12, height: 12, viewBox: "-7 -7 14 14", "aria-hidden": "true" },
        marker(seriesOf(name), 0, 0),
      ),
      el("span", { dir: "auto" }, name),
    );
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
  return el(
    "div",
    { class: "chips", role: "group", "aria-label": "Mechanisms in the plots below" },
    buttons,
    el("button", { type: "button", class: "plain", click: all(true) }, "all"),
    el("button", { type: "button", class: "plain", click: all(false) }, "none"),
  );
}

/** Click-through rate by group, and allocation and payment by bid. */
function clickSection(summary, seriesOf, browse) {
  const groupings = Object.keys(summary.clicks);
  const names = summary.mechanisms.filter((name) => name in summary.bids);
  if (!groupings.length && !names.length) return null;
  const ever = names.filter((name) => groupings.some((by) => summary.clicks[by].some((r) => r.mechanism === name)));
  const chosen = new Set((ever.length ? ever : names).slice(0, 4));
  const made = [];
  for (const by of groupings.filter((name) => name === "position" || name === "category"))
    made.push(rateFigure(summary, seriesOf, chosen, [by], browse));
  const people = groupings.filter((name) => name !== "position" && name !== "category");
  if (people.length) made.push(rateFigure(summary, seriesOf, chosen, people, browse));
  if (names.length)
    made.push(
      bidFigure(summary, seriesOf, chosen, "shown", browse),
      bidFigure(summary, seriesOf, chosen, "payment", browse),
    );
  const redraw = () => made.forEach((it) => it.redraw());
  redraw();
  const basis = summary.expected ? "Clicks are click probabilities." : "Clicks are realised.";
  return section(
    "clicks",
    "Clicks and payments",
    el(
      "p",
      { class: "lead" },
      `${basis} Shown ads without a verdict are left out of these plots. Intervals are clustered by persona.`,
    ),
    mechanismButtons(names, seriesOf, chosen, redraw),
    el(
      "div",
      { class: "columns" },
      made.map((it) => it.root),
    ),
  );
}

function rateFigure(summary, seriesOf, chosen, groupings, browse) {
  let by = groupings[0];
  const title = { position: "Click-through rate by position", category: "Click-through rate by the ad's category" };
  const pick =
    groupings.length > 1
      ? [
          choice(
            "by",
            groupings.map((name) => [name, name]),
            (name) => {
              by = name;
              it.redraw();
            },
          ),
        ]
      : [];
  const rates = () =>
    summary.clicks[by]
      .filter((rate) => chosen.has(rate.mechanism))
      .sort((a, b) => seriesOf(a.mechanism) - seriesOf(b.mechanism));
  const groups = () =>
    [...new Set(summary.clicks[by].map((rate) => rate.group))].filter((group) =>
      rates().some((rate) => rate.group === group),
    );
  const filters = (rate) => ({ mechanism: rate.mechanism, ...(by === "category" ? { category: rate.group } : {}) });
  const said = (rate) =>
    [
      rate.mechanism,
      `${by} ${rate.group}`,
      `CTR ${estimate(rate.ctr)}`,
      `${rate.ads} shown ads`,
      rate.abstained > 0 && `${rate.abstained} more without a verdict`,
    ].filter(Boolean);
  const it = figure(title[by] || "Click-through rate by group of personas", {
    choices: pick,
    numbers: () => [
      [by, "mechanism", "CTR", "low", "high", "ads", "abstained"],
      groups()
        .flatMap((group) => rates().filter((r) => r.group === group))
        .map((r) => [r.group, r.mechanism, ...intervalCells(r.ctr), r.ads, r.abstained]),
    ],
    draw: (host) =>
      forest(host, {
        rows: groups().map((group) => ({
          label: group,
          marks: rates()
            .filter((r) => r.group === group)
            .map((r) => ({
              name: r.mechanism,
              series: seriesOf(r.mechanism),
              value: r.ctr,
              lines: said(r),
              pick: () => browse(filters(r)),
            })),
        })),
        xLabel: "clicks per shown ad",
        name: `Click-through rate by ${by}`,
        limits: [0, 1],
      }),
  });
  return it;
}

const BID_NUMBERS = {
  shown: "share of candidates shown",
  clicks: "clicks per candidate",
  payment: "payment per candidate, currency",
  price: "payment per click, currency",
};

const LIMITS = { shown: [0, 1], clicks: [0, 1] };

function bidFigure(summary, seriesOf, chosen, first, browse) {
  let metric = first;
  const pick = choice(
    "show",
    Object.entries(BID_NUMBERS),
    (name) => {
      metric = name;
      it.redraw();
    },
    first,
  );
  const series = () => Object.entries(summary.bids).filter(([name]) => chosen.has(name));
  const range = (bin) =>
    bin.high === null ? `bids from ${number(bin.low)}` : `bids from ${number(bin.low)} to ${number(bin.high)}`;
  const it = figure(first === "shown" ? "Allocation by bid" : "Payment by bid", {
    choices: [pick],
    numbers: () => [
      ["mechanism", "bids", "mean bid", BID_NUMBERS[metric], "low", "high", "candidates"],
      series().flatMap(([name, bins]) =>
        bins.map((bin) => [name, range(bin), number(bin.bid), ...intervalCells(bin[metric]), bin.candidates]),
      ),
    ],
    draw: (host) =>
      lines(host, {
        series: series().map(([name, bins]) => ({
          name,
          series: seriesOf(name),
          points: bins.map((bin) => ({
            x: bin.bid,
            value: bin[metric],
            lines: [
              name,
              range(bin),
              `${BID_NUMBERS[metric]}: ${estimate(bin[metric])}`,
              `${bin.candidates} candidates`,
            ],
          })),
        })),
        xLabel: "bid, currency per click",
        yLabel: BID_NUMBERS[metric],
        name: BID_NUMBERS[metric],
        limits: LIMITS[metric] || null,
        pick: (mechanism) => browse({ mechanism }),
      }),
  });
  return it;
}
