"use strict";
(function () {
  const root = document.documentElement;
  const plots = JSON.parse(document.getElementById("plots").textContent);
  const dark = () => root.dataset.theme === "dark";
  function themed(layout) {
    const ink = dark() ? "#e8e8ee" : "#1b1b1f", line = dark() ? "#3a3a44" : "#e3e3ea";
    const out = structuredClone(layout);
    out.paper_bgcolor = out.plot_bgcolor = "rgba(0,0,0,0)";
    out.font = { color: ink, family: "system-ui, sans-serif", size: 12 };
    out.autosize = true;
    for (const key of Object.keys(out)) {
      if (/^[xy]axis/.test(key)) { out[key].gridcolor = line; out[key].linecolor = line; }
    }
    return out;
  }
  function draw(figure) {
    const select = figure.querySelector("select");
    const chosen = plots[figure.dataset.name][select ? select.value : ""]
      || Object.values(plots[figure.dataset.name])[0];
    Plotly.react(figure.querySelector(".plot"), structuredClone(chosen.data), themed(chosen.layout),
      { responsive: true, displaylogo: false, toImageButtonOptions: { format: "svg" } });
  }
  const figures = [...document.querySelectorAll("figure.picture")];
  const seen = new WeakSet();
  function watch() {
    const observer = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        if (entry.isIntersecting && !seen.has(entry.target)) {
          seen.add(entry.target);
          draw(entry.target);
        }
      }
    }, { rootMargin: "400px" });
    for (const figure of figures) {
      const select = figure.querySelector("select");
      if (select) select.addEventListener("change", () => draw(figure));
      observer.observe(figure);
    }
    window.addEventListener("beforeprint", () => figures.forEach(draw));
  }
  // the text is there to be read before the five megabytes of Plotly are compiled
  window.addEventListener("load", () => setTimeout(() => {
    const script = document.createElement("script");
    script.textContent = document.getElementById("plotly").textContent;
    document.head.append(script);
    watch();
  }, 0));
  function setTheme(name) {
    root.dataset.theme = name;
    for (const figure of figures) if (seen.has(figure)) draw(figure);
  }
  setTheme(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  document.getElementById("theme").addEventListener("click", () => setTheme(dark() ? "light" : "dark"));

  for (const grid of document.querySelectorAll(".grid")) {
    const body = grid.querySelector("tbody"), heads = [...grid.querySelectorAll("th")];
    heads.forEach((head, at) => head.querySelector("button").addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      heads.forEach((h) => h.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down === 1 ? "ascending" : "descending");
      const numeric = head.classList.contains("n");
      const key = (row) => numeric ? parseFloat(row.cells[at].dataset.v) : row.cells[at].textContent;
      const rows = [...body.rows];
      rows.sort((a, b) => {
        const x = key(a), y = key(b);
        if (numeric) {
          if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y);
          return down * (x - y);
        }
        return down * x.localeCompare(y, undefined, { numeric: true });
      });
      body.append(...rows);
    }));
    const box = grid.querySelector("input");
    if (box) box.addEventListener("input", () => {
      const words = box.value.toLowerCase().split(/\s+/);
      for (const row of body.rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
      }
    });
  }
})();
