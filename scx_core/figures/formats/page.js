"use strict";
// Draws the boxes and arrows that lie in the page as data. Positions are given; nothing moves unless it is dragged.
(function () {
  const drawing = JSON.parse(document.getElementById("drawing").textContent);
  const container = document.getElementById("network");
  const FONT = getComputedStyle(document.body).fontFamily;
  const boxes = new Map(drawing.nodes.map((node) => [node.id, node.box]));
  let lit = null; // ids of the boxes under attention, or null when all are

  // Text only: names come from data files and are never read as markup.
  function tooltip(lines) {
    const frame = document.createElement("div");
    lines.forEach((line, index) => {
      const row = document.createElement(index === 0 ? "b" : "div");
      row.textContent = line;
      frame.appendChild(row);
    });
    return frame;
  }

  function outline(ctx, box, x, y) {
    const w = box.width / 2, h = box.height / 2;
    ctx.beginPath();
    if (box.kind === "error") {
      ctx.moveTo(x, y - h); ctx.lineTo(x + w, y); ctx.lineTo(x, y + h); ctx.lineTo(x - w, y); ctx.closePath();
    } else {
      const radius = { gene: h, bias: 1, feature: 7 }[box.kind] ?? 9;
      ctx.roundRect(x - w, y - h, 2 * w, 2 * h, Math.min(radius, h));
    }
  }

  function star(ctx, x, y, radius) {
    ctx.beginPath();
    for (let step = 0; step < 10; step += 1) {
      const reach = step % 2 === 0 ? radius : 0.45 * radius;
      const angle = (Math.PI * step) / 5 - Math.PI / 2;
      ctx.lineTo(x + reach * Math.cos(angle), y + reach * Math.sin(angle));
    }
    ctx.closePath();
  }

  function write(ctx, words, x, y, size, colour, bold) {
    ctx.font = `${bold ? 600 : 400} ${size}px ${FONT}`;
    ctx.fillStyle = colour;
    ctx.textAlign = "center";
    ctx.textBaseline = "middle";
    ctx.fillText(words, x, y + 0.5);
  }

  function drawBox(ctx, id, x, y, hovered) {
    const box = boxes.get(id);
    const faded = lit !== null && !lit.has(id);
    outline(ctx, box, x, y);
    ctx.fillStyle = "#FFFFFF"; // arrows never show through a faded box
    if (faded) { if (box.kind !== "more") ctx.fill(); ctx.globalAlpha = 0.3; }
    ctx.fillStyle = box.fill;
    ctx.fill();
    ctx.setLineDash(box.kind === "against" ? [4, 3] : []);
    ctx.lineWidth = hovered ? 2.6 : box.kind === "gene" ? 1.6 : 1.2;
    ctx.strokeStyle = box.line;
    if (box.kind !== "more") ctx.stroke();
    ctx.setLineDash([]);
    if (box.kind === "error" || box.kind === "bias") return;
    const shift = box.marker ? drawing.badge : 0;
    const bold = ["gene", "feature", "target"].includes(box.kind);
    write(ctx, box.label, x + shift, y - (box.below ? 0.36 * box.font : 0), box.font, box.ink, bold);
    if (box.below) write(ctx, box.below, x, y + 0.72 * box.font, 0.8 * box.font, drawing.muted, false);
    if (box.marker) {
      star(ctx, x - box.width / 2 + drawing.badge + 4.5, y, drawing.badge);
      ctx.fillStyle = drawing.markerFill;
      ctx.fill();
      ctx.lineWidth = 0.8;
      ctx.strokeStyle = drawing.markerLine;
      ctx.stroke();
    }
  }

  const nodes = new vis.DataSet(drawing.nodes.map((node) => ({
    id: node.id, x: node.x, y: node.y, shape: "custom", title: tooltip(node.box.hover), 
    ctxRenderer: ({ ctx, id, x, y, state }) => ({
      drawNode: () => drawBox(ctx, id, x, y, state.hover || state.selected),
      nodeDimensions: { width: boxes.get(id).width, height: boxes.get(id).height },
    }),
  })));
  const edges = new vis.DataSet(drawing.edges.map((edge, index) => ({
    id: index, from: edge.from, to: edge.to, width: edge.width, color: edge.color, title: tooltip(edge.hover),
  })));
  const network = new vis.Network(container, { nodes, edges }, drawing.options);

  network.on("beforeDrawing", (ctx) => {
    ctx.font = `400 11px ${FONT}`;
    ctx.fillStyle = drawing.muted;
    ctx.textAlign = "left";
    ctx.textBaseline = "middle";
    drawing.rows.forEach((row) => ctx.fillText(row.label, 14, row.y));
  });

  // The frame is the drawing's own, so that it stands where the printed figure has it.
  function fit() {
    const scale = Math.min(container.clientWidth / drawing.width, container.clientHeight / drawing.height, 1.5);
    network.moveTo({ position: { x: drawing.width / 2, y: drawing.height / 2 }, scale, animation: false });
  }

  function attend(ids) {
    lit = ids;
    edges.update(drawing.edges.map((edge, index) => {
      const dim = lit !== null && !(lit.has(edge.from) && lit.has(edge.to) && (lit.centres.has(edge.from) || lit.centres.has(edge.to)));
      return { id: index, color: dim ? { ...edge.color, opacity: 0.05 } : edge.color };
    }));
  }

  function neighbourhood(centres) {
    const ids = new Set(centres);
    drawing.edges.forEach((edge) => {
      if (centres.has(edge.from)) ids.add(edge.to);
      if (centres.has(edge.to)) ids.add(edge.from);
    });
    ids.centres = centres;
    return ids;
  }

  function zoom(factor) {
    network.moveTo({ scale: Math.min(4, Math.max(0.1, network.getScale() * factor)), animation: false });
  }

  network.on("click", (event) => {
    const tip = container.querySelector(".vis-tooltip"); // it would hide the neighbours that the click shows
    if (tip) tip.style.visibility = "hidden";
    attend(event.nodes.length ? neighbourhood(new Set([event.nodes[0]])) : null);
  });
  document.getElementById("in").addEventListener("click", () => zoom(1.25));
  document.getElementById("out").addEventListener("click", () => zoom(0.8));
  document.getElementById("fit").addEventListener("click", () => { network.unselectAll(); attend(null); fit(); });
  // A plain wheel scrolls the page that the circuit stands in.
  container.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    zoom(event.deltaY < 0 ? 1.1 : 1 / 1.1);
  }, { passive: false });
  window.addEventListener("resize", fit);
  fit();
  if (drawing.lit.length) attend(neighbourhood(new Set(drawing.lit)));
  // vis-network learns the size of a box when it first draws it; only then do arrows end at the border.
  Object.values(network.body.nodes).forEach((node) => node.needsRefresh());
  network.redraw();
  window.circuit = { network, boxes };
})();
