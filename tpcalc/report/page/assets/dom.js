// Elements, made with text and never with markup; what the page was given; what is said aloud.

/** An element with properties (on...: listeners, class, style as an object, data-..., aria-...) and children. */
function el(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (key.startsWith("aria-")) made.setAttribute(key, String(value));
    else if (value === false) continue;
    else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key === "style") Object.assign(made.style, value);
    else made.setAttribute(key, value === true ? "" : String(value));
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

const SVG = "http://www.w3.org/2000/svg";

/** An element of a picture. */
function svg(tag, properties = {}, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key === "style")
      Object.assign(made.style, value); // as an attribute the policy of the page forbids it
    else if (value !== undefined) made.setAttribute(key, String(value));
  }
  made.append(...children.flat(Infinity));
  return made;
}

const parsed = new Map();

/** A part of the document, read when it is first asked for. */
function part(name) {
  if (!parsed.has(name)) parsed.set(name, JSON.parse(document.getElementById(`data-${name}`).textContent));
  return parsed.get(name);
}

/** Have a screen reader say something. */
function announce(text) {
  const live = document.getElementById("live");
  live.textContent = "";
  requestAnimationFrame(() => (live.textContent = text));
}

/** The function, called once things have been quiet for a moment. */
function settled(call, milliseconds = 120) {
  let timer = 0;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => call(...given), milliseconds);
  };
}

const still = window.matchMedia("(prefers-reduced-motion: reduce)");

/** A name cut in the middle, where it is longer than so many characters. */
function shortened(text, most) {
  const letters = Array.from(text);
  if (letters.length <= most) return text;
  const head = Math.ceil((most - 1) / 2);
  return `${letters.slice(0, head).join("")}…${letters.slice(letters.length - (most - 1 - head)).join("")}`;
}

/** A name with places at which a line may break: behind dots. */
function breakable(name) {
  return name.split(/(?<=\.)/).flatMap((piece, index) => (index ? [document.createElement("wbr"), piece] : [piece]));
}

const count = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
