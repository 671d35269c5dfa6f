// The drawing on its canvas.  What is too small to be seen is not drawn: the finer, the closer one looks.

/** Below these numbers of pixels a box is one area, and a letter is not drawn. */
const AREA = 40;
const LETTER = 5.5;
/** From this scale on boxes show all that they have to say. */
const NEAR = 0.5;
/** Below this one they are plain areas, and lines are straight. */
const FAR_OFF = 0.2;
/** Width and dashes of an edge, by the number of growing axes. */
const STROKES = { S: [1.1, [2, 3]], V: [1.5, []], M: [2.7, []], T: [3.8, []] };

/** How a size behaves: by the sign of its exponent. */
function tone(order) {
  if (!order) return "unknown";
  if (order.at === null) return "nothing";
  return order.at > 0 ? "grows" : order.at < 0 ? "shrinks" : "steady";
}

class Painter extends Pen {
  constructor(canvas, model) {
    super(canvas);
    this.model = model;
    this.which = "trained";
  }

  /** One frame.  scene: {root, view {x, y, k}, chosen, pointed, lit, around} */
  frame(scene) {
    const { pen, canvas } = this;
    const ratio = window.devicePixelRatio || 1;
    const { clientWidth: width, clientHeight: height } = canvas;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.fillStyle = this.colours.page;
    pen.fillRect(0, 0, width, height);
    pen.setTransform(ratio * scene.view.k, 0, 0, ratio * scene.view.k, ratio * scene.view.x, ratio * scene.view.y);
    this.k = scene.view.k;
    this.seen = [
      -scene.view.x / this.k,
      -scene.view.y / this.k,
      (width - scene.view.x) / this.k,
      (height - scene.view.y) / this.k,
    ];
    this.scene = scene;
    this.drawn = 0;
    this.box(scene.root, 0, 0);
    this.ties(scene);
    return this.drawn;
  }

  isSeen(x, y, w, h) {
    return x < this.seen[2] && x + w > this.seen[0] && y < this.seen[3] && y + h > this.seen[1];
  }

  box(box, x, y) {
    const { w, h } = box;
    if (!this.isSeen(x - 12, y - 12, w + 24, h + 24) || h * this.k < 1) return;
    this.drawn += 1;
    const { pen, scene } = this;
    const dim = scene.lit.on && !scene.lit.boxes.has(box);
    pen.globalAlpha = dim && !(box.holds && box.open) ? 0.45 : 1;
    if (!box.holds) this.card(box, x, y);
    else if (!box.open) this.closed(box, x, y);
    else this.opened(box, x, y);
    pen.globalAlpha = 1;
    if (box === scene.chosen || box === scene.pointed || box === scene.cursor) this.ring(box, x, y);
  }

  ring(box, x, y) {
    const { pen } = this;
    const width = (this.scene.chosen === box ? 2.6 : 1.6) / Math.min(this.k, 1.2);
    pen.lineWidth = width;
    pen.strokeStyle = this.colours.accent;
    pen.setLineDash(this.scene.cursor === box && this.scene.chosen !== box ? [5 / this.k, 3 / this.k] : []);
    this.round(x - width, y - width, box.w + 2 * width, box.h + 2 * width, 9);
    pen.stroke();
    pen.setLineDash([]);
  }

  card(box, x, y) {
    const { model, colours } = this;
    const isWeight = box.kind === "leaf" && model.weightOf.has(box.value);
    const isLeaf = box.kind === "leaf";
    const lit = this.scene.lit.on && this.scene.lit.boxes.has(box);
    const line = lit
      ? this.scene.lit.path.has(box)
        ? colours.accent
        : colours.back
      : isWeight
        ? colours.weightline
        : colours.line;
    const fill = isWeight ? colours.weight : isLeaf ? colours.input : colours.surface;
    if (this.k < FAR_OFF && !lit) {
      this.pen.fillStyle = fill;
      this.pen.fillRect(x, y, box.w, box.h);
      return;
    }
    this.plate(x, y, box.w, box.h, isLeaf ? box.h / 2 : 7, fill, line, lit ? 2.4 : 1);
    if (box.h * this.k < 9) return;
    if (box.value >= 0) this.mark(box, x, y, isLeaf);
    if (this.k < NEAR) return this.brief(box, x, y);
    const type = box.value >= 0 ? model.type(box.value) : "";
    const own = box.value >= 0 ? model.name(box.value) : "";
    const title = isLeaf ? (isWeight ? own.split(".").slice(-2).join(".") : own) : box.label;
    const below = isLeaf ? type : box.value < 0 ? "no result" : `${own} : ${type}`;
    const left = x + (isLeaf ? 22 : 15);
    this.text(
      title,
      left,
      y + (isLeaf ? 16.5 : 18),
      box.w - (isLeaf ? 34 : 52),
      `600 12px ${isWeight ? MONO : FONT}`,
      colours.ink,
    );
    this.text(below, left, y + (isLeaf ? 30 : 33), box.w - 28, `11px ${MONO}`, colours.muted);
    if (!isLeaf && box.value >= 0) {
      const order = model.order(box.value, this.which);
      if (order) this.text(plain(order.size), x + box.w - 9, y + 18, 60, `11px ${FONT}`, colours[tone(order)], "right");
    }
    if (this.finds(box)) this.badge(x + box.w - 4, y + 3, this.finds(box));
    if (box.value >= 0 && model.outputOf.has(box.value)) this.result(box, x, y);
    if (box.kind === "op") this.brought(box, x, y);
  }

