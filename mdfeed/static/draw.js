"use strict";
// The page of one daemon: what /ws tells, shown as it was told. Texts go in by textContent alone; prices and quantities
// are decimal texts and stay so (numbers are made of them for the bars' widths only). This file draws; link.js, which
// follows in the same script, knows the socket, the symbols and the keys.

const PROTOCOL = 1;
const SILENT_MS = 5000; // an open socket that says nothing for so long is as good as none
const REASONS = 5; // of /ready, in the banner
const WAITS_MS = [300, 1000, 2000, 5000];
const GOOD = new Set(["LIVE", "PROVED"]);
const MARK = { PROVED: "\u2713", LIVE: "\u25cf", SYNCING: "\u25cc", STALE: "\u25b2", SUSPECT: "\u2715", COLD: "\u25cb" };
const MEANING = {
  COLD: "Nothing is known of this market yet.",
  SYNCING: "Updates are held while a snapshot is on its way. Nothing is published.",
  LIVE: "Chained to a snapshot without a gap. The venue's own best bid and ask have not confirmed it within the last 60 s.",
  PROVED: "Chained to a snapshot without a gap, and the venue's own best bid and ask agreed within the last 60 s.",
  STALE: "Its line is lost, or the market has been silent for too long. Nothing is published.",
  SUSPECT: "A gap, a crossed book or a contradiction. It is being started over; nothing is published.",
};

const at = (id) => document.getElementById(id);
const count = (n) => spaced(n === null || n === undefined ? n : String(n));
const twice = (n) => String(n).padStart(2, "0");

let hello = null; // the daemon's first message
let picked = location.hash.slice(1); // the symbol that is shown
let book = null;
let rows = new Map();
let health = null;
let socket = null;
let heard = 0; // when the socket last said something, by performance.now()
let failures = 0;
let token = null; // of a daemon that asks for one; kept while the page lives
let is_drawn = true;

// ---- elements

function make(tag, name, text) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  if (text !== undefined) element.textContent = text;
  return element;
}

function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function mark(element, key, value) {
  if (element.dataset[key] !== value) element.dataset[key] = value;
}

/** As many children as asked for, made by `build`; the list. */
function fit(parent, size, build) {
  while (parent.children.length > size) parent.lastElementChild.remove();
  while (parent.children.length < size) parent.append(build());
  return parent.children;
}

function row_of(cells) {
  return () => {
    const row = make("div", "row");
    row.setAttribute("role", "row");
    for (let i = 0; i < cells; i++) row.append(make("span"));
    for (const cell of row.children) cell.setAttribute("role", "cell");
    return row;
  };
}

/** Terms and values; a value is a text, or [text, class]. */
function list(parent, pairs) {
  const children = fit(parent, 2 * pairs.length, () => make(parent.children.length % 2 ? "dd" : "dt"));
  pairs.forEach(([term, value], i) => {
    const [text, name] = Array.isArray(value) ? value : [value, ""];
    put(children[2 * i], term);
    put(children[2 * i + 1], text);
    if (children[2 * i + 1].className !== name) children[2 * i + 1].className = name;
  });
}

// ---- decimal texts

const digits_of = (text) => (text.includes(".") ? text.length - 1 - text.indexOf(".") : 0);
const most_digits = (texts) => texts.reduce((most, text) => Math.max(most, digits_of(text)), 0);

/** An exact sum's texts: 1.5, 0.25 -> 1.5, 1.75. */
function running(texts, digits) {
  let sum = 0n;
  return texts.map((text) => {
    const [whole, part = ""] = text.split(".");
    sum += BigInt(whole + part.padEnd(digits, "0"));
    const all = sum.toString().padStart(digits + 1, "0");
    const cut = all.length - digits;
    return digits ? (all.slice(0, cut) + "." + all.slice(cut)).replace(/\.?0+$/, "") : all;
  });
}

/** The zeros that align a text with others of `digits` fraction digits. */
function pad_of(text, digits) {
  if (!digits) return "";
  return text.includes(".") ? "0".repeat(digits - digits_of(text)) : "." + "0".repeat(digits);
}

function put_number(element, text, digits) {
  put(element, text);
  const pad = pad_of(text, digits);
  if (pad) mark(element, "pad", pad);
  else delete element.dataset.pad;
}

