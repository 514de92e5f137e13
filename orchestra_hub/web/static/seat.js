// A seat that is starting or stopping: shows what happens, then leads on. Reads the hub's progress events.
"use strict";
(() => {
  const box = document.getElementById("progress");
  if (!box) return;
  const bar = document.getElementById("progress-bar");
  const text = document.getElementById("progress-text");
  const reload = () => window.location.reload();
  if (box.dataset.state !== "starting" || !box.dataset.events) {
    window.setTimeout(reload, 1500);
    return;
  }
  const events = new EventSource(box.dataset.events);
  events.onmessage = (event) => {
    const step = JSON.parse(event.data);
    if (typeof step.progress === "number") bar.value = step.progress;
    if (step.message) text.textContent = step.message;
    if (step.ready) {
      events.close();
      window.location.replace(box.dataset.target);
    } else if (step.failed) {
      events.close();
      reload();
    }
  };
  events.onerror = () => {
    events.close();
    window.setTimeout(reload, 2000);
  };
})();
