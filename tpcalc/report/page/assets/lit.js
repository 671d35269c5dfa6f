// A way that is lit in the drawing: the values of an explanation, and what ties them where no layout does.

/** Needs a model, a forest, a flow, placeAll() and chosen. */
class LitView extends View {
  constructor() {
    super();
    this.lit = { on: false, values: new Set(), boxes: new Set(), path: new Set(), onPath: new Set(), ways: [] };
  }

  boxOf(value) {
    const node = this.model.producer[value];
    return node >= 0 ? this.forest.boxOfNode[node] : this.forest.boxOfValue.get(value);
  }

  /** ways: [{values, kind: "path" or "back"}], from the explanation that is shown. */
  light(given, open = false) {
    const ways = given.map((way) => ({ ...way, values: this.model.joined(way.values) }));
    const values = new Set(ways.flatMap((way) => way.values));
    const inner = [...values].map((value) => this.boxOf(value)).filter(Boolean);
    if (open) {
      const path = ways
        .filter((way) => way.kind === "path")
        .flatMap((way) => way.values.map((value) => this.boxOf(value)));
      for (const box of path) for (const outer of box ? above(box) : []) outer.open = true;
      this.placeAll();
    }
    const boxes = new Set(inner.flatMap((box) => [box, ...above(box)]));
    const onPath = new Set(ways.filter((way) => way.kind === "path").flatMap((way) => way.values));
    const path = new Set(
      [...onPath]
        .map((value) => this.boxOf(value))
        .filter(Boolean)
        .flatMap((box) => [box, ...above(box)]),
    );
    this.lit = { on: values.size > 0, values, boxes, path, onPath, ways };
    this.redraw();
  }

  /** Edges of what is chosen that no layout draws, and steps of the lit way between boxes. */
  ties() {
    const found = [];
    const add = (from, to, value, kind) => {
      const [a, b] = [from && visible(from), to && visible(to)];
      if (!a || !b || a === b || !inScene(a, this.root) || !inScene(b, this.root)) return;
      if (!this.flow.isDrawn(from, to, value)) found.push({ from: a, to: b, kind });
    };
    for (const { values, kind } of this.lit.ways) {
      for (let step = 1; step < values.length; step += 1)
        add(this.boxOf(values[step - 1]), this.boxOf(values[step]), values[step - 1], kind);
    }
    const box = this.chosen;
    if (box && !box.holds) {
      const ends = new Set();
      const tie = (from, to, value) => {
        const key = `${from && visible(from).id}>${to && visible(to).id}`;
        if (!ends.has(key) && ends.size < 60) add(from, to, value, "tie");
        ends.add(key);
      };
      if (box.node >= 0) for (const value of this.model.nodes.inputs[box.node]) tie(this.boxOf(value), box, value);
      if (box.value >= 0)
        for (const node of this.model.readers[box.value]) tie(box, this.forest.boxOfNode[node], box.value);
    }
    return found;
  }

  /** Bring the whole lit way into sight, as far as it is in this scene. */
  frameLit() {
    const spots = [...this.lit.onPath]
      .map((value) => this.boxOf(value))
      .filter((box) => box && inScene(box, this.root))
      .map((box) => placed(visible(box), this.root));
    if (!spots.length) return;
    const [left, top] = [Math.min(...spots.map((own) => own.x)), Math.min(...spots.map((own) => own.y))];
    const [right, below] = [
      Math.max(...spots.map((own) => own.x + own.w)),
      Math.max(...spots.map((own) => own.y + own.h)),
    ];
    this.wantsFit = false;
    this.frameIn({ x: left - 90, y: top - 60, w: right - left + 180, h: below - top + 120 }, true, 1.1);
  }
}
