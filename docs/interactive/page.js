// The interactive page: controls around the numbers of model.js. The setting is kept in the address.

import { layersTable, lossesTable, plane, show, stepsTable, verdict } from "./drawing.js";
import { compute, load } from "./model.js";

const DEFAULT = { epsilon: 1, alpha: 2, distance: 0, other: 1, m: 3, loss: "kl" };

const PRESETS = [
  ["Start again", DEFAULT],
  ["Another start (d = 1)", { ...DEFAULT, distance: 1, other: 2 }],
  ["m = 1 with softmax: exactly 0", { ...DEFAULT, m: 1 }],
  ["m = 1 with squared error", { ...DEFAULT, m: 1, loss: "squared_error" }],
  ["ε too large", { ...DEFAULT, epsilon: 100 }],
  ["α too large", { ...DEFAULT, alpha: 1000 }],
];

const PAUSE = 500; // milliseconds

/** What the page shows: the setting, its numbers, how many milliseconds they took; `set(setting)` shows another one. */
export const view = {};

/** Ranges and names of the controls; those with `steps` move along powers of ten, so many steps each. */
function controlsOf({ heads, starts }) {
  const others = starts.slice(1).map((_, i) => [i + 1, `draw ${i + 1}`]);
  const losses = [
    ["kl", "softmax (KL divergence)"],
    ["squared_error", "squared error"],
  ];
  return [
    { name: "epsilon", label: "<i>ε</i>, size of the teacher’s step", steps: 10, min: 1e-9, max: 1e3 },
    { name: "alpha", label: "<i>α</i>, the student’s learning rate", steps: 10, min: 1e-3, max: 1e3 },
    { name: "distance", label: "<i>d</i>, distance of the two starts", step: 0.01, min: 0, max: 1 },
    { name: "m", label: "<i>m</i>, auxiliary logits imitated", step: 1, min: 1, max: heads[1].outputs },
    { name: "loss", label: "imitation loss", options: losses },
    { name: "other", label: "the other start", options: others },
  ];
}

/** A slider's position for a value, and the value at a position: two digits along powers of ten. */
const position = ({ steps }, value) => (steps ? Math.round(steps * Math.log10(value)) : value);
const valueAt = ({ steps }, at) => (steps ? Number((10 ** (at / steps)).toPrecision(2)) : Number(at));

/** The setting in an address, and what of it cannot be. */
function read(hash, controls) {
  const asked = new URLSearchParams(hash.slice(1));
  const setting = { ...DEFAULT };
  const refused = [];
  let known = false;
  for (const { name, min, max, step, options } of controls) {
    const text = asked.get(name)?.trim();
    if (text === undefined) continue;
    known = true;
    const choice = options?.find(([value]) => String(value) === text);
    const value = options ? choice?.[0] : text === "" ? NaN : Number(text);
    const fits = options ? choice : value >= min && value <= max && (step !== 1 || Number.isInteger(value));
    const allowed = options ? options.map(([each]) => each).join(", ") : `${min} to ${max}`;
    if (fits) setting[name] = value;
    else refused.push(`${name} = ${text} (${allowed})`);
  }
  return { setting, known, refused };
}

/** Controls, presets, and empty places for what changes. */
function layOut(place, controls) {
  const control = ({ name, label, steps, min, max, step, options }) => {
    const id = `si-${name}`;
    const choices = options?.map(([value, text]) => `<option value="${value}">${text}</option>`).join("");
    const [low, high] = [min, max].map((end) => position({ steps }, end));
    const range = `<input type="range" id="${id}" min="${low}" max="${high}" step="${steps ? 1 : step}">`;
    const input = options ? `<select id="${id}">${choices}</select>` : `<b data-setting="${name}"></b>${range}`;
    return `<div><label for="${id}">${label}</label>${input}</div>`;
  };
  const buttons = PRESETS.map(([label]) => `<button type="button">${label}</button>`).join("");
  place.className = "si";
  place.innerHTML = `
    <div class="si-controls">${controls.map(control).join("")}</div>
    <div class="si-presets" role="group" aria-label="Settings to try">${buttons}</div>
    <p class="si-refused" role="alert" hidden></p>
    <p class="si-verdict"></p>
    <div class="si-panels">${'<div class="si-panel"></div>'.repeat(4)}</div>
    <p class="si-network"></p>
    <p class="si-spoken" role="status"></p>`;
}