  /** From further away: the name alone, as large as there is place for. */
  brief(box, x, y) {
    const size = Math.min(9.5 / this.k, box.h * 0.62);
    if (size * this.k < LETTER) return;
    const label = box.kind === "leaf" ? this.model.name(box.value).split(".").slice(-2).join(".") : box.label;
    this.text(label, x + 12, y + box.h / 2 + size * 0.36, box.w - 20, `600 ${size}px ${FONT}`, this.colours.ink);
    if (this.finds(box)) this.badge(x + box.w - 4, y + 3, this.finds(box));
  }

  /** That a value is an output of the model. */
  result(box, x, y) {
    const path = this.model.outputOf.get(box.value);
    this.text(
      path ? `output ${path}` : "output",
      x + box.w / 2,
      y + box.h + 11.5,
      box.w,
      `600 11px ${FONT}`,
      this.colours.accent,
      "center",
    );
  }

  /** Operands of the other pass, by their names. */
  brought(box, x, y) {
    const { model, colours } = this;
    box.brought ??= model.nodes.inputs[box.node].filter((value) => model.passOf(value) !== box.backward);
    box.brought.slice(0, 2).forEach((value, index) => {
      const left = x + 8 + 78 * index;
      this.stub(left, y - 11, left, y, colours[tone(model.order(value, this.which))]);
      this.text(
        `${model.name(value).split(".").slice(-2).join(".")}`,
        left + 4,
        y - 4,
        70,
        `10px ${MONO}`,
        colours.muted,
      );
    });
  }

  /** The order of a value as a strip, of a leaf as a dot. */
  mark(box, x, y, isLeaf) {
    const { pen, colours, model } = this;
    pen.fillStyle = colours[tone(model.order(box.value, this.which))];
    pen.beginPath();
    if (isLeaf) pen.arc(x + 13, y + box.h / 2, 4, 0, 7);
    else pen.roundRect(x + 4, y + 6, 3.5, box.h - 12, 2);
    pen.fill();
  }

  closed(box, x, y) {
    const { colours } = this;
    const lit = this.scene.lit.on && this.scene.lit.boxes.has(box);
    const line = lit ? (this.scene.lit.path.has(box) ? colours.accent : colours.back) : colours.line;
    const isStack = box.kind === "stack";
    const w = isStack ? box.w - 8 : box.w;
    const h = isStack ? box.h - 8 : box.h;
    if (isStack) for (const off of [8, 4]) this.plate(x + off, y + off, w, h, 9, colours.raised, colours.line);
    this.plate(x, y, w, h, 9, colours.raised, line, lit ? 2.4 : 1);
    if (this.k < NEAR) return this.brief(box, x, y);
    this.text("+", x + w - 12, y + 21, 20, `500 15px ${FONT}`, colours.muted, "right");
    const title = isStack ? `${box.label}  × ${box.children.length}` : box.label;
    this.text(title, x + 13, y + 22, w - 42, `600 13px ${FONT}`, colours.ink);
    const holds = [count(box.ops, "op"), ...(box.weights ? [count(box.weights, "weight")] : [])].join(" · ");
    this.text(holds, x + 13, y + 39, w - 24, `11.5px ${FONT}`, colours.muted);
    if (this.finds(box)) this.badge(x + w - 4, y + 3, this.finds(box));
  }

