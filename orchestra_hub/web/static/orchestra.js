// Dates in the reader's own time zone, and a countdown that is right even if the reader's clock is not.
"use strict";
(() => {
  const opened = Date.now();
  const words = (seconds) => {
    if (seconds < 60) return "less than a minute";
    const minutes = Math.floor(seconds / 60);
    if (minutes < 60) return `${minutes} min`;
    const hours = Math.floor(minutes / 60);
    if (hours < 48) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
    return `${Math.floor(hours / 24)} days`;
  };
  const date = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
  for (const node of document.querySelectorAll("time[data-orchestra=date]")) {
    node.title = node.textContent;
    node.textContent = date.format(new Date(node.dateTime));
  }
  for (const node of document.querySelectorAll("[data-orchestra=zone]")) {
    node.textContent = Intl.DateTimeFormat().resolvedOptions().timeZone || "your time zone";
  }
  const counters = [...document.querySelectorAll("time[data-orchestra=countdown]")];
  const tick = () => {
    for (const node of counters) {
      const now = Date.parse(node.dataset.now) + (Date.now() - opened);
      const left = (Date.parse(node.dateTime) - now) / 1000;
      node.textContent = left > 0 ? words(left) : "now";
      if (left <= 0 && left > -60 && !node.dataset.done) {
        node.dataset.done = "1";
        window.setTimeout(() => window.location.reload(), 2000);
      }
    }
  };
  tick();
  if (counters.length) window.setInterval(tick, 5000);
})();
