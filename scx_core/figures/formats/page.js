"use strict";
// The exported page: the circuit that lies in it as data, its buttons, and the wheel with Ctrl.
(function () {
  const drawing = JSON.parse(document.getElementById("drawing").textContent);
  const container = document.getElementById("network");
  const circuit = window.scxCircuit(container, drawing);
  const { network, attend, neighbourhood, fit, zoom } = circuit;

  network.on("click", (event) => {
    circuit.hush();
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
  new ResizeObserver(fit).observe(container); // also when a frame that was hidden is opened
  if (drawing.lit.length) attend(neighbourhood(new Set(drawing.lit)));
  window.circuit = circuit;
})();