  opened(box, x, y) {
    const { colours, pen } = this;
    const isRoot = box === this.scene.root;
    const small = box.w * this.k < AREA;
    if (!isRoot) {
      const even = box.depth % 2 ? colours.page : colours.raised;
      this.plate(x, y, box.w, box.h, 11, small ? colours.area : even, colours.line);
    }
    if (small) return;
    pen.globalAlpha = 1;
    if (!isRoot) this.header(box, x, y);
    if (this.k > 0.05) this.wires(box, x, y);
    for (const child of box.children) this.box(child, x + child.x, y + child.y);
    if (!isRoot && box.kind !== "group") this.sign(box, x, y);
    else if (!isRoot && box.parent.kind === "stack") this.sign(box, x, y);
  }

  header(box, x, y) {
    const title = box.kind === "stack" ? `${box.label}  × ${box.children.length}` : box.label;
    const size = Math.min(Math.max(13, 10.5 / this.k), 21);
    if (size * this.k < LETTER) return;
    this.text(title, x + 13, y + size * 0.45 + 13, box.w - 40, `600 ${size}px ${FONT}`, this.colours.muted);
    if (this.k < NEAR) return;
    this.text("–", x + box.w - 12, y + 20, 20, `500 15px ${FONT}`, this.colours.muted, "right");
  }

  /** The name of an open box that is too far away for its head, over what is in it. */
  sign(box, x, y) {
    const { pen, colours, k } = this;
    if (21 * k >= LETTER || box.w * k < 64 || box.h * k < 34) return;
    const title = box.kind === "stack" ? `${box.label} × ${box.children.length}` : box.label;
    const size = 11 / k;
    const most = box.w - size;
    pen.font = `600 ${size}px ${FONT}`;
    const wide = Math.min(pen.measureText(title).width, most) + size * 0.8;
    pen.globalAlpha = 0.88;
    this.plate(x + size * 0.3, y + size * 0.3, wide, size * 1.5, size * 0.3, colours.surface, colours.line, 0);
    pen.globalAlpha = 1;
    this.text(title, x + size * 0.7, y + size * 1.4, most, pen.font, colours.muted);
  }

  wires(box, x, y) {
    const { drawn, wires } = box;
    wires.near.forEach((edge, index) => {
      if (drawn.lines[index]) this.wire(joined(drawn.lines[index], edge), x, y, edge.values, edge.to);
    });
    if (this.k > 0.3) {
      for (const { from, to, values } of wires.far) {
        const colour = this.colours[tone(this.model.order(values[0], this.which))];
        const [left, right] = [x + from.x + from.w - 14, x + to.x + 14];
        this.stub(left, y + from.y + from.h, left, y + from.y + from.h + 9, colour);
        this.stub(right, y + to.y - 9, right, y + to.y, colour);
      }
    }
    for (const [ports, lines] of [
      [wires.ins, drawn.ins],
      [wires.outs, drawn.outs],
    ]) {
      ports.forEach((port, index) => {
        port.children.forEach(
          (child, at) => lines[index]?.[at] && this.wire(lines[index][at], x, y, [port.value], child),
        );
        const end = ports === wires.ins ? lines[index]?.[0]?.[0] : lines[index]?.[0]?.at(-1);
        if (end && this.k > 0.3) this.dot(x + end[0], y + end[1], port.value);
      });
    }
  }

  dot(x, y, value) {
    this.pen.beginPath();
    this.pen.arc(x, y, 3, 0, 7);
    this.pen.fillStyle = this.colours[tone(this.model.order(value, this.which))];
    this.pen.fill();
  }

  wire(points, x, y, values, to) {
    let [left, top, right, below] = [Infinity, Infinity, -Infinity, -Infinity];
    for (const [px, py] of points) {
      left = Math.min(left, px);
      right = Math.max(right, px);
      top = Math.min(top, py);
      below = Math.max(below, py);
    }
    if (!this.isSeen(x + left - 4, y + top - 4, right - left + 8, below - top + 8)) return;
    const { pen, model, colours, scene } = this;
    let most = values[0];
    if (values.length > 1) for (const value of values) if (this.weighs(value) > this.weighs(most)) most = value;
    const lit = scene.lit.on && values.some((value) => scene.lit.values.has(value)) && scene.lit.boxes.has(to);
    const [width, dashes] = STROKES[model.letter(most)];
    pen.globalAlpha = scene.lit.on && !lit ? 0.25 : 1;
    const onPath = values.some((value) => scene.lit.onPath.has(value));
    pen.strokeStyle = lit ? (onPath ? colours.accent : colours.back) : colours[tone(model.order(most, this.which))];
    pen.lineWidth = Math.max(lit ? width + 1.4 : width, 0.7 / this.k);
    if (this.k < FAR_OFF) straight(pen, points, x, y);
    else {
      if (dashes.length) pen.setLineDash(dashes);
      curve(pen, points, x, y);
    }
    pen.stroke();
    if (dashes.length) pen.setLineDash([]);
    if (this.k > 0.35) this.arrow(points, x, y, pen.strokeStyle);
    if (this.k > 0.95 && !lit) this.tag(points, x, y, values);
    pen.globalAlpha = 1;
  }

