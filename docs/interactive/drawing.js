// Words, drawing and tables for the numbers of model.js, as HTML.

const D_S = "<i>d</i><sub>S</sub>";
const D_T = "<i>d</i><sub>T</sub>";
const L_T = "<i>L</i><sub>T</sub>";

/** A number as text. */
export function show(value) {
  if (value === 0) return "0 exactly";
  const size = Math.abs(value);
  return size >= 1e-3 && size < 1e5 ? value.toPrecision(5) : value.toExponential(4);
}

const short = (value) => String(Number(value.toPrecision(3)));

/** Which branch of the theorem this is, and whether what it says is seen here. */
export function verdict({ distance, m, loss }, { alignment, coefficient, lengths, trait }) {
  const lowers = trait.change < 0;
  if (lengths.student === 0) {
    const why = m === 1 && loss === "kl" ? "A softmax over one logit is always 1: there is nothing to imitate. " : "";
    return `<b>Orthogonal branch.</b> ${why}${D_S} is exactly 0 for every ε, and the student stays where it is.`;
  }
  if (distance > 0) {
    const sign = alignment > 0 ? "with" : "against";
    return `<b>Different initialisations: no promise.</b> However small ε is, the student is drawn towards the outputs
      of the <i>untrained</i> teacher, which know nothing of the trait. Here it moves ${sign} the teacher and
      ${lowers ? "lowers" : "raises"} the trait loss; with another draw or distance it may be otherwise.`;
  }
  const promise = `<b>Transfer branch.</b> The start is shared and <i>A</i> = ${short(coefficient)} &gt; 0: for every
    small enough ε the student moves with the teacher and lowers the trait loss, on noise alone.`;
  if (alignment <= 0) return `${promise} <b>This ε is too large:</b> the student moves against the teacher.`;
  if (!lowers) {
    return `${promise} <b>This step is too large:</b> it sets out downhill (${D_S} · ${D_T} &gt; 0) and overshoots,
      so that the trait loss rises. A smaller α or ε mends it.`;
  }
  return `${promise} Both are so here.`;
}

/** The two steps in the plane that they span, the teacher's to the right, on one scale. */
export function plane({ cosine, lengths }) {
  const [x0, y0, radius] = [160, 158, 128];
  const longest = Math.max(lengths.teacher, lengths.student);
  const angle = Math.acos(Math.max(-1, Math.min(1, cosine)));
  const at = (length, turn) => [x0 + length * Math.cos(turn), y0 - length * Math.sin(turn)].map((v) => v.toFixed(2));
  const arrow = (name, length, turn) => {
    const reach = (radius * length) / longest;
    const [tip, barb] = [at(reach, turn), Math.min(9, reach / 2)];
    const wings = [2.6, -2.6].map((bend) => {
      const [dx, dy] = [barb * Math.cos(turn + bend), -barb * Math.sin(turn + bend)];
      return `${(Number(tip[0]) + dx).toFixed(2)},${(Number(tip[1]) + dy).toFixed(2)}`;
    });
    return `<path class="si-${name}" d="M${x0},${y0} L${tip} M${wings[0]} L${tip} L${wings[1]}"/>`;
  };
  const moves = lengths.student > 0;
  const degrees = ((angle * 180) / Math.PI).toFixed(1);
  const [arcEnd, label] = [at(30, angle), at(radius + 12, angle)];
  const anchor = cosine < -0.4 ? "end" : cosine > 0.4 ? "start" : "middle";
  const words = moves ? `The two steps are at ${degrees} degrees to each other.` : "The student’s step is 0.";
  const student = `
    <path class="si-ray" d="M${x0},${y0} L${at(radius, angle)}"/>
    <path class="si-arc" d="M${at(30, 0)} A30,30 0 0 0 ${arcEnd}"/>
    <text x="${at(44, angle / 2)[0]}" y="${at(44, angle / 2)[1]}">${degrees}°</text>
    ${arrow("student", lengths.student, angle)}
    <text class="si-name" x="${label[0]}" y="${label[1]}" text-anchor="${anchor}">α d<tspan dy="4">S</tspan></text>`;
  return `
    <p class="si-title">The two steps, in the plane that they span</p>
    <svg viewBox="0 0 320 182" role="img" aria-label="${words}">
      <path class="si-against" d="M${x0},${y0} V${y0 - radius} A${radius},${radius} 0 0 0 ${x0 - radius},${y0} Z"/>
      <path class="si-rim" d="M${x0 - radius},${y0} A${radius},${radius} 0 0 1 ${x0 + radius},${y0} Z"/>
      <text x="${x0 - radius / 2}" y="${y0 + 16}">against the teacher</text>
      <text x="${x0 + radius / 2}" y="${y0 + 16}">with the teacher</text>
      ${arrow("teacher", lengths.teacher, 0)}
      <text class="si-name" x="${x0 + radius + 4}" y="${y0 + 4}" text-anchor="start">ε d<tspan dy="4">T</tspan></text>
      ${moves ? student : ""}
    </svg>
    <p class="si-small">Angle and lengths are true, on one scale: |ε ${D_T}| = ${short(lengths.teacher)},
      |α ${D_S}| = ${short(lengths.student)}. Both are drawn from one point, wherever the two start.</p>`;
}

/** A table of numbers, each with a bar: rows of [label, name, value, the value that fills the bar]. */
function table(caption, rows) {
  const row = ([label, name, value, whole]) => {
    const share = whole > 0 && Number.isFinite(value) ? Math.max(-1, Math.min(1, value / whole)) : 0;
    const bar = `<svg aria-hidden="true" viewBox="-1 0 2 1" preserveAspectRatio="none">
      <rect x="${Math.min(0, share)}" width="${Math.abs(share)}" height="1"/></svg>`;
    return `<tr><th scope="row">${label}</th><td data-number="${name}">${show(value)}</td><td>${bar}</td></tr>`;
  };
  return `<table class="si-table"><caption>${caption}</caption><tbody>${rows.map(row).join("")}</tbody></table>`;
}

const largest = (...values) => Math.max(...values.map(Math.abs));

export function stepsTable({ alignment, predicted, cosine }) {
  const whole = largest(alignment, predicted);
  return table("Do they agree?", [
    [`${D_S} · ${D_T}`, "alignment", alignment, whole],
    ["<i>ε A</i>, the first order at a shared start", "predicted", predicted, whole],
    [`cosine of ${D_S} and ${D_T}`, "cosine", cosine, 1],
  ]);
}

export function layersTable({ byLayer }) {
  const whole = largest(...Object.values(byLayer));
  return table(
    `What each layer adds to ${D_S} · ${D_T}`,
    Object.entries(byLayer).map(([name, value]) => [name.replace("_", " "), `byLayer.${name}`, value, whole]),
  );
}

export function lossesTable({ trait, teacherTrait, imitation }) {
  const moved = largest(trait.change, teacherTrait.change);
  const imitated = largest(imitation.before, imitation.after);
  return table("Both losses of the student", [
    [`trait loss ${L_T}, at its start`, "trait.before", trait.before, largest(trait.before, trait.after)],
    ["after its step", "trait.after", trait.after, largest(trait.before, trait.after)],
    ["change", "trait.change", trait.change, moved],
    ["change by the teacher’s own step", "teacherTrait.change", teacherTrait.change, moved],
    ["imitation loss, at its start", "imitation.before", imitation.before, imitated],
    ["after its step", "imitation.after", imitation.after, imitated],
  ]);
}
