// The status page. All that a peer may have written is set as text, never as markup.
"use strict";

const LOG_LINES = 200;
const SYNC_ROWS = 30;
const LOOK_MS = 2000;
const PLOT_MS = 10000;
const AGAIN_MS = 2000;
const KEY = "echonode-session";

let token = sessionStorage.getItem(KEY);
let looking = null;      // the timer of the next look at the status
let listening = null;    // what stops the stream of events
let conflicts = [];      // as they were told last
let areOld = true;       // the conflicts may have changed since
let activity = null;     // the last hour and the last day, as they were told last
let plottedAt = 0;
let span = "hour";
let labels = new Map();  // of nodes, by their ids

const byId = (id) => document.getElementById(id);

function make(tag, text, className) {
  const node = document.createElement(tag);
  if (text !== undefined && text !== null) node.textContent = text;
  if (className) node.className = className;
  return node;
}

function draw(tag, attributes, text) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

// -- asking the node ---------------------------------------------------------------------------------------------

class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function ask(method, path, body) {
  const headers = { Authorization: `Bearer ${token}` };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const sent = body === undefined ? undefined : JSON.stringify(body);
  const answer = await fetch(path, { method, headers, body: sent, cache: "no-store" });
  const data = await answer.json();
  if (!answer.ok) {
    const error = data.error || data;
    throw new Refused(answer.status, error.message || error.detail || `the node answered ${answer.status}`);
  }
  return data;
}

async function signInByLink() {
  const ticket = location.hash.slice(1);
  if (!ticket) return;
  history.replaceState(null, "", "/");  // a ticket is good once; it must not stay in the history
  const answer = await fetch("/v1/page/session", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ ticket }),
  });
  const data = await answer.json();
  if (answer.ok) keep(data.token);
  else if (!token) askToSignIn((data.error || data).message);
}

function keep(text) {
  token = text;
  sessionStorage.setItem(KEY, text);
}

function askToSignIn(why) {
  clearTimeout(looking);
  if (listening) listening.abort();
  token = null;
  sessionStorage.removeItem(KEY);
  byId("node").hidden = true;
  byId("signin").hidden = false;
  byId("verdict").textContent = "Nobody is signed in.";
  if (why) byId("signin-why").textContent = `${why[0].toUpperCase()}${why.slice(1)}.`;
}

// -- words ---------------------------------------------------------------------------------------------------------

const count = (number, noun) => `${number.toLocaleString()} ${noun}${number === 1 ? "" : "s"}`;

function size(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (bytes >= 1000 && unit < units.length - 1) {
    bytes /= 1000;
    unit += 1;
  }
  return `${unit && bytes < 100 ? bytes.toFixed(1) : Math.round(bytes)} ${units[unit]}`;
}

