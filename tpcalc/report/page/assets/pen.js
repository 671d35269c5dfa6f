// What a canvas is drawn with: plates, lines, text that fits, the colours of the theme.

const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif';
const MONO = 'ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace';
const COLOURS = [
  "ink",
  "muted",
  "line",
  "page",
  "surface",
  "raised",
  "area",
  "accent",
  "back",
  "grows",
  "steady",
  "shrinks",
  "nothing",
  "unknown",
  "weight",
  "weightline",
  "input",
  "error",
  "warning",
];

/** The colours of the theme that is on, as a canvas takes them. */
function palette() {
  const probe = el("span", { class: "own-colours" }); // else all are one where the system forces its colours
  document.body.append(probe);
  const found = {};
  for (const name of COLOURS) {
    probe.style.color = `var(--${name})`;
    found[name] = getComputedStyle(probe).color;
  }
  probe.remove();
  return found;
}

class Pen {
  constructor(canvas) {
    this.canvas = canvas;
    this.pen = canvas.getContext("2d");
    this.widths = new Map();
    this.k = 1;
    this.theme();
  }

  theme() {
    this.colours = palette();
  }

  round(x, y, w, h, r) {
    this.pen.beginPath();
    this.pen.roundRect(x, y, w, h, r);
  }

  plate(x, y, w, h, r, fill, line, width = 1) {
    const { pen } = this;
    this.round(x, y, w, h, r);
    pen.fillStyle = fill;
    pen.fill();
    if (width) {
      pen.lineWidth = Math.max(width, 0.6 / this.k);
      pen.strokeStyle = line;
      pen.stroke();
    }
  }

  /** The end of an edge that is not drawn to its other end. */
  stub(x, y, toX, toY, colour) {
    const { pen } = this;
    pen.strokeStyle = colour;
    pen.lineWidth = Math.max(1.2, 0.7 / this.k);
    pen.setLineDash([2, 2]);
    pen.beginPath();
    pen.moveTo(x, y);
    pen.lineTo(toX, toY);
    pen.stroke();
    pen.setLineDash([]);
  }

  arrow(points, x, y, colour) {
    const [end, before] = [points[points.length - 1], points[points.length - 2]];
    const angle = Math.atan2(end[1] - before[1], end[0] - before[0]);
    const { pen } = this;
    pen.beginPath();
    pen.moveTo(x + end[0], y + end[1]);
    for (const turn of [2.75, -2.75])
      pen.lineTo(x + end[0] + 7 * Math.cos(angle + turn), y + end[1] + 7 * Math.sin(angle + turn));
    pen.closePath();
    pen.fillStyle = colour;
    pen.fill();
  }

  /** Text that ends in dots where there is no place for it. */
  text(text, x, y, most, font, colour, align = "left") {
    const { pen } = this;
    pen.font = font;
    pen.fillStyle = colour;
    pen.textAlign = align;
    const key = `${font}|${Math.round(most)}|${text}`;
    let fitted = this.widths.get(key);
    if (fitted === undefined) {
      fitted = shortened(text, 90);
      for (let letters = Array.from(fitted).length; letters > 2 && pen.measureText(fitted).width > most;) {
        letters -= Math.max(1, Math.floor((letters * (1 - most / pen.measureText(fitted).width)) / 2));
        fitted = shortened(text, letters);
      }
      if (this.widths.size > 50000) this.widths.clear();
      this.widths.set(key, fitted);
    }
    pen.fillText(fitted, x, y);
  }
}

function straight(pen, points, x, y) {
  pen.beginPath();
  points.forEach(([px, py], index) => (index ? pen.lineTo(x + px, y + py) : pen.moveTo(x + px, y + py)));
}

function curve(pen, points, x, y) {
  pen.beginPath();
  pen.moveTo(x + points[0][0], y + points[0][1]);
  for (let at = 1; at < points.length - 1; at += 1) {
    const [px, py] = points[at];
    const [nx, ny] = points[at + 1];
    const last = at === points.length - 2;
    pen.quadraticCurveTo(x + px, y + py, x + (last ? nx : (px + nx) / 2), y + (last ? ny : (py + ny) / 2));
  }
  if (points.length === 2) pen.lineTo(x + points[1][0], y + points[1][1]);
}
