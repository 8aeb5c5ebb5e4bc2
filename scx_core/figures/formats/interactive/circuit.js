"use strict";
// A circuit on a canvas: boxes and arrows of a drawing, by vis-network. Both the page that is exported and the
// picture in the dashboard draw with this. Positions are given; nothing moves unless it is dragged.
window.scxCircuit = (function () {
  // Text only: names come from data files and are never read as markup.
  function words(lines) {
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

  function write(ctx, text, x, y, size, colour, bold, font) {
    ctx.font = `${bold ? 600 : 400} ${size}px ${font}`;
    ctx.fillStyle = colour;
    ctx.textAlign = "center";
    ctx.textBaseline = "middle";
    ctx.fillText(text, x, y + 0.5);
  }

  // What of each arrow's flow starts at the box `from`: the share of its source's drawn input that does, times
  // the arrow's strength. Boxes only feed boxes above them, so one pass upwards is enough.
  function flowsFrom(drawing, from) {
    const height = new Map(drawing.nodes.map((node) => [node.id, node.y]));
    const edges = [...drawing.edges].sort((a, b) => height.get(b.from) - height.get(a.from));
    const total = new Map(), own = new Map(), flows = new Map();
    edges.forEach((edge) => total.set(edge.to, (total.get(edge.to) ?? 0) + edge.strength));
    edges.forEach((edge) => {
      const share = edge.from === from ? 1 : (own.get(edge.from) ?? 0) / (total.get(edge.from) || 1);
      if (share <= 0) return;
      flows.set(edge, share * edge.strength);
      own.set(edge.to, (own.get(edge.to) ?? 0) + share * edge.strength);
    });
    return flows;
  }

  return function draw(container, drawing, more = {}) {
    const FONT = getComputedStyle(document.body).fontFamily;
    const boxes = new Map(drawing.nodes.map((node) => [node.id, node.box]));
    const paper = more.paper ?? "#FFFFFF";
    const tone = (colour) => (more.dark ? drawing.onDark[colour] ?? colour : colour); // of what stands on the paper
    let lit = null; // { ids, edges: Map(edge → 0..1) } under attention, or null when all are
    let focused = null;
    let shown = () => true; // the layer filter

    function drawBox(ctx, id, x, y, hovered) {
      const box = boxes.get(id);
      const faded = (lit !== null && !lit.ids.has(id)) || !shown(box);
      outline(ctx, box, x, y);
      ctx.fillStyle = paper; // arrows never show through a faded box
      if (faded) { if (box.kind !== "more") ctx.fill(); ctx.globalAlpha = 0.28; }
      ctx.fillStyle = ["more", "against"].includes(box.kind) ? paper : box.kind === "target" ? tone(box.fill) : box.fill;
      ctx.fill();
      ctx.setLineDash(box.kind === "against" ? [4, 3] : []);
      ctx.lineWidth = hovered ? 2.6 : box.kind === "gene" ? 1.6 : 1.2;
      ctx.strokeStyle = tone(box.line);
      if (box.kind !== "more") ctx.stroke();
      ctx.setLineDash([]);
      if (id === focused || (lit !== null && lit.centres.has(id))) {
        ctx.lineWidth = 2.4;
        ctx.strokeStyle = more.accent ?? "#2f6f8f";
        ctx.beginPath();
        ctx.roundRect(x - box.width / 2 - 4, y - box.height / 2 - 4, box.width + 8, box.height + 8, 10);
        ctx.stroke();
      }
      if (box.kind === "error" || box.kind === "bias") return;
      const shift = box.marker ? drawing.badge : 0;
      const bold = ["gene", "feature", "target"].includes(box.kind);
      const onPaper = ["more", "against"].includes(box.kind);
      const ink = box.kind === "target" && more.dark ? paper : onPaper || (faded && more.dark) ? tone(box.ink) : box.ink;
      const small = faded && more.dark ? tone(drawing.muted) : drawing.muted;
      write(ctx, box.label, x + shift, y - (box.below ? 0.36 * box.font : 0), box.font, ink, bold, FONT);
      if (box.below) write(ctx, box.below, x, y + 0.72 * box.font, 0.8 * box.font, small, false, FONT);
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
      id: node.id, x: node.x, y: node.y, shape: "custom", title: words(node.box.hover),
      ctxRenderer: ({ ctx, id, x, y, state }) => ({
        drawNode: () => drawBox(ctx, id, x, y, state.hover || state.selected),
        nodeDimensions: { width: boxes.get(id).width, height: boxes.get(id).height },
      }),
    })));
    const toned = (colour) => Object.fromEntries(
      Object.entries(colour).map(([part, value]) => [part, typeof value === "string" ? tone(value) : value]),
    );
    const edges = new vis.DataSet(drawing.edges.map((edge, index) => ({
      id: index, from: edge.from, to: edge.to, width: edge.width, title: words(edge.hover),
      color: toned(edge.color),
    })));
    const network = new vis.Network(container, { nodes, edges }, { ...drawing.options, ...(more.options ?? {}) });

    network.on("beforeDrawing", (ctx) => {
      ctx.font = `400 ${drawing.rowFont ?? 11}px ${FONT}`;
      ctx.fillStyle = more.muted ?? drawing.muted;
      ctx.textAlign = "left";
      ctx.textBaseline = "middle";
      drawing.rows.forEach((row) => ctx.fillText(row.label, 14, row.y));
    });

    // The frame is the drawing's own, so that it stands where the printed figure has it.
    function fit() {
      if (!container.clientWidth || !container.clientHeight) return; // hidden: nothing to fit into
      const most = more.mostScale ?? 1.5;
      const scale = Math.min(container.clientWidth / drawing.width, container.clientHeight / drawing.height, most);
      network.moveTo({ position: { x: drawing.width / 2, y: drawing.height / 2 }, scale, animation: false });
    }

    // Only of arrows that look another way than before: with thousands of them each change costs its time.
    const opacities = drawing.edges.map((edge) => edge.color.opacity);
    function colours() {
      const changed = [];
      drawing.edges.forEach((edge, index) => {
        const hidden = !shown(boxes.get(edge.from)) || !shown(boxes.get(edge.to));
        const part = lit === null ? null : lit.edges.get(edge) ?? 0;
        const opacity = hidden ? 0.03 : part === null ? edge.color.opacity : part > 0 ? 0.35 + 0.6 * part : 0.04;
        if (opacity === opacities[index]) return;
        opacities[index] = opacity;
        changed.push({ id: index, color: { ...toned(edge.color), opacity } });
      });
      if (changed.length) edges.update(changed);
      else network.redraw(); // boxes may have
    }

    function attend(found) { lit = found; colours(); }

    // A box with all that it is joined to.
    function neighbourhood(centres) {
      const found = { ids: new Set(centres), edges: new Map(), centres };
      drawing.edges.forEach((edge) => {
        if (!centres.has(edge.from) && !centres.has(edge.to)) return;
        found.ids.add(edge.from).add(edge.to);
        found.edges.set(edge, 1);
      });
      return found;
    }

    // The ways from a box to the answer, the stronger the brighter; of a feature also what it reads directly.
    function paths(id) {
      const found = neighbourhood(new Set([id]));
      const flows = flowsFrom(drawing, id);
      const most = Math.max(0, ...flows.values());
      found.edges.forEach((_, edge) => { if (edge.from === id) found.edges.delete(edge); });
      found.ids = new Set([id, ...[...found.edges.keys()].map((edge) => edge.from)]);
      flows.forEach((flow, edge) => {
        if (flow < 0.04 * most) return;
        found.edges.set(edge, Math.sqrt(flow / most));
        found.ids.add(edge.from).add(edge.to);
      });
      return found;
    }

    function zoom(factor, at) {
      const before = network.getScale();
      const scale = Math.min(6, Math.max(0.1, before * factor));
      if (!at) return network.moveTo({ scale, animation: false });
      const centre = network.getViewPosition(), point = network.DOMtoCanvas(at), part = before / scale;
      return network.moveTo({
        scale, animation: false,
        position: { x: point.x + (centre.x - point.x) * part, y: point.y + (centre.y - point.y) * part },
      });
    }

    fit();
    // vis-network learns the size of a box when it first draws it; only then do arrows end at the border.
    Object.values(network.body.nodes).forEach((node) => node.needsRefresh());
    network.redraw();
    return {
      network, boxes, fit, attend, neighbourhood, paths, zoom,
      focus: (id) => { focused = id; network.redraw(); },
      filter: (test) => { shown = test; colours(); network.redraw(); },
      hush: () => { // the tooltip would hide the neighbours that a click shows
        const tip = container.querySelector(".vis-tooltip");
        if (tip) tip.style.visibility = "hidden";
      },
    };
  };
})();
