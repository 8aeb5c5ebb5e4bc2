// Which part is shown: the address behind # says so, so that a link and the way back work.
scx.parts = () => [
  ["start", "In short"],
  scx.about.features ? ["atlas", "Atlas"] : null,
  scx.about.circuits.length ? ["circuit/0", "Circuits"] : null,
  ["evidence", "Evidence"],
  ["validation", "Validation"],
  ["about", "About"],
].filter(Boolean);

scx.startView = async function () {
  const { el, about } = scx;
  const verdict = about.verdict ? (about.verdict.read === "yes" ? el("p", {}, about.verdict.words) : scx.banner(about.verdict.words, about.verdict.read === "no"))
    : scx.banner("Nobody has validated these transcoders: whether circuits may be read as the model's reasons is not known.", false);
  const tile = (href, number, words) => el("a", { class: "tile", href }, el("b", {}, number), el("span", {}, words));
  scx.show(el("h2", {}, "May circuits be read as the model's reasons?"), verdict,
    el("div", { class: "tiles" },
      about.features ? tile("#atlas", scx.whole(about.features), "features, each with a verdict and examples") : null,
      about.circuits.length ? tile("#circuit/0", scx.whole(about.circuits.length), "circuits: which genes and steps make an answer") : null,
      tile("#evidence", scx.whole(about.evidence.length), "reports: is it true, beside what could do as well")),
    about.circuits.length ? el("h3", {}, "Circuits") : null,
    about.circuits.length ? el("ul", { class: "links" }, about.circuits.map((one, k) => el("li", {}, el("a", { href: `#circuit/${k}` }, one.name), ` ${one.scope === "cell" ? "one cell" : scx.count(one.cells, "cell")}`))) : null,
    el("p", { class: "muted" }, "Everything here is about what one language model uses, measured or traced in that model. Whether the same holds in cells is another question; each report says what was asked about it."));
};

scx.evidenceView = async function (number) {
  const { el, about } = scx;
  if (!about.evidence.length) {
    scx.show(el("h2", {}, "Evidence"), el("p", {}, "Not measured, or not given to this file. `scx evidence types`, or Measure on the page Evidence, measures it; shared again, the reports stand here."));
    return;
  }
  const rows = about.evidence.map((one, k) => [el("a", { href: `#evidence/${k}` }, one.name), `${one.far} of 6`, `The claim ${one.words}.`]);
  const report = number === null ? null : scx.written("article", { class: "written report" }, await scx.data(`evidence-${number}`));
  scx.show(el("h2", {}, "Evidence: is it true?"), scx.table(["cell type", "levels reached", "how far the claim goes"], rows), report);
  if (report) report.scrollIntoView({ block: "start" });
};

scx.validationView = async function () {
  const { el, about } = scx, there = document.getElementById("data-validation");
  const words = about.verdict ? (about.verdict.read === "yes" ? el("p", {}, about.verdict.words) : scx.banner(about.verdict.words, about.verdict.read === "no")) : null;
  scx.show(el("h2", {}, "Validation: how well do the transcoders stand in for the model?"), words,
    there ? scx.written("div", { class: "written" }, await scx.data("validation")) : el("p", {}, "Not measured: `scx validate` does."));
};

scx.aboutView = async function () {
  const { el, about } = scx;
  scx.show(el("h2", {}, "What this was made from"), scx.table(["part", "identity"], about.made),
    el("p", {}, "This file holds everything that it shows. It asks nothing of any other place, and runs only its own scripts. "
      + "Genes, labels and file names come from data and are shown as text. Written by `scx share`; scX is free software."));
};

scx.route = async function () {
  const [part, first, second] = window.location.hash.replace(/^#/, "").split("/");
  const number = Number.parseInt(first, 10), within = (list) => number >= 0 && number < list.length;
  const shown = part === "feature" ? "atlas" : part || "start";
  document.querySelectorAll("nav a").forEach((link) => {
    if (link.getAttribute("href").slice(1).split("/")[0] === shown) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  });
  if (part === "atlas" && scx.about.features) await scx.atlasView();
  else if (part === "feature" && scx.about.features) await scx.card(number, Number.parseInt(second, 10));
  else if (part === "circuit" && within(scx.about.circuits)) await scx.circuitView(number);
  else if (part === "evidence") await scx.evidenceView(within(scx.about.evidence) ? number : null);
  else if (part === "validation") await scx.validationView();
  else if (part === "about") await scx.aboutView();
  else if (part !== "main") await scx.startView();
  if (part && part !== "evidence") window.scrollTo(0, 0);
  document.documentElement.dataset.shown = window.location.hash || "#start";
};

(function () {
  const theme = document.getElementById("theme"), root = document.documentElement;
  theme.addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : window.matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });
  document.querySelector("nav").append(...scx.parts().map(([part, words]) => scx.el("a", { href: `#${part}` }, words)));
  document.querySelector("footer").append(scx.about.provenance);
  window.addEventListener("hashchange", scx.route);
  if (typeof DecompressionStream === "undefined") scx.show(scx.banner("This browser is too old to open this page: it cannot unpack its data.", true));
  else scx.route();
})();
