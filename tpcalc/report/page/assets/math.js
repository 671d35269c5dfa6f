// Formulas, set by the browser itself (MathML): powers of the scales, smallest and largest of them.

const THIN = "0.22em";
const MATHML = "http://www.w3.org/1998/Math/MathML";

function mathElement(tag, ...children) {
  const made = document.createElementNS(MATHML, tag);
  made.append(...children);
  return made;
}

/** A sign without space around it. */
function tight(sign) {
  const made = mathElement("mo", sign);
  for (const side of ["lspace", "rspace"]) made.setAttribute(side, "0");
  return made;
}

/** "-1/2" as an exponent. */
function exponentNode(text) {
  const parts = [];
  if (text.startsWith("-")) parts.push(tight("−"));
  text
    .replace("-", "")
    .split("/")
    .forEach((digits, index) => {
      if (index) parts.push(tight("/"));
      parts.push(mathElement(/^\d/.test(digits) ? "mn" : "mi", digits));
    });
  return mathElement("mrow", ...parts);
}

function powerNode(symbol, exponent) {
  const base = mathElement("mi", symbol);
  if (Array.from(symbol).length > 1) base.setAttribute("mathvariant", "normal");
  return exponent === "1" ? base : mathElement("msup", base, exponentNode(exponent));
}

function gap() {
  const made = mathElement("mspace");
  made.setAttribute("width", THIN);
  return made;
}

function spaced(nodes) {
  return nodes.flatMap((node, index) => (index ? [gap(), node] : [node]));
}

/** A product of powers; f/n and its root where all exponents are of one size and some are below the line. */
function productNodes(product, asRatio = false) {
  const entries = Object.entries(product);
  if (!entries.length) return [mathElement("mn", "1")];
  const sizes = new Set(entries.map(([, x]) => x.replace("-", "")));
  const size = [...sizes][0];
  if (asRatio && sizes.size === 1 && (size === "1" || size === "1/2")) {
    const side = (below) => {
      const own = entries.filter(([, x]) => x.startsWith("-") === below).map(([symbol]) => powerNode(symbol, "1"));
      return mathElement("mrow", ...(own.length ? spaced(own) : [mathElement("mn", "1")]));
    };
    const below = entries.some(([, x]) => x.startsWith("-"));
    const ratio = below ? mathElement("mfrac", side(false), side(true)) : side(false);
    return [size === "1/2" ? mathElement("msqrt", ratio) : ratio];
  }
  return spaced(entries.map(([symbol, x]) => powerNode(symbol, x)));
}

function callNodes(name, parts) {
  if (parts.length === 1) return parts[0];
  const inside = parts.flatMap((own, index) => (index ? [mathElement("mo", ","), ...own] : own));
  return [mathElement("mi", name), mathElement("mo", "("), ...inside, mathElement("mo", ")")];
}

/** A formula of the document. */
function formulaNode(formula) {
  const math = mathElement("math");
  if (formula.at === null) {
    math.append(mathElement("mn", "0"));
    return math;
  }
  const trivial = formula.ways.length === 1 && formula.ways[0].length === 1 && !Object.keys(formula.ways[0][0]).length;
  const common = Object.keys(formula.common).length || trivial ? productNodes(formula.common) : [];
  if (trivial) {
    math.append(...common);
    return math;
  }
  const ways = formula.ways.map((way) =>
    callNodes(
      "min",
      way.map((product) => productNodes(product, true)),
    ),
  );
  const rest = mathElement("mrow", ...callNodes("max", ways));
  math.append(...(common.length ? [...common, gap(), rest] : [rest]));
  return math;
}

const POWERS = /(?<![\w.\]])([A-Za-z]\w*)\^(\(-?\d+(?:\/\d+)?\)|-?\d+(?:\/\d+)?|-?[A-Za-z](?!\w))/g;

/** A sentence, the powers in it (n^(-1/2)) set as such. */
function prose(text) {
  const parts = [];
  let from = 0;
  for (const found of text.matchAll(POWERS)) {
    parts.push(text.slice(from, found.index));
    parts.push(mathElement("math", powerTextNode(found[1], found[2])));
    from = found.index + found[0].length;
  }
  return [...parts, text.slice(from)];
}

function powerTextNode(symbol, exponent) {
  const bare = exponent.replace(/[()]/g, "");
  return bare === "0" ? mathElement("mn", "1") : powerNode(symbol, bare);
}
