// The drawing as one uses it: open and close, pan and zoom, search, and a way that is lit.

/** So many boxes are open at first. */
const FIRST = 26;

class Graph extends LitView {
  /** show(thing): tell why, of {value}, {weight} or {box}. */
  constructor(model, show) {
    super();
    this.model = model;
    this.show = show;
    this.forest = tree(model);
    this.flow = new Flow(model, this.forest);
    this.layout = new Layout(model, this.flow);
    this.chosen = this.pointed = this.cursor = null;
    this.frames = [];
    this.forest.root.open = true;
    this.root = this.forest.forward;
    this.listeners = [];
    for (const pass of [this.forest.forward, this.forest.backward]) openFirst(pass);
    this.build();
    this.placeAll();
  }

  build() {
    const { forward, backward } = this.forest;
    const hasBackward = backward.children.length > 0;
    this.canvas = el("canvas", {
      class: "canvas",
      tabindex: "0",
      role: "application",
      "aria-roledescription": "diagram",
      "aria-describedby": "graph-keys",
      "aria-label": `Drawing of the tensor program, ${count(this.model.nodes.op.length, "operation")}. The outline has the same as a tree.`,
    });
    this.tip = el("div", { class: "tip", hidden: true, "aria-hidden": "true" });
    this.search = new Search(this);
    const scenes = [
      ["Forward", forward],
      ["Backward", backward],
      ["Both", this.forest.root],
    ];
    this.passes = el(
      "div",
      { class: "segments", role: "group", "aria-label": "Pass" },
      hasBackward &&
        scenes.map(([name, root]) =>
          el("button", { type: "button", "aria-pressed": root === this.root, onclick: () => this.turnTo(root) }, name),
        ),
    );
    const button = (text, label, onclick) =>
      el("button", { type: "button", class: "tool", title: label, "aria-label": label, onclick }, text);
    const orders = el(
      "select",
      { id: "graph-orders", onchange: (event) => this.colourBy(event.target.value) },
      [
        ["trained", "after training"],
        ["init", "at init"],
        ["change", "of the change"],
      ].map(([value, text]) => el("option", { value }, text)),
    );
    this.element = el(
      "div",
      { class: "graph" },
      el(
        "div",
        { class: "toolbar" },
        this.search.element,
        this.passes,
        el("label", { class: "field", for: "graph-orders" }, "Order ", orders),
        el(
          "div",
          { class: "segments" },
          button("Open all", "Open all boxes", () => this.all(true)),
          button("Fold", "Fold all boxes", () => this.all(false)),
        ),
        el(
          "div",
          { class: "segments" },
          button("−", "Zoom out", () => this.zoom(1 / 1.4)),
          button("+", "Zoom in", () => this.zoom(1.4)),
          button("Fit", "Fit the drawing to the window", () => this.fit()),
        ),
      ),
      el("div", { class: "stage" }, this.canvas, this.tip),
      legend(),
      el(
        "p",
        { id: "graph-keys", class: "unseen" },
        "Arrow keys go from box to box, right into an open box and left out of it. Enter opens and closes, or says why. Plus and minus zoom, 0 fits, shift and arrows pan, slash searches, Escape clears.",
      ),
    );
    this.painter = new Painter(this.canvas, this.model);
    this.hears();
  }

