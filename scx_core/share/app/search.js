// Which features are asked for: text, gene, verdict, cell type, gene set, layer; and in which order.
scx.asked = { text: "", gene: "", verdict: "", type: "", set: "", layer: "", stable: false, sort: "score", page: 0 };
scx.sorts = {
  score: "Share of the verdict", mass: "Total activation", frequency: "Frequency", maximum: "Largest activation",
  type_share: "In one cell type", layer: "Layer and number",
};

scx.searchText = function (atlas) {
  if (!atlas.searched) {
    const of = (names, number) => (number < 0 ? "" : names[number]);
    atlas.searched = atlas.layer.map((_, row) => [
      atlas.label[row], atlas.strongest[row].map((gene) => of(atlas.genes, gene)).join(" "),
      of(atlas.familys, atlas.family[row]), of(atlas.types, atlas.type[row]), of(atlas.sets, atlas.gene_set[row]),
      atlas.piece[row], atlas.writes[row],
    ].join("\n").toLowerCase());
  }
  return atlas.searched;
};

// "L2·513", "2:513" or "513", if the text means a number.
scx.numbered = function (text) {
  const found = /^(?:L?(\d+)\s*[·:.,/ ]\s*)?(\d+)$/i.exec(text.trim());
  return found ? { layer: found[1] === undefined ? null : Number(found[1]), feature: Number(found[2]) } : null;
};

// Rows of the index, and of a gene's readers the share that each reads of it.
scx.find = function (atlas, asked) {
  let reads = null;
  if (asked.gene.trim()) {
    const number = atlas.genes.findIndex((name) => name.toUpperCase() === asked.gene.trim().toUpperCase());
    const [rows, shares] = (number >= 0 && atlas.readers[number]) || [[], []];
    reads = new Map(rows.map((row, k) => [row, shares[k]]));
  }
  const number = scx.numbered(asked.text), text = asked.text.trim().toLowerCase(), searched = scx.searchText(atlas);
  const verdict = asked.verdict === "" ? null : atlas.verdicts.indexOf(asked.verdict);
  const type = asked.type === "" ? null : atlas.types.indexOf(asked.type);
  const set = asked.set === "" ? null : atlas.sets.indexOf(asked.set);
  const found = [];
  for (let row = 0; row < atlas.layer.length; row += 1) {
    if (reads && !reads.has(row)) continue;
    if (verdict !== null && atlas.verdict[row] !== verdict) continue;
    if (type !== null && atlas.type[row] !== type) continue;
    if (set !== null && atlas.gene_set[row] !== set) continue;
    if (asked.layer !== "" && atlas.layer[row] !== Number(asked.layer)) continue;
    if (asked.stable && !atlas.stable[row]) continue;
    if (number) {
      if (atlas.feature[row] !== number.feature || (number.layer !== null && atlas.layer[row] !== number.layer)) continue;
    } else if (text && !searched[row].includes(text)) continue;
    found.push(row);
  }
  const value = reads ? (row) => reads.get(row) : (row) => atlas[asked.sort][row] ?? -Infinity;
  if (reads || asked.sort !== "layer") found.sort((a, b) => value(b) - value(a) || a - b);
  return { rows: found, reads };
};

scx.rowOf = function (atlas, layer, feature) {
  return atlas.layer.findIndex((own, row) => own === layer && atlas.feature[row] === feature);
};
