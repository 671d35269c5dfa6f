// Why a weight or a value is as large as it is: the panel beside the table and the drawing.

class Why {
  /** page: {model, graph(), printed rows by weight, setup, toProgram()} */
  constructor(page) {
    this.page = page;
    this.body = el("div", { class: "why-body" });
    this.close = el(
      "button",
      { type: "button", class: "tool", "aria-label": "Close the explanation", onclick: () => this.page.clear() },
      "×",
    );
    this.element = el(
      "aside",
      { class: "why", "aria-label": "Why", tabindex: "-1", hidden: true },
      this.close,
      this.body,
    );
  }

  get hasFocus() {
    return this.element.contains(document.activeElement);
  }

  /** thing: {weight} or {value} or {box}; null closes the panel. */
  show(thing) {
    this.thing = thing;
    this.element.hidden = !thing;
    document.body.classList.toggle("explained", Boolean(thing));
    if (!thing) return;
    const parts =
      thing.weight !== undefined
        ? this.weight(thing.weight, thing.cone ?? 0)
        : thing.value !== undefined
          ? this.value(thing.value)
          : this.box(thing.box);
    this.body.replaceChildren(...parts.flat(Infinity).filter(Boolean));
    this.body.scrollTop = 0;
  }

  // -- a weight --

  weight(place, cone) {
    const { model } = this.page;
    const weight = model.weights[place];
    const own = model.why.weights[place];
    const reason = own.reasons[Math.min(cone, own.reasons.length - 1)];
    const text = (line) => el("p", {}, prose(model.why.texts[line]));
    const ways = [
      { values: reason.path.map((way) => way[0]).filter((value) => value >= 0), kind: "path" },
      {
        values: reason.back
          .map((way) => way[0])
          .filter((value) => value >= 0)
          .reverse(),
        kind: "back",
      },
    ];
    const path =
      ways[0].values.length && reason.path[0][0] !== weight.value ? [weight.value, ...ways[0].values] : ways[0].values;
    this.page.light([{ ...ways[0], values: path }, ways[1]]);
    return [
      el("p", { class: "kind" }, "Weight"),
      el("h2", { class: "name" }, breakable([weight.name, ...weight.aliases].join(" = "))),
      this.actions(weight.value),
      this.rules(weight),
      this.findings(weight.value),
      own.reasons.length > 1 && this.cones(place, own.reasons, cone),
      el("h3", {}, "Its size at init"),
      reason.init.map(text),
      reason.update.length > 0 && [el("h3", {}, "The size of its updates"), reason.update.map(text)],
      reason.path.length > 0 && [
        el("h3", { class: "lit-path" }, "From the weight to where the budget stands"),
        this.way(reason.path),
      ],
      reason.back.length > 0 && [
        el("h3", { class: "lit-back" }, "Where its gradient comes from"),
        reason.gradient.map(text),
        this.way(reason.back),
      ],
      reason.law.length > 0 && [
        el("h3", {}, "Under the optimizer"),
        el(
          "p",
          { class: "quiet" },
          reason.law.map((line) => model.why.texts[line]),
        ),
        reason.training.map(text),
      ],
    ];
  }

  /** The printed row of a weight, as a list. */
  rules(weight) {
    const { columns } = part("page").printed;
    const row = this.page.rowOf(weight.name);
    if (!row) return null;
    const cells = columns.map((column, index) => [column, row.cells[index]]).filter(([column]) => column !== "weight");
    return [
      row.names.length > 1 && el("p", { class: "quiet" }, `One of ${row.names.length} alike: ${row.cells[0].code}`),
      el(
        "dl",
        { class: "rules" },
        cells.map(([column, cell]) => [el("dt", {}, column), el("dd", {}, cellNode(cell, column))]),
      ),
    ];
  }

  cones(place, reasons, cone) {
    const choose = el(
      "select",
      { id: "cone", onchange: (event) => this.show({ weight: place, cone: Number(event.target.value) }) },
      reasons.map((reason, index) => el("option", { value: index, selected: index === cone }, reason.holds)),
    );
    return el("p", {}, el("label", { for: "cone" }, "Where "), choose);
  }

  findings(value) {
    return (this.page.model.findingsOf.get(value) ?? []).map((finding) =>
      el(
        "div",
        { class: `finding ${finding.severity}` },
        el("strong", {}, `${finding.severity}: ${finding.kind}`),
        el("p", {}, prose(finding.message)),
      ),
    );
  }

  /** Steps [value, name, how, order, budget, where] as a list of buttons. */
  way(steps) {
    const { model } = this.page;
    const texts = model.why.texts;
    return el(
      "ol",
      { class: "way" },
      steps.map(([value, name, how, order, budget, where]) =>
        el(
          "li",
          {},
          this.button(value, texts[name]),
          el(
            "span",
            { class: "size" },
            "size ",
            prose(sized(texts[order])),
            budget >= 0 && [", at most ", prose(sized(texts[budget]))],
          ),
          el("span", { class: "quiet" }, prose(texts[how])),
          texts[where] && el("span", { class: "where" }, texts[where]),
        ),
      ),
    );
  }

