// One answer: its text with ads and faults marked, what each ad bid, paid and got, and the answer without ads.

const VERDICTS = { true: "clicked", false: "not clicked" };

function verdict(clicked) {
  return VERDICTS[String(clicked)] || "abstained";
}

/** A card. `answer` is a row of the data, `matches` tells whether the filters let it pass, `words` are marked. */
function answerCard(data, summary, answer, matches, words, seriesOf) {
  const name = summary.mechanisms[answer.mechanism];
  const candidates = data.candidates[answer.candidates];
  const rows = (answer.ads || []).map((ad, i) => adRow(data, candidates, ad, words));
  const choose = (i) => () => {
    rows.forEach((row, k) => row.classList.toggle("chosen", k === i));
    rows[i].scrollIntoView({ block: "nearest" });
  };
  const free =
    answer.adFree !== undefined &&
    el(
      "details",
      {},
      el("summary", {}, "The answer without ads"),
      el("p", { class: "answer", dir: "auto" }, data.texts[answer.adFree]),
    );
  return el(
    "article",
    { class: matches ? "card" : "card dimmed", "data-mechanism": name, "aria-label": `Answer of ${name}` },
    el(
      "h4",
      {},
      svg(
        "svg",
        { width: 14, height: 14, viewBox: "-7 -7 14 14", "aria-hidden": "true" },
        marker(seriesOf(name), 0, 0),
      ),
      el("span", { dir: "auto" }, name),
    ),
    el(
      "p",
      { class: "figures-line" },
      measures(summary, answer).map(([label, text]) => el("span", {}, `${label} `, el("b", {}, text))),
    ),
    asked(answer, words),
    answer.error
      ? el("p", { class: "error", dir: "auto" }, el("b", {}, answer.error[0]), ` ${answer.error[1]}`)
      : answerText(answer, words, choose),
    answer.note && el("p", { class: "figures-line", dir: "auto" }, answer.note),
    answer.faults &&
      el(
        "p",
        { class: "faults" },
        answer.faults.map((fault) => el("span", { class: "fault" }, fault)),
      ),
    rows.length > 0 && el("ol", { class: "ads" }, rows),
    transfers(answer),
    free,
  );
}

/** The follow-up questions, with the chosen one. */
function asked(answer, words) {
  if (!answer.asked) return null;
  const rows = answer.asked.map(([text, sponsor, price, predicted, probability, chosen]) => {
    const facts = [
      ["price", number(price)],
      ["predicted", number(predicted)],
      ["probability", number(probability)],
    ].filter(([, shown]) => shown !== "–");
    return el(
      "li",
      {},
      chosen ? el("b", { dir: "auto" }, marked(text, words)) : el("span", { dir: "auto" }, marked(text, words)),
      chosen && " (chosen)",
      sponsor && [" · sponsored by ", el("code", {}, sponsor)],
      el(
        "div",
        { class: "ad-facts" },
        facts.map(([label, shown]) => el("span", {}, `${label} `, el("b", {}, shown))),
      ),
    );
  });
  return el("details", { open: true }, el("summary", {}, "Follow-up questions"), el("ol", {}, rows));
}

function measures(summary, answer) {
  const found = [];
  const paid = summary.expected && answer.expectedPaid !== undefined ? answer.expectedPaid : answer.paid;
  found.push([summary.expected && answer.expectedPaid !== undefined ? "expected payment" : "payment", number(paid)]);
  if (answer.satisfaction !== undefined) found.push(["satisfaction", number(answer.satisfaction)]);
  if (answer.qualityLoss !== undefined) found.push(["quality loss", number(answer.qualityLoss)]);
  if (answer.kept !== undefined) found.push(["kept", number(answer.kept)]);
  if (answer.adText !== undefined) found.push(["ad text", number(answer.adText)]);
  for (const [name, value] of answer.gem ?? []) found.push([`GEM ${name}`, number(value)]);
  found.push(["calls", number(answer.calls)]);
  if (answer.tokens !== undefined) found.push(["tokens", number(answer.tokens)]);
  return found;
}

function answerText(answer, words, choose) {
  const parts = answer.text.map((piece) => {
    if (typeof piece === "string") return marked(piece, words);
    const [text, ad, violation] = piece;
    const fault = violation >= 0 ? answer.violations[violation].replaceAll("_", " ") : null;
    if (ad < 0) return el("span", { class: "fault-text", title: fault }, marked(text, words));
    const clicked = verdict(answer.ads[ad][3]);
    const said = `Ad ${ad + 1}: ${clicked}`;
    const press = (event) => (event.key === "Enter" || event.key === " ") && (event.preventDefault(), choose(ad)());
    // No button element: it would not break over lines.
    return el(
      "span",
      {
        role: "button",
        tabindex: 0,
        class: `ad ${clicked.replace(" ", "-")}`,
        title: said,
        click: choose(ad),
        keydown: press,
      },
      marked(text, words),
      el("sup", {}, ad + 1),
    );
  });
  return el("p", { class: "answer", dir: "auto" }, parts.length ? parts : el("i", {}, "The answer is empty."));
}

/** An amount per click, or per view of an ad that bids per view. */
function money(amount, unit) {
  return unit === undefined ? number(amount) : `${number(amount)} per ${unit}`;
}

/** What is known of one shown ad. */
function adRow(
  data,
  candidates,
  [place, price, probability, clicked, reason, factuality, disclosure, surprise],
  words,
) {
  const [adNumber, bid, value, , unit] = candidates[place];
  const [id, title, advertiser, category, url, body] = data.ads[adNumber];
  const facts = [
    ["bid", money(bid, unit)],
    ["value", money(value, unit)],
    ["price", money(price, unit)],
    ["click probability", number(probability)],
    ["factuality", number(factuality)],
    ["disclosure", number(disclosure)],
    ["surprise", number(surprise)],
  ].filter(([, text]) => text !== "–");
  return el(
    "li",
    { class: `shown-ad ${verdict(clicked).replace(" ", "-")}` },
    el(
      "div",
      { class: "ad-title" },
      el("b", { dir: "auto" }, marked(title, words)),
      " ",
      el("span", { class: "verdict" }, verdict(clicked)),
    ),
    el(
      "div",
      { class: "ad-of" },
      el("span", { dir: "auto" }, marked(advertiser, words)),
      " · ",
      el("span", { dir: "auto" }, category),
      " · ",
      el("code", {}, id),
    ),
    el(
      "div",
      { class: "ad-facts" },
      facts.map(([label, text]) => el("span", {}, `${label} `, el("b", {}, text))),
    ),
    reason && el("div", { class: "reason", dir: "auto" }, marked(reason, words)),
    (body || url) &&
      el(
        "details",
        {},
        el("summary", {}, "The ad"),
        el("p", { class: "copy", dir: "auto" }, body),
        url && el("p", { class: "url", dir: "ltr" }, url),
      ),
  );
}

function transfers(answer) {
  if (!answer.transfers) return null;
  const paid = answer.transfers.map(([id, amount]) => el("span", {}, el("code", {}, id), ` ${number(amount)} `));
  return el("p", { class: "small" }, "Transfers, whatever is clicked: ", paid);
}

/** The candidates of a question, as the auction had them. */
function candidateTable(data, candidates) {
  const rows = candidates.map(([adNumber, bid, value, relevance, unit]) => {
    const [id, title, advertiser, category] = data.ads[adNumber];
    return [title, advertiser, category, id, money(bid, unit), money(value, unit), number(relevance)];
  });
  return dataTable(["title", "advertiser", "category", "id", "bid", "value", "relevance"], rows, { texts: 4 });
}
