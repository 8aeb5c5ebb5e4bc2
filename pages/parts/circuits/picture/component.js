"use strict";
// The picture in the dashboard. It is told a drawing, and tells what a person does with it: boxes chosen, hidden,
// pinned, joined, renamed, taken back. What is drawn is decided by who is told; nothing here is kept but the view.
(function () {
  const byId = (id) => document.getElementById(id);
  const container = byId("network");
  let circuit = null, drawing = null, mark = null, chosen = [], count = 0, layers = null, naming = null, moved = false, fixed = false, presented = false;

  // Streamlit's protocol for components, as far as it is needed.
  function tell(type, more) {
    window.parent.postMessage({ isStreamlitMessage: true, type, ...more }, "*");
  }
  function report(kind, more = {}) {
    count += 1;
    tell("streamlit:setComponentValue", {
      value: { at: `${performance.timeOrigin}-${count}`, kind, ids: chosen, ...more }, dataType: "json",
    });
  }

  // As high as what is left of the window below its top, so that the circuit is seen without scrolling.
  function height(least) {
    try {
      const frame = window.frameElement.getBoundingClientRect();
      const scrolled = window.parent.document.querySelector('[data-testid="stMain"]')?.scrollTop ?? 0;
      return Math.max(least, Math.floor(window.parent.innerHeight - frame.top - scrolled - 14));
    } catch { return least; }
  }

  // One of two beside each other, which are scrolled to: all of the window but their titles and the slider.
  function beside(least) {
    try { return Math.max(least, window.parent.innerHeight - 230); } catch { return least; }
  }

  function kindWords(box) {
    return { gene: "gene", feature: "feature", target: "answer", against: "competitors" }[box.kind] ?? box.kind;
  }

  function choose(ids, told = true) {
    const nothing = presented && !chosen.length; // and nothing: a key that follows would meet a page at work
    chosen = ids.filter((id) => circuit.boxes.has(id));
    circuit.network.selectNodes(chosen);
    if (!chosen.length) circuit.attend(null);
    else if (chosen.length === 1) circuit.attend(circuit.paths(chosen[0]));
    else circuit.attend(circuit.neighbourhood(new Set(chosen)));
    buttons();
    panel();
    if (told && !(nothing && !chosen.length)) report("choose");
  }

  function buttons() {
    const kinds = chosen.map((id) => circuit.boxes.get(id));
    const features = kinds.every((box) => box.kind === "feature");
    byId("hide").disabled = !chosen.length || kinds.some((box) => box.kind === "target");
    byId("pin").disabled = !chosen.length;
    byId("pin").textContent = chosen.length && chosen.every((id) => drawing.pinned.includes(id)) ? "Unpin" : "Pin";
    byId("join").disabled = chosen.length < 2 || !features || new Set(kinds.map((box) => box.layer)).size > 1;
    byId("rename").disabled = chosen.length !== 1 || !features;
    byId("undo").disabled = !drawing.edits;
    byId("reset").disabled = !drawing.edits;
    byId("edits").hidden = fixed || (!chosen.length && !drawing.edits);
    byId("said").textContent = chosen.length > 1 ? `${chosen.length} boxes chosen.` : drawing.said;
  }

  // In full screen there is no card beside the picture: its words are shown in it.
  function panel() {
    const box = chosen.length === 1 && document.fullscreenElement ? circuit.boxes.get(chosen[0]) : null;
    byId("panel").hidden = !box;
    byId("panel").replaceChildren(...(box ? box.hover : []).map((line, index) => {
      const row = document.createElement(index === 0 ? "b" : "div");
      row.textContent = line;
      return row;
    }));
  }

  // One place in the tab order for each box, from the answer down.
  function keys() {
    const places = [...drawing.nodes].sort((a, b) => a.y - b.y || a.x - b.x).filter((node) => node.box.kind !== "more");
    byId("keys").replaceChildren(...places.map((node) => {
      const key = document.createElement("button");
      key.type = "button";
      key.setAttribute("role", "option");
      key.dataset.id = node.id;
      key.setAttribute("aria-label", `${node.box.label}, ${kindWords(node.box)}${node.box.below ? `, ${node.box.below}` : ""}`);
      key.addEventListener("focus", () => circuit.focus(node.id));
      key.addEventListener("blur", () => circuit.focus(null));
      key.addEventListener("click", (event) => pick(node.id, event.ctrlKey || event.shiftKey));
      return key;
    }));
  }

  function pick(id, more) {
    if (!more) choose([id]);
    else choose(chosen.includes(id) ? chosen.filter((other) => other !== id) : [...chosen, id]);
  }

  function layerFilter() {
    const found = [...new Set(drawing.nodes.map((node) => node.box.layer).filter((layer) => layer !== null))].sort((a, b) => a - b);
    document.querySelector(".layers").hidden = found.length < 2;
    const [low, high] = layers ?? [found[0], found[found.length - 1]];
    [["low", low], ["high", high]].forEach(([name, value]) => {
      byId(name).replaceChildren(...found.map((layer) => new Option(layer, layer, false, layer === value)));
    });
    filtered();
  }

  function filtered() {
    const [low, high] = [Number(byId("low").value), Number(byId("high").value)];
    circuit.filter((box) => box.layer === null || (box.layer >= low && box.layer <= high));
  }

  function redraw(args, theme) {
    fixed = args.fixed;
    presented = args.presented;
    document.body.classList.toggle("fixed", fixed);
    document.body.classList.toggle("presented", presented);
    drawing = args.drawing;
    const dark = theme?.base === "dark";
    const root = document.documentElement.style;
    document.documentElement.classList.toggle("dark", dark);
    root.setProperty("--paper", theme?.backgroundColor ?? "#FFFFFF");
    root.setProperty("--ink", theme?.textColor ?? "#1B1F24");
    root.setProperty("--muted", dark ? "#A9B2BC" : "#5F6872");
    root.setProperty("--faint", dark ? "#3B444D" : "#D5DAE0");
    root.setProperty("--accent", theme?.primaryColor ?? "#2f6f8f");
    const kept = circuit && args.same && moved ? { scale: circuit.network.getScale(), position: circuit.network.getViewPosition() } : null;
    circuit?.network.destroy();
    circuit = window.scxCircuit(container, drawing, {
      dark, paper: theme?.backgroundColor, muted: dark ? "#A9B2BC" : undefined, accent: theme?.primaryColor, mostScale: 3,
      options: { interaction: { ...drawing.options.interaction, multiselect: true } },
    });
    if (kept) circuit.network.moveTo({ ...kept, animation: false });
    else moved = false;
    circuit.network.on("showPopup", (id) => { if (chosen.includes(id)) circuit.hush(); }); // its card is beside it
    circuit.network.on("click", (event) => {
      circuit.hush();
      const id = event.nodes.length ? circuit.network.getNodeAt(event.pointer.DOM) : undefined;
      if (id === undefined) return choose([]);
      return pick(id, event.event.srcEvent.ctrlKey || event.event.srcEvent.shiftKey);
    });
    circuit.network.on("dragEnd", (event) => {
      if (!event.nodes.length) { moved = true; return; }
      if (!fixed) report("pin", { places: circuit.network.getPositions(event.nodes) });
    });
    byId("names").replaceChildren(...drawing.nodes.map((node) => new Option(node.box.label)));
    keys();
    layerFilter();
    window.circuit = circuit;
  }

  function told(args, theme) {
    tell("streamlit:setFrameHeight", { height: args.fixed ? beside(args.height) : height(args.height) });
    const ground = `${args.mark} ${theme?.base} ${theme?.backgroundColor}`;
    if (ground !== mark) {
      mark = ground;
      redraw(args, theme);
      choose(args.chosen, false);
    } else if (JSON.stringify(args.chosen) !== JSON.stringify(chosen)) choose(args.chosen, false);
    if (args.lit.length && !chosen.length) circuit.attend(circuit.neighbourhood(new Set(args.lit)));
  }

  function find() {
    const text = byId("search").value.trim().toLowerCase();
    if (!text) return choose([]);
    const words = (node) => [node.box.label, node.box.below, ...node.box.hover].join(" ").toLowerCase();
    const exact = drawing.nodes.filter((node) => node.box.label.toLowerCase() === text);
    const found = exact.length ? exact : drawing.nodes.filter((node) => words(node).includes(text));
    byId("said").textContent = found.length ? "" : "Nothing of that name is in the picture.";
    if (found.length === 1) return choose([found[0].id]);
    return circuit.attend(found.length ? circuit.neighbourhood(new Set(found.map((node) => node.id))) : null);
  }

  function askName(kind) {
    naming = kind;
    byId("naming").hidden = false;
    byId("name").value = kind === "rename" ? circuit.boxes.get(chosen[0]).label : "";
    byId("name").focus();
    byId("name").select();
  }
  function named(event) {
    event.preventDefault();
    byId("naming").hidden = true;
    report(naming, { name: byId("name").value });
  }

  byId("search").addEventListener("change", find);
  byId("search").addEventListener("keydown", (event) => { if (event.key === "Enter") find(); });
  ["low", "high"].forEach((name) => byId(name).addEventListener("change", () => {
    layers = [Number(byId("low").value), Number(byId("high").value)];
    filtered();
  }));
  byId("hide").addEventListener("click", () => report("hide"));
  byId("pin").addEventListener("click", () => {
    if (byId("pin").textContent === "Unpin") report("unpin");
    else report("pin", { places: circuit.network.getPositions(chosen) });
  });
  byId("join").addEventListener("click", () => askName("join"));
  byId("rename").addEventListener("click", () => askName("rename"));
  byId("naming").addEventListener("submit", named);
  byId("cancel").addEventListener("click", () => { byId("naming").hidden = true; });
  byId("undo").addEventListener("click", () => report("undo"));
  byId("reset").addEventListener("click", () => report("reset"));
  byId("in").addEventListener("click", () => { moved = true; circuit.zoom(1.25); });
  byId("out").addEventListener("click", () => { moved = true; circuit.zoom(0.8); });
  byId("fit").addEventListener("click", () => { moved = false; circuit.fit(); });
  // The address of the page is the view. Where a browser does not let a frame write to the clipboard, the old way.
  byId("link").addEventListener("click", async () => {
    const link = window.parent.location.href;
    try { await navigator.clipboard.writeText(link); } catch {
      const field = document.body.appendChild(document.createElement("textarea"));
      field.value = link;
      field.select();
      document.execCommand("copy");
      field.remove();
    }
    byId("said").textContent = "The link is copied.";
  });
  byId("full").addEventListener("click", () => {
    if (document.fullscreenElement) document.exitFullscreen();
    else document.documentElement.requestFullscreen().catch(() => { byId("said").textContent = "This browser allows no full screen here."; });
  });
  document.addEventListener("fullscreenchange", () => {
    byId("full").textContent = document.fullscreenElement ? "Leave" : "Full screen";
    panel();
  });
  document.addEventListener("keydown", (event) => {
    if (event.target.matches("input, select") || !circuit) return;
    if (presented && ["ArrowLeft", "ArrowRight", "Escape"].includes(event.key)) {
      window.parent.focus(); // the keys are the page's, wherever the focus is
      window.parent.document.body.dispatchEvent(new window.parent.KeyboardEvent("keydown", { key: event.key, code: event.key, keyCode: event.keyCode, bubbles: true }));
      return;
    }
    if (event.key === "Escape") choose([]);
    if (event.key === "Delete" && !fixed && !byId("hide").disabled) report("hide");
    if (event.key === "z" && (event.ctrlKey || event.metaKey) && drawing.edits) report("undo");
  });
  container.addEventListener("wheel", (event) => {
    if (!circuit) return;
    event.preventDefault();
    moved = true;
    const frame = container.getBoundingClientRect();
    circuit.zoom(event.deltaY < 0 ? 1.12 : 1 / 1.12, { x: event.clientX - frame.left, y: event.clientY - frame.top });
  }, { passive: false });
  // The frame gets its size after it is drawn for the first time; a picture that was moved stays as it is.
  let size = "";
  new ResizeObserver(() => {
    const now = `${container.clientWidth} ${container.clientHeight}`;
    if (!circuit || now === size) return;
    size = now;
    circuit.network.setSize("100%", "100%");
    if (!moved) circuit.fit();
  }).observe(container);
  let last = null;
  window.addEventListener("message", (event) => {
    if (event.source !== window.parent || event.data?.type !== "streamlit:render") return;
    last = event.data;
    told(last.args, last.theme);
  });
  window.parent.addEventListener?.("resize", () => { if (last) tell("streamlit:setFrameHeight", { height: fixed ? beside(last.args.height) : height(last.args.height) }); });
  tell("streamlit:componentReady", { apiVersion: 1 });
})();
