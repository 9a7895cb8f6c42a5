// Which symbol is shown, and the line to the daemon: opened, watched, opened again.

// ---- the symbols

function draw_tabs() {
  const names = hello === null ? [] : hello.symbols;
  const wanted = at("filter").value.trim().toUpperCase();
  at("filter").hidden = names.length <= 12;
  const tabs = fit(at("tabs"), names.length, () => {
    const tab = make("button", "tab");
    tab.type = "button";
    tab.setAttribute("role", "tab");
    tab.setAttribute("aria-controls", "main");
    const under = make("span", "under");
    under.append(make("span"), make("span"));
    tab.append(make("span", "mark"), make("b"), make("span", "price"), under);
    tab.addEventListener("click", () => pick(tab.dataset.symbol));
    return tab;
  });
  names.forEach((name, i) => {
    const tab = tabs[i];
    const [sign, symbol, price, under] = tab.children;
    const row = rows.get(name) ?? { state: "COLD", reason: "", bid: null, updates_per_s: null };
    mark(tab, "symbol", name);
    tab.hidden = wanted !== "" && !name.includes(wanted);
    const is_picked = name === picked;
    if (tab.getAttribute("aria-selected") !== String(is_picked)) tab.setAttribute("aria-selected", String(is_picked));
    tab.tabIndex = is_picked ? 0 : -1;
    put(sign, MARK[row.state] ?? "?");
    mark(sign, "state", row.state);
    put(symbol, name);
    put(price, row.bid ?? "-");
    put(under.children[0], `${row.state}${row.reason ? ` (${row.reason})` : ""}`);
    put(under.children[1], row.updates_per_s === null ? "" : `${row.updates_per_s}/s`);
  });
}

function pick(name) {
  if (hello !== null && !hello.symbols.includes(name)) name = hello.symbols[0] ?? "";
  const is_new = name !== picked || book === null;
  picked = name;
  if (is_new) book = null;
  if (name && location.hash.slice(1) !== name) history.replaceState(null, "", `#${name}`);
  if (socket !== null && socket.readyState === WebSocket.OPEN && name) {
    socket.send(JSON.stringify({ subscribe: [name] }));
  }
  draw_tabs();
  draw_soon();
  const tab = at("tabs").querySelector('[aria-selected="true"]');
  if (tab) tab.scrollIntoView({ block: "nearest", inline: "nearest" });
}

function step(event) {
  const tabs = [...at("tabs").children].filter((tab) => !tab.hidden);
  const here = tabs.findIndex((tab) => tab.dataset.symbol === picked);
  const moves = { ArrowDown: here + 1, ArrowRight: here + 1, ArrowUp: here - 1, ArrowLeft: here - 1, Home: 0, End: tabs.length - 1 };
  if (!(event.key in moves) || !tabs.length) return;
  event.preventDefault();
  const tab = tabs[(moves[event.key] + tabs.length) % tabs.length];
  pick(tab.dataset.symbol);
  tab.focus();
}

// ---- drawing

function draw_soon() {
  if (!is_drawn) return;
  is_drawn = false;
  requestAnimationFrame(() => {
    is_drawn = true;
    draw_book();
  });
}

function draw_link() {
  const now = performance.now();
  const is_open = socket !== null && socket.readyState === WebSocket.OPEN && hello !== null;
  const is_away = !is_open || now - heard > SILENT_MS;
  document.body.classList.toggle("away", is_away);
  at("away").hidden = !is_away;
  mark(at("link"), "level", is_away ? "bad" : "good");
  put(at("link"), is_away ? "no data" : "live");
  if (is_away) {
    if (health !== null) mark(at("ready"), "level", "off");
    const [what, since] = at("away").children; // the latter changes all the time, and is not read out
    put(what, is_open ? "The daemon has fallen silent." : trouble);
    put(since, heard ? `What is shown is ${span_text(now - heard)} old and must not be relied on.` : "");
    if (heard) document.title = `(stale) ${picked || "mdfeed"}`;
  }
  put(at("clock"), `${time_text(Date.now())} UTC`);
}

