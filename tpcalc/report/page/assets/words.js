// The drawing in words: what a box is, and what lines and colours say.

/** A box in words, for those who do not see it and for the tip beside the pointer. */
function describe(model, box) {
  if (box.holds) {
    const what =
      box.kind === "stack"
        ? `stack of ${box.children.length} that are alike`
        : box.kind === "piece"
          ? "part"
          : "module";
    return `${box.path || box.label}: ${what}, ${count(box.ops, "op")}, ${count(box.weights, "weight")}, ${box.open ? "open" : "folded"}`;
  }
  if (box.value < 0) return `${box.label}, ${model.where(box.node)}`;
  const order = model.order(box.value);
  const size = order ? `, of size ${order.size} after training` : "";
  const kind = box.kind === "leaf" ? model.kind(box.value) : `${box.label} gives`;
  const where = box.node >= 0 ? `, ${model.where(box.node)}` : "";
  return `${kind} ${model.name(box.value)} : ${model.type(box.value)}${size}${where}`;
}

function legend() {
  const line = (letter, text) => {
    const [width, dashes] = STROKES[letter];
    return el(
      "li",
      {},
      svg(
        "svg",
        { width: 26, height: 10, "aria-hidden": "true" },
        svg("line", {
          x1: 1,
          x2: 25,
          y1: 5,
          y2: 5,
          "stroke-width": width,
          "stroke-dasharray": dashes.join(" "),
          class: "stroke",
        }),
      ),
      text,
    );
  };
  const dot = (name, text) =>
    el("li", {}, el("span", { class: "swatch", style: { background: `var(--${name})` } }), text);
  return el(
    "ul",
    { class: "legend", "aria-label": "Legend" },
    line("S", "S, no axis grows"),
    line("V", "V, one"),
    line("M", "M, two"),
    line("T", "T, more"),
    dot("grows", "grows"),
    dot("steady", "stays of order 1"),
    dot("shrinks", "shrinks"),
    dot("nothing", "zero"),
  );
}
