// The scaling table: filtered, sorted, by role.

const ROLES = ["input", "hidden", "output", "scalar", "vector", "frozen", "unused"];

function cellNode(cell, column) {
  if (cell.formula) return formulaNode(cell.formula);
  if (cell.code !== null) return el("code", {}, cell.code);
  return column === "role" ? el("span", { class: `role ${cell.text}` }, cell.text) : el("span", {}, prose(cell.text));
}

class Table {
  constructor(page) {
    this.page = page;
    this.printed = part("page").printed;
    this.sorted = { column: -1, down: false };
    this.role = "";
    const roles = this.printed.rows.map((row) => row.cells[this.printed.columns.indexOf("role")].text);
    const present = [
      ...ROLES.filter((role) => roles.includes(role)),
      ...new Set(roles.filter((role) => !ROLES.includes(role))),
    ];
    this.filter = el("input", {
      type: "search",
      id: "filter",
      placeholder: "Filter by name, shape or reason",
      "aria-label": "Filter the table",
      autocomplete: "off",
      spellcheck: "false",
      oninput: settled(() => this.fill(), 60),
    });
    this.roles = el(
      "div",
      { class: "segments", role: "group", "aria-label": "Role" },
      ["", ...present].map((role) =>
        el(
          "button",
          { type: "button", "aria-pressed": role === "", "data-role": role, onclick: () => this.only(role) },
          role || "all roles",
        ),
      ),
    );
    this.status = el("p", { class: "quiet", role: "status" });
    this.heads = this.printed.columns.map((column, index) =>
      el(
        "th",
        { scope: "col", "aria-sort": "none" },
        el(
          "button",
          { type: "button", class: "sort", onclick: () => this.sort(index) },
          column,
          el("span", { class: "arrow", "aria-hidden": "true" }),
        ),
      ),
    );
    this.body = el("tbody");
    this.element = el(
      "div",
      { class: "tables" },
      el("div", { class: "toolbar" }, this.filter, this.roles, this.status),
      el(
        "div",
        { class: "scroller", tabindex: "0", role: "region", "aria-label": "Scaling table" },
        el(
          "table",
          { class: "scaling" },
          el("caption", { class: "unseen" }, this.printed.title),
          el("thead", {}, el("tr", {}, this.heads)),
          this.body,
        ),
      ),
      this.printed.lists.map(({ heading, sentences }) =>
        el(
          "section",
          { class: "list" },
          el("h2", {}, heading),
          el(
            "ul",
            {},
            sentences.map((sentence) => el("li", {}, prose(sentence))),
          ),
        ),
      ),
    );
    this.rows = this.printed.rows.map((row) => this.made(row));
    this.fill();
  }

  made(row) {
    const { columns } = this.printed;
    const cells = row.cells.map((cell, index) => {
      if (index) return el("td", { "data-column": columns[index] }, cellNode(cell, columns[index]));
      const many = row.names.length > 1 ? ` (${row.names.length})` : "";
      return el(
        "th",
        { scope: "row" },
        el(
          "button",
          {
            type: "button",
            class: "weight",
            title: row.names.slice(0, 8).join("\n"),
            onclick: (event) => {
              this.page.explain(row.names[0]);
              if (!event.detail) this.page.why.element.focus(); // by a key: the explanation stands behind all rows
            },
          },
          breakable(cell.code),
        ),
        el("span", { class: "many" }, many),
      );
    });
    const made = el(
      "tr",
      { onclick: (event) => event.target.closest("button") || this.page.explain(row.names[0]) },
      cells,
    );
    const text = row.cells.map((cell) => cell.code ?? cell.text ?? cell.formula.text).join(" ");
    return { row, made, key: `${row.names.join(" ")} ${text}`.toLowerCase() };
  }

  only(role) {
    this.role = role;
    for (const button of this.roles.children) button.setAttribute("aria-pressed", String(button.dataset.role === role));
    this.fill();
  }

  /** By a column up, down, and as the model has it. */
  sort(index) {
    const { column, down } = this.sorted;
    this.sorted =
      column !== index ? { column: index, down: false } : down ? { column: -1, down: false } : { column, down: true };
    this.heads.forEach((head, at) =>
      head.setAttribute(
        "aria-sort",
        at !== this.sorted.column ? "none" : this.sorted.down ? "descending" : "ascending",
      ),
    );
    this.fill();
  }

  fill() {
    const words = this.filter.value.trim().toLowerCase();
    const at = this.printed.columns.indexOf("role");
    let shown = this.rows.filter(
      ({ row, key }) => key.includes(words) && (!this.role || row.cells[at].text === this.role),
    );
    const { column, down } = this.sorted;
    if (column >= 0) {
      const value = ({ row }) => {
        const cell = row.cells[column];
        return cell.formula ? (cell.formula.at ?? -Infinity) : (cell.code ?? cell.text);
      };
      shown = [...shown].sort((a, b) => compared(value(a), value(b)) * (down ? -1 : 1));
    }
    this.body.replaceChildren(...shown.map(({ made }) => made));
    const weights = shown.reduce((sum, { row }) => sum + row.names.length, 0);
    this.status.textContent = `${count(weights, "weight")} in ${count(shown.length, "row")}`;
  }

  mark(name) {
    for (const { row, made } of this.rows) made.classList.toggle("chosen", row.names.includes(name));
  }
}

/** Numbers before words. */
function compared(a, b) {
  if (typeof a === "number" && typeof b === "number") return a === b ? 0 : a - b;
  if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
  return a.localeCompare(b, "en", { numeric: true });
}
