// The same program as a tree of text, for keyboards and screen readers.

class Outline {
  constructor(graph) {
    this.graph = graph;
    this.items = new Map(); // box -> list item
    this.list = el("ul", {
      class: "outline",
      role: "tree",
      "aria-label": "Outline of the program",
      onkeydown: (event) => this.key(event),
    });
    this.element = el("nav", { class: "outlines", "aria-label": "Outline" }, el("h2", {}, "Outline"), this.list);
    for (const pass of [graph.forest.forward, graph.forest.backward])
      if (pass.children.length) this.list.append(this.item(pass, 1));
    this.items.get(graph.forest.forward)?.setAttribute("tabindex", "0");
    this.unfold(graph.forest.forward, true);
  }

  item(box, level) {
    const { model } = this.graph;
    const label = box.holds
      ? box.kind === "stack"
        ? `${box.label} × ${box.children.length}`
        : box.label
      : box.kind === "leaf"
        ? model.name(box.value).split(".").slice(-1)[0]
        : box.label;
    const type =
      box.value >= 0 && !box.holds
        ? `${box.kind === "op" ? `${model.name(box.value)} : ` : ""}${model.type(box.value)}`
        : "";
    const made = el(
      "li",
      {
        role: "treeitem",
        tabindex: "-1",
        "aria-level": level,
        "aria-expanded": box.holds ? "false" : undefined,
        "aria-selected": "false",
      },
      el(
        "span",
        { class: `row ${box.kind}`, onclick: () => this.pick(box) },
        el("span", { class: "twist", "aria-hidden": "true" }),
        el("span", { class: "what" }, shortened(label, 60)),
        " ",
        el("span", { class: "type" }, type),
      ),
    );
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
      inside = el(
        "ul",
        { role: "group" },
        box.children.map((child) => this.item(child, level)),
      );
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
