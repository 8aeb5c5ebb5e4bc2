// One feature in full, as the page Features has it: verdict, genes, examples, types, ranks, what it writes.
scx.card = async function (layer, feature) {
  const { el } = scx, atlas = await scx.data("atlas"), row = scx.rowOf(atlas, layer, feature);
  if (row < 0) {
    scx.show(el("h2", {}, `L${layer}·${feature}`), el("p", {}, "This page does not hold this feature."));
    return;
  }
  const card = (await scx.data(`cards-${Math.floor(row / atlas.block)}`))[row % atlas.block];
  const verdict = atlas.verdicts[atlas.verdict[row]];
  const step = (by, words) => {
    const other = row + by;
    const there = other >= 0 && other < atlas.layer.length;
    return there ? el("a", { href: `#feature/${atlas.layer[other]}/${atlas.feature[other]}` }, words) : null;
  };
  scx.show(
    el("p", { class: "ways" }, el("a", { href: "#atlas", id: "back" }, "← All features"), step(-1, "Previous"), step(1, "Next")),
    el("h2", {}, `L${layer}·${feature} `, el("bdi", {}, atlas.label[row]), " ", el("span", { class: "badge" }, verdict)),
    el("p", {}, `${atlas.meanings[verdict] ?? ""} ${card.why}`),
    scx.facts(atlas, card, row),
    scx.examples(atlas, card, atlas.maximum[row]),
    el("div", { class: "grid" },
      scx.part("Genes", "share of its activation", card.genes, atlas.genes, "It fires at no gene."),
      scx.part("Cell types", "activation per token, as shares", card.types, atlas.types, "The cells have no labels."),
      scx.part("Families", "genes with a common stem", card.families, atlas.familys, "At no family."),
      scx.part("Donors", "activation per token, as shares", card.donors, atlas.donors, ""),
      scx.ranks(card), scx.strengths(card),
      scx.pushes("Writes tokens", card.writes.token), scx.pushes("Pushes answers", card.writes.answer)),
    scx.sets(card), scx.figures(card), scx.labels(card));
};

scx.facts = function (atlas, card, row) {
  const fact = (value, words) => scx.el("div", {}, scx.el("b", {}, value), scx.el("span", {}, words));
  return scx.el("div", { class: "facts" },
    fact(scx.percent(atlas.frequency[row], 2), "of all tokens make it fire"),
    fact(scx.whole(card.cells), "cells in which it fires"),
    fact(scx.figure(atlas.maximum[row]), `largest activation; mean where it fires ${scx.figure(card.mean)}`),
    fact(card.half > 0 ? scx.count(card.half, "gene") : "–", card.half === 1 ? "holds half of its activation" : "hold half of its activation"),
    fact(atlas.stable[row] ? "same" : "another", "verdict in the other half of the cells"));
};

scx.part = function (title, below, pairs, names, without) {
  if (!pairs.length && !without) return null;
  const rows = pairs.map(([number, share]) => [number < 0 ? "–" : names[number], share]);
  return scx.el("section", {}, scx.el("h3", {}, title), scx.el("p", { class: "muted" }, pairs.length ? below : without), scx.bars(rows));
};

scx.ranks = function (card) {
  if (!card.ranks.length) return null;
  const rows = card.ranks.map(([first, last, share]) => [first === last ? `${first}` : `${first}–${last}`, share]);
  return scx.el("section", {}, scx.el("h3", {}, "Ranks"),
    scx.el("p", { class: "muted" }, "place in the cell sentence; 1: highest expression"), scx.bars(rows));
};

scx.strengths = function (card) {
  if (!card.histogram.length) return null;
  const total = card.histogram.reduce((sum, [, , tokens]) => sum + tokens, 0);
  const rows = card.histogram.map(([low, high, tokens]) => [`${scx.figure(low, 2)}–${scx.figure(high, 2)}`, tokens / total]);
  return scx.el("section", {}, scx.el("h3", {}, "Activations"),
    scx.el("p", { class: "muted" }, `share of the ${scx.whole(total)} tokens at which it fires`), scx.bars(rows));
};

scx.pushes = function (title, rows) {
  if (!rows || !rows.length) return null;
  return scx.el("section", {}, scx.el("h3", {}, title),
    scx.el("p", { class: "muted" }, "weight of its write vector on the output; direct effects only"),
    scx.bars(rows.map(([text, weight]) => [text.trim() || "␣", weight]), false));
};

// Each sentence around a token where it fires; the stronger, the fuller its colour. The number stands beside.
scx.examples = function (atlas, card, most) {
  const { el } = scx;
  if (!card.examples.length) return el("p", { class: "muted" }, "No examples.");
  const rows = card.examples.map(([kind, type, gene, value, peak, tokens, active]) => {
    const by = new Map(active);
    const text = tokens.map((number, place) => {
      const raw = number < 0 ? "" : atlas.texts[number], bare = raw.trimStart();
      const shown = bare.trim() ? bare.replace(/\s/g, " ") : /\n/.test(raw) ? "⏎" : "␣";
      const gap = raw !== bare && bare ? " " : "";
      if (!by.has(place) && place !== peak) return [gap, shown];
      const mark = el("mark", { class: place === peak ? "peak" : null, title: scx.figure(by.get(place) ?? 0) }, shown);
      mark.style.setProperty("--share", `${Math.round(100 * Math.sqrt(Math.min(1, (by.get(place) ?? 0) / (most || 1))))}%`);
      return [gap, mark];
    });
    const about = el("div", { class: "about" }, el("b", {}, `${scx.figure(value)} ${gene < 0 ? "no gene" : atlas.genes[gene]}`),
      el("span", {}, `${type < 0 ? "unlabelled" : atlas.types[type]}${kind === "sample" ? ", at random" : ""}`));
    return el("div", { class: "example" }, about, el("bdi", { class: "text" }, text.flat()));
  });
  return el("section", {}, el("h3", {}, "Examples"),
    el("p", { class: "muted" }, "the strongest, one a cell, then some at random among all tokens where it fires"), rows);
};

scx.sets = function (card) {
  if (!card.sets.length) return null;
  const rows = card.sets.map(([name, shared, size, q, share]) => [name, `${shared}`, `${size}`, scx.figure(q), scx.percent(share)]);
  return scx.el("section", {}, scx.el("h3", {}, "Gene sets"),
    scx.table(["set", "shared", "size", "q", "of its activation"], rows, "Fisher's exact test of its strongest genes; q: Benjamini–Hochberg over all tests"));
};

scx.figures = function (card) {
  if (!card.figures) return null;
  const rows = card.figures.map(([verdict, value, threshold, words]) =>
    [verdict, scx.percent(value, 1), scx.percent(threshold), value >= threshold ? "yes" : "no", words]);
  return scx.el("details", {}, scx.el("summary", {}, "The figures behind the verdict"),
    scx.table(["verdict", "here", "threshold", "met", "share that …"], rows, "Asked from top to bottom; the first that is met is the verdict."));
};

scx.labels = function (card) {
  if (!card.labels.length) return null;
  return scx.el("section", {}, scx.el("h3", {}, "Labels that people gave"),
    scx.table(["label", "by", "when"], card.labels.map(([label, author, time]) => [label || "taken back", author, time])));
};
