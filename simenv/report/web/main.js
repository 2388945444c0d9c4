// Puts the page together.

function read(id) {
  return JSON.parse(document.getElementById(id).textContent);
}

function helpBox() {
  const keys = [
    ["/", "search the answers"],
    ["j or ↓", "next question (↓: in the list)"],
    ["k or ↑", "previous question"],
    ["PgUp, PgDn, Home, End", "further, in the list"],
    ["Esc", "leave the search field, close this help"],
    ["Tab, Enter", "go to a mark of a plot, show its answers"],
    ["?", "this help"],
  ];
  const box = document.getElementById("help");
  box.append(
    el("h2", { id: "help-title" }, "Keys"),
    el(
      "dl",
      {},
      keys.map(([key, text]) => [el("dt", {}, el("kbd", {}, key)), el("dd", {}, text)]),
    ),
    el("button", { type: "button", click: () => box.close() }, "Close"),
  );
  return box;
}

function start() {
  const summary = read("summary-data");
  const seriesOf = (name) => Math.max(0, summary.mechanisms.indexOf(name));
  document.title = `${summary.title} – simenv report`;
  document
    .getElementById("top")
    .append(el("p", { class: "brand" }, "simenv report"), el("h1", { dir: "auto" }, summary.title));
  let answers = null;
  const browse = (filter) => {
    if (!answers) return;
    answers.show(filter);
    answers.root.scrollIntoView();
  };
  const sections = [
    summarySection(summary),
    tradeoffSection(summary, seriesOf, browse),
    differenceSection(summary, seriesOf, browse),
    clickSection(summary, seriesOf, browse),
    trainingSection(summary),
    reportSection(summary, seriesOf),
  ].filter(Boolean);
  const main = document.getElementById("main");
  main.append(...sections);

  // The answers come after the first picture of the page: they are most of its data.
  requestAnimationFrame(() =>
    setTimeout(() => {
      const data = read("answers-data");
      if (data.answers.length) {
        answers = answerSection(summary, data, seriesOf);
        main.append(answers.root);
        answers.start();
      }
      main.append(aboutSection(summary));
      navigate(main);
      if (answers) {
        addEventListener("hashchange", () => answers.follow());
        answers.follow();
      }
      document.documentElement.dataset.ready = "true";
    }, 0),
  );

  const help = helpBox();
  addEventListener("keydown", (event) => {
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName || "");
    if (event.key === "Escape" && answers && event.target === answers.search)
      answers.list.focus({ preventScroll: true });
    if (typing || event.ctrlKey || event.metaKey || event.altKey || help.open) return;
    if (event.key === "?") help.showModal();
    else if (answers && event.key === "/") {
      event.preventDefault();
      answers.root.scrollIntoView();
      answers.search.focus({ preventScroll: true });
    } else if (answers && (event.key === "j" || event.key === "k")) answers.move(event.key === "j" ? 1 : -1);
  });
}

/** Links to the sections; the one in view is marked. */
function navigate(main) {
  const links = [...main.querySelectorAll("section")].map((part) =>
    el("a", { href: `#${part.id}` }, part.querySelector("h2").textContent),
  );
  document.getElementById("sections").replaceChildren(...links);
  const seen = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        const link = links.find((it) => it.getAttribute("href") === `#${entry.target.id}`);
        if (entry.isIntersecting) {
          links.forEach((it) => it.removeAttribute("aria-current"));
          link.setAttribute("aria-current", "true");
        }
      }
    },
    { rootMargin: "-10% 0px -80% 0px" },
  );
  main.querySelectorAll("section").forEach((part) => seen.observe(part));
}

start();
