// The page: its head, its tabs, the theme, and what the parts ask of one another.

class Page {
  constructor() {
    const page = part("page");
    this.given = page;
    this.row = new Map(page.printed.rows.flatMap((row) => row.names.map((name) => [name, row])));
    this.tabs = [
      { id: "table", name: "Table", build: () => this.tablePanel() },
      { id: "program", name: "Program", build: () => this.programPanel() },
      ...(part("verify")
        ? [{ id: "findings", name: "Findings", build: () => findingsPanel(this), many: part("verify").findings.length }]
        : []),
      ...(part("check") ? [{ id: "check", name: "Check", build: () => checkPanel(this) }] : []),
      ...(part("transfers").length ? [{ id: "transfer", name: "Transfer", build: () => transferPanel() }] : []),
    ];
    this.why = new Why(this);
    this.head();
    const main = document.getElementById("panels");
    for (const tab of this.tabs) {
      tab.panel = el("section", {
        id: tab.id,
        role: "tabpanel",
        "aria-labelledby": `tab-${tab.id}`,
        class: `panel panel-${tab.id}`,
        hidden: true,
        tabindex: "-1",
      });
      main.append(tab.panel);
    }
    main.append(this.why.element);
    addEventListener("hashchange", () => this.turn(this.fromHash(document.body.dataset.tab)));
    addEventListener(
      "keydown",
      (event) => event.key === "Escape" && !event.defaultPrevented && this.why.thing && this.clear(),
    );
    this.turn(this.fromHash());
    if (page.opened.length) this.explain(page.opened[0]);
  }

  head() {
    const { target, optimizer, scales, tpcalc, weights, operations } = this.given;
    const traced = Object.entries(scales)
      .map(([name, values]) => `${name} ${values.join(", ")}`)
      .join("; ");
    const verify = part("verify");
    const check = part("check");
    const chip = (text, kind, tab) =>
      el("button", { type: "button", class: `chip ${kind}`, onclick: () => this.turn(tab) }, text);
    this.strip = el(
      "div",
      { class: "tabs", role: "tablist", "aria-label": "Parts of the report", onkeydown: (event) => this.tabKey(event) },
      this.tabs.map(
        (tab) =>
          (tab.button = el(
            "button",
            {
              type: "button",
              role: "tab",
              id: `tab-${tab.id}`,
              "aria-controls": tab.id,
              "aria-selected": "false",
              tabindex: "-1",
              onclick: () => this.turn(tab.id),
            },
            tab.name,
            tab.many ? el("span", { class: "many" }, String(tab.many)) : null,
          )),
      ),
    );
    document
      .getElementById("top")
      .append(
        el(
          "div",
          { class: "title" },
          el("h1", {}, el("span", { class: "target" }, breakable(target))),
          el(
            "p",
            { class: "quiet" },
            `${optimizer}, traced at ${traced}, ${count(weights, "weight")}, ${count(operations, "operation")}`,
          ),
        ),
        el(
          "div",
          { class: "chips" },
          verify &&
            chip(
              verify.ok
                ? "verify: ok"
                : `verify: ${count(verify.findings.filter((f) => f.severity === "error").length, "error")}`,
              verify.ok ? "good" : "bad",
              "findings",
            ),
          check && chip(check.ok ? "check: ok" : "check: off", check.ok ? "good" : "bad", "check"),
        ),
        this.strip,
        this.themes(),
        el("p", { class: "unseen" }, `Written by tpcalc ${tpcalc}`),
      );
  }

