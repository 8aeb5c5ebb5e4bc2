"use strict";
// What all parts use: elements made of text, numbers as words, data that is unpacked when it is asked for.
const scx = { about: JSON.parse(document.getElementById("about").textContent), held: new Map() };

// An element with attributes, listeners (on…) and children; a text is never read as markup.
scx.el = function (tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  Object.entries(attributes).forEach(([name, value]) => {
    if (value === null || value === undefined || value === false) return;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  });
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ""));
  return made;
};

// HTML that was written with every name escaped: tables and legends. Its scripts would not run.
scx.written = function (tag, attributes, text) {
  const made = scx.el(tag, attributes);
  made.innerHTML = text;
  return made;
};

scx.data = async function (name) {
  if (!scx.held.has(name)) scx.held.set(name, window.scxUnpack(`data-${name}`).then(JSON.parse));
  return scx.held.get(name);
};

scx.library = async function () {
  if (!scx.drawn) scx.drawn = window.scxUnpack("library").then(window.scxRun);
  return scx.drawn;
};

scx.whole = (value) => (value ?? 0).toLocaleString("en-US");
scx.percent = (value, digits = 0) => (value === null || value === undefined ? "–" : `${(100 * value).toFixed(digits)}%`);
scx.figure = function (value, digits = 3) {
  if (value === null || value === undefined) return "–";
  const small = value !== 0 && Math.abs(value) < 0.001;
  return (small ? value.toExponential(1) : String(Number(value.toPrecision(digits)))).replace("-", "−");
};
scx.count = (number, what) => `${scx.whole(number)} ${what}${number === 1 ? "" : "s"}`;

scx.table = function (titles, rows, caption) {
  const head = scx.el("thead", {}, scx.el("tr", {}, titles.map((title) => scx.el("th", { scope: "col" }, title))));
  const body = scx.el("tbody", {}, rows.map((row) => scx.el("tr", {}, row.map((cell) => scx.el("td", {}, cell)))));
  return scx.el("div", { class: "table" }, scx.el("table", {}, caption ? scx.el("caption", {}, caption) : null, head, body));
};

// Names with shares as bars; the number stands beside, so that nothing is told by length alone.
scx.bars = function (rows, percent = true) {
  const most = Math.max(...rows.map(([, value]) => Math.abs(value)), 1e-12);
  return scx.el("ul", { class: "bars" }, rows.map(([name, value]) => {
    const bar = scx.el("i", { class: value < 0 ? "cool" : "" });
    bar.style.width = `${(100 * Math.abs(value)) / most}%`;
    const number = percent ? scx.percent(value, value < 0.0995 ? 1 : 0) : scx.figure(value);
    return scx.el("li", {}, scx.el("span", { class: "name", title: name }, name), scx.el("span", { class: "bar" }, bar), scx.el("b", {}, number));
  }));
};

scx.banner = (text, grave) => scx.el("p", { class: grave ? "banner" : "banner mild", role: "alert" }, text);
scx.show = function (...children) {
  const main = document.getElementById("main");
  main.replaceChildren(...children.flat().filter(Boolean));
};
