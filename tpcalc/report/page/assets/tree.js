// The program as boxes in boxes: modules hold what they call, alike neighbours stand in one stack.

/** From how many alike neighbours on they are a stack. */
const STACK = 3;
/** A module that itself calls more than this many ops is cut into pieces. */
const PIECE = 120;

class Box {
  constructor(kind, label, parent) {
    this.kind = kind; // group, stack, piece, op, leaf
    this.label = label;
    this.parent = parent;
    this.children = [];
    this.open = false;
    this.node = -1;
    this.value = -1;
    this.path = "";
    this.backward = false;
    this.depth = parent ? parent.depth + 1 : 0;
    parent?.children.push(this);
  }

  get holds() {
    return this.kind === "group" || this.kind === "stack" || this.kind === "piece";
  }
}

/** Both passes: the root holds a box for each. */
function tree(model) {
  const root = new Box("group", "program", null);
  const boxOfNode = new Array(model.nodes.op.length);
  const boxOfValue = new Map(); // of leaves
  const passes = [passTree(model, root, false, boxOfNode), passTree(model, root, true, boxOfNode)];
  addLeaves(model, passes, boxOfNode, boxOfValue);
  passes.forEach((pass) => {
    pass.children.slice().forEach(tidied);
    pieced(pass);
  });
  const intern = new Map();
  numbered(root, { next: 0 });
  measured(model, root, intern);
  return { root, forward: passes[0], backward: passes[1], boxOfNode, boxOfValue };
}

/** Forward, a box is one call of a module; backward, all that belongs to it, as branches alternate there. */
function passTree(model, root, backward, boxOfNode) {
  const pass = new Box("group", backward ? "backward pass" : "forward pass", root);
  pass.backward = backward;
  const byPath = new Map([["", pass]]);
  let current = [pass];
  let path = [];
  const split = new Map();
  model.nodes.op.forEach((_, node) => {
    if ((model.nodes.backward[node] === BACKWARD) !== backward) return;
    const module = model.module(node);
    if (!split.has(module)) split.set(module, module ? module.split(".") : []);
    const parts = split.get(module);
    let shared = 0;
    while (shared < parts.length && shared < path.length && parts[shared] === path[shared]) shared += 1;
    current = current.slice(0, shared + 1);
    for (let at = shared; at < parts.length; at += 1) {
      const full = parts.slice(0, at + 1).join(".");
      let box = backward ? byPath.get(full) : undefined;
      if (!box) {
        const isNumber = at > 0 && /^\d+$/.test(parts[at]);
        box = new Box("group", isNumber ? `${parts[at - 1]}.${parts[at]}` : parts[at], current[at]);
        Object.assign(box, { path: full, backward });
        byPath.set(full, box);
      }
      current.push(box);
    }
    path = parts;
    const op = new Box("op", model.op(node), current[parts.length]);
    Object.assign(op, { node, value: model.nodes.outputs[node][0] ?? -1, backward, path: model.module(node) });
    boxOfNode[node] = op;
  });
  return pass;
}

/** Weights and inputs stand where they are first read. */
function addLeaves(model, passes, boxOfNode, boxOfValue) {
  for (let value = model.values.name.length - 1; value >= 0; value -= 1) {
    if (model.producer[value] >= 0) continue;
    const readers = model.readers[value];
    const first = readers.find((node) => model.nodes.backward[node] !== BACKWARD) ?? readers[0];
    if (first === undefined && !model.weightOf.has(value) && !model.outputOf.has(value)) continue;
    const isInput = model.kind(value) === "input";
    const parent = first === undefined ? passes[0] : isInput ? passOf(boxOfNode[first]) : boxOfNode[first].parent;
    const leaf = new Box("leaf", model.name(value), null);
    Object.assign(leaf, { value, parent, backward: parent.backward, path: parent.path, depth: parent.depth + 1 });
    const at = first === undefined || isInput ? 0 : parent.children.indexOf(boxOfNode[first]);
    parent.children.splice(Math.max(at, 0), 0, leaf);
    boxOfValue.set(value, leaf);
  }
}

function passOf(box) {
  while (box.parent.parent) box = box.parent;
  return box;
}