  weighs(value) {
    return "SVMT".indexOf(this.model.letter(value));
  }

  /** The type of what flows, on the middle of its edge. */
  tag(points, x, y, values) {
    const middle = points[Math.floor(points.length / 2)];
    if (points.length < 3) return;
    const text = values.length === 1 ? this.model.type(values[0]) : `${values.length} values`;
    this.text(text, x + middle[0] + 5, y + middle[1] + 3, 90, `10px ${MONO}`, this.colours.muted);
  }

  /** What is no edge of a layout: chosen values and their other ends, steps of a lit way. */
  ties(scene) {
    const { pen, colours } = this;
    for (const { from, to, kind } of scene.ties) {
      const [a, b] = [placed(from, scene.root), placed(to, scene.root)];
      if (!a || !b) continue;
      pen.strokeStyle = kind === "path" ? colours.accent : kind === "back" ? colours.back : colours.muted;
      pen.lineWidth = (kind === "tie" ? 1.3 : 2.4) / Math.min(this.k, 1);
      pen.setLineDash([7 / this.k, 4 / this.k]);
      const start = [a.x + from.w / 2, a.y + from.h];
      const end = [b.x + to.w / 2, b.y];
      const bend = Math.max(30, Math.abs(end[1] - start[1]) / 3);
      pen.beginPath();
      pen.moveTo(...start);
      pen.bezierCurveTo(start[0], start[1] + bend, end[0], end[1] - bend, ...end);
      pen.stroke();
      pen.setLineDash([]);
      this.arrow([[end[0], end[1] - 9], end], 0, 0, pen.strokeStyle);
    }
  }

  finds(box) {
    return this.scene.findings.get(box);
  }

  badge(x, y, found) {
    const { pen, colours } = this;
    pen.beginPath();
    pen.arc(x, y, 8.5, 0, 7);
    pen.fillStyle = colours[found.severity];
    pen.fill();
    this.text(found.many > 1 ? `${found.many}` : "!", x, y + 4, 16, `700 11px ${FONT}`, colours.page, "center");
  }
}

const RAISED = { "-": "⁻", "/": "ᐟ", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };

/** n^-1/2 in letters that stand high. */
function plain(size) {
  return size.replace(/\^(-?\d+(?:\/\d+)?)/g, (_, exponent) =>
    Array.from(exponent, (letter) => RAISED[letter]).join(""),
  );
}

/** A line that ends where the ports of open boxes are. */
function joined(points, { from, to, values }) {
  const out = portOf(from, "outs", values);
  const into = portOf(to, "ins", values);
  if (!out && !into) return points;
  const moved = points.slice();
  if (out) moved[0] = out;
  if (into) moved[moved.length - 1] = into;
  if (moved.length === 2) {
    const [a, b] = moved;
    moved.splice(1, 0, [a[0], a[1] + (b[1] - a[1]) * 0.4], [b[0], a[1] + (b[1] - a[1]) * 0.6]);
  }
  return moved;
}

function portOf(box, side, values) {
  if (!box.open || !box.drawn?.[side].length) return null;
  const index = box.wires[side].findIndex((port) => values.includes(port.value));
  if (index < 0) return null;
  const line = box.drawn[side][index][0];
  const [x, y] = side === "ins" ? [line[0][0], 0] : line[line.length - 1];
  return [box.x + x, box.y + y];
}

/** Where a box stands in the scene of a root; null for what is not in it. */
function placed(box, root) {
  let [x, y] = [0, 0];
  for (let at = box; at !== root; at = at.parent) {
    if (!at) return null;
    x += at.x;
    y += at.y;
  }
  return { x, y, w: box.w, h: box.h };
}

/** The innermost visible box at a point of the scene. */
function hit(box, x, y) {
  if (x < 0 || y < 0 || x > box.w || y > box.h) return null;
  if (box.holds && box.open) {
    for (let at = box.children.length - 1; at >= 0; at -= 1) {
      const child = box.children[at];
      const found = hit(child, x - child.x, y - child.y);
      if (found) return found;
    }
  }
  return box;
}
