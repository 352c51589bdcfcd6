// The page: images are chosen, dropped or pasted, and their predictions shown.

import { csvOf, rowOf, sumsMalignant } from "./batch.js";
import { showCard } from "./card.js";
import { forEach, getJson, NeedsKey, predict, setKey } from "./client.js";
import { byId, capitalised, make, percent } from "./dom.js";
import { showResult } from "./result.js";

const MEBIBYTE = 2 ** 20;
const entries = [];
let card = null;
let chosen = null;

async function start() {
  byId("form").addEventListener("submit", (event) => event.preventDefault());
  byId("files").addEventListener("change", (event) => {
    add([...event.target.files]);
    event.target.value = "";
  });
  listenForDrops();
  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files || [])];
    if (files.length) {
      event.preventDefault();
      add(files);
    }
  });
  byId("csv").addEventListener("click", download);
  byId("clear").addEventListener("click", clear);
  byId("key-use").addEventListener("click", useKey);
  byId("key").addEventListener("keydown", (event) => {
    if (event.key === "Enter") useKey();
  });
  await Promise.all([loadCard(), loadExamples()]);
}

function listenForDrops() {
  const drop = byId("drop");
  let depth = 0;
  const hasFiles = (event) => event.dataTransfer && [...event.dataTransfer.types].includes("Files");
  document.addEventListener("dragenter", (event) => {
    if (hasFiles(event)) {
      depth += 1;
      drop.classList.add("over");
    }
  });
  document.addEventListener("dragleave", () => {
    depth = Math.max(depth - 1, 0);
    if (!depth) drop.classList.remove("over");
  });
  document.addEventListener("dragover", (event) => hasFiles(event) && event.preventDefault());
  document.addEventListener("drop", (event) => {
    depth = 0;
    drop.classList.remove("over");
    if (hasFiles(event)) {
      event.preventDefault();
      add([...event.dataTransfer.files]);
    }
  });
}

async function loadCard() {
  try {
    card = await getJson("model");
  } catch (error) {
    const needsKey = error instanceof NeedsKey;
    const text = needsKey ? "Shown once the server's key is entered above." : error.message;
    byId("card-body").replaceChildren(make("p", { className: needsKey ? "hint" : "message bad" }, text));
    byId("key-box").hidden = !needsKey;
    return;
  }
  byId("key-box").hidden = true;
  byId("model-name").textContent = card.name;
  const takes = card.takes;
  byId("takes").textContent = `${takes.formats.join(", ")}, up to ${takes.max_upload_mb} MB.`;
  byId("malignant").hidden = !sumsMalignant(card.classes);
  showCard(byId("card-body"), card);
  if (card.metadata) askAboutPatient(card.metadata);
}

function askAboutPatient(metadata) {
  byId("patient").hidden = false;
  for (const name of ["sex", "site"]) {
    const options = ["", ...metadata[name]].map((value) => make("option", { value }, value ? capitalised(value) : "not known"));
    byId(name).replaceChildren(...options);
  }
}

function patient() {
  if (!card.metadata) return {};
  return Object.fromEntries(["age", "sex", "site"].map((name) => [name, byId(name).value || "unknown"]));
}

async function useKey() {
  setKey(byId("key").value.trim());
  await loadCard();
  say(card ? "The key was accepted." : "The key was not accepted.");
}

async function loadExamples() {
  const examples = await getJson("examples");
  byId("examples").replaceChildren(...examples.map((example) => {
    const image = make("img", { src: example.address, alt: "", width: 88, height: 66 });
    const button = make("button", { type: "button", title: `Generated to look like: ${example.title}` }, image, make("span", {}, `drawn as ${example.drawn_as}`));
    button.addEventListener("click", async () => {
      const blob = await (await fetch(example.address)).blob();
      add([new File([blob], example.name, { type: blob.type })]);
    });
    return make("li", {}, button);
  }));
}

