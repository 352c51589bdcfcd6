// Makes elements without HTML in strings, so that the name of a file always remains text.

export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined) continue;
    if (name in element && name !== "list") element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

export const byId = (id) => document.getElementById(id);

export function percent(share) {
  if (share > 0 && share < 0.001) return "<\u00a00.1%";
  return `${(100 * share).toFixed(share >= 0.0995 ? 0 : 1)}%`;
}

export const number = (value, digits = 3) => (value === null || value === undefined ? "–" : value.toFixed(digits));

export function capitalised(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

// The code after a name, if it differs from the name.
export function codeOf(name, code) {
  return name.toLowerCase() === code.toLowerCase() ? [] : [" ", make("code", {}, code)];
}

// A bar for a share; the number is beside it as text.
export function bar(share, kind = "") {
  const fill = make("span", { className: `fill ${kind}` });
  fill.style.width = `${Math.max(100 * share, share > 0 ? 0.6 : 0)}%`;
  return make("span", { className: "bar", ariaHidden: "true" }, fill);
}
