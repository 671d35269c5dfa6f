// Where boxes stand.  Each open box is laid out alone, by dagre, and what is alike is laid out once; a stack is a grid.

const GAP = 26;
const PAD = 16;
const HEAD = 30;
const NODE = { width: 158, height: 42 };
const LEAF = { width: 158, height: 38 };
const CLOSED = { width: 188, height: 52 };
/** Edges that pass more layers than this end in a name at either side, as nets do in a circuit. */
const FAR = 14;
/** What dagre is given, in layers passed by all edges of one box. */
const MOST_PASSED = 1200;

/** What flows between the children of each box, and in and out of it; independent of what is open. */
class Flow {
  constructor(model, forest) {
    this.inner = new Map(); // box -> Map of "from>to" -> {from, to, values}
    this.enters = new Map(); // box -> Map of value -> Set of children
    this.leaves = new Map();
    const { boxOfNode, boxOfValue } = forest;
    this.count = 0;
    model.nodes.inputs.forEach((ins, node) => {
      const to = boxOfNode[node];
      for (const value of new Set(ins)) {
        const from = model.producer[value] >= 0 ? boxOfNode[model.producer[value]] : boxOfValue.get(value);
        if (from) this.add(from, to, value);
      }
    });
  }

  add(from, to, value) {
    this.count += 1;
    let a = from;
    let b = to;
    const crosses = from.backward !== to.backward; // named in neither pass, drawn when it is chosen
    while (a.parent !== b.parent) {
      if (a.depth >= b.depth) {
        if (!crosses) note(this.leaves, a.parent, value, a);
        a = a.parent;
      } else {
        if (!crosses) note(this.enters, b.parent, value, b);
        b = b.parent;
      }
    }
    if (a === b) return;
    if (!this.inner.has(a.parent)) this.inner.set(a.parent, new Map());
    const edges = this.inner.get(a.parent);
    const key = `${a.id}>${b.id}`;
    if (!edges.has(key)) edges.set(key, { from: a, to: b, values: [] });
    const { values } = edges.get(key);
    if (!values.includes(value)) values.push(value);
  }

  /** Whether an edge is drawn where it goes: in every layout on its way. */
  isDrawn(from, to, value) {
    let [a, b] = [visible(from), visible(to)];
    while (a.parent !== b.parent) {
      const isOut = a.depth >= b.depth;
      const inner = isOut ? a : b;
      const ports = inner.parent.wires?.[isOut ? "outs" : "ins"];
      if (!ports?.some((port) => port.value === value && port.children.includes(inner))) return false;
      if (isOut) a = a.parent;
      else b = b.parent;
    }
    return a === b || Boolean(a.parent.wires?.near.some((edge) => edge.from === a && edge.to === b));
  }

  edges(box) {
    return [...(this.inner.get(box)?.values() ?? [])];
  }
}

function note(table, box, value, child) {
  if (!table.has(box)) table.set(box, new Map());
  const values = table.get(box);
  if (!values.has(value)) values.set(value, new Set());
  values.get(value).add(child);
}

class Layout {
  constructor(model, flow) {
    this.model = model;
    this.flow = flow;
    this.known = new Map(); // what a box looks like -> its layout
    this.fresh = new Set();
  }

  /** Sizes and places of a box and all that is open in it; x and y are those in the box around it. */
  place(box) {
    if (!box.holds) {
      const size = box.kind === "leaf" ? LEAF : NODE;
      Object.assign(box, { w: size.width, h: size.height, shape: `${box.kind}` });
      return;
    }
    if (!box.open) {
      const stacked = box.kind === "stack" ? 8 : 0;
      Object.assign(box, { w: CLOSED.width + stacked, h: CLOSED.height + stacked, shape: `c${stacked}`, drawn: null });
      return;
    }
    for (const child of box.children) this.place(child);
    const isGrid = box.kind === "stack" || !box.parent;
    box.wires ??= this.wires(box);
    const key = this.key(box, isGrid);
    if (!this.known.has(key)) this.known.set(key, isGrid ? grid(box) : layered(box));
    const found = this.known.get(key);
    box.children.forEach((child, index) => {
      [child.x, child.y] = found.places[index];
    });
    Object.assign(box, { w: found.w, h: found.h, shape: found.shape, drawn: found });
  }

