// The result for one image: pictures, probabilities, and what they mean.

import { bar, capitalised, codeOf, make, percent } from "./dom.js";

export function showResult(section, entry, card) {
  const answer = entry.answer;
  const title = make("h2", { id: "result-title" }, entry.name);
  if (entry.error || answer.error) {
    section.replaceChildren(title, make("p", { className: "message bad" }, `No prediction: ${entry.error || answer.error}`));
    return;
  }
  section.replaceChildren(title, make("div", { className: "result" }, pictures(entry), verdict(answer, card), set(answer, card)));
}

function pictures(entry) {
  const drawn = entry.answer.gradcam;
  if (!drawn) {
    const shown = make("img", { src: entry.address, alt: `The image ${entry.name}` });
    const what = entry.picturesFailed || "Drawing the heat map ...";
    return make("div", { className: "pictures" }, make("figure", {}, shown), make("p", { className: "hint" }, what));
  }
  const seen = `data:image/png;base64,${drawn.seen}`;
  const heat = make("img", { className: "heat", src: `data:image/png;base64,${drawn.heat_map}`, alt: "" });
  const slider = make("input", { type: "range", id: "strength", min: "0", max: "100", value: "85" });
  const shown = make("output", { htmlFor: "strength" }, "85%");
  const apply = () => {
    heat.style.opacity = slider.value / 100;
    shown.textContent = `${slider.value}%`;
  };
  slider.addEventListener("input", apply);
  apply();
  return make(
    "div",
    { className: "pictures" },
    make("div", { className: "pair" },
      make("figure", {}, make("img", { src: seen, alt: "The square of the image that the network sees" }), make("figcaption", {}, "What the network sees")),
      make("figure", {},
        make("span", { className: "stack" }, make("img", { src: seen, alt: `Grad-CAM map of ${drawn.of}, over the image` }), heat),
        make("figcaption", {}, `Grad-CAM map of ${drawn.of}`))),
    make("p", { className: "strength" }, make("label", { htmlFor: "strength" }, "Heat map"), slider, shown),
    make("p", { className: "scale", ariaHidden: "true" }, "low", make("span", { className: "ramp" }), "high saliency"),
    make("p", { className: "hint" }, "Grad-CAM shows coarsely which parts of the image raised the score of this class. It is not an outline of the lesion, and it does not prove that the network is right."),
  );
}

function verdict(answer, card) {
  const known = new Map(card.classes.map((entry) => [entry.code, entry]));
  const top = known.get(answer.prediction);
  const order = Object.entries(answer.probabilities).sort((a, b) => b[1] - a[1]);
  return make(
    "div",
    { className: "verdict" },
    make("p", { className: "kicker" }, "The network's likeliest class"),
    make("p", { className: "name" }, capitalised(answer.name), codeOf(answer.name, answer.prediction)),
    make("p", { className: "facts" }, make("strong", {}, percent(answer.probability)), make("span", { className: `level ${answer.confidence.level.replace(" ", "-")}` }, `${answer.confidence.level} confidence`), kind(top)),
    make("p", {}, answer.confidence.sentence),
    answer.caution ? make("p", { className: "message caution" }, answer.caution) : null,
    answer.malignant_probability === null || card.classes.filter((entry) => entry.malignant).length < 2 ? null
      : make("p", {}, "All malignant classes together: ", make("strong", {}, percent(answer.malignant_probability)), "."),
    make("h3", {}, card.probabilities.calibration === "none" ? "Probabilities (not calibrated)" : "Calibrated probabilities"),
    make("ul", { className: "bars" }, order.map(([code, share]) => barOf(known.get(code), share, answer))),
  );
}

function kind(entry) {
  if (!entry || entry.malignant === null) return null;
  return make("span", { className: entry.malignant ? "tag malignant" : "tag" }, entry.malignant ? "malignant class" : "benign class");
}

function barOf(entry, share, answer) {
  const inSet = (answer.conformal_set || []).includes(entry.code);
  return make(
    "li",
    { className: entry.malignant ? "malignant" : "" },
    make("span", { className: "label" }, capitalised(entry.name), codeOf(entry.name, entry.code), entry.malignant ? make("span", { className: "tag malignant" }, "malignant") : null, inSet ? make("span", { className: "tag set" }, "in set") : null),
    make("span", { className: "value" }, percent(share)),
    bar(share, entry.malignant ? "malignant" : ""),
  );
}

function set(answer, card) {
  if (answer.conformal_set === null) return null;
  const known = new Map(card.classes.map((entry) => [entry.code, entry]));
  const sets = card.probabilities.conformal;
  const promise = Math.round(100 * sets.promise);
  const found = sets.coverage ? ` This was so for ${percent(sets.coverage.value)} of its test images.` : "";
  const names = answer.conformal_set.map((code) => make("li", {}, capitalised(known.get(code).name)));
  const all = names.length === card.classes.length;
  const read = all ? "All classes: the network cannot rule out any." : names.length === 1 ? "One class alone remains." : `${names.length} of ${card.classes.length} classes remain.`;
  return make(
    "div",
    { className: "set-box" },
    make("h3", {}, "Conformal set"),
    names.length ? make("ul", { className: "chips" }, names) : null,
    make("p", { className: "hint" }, names.length ? read : "Empty: no class fits well enough.", ` Sets like this contain the true class of ${promise} in 100 lesions like those of the validation part.${found}`),
  );
}

