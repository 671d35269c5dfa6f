// The program: what makes each value and what reads it, and the words for both.

const BACKWARD = 1;

class Model {
  constructor(drawing) {
    Object.assign(this, { texts: drawing.texts, orders: drawing.orders, values: drawing.values, nodes: drawing.nodes });
    Object.assign(this, { weights: drawing.weights, inputs: drawing.inputs, outputs: drawing.outputs });
    const many = this.values.name.length;
    this.producer = new Int32Array(many).fill(-1);
    this.readers = Array.from({ length: many }, () => []);
    this.nodes.outputs.forEach((outs, node) => outs.forEach((value) => (this.producer[value] = node)));
    this.nodes.inputs.forEach((ins, node) => {
      for (const value of new Set(ins)) this.readers[value].push(node);
    });
    this.weightOf = new Map(this.weights.map((weight, index) => [weight.value, index]));
    this.outputOf = new Map(this.outputs.map((output) => [output.value, output.path]));
    this.findingsOf = new Map();
  }

  /** Why each weight has its exponents: read when it is first asked for. */
  get why() {
    return part("why");
  }

  name(value) {
    return this.texts[this.values.name[value]];
  }

  type(value) {
    return this.texts[this.values.type[value]];
  }

  kind(value) {
    return this.texts[this.values.kind[value]];
  }

  /** S, V, M or T, by the number of growing axes. */
  letter(value) {
    return this.type(value)[0];
  }

  op(node) {
    return this.texts[this.nodes.op[node]];
  }

  module(node) {
    return this.texts[this.nodes.module[node]];
  }

  where(node) {
    return [this.texts[this.nodes.module[node]], this.texts[this.nodes.source[node]]].filter(Boolean).join(", ");
  }

  /** {size, at}, null where the calculus has no order for it. */
  order(value, which = "trained") {
    const place = this.values[which][value];
    return place < 0 ? null : this.orders[place];
  }

  isBackward(value) {
    const node = this.producer[value];
    return node >= 0 && this.nodes.backward[node] === BACKWARD;
  }

  /** Whether a value stands in the backward pass; a leaf does where nothing else reads it. */
  passOf(value) {
    if (this.producer[value] >= 0) return this.isBackward(value);
    return this.readers[value].every((node) => this.nodes.backward[node] === BACKWARD);
  }

  /** The call of a node as texts and values in turn. */
  call(node) {
    const texts = this.texts[this.nodes.call[node]].split("\ufffc");
    return texts.flatMap((text, index) => (index ? [this.nodes.inputs[node][index - 1], text] : [text]));
  }

  /** From a value back along what decides its order, views left out. */
  chain(value, most = 12) {
    const found = [];
    const seen = new Set();
    for (let at = value; at >= 0 && !seen.has(at) && found.length < most; at = this.values.decides[at]) {
      seen.add(at);
      const rule = this.values.rule[at] < 0 ? "" : this.texts[this.values.rule[at]];
      if (at === value || !rule.startsWith("a view:")) found.push({ value: at, rule });
    }
    return found;
  }

  /** Values along a way, with those between two of its steps (views) where few ops lead from one to the other. */
  joined(values, most = 14) {
    return values.flatMap((value, step) => (step ? [...this.between(values[step - 1], value, most), value] : [value]));
  }

  between(from, to, most) {
    const before = new Map([[to, -1]]);
    let front = [to];
    for (let steps = 0; steps < most && front.length && !before.has(from); steps += 1) {
      const next = [];
      for (const value of front) {
        for (const input of this.producer[value] < 0 ? [] : this.nodes.inputs[this.producer[value]]) {
          if (before.has(input)) continue;
          before.set(input, value);
          next.push(input);
        }
      }
      front = next;
    }
    const found = [];
    if (before.has(from)) for (let at = before.get(from); at >= 0 && at !== to; at = before.get(at)) found.push(at);
    return found;
  }

  /** Place of a weight by any of its names. */
  weightNamed(name) {
    return this.weights.findIndex((weight) => weight.name === name || weight.aliases.includes(name));
  }
}
