// Measured against predicted: what tpcalc check found, a line a value.

const QUANTITIES = {
  init: "value at init",
  change: "change of value",
  gradient: "gradient of weight",
  effect: "effect of own update",
  propagated: "what its result takes on",
};
const WORST = ["above", "below", "ok", "skipped"];

function checkPanel(page) {
  const found = part("check");
  const rays = found.rays ?? [{ scale: "width", base: {}, check: found }];
  return el(
    "div",
    { class: "reading wide" },
    rays.map((ray) => rayOf(page, ray, rays.length > 1)),
  );
}

function rayOf(page, { scale, base, check }, isOneOfSeveral) {
  const from = Object.entries(base)
    .filter(([name]) => name !== scale)
    .map(([name, value]) => `${name} ${value}`)
    .join(", ");
  const quantities = Object.keys(QUANTITIES).filter((quantity) =>
    check.entries.some((entry) => entry.quantity === quantity && entry.slope !== null),
  );
  const failed = check.entries.filter((entry) => entry.verdict === "above" || entry.verdict === "below");
  const told = `${check.parametrization} rules under ${check.optimizer}, ${count(check.steps, "step")}, ${count(check.seeds.length, "seed")}, tolerance ${check.tolerance}`;
  return el(
    "section",
    {},
    isOneOfSeveral && el("h2", {}, `Along the ${scale}${from ? `, at ${from}` : ""}`),
    el(
      "p",
      { class: `verdict ${check.ok ? "good" : "bad"}` },
      check.ok
        ? `Every slope is as predicted: ${check.compared} compared, ${check.skipped} skipped.`
        : `${failed.length} of ${count(check.compared, "slope")} not as predicted${check.trouble ? `; ${check.trouble}` : ""}.`,
    ),
    el(
      "p",
      { class: "quiet" },
      `${told}. Each line is the size of one value over what is predicted, from the smallest ${scale} on: a flat line scales as predicted; the band is the tolerance.`,
    ),
    el(
      "div",
      { class: "plots" },
      quantities.map((quantity) => slopes(page, check, quantity, scale)),
    ),
    entriesTable(page, check),
    check.notes.length > 0 &&
      el(
        "ul",
        { class: "notes" },
        check.notes.map((note) => el("li", {}, prose(note))),
      ),
  );
}

function slopes(page, check, quantity, scale) {
  const { widths } = check;
  const drawn = check.entries.filter(
    (entry) =>
      entry.quantity === quantity &&
      entry.slope !== null &&
      entry.wanted !== "-oo" &&
      entry.verdict !== "skipped" &&
      entry.rms.every((size) => size > 0),
  );
  const lines = drawn
    .map((entry) => {
      const wanted = fractionOf(entry.wanted);
      return { entry, ys: entry.rms.map((size, index) => size / entry.rms[0] / (widths[index] / widths[0]) ** wanted) };
    })
    .sort((a, b) => WORST.indexOf(b.entry.verdict) - WORST.indexOf(a.entry.verdict));
  const wedge = widths.map((width) => (width / widths[0]) ** check.tolerance);
  const all = [...lines.flatMap((line) => line.ys), ...wedge, ...wedge.map((y) => 1 / y)];
  const bad = lines.filter(({ entry }) => entry.verdict !== "ok").length;
  const label = `${QUANTITIES[quantity]}: ${bad} of ${lines.length} are not as predicted`;
  return plot(
    {
      title: `${QUANTITIES[quantity]}, ${bad} of ${lines.length} off`,
      label,
      xs: [widths[0], widths[widths.length - 1]],
      ys: [Math.min(...all) / 1.1, Math.max(...all) * 1.1],
      xLog: true,
      yLog: true,
      xName: scale,
      yName: "over predicted",
      xTicks: widths,
    },
    (x, y) => [
      svg("path", {
        class: "band",
        d: `${path([...widths.map((width, index) => [x.at(width), y.at(wedge[index])]), ...widths.map((width, index) => [x.at(width), y.at(1 / wedge[index])]).reverse()])}Z`,
      }),
      lines.map(({ entry, ys }) =>
        named(
          svg("path", {
            class: `curve ${entry.verdict}`,
            d: path(ys.map((value, index) => [x.at(widths[index]), y.at(value)])),
          }),
          `${entry.subject}: slope ${entry.slope}, predicted ${entry.predicted}`,
        ),
      ),
    ],
  );
}

function fractionOf(text) {
  const [over, under = "1"] = text.split("/");
  return Number(over) / Number(under);
}

/** Those that are off first; the rest behind a fold. */
function entriesTable(page, check) {
  const row = (entry) => {
    const place =
      entry.quantity === "init" || entry.quantity === "change"
        ? page.valueNamed(entry.subject)
        : page.weightValue(entry.subject);
    return el(
      "tr",
      {},
      el(
        "th",
        { scope: "row" },
        place >= 0
          ? el(
              "button",
              { type: "button", class: "ref", onclick: () => page.reveal(place) },
              shortened(entry.subject, 80),
            )
          : el("code", {}, breakable(entry.subject)),
      ),
      el("td", {}, QUANTITIES[entry.quantity]),
      el("td", {}, entry.slope === null ? "–" : `${entry.slope.toFixed(2)} ± ${entry.error?.toFixed(2) ?? "–"}`),
      el("td", {}, prose(powersText(entry.predicted))),
      el("td", { class: entry.verdict === "ok" || entry.verdict === "skipped" ? "" : "error" }, entry.verdict),
      el("td", { class: "where" }, entry.where),
    );
  };
  const tableOf = (entries, caption) =>
    el(
      "div",
      { class: "scroller", tabindex: "0", role: "region", "aria-label": caption },
      el(
        "table",
        { class: "scaling" },
        el("caption", { class: "unseen" }, caption),
        el(
          "thead",
          {},
          el(
            "tr",
            {},
            ["of", "quantity", "slope", "predicted", "verdict", "where"].map((head) =>
              el("th", { scope: "col" }, head),
            ),
          ),
        ),
        el("tbody", {}, entries.map(row)),
      ),
    );
  const failed = check.entries.filter((entry) => entry.verdict === "above" || entry.verdict === "below");
  const rest = el("details", {}, el("summary", {}, `All ${check.entries.length} comparisons`));
  rest.addEventListener(
    "toggle",
    () => rest.children.length === 1 && rest.append(tableOf(check.entries, "All comparisons")),
  );
  return [failed.length > 0 && tableOf(failed, "Slopes that are not as predicted"), rest];
}
