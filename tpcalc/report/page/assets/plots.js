// Small plots: lines over an axis of sizes or rates, as pictures that follow the theme.

const PLOT = { width: 330, height: 230, left: 52, right: 12, top: 14, bottom: 38 };

class Axis {
  constructor(low, high, from, to, isLog) {
    const scale = isLog ? Math.log : (x) => x;
    Object.assign(this, { low, high, isLog });
    this.at = (value) => from + ((scale(value) - scale(low)) / (scale(high) - scale(low) || 1)) * (to - from);
  }

  /** About so many round numbers. */
  ticks(most) {
    if (!this.isLog || this.high < 4 * this.low) {
      const rough = (this.high - this.low) / most;
      const unit = 10 ** Math.floor(Math.log10(rough));
      const step = [1, 2, 5, 10].map((times) => times * unit).find((own) => own >= rough);
      const found = [];
      for (let tick = Math.ceil(this.low / step) * step; tick <= this.high * (1 + 1e-9); tick += step)
        found.push(Number(tick.toPrecision(8)));
      return found;
    }
    const found = [];
    const span = Math.log10(this.high / this.low);
    const every = span > 3 ? [1] : span > 1 ? [1, 3] : [1, 2, 5];
    for (let power = Math.floor(Math.log10(this.low)); power <= Math.ceil(Math.log10(this.high)); power += 1) {
      for (const times of every) found.push(Number((times * 10 ** power).toPrecision(6)));
    }
    const inside = found.filter((tick) => tick >= this.low * 0.999 && tick <= this.high * 1.001);
    const each = Math.max(1, Math.ceil(inside.length / most));
    return inside.filter((_, index) => index % each === 0);
  }
}

function number(value) {
  return value !== 0 && (Math.abs(value) >= 1e5 || Math.abs(value) < 1e-3)
    ? value.toExponential().replace("e+", "e")
    : String(value);
}

/** A frame with axes.  given: {title, label, xs, ys: [low, high], xLog, yLog, xName, yName, xTicks}; draw(x, y) fills it. */
function plot(given, draw) {
  const { width, height, left, right, top, bottom } = PLOT;
  const x = new Axis(given.xs[0], given.xs[1], left, width - right, given.xLog);
  const y = new Axis(given.ys[0], given.ys[1], height - bottom, top, given.yLog);
  const xTicks = given.xTicks ?? x.ticks(5);
  const clip = `clip${(plot.made = (plot.made ?? 0) + 1)}`;
  const picture = svg(
    "svg",
    { viewBox: `0 0 ${width} ${height}`, class: "plot", role: "img", "aria-label": given.label },
    svg(
      "defs",
      {},
      svg(
        "clipPath",
        { id: clip },
        svg("rect", { x: left, y: top, width: width - left - right, height: height - top - bottom }),
      ),
    ),
    y
      .ticks(5)
      .map((tick) => [
        svg("line", { class: "grid", x1: left, x2: width - right, y1: y.at(tick), y2: y.at(tick) }),
        svg("text", { x: left - 6, y: y.at(tick) + 3.5, "text-anchor": "end" }, number(tick)),
      ]),
    xTicks.map((tick) => [
      svg("line", { class: "grid", x1: x.at(tick), x2: x.at(tick), y1: top, y2: height - bottom }),
      svg("text", { x: x.at(tick), y: height - bottom + 15, "text-anchor": "middle" }, number(tick)),
    ]),
    svg("text", { x: (left + width - right) / 2, y: height - 5, "text-anchor": "middle" }, given.xName),
    svg(
      "text",
      { x: 0, y: 0, "text-anchor": "middle", transform: `translate(11 ${(top + height - bottom) / 2}) rotate(-90)` },
      given.yName,
    ),
    svg("g", { "clip-path": `url(#${clip})` }, draw(x, y)),
  );
  return el("figure", {}, el("figcaption", {}, given.title), picture);
}

const path = (points) => points.map(([x, y], index) => `${index ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");

/** A picture that tells its name when one points at it. */
function named(element, text) {
  element.append(svg("title", {}, text));
  return element;
}
