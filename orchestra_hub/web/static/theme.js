// Before the page is painted: the reader's dark or light, kept by JupyterHub's own switch or the system's setting.
"use strict";
(() => {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    let kept = null;
    try {
      kept = window.localStorage.getItem("jupyterhub-bs-theme");
    } catch {
      kept = null; // storage is switched off: the system's setting decides
    }
    const theme = kept === "dark" || kept === "light" ? kept : dark.matches ? "dark" : "light";
    document.documentElement.setAttribute("data-bs-theme", theme);
  };
  apply();
  dark.addEventListener("change", apply);
})();
