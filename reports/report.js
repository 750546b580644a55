// Draws each chart when it comes near the window, from the figure beside it; the style colours text and grid.
const charts = [...document.querySelectorAll(".chart")];
const dragmode = matchMedia("(pointer: fine)").matches && "zoom"; // a finger scrolls the page
const draw = (chart) => {
  const { data, layout } = JSON.parse(chart.nextElementSibling.textContent);
  if (!chart.data) Plotly.newPlot(chart, data, { ...layout, dragmode }, { responsive: true, displayModeBar: false });
};
const near = (chart) => (seen) => seen.some((each) => each.isIntersecting) && draw(chart);
charts.forEach((chart) => new IntersectionObserver(near(chart), { rootMargin: "300px" }).observe(chart));
// On paper everything is there, as wide as a sheet.
matchMedia("print").addEventListener("change", ({ matches }) => {
  if (matches) charts.forEach(draw);
  charts.filter((chart) => chart.data).forEach((chart) => Plotly.relayout(chart, { width: matches ? 620 : null }));
});
// A box that scrolls can be reached by the keyboard; one that does not need not be.
const boxes = new ResizeObserver((changed) =>
  changed.forEach(({ target }) => (target.tabIndex = target.scrollWidth > target.clientWidth ? 0 : -1)));
document.querySelectorAll(".scroll").forEach((box) => boxes.observe(box));
