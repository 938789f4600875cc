"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const CHUNK = 60;
  const [FILE, LINE, COLUMN, CELL, RULE, CLASS, EFFORT, SYMBOL, REASON, BEFORE, AFTER, START, SNIPPET, ACCEPTED, WRITTEN] =
    Array(15).keys();
  const rules = data.rules.map(([code, name, title, family, why, advice, links]) =>
    ({ code, name, title, family, why, advice, links }));
  const QUIET = data.classes.flatMap(([name], at) => name === "information" || name === "advice" ? [at] : []);

  // User code enters the page here and nowhere else: as text.
  const make = (tag, className, ...children) => {
    const node = document.createElement(tag);
    if (className) node.className = className;
    for (const child of children) if (child !== null) node.append(child);
    return node;
  };
  const withCode = (node, text) => {
    text.split(/`([^`]+)`/).forEach((part, i) => node.append(i % 2 ? make("code", "", part) : part));
    return node;
  };
  const place = (site) => (site[CELL] ? `cell ${site[CELL]}:` : "") + `${site[LINE]}:${site[COLUMN]}`;
  const own = (site) => {
    const line = site[SNIPPET][site[LINE] - site[START]];
    return line === undefined ? site[BEFORE].split("\n")[0] : line;
  };

  // Colours ------------------------------------------------------------------------------------
  const KEYWORDS = "False|None|True|and|as|assert|async|await|break|class|continue|def|del|elif|else|except|finally|" +
    "for|from|global|if|import|in|is|lambda|nonlocal|not|or|pass|raise|return|try|while|with|yield";
  const TOKENS = new RegExp(
    "(#.*$)|([rRbBuUfF]{0,2}(?:\"\"\"[^]*?(?:\"\"\"|$)|'''[^]*?(?:'''|$)|\"(?:\\\\.|[^\"\\\\])*(?:\"|$)|'(?:\\\\.|[^'\\\\])*(?:'|$)))" +
    `|\\b(${KEYWORDS})\\b|(\\b\\d[\\d_.eExXa-fA-F]*\\b)|(@[\\w.]+)`, "g");
  const tokens = (line) => {
    if (line.length > 2000) return [[line, ""]];
    const found = [];
    let at = 0;
    for (const match of line.matchAll(TOKENS)) {
      if (match.index > at) found.push([line.slice(at, match.index), ""]);
      const kind = match[1] ? "c" : match[2] ? "s" : match[3] ? "k" : match[4] ? "m" : "d";
      found.push([match[0], kind]);
      at = match.index + match[0].length;
    }
    if (at < line.length) found.push([line.slice(at), ""]);
    return found;
  };
  // Writes a line into a cell; [from, to) is marked.
  const paint = (cell, line, from = -1, to = -1) => {
    let at = 0;
    // What wraps starts below the code of its line, not at the edge.
    const indent = Math.min(/^\s*/.exec(line)[0].length, 40) + 2;
    cell.style.paddingLeft = `calc(.6rem + ${indent}ch)`;
    cell.style.textIndent = `-${indent}ch`;
    for (const [text, kind] of tokens(line)) {
      const cuts = [0, from - at, to - at, text.length].map((n) => Math.min(Math.max(n, 0), text.length));
      for (let i = 0; i < 3; i++) {
        const piece = text.slice(cuts[i], cuts[i + 1]);
        if (!piece) continue;
        const inner = kind ? make("span", kind, piece) : piece;
        cell.append(i === 1 && from >= 0 ? make("mark", "", inner) : inner);
      }
      at += text.length;
    }
    if (!line) cell.append("\u200b");
    return cell;
  };
  const difference = (a, b) => {
    let start = 0;
    while (start < a.length && start < b.length && a[start] === b[start]) start++;
    let end = 0;
    while (end < a.length - start && end < b.length - start && a[a.length - 1 - end] === b[b.length - 1 - end]) end++;
    if (start + end === 0 || Math.max(a.length, b.length) - start - end > 0.8 * Math.max(a.length, b.length)) return null;
    return [[start, a.length - end], [start, b.length - end]];
  };

  // Diffs --------------------------------------------------------------------------------------
  const wide = matchMedia("(min-width: 900px)");
  let split = wide.matches;
  // By how many lines the shorter side starts later, so that lines face those that they became.
  const offset = (cut, add) => {
    const spare = add.length - cut.length;
    const [short, long] = spare > 0 ? [cut, add] : [add, cut];
    if (!short.length || !spare || short.length * long.length > 4000) return 0;
    let best = 0, most = -1;
    for (let shift = 0; shift <= long.length - short.length; shift++) {
      const score = short.reduce((sum, line, i) => sum + alike(line, long[i + shift]), 0);
      if (score > most) [best, most] = [shift, score];
    }
    return spare > 0 ? best : -best;
  };
  const alike = (a, b) => {
    const found = difference(a, b);
    return found ? a.trim().length - (found[0][1] - found[0][0]) : 0;
  };
  // Pairs of lines: [old number, old text, new number, new text]; a side may be absent.
  const pairs = (hunk) => {
    let [oldLine, newLine] = hunk;
    const rows = [];
    let cut = [], add = [];
    const flush = () => {
      const shift = offset(cut.map((line) => line[1]), add.map((line) => line[1]));
      for (let i = 0; i < Math.max(cut.length, add.length); i++) {
        const left = cut[i - Math.max(shift, 0)], right = add[i + Math.min(shift, 0)];
        rows.push([...(left || [0, null]), ...(right || [0, null]), true]);
      }
      cut = []; add = [];
    };
    for (const raw of hunk[2]) {
      const text = raw.slice(1).replace(/\r$/, "");
      if (raw[0] === "-") cut.push([oldLine++, text]);
      else if (raw[0] === "+") add.push([newLine++, text]);
      else if (raw[0] === " " || raw === "") { flush(); rows.push([oldLine++, text, newLine++, text, false]); }
    }
    flush();
    return rows;
  };
  const sheet = (hunks, marks) => {
    const body = make("tbody");
    hunks.forEach((hunk, index) => {
      if (index) body.append(make("tr", "gap", Object.assign(make("td", "", "\u22ef"), { colSpan: 4 })));
      const rows = pairs(hunk);
      if (split) for (const row of rows) body.append(splitRow(row, marks));
      else unifiedRows(rows, marks).forEach((row) => body.append(row));
    });
    return make("div", split ? "sheet split" : "sheet", make("table", "", body));
  };
  const numberCell = (number, marks) => {
    const cell = make("td", "n", number ? String(number) : "");
    if (number && marks && marks.has(number)) cell.title = marks.get(number);
    return cell;
  };
  const splitRow = ([oldNumber, oldText, newNumber, newText, changed], marks) => {
    const spans = changed && oldText !== null && newText !== null ? difference(oldText, newText) : null;
    const left = oldText === null ? make("td", "empty") : paint(make("td", changed ? "cut" : ""), oldText, ...(spans ? spans[0] : []));
    const right = newText === null ? make("td", "empty") : paint(make("td", changed ? "add" : ""), newText, ...(spans ? spans[1] : []));
    return make("tr", "", numberCell(oldNumber, marks), left, numberCell(newNumber), right);
  };
  const unifiedRows = (rows, marks) => {
    const out = [];
    let adds = [];
    const flush = () => { out.push(...adds); adds = []; };
    for (const [oldNumber, oldText, newNumber, newText, changed] of rows) {
      if (!changed) {
        flush();
        out.push(make("tr", "", numberCell(oldNumber, marks), numberCell(newNumber), paint(make("td"), oldText)));
        continue;
      }
      const spans = oldText !== null && newText !== null ? difference(oldText, newText) : null;
      if (oldText !== null) out.push(make("tr", "", numberCell(oldNumber, marks), make("td", "n"), paint(make("td", "cut"), oldText, ...(spans ? spans[0] : []))));
      if (newText !== null) adds.push(make("tr", "", make("td", "n"), numberCell(newNumber), paint(make("td", "add"), newText, ...(spans ? spans[1] : []))));
    }
    flush();
    return out;
  };
  const diffs = new Map(data.diffs);
  const drawDiff = (details, file) => {
    details.querySelector(".sheet")?.remove();
    const marks = new Map();
    for (const site of data.sites) {
      if (site[FILE] === file && site[WRITTEN]) {
        const code = rules[site[RULE]].code;
        marks.set(site[LINE], [marks.get(site[LINE]), code].filter(Boolean).join(", "));
      }
    }
    details.append(sheet(diffs.get(file), data.files[file].endsWith(".ipynb") ? null : marks));
  };
  const count = (hunks, mark) => hunks.reduce((n, hunk) => n + hunk[2].filter((line) => line[0] === mark).length, 0);
  const drawChanges = () => {
    const box = $("diffs");
    if (!box) return;
    for (const [file, hunks] of diffs) {
      const details = make("details", "file",
        make("summary", "", make("code", "", data.files[file]),
          make("span", "plus", `+${count(hunks, "+")}`), make("span", "minus", `\u2212${count(hunks, "-")}`)));
      details.dataset.file = file;
      details.addEventListener("toggle", () => { if (details.open && !details.querySelector(".sheet")) drawDiff(details, file); });
      box.append(details);
    }
    $("difftools").hidden = false;
    wide.addEventListener("change", () => { if (split !== wide.matches) $("split").click(); });
    const label = () => { $("split").textContent = split ? "One column" : "Side by side"; };
    label();
    $("split").addEventListener("click", () => {
      split = !split;
      label();
      for (const details of box.children) {
        if (details.open) drawDiff(details, Number(details.dataset.file));
        else details.querySelector(".sheet")?.remove();
      }
    });
    $("unfold").addEventListener("click", () => {
      const open = $("unfold").textContent === "Open all";
      for (const details of box.children) details.open = open;
      $("unfold").textContent = open ? "Close all" : "Open all";
    });
  };

  // Findings -----------------------------------------------------------------------------------
  const plain = data.sites.map((site) => {
    const rule = rules[site[RULE]];
    return [data.files[site[FILE]], rule.code, rule.name, site[SYMBOL], site[REASON], site[BEFORE], own(site), site[AFTER]]
      .join("\n").toLowerCase();
  });
  const active = new Set(data.classes.keys());
  QUIET.forEach((at) => active.delete(at));
  let rule = null;
  let shown = [];
  let drawn = 0;
  const all = data.sites.map((_, index) => index);
  const ORDERS = {
    class: (a, b) => data.sites[a][CLASS] - data.sites[b][CLASS] || a - b,
    place: (a, b) => a - b,
    effort: (a, b) => data.sites[b][EFFORT] - data.sites[a][EFFORT] || data.sites[a][CLASS] - data.sites[b][CLASS] || a - b,
  };

  const matches = () => {
    const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const family = $("family").value;
    const file = $("file").value.trim().toLowerCase();
    return all.filter((index) => {
      const site = data.sites[index];
      return (family === "" || rules[site[RULE]].family === Number(family)) && (rule === null || site[RULE] === rule) &&
        (!file || data.files[site[FILE]].toLowerCase().includes(file)) && words.every((word) => plain[index].includes(word));
    });
  };
  const filter = () => {
    const found = matches();
    const counts = data.classes.map(() => 0);
    for (const index of found) counts[data.sites[index][CLASS]]++;
    [...$("chips").children].forEach((chip) => {
      const at = Number(chip.dataset.at);
      chip.querySelector("b").textContent = counts[at].toLocaleString("en");
      chip.setAttribute("aria-pressed", String(active.has(at)));
    });
    shown = found.filter((index) => active.has(data.sites[index][CLASS])).sort(ORDERS[$("sort").value]);
    const list = $("list");
    list.replaceChildren();
    drawn = 0;
    if (!shown.length) list.append(make("p", "none", data.sites.length ? "Nothing matches these filters." : "Nothing was found."));
    append();
    const total = data.sites.length.toLocaleString("en");
    $("shown").textContent = `${shown.length.toLocaleString("en")} of ${total} findings` +
      (rule === null ? "" : `, rule ${rules[rule].code} only`);
    $("clear").hidden = !(rule !== null || $("search").value || $("family").value || $("file").value);
  };
  const append = (upTo = drawn + CHUNK) => {
    const rows = document.createDocumentFragment();
    for (; drawn < Math.min(upTo, shown.length); drawn++) rows.append(row(shown[drawn]));
    $("list").append(rows);
  };
  const row = (index) => {
    const site = data.sites[index];
    const [kind, label] = data.classes[site[CLASS]];
    const where = make("span", "where mono");
    where.append(make("bdi", "", `${data.files[site[FILE]]}:${place(site)}`));
    const code = make("span", "code mono");
    code.textContent = own(site).trim().slice(0, 200);
    const summary = make("summary", kind,
      make("span", "kind", make("i", "dot"), label + (site[ACCEPTED] ? " (baseline)" : "")),
      make("span", "rule mono", rules[site[RULE]].code), where, code,
      make("span", "effort", site[EFFORT] && !QUIET.includes(site[CLASS]) ? `${site[EFFORT]} pt` : ""));
    summary.lastChild.title = "effort points";
    const details = make("details", "row", summary);
    details.id = `s${index}`;
    details.addEventListener("toggle", () => { if (details.open && !details.querySelector(".body")) details.append(body(site)); });
    return details;
  };
  const body = (site) => {
    const about = rules[site[RULE]];
    const box = make("div", "body");
    box.append(make("p", "mono quiet", `${data.files[site[FILE]]}:${place(site)}`));
    if (site[REASON]) box.append(withCode(make("p", "reason"), site[REASON]));
    if (about.why) box.append(withCode(make("p", "why"), about.why.replace(/\s+/g, " ")));
    if (site[AFTER]) {
      if (!site[WRITTEN]) box.append(withCode(make("p", "quiet"), "`porter migrate --unsafe` would write:"));
      const lines = [...site[BEFORE].split(/\r\n|\r|\n/).map((l) => "-" + l), ...site[AFTER].split(/\r\n|\r|\n/).map((l) => "+" + l)];
      const one = !site[BEFORE].includes("\n");
      const part = sheet([[one ? site[LINE] : 0, 0, lines]]);
      if (!one) part.querySelectorAll(".n").forEach((cell) => { cell.textContent = ""; });
      part.querySelectorAll("tr > .n:nth-child(3), .add").forEach((cell) => { if (cell.classList.contains("n")) cell.textContent = ""; });
      box.append(part);
    } else if (site[SNIPPET].length) {
      const table = make("tbody");
      const indents = site[SNIPPET].filter((line) => line.trim()).map((line) => /^\s*/.exec(line)[0]);
      const indent = Math.min(...indents.map((each) => each.length));
      const same = indents.every((each) => each.slice(0, indent) === indents[0].slice(0, indent));
      site[SNIPPET].forEach((full, i) => {
        const line = same ? full.slice(indent) : full;
        const number = site[START] + i;
        table.append(make("tr", number === site[LINE] ? "own" : "", make("td", "n", String(number)), paint(make("td"), line)));
      });
      box.append(make("div", "sheet", make("table", "", table)));
    } else if (site[BEFORE]) {
      const table = make("tbody");
      for (const line of site[BEFORE].split("\n")) table.append(make("tr", "", paint(make("td"), line)));
      box.append(make("div", "sheet", make("table", "", table)));
    }
    const more = make("p", "more", withCode(make("span", "tag"), about.title || about.name), make("span", "tag", data.families[about.family]));
    if (site[SYMBOL]) more.append(make("span", "tag mono", site[SYMBOL]));
    if (diffs.has(site[FILE])) {
      const jump = make("button", "", "Diff of the file");
      jump.type = "button";
      jump.addEventListener("click", () => {
        const details = $("diffs").querySelector(`[data-file="${site[FILE]}"]`);
        details.open = true;
        details.scrollIntoView();
        details.firstChild.focus();
      });
      more.append(jump);
    }
    const copy = make("button", "", "Copy the place");
    copy.type = "button";
    copy.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(`${data.files[site[FILE]]}:${site[LINE]}:${site[COLUMN]}`);
        copy.textContent = "Copied";
      } catch { copy.textContent = "Not allowed here"; }
    });
    more.append(copy);
    for (const url of about.links) {
      const link = make("a", "", url.replace(/^https:\/\/|#.*$/g, ""));
      link.href = url;
      link.rel = "noreferrer";
      more.append(link);
    }
    box.append(more);
    return box;
  };
  const open = (index) => {
    let at = shown.indexOf(index);
    if (at < 0) {
      clear();
      active.add(data.sites[index][CLASS]);
      filter();
      at = shown.indexOf(index);
    }
    if (at >= drawn) append(at + CHUNK);
    const details = $(`s${index}`);
    details.open = true;
    details.firstChild.focus({ preventScroll: true });
    details.scrollIntoView({ block: "center" });
  };
  const clear = () => {
    $("filters").reset();
    rule = null;
  };
  const only = (kinds) => {
    active.clear();
    data.classes.forEach(([name], at) => { if (kinds.includes(name)) active.add(at); });
  };
  const everything = () => { data.classes.forEach((_, at) => { if (!QUIET.includes(at)) active.add(at); }); };
  const goTo = () => { filter(); $("findings").scrollIntoView(); };

  // Set up -------------------------------------------------------------------------------------
  data.classes.forEach(([kind, label], at) => {
    if (!data.sites.some((site) => site[CLASS] === at)) return;
    const chip = make("button", kind, make("i", "dot"), label, make("b"));
    chip.type = "button";
    chip.dataset.at = at;
    chip.addEventListener("click", () => { active.has(at) ? active.delete(at) : active.add(at); filter(); });
    $("chips").append(chip);
  });
  for (const path of [...new Set(data.sites.map((site) => data.files[site[FILE]]))].slice(0, 2000)) {
    $("paths").append(Object.assign(document.createElement("option"), { value: path }));
  }
  $("filters").hidden = false;
  $("filters").addEventListener("submit", (event) => event.preventDefault());
  $("clear").addEventListener("click", () => { clear(); filter(); });
  let waiting = 0;
  for (const id of ["search", "file"]) {
    $(id).addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(filter, 120); });
  }
  for (const id of ["family", "sort"]) $(id).addEventListener("change", filter);
  document.querySelectorAll("button[data-rule]").forEach((button) => {
    button.hidden = false;
    button.addEventListener("click", () => {
      clear();
      rule = rules.findIndex((each) => each.code === button.dataset.rule);
      only(button.dataset.classes.split(" "));
      goTo();
    });
  });
  document.querySelectorAll("button[data-family]").forEach((button) => button.addEventListener("click", () => {
    clear();
    everything();
    $("family").value = String(data.families.indexOf(button.dataset.family));
    goTo();
  }));
  document.querySelectorAll("button[data-file]").forEach((button) => button.addEventListener("click", () => {
    clear();
    everything();
    $("file").value = button.dataset.file;
    goTo();
  }));
  const follow = () => {
    const match = /^#s(\d+)$/.exec(location.hash);
    if (match && Number(match[1]) < data.sites.length) open(Number(match[1]));
  };
  addEventListener("hashchange", follow);
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href^='#s']");
    if (link && link.getAttribute("href") === location.hash) follow();
  });
  new IntersectionObserver((entries) => { if (entries.some((entry) => entry.isIntersecting)) append(); }, { rootMargin: "800px" })
    .observe($("more"));
  addEventListener("beforeprint", () => append(drawn + 1000));

  const theme = (name) => { document.documentElement.dataset.theme = name; };
  const dark = () => (document.documentElement.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  for (const id of ["theme", "keys"]) $(id).hidden = false;
  $("theme").addEventListener("click", () => theme(dark() ? "light" : "dark"));
  $("keys").addEventListener("click", () => $("help").showModal());

  const move = (step) => {
    const rows = $("list").children;
    const at = [...rows].indexOf(document.activeElement?.closest?.(".row"));
    const next = at < 0 ? 0 : at + step;
    if (next >= rows.length) append();
    const target = rows[Math.max(0, next)];
    if (!target?.matches(".row")) return;
    target.firstChild.focus({ preventScroll: true });
    target.scrollIntoView({ block: at < 0 ? "center" : "nearest" });
  };
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || $("help").open) return;
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
    if (event.key === "Escape" && event.target === $("search")) {
      event.preventDefault();
      clearTimeout(waiting);
      $("search").value = "";
      filter();
      $("search").blur();
    }
    if (typing) return;
    const actions = {
      "/": () => $("search").focus(), j: () => move(1), k: () => move(-1),
      t: () => $("theme").click(), "?": () => $("help").showModal(),
    };
    if (actions[event.key]) { event.preventDefault(); actions[event.key](); }
  });

  drawChanges();
  filter();
  follow();
  document.documentElement.dataset.ready = "yes";
})();
