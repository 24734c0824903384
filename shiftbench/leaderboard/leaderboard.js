"use strict";
// Sorts and filters the table, and shows two pairs side by side. Text from runs is only ever assigned to textContent, so
// it is never read as HTML. Pictures are clones of those in the table, so their geometry is computed in one place.
(() => {
  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("data").textContent);
  const body = $("table").tBodies[0];
  const rows = [...body.rows];
  const heads = [...$("table").tHead.rows[0].cells];
  const sorters = heads.map((head) => head.querySelector("button.sort"));
  const filters = [...document.querySelectorAll("select[data-of]")];
  const element = (tag, className, text) => {
    const created = document.createElement(tag);
    if (className) created.className = className;
    if (text !== undefined) created.textContent = text;
    return created;
  };

  // Sorting. Rows without a value come last in both directions.
  const order = new Intl.Collator("en", { numeric: true });
  function sortBy(column, direction) {
    const number = sorters[column].dataset.kind === "number";
    const sign = direction === "ascending" ? 1 : -1;
    const value = (row) => row.cells[column].dataset.sort;
    rows.sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === "" || y === "") return (x === "") - (y === "");
      return sign * (number ? x - y : order.compare(x, y));
    });
    heads.forEach((head, i) => sorters[i] && head.setAttribute("aria-sort", i === column ? direction : "none"));
    body.append(...rows);
    $("sort").value = sorters[column].dataset.key;
  }
  function sortOrReverse(column) {
    const first = sorters[column].dataset.key === "name" ? "ascending" : "descending";
    const other = first === "ascending" ? "descending" : "ascending";
    sortBy(column, heads[column].getAttribute("aria-sort") === first ? other : first);
  }
  sorters.forEach((button, column) => button && button.addEventListener("click", () => sortOrReverse(column)));
  $("sort").addEventListener("change", (event) => {
    const column = sorters.findIndex((button) => button && button.dataset.key === event.target.value);
    sortBy(column, event.target.value === "name" ? "ascending" : "descending");
  });

  // Filtering. Each word of the search must occur in the names of the pair or of its models.
  function filter() {
    const words = $("find").value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = row.querySelector(".name").textContent.toLowerCase();
      row.hidden = !(words.every((word) => text.includes(word)) &&
        filters.every((select) => !select.value || row.dataset[select.dataset.of] === select.value));
      shown += !row.hidden;
    }
    $("shown").textContent = `${shown} of ${rows.length} pairs`;
    $("empty").hidden = shown > 0;
    $("clear").hidden = !(words.length || filters.some((select) => select.value));
  }
  $("find").addEventListener("input", filter);
  filters.forEach((select) => select.addEventListener("change", filter));
  $("clear").addEventListener("click", () => {
    $("find").value = "";
    filters.forEach((select) => { select.value = ""; });
    filter();
    $("find").focus();
  });

  // Choosing two pairs to compare. A third one replaces the first.
  let chosen = [];
  const name = (row) => row.querySelector(".pair").textContent;
  function choose(row, on) {
    chosen = chosen.filter((other) => other !== row);
    if (on) chosen = [...chosen.slice(-1), row];
    rows.forEach((each) => {
      each.querySelector(".compare").checked = chosen.includes(each);
      each.classList.toggle("chosen", chosen.includes(each));
    });
    $("tray").hidden = chosen.length === 0;
    document.body.classList.toggle("choosing", chosen.length > 0);
    $("chosen").textContent = chosen.length === 2 ? chosen.map(name).join(" and ") :
      chosen.length ? `${name(chosen[0])}: choose a second pair` : "";
    $("open").disabled = chosen.length !== 2;
  }
  rows.forEach((row) => row.querySelector(".compare").addEventListener("change", (e) => choose(row, e.target.checked)));
  $("none").addEventListener("click", () => {
    const [last] = chosen.slice(-1);
    chosen.forEach((row) => choose(row, false));
    if (last) last.querySelector(".compare").focus();
  });

  // The dialog that shows two pairs side by side.
  function title(row, which) {
    const box = element("div", `who ${which}`);
    box.append(element("h3", "", name(row)), row.querySelector(".models").cloneNode(true));
    const flags = row.querySelector(".flags");
    if (flags) box.append(flags.cloneNode(true));
    const link = row.querySelector("a.pair");
    if (link) {
      const report = element("a", "report", "Open the report");
      report.href = link.getAttribute("href");
      box.append(report);
    }
    return box;
  }
  function overlapping(x, y) {
    if (!x || !y || !x[5] || !y[5]) return "";
    return x[3] > y[4] || y[3] > x[4] ? "intervals do not overlap" : "intervals overlap";
  }
  function table(caption, names, cells) {
    const box = element("table", "plain");
    box.append(element("caption", "", caption));
    const head = box.createTHead().insertRow();
    for (const text of ["", ...names]) head.append(Object.assign(element("th", "", text), { scope: "col" }));
    const rest = box.createTBody();
    for (const [label, ...values] of cells) {
      const line = rest.insertRow();
      line.append(Object.assign(element("th", "", label), { scope: "row" }));
      for (const value of values) line.insertCell().append(value);
    }
    const scroll = element("div", "scroll");
    scroll.tabIndex = 0;
    scroll.setAttribute("role", "region");
    scroll.setAttribute("aria-label", caption);
    scroll.append(box);
    return scroll;
  }
  function scores(first, second) {
    const key = (score) => JSON.stringify(score.slice(0, 2));
    const [x, y] = [first, second].map((pair) => new Map(pair.scores.map((score) => [key(score), score])));
    return [...new Set([...x.keys(), ...y.keys()])].map((each) => {
      const [mine, other] = [x.get(each), y.get(each)];
      const text = (score) => (score ? score[2] : "not scored");
      return [(mine || other).slice(0, 2).join(": "), text(mine), text(other), overlapping(mine, other)];
    });
  }
  function verdicts(first, second) {
    const text = ([, word, reasons]) => (reasons ? `${word}: ${reasons}` : word);
    return first.verdicts.map((mine, i) => [mine[0], text(mine), text(second.verdicts[i])]);
  }
  function headlines(a, b) {
    const list = element("div", "headlines");
    [...a.querySelectorAll("td.score")].forEach((cell, i) => {
      const line = element("div", "headline");
      line.append(element("h4", "", cell.dataset.label));
      for (const [row, which] of [[a, "a"], [b, "b"]]) {
        const side = row.querySelectorAll("td.score")[i].firstElementChild.cloneNode(true);
        side.classList.add(which);
        line.append(side);
      }
      list.append(line);
    });
    return list;
  }
  function show() {
    const [a, b] = chosen;
    const [first, second] = [data[a.dataset.stem], data[b.dataset.stem]];
    const top = element("div", "top");
    const close = element("button", "close", "Close");
    close.type = "button";
    close.addEventListener("click", () => $("side").close());
    top.append(Object.assign(element("h2", "", "Side by side"), { id: "side-title" }), close);
    const pairs = element("div", "two");
    pairs.append(title(a, "a"), title(b, "b"));
    const names = [name(a), name(b)];
    const [mine, other] = [new Map(first.facts), new Map(second.facts)];
    const facts = [...new Set([...mine.keys(), ...other.keys()])].map((label) =>
      [label, mine.get(label) || "", other.get(label) || ""]);
    $("side").replaceChildren(top, pairs, headlines(a, b),
      table("Verdicts", names, verdicts(first, second)), table("Every score", [...names, ""], scores(first, second)), table("How each run was made", names, facts));
    $("side").showModal();
    $("side").scrollTop = 0;
    history.replaceState(null, "", `#compare=${a.dataset.stem}&with=${b.dataset.stem}`);
  }
  $("open").addEventListener("click", show);
  $("side").addEventListener("close", () => {
    history.replaceState(null, "", location.pathname + location.search);
    $("open").focus();
  });
  $("side").addEventListener("click", (event) => { if (event.target === $("side")) $("side").close(); });

  // An address that ends in #compare=A&with=B opens with these two pairs side by side.
  const parameters = new URLSearchParams(location.hash.slice(1));
  const both = ["compare", "with"].map((word) => rows.find((row) => row.dataset.stem === parameters.get(word)));
  if (both.every(Boolean) && both[0] !== both[1]) {
    both.forEach((row) => choose(row, true));
    show();
  }
  document.querySelector(".controls").hidden = false;
  document.body.classList.add("live");
  filter(); // a browser that goes back keeps what was typed
})();