/** Thousands apart by a thin space. */
function spaced(text) {
  if (text === null || text === undefined) return "-";
  const [whole, part] = text.split(".");
  const apart = whole.replace(/\B(?=(\d{3})+$)/g, "\u202f");
  return part ? `${apart}.${part}` : apart;
}

// ---- times

function time_text(ms, with_ms) {
  const date = new Date(ms);
  const text = [date.getUTCHours(), date.getUTCMinutes(), date.getUTCSeconds()].map(twice).join(":");
  return with_ms ? `${text}.${String(date.getUTCMilliseconds()).padStart(3, "0")}` : text;
}

function span_text(ms) {
  const s = Math.max(0, ms) / 1000;
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 120) return `${Math.round(s)} s`;
  if (s < 7200) return `${Math.round(s / 60)} min`;
  return s < 172800 ? `${Math.round(s / 3600)} h` : `${Math.round(s / 86400)} d`;
}

const us = (n) => (n === null ? "-" : n >= 1000 ? count(Math.round(n)) : n.toFixed(1));

// ---- the book

function draw_side(parent, levels, is_asks, most, digits) {
  const totals = running(levels.map((level) => level[1]), digits.qty);
  const lines = fit(parent, levels.length, row_of(3));
  levels.forEach((level, i) => {
    const line = lines[is_asks ? levels.length - 1 - i : i];
    put_number(line.children[0], level[0], digits.price);
    put_number(line.children[1], level[1], digits.qty);
    put_number(line.children[2], totals[i], digits.qty);
    line.style.setProperty("--part", `${((100 * Number(totals[i])) / most || 0).toFixed(1)}%`);
  });
}

function draw_book() {
  const is_good = book !== null && GOOD.has(book.state) && Array.isArray(book.bids);
  const state = book === null ? "COLD" : book.state;
  document.body.classList.toggle("blank", !is_good);
  put(at("symbol"), picked || "-");
  put(at("state"), `${MARK[state]} ${state}`);
  mark(at("state"), "state", state);
  put(at("reason"), book === null ? "" : `${book.reason}, ${span_text(book.at_ms - book.since_ms)}`);
  put(at("meaning"), MEANING[state] || "");
  const [title, text] = at("nothing").children;
  put(title, book === null ? "No book yet" : `No book is shown: it is ${state} (${book.reason})`);
  put(text, MEANING[state] || "");
  if (!is_good) {
    for (const id of ["asks", "bids"]) at(id).replaceChildren();
    for (const id of ["mid", "spread", "ids", "held"]) put(at(id), id === "mid" || id === "spread" ? "-" : "");
    list(at("day"), [["no figures while the book is not good", ""]]);
  } else {
    const all = book.bids.concat(book.asks);
    const digits = { price: most_digits(all.map((l) => l[0])), qty: most_digits(all.map((l) => l[1])) };
    const sum = (side) => side.reduce((total, level) => total + Number(level[1]), 0);
    const most = Math.max(sum(book.bids), sum(book.asks));
    draw_side(at("asks"), book.asks, true, most, digits);
    draw_side(at("bids"), book.bids, false, most, digits);
    put(at("mid"), book.mid ?? "-");
    put(at("spread"), book.spread ?? "-");
    put(at("ids"), `id ${book.last_update_id} at ${time_text(book.recv_ms, true)}`);
    put(at("held"), `${count(book.held.bids)} + ${count(book.held.asks)} levels held`);
    draw_day(book.day);
  }
  if (book !== null) {
    draw_trust();
    draw_trades();
  }
  document.title = is_good && book.mid ? `${book.mid} ${picked}` : `${picked || "mdfeed"} ${state}`;
}

function draw_day(day) {
  const change = day.change_24h;
  const sign = change === null ? "" : change.startsWith("-") ? "sold" : "bought";
  const percent = day.change_percent_24h === null ? "" : ` (${day.change_percent_24h} %)`;
  list(at("day"), [
    ["last", spaced(day.last_price)],
    ["change", [change === null ? "-" : change + percent, sign]],
    ["open", spaced(day.open_24h)],
    ["high", spaced(day.high_24h)],
    ["low", spaced(day.low_24h)],
    ["volume", spaced(day.volume_24h)],
    ["quote volume", spaced(day.quote_volume_24h)],
    ["trades", count(day.trade_count_24h)],
  ]);
}