/** A module that only calls another one, or that is one op, is no box of its own. */
function tidied(box) {
  if (!box.holds) return;
  box.children.slice().forEach(tidied);
  const only = box.children.length === 1 ? box.children[0] : null;
  if (only && (only.kind === "op" || only.holds)) {
    if (only.holds) only.label = only.label.startsWith(`${box.label}.`) ? only.label : `${box.label}.${only.label}`;
    only.parent = box.parent;
    box.parent.children[box.parent.children.indexOf(box)] = only;
  } else pieced(box);
}

/** Too many ops in one box go into pieces. */
function pieced(box) {
  if (box.children.length > PIECE && box.children.filter((child) => !child.holds).length > PIECE) {
    const all = box.children;
    box.children = [];
    for (let from = 0; from < all.length; from += PIECE / 2) {
      const own = all.slice(from, from + PIECE / 2);
      const piece = new Box("piece", `part ${1 + from / (PIECE / 2)} of ${Math.ceil(all.length / (PIECE / 2))}`, box);
      Object.assign(piece, { children: own, backward: box.backward, path: box.path });
      own.forEach((child) => (child.parent = piece));
    }
  }
}

/** Depths, and an id for each in reading order. */
function numbered(box, counter) {
  box.id = counter.next++;
  for (const child of box.children) {
    child.depth = box.depth + 1;
    numbered(child, counter);
  }
}

/** What each box holds, and a number that is the same for boxes that hold the same. */
function measured(model, box, intern) {
  let text;
  if (box.holds) {
    box.weights = 0;
    box.ops = 0;
    box.findings = 0;
    for (const child of box.children) {
      measured(model, child, intern);
      box.ops += child.ops;
      box.weights += child.weights;
    }
    text = `g${box.children.map((child) => child.alike).join(",")}`;
  } else {
    const isOp = box.kind === "op";
    box.ops = isOp ? 1 : 0;
    box.weights = !isOp && model.weightOf.has(box.value) ? 1 : 0;
    const { type, trained, init } = model.values;
    text = isOp ? `o${model.nodes.op[box.node]}` : `l${box.weights}`;
    for (const value of isOp ? model.nodes.outputs[box.node] : [box.value])
      text += `/${type[value]}.${trained[value]}.${init[value]}`;
    for (const value of isOp ? model.nodes.inputs[box.node] : []) text += `,${type[value]}`;
  }
  if (!intern.has(text)) intern.set(text, intern.size);
  box.alike = intern.get(text);
  if (box.holds) markStack(box);
}

/** A box whose children are all alike is a stack of them; a run of alike neighbours among others gets one. */
function markStack(box) {
  const kids = box.children;
  const groups = (from, to) => kids.slice(from, to);
  const runs = [];
  for (let from = 0; from < kids.length;) {
    let to = from + 1;
    while (to < kids.length && kids[from].holds && kids[to].alike === kids[from].alike) to += 1;
    if (kids[from].holds && to - from >= STACK) runs.push([from, to]);
    from = to;
  }
  if (runs.length === 1 && runs[0][1] - runs[0][0] === kids.length && box.kind === "group" && box.parent?.parent) {
    box.kind = "stack";
    return;
  }
  for (const [from, to] of runs.reverse()) {
    const own = groups(from, to);
    const stack = new Box("stack", `${own[0].label} … ${own[own.length - 1].label}`, null);
    Object.assign(stack, { parent: box, children: own, backward: box.backward, path: box.path, depth: box.depth + 1 });
    Object.assign(stack, { id: own[0].id + 0.5, alike: -1, findings: 0 });
    stack.ops = own.reduce((sum, child) => sum + child.ops, 0);
    stack.weights = own.reduce((sum, child) => sum + child.weights, 0);
    own.forEach((child) => deepen(child, stack));
    kids.splice(from, to - from, stack);
  }
}

function deepen(box, parent) {
  box.parent = parent;
  (function down(own) {
    own.depth = own.parent.depth + 1;
    own.children.forEach(down);
  })(box);
}

/** Every box above, the nearest first. */
function* above(box) {
  for (let at = box.parent; at; at = at.parent) yield at;
}

/** The box itself, or the outermost closed one that hides it. */
function visible(box) {
  let shown = box;
  for (const outer of above(box)) if (!outer.open) shown = outer;
  return shown;
}

/** Every box inside, itself first. */
function* within(box) {
  yield box;
  for (const child of box.children) yield* within(child);
}
