// "Copy" buttons beside a field; without this script they stay hidden and the field can be copied by hand.
"use strict";
(() => {
  if (!navigator.clipboard) return; // not a secure context
  for (const button of document.querySelectorAll("[data-orchestra=copy]")) {
    const field = document.getElementById(button.dataset.from);
    const label = button.textContent;
    button.hidden = false;
    button.setAttribute("aria-live", "polite");
    button.addEventListener("click", async () => {
      field.select();
      try {
        await navigator.clipboard.writeText(field.value);
        button.textContent = "Copied";
      } catch {
        button.textContent = "Press Ctrl+C"; // the browser doesn't let us
      }
      window.setTimeout(() => { button.textContent = label; }, 3000);
    });
  }
})();