  key(box, isGrid) {
    const sizes = box.children.map((child) => child.shape).join(" ");
    const { near, ins, outs } = box.wires;
    const index = box.places;
    const ports = (own) => own.map((port) => port.children.map((child) => index.get(child)).join("+")).join(" ");
    const wires = near.map((edge) => `${index.get(edge.from)}>${index.get(edge.to)}`).join(" ");
    return `${isGrid}|${sizes}|${wires}|${ports(ins)}|${ports(outs)}`;
  }

  /** The edges of a box: near ones, which are drawn, far ones, which are named at both ends, and its ports. */
  wires(box) {
    box.places = new Map(box.children.map((child, index) => [child, index]));
    const edges = this.flow.edges(box);
    const rank = new Array(box.children.length).fill(0);
    const ahead = edges.filter((edge) => box.places.get(edge.from) < box.places.get(edge.to));
    const byTarget = new Map();
    for (const edge of ahead) {
      const to = box.places.get(edge.to);
      if (!byTarget.has(to)) byTarget.set(to, []);
      byTarget.get(to).push(box.places.get(edge.from));
    }
    for (let at = 0; at < rank.length; at += 1) {
      for (const from of byTarget.get(at) ?? []) rank[at] = Math.max(rank[at], rank[from] + 1);
    }
    // what nothing here leads to (weights) will stand just before what first reads it
    const sources = new Map();
    for (const { from, to } of ahead) {
      const at = box.places.get(from);
      if (byTarget.has(at)) continue;
      sources.set(at, Math.min(sources.get(at) ?? Infinity, rank[box.places.get(to)] - 1));
    }
    for (const [at, before] of sources) rank[at] = before;
    const span = (edge) => Math.abs(rank[box.places.get(edge.to)] - rank[box.places.get(edge.from)]);
    let passed = 0;
    const near = [];
    const far = [];
    for (const edge of [...edges].sort((x, y) => span(x) - span(y))) {
      passed += span(edge);
      const isNext = box.places.get(edge.to) - box.places.get(edge.from) === 1;
      const fits = !box.parent ? false : box.kind === "stack" ? isNext : span(edge) <= FAR && passed <= MOST_PASSED;
      (fits ? near : far).push(edge);
    }
    const ports = (table) =>
      [...(table.get(box) ?? [])].map(([value, children]) => ({ value, children: [...children] }));
    const ins = box.kind === "stack" ? [] : ports(this.flow.enters).slice(0, 12);
    const outs = box.kind === "stack" ? [] : ports(this.flow.leaves).slice(0, 12);
    return { near, far, ins, outs };
  }
}

/** A stack: its members in columns from left to right, about as wide as a screen. */
function grid(box) {
  const many = box.children.length;
  const width = Math.max(...box.children.map((child) => child.w));
  const height = box.children.reduce((sum, child) => sum + child.h + GAP, 0) / many;
  const wanted = Math.max(1, Math.min(many, Math.round(Math.sqrt((many * height * 1.7) / (width + 2 * GAP)))));
  const rows = !box.parent ? 1 : fewestLeft(many, Math.ceil(many / wanted));
  const columns = Math.ceil(many / rows);
  const places = [];
  let x = PAD;
  let tallest = 0;
  for (let column = 0; column < columns; column += 1) {
    const own = box.children.slice(column * rows, (column + 1) * rows);
    if (!own.length) break;
    let y = HEAD + PAD;
    const wide = Math.max(...own.map((child) => child.w));
    for (const child of own) {
      places.push([x, y]);
      y += child.h + GAP;
    }
    tallest = Math.max(tallest, y - GAP + PAD);
    x += wide + 2 * GAP;
  }
  const lines = box.wires.near.map(({ from, to }) => {
    const [a, b] = [places[box.places.get(from)], places[box.places.get(to)]];
    const start = [a[0] + from.w / 2, a[1] + from.h];
    const end = [b[0] + to.w / 2, b[1]];
    if (end[1] > start[1]) return [start, end];
    const between = b[0] - GAP;
    return [start, [start[0], start[1] + 8], [between, start[1] + 8], [between, end[1] - 8], [end[0], end[1] - 8], end];
  });
  return { places, lines, ins: [], outs: [], w: x - 2 * GAP + PAD, h: tallest, shape: shapeOf() };
}

