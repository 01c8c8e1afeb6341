// Reads the state of the service once a second and shows it. Nothing is asked while nobody looks.

import { call, Gone, Rejected, TokenNeeded, useToken } from "./api.js";
import { drawCurve, drawVector } from "./drawing.js";
import { Tail } from "./experiences.js";
import { by, bytes, clock, count, element, fixed, say, share, span } from "./format.js";
import { Switches } from "./switches.js";

const INTERVAL_MS = 1000;
const NEIGHBOURS = 9;
const CURVE_WINDOW = 100;
const SWITCHES_SHOWN = 5;
const DRAWN_DIMENSION_MAX = 4096;

const tail = new Tail();
const switches = new Switches();
let answeredAt = Date.now();
let dimension = 0;

function showState(state, health) {
  document.body.dataset.state = state;
  say("health", health);
}

function warningsOf(status) {
  const { backend, store, refused } = status;
  return [
    !store.writable && `Writes are refused: ${store.reason}`,
    backend.requested === "gpu" && backend.active !== "gpu" && `FAISS fell back to the CPU: ${backend.reason}`,
    status.rebuild_error && `The last rebuild failed: ${status.rebuild_error}`,
    refused && `Generation ${refused.generation} was refused at ${clock(refused.at)}: ${refused.reason}`,
  ].filter(Boolean);
}

function showStatus(status) {
  const { backend, store } = status;
  dimension = status.dimension;
  const warnings = warningsOf(status);
  showState(warnings.length ? "impaired" : "healthy", store.writable ? (warnings.length ? "impaired" : "healthy") : "read only");
  const up = span(Date.now() / 1000 - status.started_at);
  say("about", `version ${status.version} · ${status.dimension} dimensions, ${status.metric} · up ${up}`);
  by("warnings").hidden = !warnings.length;
  by("warnings").replaceChildren(...warnings.map((text) => element("li", {}, text)));
  say("size", count(status.size));
  by("fill").value = status.size / status.capacity;
  say("capacity", `of ${count(status.capacity)}, oldest leaves first`);
  say("sequence", count(status.sequence));
  say("generation", status.generation ? count(status.generation) : "none yet");
  say("watermark", `holds all up to sequence ${count(status.watermark)}`);
  say("index-rows", count(status.index_rows));
  say("index-type", status.index_type);
  say("delta", count(status.delta_rows));
  say("tombstones", count(status.tombstones));
  say("pending", count(status.pending_operations));
  say("rebuild", status.rebuild_running ? "a rebuild is running" : "operations since the index");
  say("backend", backend.active.toUpperCase());
  say("backend-reason", backend.reason);
  say("memory", bytes(status.rss_bytes));
  say("store", store.backend);
  say("store-detail", `${bytes(store.size_bytes)}, ${store.writable ? "writable" : "read only"}`);
}

function showSwitches(seen, generation) {
  by("switches-note").hidden = seen.length > 0;
  say("switches-note", generation ? "None since the service started." : "None yet: without an index every search is exact.");
  by("switches").replaceChildren(...seen.slice(-SWITCHES_SHOWN).reverse().map((item) => element("li", {},
    element("b", {}, `Generation ${item.generation}`), ` at ${clock(item.at)}`,
    element("p", { class: "quiet" }, `${count(item.rows)} rows · serving ${span(item.since_flip_s)} after the flip, loaded in ${span(item.load_s)}`))));
}

function showAccuracy(rows, seen) {
  const judged = rows.filter((row) => typeof row.metadata?.correct === "boolean");
  by("accuracy-note").hidden = judged.length > 1;
  if (judged.length < 2) {
    by("accuracy").replaceChildren();
    say("accuracy-now", "");
    return;
  }
  const correct = judged.map((row) => Number(row.metadata.correct));
  const marks = seen
    .map((item) => [judged.findIndex((row) => row.created_at > item.at), `gen ${item.generation}`])
    .filter(([place]) => place > 0);
  drawCurve(by("accuracy"), correct, judged.map((row) => row.id), CURVE_WINDOW, marks);
  const last = correct.slice(-CURVE_WINDOW);
  const mean = last.reduce((sum, value) => sum + value, 0) / last.length;
  say("accuracy-now", `${(100 * mean).toFixed(1)} % of the last ${last.length}`);
}

function picture(id) {
  const canvas = element("canvas", { "aria-hidden": "true" });
  if (dimension <= DRAWN_DIMENSION_MAX) {
    tail.vector(id).then((vector) => vector && drawVector(canvas, vector), () => {});
  }
  return canvas;
}

function showLatest(latest) {
  by("latest-note").hidden = latest.length > 0;
  const now = Date.now() / 1000;
  by("latest").replaceChildren(...latest.map((row) => {
    const verdict = row.metadata?.correct;
    const mark = verdict === undefined ? null : element("span", { class: verdict ? "good" : "poor" }, verdict ? " ✓" : " ✗");
    const numbers = [fixed(row.reward), share(row.confidence), fixed(row.priority, 3), count(row.retrieval_count),
      share(row.success_rate), span(now - row.created_at)];
    return element("tr", {},
      element("td", {}, picture(row.id)), element("td", {}, String(row.id)),
      element("td", { class: "text" }, row.question ?? "–"), element("td", { class: "text" }, row.answer ?? "–", mark),
      ...numbers.map((text) => element("td", { class: "number" }, text)));
  }));
}

async function showNeighbours(id) {
  say("near-note", "looking …");
  try {
    const { vector } = await call(`v1/experiences/${id}`);
    const found = await call("v1/search", { vector, k: NEIGHBOURS, include: ["experience"] });
    by("near").replaceChildren(...found.results[0].map((hit) => element("li", {}, picture(hit.id),
      element("p", {}, element("b", {}, `#${hit.id}`)), element("p", {}, hit.experience?.answer ?? "–"),
      element("p", { class: "quiet" }, `score ${fixed(hit.score, 3)}`))));
    say("near-note", `answered from generation ${found.generation} and the delta`);
  } catch (error) {
    by("near").replaceChildren();
    say("near-note", error instanceof Gone ? "the service does not answer" : error.message);
  }
}

function showProblem(error) {
  if (error instanceof TokenNeeded) {
    showState("impaired", "token needed");
    by("token-form").hidden = false;
  } else if (error instanceof Gone || error instanceof Rejected) {
    showState("gone", "gone");
    by("gone").hidden = false;
    say("gone", `The service has not answered since ${clock(answeredAt / 1000)} (${error.message}). Trying again every second.`);
  } else {
    throw error;
  }
}

async function tick() {
  try {
    const status = await call("v1/status");
    answeredAt = Date.now();
    by("token-form").hidden = true;
    by("gone").hidden = true;
    showStatus(status);
    const seen = switches.note(status);
    showSwitches(seen, status.generation);
    await tail.follow(status);
    showAccuracy(tail.rows, seen);
    showLatest(tail.latest());
  } catch (error) {
    showProblem(error);
  }
}

async function poll() {
  if (!document.hidden) await tick();
  setTimeout(poll, INTERVAL_MS);
}

by("near-form").addEventListener("submit", (event) => {
  event.preventDefault();
  showNeighbours(by("near-id").value);
});
by("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useToken(by("token").value);
  by("token").value = "";
  tick();
});
// A link such as /?near=17 opens with that search.
const near = new URLSearchParams(location.search).get("near");
if (near) {
  by("near-id").value = near;
  showNeighbours(near);
}
poll();
