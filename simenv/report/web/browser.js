// The browser of answers: filters, a list of questions that draws only the rows in view, and a question's answers.

const ROW = 58;
const NO_FILTER = { text: "", mechanism: "", persona: "", category: "", fault: "", abstention: "", clicked: "" };

/** What the filters ask of each answer, computed once. */
function indexed(data) {
  return data.answers.map((answer) => {
    const candidates = data.candidates[answer.candidates];
    const ads = (answer.ads || []).map((ad) => data.ads[candidates[ad[0]][0]]);
    const [, query, who] = data.questions[answer.question];
    const text = (answer.text || []).map((piece) => (typeof piece === "string" ? piece : piece[0])).join("");
    const reasons = (answer.ads || []).map((ad) => ad[4]);
    return {
      who,
      words: [
        query,
        text,
        ...reasons,
        ...ads.flatMap(([id, title, advertiser]) => [id, title, advertiser]),
        ...(answer.error || []),
      ]
        .join("\n")
        .toLowerCase(),
      categories: new Set(ads.map((ad) => ad[3])),
      faults: answer.faults || [],
      verdicts: new Set((answer.ads || []).map((ad) => verdict(ad[3]))),
    };
  });
}

function counted(n, name) {
  return `${n.toLocaleString("en-US")} ${name}${n === 1 ? "" : "s"}`;
}

/** Whether an answer passes the filters. */
function passes(filter, answer, facts) {
  return (
    (filter.mechanism === "" || answer.mechanism === Number(filter.mechanism)) &&
    (filter.persona === "" || facts.who === Number(filter.persona)) &&
    (filter.category === "" || facts.categories.has(filter.category)) &&
    (filter.fault === "" ||
      (filter.fault === "any"
        ? facts.faults.length > 0
        : filter.fault === "none"
          ? facts.faults.length === 0
          : facts.faults.includes(filter.fault.slice(1)))) &&
    (filter.abstention === "" || facts.verdicts.has("abstained") === (filter.abstention === "with")) &&
    (filter.clicked === "" || facts.verdicts.has("clicked") === (filter.clicked === "yes")) &&
    (filter.text === "" || filter.text.split(" ").every((word) => facts.words.includes(word)))
  );
}

