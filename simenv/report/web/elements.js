"use strict";
// Elements of the page. Text from outside reaches the page here, as text: nothing in these scripts parses HTML.

const SVG = "http://www.w3.org/2000/svg";

/** Sets attributes; a function becomes the handler of the event that its name gives. */
function set(element, attributes) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, String(value));
  }
  return element;
}

/** Appends children; strings and numbers become text nodes, null is skipped. */
function fill(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return element;
}

/** An HTML element. */
function el(tag, attributes, ...children) {
  return fill(set(document.createElement(tag), attributes), children);
}

/** An SVG element. */
function svg(tag, attributes, ...children) {
  return fill(set(document.createElementNS(SVG, tag), attributes), children);
}

/** A text in which the words that were searched for are marked. */
function marked(text, words) {
  if (!words.length) return [text];
  const lower = text.toLowerCase();
  if (lower.length !== text.length) return [text];
  const parts = [];
  let at = 0;
  while (at < text.length) {
    const hits = words.map((word) => [lower.indexOf(word, at), word.length]).filter(([place]) => place >= 0);
    if (!hits.length) break;
    const [place, length] = hits.reduce((a, b) => (b[0] < a[0] ? b : a));
    parts.push(text.slice(at, place), el("mark", {}, text.slice(place, place + length)));
    at = place + length;
  }
  return [...parts, text.slice(at)];
}

/** A table: the first `texts` columns are text, the rest are numbers. `buttons` makes its header sort. */
function dataTable(header, rows, { texts = 1, caption = null } = {}) {
  const kind = (i) => (i < texts ? "text" : "number");
  const body = el("tbody");
  const show = (sorted) => {
    body.replaceChildren(
      ...sorted.map((row) =>
        el(
          "tr",
          {},
          row.map((cell, i) =>
            i === 0 ? el("th", { scope: "row", dir: "auto" }, cell) : el("td", { class: kind(i), dir: "auto" }, cell),
          ),
        ),
      ),
    );
  };
  const heads = header.map((name, i) => {
    const head = el("th", { scope: "col", class: kind(i) });
    const sort = () => {
      const down = head.getAttribute("aria-sort") === "descending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "ascending" : "descending");
      show([...rows].sort((a, b) => (down ? 1 : -1) * compareCells(a[i], b[i])));
    };
    return fill(head, [rows.length > 1 ? el("button", { type: "button", class: "sort", click: sort }, name) : name]);
  });
  show(rows);
  const table = el("table", {}, caption && el("caption", {}, caption), el("thead", {}, el("tr", {}, heads)), body);
  return el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption || header.join(", ") }, table);
}

function compareCells(a, b) {
  const [x, y] = [a, b].map((cell) => Number.parseFloat(String(cell).replace(/,/g, "")));
  if (Number.isNaN(x) !== Number.isNaN(y)) return Number.isNaN(x) ? -1 : 1;
  return Number.isNaN(x) ? String(a).localeCompare(String(b)) : x - y;
}

/** A labelled choice; `options` are [value, text]. */
function choice(label, options, change, value) {
  const select = el(
    "select",
    { change: () => change(select.value) },
    options.map(([key, text]) => el("option", { value: key }, text)),
  );
  if (value !== undefined) select.value = value;
  return el("label", { class: "choice" }, el("span", {}, label), select);
}

/** A number in about three digits; a dash where there is none. */
function number(value, digits = 3) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size !== 0 && size < 0.0005) return value.toExponential(1);
  const decimals = size >= 1000 ? 0 : size >= 100 ? 1 : size >= 1 ? 2 : digits;
  return value.toLocaleString("en-US", { minimumFractionDigits: 0, maximumFractionDigits: decimals });
}

/** An estimate [value, low, high] as text. */
function estimate([value, low, high]) {
  if (value === null) return "–";
  return low === null ? number(value) : `${number(value)} (${number(low)} to ${number(high)})`;
}

/** Shows a text beside an element while it is pointed at or has the focus. */
function tipped(element, lines) {
  const tip = document.getElementById("tip");
  const show = () => {
    tip.replaceChildren(...lines.map((line, i) => el(i ? "div" : "strong", { dir: "auto" }, line)));
    tip.hidden = false;
    const at = element.getBoundingClientRect();
    const left = Math.min(Math.max(8, at.x + at.width / 2 - tip.offsetWidth / 2), innerWidth - tip.offsetWidth - 8);
    const above = at.y - tip.offsetHeight - 8;
    tip.style.left = `${left}px`;
    tip.style.top = `${above > 0 ? above : at.bottom + 8}px`;
  };
  const hide = () => {
    tip.hidden = true;
  };
  return set(element, { mouseenter: show, focus: show, mouseleave: hide, blur: hide });
}

const observers = new WeakMap();

/** Draws into an element as soon as it has a width, and again when its width changes. The latest call counts. */
function drawn(host, draw) {
  let width = 0;
  const again = () => {
    const now = Math.floor(host.clientWidth);
    if (now > 0 && now !== width) {
      width = now;
      draw(width);
    }
  };
  observers.get(host)?.disconnect();
  observers.set(host, new ResizeObserver(again));
  observers.get(host).observe(host);
  again();
}