  hears() {
    const { canvas } = this;
    const pointers = new Map();
    let moved = 0;
    let apart = 0;
    const local = (event) => [event.offsetX, event.offsetY];
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, local(event));
      moved = 0;
      apart = 0;
    });
    canvas.addEventListener("pointermove", (event) => {
      const before = pointers.get(event.pointerId);
      const now = local(event);
      if (!before) return this.point(event);
      pointers.set(event.pointerId, now);
      if (pointers.size === 1) {
        moved += Math.abs(now[0] - before[0]) + Math.abs(now[1] - before[1]);
        if (moved > 4) this.pan(now[0] - before[0], now[1] - before[1]);
      } else {
        const [a, b] = [...pointers.values()];
        const distance = Math.hypot(a[0] - b[0], a[1] - b[1]);
        if (apart) this.zoom(distance / apart, [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2], false);
        apart = distance;
        moved = 9;
      }
    });
    const up = (event) => {
      const isClick = pointers.delete(event.pointerId) && moved <= 4 && event.type === "pointerup";
      if (isClick && event.button === 0) this.click(this.at(...local(event)), event);
    };
    canvas.addEventListener("pointerup", up);
    canvas.addEventListener("pointercancel", up);
    canvas.addEventListener("pointerleave", () => this.point(null));
    canvas.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        const by = event.deltaMode === 1 ? 30 : 1;
        this.zoom(Math.exp(-event.deltaY * by * (event.ctrlKey ? 0.01 : 0.0018)), local(event), false);
      },
      { passive: false },
    );
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("focus", () => {
      this.cursor ??= this.root.children[0] ?? null;
      this.redraw();
    });
    canvas.addEventListener("blur", () => this.redraw());
    new ResizeObserver(() => {
      if (this.wantsFit && canvas.clientWidth) this.fit(false);
      this.redraw();
    }).observe(canvas);
  }

  placeAll() {
    this.layout.place(this.root);
    Object.assign(this.root, { x: 0, y: 0 });
    this.findings = this.markedBoxes();
    this.tell();
  }

  /** Boxes that have findings, or hide them. */
  markedBoxes() {
    const found = new Map();
    for (const [value, own] of this.model.findingsOf) {
      const inner = this.boxOf(value);
      if (!inner) continue;
      for (const box of [inner, ...above(inner)]) {
        const before = found.get(box) ?? { many: 0, severity: "warning" };
        const isError = own.some((finding) => finding.severity === "error");
        found.set(box, { many: before.many + own.length, severity: isError ? "error" : before.severity });
      }
    }
    return found;
  }

  at(x, y) {
    const found = hit(this.root, (x - this.view.x) / this.view.k, (y - this.view.y) / this.view.k);
    return found === this.root ? null : found;
  }

  redraw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      if (!this.canvas.clientWidth) return;
      const started = performance.now();
      const cursor = document.activeElement === this.canvas ? this.cursor : null;
      const { root, view, chosen, pointed, findings } = this;
      const lit = { ...this.lit, on: this.lit.on && this.lit.boxes.has(root) }; // a way in the other pass dims nothing
      const drawn = this.painter.frame({ root, view, chosen, pointed, lit, findings, cursor, ties: this.ties() });
      this.frames.push({ at: performance.now(), milliseconds: performance.now() - started, drawn });
      if (this.frames.length > 500) this.frames.splice(0, 250);
    });
  }

  // -- scenes and colours --

  turnTo(root) {
    if (this.root === root) return;
    this.root = root;
    this.cursor = this.pointed = null;
    root.open = true;
    this.placeAll();
    const scenes = [this.forest.forward, this.forest.backward, this.forest.root];
    [...this.passes.children].forEach((button, index) => button.setAttribute("aria-pressed", scenes[index] === root));
    this.fit(false);
  }

  colourBy(which) {
    this.painter.which = which;
    this.redraw();
  }

  theme() {
    this.painter.theme();
    this.redraw();
  }

  // -- boxes --

  /** Where a box stands in this scene. */
  spot(box) {
    return placed(box, this.root);
  }

  /** Whether the box of a value is in the open. */
  isShown(value) {
    const box = this.boxOf(value);
    return Boolean(box) && visible(box) === box;
  }

  click(box) {
    if (!box) return this.clear();
    this.cursor = box;
    if (box.holds) this.toggle(box);
    else this.choose(box);
  }

  /** Open or close a box, which stays where it is. */
  toggle(box, open = !box.open) {
    const before = placed(box, this.root);
    box.open = open;
    this.placeAll();
    const after = placed(box, this.root);
    if (before && after && !this.wantsFit) {
      const { k } = this.view;
      this.view.x += (before.x - after.x + (before.w - after.w) / 2) * k;
      this.view.y += (before.y - after.y) * k;
    }
    if (this.wantsFit) this.fit(true);
    else if (open) this.keepInSight(box);
    this.chosen = box;
    this.light([]);
    this.show({ box });
    announce(`${box.label} ${open ? "opened" : "folded"}, ${count(box.ops, "op")}`);
    this.redraw();
  }

  keepInSight(box) {
    const { x, y, w, h } = placed(box, this.root);
    const { k } = this.view;
    const [left, top] = [x * k + this.view.x, y * k + this.view.y];
    const isSeen =
      left >= 0 && top >= 0 && left + w * k <= this.canvas.clientWidth && top + h * k <= this.canvas.clientHeight;
    if (!isSeen) this.frameIn({ x, y, w, h }, true, Math.max(k, 0.2));
  }

  all(open) {
    for (const box of within(this.root)) if (box.holds && box !== this.root) box.open = open;
    if (!open) openFirst(this.root);
    this.placeAll();
    this.fit(false);
    announce(open ? "All boxes are open" : "Boxes are folded");
  }

  choose(box) {
    this.chosen = box;
    this.cursor = box;
    const weight = box.kind === "leaf" ? this.model.weightOf.get(box.value) : undefined;
    if (weight !== undefined) this.show({ weight });
    else if (box.value >= 0) this.show({ value: box.value });
    else this.show({ box });
    announce(describe(this.model, box));
    this.redraw();
  }

  clear() {
    this.chosen = null;
    this.light([]);
    this.show(null);
    this.redraw();
  }

  /** Show a value: open what hides it, and bring it into the middle. */
  reveal(value, choose = true) {
    const box = this.boxOf(value);
    if (!box) return;
    this.revealBox(box);
    if (choose) this.choose(box);
  }

  revealBox(box) {
    if (!inScene(box, this.root)) this.turnTo(passOf(box));
    let opened = false;
    for (const outer of above(box)) {
      opened ||= !outer.open;
      outer.open = true;
    }
    if (opened) this.placeAll();
    this.wantsFit = false;
    const spot = placed(box, this.root);
    const around = 260;
    this.frameIn({ x: spot.x - around, y: spot.y - around / 2, w: spot.w + 2 * around, h: spot.h + around }, true, 1.1);
    this.cursor = box;
  }

  point(event) {
    const box = event ? this.at(event.offsetX, event.offsetY) : null;
    this.tip.hidden = !box || box.open;
    if (box && !box.open) {
      this.tip.textContent = describe(this.model, box);
      const right = event.offsetX > this.canvas.clientWidth * 0.6;
      Object.assign(this.tip.style, {
        left: right ? "" : `${event.offsetX + 14}px`,
        right: right ? `${this.canvas.clientWidth - event.offsetX + 14}px` : "",
        top: `${event.offsetY + 14}px`,
      });
    }
    this.canvas.style.cursor = box ? "pointer" : "grab";
    if (box === this.pointed) return;
    this.pointed = box && box.open ? null : box;
    this.redraw();
  }

  key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const { key } = event;
    const box = this.cursor && inScene(this.cursor, this.root) ? visible(this.cursor) : this.root.children[0];
    const pans = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] };
    if (event.shiftKey && pans[key]) this.pan(...pans[key]);
    else if (key === "ArrowDown" || key === "ArrowUp") this.moveTo(neighbour(box, key === "ArrowDown" ? 1 : -1));
    else if (key === "ArrowRight") this.moveTo(box?.holds && box.open ? inOrder(box)[0] : box);
    else if (key === "ArrowLeft") this.moveTo(box?.parent !== this.root ? box?.parent : box);
    else if (key === "Enter" || key === " ") box && this.click(box);
    else if (key === "+" || key === "=") this.zoom(1.4);
    else if (key === "-") this.zoom(1 / 1.4);
    else if (key === "0") this.fit();
    else if (key === "/") this.search.input.focus();
    else if (key === "Escape") this.clear();
    else return;
    event.preventDefault();
  }

  moveTo(box) {
    if (!box || box === this.root) return;
    this.cursor = box;
    const spot = placed(box, this.root);
    const { k } = this.view;
    const [x, y] = [spot.x * k + this.view.x, spot.y * k + this.view.y];
    const isSeen =
      x > 0 &&
      y > 0 &&
      x + spot.w * k < this.canvas.clientWidth &&
      y + Math.min(spot.h, 80) * k < this.canvas.clientHeight;
    if (!isSeen || k < NEAR)
      this.frameIn({ x: spot.x - 260, y: spot.y - 130, w: spot.w + 520, h: Math.min(spot.h, 400) + 260 }, true, 1.1);
    announce(describe(this.model, box));
    this.redraw();
  }

  /** Have a function called whenever boxes open or close. */
  onchange(listener) {
    this.listeners.push(listener);
  }

  tell() {
    this.listeners.forEach((listener) => listener());
    this.redraw();
  }
}

/** Open boxes from outside in, as long as few are seen; no stacks. */
function openFirst(pass) {
  pass.open = true;
  let seen = pass.children.length;
  const waiting = pass.children.filter((box) => box.kind === "group");
  while (waiting.length) {
    const box = waiting.shift();
    if (seen + box.children.length > FIRST) continue;
    box.open = true;
    seen += box.children.length;
    waiting.push(...box.children.filter((child) => child.kind === "group"));
  }
}

function inScene(box, root) {
  for (let at = box; at; at = at.parent) if (at === root) return true;
  return false;
}

/** The children of a box from top to bottom. */
function inOrder(box) {
  return [...box.children].sort((a, b) => a.y - b.y || a.x - b.x);
}

function neighbour(box, step) {
  if (!box?.parent) return box;
  const all = inOrder(box.parent);
  return all[all.indexOf(box) + step] ?? box;
}
