// The table of several images, and the same as a csv file.

import { bar, capitalised, codeOf, make, percent } from "./dom.js";

// Whether the sum over the malignant classes tells more than the likeliest class.
export function sumsMalignant(classes) {
  const kinds = classes.map((entry) => entry.malignant);
  return classes.length > 2 && !kinds.includes(null) && kinds.includes(true) && kinds.includes(false);
}

export function rowOf(entry, classes, choose) {
  const open = make("button", { type: "button", className: "open" }, thumbnail(entry), make("span", {}, entry.name));
  open.addEventListener("click", () => choose(entry));
  const row = make("tr", {}, make("th", { scope: "row" }, open));
  if (entry.isChosen) {
    row.className = "chosen";
    open.setAttribute("aria-current", "true");
  }
  const answer = entry.answer;
  const error = entry.error || (answer && answer.error);
  const colSpan = sumsMalignant(classes) ? 5 : 4;
  if (error) row.append(make("td", { colSpan, className: "bad" }, error));
  else if (!answer) row.append(make("td", { colSpan, className: "hint" }, "waiting ..."));
  else row.append(...cells(answer, classes));
  return row;
}

function thumbnail(entry) {
  const image = make("img", { src: entry.address, alt: "", width: 44, height: 44, loading: "lazy" });
  image.addEventListener("error", () => image.classList.add("blank")); // not every browser draws TIFF
  return image;
}

function cells(answer, classes) {
  const malignant = () => make("td", { className: "number", "data-label": "Malignant" }, percent(answer.malignant_probability));
  return [
    make("td", { "data-label": "Likeliest" }, capitalised(answer.name), codeOf(answer.name, answer.prediction)),
    make("td", { className: "number share", "data-label": "Probability" }, percent(answer.probability), bar(answer.probability)),
    make("td", { "data-label": "Confidence" }, make("span", { className: `level ${answer.confidence.level.replace(" ", "-")}` }, answer.confidence.level)),
    ...(sumsMalignant(classes) ? [malignant()] : []),
    make("td", { "data-label": "Conformal set" }, answer.conformal_set ? answer.conformal_set.join(", ") || "empty" : "–"),
  ];
}

export function csvOf(entries, classes, calibration) {
  const codes = classes.map((entry) => entry.code);
  const head = ["image", "prediction", ...codes.map((code) => `p_${code}`), "calibration", "confidence", "malignant_probability", "conformal_set", "error"];
  const lines = entries.map((entry) => {
    const answer = entry.answer || {};
    const shares = codes.map((code) => (answer.probabilities ? answer.probabilities[code] : ""));
    return [entry.name, answer.prediction, ...shares, answer.probabilities && calibration, answer.confidence && answer.confidence.level, answer.malignant_probability, (answer.conformal_set || []).join(" "), entry.error || answer.error];
  });
  return [head, ...lines].map((line) => line.map(field).join(",")).join("\r\n") + "\r\n";
}

// A text that a spreadsheet would take for a formula gets a leading apostrophe, as in lesion_exp/text_table.py.
function field(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return String(value);
  const safe = value.replace(/(^|[;\t\r\n])(?='*[ \xa0]*[=+\-@\uff0b\uff0d\uff1d\uff20])/g, "$1'");
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}
