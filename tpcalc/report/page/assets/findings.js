// What verify found: each finding at its place in the drawing, and as a list.

/** Note each finding at the values that it is about; those without a place are listed alone. */
function placeFindings(model, verify) {
  if (!verify) return;
  const byWhere = new Map();
  model.nodes.op.forEach((_, node) => {
    const where = model.where(node);
    if (!byWhere.has(where)) byWhere.set(where, node);
  });
  for (const finding of verify.findings) {
    const places = finding.weights
      .map((name) => model.weightNamed(name))
      .filter((place) => place >= 0)
      .map((place) => model.weights[place].value);
    const node = places.length ? undefined : byWhere.get(finding.where);
    if (node !== undefined && model.nodes.outputs[node].length) places.push(model.nodes.outputs[node][0]);
    finding.places = [...new Set(places)];
    for (const value of finding.places) model.findingsOf.set(value, [...(model.findingsOf.get(value) ?? []), finding]);
  }
}

function powersText(powers) {
  if (powers === null || powers === undefined) return "0";
  if (typeof powers === "string") return powers === "-oo" ? "0" : `n^(${powers})`;
  return (
    Object.entries(powers)
      .filter(([, x]) => x !== "0")
      .map(([symbol, x]) => `${symbol}^(${x})`)
      .join(" ") || "1"
  );
}

/** x in "quantity ~ n^-x" as a size. */
function inverse(powers) {
  const turned = (x) => (x === "0" ? x : x.startsWith("-") ? x.slice(1) : `-${x}`);
  if (powers === null || powers === undefined) return powers;
  return typeof powers === "string"
    ? turned(powers)
    : Object.fromEntries(Object.entries(powers).map(([symbol, x]) => [symbol, turned(x)]));
}

const sizesOf = (row) => [inverse(row.b), inverse(row.c), row.weight_decay, row.eps].map(powersText);
const starred = (name) =>
  name
    .split(".")
    .map((piece) => (/^\d+$/.test(piece) ? "*" : piece))
    .join(".");

/** [name, how many, the first] of weights whose names differ in numbers and whose rows agree. */
function alike(weights) {
  const rows = new Map();
  for (const row of weights) {
    const key = JSON.stringify([starred(row.name), row.role, sizesOf(row), row.findings]);
    if (!rows.has(key)) rows.set(key, []);
    rows.get(key).push(row);
  }
  const all = [...rows.values()];
  const times = (name) => all.filter((own) => starred(own[0].name) === name).length;
  return all.map((own) => {
    const name = starred(own[0].name);
    const shown =
      own.length === 1 ? own[0].name : times(name) === 1 ? name : `${own[0].name} … ${own[own.length - 1].name}`;
    return [shown, own.length, own[0]];
  });
}

function findingsPanel(page) {
  const verify = part("verify");
  const { model } = page; // with it, findings have their places
  const findings = verify.findings.map((finding) =>
    el(
      "li",
      { class: `finding ${finding.severity}` },
      el(
        "h2",
        {},
        el("span", { class: "severity" }, finding.severity),
        ` ${finding.kind}: `,
        el("code", {}, breakable(finding.subject)),
      ),
      el("p", {}, prose(finding.message)),
      el(
        "p",
        { class: "where" },
        [finding.where, finding.trained_by && `trained by ${finding.trained_by}`].filter(Boolean).join("; "),
      ),
      finding.places.length && model
        ? el(
            "button",
            { type: "button", class: "action", onclick: () => page.reveal(finding.places[0]) },
            "Show in the drawing",
          )
        : el("p", { class: "quiet" }, "The drawing, which is of the target, has no such place."),
    ),
  );
  const strangers = verify.weights.filter((row) => model.weightNamed(row.name) < 0);
  const columns = ["weight", "role", "init std", "lr", "weight decay", "eps", "findings"];
  const rows = alike(verify.weights).map(([name, many, row]) =>
    el(
      "tr",
      {},
      el(
        "th",
        { scope: "row" },
        el("code", {}, breakable(name)),
        many > 1 && el("span", { class: "many" }, ` (${many})`),
      ),
      el("td", {}, row.role),
      sizesOf(row).map((text) => el("td", {}, prose(text))),
      el("td", { class: row.findings.length ? "error" : "" }, row.findings.join(", ")),
    ),
  );
  return el(
    "div",
    { class: "reading" },
    el("p", { class: `verdict ${verify.ok ? "good" : "bad"}` }, verify.summary),
    el(
      "p",
      { class: "quiet" },
      `${part("page").setup}, at ${
        verify.scales
          ? Object.entries(verify.scales)
              .map(([name, values]) => `${name} ${values.join(", ")}`)
              .join("; ")
          : `widths ${verify.widths.join(", ")}`
      }, on ${verify.ran_on}`,
    ),
    strangers.length > 0 &&
      el(
        "p",
        { class: "strangers" },
        `The set-up is of another model than the drawing, which does not have ${count(strangers.length, "weight")} of it (`,
        el("code", {}, breakable(strangers[0].name)),
        strangers.length > 1 ? " and others" : "",
        "): findings stand where names agree.",
      ),
    findings.length > 0 && el("ul", { class: "findings" }, findings),
    el("h2", {}, "What the code does"),
    el(
      "div",
      { class: "scroller", tabindex: "0", role: "region", "aria-label": "What the code does" },
      el(
        "table",
        { class: "scaling" },
        el("caption", { class: "unseen" }, "Sizes of the set-up that was verified"),
        el(
          "thead",
          {},
          el(
            "tr",
            {},
            columns.map((column) => el("th", { scope: "col" }, column)),
          ),
        ),
        el("tbody", {}, rows),
      ),
    ),
    [...verify.notes, ...verify.assumptions].length > 0 &&
      el(
        "ul",
        { class: "notes" },
        [...verify.notes, ...verify.assumptions].map((text) => el("li", {}, prose(text))),
      ),
  );
}
