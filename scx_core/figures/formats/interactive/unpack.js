"use strict";
// Compressed text that lies in the page, as text again; and a script of it, run as one of the page's own.
window.scxUnpack = async function (id) {
  const letters = atob(document.getElementById(id).textContent);
  const bytes = Uint8Array.from(letters, (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
};
window.scxRun = function (text) {
  const script = document.createElement("script");
  script.textContent = text;
  document.head.appendChild(script);
};
