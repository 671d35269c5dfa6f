// Does the best learning rate carry over?  Sweeps of tpcalc transfer, a curve a size, a panel a parametrization.

const PARAMETRIZATIONS = ["standard", "derived", "tuned", "unscaled"];
/** Losses are drawn up to this many times the usual height of the curves near their optima. */
const TALLEST = 6;

function transferPanel() {
  return el(
    "div",
    { class: "reading wide" },
    part("transfers").map(({ name, transfer }) => sweepOf(name, transfer)),
  );
}

const placeText = (scales) =>
  Object.entries(scales)
    .map(([name, value]) => `${name} ${value}`)
    .join(", ");
const mean = (own) => own.reduce((sum, x) => sum + x, 0) / own.length;

/** Rates and mean losses of a curve, where no run diverged. */
function means(curveOf) {
  return curveOf.rates
    .map((rate, index) => [rate, curveOf.losses.map((own) => own[index])])
    .filter(([, own]) => own.every((loss) => loss !== null))
    .map(([rate, own]) => [rate, mean(own), Math.min(...own), Math.max(...own)]);
}

/** Ends of the axis of losses: every optimum is inside with its neighbours, but not what nearly diverges. */
function lossLimits(curves) {
  const near = curves.flatMap((own) => {
    const points = means(own);
    const best = points.reduce((at, point, index) => (point[1] < points[at][1] ? index : at), 0);
    return points.slice(Math.max(best - 2, 0), best + 3).map((point) => point[1]);
  });
  if (!near.length) return [0, 1];
  const low = Math.min(...near);
  const worst = Math.max(...curves.map((own) => own.loss).filter((loss) => loss !== null));
  const middle = [...near].sort((a, b) => a - b)[Math.floor(near.length / 2)];
  const usual = Math.max(middle, worst) - low;
  const high = usual > 0 ? Math.min(Math.max(...near), low + TALLEST * usual) : Math.max(...near);
  const margin = 0.06 * (high - low) || 0.05 * Math.abs(low) || 1;
  return [low - margin, high + margin];
}

function sweepOf(name, transfer) {
  const present = PARAMETRIZATIONS.filter((own) => transfer.sizes.some((size) => size[own]));
  const curves = transfer.sizes.flatMap((size) => present.map((own) => size[own])).filter(Boolean);
  const rates = curves.flatMap((own) => own.rates);
  const ys = lossLimits(curves);
  const shade = (index) => `var(--size${Math.round((index / Math.max(transfer.sizes.length - 1, 1)) * 4)})`;
  const drift = (own) => {
    const by = transfer.drift[own];
    if (by === null) return null;
    const error = transfer.drift_error[own];
    return `${by.toFixed(2)}${error === null ? "" : ` ± ${error.toFixed(2)}`}`;
  };
  const panel = (own) => {
    const label = `Loss against the learning rate, ${own}: the optimum drifts by ${drift(own) ?? "an amount that is not known"} in log2`;
    return plot(
      {
        title: drift(own) === null ? own : `${own}, drift ${drift(own)}`,
        label,
        xs: [Math.min(...rates), Math.max(...rates)],
        ys,
        xLog: true,
        xName: "learning rate, as at the base",
        yName: "loss",
      },
      (x, y) =>
        transfer.sizes
          .map((size, index) => {
            const curveOf = size[own];
            if (!curveOf) return [];
            const points = means(curveOf);
            const wild = curveOf.rates.filter((rate) => !points.some((point) => point[0] === rate));
            const colour = shade(index);
            const band = [
              ...points.map((p) => [x.at(p[0]), y.at(p[2])]),
              ...points.map((p) => [x.at(p[0]), y.at(p[3])]).reverse(),
            ];
            return [
              points.length > 1 && svg("path", { d: `${path(band)}Z`, style: { fill: colour, opacity: 0.18 } }),
              named(
                svg("path", {
                  class: "curve",
                  d: path(points.map((p) => [x.at(p[0]), y.at(p[1])])),
                  style: { stroke: colour },
                }),
                placeText(size.scales),
              ),
              wild.map((rate) =>
                svg(
                  "text",
                  {
                    class: "cross",
                    x: x.at(rate),
                    y: PLOT.top + 10 + 9 * index,
                    style: { fill: colour },
                    "text-anchor": "middle",
                  },
                  "×",
                ),
              ),
              curveOf.optimum !== null &&
                named(
                  svg("circle", {
                    cx: x.at(curveOf.optimum),
                    cy: y.at(curveOf.loss),
                    r: 4.5,
                    style: { stroke: colour, fill: curveOf.edge ? "var(--surface)" : colour },
                  }),
                  `${placeText(size.scales)}: best at ${curveOf.optimum}`,
                ),
            ]
              .filter(Boolean)
              .flat();
          })
          .flat(),
    );
  };
  const rows = transfer.sizes.flatMap((size) =>
    present
      .filter((own) => size[own])
      .map((own) => {
        const curveOf = size[own];
        return el(
          "tr",
          {},
          el("th", { scope: "row" }, placeText(size.scales)),
          el("td", {}, own),
          el(
            "td",
            {},
            curveOf.optimum === null
              ? "every rate diverged"
              : `${number(Number(curveOf.optimum.toPrecision(3)))}${curveOf.edge ? ", an end of the grid" : ""}`,
          ),
          el("td", {}, curveOf.loss === null ? "–" : curveOf.loss.toPrecision(4)),
          el("td", {}, String(curveOf.diverged)),
        );
      }),
  );
  return el(
    "section",
    {},
    el("h2", {}, el("span", {}, name)),
    el(
      "p",
      { class: "quiet" },
      `${transfer.name} under ${transfer.optimizer}, ${count(transfer.steps, "step")}, ${count(transfer.seeds, "seed")}. Lines are means over seeds, shaded from the least to the largest; a dot is the optimum, hollow at an end of the grid; a cross is a rate at which a run diverged. Where rules carry over, the dots stand one above the other.`,
    ),
    el(
      "ul",
      { class: "keys" },
      transfer.sizes.map((size, index) =>
        el("li", {}, el("span", { class: "swatch", style: { background: shade(index) } }), placeText(size.scales)),
      ),
    ),
    el("div", { class: "plots" }, present.map(panel)),
    el(
      "div",
      { class: "scroller", tabindex: "0", role: "region", "aria-label": `Optima of ${name}` },
      el(
        "table",
        { class: "scaling" },
        el("caption", { class: "unseen" }, "Optimum of each curve"),
        el(
          "thead",
          {},
          el(
            "tr",
            {},
            ["size", "parametrization", "best rate", "loss there", "runs that diverged"].map((head) =>
              el("th", { scope: "col" }, head),
            ),
          ),
        ),
        el("tbody", {}, rows),
      ),
    ),
    transfer.notes.length > 0 &&
      el(
        "ul",
        { class: "notes" },
        transfer.notes.map((text) => el("li", {}, prose(text))),
      ),
  );
}
