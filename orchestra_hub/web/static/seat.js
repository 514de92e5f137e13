// A seat that waits in the line, starts or stops: shows what happens, then leads on. Reads the hub's progress events.
"use strict";
(() => {
  const box = document.getElementById("progress");
  if (!box) return;
  const bar = document.getElementById("progress-bar");
  const text = document.getElementById("progress-text");
  const title = document.getElementById("progress-title");
  const inLine = document.getElementById("in-line");
  const reload = () => window.location.reload();
  // a page that is loaded again while the hub restarts would be the proxy's error page: wait until the hub is back
  const reloadOnceThere = async () => {
    try {
      const answer = await fetch(window.location.href, { method: "HEAD", cache: "no-store" });
      if (answer.status < 500) return reload();
    } catch {
      // no answer at all: as good as an error
    }
    window.setTimeout(reloadOnceThere, 2000);
  };
  if (box.dataset.state === "stopping" || !box.dataset.events) {
    window.setTimeout(reload, 1500);
    return;
  }
  const show = (waiting) => {
    if (inLine.hidden === !waiting) return;
    inLine.hidden = !waiting;
    title.textContent = waiting ? title.dataset.waiting : title.dataset.starting;
  };
  const events = new EventSource(box.dataset.events);
  events.onmessage = (event) => {
    const step = JSON.parse(event.data);
    if (step.progress === 0) return; // JupyterHub's first, which says nothing
    if (typeof step.progress === "number") bar.value = step.progress;
    if (step.message) text.textContent = step.message;
    show(typeof step.place === "number");
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
    window.setTimeout(reloadOnceThere, 1000);
  };
})();
