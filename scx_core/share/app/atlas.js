// The list of features: filters, the count, fifty rows at a time; one row opens its card.
scx.PAGE = 50;

scx.atlasView = async function () {
  const { el } = scx, atlas = await scx.data("atlas");
  const list = el("div", { id: "list", "aria-live": "polite" });
  const left = scx.about.left_out ? ` ${scx.whole(scx.about.left_out)} more, of less activation, are not in this file.` : "";
  scx.show(
    el("h2", {}, "Atlas: what each feature responds to"),
    el("p", { class: "muted" }, `${scx.count(scx.about.features, "feature")} over ${scx.count(scx.about.cells, "cell")} and ${scx.count(scx.about.tokens, "token")}.${left}`),
    scx.filters(atlas, () => scx.fill(atlas, list)), list, scx.rivals(atlas));
  scx.fill(atlas, list);
};

scx.filters = function (atlas, changed) {
  const { el, asked } = scx;
  const change = (name, read) => (event) => { asked[name] = read(event.target); asked.page = 0; changed(); };
  const field = (words, input) => el("label", {}, el("span", {}, words), input);
  const typed = (name, words, more = {}) => field(words, el("input", {
    type: "search", id: `find-${name}`, value: asked[name], autocomplete: "off", spellcheck: "false",
    oninput: change(name, (input) => input.value), ...more,
  }));
  const chosen = (name, words, values, shown = (value) => value, any = "any") => {
    const select = el("select", { id: `find-${name}`, onchange: change(name, (input) => input.value) },
      any ? el("option", { value: "" }, any) : null, values.map((value) => el("option", { value }, shown(value))));
    select.value = asked[name];
    return field(words, select);
  };
  const genes = atlas.genes.length <= 6000 ? el("datalist", { id: "genes" }, [...atlas.genes].sort().map((name) => el("option", { value: name }))) : null;
  const used = (column, names) => [...new Set(column)].filter((number) => number >= 0).map((number) => names[number]).sort();
  const stable = el("input", { type: "checkbox", id: "find-stable", onchange: change("stable", (input) => input.checked) });
  stable.checked = asked.stable;
  const sets = used(atlas.gene_set, atlas.sets);
  return el("form", { class: "filters", role: "search", onsubmit: (event) => event.preventDefault() },
    typed("text", "Search ( / )", { placeholder: "CD79A, ribosom, NK, L2·513 …" }),
    typed("gene", "Reads the gene", { placeholder: "CD74", list: genes ? "genes" : null }), genes,
    chosen("verdict", "Verdict", [...new Set(atlas.verdict)].sort((a, b) => a - b).map((k) => atlas.verdicts[k])),
    chosen("type", "Strongest cell type", used(atlas.type, atlas.types)),
    sets.length ? chosen("set", "Gene set", sets) : null,
    chosen("layer", "Layer", Array.from({ length: atlas.layers }, (_, k) => String(k))),
    chosen("sort", "Largest first", Object.keys(scx.sorts), (name) => scx.sorts[name], null),
    el("label", { class: "check" }, stable, el("span", {}, "same verdict in both halves")));
};

scx.fill = function (atlas, list) {
  const { el, asked } = scx, found = scx.find(atlas, asked);
  const pages = Math.max(1, Math.ceil(found.rows.length / scx.PAGE));
  asked.page = Math.min(asked.page, pages - 1);
  const shown = found.rows.slice(asked.page * scx.PAGE, (asked.page + 1) * scx.PAGE);
  const turn = (by, words) => el("button", {
    type: "button", disabled: asked.page + by < 0 || asked.page + by >= pages,
    onclick: () => { asked.page += by; scx.fill(atlas, list); },
  }, words);
  const name = (names, number) => (number < 0 ? "" : names[number]);
  const rows = shown.map((row) => [
    el("a", { href: `#feature/${atlas.layer[row]}/${atlas.feature[row]}`, class: "row" }, `L${atlas.layer[row]}·${atlas.feature[row]}`),
    el("bdi", {}, atlas.label[row]), atlas.verdicts[atlas.verdict[row]], scx.percent(atlas.score[row]),
    found.reads ? scx.percent(found.reads.get(row), 1) : null,
    el("bdi", {}, atlas.strongest[row].map((gene) => name(atlas.genes, gene)).join(" ")),
    name(atlas.types, atlas.type[row]), scx.percent(atlas.frequency[row], 2), scx.figure(atlas.maximum[row]),
  ].filter((cell) => cell !== null));
  const titles = ["feature", "label", "verdict", "share", ...(found.reads ? ["reads"] : []), "strongest genes", "cell type", "fires at", "largest"];
  list.replaceChildren(
    el("p", { class: "count" }, el("b", {}, scx.count(found.rows.length, "feature")), ` of ${scx.whole(atlas.layer.length)}`,
      pages > 1 ? el("span", { class: "turn" }, turn(-1, "‹"), ` ${asked.page + 1} of ${pages} `, turn(1, "›")) : null),
    found.rows.length ? scx.table(titles, rows) : el("p", {}, "No feature is like that. Take a filter back, or search for less of the name."));
  list.querySelector("table")?.classList.add("features");
};

// The whole row opens the card; arrows go from row to row.
document.addEventListener("click", (event) => {
  const row = event.target.closest("table.features tbody tr");
  if (row && !event.target.closest("a") && !String(window.getSelection())) row.querySelector("a.row").click();
});
document.addEventListener("keydown", (event) => {
  const at = document.activeElement;
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(at?.tagName ?? "");
  if (event.key === "/" && !typing) {
    const search = document.getElementById("find-text");
    if (search) { event.preventDefault(); search.focus(); search.select(); }
  } else if (event.key === "Escape" && !typing) document.getElementById("back")?.click();
  else if ((event.key === "ArrowDown" || event.key === "ArrowUp") && at?.classList.contains("row")) {
    const rows = [...document.querySelectorAll("a.row")];
    const next = rows[rows.indexOf(at) + (event.key === "ArrowDown" ? 1 : -1)];
    if (next) { event.preventDefault(); next.focus(); }
  }
});

scx.rivals = function (atlas) {
  const { el } = scx;
  if (!atlas.shares.length) return el("p", { class: "muted" }, "No random directions were held beside these features: shares of verdicts alone say nothing.");
  const span = (mean, low, high) => `${scx.percent(mean, 1)} [${scx.percent(low, 1)}, ${scx.percent(high, 1)}]`;
  const rows = atlas.shares.map((one) => [one.measure, scx.percent(one.share, 1), span(one.random, one.random_low, one.random_high), span(one.excess, one.low, one.high)]);
  const { features, draws } = atlas.shares[0];
  return el("details", {}, el("summary", {}, "How much of this would random directions show?"),
    scx.table(["of the live features", "share", "random directions [lowest, highest draw]", "excess, points [95%]"], rows,
      `n = ${scx.count(features, "live feature")}, ${scx.count(draws, "draw")} of random directions through the same protocol`));
};
