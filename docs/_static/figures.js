// Draws the figures of a page, in the colours of the theme.
document.addEventListener("DOMContentLoaded", () => {
  for (const element of document.querySelectorAll("[data-figure]")) {
    const { data, layout } = JSON.parse(element.dataset.figure);
    Plotly.newPlot(element, data, layout, { responsive: true, displaylogo: false });
  }
});