function answerSection(summary, data, seriesOf) {
  const facts = indexed(data);
  const byQuestion = data.questions.map(() => []);
  data.answers.forEach((answer, i) => byQuestion[answer.question].push(i));
  let filter = { ...NO_FILTER };
  let found = [];
  let open = -1;

  const list = el("div", {
    class: "list",
    tabindex: 0,
    role: "listbox",
    "aria-label": "Questions",
    scroll: () => drawRows(),
  });
  const space = el("div", { class: "space", role: "presentation" });
  list.append(space);
  const pane = el("div", { class: "pane", tabindex: 0, role: "region", "aria-label": "Answers to the question" });
  const count = el("p", { class: "count", role: "status" });
  const only = el("input", { type: "checkbox", id: "only", change: () => drawQuestion() });

  const sorted = (values) => [...new Set(values)].sort((a, b) => a.localeCompare(b)).map((value) => [value, value]);
  const any = (text) => [["", text]];
  const faultKinds = sorted(facts.flatMap((f) => f.faults)).map(([kind]) => [`=${kind}`, kind]);
  const people = data.personas.map(([id], i) => [i, id]).sort((a, b) => a[1].localeCompare(b[1]));
  const options = {
    mechanism: [...any("all"), ...summary.mechanisms.map((name, i) => [i, name])],
    persona: [...any("all"), ...people],
    category: [...any("all"), ...sorted(facts.flatMap((f) => [...f.categories]))],
    fault: [...any("all"), ["none", "without faults"], ["any", "with any fault"], ...faultKinds],
    abstention: [...any("all"), ["with", "the judge abstained"], ["without", "no abstention"]],
    clicked: [...any("all"), ["yes", "an ad was clicked"], ["no", "no ad was clicked"]],
  };
  const labels = {
    mechanism: "Mechanism",
    persona: "Persona",
    category: "Ad category",
    fault: "Faults",
    abstention: "Abstention",
    clicked: "Clicks",
  };
  const selects = {};
  const choices = Object.entries(options).map(([name, values]) => {
    const label = choice(labels[name], values, (value) => change({ [name]: value }));
    selects[name] = label.querySelector("select");
    return label;
  });
  let typing = 0;
  const search = el("input", {
    type: "search",
    id: "search",
    placeholder: "Search questions, answers, ads and reasons",
    autocomplete: "off",
    spellcheck: "false",
    input: () => {
      clearTimeout(typing);
      typing = setTimeout(() => change({ text: search.value.toLowerCase().trim().replace(/\s+/g, " ") }), 120);
    },
  });
  const clear = el("button", { type: "button", class: "plain", click: () => show({}) }, "clear filters");

  function change(part) {
    filter = { ...filter, ...part };
    const pass = data.answers.map((answer, i) => passes(filter, answer, facts[i]));
    found = byQuestion
      .map((answers, question) => ({ question, matching: new Set(answers.filter((i) => pass[i])) }))
      .filter((row) => row.matching.size > 0);
    const answers = found.reduce((sum, row) => sum + row.matching.size, 0);
    count.textContent = `${counted(found.length, "question")}, ${counted(answers, "answer")}`;
    space.style.height = `${found.length * ROW}px`;
    list.scrollTop = 0;
    select(found.length ? 0 : -1);
  }

  function drawRows() {
    const first = Math.max(0, Math.floor(list.scrollTop / ROW) - 4);
    const last = Math.min(found.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW) + 4);
    const rows = [];
    for (let i = first; i < last; i += 1) {
      const { question, matching } = found[i];
      const [, query, who, , turn, , , session, horizon] = data.questions[question];
      const place = `turn ${turn + 1}${session ? ` of ${horizon} in session ${session}` : ""}`;
      const all = byQuestion[question].length;
      const row = el(
        "div",
        {
          class: "question",
          role: "option",
          id: `question-${i}`,
          "aria-selected": String(i === open),
          "aria-setsize": found.length,
          "aria-posinset": i + 1,
          click: () => select(i),
        },
        el("div", { class: "query", dir: "auto" }, query),
        el(
          "div",
          { class: "small", dir: "auto" },
          `${data.personas[who][0]} · ${place} · ${matching.size === all ? "" : `${matching.size} of `}${counted(all, "answer")}`,
        ),
      );
      row.style.top = `${i * ROW}px`;
      rows.push(row);
    }
    space.replaceChildren(...rows);
    list.setAttribute("aria-activedescendant", open >= 0 ? `question-${open}` : "");
  }

  function select(i, remember = true) {
    open = i;
    if (i >= 0) {
      const top = i * ROW;
      if (top < list.scrollTop) list.scrollTop = top;
      else if (top + ROW > list.scrollTop + list.clientHeight) list.scrollTop = top + ROW - list.clientHeight;
      if (remember && touched) history.replaceState(null, "", hashOf(found[i].question));
    }
    drawRows();
    drawQuestion();
  }

  function drawQuestion() {
    if (open < 0) {
      pane.replaceChildren(el("p", { class: "lead" }, "No answer passes these filters."));
      return;
    }
    const { question, matching } = found[open];
    const [id, query, who, topic, , most, reserve] = data.questions[question];
    const [persona, profile, known] = data.personas[who];
    const answers = byQuestion[question].filter((i) => !only.checked || matching.has(i));
    const candidates = data.candidates[data.answers[byQuestion[question][0]].candidates];
    const words = filter.text.split(" ").filter(Boolean);
    pane.replaceChildren(
      el(
        "header",
        {},
        el("h3", { class: "query", dir: "auto" }, marked(query, words)),
        el("p", { class: "small" }, el("b", { dir: "auto" }, persona), " ", el("span", { dir: "auto" }, profile)),
        known.length > 0 &&
          el(
            "details",
            {},
            el("summary", {}, "What only the judge knows of this persona"),
            el(
              "dl",
              {},
              known.map(([name, text]) => [el("dt", {}, name), el("dd", { dir: "auto" }, text)]),
            ),
          ),
        el("details", {}, el("summary", {}, `${candidates.length} candidate ads`), candidateTable(data, candidates)),
        el(
          "p",
          { class: "small" },
          `Auction ${id}${topic ? `, topic ${topic}` : ""}; at most ${most} ads without a penalty, reserve ${number(reserve)}. `,
          el("a", { href: hashOf(question), class: "permalink" }, "Link to this question"),
        ),
      ),
      el(
        "div",
        { class: "cards" },
        answers.map((i) => answerCard(data, summary, data.answers[i], matching.has(i), words, seriesOf)),
      ),
    );
    pane.scrollTop = 0;
  }

  function hashOf(question) {
    return `#question=${encodeURIComponent(data.questions[question][0])}`;
  }

  let touched = false;
  /** Shows the answers that pass these filters, and no others. Names of mechanisms are given as names. */
  function show(part) {
    touched = true;
    const named = { ...NO_FILTER, ...part };
    if (named.mechanism !== "") named.mechanism = String(summary.mechanisms.indexOf(named.mechanism));
    if (named.category !== "" && !options.category.some(([value]) => value === named.category)) named.category = "";
    search.value = named.text;
    for (const [name, box] of Object.entries(selects)) box.value = named[name];
    change(named);
  }

  /** Goes to the question that the address names, if it names one. */
  function follow() {
    const [, id] = /^#question=(.*)$/.exec(location.hash) || [];
    if (id === undefined) return;
    let name = id;
    try {
      name = decodeURIComponent(id);
    } catch {
      return;
    }
    if (!found.some((row) => data.questions[row.question][0] === name)) show({});
    const place = found.findIndex((row) => data.questions[row.question][0] === name);
    if (place >= 0) {
      select(place, false);
      document.getElementById("answers").scrollIntoView();
    }
  }

  const move = (by) => {
    touched = true;
    if (found.length) select(Math.min(found.length - 1, Math.max(0, open + by)));
  };
  set(list, {
    keydown: (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8, Home: -found.length, End: found.length }[
        event.key
      ];
      if (step === undefined) return;
      event.preventDefault();
      move(step);
    },
    click: () => {
      touched = true;
    },
  });
  const root = section(
    "answers",
    "Answers",
    el("p", { class: "lead" }, summary.sample),
    el(
      "form",
      { class: "filters", role: "search", submit: (event) => event.preventDefault() },
      el("label", { class: "choice search" }, el("span", {}, "Search ", el("kbd", {}, "/")), search),
      choices,
      clear,
    ),
    el(
      "div",
      { class: "choices" },
      count,
      el("label", { class: "check" }, only, " only answers that pass the filters"),
      el(
        "span",
        { class: "small keys" },
        el("kbd", {}, "j"),
        " ",
        el("kbd", {}, "k"),
        " next and previous question, ",
        el("kbd", {}, "?"),
        " all keys",
      ),
    ),
    el("div", { class: "panes" }, list, pane),
  );
  return { root, show, move, follow, search, list, start: () => change({}) };
}