  themes() {
    const names = [
      ["auto", "Auto"],
      ["light", "Light"],
      ["dark", "Dark"],
    ];
    const choose = (name) => {
      document.documentElement.dataset.theme = name;
      buttons.forEach((button, index) => button.setAttribute("aria-pressed", String(names[index][0] === name)));
      this.graph?.theme();
    };
    const buttons = names.map(([name, text]) =>
      el("button", { type: "button", "aria-pressed": name === "auto", onclick: () => choose(name) }, text),
    );
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.graph?.theme());
    return el("div", { class: "segments themes", role: "group", "aria-label": "Theme" }, buttons);
  }

  /** The part that the address names, or another one: the link to the content names none. */
  fromHash(other = this.tabs[0].id) {
    const id = location.hash.slice(1);
    return this.tabs.some((tab) => tab.id === id) ? id : other;
  }

  /** Show one part; it is built when it is first shown. */
  turn(id) {
    for (const tab of this.tabs) {
      const isOn = tab.id === id;
      tab.panel.hidden = !isOn;
      tab.button.setAttribute("aria-selected", String(isOn));
      tab.button.setAttribute("tabindex", isOn ? "0" : "-1");
      if (isOn && !tab.built) {
        tab.built = true;
        tab.panel.append(tab.build());
      }
    }
    document.body.dataset.tab = id;
    this.why.element.hidden = !this.why.thing || !(id === "table" || id === "program");
    // not as the page loads: tabbing would then begin at the part, behind the head
    if (document.readyState === "complete" && location.hash.slice(1) !== id) history.replaceState(null, "", `#${id}`);
    if (id === "program") this.graph.redraw();
  }

  tabKey(event) {
    const at = this.tabs.findIndex((tab) => tab.button === document.activeElement);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: this.tabs.length - 1 }[event.key];
    if (to === undefined || at < 0) return;
    const tab = this.tabs[(to + this.tabs.length) % this.tabs.length];
    this.turn(tab.id);
    tab.button.focus();
    event.preventDefault();
  }

  get model() {
    if (!this.made) {
      this.made = new Model(part("drawing"));
      placeFindings(this.made, part("verify"));
    }
    return this.made;
  }

  tablePanel() {
    this.table = new Table(this);
    return this.table.element;
  }

  programPanel() {
    this.graph = new Graph(this.model, (thing) => this.tell(thing));
    this.outline = new Outline(this.graph);
    if (this.ways) this.graph.light(this.ways);
    return el("div", { class: "program" }, this.outline.element, this.graph.element);
  }

  rowOf(name) {
    return this.row.get(name);
  }

  tell(thing) {
    if (thing && !this.why.hasFocus) this.opener = document.activeElement;
    this.ways = null;
    this.why.show(thing);
    const name = thing?.weight === undefined ? null : this.model.weights[thing.weight].name;
    this.table?.mark(name);
    const box = thing && (thing.box ?? this.graph?.chosen);
    if (box && this.outline && document.body.dataset.tab === "program") this.outline.mark(box);
  }

  /** Say why a weight has its exponents; from the table. */
  explain(name) {
    const weight = this.model.weightNamed(name);
    if (weight < 0) return;
    if (this.graph) this.graph.chosen = this.graph.boxOf(this.model.weights[weight].value);
    this.tell({ weight });
    announce(`Explanation of ${name}`);
  }

  light(ways) {
    this.ways = ways;
    this.graph?.light(ways);
  }

  /** Show a value in the drawing; without choose what is explained stays. */
  reveal(value, choose = true) {
    const { ways } = this;
    this.turn("program");
    this.graph.reveal(value, choose);
    if (choose) return;
    this.graph.chosen = this.graph.boxOf(value);
    this.outline.mark(this.graph.chosen);
    if (!ways) return;
    this.graph.light(ways, true);
    this.graph.frameLit();
  }

  /** Close the explanation; the focus goes back to where it was opened. */
  clear() {
    const { hasFocus } = this.why;
    this.tell(null);
    this.ways = null;
    if (hasFocus) (this.opener?.offsetParent ? this.opener : this.strip.querySelector("[tabindex='0']")).focus();
    if (!this.graph) return;
    this.graph.chosen = null;
    this.graph.light([]);
  }

  valueNamed(name) {
    this.byName ??= new Map(this.model.values.name.map((text, value) => [this.model.texts[text], value]));
    return this.byName.get(name) ?? -1;
  }

  weightValue(name) {
    const place = this.model.weightNamed(name);
    return place < 0 ? -1 : this.model.weights[place].value;
  }
}

document.documentElement.dataset.theme = "auto";
const page = new Page();
/** For scripts of one's own, and tests. */
window.tpcalc = {
  page,
  document: part,
  inner: { Model, tree, Flow, Graph, Table },
  boxes: () => [...within(page.graph.forest.root)],
  ready: performance.now(),
};
