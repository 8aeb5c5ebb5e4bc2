"use strict";
// The cells of a map: coloured, zoomed, chosen one by one, by drawing around them, or by their colour's name.
(function () {
  const byId = (id) => document.getElementById(id);
  const canvas = byId("map"), ctx = canvas.getContext("2d");
  let args = null, theme = null, chosen = new Set(), way = null, count = 0, view = null;

  function tell(type, more) { window.parent.postMessage({ isStreamlitMessage: true, type, ...more }, "*"); }
  function report(cells, kind) {
    count += 1;
    chosen = new Set(cells);
    paint();
    byId("said").textContent = cells.length === 1 ? `Cell ${args.ids[cells[0]]}.` : `${cells.length} cells.`;
    tell("streamlit:setComponentValue", { value: { at: `${performance.timeOrigin}-${count}`, kind, cells }, dataType: "json" });
  }

  // x and y lie between 0 and 1; the view is what part of that is seen.
  function size() { return [canvas.clientWidth, canvas.clientHeight]; }
  function place(index) {
    const [w, h] = size(), side = Math.min(w, h) - 24;
    return [
      w / 2 + ((args.x[index] - view.x) * side) * view.scale,
      h / 2 - ((args.y[index] - view.y) * side) * view.scale,
    ];
  }

  function paint() {
    const [w, h] = size(), ratio = window.devicePixelRatio || 1;
    if (!w || !h || !args) return;
    if (canvas.width !== Math.round(w * ratio)) canvas.width = Math.round(w * ratio);
    if (canvas.height !== Math.round(h * ratio)) canvas.height = Math.round(h * ratio);
    ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    ctx.clearRect(0, 0, w, h);
    const radius = Math.max(2, Math.min(6, 90 / Math.sqrt(args.x.length))) * Math.sqrt(view.scale);
    for (let pass = 0; pass < 2; pass += 1) {
      for (let i = 0; i < args.x.length; i += 1) {
        if (chosen.has(i) !== (pass === 1)) continue;
        const [x, y] = place(i);
        ctx.beginPath();
        ctx.arc(x, y, pass ? radius + 1 : radius, 0, 2 * Math.PI);
        ctx.fillStyle = args.palette[args.colour[i]];
        ctx.globalAlpha = chosen.size && !pass ? 0.35 : 0.9;
        ctx.fill();
        if (pass) { ctx.globalAlpha = 1; ctx.lineWidth = 1.5; ctx.strokeStyle = theme?.textColor ?? "#1B1F24"; ctx.stroke(); }
      }
    }
    ctx.globalAlpha = 1;
    if (way) {
      ctx.beginPath();
      way.forEach(([x, y], index) => (index ? ctx.lineTo(x, y) : ctx.moveTo(x, y)));
      ctx.closePath();
      ctx.setLineDash([5, 4]);
      ctx.lineWidth = 1.6;
      ctx.strokeStyle = theme?.primaryColor ?? "#2f6f8f";
      ctx.stroke();
      ctx.setLineDash([]);
    }
  }

  function inside(x, y, shape) {
    let odd = false;
    for (let i = 0, j = shape.length - 1; i < shape.length; j = i, i += 1) {
      const [ax, ay] = shape[i], [bx, by] = shape[j];
      if ((ay > y) !== (by > y) && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) odd = !odd;
    }
    return odd;
  }
  function all() { return args.x.map((_, index) => index); }
  function at(event) { const frame = canvas.getBoundingClientRect(); return [event.clientX - frame.left, event.clientY - frame.top]; }

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !args) return;
    canvas.setPointerCapture(event.pointerId);
    way = [at(event)];
  });
  canvas.addEventListener("pointermove", (event) => { if (way) { way.push(at(event)); paint(); } });
  canvas.addEventListener("pointerup", (event) => {
    if (!way) return;
    const shape = way, [x, y] = at(event);
    way = null;
    const moved = shape.some(([a, b]) => Math.hypot(a - x, b - y) > 6);
    if (moved) {
      const found = all().filter((index) => inside(...place(index), shape));
      return found.length ? report(found, "lasso") : paint();
    }
    const near = all().map((index) => [Math.hypot(place(index)[0] - x, place(index)[1] - y), index]).sort((a, b) => a[0] - b[0])[0];
    return near && near[0] < 14 ? report([near[1]], "click") : paint();
  });
  canvas.addEventListener("dblclick", () => { view = { x: 0.5, y: 0.5, scale: 1 }; paint(); });
  canvas.addEventListener("wheel", (event) => {
    if (!args) return;
    event.preventDefault();
    const [w, h] = size(), side = Math.min(w, h) - 24, [x, y] = at(event);
    const scale = Math.min(40, Math.max(0.5, view.scale * (event.deltaY < 0 ? 1.15 : 1 / 1.15)));
    const px = view.x + (x - w / 2) / (side * view.scale), py = view.y - (y - h / 2) / (side * view.scale);
    view = { scale, x: px - (x - w / 2) / (side * scale), y: py + (y - h / 2) / (side * scale) };
    paint();
  }, { passive: false });

  function legend() {
    byId("legend").replaceChildren(...args.legend.map(([name, colour, number]) => {
      const row = document.createElement("li"), key = document.createElement("button"), dot = document.createElement("i");
      key.type = "button";
      dot.style.background = args.palette[colour];
      key.append(dot, document.createTextNode(number === null ? name : `${name} (${number})`)); // text, whatever the name
      if (args.groups) key.addEventListener("click", () => report(all().filter((index) => args.colour[index] === colour), "group"));
      row.append(key);
      return row;
    }));
  }

  window.addEventListener("message", (event) => {
    if (event.source !== window.parent || event.data?.type !== "streamlit:render") return;
    const first = args === null || args.mark !== event.data.args.mark;
    args = event.data.args;
    theme = event.data.theme;
    const dark = theme?.base === "dark", root = document.documentElement.style;
    root.setProperty("--paper", theme?.backgroundColor ?? "#FFFFFF");
    root.setProperty("--ink", theme?.textColor ?? "#1B1F24");
    root.setProperty("--muted", dark ? "#A9B2BC" : "#5F6872");
    root.setProperty("--faint", dark ? "#3B444D" : "#D5DAE0");
    root.setProperty("--accent", theme?.primaryColor ?? "#2f6f8f");
    if (first) { view = { x: 0.5, y: 0.5, scale: 1 }; chosen = new Set(args.chosen); }
    tell("streamlit:setFrameHeight", { height: args.height });
    legend();
    paint();
    window.cells = { place, count: () => args.x.length, chosen: () => [...chosen] };
  });
  new ResizeObserver(paint).observe(canvas);
  tell("streamlit:componentReady", { apiVersion: 1 });
})();