  button(value, name) {
    if (value < 0) return el("span", { class: "ref" }, name);
    return el(
      "button",
      { type: "button", class: "ref", title: "Show it in the drawing", onclick: () => this.page.reveal(value) },
      shortened(name, 80),
    );
  }

  actions(value) {
    return el(
      "p",
      { class: "actions" },
      el(
        "button",
        { type: "button", class: "action", onclick: () => this.page.reveal(value, false) },
        "Show in the drawing",
      ),
    );
  }

  // -- a value --

  value(value) {
    const { model } = this.page;
    const node = model.producer[value];
    const chain = model.chain(value);
    this.page.light([{ values: chain.map((step) => step.value).reverse(), kind: "path" }]);
    const readers = model.readers[value];
    const rows = [
      ["at init", "init"],
      ["after training", "trained"],
      ["of its change", "change"],
      ["its change may be", "budget"],
    ];
    const gradientOf = model.weights.find((weight) => weight.gradient === value);
    return [
      el(
        "p",
        { class: "kind" },
        node < 0 ? model.kind(value) : model.isBackward(value) ? "Value of the backward pass" : "Value",
      ),
      el("h2", { class: "name" }, `${model.name(value)} : ${model.type(value)}`),
      this.actions(value),
      gradientOf && el("p", {}, "Gradient of ", this.weightButton(gradientOf)),
      model.outputOf.has(value) && el("p", {}, `Output ${model.outputOf.get(value)}`.trim()),
      node >= 0 && [this.call(node), el("p", { class: "where" }, model.where(node))],
      el(
        "dl",
        { class: "rules" },
        el("dt", {}, "shape"),
        el("dd", {}, el("code", {}, model.texts[model.values.shape[value]])),
        rows.map(([label, which]) => {
          const order = model.order(value, which);
          return order && [el("dt", {}, label), el("dd", { class: tone(order) }, prose(sized(order.size)))];
        }),
      ),
      chain[0].rule
        ? [
            el("h3", { class: "lit-path" }, "Why it is of this size"),
            el(
              "ol",
              { class: "way" },
              chain.map((step) =>
                el(
                  "li",
                  {},
                  this.button(step.value, model.name(step.value)),
                  model.order(step.value) &&
                    el("span", { class: "size" }, "size ", prose(sized(model.order(step.value).size))),
                  el("span", { class: "quiet" }, prose(step.rule)),
                  model.producer[step.value] >= 0 &&
                    el("span", { class: "where" }, model.where(model.producer[step.value])),
                ),
              ),
            ),
          ]
        : el("p", { class: "quiet" }, "The calculus gives it no order of its own."),
      readers.length > 0 && [
        el("h3", {}, "Read by"),
        el(
          "ul",
          { class: "readers" },
          readers.slice(0, 12).map((reader) => {
            const out = model.nodes.outputs[reader][0] ?? -1;
            return el(
              "li",
              {},
              this.button(out, out < 0 ? model.op(reader) : `${model.name(out)} = ${model.op(reader)}`),
              el("span", { class: "where" }, model.where(reader)),
            );
          }),
        ),
        readers.length > 12 && el("p", { class: "quiet" }, `and ${readers.length - 12} more`),
      ],
    ];
  }

  weightButton(weight) {
    return el(
      "button",
      { type: "button", class: "ref", onclick: () => this.page.explain(weight.name) },
      shortened(weight.name, 80),
    );
  }

  call(node) {
    const { model } = this.page;
    return el(
      "p",
      { class: "call" },
      model.call(node).map((piece) => (typeof piece === "number" ? this.button(piece, model.name(piece)) : piece)),
    );
  }

  // -- a box --

  box(box) {
    const { model } = this.page;
    const weights = [...within(box)]
      .filter((own) => own.kind === "leaf" && model.weightOf.has(own.value))
      .map((own) => model.weights[model.weightOf.get(own.value)]);
    return [
      el("p", { class: "kind" }, box.kind === "stack" ? "Stack" : box.kind === "op" ? "Operation" : "Module"),
      el("h2", { class: "name" }, breakable(box.kind === "group" ? box.path || box.label : box.label)),
      box.holds
        ? el(
            "p",
            { class: "quiet" },
            [
              count(box.ops, "op"),
              count(weights.length, "weight"),
              box.kind === "stack" ? `${box.children.length} blocks alike in ops, types and orders` : "",
            ]
              .filter(Boolean)
              .join(", "),
          )
        : [this.call(box.node), el("p", { class: "where" }, model.where(box.node))],
      weights.length > 0 && [
        el("h3", {}, "Weights"),
        el(
          "ul",
          { class: "readers" },
          weights.slice(0, 40).map((weight) => el("li", {}, this.weightButton(weight))),
        ),
        weights.length > 40 && el("p", { class: "quiet" }, `and ${weights.length - 40} more`),
      ],
    ];
  }
}

/** A power of one scale as sentences write it, n^0 included, as a size. */
function sized(text) {
  return text.replace(/(\w)\^(-?\d+(?:\/\d+)?)/g, (_, symbol, exponent) => `${symbol}^(${exponent})`);
}
