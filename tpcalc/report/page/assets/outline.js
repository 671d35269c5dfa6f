// The same program as a tree of text, for keyboards and screen readers, and the search over it.

class Outline {
  constructor(graph) {
    this.graph = graph;
    this.items = new Map(); // box -> list item
    this.list = el("ul", { class: "outline", role: "tree", "aria-label": "Outline of the program", onkeydown: (event) => this.key(event) });
    this.element = el("nav", { class: "outlines", "aria-label": "Outline" }, el("h2", {}, "Outline"), this.list);
    for (const pass of [graph.forest.forward, graph.forest.backward]) if (pass.children.length) this.list.append(this.item(pass, 1));
    this.items.get(graph.forest.forward)?.setAttribute("tabindex", "0");
    this.unfold(graph.forest.forward, true);
  }

  item(box, level) {
    const { model } = this.graph;
    const label = box.holds ? (box.kind === "stack" ? `${box.label} × ${box.children.length}` : box.label)
      : box.kind === "leaf" ? model.name(box.value).split(".").slice(-1)[0] : box.label;
    const type = box.value >= 0 && !box.holds ? `${box.kind === "op" ? `${model.name(box.value)} : ` : ""}${model.type(box.value)}` : "";
    const made = el("li", { role: "treeitem", tabindex: "-1", "aria-level": level, "aria-expanded": box.holds ? "false" : undefined, "aria-selected": "false" },
      el("span", { class: `row ${box.kind}`, onclick: () => this.pick(box) }, el("span", { class: "twist", "aria-hidden": "true" }), el("span", { class: "what" }, shortened(label, 60)), " ", el("span", { class: "type" }, type)));
    made.box = box;
    this.items.set(box, made);
    return made;
  }

  /** Show or hide what a box holds; it is built when it is first shown. */
  unfold(box, open) {
    const made = this.items.get(box);
    if (!made || !box.holds) return;
    made.setAttribute("aria-expanded", open);
    let inside = made.querySelector(":scope > ul");
    if (open && !inside) {
      const level = Number(made.getAttribute("aria-level")) + 1;
      inside = el("ul", { role: "group" }, box.children.map((child) => this.item(child, level)));
      made.append(inside);
    }
    if (inside) inside.hidden = !open;
  }

  pick(box) {
    this.focus(box, false);
    const isOpen = this.items.get(box).getAttribute("aria-expanded") === "true";
    if (box.holds) this.unfold(box, !isOpen);
    if (!box.parent.parent) return this.graph.turnTo(box);
    this.graph.revealBox(box);
    if (box.holds) this.graph.toggle(box, !isOpen);
    else this.graph.choose(box);
  }

  /** Open the tree down to a box, and mark it. */
  mark(box) {
    const outer = [...above(box)].filter((own) => own.parent).reverse();
    outer.forEach((own) => this.unfold(own, true));
    this.focus(box, false);
  }

  focus(box, really = true) {
    const made = this.items.get(box);
    if (!made) return;
    for (const other of this.list.querySelectorAll("[tabindex='0'], [aria-selected='true']")) {
      other.setAttribute("tabindex", "-1");
      other.setAttribute("aria-selected", "false");
    }
    made.setAttribute("tabindex", "0");
    made.setAttribute("aria-selected", "true");
    if (really) made.focus();
    made.firstChild.scrollIntoView({ block: "nearest" });
  }

  key(event) {
    const made = event.target.closest("[role=treeitem]");
    if (!made) return;
    const { box } = made;
    const shown = [...this.list.querySelectorAll("[role=treeitem]")].filter((item) => !item.closest("ul[hidden]"));
    const at = shown.indexOf(made);
    const isOpen = made.getAttribute("aria-expanded") === "true";
    const steps = {
      ArrowDown: () => shown[at + 1] && this.focus(shown[at + 1].box),
      ArrowUp: () => shown[at - 1] && this.focus(shown[at - 1].box),
      ArrowRight: () => (box.holds && !isOpen ? this.unfold(box, true) : box.holds && this.focus(box.children[0])),
      ArrowLeft: () => (box.holds && isOpen ? this.unfold(box, false) : box.parent.parent && this.focus(box.parent)),
      Home: () => this.focus(shown[0].box),
      End: () => this.focus(shown[shown.length - 1].box),
      Enter: () => this.pick(box),
      " ": () => this.pick(box),
    };
    if (!steps[event.key]) return;
    steps[event.key]();
    event.preventDefault();
    event.stopPropagation();
  }
}

/** A field that finds weights, values, ops and modules by a part of their names. */
class Search {
  constructor(graph) {
    this.graph = graph;
    this.found = [];
    this.at = -1;
    this.list = el("ul", { id: "found", class: "found", role: "listbox", "aria-label": "Found", hidden: true });
    this.input = el("input", {
      type: "search", id: "search", placeholder: "Search weights, values, ops", "aria-label": "Search the program", role: "combobox",
      "aria-expanded": "false", "aria-controls": "found", "aria-autocomplete": "list", autocomplete: "off", spellcheck: "false",
      oninput: settled(() => this.look()), onkeydown: (event) => this.key(event), onblur: () => setTimeout(() => this.close(), 150),
    });
    this.element = el("div", { class: "search" }, this.input, this.list);
  }

  look() {
    const words = this.input.value.trim().toLowerCase();
    this.found = words ? this.matches(words) : [];
    this.at = this.found.length ? 0 : -1;
    this.list.replaceChildren(...this.found.map(({ text, kind, box }, index) =>
      el("li", { role: "option", id: `found-${index}`, "aria-selected": index === this.at, onpointerdown: (event) => { event.preventDefault(); this.take(box); } },
        el("span", { class: "what" }, shortened(text, 70)), " ", el("span", { class: "type" }, kind))));
    this.list.hidden = !words;
    if (words && !this.found.length) this.list.append(el("li", { class: "none", role: "option", "aria-disabled": "true", "aria-selected": "false" }, "Nothing has this in its name"));
    this.input.setAttribute("aria-expanded", String(Boolean(words)));
    this.point();
    if (words) announce(this.found.length ? `${this.found.length}${this.found.length === MOST_FOUND ? " or more" : ""} found` : "Nothing found");
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
      const text = weight === undefined ? model.name(box.value) : [model.weights[weight].name, ...model.weights[weight].aliases].join(" = ");
      all.weights.push({ text, kind: `${model.kind(box.value)} ${model.type(box.value)}`, box, key: text.toLowerCase() });
    } else if (box.holds) {
      if (box.kind === "group") all.groups.push({ text: box.path || box.label, kind: box.backward ? "module, backward" : "module", box, key: (box.path || box.label).toLowerCase() });
    } else {
      const text = box.value < 0 ? box.label : `${model.name(box.value)} = ${box.label}`;
      all.values.push({ text, kind: model.where(box.node), box, key: `${text} ${model.where(box.node)}`.toLowerCase() });
    }
  }
  return [...all.weights, ...all.groups, ...all.values];
}
