"use strict";
// Draws the figures. Reads inert JSON, writes text, never markup.
(() => {
  const plots = JSON.parse(document.getElementById("plots").textContent);

  // Colours are written as names of CSS variables, so that one description serves both schemes.
  const paint = (value, css) => {
    if (typeof value === "string" && value.startsWith("--")) return css.getPropertyValue(value).trim();
    if (Array.isArray(value)) return value.map((inner) => paint(inner, css));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, paint(v, css)]));
    }
    return value;
  };

  const draw = () => {
    const css = getComputedStyle(document.documentElement);
    const axis = {
      gridcolor: css.getPropertyValue("--rule").trim(),
      linecolor: css.getPropertyValue("--rule").trim(),
      zeroline: false,
      automargin: true,
      fixedrange: true,
      title: { standoff: 12 },
    };
    for (const [id, plot] of Object.entries(plots)) {
      const merged = (given) => ({ ...axis, ...given, title: { ...axis.title, ...given.title } });
      const layout = {
        ...plot.layout,
        xaxis: merged(plot.layout.xaxis),
        yaxis: merged(plot.layout.yaxis),
        showlegend: false,
        dragmode: false,
        hovermode: "closest",
        margin: { l: 48, r: 12, t: 12, b: 44 },
        paper_bgcolor: "rgba(0,0,0,0)",
        plot_bgcolor: "rgba(0,0,0,0)",
        font: {
          family: getComputedStyle(document.body).fontFamily,
          size: 13,
          color: css.getPropertyValue("--quiet").trim(),
        },
      };
      const config = { displayModeBar: false, responsive: true, scrollZoom: false };
      Plotly.react(document.getElementById(id), paint(plot.traces, css), layout, config);
    }
  };

  if (Object.keys(plots).length) {
    draw();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
    addEventListener("beforeprint", draw);
    addEventListener("afterprint", draw);
  }

  // A closed section would be missing on paper.
  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll(".gallery details")) details.open = true;
  });
})();