function draw_trust() {
  const { proof, counts } = book;
  const alarm = (n) => [count(n), n ? "bad" : ""];
  list(at("trust"), [
    ["proof: agreed", [count(proof.match), proof.match ? "good" : ""]],
    ["proof: contradicted", alarm(proof.mismatch)],
    ["proof: not judged", count(proof.unjudged)],
    ["updates applied", count(counts.applied)],
    ["updates a second", count(book.updates_per_s)],
    ["gaps, resyncs", alarm(counts.gaps + counts.resyncs)[1] ? [`${counts.gaps}, ${counts.resyncs}`, "bad"] : "0, 0"],
    ["newest update", book.age_s === null ? "-" : `${span_text(1000 * book.age_s)} ago`],
    ["venue to us", book.venue_delay_ms === null ? "-" : `${book.venue_delay_ms} ms`],
    ["snapshot from", book.source || "-"],
  ]);
}

function draw_trades() {
  const lines = fit(at("prints"), book.trades.length, row_of(4));
  const price = most_digits(book.trades.map((trade) => trade[1]));
  const qty = most_digits(book.trades.map((trade) => trade[2]));
  book.trades.forEach((trade, i) => {
    const cells = lines[i].children;
    put(cells[0], time_text(trade[4], true));
    put(cells[1], trade[3] ? "sell" : "buy");
    cells[1].className = cells[2].className = trade[3] ? "sold" : "bought";
    put_number(cells[2], trade[1], price);
    put_number(cells[3], trade[2], qty);
  });
}

// ---- the daemon

function draw_health() {
  if (health === null) return;
  mark(at("ready"), "level", health.is_ready ? "good" : "wait");
  put(at("ready"), health.is_ready ? "ready" : "not ready");
  put(at("frames"), health.frames_per_s === null ? "" : `${count(Math.round(health.frames_per_s))} frames/s`);
  at("reasons").hidden = health.is_ready;
  const more = health.more_reasons + Math.max(health.reasons.length - REASONS, 0);
  put(at("reasons"), `Not ready: ${health.reasons.slice(0, REASONS).join("; ")}${more ? `; and ${more} more` : ""}`);
  const table = [];
  for (const [name, key] of [["in the feed", "processing"], ["read to write", "receive_to_write"]]) {
    const { recent, start } = health.latency[key];
    table.push(["", name, recent], ["start", "since the start", start]);
  }
  const lines = fit(at("latency"), table.length, () => {
    const line = make("tr");
    line.append(make("th"), make("td"), make("td"), make("td"));
    line.firstChild.scope = "row";
    return line;
  });
  table.forEach(([name, term, found], i) => {
    lines[i].className = name;
    [term, us(found.p50_us), us(found.p99_us), us(found.p99_9_us)].forEach((text, j) => put(lines[i].children[j], text));
  });
  list(at("loop"), [
    ["event loop late by", health.loop_lag_ms === null ? "-" : `${health.loop_lag_ms} ms`],
    ["venue's clock", `${health.clock_offset_ms >= 0 ? "+" : ""}${health.clock_offset_ms} ms`],
  ]);
  draw_ends(at("lines"), health.lines, (line) => [
    `${count(line.frames)} frames`,
    (line.is_connected ? `since ${time_text(line.since_ms)}` : `away: ${line.reason ?? "not yet connected"}`) +
      `, ${line.reconnects} reconnects, ${line.rollovers} replaced`,
  ]);
  draw_ends(at("sinks"), health.sinks, (sink) => {
    const lost = Object.entries(sink.dropped).filter(([, n]) => n);
    const dropped = lost.length ? `dropped ${lost.map(([why, n]) => `${count(n)} ${why}`).join(", ")}` : "none dropped";
    return [`${count(sink.published)} out`, `${dropped}, ${count(sink.buffer_bytes)} bytes waiting`];
  });
}

/** Lines and sinks: a dot, a name, a number and a text below. */
function draw_ends(parent, ends, say) {
  const items = fit(parent, ends.length, () => {
    const item = make("li");
    item.append(make("span", "dot"), make("span", "name"), make("span", "count"), make("span", "more"));
    item.firstChild.setAttribute("role", "img");
    return item;
  });
  ends.forEach((end, i) => {
    const [number, text] = say(end);
    const [dot, name, n, more] = items[i].children;
    mark(dot, "level", end.is_connected ? "good" : "bad");
    dot.setAttribute("aria-label", end.is_connected ? "connected" : "not connected");
    put(name, end.name);
    put(n, number);
    put(more, text);
  });
}