function ago(time) {
  if (!time) return "never";
  const seconds = Math.max(0, (Date.now() - Date.parse(time)) / 1000);
  if (seconds < 90) return `${Math.round(seconds)} s ago`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min ago`;
  if (seconds < 129600) return `${Math.round(seconds / 3600)} h ago`;
  return `${Math.round(seconds / 86400)} days ago`;
}

const clock = (date) => date.toLocaleTimeString([], { hour12: false });
const notOurs = ["other network", "copy", "gone", "pending", "rejected", "left out"];
const isOurs = (peer) => !notOurs.includes(peer.state);
const isInStep = (peer) => peer.in_sync !== true && peer.in_step;

function mood(peer) {
  if (!isOurs(peer)) return "none";
  if (peer.in_sync === true) return "good";
  if (isInStep(peer)) return "wait";
  return peer.state === "connected" || peer.state === "refused" ? "bad" : "none";
}

function equality(peer) {
  if (["other network", "copy", "pending"].includes(peer.state)) return "–";
  if (isInStep(peer)) return "in step";
  return { true: "yes", false: "no", null: "unknown" }[String(peer.in_sync)];
}

function verdict(peers) {
  const ours = peers.filter(isOurs);
  const copies = peers.filter((peer) => peer.state === "copy").map((peer) => `At ${peer.address} ${peer.reason}.`);
  if (!ours.length) return [...copies, "No other node of this network is known."].join(" ");
  const unequal = ours.filter((peer) => peer.in_sync !== true);
  if (!unequal.length) return [...copies, `Equal with ${count(ours.length, "node")}: all that are known.`].join(" ");
  if (unequal.every(isInStep)) return [...copies, `In step with ${count(ours.length, "node")}: changes are on the way.`].join(" ");
  const named = unequal.filter((peer) => !isInStep(peer)).slice(0, 3);
  const reasons = named.map((peer) => `${peer.label}: ${peer.reason || "not equal yet"}`).join("; ");
  const equal = ours.length - unequal.filter((peer) => !isInStep(peer)).length;
  return [...copies, `Equal with ${equal} of ${count(ours.length, "node")}. ${reasons}.`].join(" ");
}

// -- showing -------------------------------------------------------------------------------------------------------

function fill(table, rows) {
  byId(table).tBodies[0].replaceChildren(...rows);
}

function row(cells) {
  const line = make("tr");
  for (const [text, className] of cells) line.append(make("td", text, className));
  return line;
}

function showStatus(status) {
  byId("signin").hidden = true;
  byId("node").hidden = false;
  byId("name").textContent = status.label || status.name;
  labels = new Map(status.peers.filter((peer) => peer.id).map((peer) => [peer.id, peer.label || peer.name]));
  labels.set(status.id, "this node");
  document.title = `${status.label || status.name} · echonode`;
  const contested = conflicts.length ? ` ${count(conflicts.length, "record")} in conflict.` : "";
  const pending = status.peers.filter((peer) => peer.state === "pending").length;
  const waiting = pending ? ` Waiting to be let in: ${count(pending, "node")} (echonode peers --pending).` : "";
  const sentence = verdict(status.peers) + waiting + contested;
  if (byId("verdict").textContent !== sentence) byId("verdict").textContent = sentence;
  showPeers(status);
  fill("contexts", status.contexts.map((context) => row([
    [context.name], [context.records.toLocaleString(), "number"], [size(context.bytes), "number"],
    [context.root.slice(0, 16), "mono"],
  ])));
  showFacts(status);
  showConflicts();
}

function showPeers(status) {
  fill("peers", status.peers.map((peer) => row([
    [peer.label || peer.name || "–"], [peer.state], [equality(peer), mood(peer)], [ago(peer.last_sync)],
    [peer.address || "–", "mono"], [peer.reason || ""],
  ])));
  const graph = byId("graph");
  const centre = { x: 320, y: 150 };
  const shown = status.peers.filter((peer) => peer.state !== "gone").slice(0, 24);
  const parts = [];
  shown.forEach((peer, place) => {
    const angle = (2 * Math.PI * place) / shown.length;
    const at = { x: centre.x + 235 * Math.cos(angle), y: centre.y + 100 * Math.sin(angle) };
    parts.push(draw("line", { x1: centre.x, y1: centre.y, x2: at.x, y2: at.y, class: mood(peer) }));
    parts.push(draw("circle", { cx: at.x, cy: at.y, r: 14, class: mood(peer) }));
    parts.push(draw("text", { x: at.x, y: at.y + 32 }, (peer.label || peer.name || "?").slice(0, 24)));
  });
  parts.push(draw("circle", { cx: centre.x, cy: centre.y, r: 20, class: "me" }));
  parts.push(draw("text", { x: centre.x, y: centre.y + 40 }, (status.label || status.name).slice(0, 24)));
  graph.setAttribute("aria-label", verdict(status.peers));
  graph.replaceChildren(...parts);
}

function showFacts(status) {
  const facts = [
    ["id", status.id], ["network", status.network], ["listens on", status.listen.join(" ")],
    ["instance", status.instance], ["version", status.version],
    ["history", `${count(status.history.versions, "older version")}, ${size(status.history.bytes)}`],
  ];
  byId("facts").replaceChildren(...facts.flatMap(([name, value]) => [make("dt", name), make("dd", value, "mono")]));
}

function bodyText(head) {
  if (head.deleted) return "(deleted)";
  if (head.body_base64 !== undefined) return `(binary, base64) ${head.body_base64}`;
  return typeof head.body === "string" ? head.body : JSON.stringify(head.body, null, 1);
}

let shownConflicts = "";

function showConflicts() {
  const known = JSON.stringify(conflicts.map((conflict) => [conflict.id, conflict.context, conflict.heads.map((head) => head.version)]));
  if (known === shownConflicts) return;  // leave focus and scrolling alone
  shownConflicts = known;
  byId("conflicts-section").hidden = !conflicts.length;
  byId("conflicts").replaceChildren(...conflicts.slice(0, 50).map(conflictCard));
}

function conflictCard(conflict) {
  const card = make("div", null, "conflict");
  card.append(make("h3", `${conflict.address} in ${conflict.context}`));
  const sides = make("div", null, "sides");
  const path = `/v1/conflicts/${encodeURIComponent(conflict.context)}/resolve?id=${encodeURIComponent(conflict.id)}`;
  const result = make("span", "", "hint");
  result.setAttribute("role", "status");
  const resolve = async (choice) => {
    for (const button of card.querySelectorAll("button")) button.disabled = true;
    try {
      await ask("POST", path, choice);
      await look();
    } catch (error) {
      result.textContent = error.message;
      for (const button of card.querySelectorAll("button")) button.disabled = false;
    }
  };
  for (const head of conflict.heads) {
    const side = make("div", null, "side");
    side.append(make("p", `${head.by || head.key.slice(0, 8)}, ${new Date(head.created).toLocaleString()}`));
    side.append(make("pre", bodyText(head)));
    const keepIt = make("button", head.winner ? "Keep this (read now)" : "Keep this");
    keepIt.type = "button";
    keepIt.addEventListener("click", () => resolve({ keep: head.version }));
    side.append(keepIt);
    sides.append(side);
  }
  const actions = make("p", null, "actions");
  const merge = make("button", "Merge");
  merge.type = "button";
  merge.addEventListener("click", () => resolve({ strategy: "merge" }));
  actions.append(merge, make("span", "JSON objects are joined field by field; of other bodies the newest is kept.", "hint"), result);
  card.append(sides, actions);
  return card;
}

// -- the recent past -----------------------------------------------------------------------------------------------

const SPANS = { hour: { slots: 360, words: "1 h ago" }, day: { slots: 144, words: "1 day ago" } };

async function showActivity() {
  if (Date.now() - plottedAt < PLOT_MS) return;
  plottedAt = Date.now();
  activity = await ask("GET", "/v1/activity");
  drawActivity();
}

function drawActivity() {
  if (!activity) return;
  const series = activity[span];
  const last = series.records.length - 1;
  const ran = (Date.now() - Date.parse(series.began)) / 1000 - last * series.slot_s;  // the last slot still runs
  const rates = series.records.map((_, place) => {
    const seconds = place === last ? Math.min(series.slot_s, Math.max(1, ran)) : series.slot_s;
    return (series.written[place] + series.received[place]) / seconds;
  });
  plot("records-plot", series.records);
  plot("rate-plot", rates);
  plot("conversations-plot", series.conversations);
  for (const start of document.querySelectorAll(".axis span:first-child")) start.textContent = SPANS[span].words;
  for (const name of Object.keys(SPANS)) byId(`show-${name}`).setAttribute("aria-pressed", String(name === span));
}

// Draw one value for each slot. The newest is at the right edge; before the node started there is nothing.
function plot(id, values) {
  const slots = SPANS[span].slots;
  const top = Math.max(1, ...values);
  const width = 640 / slots;
  const steps = values.flatMap((value, place) => {
    const left = 640 - width * (values.length - place);
    const y = (86 - 70 * (value / top)).toFixed(1);
    return [`${left.toFixed(2)},${y}`, `${(left + width).toFixed(2)},${y}`];
  });
  const last = values[values.length - 1];
  const words = (value) => value.toLocaleString(undefined, { maximumSignificantDigits: Number.isInteger(value) ? 21 : 2 });
  byId(id).replaceChildren(draw("polyline", { points: steps.join(" ") }));
  byId(`${id}-now`).textContent = `${words(last)} now, ${words(Math.max(...values))} at most`;
}

// Fill the log and the conversations with what happened before the page was opened.
async function recall() {
  const answer = await fetch("/v1/logs?level=info", { headers: { Authorization: `Bearer ${token}` }, cache: "no-store" });
  if (!answer.ok) return;
  const lines = (await answer.text()).split("\n").filter(Boolean).map((line) => JSON.parse(line));
  for (const line of lines.slice(-LOG_LINES)) {
    const { time, level, event, ...data } = line;
    if (event) noteEvent(event, data, new Date(time));
  }
}

// -- events --------------------------------------------------------------------------------------------------------

// An id is shown as the label of its node, or as its beginning.
function wordOf(value) {
  if (value !== null && typeof value === "object") return JSON.stringify(value);
  return /^[a-z2-7]{52}$/.test(value) ? labels.get(value) || value.slice(0, 8) : String(value);
}

function noteEvent(name, data, at = new Date()) {
  if (name === "sync.completed") noteSync(data, at);
  if (name.startsWith("record.conflict")) areOld = true;
  const line = make("li");
  line.append(make("time", `${clock(at)} `), make("span", `${name} `));
  const left = ["event", "records", "session"];
  const shown = Object.entries(data).filter(([key, value]) => !left.includes(key) && value !== "" && value !== null);
  line.append(make("span", shown.map(([key, value]) => `${key}=${wordOf(value)}`).join(" "), "hint"));
  const log = byId("log");
  log.prepend(line);
  while (log.children.length > LOG_LINES) log.lastChild.remove();
}

function noteSync(data, at) {
  byId("syncs-none").hidden = true;
  const body = byId("syncs").tBodies[0];
  body.prepend(row([
    [clock(at)], [data.peer_name || wordOf(data.peer || "")], [data.context], [data.mode],
    [data.outcome, data.verified ? "good" : ""], [String(data.sent), "number"], [String(data.received), "number"],
    [size((data.bytes_sent || 0) + (data.bytes_received || 0)), "number"], [data.reason || ""],
  ]));
  while (body.rows.length > SYNC_ROWS) body.lastChild.remove();
}

async function listen() {
  listening = new AbortController();
  try {
    const answer = await fetch("/v1/events", {
      headers: { Authorization: `Bearer ${token}` }, cache: "no-store", signal: listening.signal,
    });
    if (!answer.ok) return;
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let waiting = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      waiting += value;
      const blocks = waiting.split("\n\n");
      waiting = blocks.pop();
      for (const block of blocks) readBlock(block);
    }
  } catch (error) {
    if (error.name === "AbortError") return;
  } finally {
    if (token && !listening.signal.aborted) setTimeout(listen, AGAIN_MS);
  }
}

function readBlock(block) {
  let name = "";
  let data = "";
  for (const line of block.split("\n")) {
    if (line.startsWith("event: ")) name = line.slice(7);
    if (line.startsWith("data: ")) data += line.slice(6);
  }
  if (name && name !== "end") noteEvent(name, JSON.parse(data));
}

// -- the page ------------------------------------------------------------------------------------------------------

async function look() {
  clearTimeout(looking);
  try {
    const status = await ask("GET", "/v1/status");
    const contested = status.contexts.reduce((sum, context) => sum + context.conflicts, 0);
    if (areOld || contested !== conflicts.length) {
      areOld = false;
      conflicts = contested ? (await ask("GET", "/v1/conflicts")).conflicts : [];
    }
    showStatus(status);
    await showActivity();
  } catch (error) {
    if (error.status === 401) {
      askToSignIn("this session ended; type echonode open for another");
      return;
    }
    byId("verdict").textContent = `The node does not answer (${error.message}). This page tries again.`;
  }
  looking = setTimeout(look, LOOK_MS);
}

async function begin() {
  await look();
  await recall().catch(() => {});  // the page is of use without it
  listen();
}

for (const name of Object.keys(SPANS)) {
  byId(`show-${name}`).addEventListener("click", () => {
    span = name;
    drawActivity();
  });
}

byId("signin-form").addEventListener("submit", (event) => {
  event.preventDefault();
  keep(byId("token").value.trim());
  byId("token").value = "";
  begin();
});

byId("sync").addEventListener("click", async () => {
  byId("sync").disabled = true;
  byId("sync-result").textContent = "syncing …";
  try {
    const answer = await ask("POST", "/v1/sync", {});
    byId("sync-result").textContent = answer.status;
  } catch (error) {
    byId("sync-result").textContent = error.message;
  }
  byId("sync").disabled = false;
  look();
});

byId("invite").addEventListener("click", async () => {
  try {
    const answer = await ask("POST", "/v1/invitations", { uses: 1, expires_s: 600 });
    byId("code").textContent = answer.code;
    byId("code-command").textContent = `echonode run --join ${answer.code}`;
  } catch (error) {
    byId("code").textContent = "";
    byId("code-command").textContent = error.message;
  }
  byId("invitation").hidden = false;
});

signInByLink().then(() => (token ? begin() : byId("signin").hidden && askToSignIn()));