// ---- the socket

let trouble = "Connecting to the daemon.";

const TOLD = {
  hello(message) {
    if (message.protocol !== PROTOCOL) {
      trouble = "The daemon was upgraded: load this page again.";
      failures = Infinity;
      return socket.close();
    }
    hello = message;
    failures = 0;
    book = null; // what was seen before is old
    rows = new Map();
    lock(false);
    document.body.style.setProperty("--levels", message.levels);
    put(at("venue"), message.venue);
    put(at("version"), message.version);
    pick(picked);
  },
  book(message) {
    if (message.symbol !== picked) return;
    book = message;
    draw_soon();
  },
  symbols(message) {
    rows = new Map(message.symbols.map((row) => [row.symbol, row]));
    const names = message.symbols.map((row) => row.symbol);
    if (names.join() !== hello.symbols.join()) {
      hello.symbols = names; // the daemon's configuration was reloaded
      if (!rows.has(picked)) pick(names[0]);
    }
    draw_tabs();
  },
  health(message) {
    health = message;
    draw_health();
  },
  unknown() {
    book = null;
    draw_soon();
  },
};

function lock(is_locked) {
  at("door").hidden = !is_locked;
  document.body.classList.toggle("locked", is_locked);
}

function connect() {
  const url = new URL("ws", location.href);
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  url.hash = "";
  hello = null;
  socket = new WebSocket(url);
  socket.onmessage = (event) => {
    heard = performance.now();
    const message = JSON.parse(event.data);
    if (Object.hasOwn(TOLD, message.type)) TOLD[message.type](message);
    draw_link();
  };
  socket.onclose = () => {
    const was_open = hello !== null;
    hello = null;
    if (failures !== Infinity) {
      trouble = was_open ? "The connection to the daemon is lost." : trouble;
      setTimeout(ask_first, WAITS_MS[Math.min(failures++, WAITS_MS.length - 1)] * (0.8 + 0.4 * Math.random()));
    }
    draw_link();
  };
}

/** Is it there, and does it let us in? The answer renews the ticket to its WebSocket, if it gives tickets. */
async function ask_first() {
  try {
    const headers = token === null ? {} : { Authorization: `Bearer ${token}` };
    const answer = await fetch("./", { method: "HEAD", cache: "no-store", credentials: "same-origin", headers });
    if (answer.status === 401) {
      const takes_token = (answer.headers.get("WWW-Authenticate") ?? "").includes("Bearer");
      trouble = `The daemon asks for credentials${takes_token ? "." : ": load this page again to give them."}`;
      put(at("refused"), token === null ? "" : "This token is not the daemon's.");
      lock(takes_token);
      token = null;
      return draw_link();
    }
    trouble = failures > 2 ? "The daemon answers, but opens no WebSocket (a proxy between?)." : "Connecting to the daemon.";
  } catch {
    trouble = "The daemon does not answer.";
    failures += 1;
    setTimeout(ask_first, WAITS_MS[Math.min(failures, WAITS_MS.length - 1)]);
    return draw_link();
  }
  connect();
}

at("door").addEventListener("submit", (event) => {
  event.preventDefault();
  token = at("token").value.trim();
  at("token").value = "";
  ask_first();
});
at("tabs").addEventListener("keydown", step);
at("filter").addEventListener("input", draw_tabs);
addEventListener("hashchange", () => pick(location.hash.slice(1)));
addEventListener("keydown", (event) => {
  if (event.target instanceof HTMLInputElement || event.ctrlKey || event.metaKey || event.altKey || hello === null) return;
  if (event.key === "/" && !at("filter").hidden) {
    event.preventDefault();
    at("filter").focus();
  } else if (/^[1-9]$/.test(event.key) && hello.symbols[event.key - 1]) {
    pick(hello.symbols[event.key - 1]);
  }
});
setInterval(draw_link, 500);
draw_tabs();
draw_book();
draw_link();
connect();