async function add(files) {
  if (!card) {
    say(byId("key-box").hidden ? "The model card could not be loaded, so no image can be sent." : "The server's key is needed first.");
    return;
  }
  const about = patient();
  const added = files.map((file) => ({ file, name: file.name || "pasted image", address: URL.createObjectURL(file), patient: about, answer: null, error: null }));
  entries.push(...added);
  choose(added[0]);
  let done = 0;
  await forEach(added, async (entry) => {
    await predictEntry(entry, added.length === 1);
    done += 1;
    drawRows();
    if (added.length > 1) say(`${done} of ${added.length} images done.`);
    if (entry === chosen) choose(entry);
  });
  say(added.length === 1 ? summary(added[0]) : summaryOf(added));
  byId("result").scrollIntoView({ block: "nearest" });
}

async function predictEntry(entry, withPictures) {
  if (entry.file.size > card.takes.max_upload_mb * MEBIBYTE) {
    entry.error = `This file is larger than ${card.takes.max_upload_mb} MiB, the largest size that the server accepts.`;
    return;
  }
  try {
    entry.answer = await predict(entry.file, entry.name, entry.patient, withPictures);
  } catch (error) {
    entry.error = error.message;
    if (error instanceof NeedsKey) byId("key-box").hidden = false;
  }
}

function choose(entry) {
  if (chosen) chosen.isChosen = false;
  chosen = entry;
  entry.isChosen = true;
  drawRows();
  const section = byId("result");
  section.hidden = false;
  if (!entry.answer && !entry.error) {
    section.replaceChildren(make("h2", { id: "result-title" }, entry.name), make("p", { className: "waiting" }, "Predicting ..."));
    return;
  }
  showResult(section, entry, card);
  if (entry.answer && !entry.answer.error && !entry.answer.gradcam) addPictures(entry);
}

async function addPictures(entry) {
  if (entry.isDrawing) return;
  entry.isDrawing = true;
  try {
    entry.answer.gradcam = (await predict(entry.file, entry.name, entry.patient, true)).gradcam;
  } catch (error) {
    entry.picturesFailed = `No heat map: ${error.message}`;
  }
  entry.isDrawing = false;
  if (entry === chosen && (entry.answer.gradcam || entry.picturesFailed)) showResult(byId("result"), entry, card);
}

function drawRows() {
  byId("batch").hidden = entries.length < 2;
  const focused = document.activeElement?.closest?.("#rows tr");
  const place = focused ? [...byId("rows").children].indexOf(focused) : -1;
  byId("rows").replaceChildren(...entries.map((entry) => rowOf(entry, card.classes, (picked) => {
    choose(picked);
    byId("result").focus({ preventScroll: true });
    byId("result").scrollIntoView({ block: "start" });
  })));
  if (place >= 0) byId("rows").children[place]?.querySelector("button").focus();
}

function summary(entry) {
  const answer = entry.answer;
  if (entry.error || answer.error) return `${entry.name}: no prediction. ${entry.error || answer.error}`;
  return `${entry.name}: ${answer.name}, ${percent(answer.probability)}, ${answer.confidence.level} confidence.`;
}

function summaryOf(added) {
  const failed = added.filter((entry) => entry.error || entry.answer.error).length;
  const predicted = added.length - failed;
  return `${predicted} of ${added.length} images predicted${failed ? `, ${failed} without a prediction` : ""}.`;
}

function say(text) {
  byId("status").textContent = text;
}

function download() {
  const blob = new Blob([csvOf(entries, card.classes, card.probabilities.calibration)], { type: "text/csv" });
  const link = make("a", { href: URL.createObjectURL(blob), download: "predictions.csv" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function clear() {
  for (const entry of entries) URL.revokeObjectURL(entry.address);
  entries.length = 0;
  chosen = null;
  byId("result").hidden = true;
  byId("result").replaceChildren();
  drawRows();
  say("All images are removed from this page.");
  byId("files").focus();
}

start();
