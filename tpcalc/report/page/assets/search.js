// The field over the drawing.

/** A field that finds weights, values, ops and modules by a part of their names. */
class Search {
  constructor(graph) {
    this.graph = graph;
    this.found = [];
    this.at = -1;
    this.list = el("ul", { id: "found", class: "found", role: "listbox", "aria-label": "Found", hidden: true });
    this.input = el("input", {
      type: "search",
      id: "search",
      placeholder: "Search weights, values, ops",
      "aria-label": "Search the program",
      role: "combobox",
      "aria-expanded": "false",
      "aria-controls": "found",
      "aria-autocomplete": "list",
      autocomplete: "off",
      spellcheck: "false",
      oninput: settled(() => this.look()),
      onkeydown: (event) => this.key(event),
      onblur: () => setTimeout(() => this.close(), 150),
    });
    this.element = el("div", { class: "search" }, this.input, this.list);
  }

  look() {
    this.looked = this.input.value;
    const words = this.input.value.trim().toLowerCase();
    this.found = words ? this.matches(words) : [];
    this.at = this.found.length ? 0 : -1;
    this.list.replaceChildren(
      ...this.found.map(({ text, kind, box }, index) =>
        el(
          "li",
          {
            role: "option",
            id: `found-${index}`,
            "aria-selected": index === this.at,
            onpointerdown: (event) => {
              event.preventDefault();
              this.take(box);
            },
          },
          el("span", { class: "what" }, shortened(text, 70)),
          " ",
          el("span", { class: "type" }, kind),
        ),
      ),
    );
    this.list.hidden = !words;
    if (words && !this.found.length)
      this.list.append(
        el(
          "li",
          { class: "none", role: "option", "aria-disabled": "true", "aria-selected": "false" },
          "Nothing has this in its name",
        ),
      );
    this.input.setAttribute("aria-expanded", String(Boolean(words)));
    this.point();
    if (words)
      announce(
        this.found.length
          ? `${this.found.length}${this.found.length === MOST_FOUND ? " or more" : ""} found`
          : "Nothing found",
      );
  }

  /** Weights first, then modules, values and ops. */
  matches(words) {
    this.all ??= searchable(this.graph);
    const found = [];
    for (const entry of this.all) {
      if (entry.key.includes(words)) found.push(entry);
      if (found.length === MOST_FOUND) break;
    }
    return found;
  }

  point() {
    [...this.list.children].forEach((item, index) => item.setAttribute("aria-selected", String(index === this.at)));
    const active = this.list.children[this.at];
    if (this.at >= 0 && active) {
      this.input.setAttribute("aria-activedescendant", active.id);
      active.scrollIntoView({ block: "nearest" });
    } else this.input.removeAttribute("aria-activedescendant");
  }

  key(event) {
    const goes = ["ArrowDown", "ArrowUp", "Enter"].includes(event.key);
    if (goes && (this.looked !== this.input.value || this.list.hidden)) this.look(); // what is typed is looked up later
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      const step = event.key === "ArrowDown" ? 1 : -1;
      if (this.found.length) this.at = (this.at + step + this.found.length) % this.found.length;
      this.point();
    } else if (event.key === "Enter" && this.found[this.at]) this.take(this.found[this.at].box);
    else if (event.key === "Escape") {
      this.input.value = "";
      this.close();
    } else return;
    event.preventDefault();
  }

  take(box) {
    this.close();
    this.graph.revealBox(box);
    if (box.holds) {
      this.graph.chosen = box;
      this.graph.show({ box });
      this.graph.redraw();
    } else this.graph.choose(box);
  }

  close() {
    this.list.hidden = true;
    this.input.setAttribute("aria-expanded", "false");
    this.input.removeAttribute("aria-activedescendant");
  }
}

const MOST_FOUND = 40;

function searchable(graph) {
  const { model, forest } = graph;
  const all = { weights: [], groups: [], values: [] };
  for (const box of within(forest.root)) {
    if (!box.parent || !box.parent.parent) continue;
    if (box.kind === "leaf") {
      const weight = model.weightOf.get(box.value);
      const text =
        weight === undefined
          ? model.name(box.value)
          : [model.weights[weight].name, ...model.weights[weight].aliases].join(" = ");
      all.weights.push({
        text,
        kind: `${model.kind(box.value)} ${model.type(box.value)}`,
        box,
        key: text.toLowerCase(),
      });
    } else if (box.holds) {
      if (box.kind === "group")
        all.groups.push({
          text: box.path || box.label,
          kind: box.backward ? "module, backward" : "module",
          box,
          key: (box.path || box.label).toLowerCase(),
        });
    } else {
      const text = box.value < 0 ? box.label : `${model.name(box.value)} = ${box.label}`;
      all.values.push({
        text,
        kind: model.where(box.node),
        box,
        key: `${text} ${model.where(box.node)}`.toLowerCase(),
      });
    }
  }
  return [...all.weights, ...all.groups, ...all.values];
}