/** Build the page in `place` from the weights beside this script. */
async function start(place) {
  const answer = await fetch(new URL("weights.json", import.meta.url));
  if (!answer.ok) throw new Error(`weights.json: ${answer.status} ${answer.statusText}`);
  const data = await answer.json();
  const model = load(data);
  const controls = controlsOf(model);
  layOut(place, controls);
  const find = (selector) => place.querySelector(selector);
  const input = ({ name }) => find(`#si-${name}`);
  const panels = place.querySelectorAll(".si-panel");
  const [hidden, [classes, auxiliary]] = [model.hidden.map((layer) => layer.outputs).join("-"), model.heads];
  find(".si-network").textContent =
    `The network: ${model.layers[0].inputs}-${hidden}-(${classes.outputs} classes + ${auxiliary.outputs} auxiliary ` +
    `logits), tanh, ${model.size} parameters. The trait: telling ${classes.outputs} irises apart, ` +
    `${data.trait.x.length} flowers. The student sees ${data.noise.length} points of uniform noise, and no flower.`;
  let pause;

  function set(setting) {
    const began = performance.now();
    const result = compute(model, setting);
    for (const control of controls) {
      const [value, element] = [setting[control.name], input(control)];
      element.value = control.options ? value : position(control, value);
      if (control.options) continue;
      find(`[data-setting=${control.name}]`).textContent = value;
      element.setAttribute("aria-valuetext", value);
    }
    input({ name: "other" }).disabled = setting.distance === 0; // it plays no part there
    find(".si-verdict").innerHTML = verdict(setting, result);
    [plane, stepsTable, lossesTable, layersTable].forEach((draw, i) => {
      panels[i].innerHTML = draw(result);
    });
    Object.assign(view, { set, setting, result, milliseconds: performance.now() - began });
  }

  /** A reader's choice: once the reader pauses it is also in the address, and its numbers are said aloud. */
  function choose(setting) {
    set(setting);
    find(".si-refused").hidden = true;
    clearTimeout(pause);
    pause = setTimeout(() => {
      history.replaceState(null, "", `#${new URLSearchParams(setting)}`); // browsers refuse hundreds of these
      const { alignment, trait } = view.result;
      find(".si-spoken").textContent =
        `d S times d T is ${show(alignment)}. The trait loss changes by ${show(trait.change)}.`;
    }, PAUSE);
  }

  function follow() {
    const { setting, known, refused } = read(location.hash, controls);
    if (!known && view.setting) return; // the hash of a heading
    set(setting);
    find(".si-refused").hidden = !refused.length;
    find(".si-refused").textContent = `The address asks for ${refused.join(", ")}: the default is shown instead.`;
  }

  for (const control of controls) {
    input(control).addEventListener("input", ({ target }) => {
      const choice = control.options?.find(([value]) => String(value) === target.value);
      choose({ ...view.setting, [control.name]: choice ? choice[0] : valueAt(control, target.value) });
    });
  }
  place.querySelectorAll(".si-presets button").forEach((button, i) => {
    button.addEventListener("click", () => choose(PRESETS[i][1]));
  });
  window.addEventListener("hashchange", follow);
  follow();
  place.dataset.ready = "";
}

const place = document.getElementById("subliminal-interactive");
if (place) {
  start(place).catch((error) => {
    place.textContent = `This page could not start: ${error.message}. It needs weights.json beside its script, which
      the build of the site makes.`;
    throw error;
  });
}
