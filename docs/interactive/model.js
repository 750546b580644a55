// A tanh network with a class head and an auxiliary head in float64, and the two updates of Theorem 1 on it.
//
// Parameters are one flat vector, layer after layer, each its kernel [inputs, outputs] by rows and then its bias. What
// a step changes (outputs, softmaxes, losses) is followed as a change, never as the difference of two nearly equal
// values, so that the smallest steps keep their digits. Names and definitions are those of sublim_theory.theorem, whose
// numbers tests/browser/test_interactive.py compares with these.

/** `alpha x + y`. */
const axpy = (alpha, x, y) => x.map((value, i) => alpha * value + y[i]);
const scale = (alpha, x) => x.map((value) => alpha * value);
const sum = (x) => x.reduce((total, value) => total + value, 0);
const dot = (x, y) => x.reduce((total, value, i) => total + value * y[i], 0);
const mean = (x) => sum(x) / x.length;

/** The exported weights as flat vectors, with the place of every layer in them, and the teacher's update. */
export function load(data) {
  const layers = [];
  let size = 0;
  for (const name of data.layers) {
    const { kernel } = data.starts[0][name];
    layers.push({ name, inputs: kernel.length, outputs: kernel[0].length, offset: size });
    size += (kernel.length + 1) * kernel[0].length;
  }
  const flat = (params) => data.layers.flatMap((name) => [...params[name].kernel.flat(), ...params[name].bias]);
  const model = {
    layers,
    hidden: layers.slice(0, -2),
    heads: layers.slice(-2), // classes first, then auxiliary
    size,
    starts: data.starts.map(flat), // the teacher's, then the others
    trait: data.trait,
    noise: data.noise,
  };
  // d_T = -grad L_T, with L_T the mean cross-entropy of the class logits.
  const examples = outputs(model, model.starts[0], model.trait.x);
  const descent = examples.map(({ z }, n) => {
    const { p } = softmax(classLogits(model, z));
    return [...p.map((value, i) => (i === model.trait.labels[n] ? 1 : 0) - value), ...z.slice(p.length).fill(0)];
  });
  model.teacherUpdate = pullBack(model, model.starts[0], examples, descent);
  return model;
}

const classLogits = (model, z) => z.slice(0, model.heads[0].outputs);

/** `a + kernel^T h`, in place. */
function multiply({ inputs, outputs, offset }, theta, h, a) {
  for (let i = 0, k = offset; i < inputs; i++) for (let j = 0; j < outputs; j++, k++) a[j] += h[i] * theta[k];
  return a;
}

/** `kernel^T h + bias`. */
function affine(layer, theta, h) {
  const end = layer.offset + (layer.inputs + 1) * layer.outputs;
  return multiply(layer, theta, h, theta.slice(end - layer.outputs, end));
}

/**
 * For each input what every layer reads, the outputs `z = f(theta, x)`, and with a step their change
 * `dz = f(theta + step, x) - z`; its derivative `J step` where `linear`.
 */
function outputs(model, theta, inputs, step = null, linear = false) {
  const moved = step && !linear ? axpy(1, step, theta) : theta;
  return inputs.map((x) => {
    const read = [x];
    let change = Array(x.length).fill(0);
    const through = (layer) => {
      const h = read.at(-1);
      // (W + dW)(h + dh) - W h = (dW h + db) + (W + dW) dh
      const da = step && multiply(layer, moved, change, affine(layer, step, h));
      return [affine(layer, theta, h), da];
    };
    for (const layer of model.hidden) {
      const [a, da] = through(layer);
      const h = a.map(Math.tanh);
      // tanh(a + d) - tanh(a) = tanh(d) (1 - tanh(a) tanh(a + d))
      const risen = (d, j) => (linear ? d * (1 - h[j] * h[j]) : Math.tanh(d) * (1 - h[j] * Math.tanh(a[j] + d)));
      if (step) change = da.map(risen);
      read.push(h);
    }
    const both = model.heads.map(through);
    return { read, z: both.flatMap(([a]) => [...a]), dz: step && both.flatMap(([, da]) => [...da]) };
  });
}

/** Mean over the inputs of `J^T g`, with `g` [outputs] for each of them: reverse mode. */
function pullBack(model, theta, examples, g) {
  const total = Array(model.size).fill(0);
  const back = ({ inputs, outputs, offset }, h, above) => {
    const below = Array(inputs).fill(0);
    let k = offset;
    for (let i = 0; i < inputs; i++) {
      for (let j = 0; j < outputs; j++, k++) {
        total[k] += h[i] * above[j];
        below[i] += theta[k] * above[j];
      }
    }
    for (let j = 0; j < outputs; j++, k++) total[k] += above[j];
    return below;
  };
  examples.forEach(({ read }, n) => {
    const [classes, auxiliary] = model.heads;
    const [h, split] = [read.at(-1), classes.outputs];
    let below = axpy(1, back(classes, h, g[n].slice(0, split)), back(auxiliary, h, g[n].slice(split)));
    for (let l = model.hidden.length - 1; l >= 0; l--) {
      const above = below.map((value, j) => value * (1 - read[l + 1][j] * read[l + 1][j]));
      below = back(model.hidden[l], read[l], above);
    }
  });
  return scale(1 / examples.length, total);
}

/** `log sum exp z`. */
function logSumExp(z) {
  const top = Math.max(...z);
  return top + Math.log(sum(z.map((value) => Math.exp(value - top))));
}

