// The model card: what a person must know about the network.

import { capitalised, make, number, percent } from "./dom.js";

export function showCard(body, card) {
  body.replaceChildren(
    ...card.warnings.map((text) => make("p", { className: "message bad" }, text)),
    ...(card.results ? [make("p", { className: "lead" }, card.results.headline), make("p", {}, card.results.floor)] : [make("p", { className: "lead" }, "No result of these weights is stored.")]),
    block("Limits", true, make("ul", { className: "limits" }, card.limits.map((text) => make("li", {}, text)))),
    ...(card.results ? [block("Results", false, results(card.results))] : []),
    block("How often answers were right", false, answers(card.answers)),
    block("Classes", false, classes(card)),
    block("Data and split", false, data(card.data)),
    block("Probabilities and sets", false, probabilities(card.probabilities)),
    block("This network", false, network(card)),
  );
}

function block(title, open, ...content) {
  return make("details", { open }, make("summary", {}, title), ...content);
}

function pairs(entries) {
  const rows = entries.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return make("dl", {}, rows.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
}

function table(caption, head, rows) {
  const titles = head.map((text) => make("th", { scope: "col", className: text.startsWith(">") ? "number" : "" }, text.replace(">", "")));
  const lines = rows.map((row) => make("tr", {}, row.map((cell, place) => make(place ? "td" : "th", { scope: place ? null : "row", className: head[place].startsWith(">") ? "number" : "" }, cell))));
  return make("div", { className: "scroll", tabIndex: 0, role: "region", ariaLabel: caption }, make("table", {}, make("caption", {}, caption), make("thead", {}, make("tr", {}, titles)), make("tbody", {}, lines)));
}

const interval = (metric) => (metric.low === null ? "–" : `${number(metric.low)} to ${number(metric.high)}`);

function results(found) {
  const overall = found.metrics.map((metric) => [metric.name, number(metric.value), metric.too_few ? `${interval(metric)}, ${metric.too_few}` : interval(metric)]);
  const kinds = [["recall", "Sensitivity"], ["specificity", "Specificity"], ["auroc", "AUROC"]];
  const rows = Object.entries(found.by_class).map(([code, entry]) => [
    code,
    String(entry.images),
    ...kinds.map(([kind]) => {
      const metric = entry.metrics.find((candidate) => candidate.key === `${kind}/${code}`);
      return metric ? make("span", {}, number(metric.value), make("small", {}, interval(metric)), metric.too_few ? make("small", {}, metric.too_few) : null) : "–";
    }),
  ]);
  return make("div", {}, make("div", { className: "tables" },
    table(`All classes together, ${found.part} part (${found.images.toLocaleString("en")} images${found.lesions === null ? "" : ` of ${found.lesions.toLocaleString("en")} lesions`})`, ["metric", ">value", ">95% interval"], overall),
    table("Each class, with 95% intervals", ["class", ">images", ...kinds.map(([, name]) => `>${name}`)], rows)),
    make("p", { className: "hint" }, found.intervals));
}

function answers(found) {
  if (!found.tested) return make("p", {}, "Not measured: these weights were not evaluated on a test part.");
  const unit = found.by_confidence.some(({ right }) => right !== null && right.patients !== null) ? "patients" : "lesions";
  const rows = found.by_confidence.map(({ level, probability, right }) => [
    `${capitalised(level)} (${probability})`,
    right ? right.images.toLocaleString("en") : "0",
    right === null ? "0" : right[unit] === null ? "–" : right[unit].toLocaleString("en"),
    right ? percent(right.value) : "not measured",
    right ? `${percent(right.low)} to ${percent(right.high)}` : "–",
  ]);
  return make("div", {},
    table("Predictions on the test part, by their probability", ["confidence", ">images", `>${unit}`, ">right", ">95% interval"], rows),
    make("p", { className: "hint" }, found.caution));
}

function classes(card) {
  const rows = card.classes.map((entry) => [entry.code, capitalised(entry.name), entry.malignant === null ? "either" : entry.malignant ? "malignant" : "benign"]);
  return table("Classes of the network", ["code", "name", "kind"], rows);
}

function data(found) {
  const parts = Object.entries(found.parts).map(([name, part]) => [name, ...["images", "lesions", "patients"].map((unit) => (part[unit] ? part[unit].toLocaleString("en") : "–"))]);
  return make("div", {},
    pairs([["data set", found.name], ["licence", found.licence], ["citation", found.citation], ["source", found.where]]),
    parts.length ? table("Parts", ["part", ">images", ">lesions", ">patients"], parts) : null,
    make("p", {}, found.split || "", " ", found.audit_passed ? "The audit passed: no patient, lesion or picture is in two parts." : found.audit_passed === false ? "The audit FAILED: parts of the training data reappear in validation or test." : ""),
    ...found.audit_warnings.map((text) => make("p", { className: "hint" }, capitalised(text))));
}

function probabilities(found) {
  const sets = found.conformal;
  const metric = (entry) => (entry ? `${number(entry.value)} (${interval(entry)})` : null);
  return pairs([
    ["calibration", found.calibration === "none" ? `none: the network's own probabilities${sets === null ? "" : " (start the server with calibration=temperature to calibrate them)"}` : `${found.calibration} scaling, fitted on ${found.fitted_on}`],
    ["calibration error before", metric(found.error_before)],
    ["calibration error after", metric(found.error_after)],
    ["conformal sets", sets === null ? "none: they are fitted for the best weights of a run alone" : `${sets.method.toUpperCase()}, built to contain the true class of ${percent(sets.promise)} of lesions; fitted on ${sets.fitted_on}`],
    ["contained on the test part", metric(sets && sets.coverage)],
    ["mean number of classes in a set", metric(sets && sets.mean_size)],
  ]);
}

function network(card) {
  const found = card.network;
  return pairs([
    ["run", make("code", {}, card.run_id)],
    ["name", card.name],
    ["trained", card.trained],
    ["job hash", card.job_hash ? make("code", {}, card.job_hash) : null],
    ["network", found.backbone],
    ["parameters", found.parameters.toLocaleString("en")],
    ["input", found.image_size ? `${found.image_size} x ${found.image_size} pixels (${found.frame})` : null],
    ["initial weights", found.start === "none" ? "random" : found.start],
    ["further inputs", card.metadata ? Object.keys(card.metadata).join(", ") : "none"],
    ["precision", `${found.precision}, head in float32`],
    ["software", card.software],
  ]);
}
