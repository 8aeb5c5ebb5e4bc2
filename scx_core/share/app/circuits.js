// A circuit: what forbids reading it, the drawing that can be touched, its boxes as buttons, words, genes.
scx.circuitView = async function (number) {
  const { el, about } = scx;
  const links = about.circuits.map((one, k) => el("a", { href: `#circuit/${k}`, "aria-current": k === number ? "page" : null }, one.name));
  const list = el("p", { class: "choices", "aria-label": "Cell types" }, links);
  const circuit = await scx.data(`circuit-${number}`);
  const network = el("div", { id: "network", role: "img", "aria-label": circuit.caption });
  const paper = el("div", { class: "paper" },
    el("div", { class: "head" }, el("div", {}, el("h2", {}, el("bdi", {}, circuit.title)), el("p", {}, circuit.subtitle)), el("p", {}, circuit.scores)),
    network, scx.written("div", { class: "legend" }, circuit.legend), el("p", { class: "notes" }, circuit.notes.join("; ")));
  network.style.aspectRatio = `${circuit.drawing.width} / ${circuit.drawing.height}`;
  const boxes = el("div", { class: "boxes" }), told = el("div", { class: "told", "aria-live": "polite" });
  scx.show(list, ...circuit.grave.map((text) => scx.banner(text, true)), ...circuit.mild.map((text) => scx.banner(text, false)),
    paper, told,
    el("details", {}, el("summary", {}, `Boxes as a list (${circuit.drawing.nodes.length})`), boxes),
    ...circuit.said.map((text) => el("p", {}, text)),
    el("details", { open: true }, el("summary", {}, "In words"), el("ul", {}, circuit.words.map((text) => el("li", {}, text)))),
    el("details", {}, el("summary", {}, "Genes"), scx.written("div", { class: "written" }, circuit.genes)),
    el("p", { class: "muted" }, circuit.provenance));
  await scx.library();
  if (!network.isConnected) return; // another part was opened meanwhile
  const drawn = window.scxCircuit(network, circuit.drawing);
  const attend = (id) => {
    drawn.attend(id ? drawn.neighbourhood(new Set([id])) : null);
    const box = id && drawn.boxes.get(id), feature = id && circuit.features[id];
    const there = feature && about.features ? el("a", { href: `#feature/${feature[0]}/${feature[1]}` }, `Its card: L${feature[0]}·${feature[1]}`) : null;
    told.replaceChildren(...(box ? [...box.hover.map((line, k) => el(k ? "div" : "b", {}, line)), there].filter(Boolean) : []));
  };
  drawn.network.on("click", (event) => { drawn.hush(); attend(event.nodes[0] ?? null); });
  const rows = circuit.drawing.nodes.filter((node) => node.box.label && node.box.kind !== "more");
  boxes.append(...rows.map((node) => el("button", { type: "button", onclick: () => attend(node.id) }, node.box.label, node.box.below ? ` · ${node.box.below}` : "")));
  new ResizeObserver(drawn.fit).observe(network);
  scx.circuit = drawn;
};
