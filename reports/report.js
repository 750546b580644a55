// Draws each chart when it comes near the window, from the numbers beside it, in the colours of the style.
(() => {
  "use strict";
  const SYMBOLS = ["circle", "square", "diamond", "triangle-down", "triangle-up", "star", "hexagon"];
  const COLOURS = 7; // --series-0 to --series-6
  const NARROW = 480; // pixels below which the names of rows stand above them
  const PRINTED = 620; // pixels that a sheet of paper has room for
  const charts = [...document.querySelectorAll(".chart")];
  const drawn = new Set();

  // The library reads markup in what it writes; names are text.
  const plain = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const cut = (text, most) => plain(text.length > most ? `${text.slice(0, most - 1)}…` : text);
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

  function number(value) {
    const size = Math.abs(value);
    if (value === 0) return "0.0";
    return size >= 1e-3 && size < 1e6 ? value.toFixed(4) : value.toExponential(2);
  }

  function shape(chart, width) {
    const { kind, places, series } = chart.dataset;
    const rows = kind === "dots";
    const narrow = width < NARROW;
    const label = rows && narrow ? 18 : 0; // pixels of a row that its name takes
    const row = label + Math.max(32, 9 * series + 14);
    const legend = series > 1 ? 24 * Math.ceil(series / Math.max(1, Math.floor(width / 190))) : 0;
    const height = (rows ? row * places : 280) + legend + 56;
    return { rows, narrow, row, height, count: Number(series), down: label / row / 2, room: 1 - label / row };
  }

  // Traces for a series: its seeds, and its means with their intervals.
  function traces(spec, series, index, { rows, count, down, room }) {
    const tint = colour(`series-${index % COLOURS}`);
    const symbol = SYMBOLS[(index + Math.floor(index / COLOURS)) % SYMBOLS.length]; // another pairing every round
    const aside = down + (index - (count - 1) / 2) * (rows ? (room * 0.72) / count : Math.min(0.05, 0.4 / count));
    const spread = rows ? (room * 0.4) / count : 0.03;
    const axes = (places, values) => (rows ? { x: values, y: places } : { x: places, y: values });
    const each = series.points.flatMap((point) =>
      point.values.map((value, i) => ({
        place: point.at + aside + spread * (((i * 0.618034) % 1) - 0.5),
        value,
        text: `${plain(point.name)}<br>${seed(spec, point, i)}: ${number(value)}`,
      })),
    );
    const told = series.points.map((point) => {
      const interval = point.ci95 === null ? "" : ` ± ${number(point.ci95)}`;
      return `${plain(point.name)}<br>mean ${number(point.mean)}${interval}<br>n = ${point.n}`;
    });
    const common = { type: "scatter", hoverinfo: "text", legendgroup: String(index), cliponaxis: false };
    return [
      {
        ...common,
        ...axes(each.map((e) => e.place), each.map((e) => e.value)),
        text: each.map((e) => e.text),
        mode: "markers",
        marker: { color: tint, size: 5, opacity: 0.45 },
        showlegend: false,
      },
      {
        ...common,
        ...axes(series.points.map((p) => p.at + aside), series.points.map((p) => p.mean)),
        text: told,
        name: cut(series.name, 40),
        mode: rows ? "markers" : "lines+markers",
        line: { color: tint, width: 2 },
        marker: { color: tint, size: 10, symbol, line: { color: colour("paper"), width: 1 } },
        [rows ? "error_x" : "error_y"]: {
          type: "data",
          array: series.points.map((p) => p.ci95 ?? 0),
          color: tint,
          thickness: 2,
          width: 5,
        },
      },
    ];
  }

  function seed(spec, point, i) {
    return spec.seeds !== null && spec.seeds.length === point.n ? `seed ${spec.seeds[i]}` : `value ${i + 1} of ${point.n}`;
  }

  function bands(spec, { rows, count, down, room }) {
    const fill = colour("band");
    return spec.series.flatMap((series, index) =>
      series.points
        .filter((point) => point.band !== null)
        .map(({ at, band: [low, high] }) => {
          const middle = at + down + (rows ? ((index - (count - 1) / 2) * room * 0.72) / count : 0);
          const half = rows ? (room * 0.42) / count : 0.12;
          const [x, y] = rows ? ["x", "y"] : ["y", "x"];
          return {
            type: "rect",
            layer: "below",
            fillcolor: fill,
            line: { color: fill, width: 1 },
            [`${x}0`]: low,
            [`${x}1`]: high,
            [`${y}0`]: middle - half,
            [`${y}1`]: middle + half,
          };
        }),
    );
  }

  function layout(spec, width, form) {
    const { rows, narrow, row, height, count } = form;
    const ink = colour("ink");
    const numbers = spec.series.flatMap((s) => s.points.flatMap((p) => [p.mean, ...p.values]));
    const last = spec.places.length - 1;
    const above = rows && narrow;
    const values = {
      rangemode: numbers.every((value) => value >= 0) ? "tozero" : "normal",
      gridcolor: colour("line"),
      zerolinecolor: colour("line"),
      automargin: true,
      exponentformat: "power",
      nticks: narrow ? 5 : 7,
    };
    const places = {
      range: rows ? [last + 0.5, -0.5] : [-0.5, last + 0.5],
      tickvals: spec.places.map((_, at) => at),
      ticktext: spec.places.map((text) => cut(text, rows ? 34 : 16)),
      showticklabels: !above,
      ticks: "outside", // for the distance only
      ticklen: above ? 0 : 6,
      tickcolor: "rgba(0,0,0,0)",
      showgrid: false,
      zeroline: false,
      automargin: true,
      ...(spec.axis && !rows ? { title: { text: plain(spec.axis), font: { size: 13 } } } : {}),
    };
    return {
      width,
      height,
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: ink },
      margin: { l: above ? 8 : 12, r: 16, t: 12, b: 28 },
      xaxis: rows ? values : places,
      yaxis: rows ? places : values,
      hovermode: "closest",
      hoverlabel: { bgcolor: colour("panel"), bordercolor: colour("soft"), font: { color: ink }, align: "left" },
      dragmode: matchMedia("(pointer: fine)").matches ? "zoom" : false, // a finger scrolls the page
      showlegend: count > 1,
      legend: { orientation: "h", x: 0, xanchor: "left", y: 1, yanchor: "bottom" },
      shapes: bands(spec, form),
      annotations: !above
        ? []
        : spec.places.map((text, at) => ({
            text: cut(text, Math.floor(width / 8)),
            x: 0,
            xref: "paper",
            xanchor: "left",
            y: at,
            yanchor: "middle",
            yshift: row / 2 - 9,
            showarrow: false,
          })),
    };
  }

  function draw(chart, width = chart.clientWidth) {
    drawn.add(chart);
    const spec = JSON.parse(chart.nextElementSibling.textContent);
    const form = shape(chart, width);
    const lines = spec.series.flatMap((series, index) => traces(spec, series, index, form));
    chart.style.height = `${form.height}px`;
    Plotly.react(chart, lines, layout(spec, width, form), { displayModeBar: false, doubleClick: "reset" });
  }

  const redraw = () => [...drawn].forEach((chart) => draw(chart));
  const coming = new IntersectionObserver(
    (seen) => {
      for (const { target } of seen.filter((each) => each.isIntersecting)) {
        coming.unobserve(target);
        if (!drawn.has(target)) draw(target);
      }
    },
    { rootMargin: "300px" },
  );
  for (const chart of charts) {
    chart.style.height = `${shape(chart, chart.clientWidth).height}px`; // so that nothing moves when it is drawn
    coming.observe(chart);
  }

  let waiting = 0;
  addEventListener("resize", () => {
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(redraw);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

  // On paper everything is there, in the colours of the print style.
  matchMedia("print").addEventListener("change", ({ matches }) => {
    if (matches) charts.forEach((chart) => draw(chart, PRINTED));
    else redraw();
  });

  // A box that scrolls can be reached by the keyboard; one that does not need not be.
  const boxes = new ResizeObserver((changed) => {
    for (const { target } of changed) {
      if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
      else target.removeAttribute("tabindex");
    }
  });
  document.querySelectorAll(".scroll").forEach((box) => boxes.observe(box));
})();