/** About so many rows, such that few places stay empty. */
function fewestLeft(many, rows) {
  const left = (own) => own * Math.ceil(many / own) - many;
  return [rows, rows + 1, rows - 1]
    .filter((own) => own > 0)
    .reduce((best, own) => (left(own) < left(best) ? own : best));
}

/** By layers: dagre finds the places, its dots for what enters and leaves are on the border. */
function layered(box) {
  const graph = new dagre.graphlib.Graph();
  graph.setGraph({
    rankdir: "TB",
    nodesep: 18,
    ranksep: 26,
    edgesep: 8,
    marginx: PAD,
    marginy: 0,
    ranker: ranker(box),
  });
  graph.setDefaultEdgeLabel(() => ({}));
  const { near, ins, outs } = box.wires;
  box.children.forEach((child, index) => graph.setNode(`${index}`, { width: child.w, height: child.h }));
  ins.forEach((port, index) => {
    graph.setNode(`i${index}`, { width: 10, height: 1 });
    for (const child of port.children) graph.setEdge(`i${index}`, `${box.places.get(child)}`);
  });
  outs.forEach((port, index) => {
    graph.setNode(`o${index}`, { width: 10, height: 1 });
    for (const child of port.children) graph.setEdge(`${box.places.get(child)}`, `o${index}`);
  });
  for (const { from, to } of near) graph.setEdge(`${box.places.get(from)}`, `${box.places.get(to)}`);
  dagre.layout(graph);
  const nodes = graph.nodes().map((name) => [name, graph.node(name)]);
  const left = Math.min(...nodes.map(([, own]) => own.x - own.width / 2)) - PAD;
  const right = Math.max(...nodes.map(([, own]) => own.x + own.width / 2)) + PAD;
  const top = Math.min(...box.children.map((_, i) => graph.node(`${i}`)).map((own) => own.y - own.height / 2));
  const below = Math.max(...box.children.map((_, i) => graph.node(`${i}`)).map((own) => own.y + own.height / 2));
  const dy = HEAD + (ins.length ? 22 : 6) - top;
  const h = below + dy + (outs.length ? 26 : PAD);
  const w = Math.max(right - left, 120);
  const dx = (w - (right - left)) / 2 - left;
  const moved = ([x, y]) => [x + dx, y + dy];
  const places = box.children.map((_, index) => {
    const own = graph.node(`${index}`);
    return moved([own.x - own.width / 2, own.y - own.height / 2]);
  });
  const points = (from, to) => graph.edge(from, to).points.map((point) => moved([point.x, point.y]));
  const lines = near.map(({ from, to }) => points(`${box.places.get(from)}`, `${box.places.get(to)}`));
  const inLines = ins.map((port, index) =>
    port.children.map((child) => {
      const line = points(`i${index}`, `${box.places.get(child)}`);
      line[0] = [line[0][0], HEAD];
      return line.filter(([, y], at) => at === 0 || y > HEAD + 1);
    }),
  );
  const outLines = outs.map((port, index) =>
    port.children.map((child) => {
      const line = points(`${box.places.get(child)}`, `o${index}`);
      line[line.length - 1] = [line[line.length - 1][0], h];
      return line.filter(([, y], at) => at === line.length - 1 || y < h - 1);
    }),
  );
  return { places, lines, ins: inLines, outs: outLines, w, h, shape: shapeOf() };
}

/** The best ranks are slow to find for many nodes. */
function ranker(box) {
  return box.children.length > 60 ? "tight-tree" : "network-simplex";
}

let shapes = 0;

/** A name for a new layout: boxes of one shape look the same from outside. */
function shapeOf() {
  shapes += 1;
  return `s${shapes}`;
}