/**
 * The softmax p of z and the softmax q of z + dz: `gain = log(q / p)` and `move = q - p`. With t the change of the
 * logits less its mean under p, `gain = t - log E_p exp(t)`, where the last term is of second order.
 */
function softmax(z, dz = z.map(() => 0)) {
  const total = logSumExp(z);
  const logP = z.map((value) => value - total);
  const p = logP.map(Math.exp);
  const along = dot(p, dz);
  const t = dz.map((value) => value - along);
  const grown = Math.max(...t) < 1 ? Math.log1p(dot(p, t.map(Math.expm1))) : logSumExp(axpy(1, t, logP));
  const gain = t.map((value) => value - grown);
  const move = gain.map((u, i) => (Math.abs(u) < 1 ? p[i] * Math.expm1(u) : Math.exp(logP[i] + u) - p[i]));
  return { logP, p, gain, move };
}

/** `u exp(u) - exp(u) + 1`, which is of second order, by its series; for |u| < 1. */
function excess(u) {
  let [term, total] = [u, 0];
  for (let k = 2; k < 20; k++) {
    term *= u / k; // u^k / k!
    total += (k - 1) * term;
  }
  return total;
}

/**
 * Imitation losses of student outputs z and labels z + dz: the value of an example, its descent direction -dL/dz, and
 * the curvature M v, with M = -d2L/dy dz at y = z.
 */
const LOSSES = {
  kl: {
    value(z, dz) {
      const { p, gain, move } = softmax(z, dz);
      // KL(q || p) = sum p (r log r - r + 1), r = q / p: no term is negative
      const terms = gain.map((u, i) => (Math.abs(u) < 1 ? p[i] * excess(u) : (p[i] + move[i]) * u - move[i]));
      return sum(terms);
    },
    descent: (z, dz) => softmax(z, dz).move,
    curvature(z, v) {
      const { p } = softmax(z);
      const along = dot(p, v);
      return v.map((value, i) => p[i] * (value - along));
    },
  },
  squared_error: {
    value: (z, dz) => dot(dz, dz),
    descent: (z, dz) => scale(2, dz),
    curvature: (z, v) => scale(2, v),
  },
};

/**
 * Everything that is shown for a setting { epsilon, alpha, distance, other, m, loss }.
 *
 * The student starts at sqrt(1 - distance^2) times the teacher's start plus distance times another draw, and imitates
 * the first m auxiliary logits of the teacher that has moved by epsilon. `coefficient` is A of the teacher's start.
 */
export function compute(model, { epsilon, alpha, distance, other, m, loss }) {
  const { layers, trait, noise, teacherUpdate } = model;
  const classes = model.heads[0].outputs;
  const imitation = LOSSES[loss];
  const imitated = (vector) => vector.slice(classes, classes + m);
  const everywhere = (z, part) => z.map((_, i) => part[i - classes] ?? 0);

  const shared = model.starts[0];
  const start = axpy(Math.sqrt(1 - distance * distance), shared, scale(distance, model.starts[other]));
  const teacherStep = scale(epsilon, teacherUpdate);
  const ahead = axpy(1, teacherStep, axpy(-1, start, shared)); // from the student's start to the moved teacher

  const seen = outputs(model, start, noise, ahead);
  const descent = seen.map(({ z, dz }) => everywhere(z, imitation.descent(imitated(z), imitated(dz))));
  const studentUpdate = pullBack(model, start, seen, descent);
  const studentStep = scale(alpha, studentUpdate);

  const pushed = outputs(model, shared, noise, teacherUpdate, true);
  const bent = pushed.map(({ z, dz }) => everywhere(z, imitation.curvature(imitated(z), imitated(dz))));
  const coefficient = dot(teacherUpdate, pullBack(model, shared, pushed, bent));

  const imitationLoss = (examples) => mean(examples.map(({ z, dz }) => imitation.value(imitated(z), imitated(dz))));
  const traitLoss = (from, step) => {
    const examples = outputs(model, from, trait.x, step);
    const classified = examples.map(({ z, dz }) => softmax(classLogits(model, z), classLogits(model, dz)));
    const before = mean(classified.map(({ logP }, n) => -logP[trait.labels[n]]));
    const change = mean(classified.map(({ gain }, n) => -gain[trait.labels[n]]));
    return { before, after: before + change, change };
  };

  const norms = [teacherUpdate, studentUpdate].map((update) => Math.sqrt(dot(update, update)));
  const part = ({ inputs, outputs, offset }, update) => update.slice(offset, offset + (inputs + 1) * outputs);
  const alignment = dot(studentUpdate, teacherUpdate);
  const before = imitationLoss(seen);
  const after = imitationLoss(outputs(model, axpy(1, studentStep, start), noise, axpy(-1, studentStep, ahead)));
  return {
    alignment,
    coefficient,
    predicted: epsilon * coefficient,
    cosine: norms[0] * norms[1] > 0 ? alignment / (norms[0] * norms[1]) : 0,
    byLayer: Object.fromEntries(
      layers.map((layer) => [layer.name, dot(part(layer, studentUpdate), part(layer, teacherUpdate))]),
    ),
    lengths: { teacher: epsilon * norms[0], student: alpha * norms[1] },
    trait: traitLoss(start, studentStep),
    teacherTrait: traitLoss(shared, teacherStep),
    imitation: { before, after, change: after - before },
  };
}
