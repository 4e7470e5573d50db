"use strict";
/* What the whole page needs: theme, address, sorting, the mark of the section in view, data that comes late. */
const ademvl = (() => {
  const waiting = new Map();
  window.ademvlReceive = (name, content) => {
    waiting.get(name)?.(content);
    waiting.delete(name);
  };

  /* Load one of the page's own data files when its section comes near the window. */
  function whenNear(section, name, use) {
    const watcher = new IntersectionObserver((entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      watcher.disconnect();
      const awaited = section.querySelector(".awaited");
      waiting.set(name, (content) => {
        use(content);
        awaited?.classList.remove("awaited");
      });
      const script = document.createElement("script");
      script.src = section.dataset.script;
      script.onerror = () => {
        awaited?.classList.remove("awaited");
        const note = element("p", { className: "callout bad" });
        note.textContent = `${section.dataset.script} cannot be loaded: keep it beside this page.`;
        section.append(note);
      };
      document.head.append(script);
    }, { rootMargin: "600px" });
    watcher.observe(section);
  }

  /* Create an element; texts are set as texts, never as markup. */
  function element(tag, properties = {}, ...children) {
    const node = Object.assign(document.createElement(tag), properties);
    node.append(...children.filter((child) => child !== null && child !== undefined));
    return node;
  }

  /* What is open stands in the page's address, as #section?name=value, so that it can be passed on. */
  const address = (() => {
    const watchers = new Map();
    const section = () => location.hash.slice(1).split("?")[0];
    const hash = (id, state) => {
      const query = new URLSearchParams(Object.entries(state)).toString();
      return `#${id}${query ? `?${query}` : ""}`;
    };
    window.addEventListener("hashchange", () => watchers.get(section())?.());
    return {
      section,
      hash,
      read: (id) => new URLSearchParams(section() === id ? location.hash.split("?")[1] : ""),
      write: (id, state) => {
        try { history.replaceState(null, "", hash(id, state)); } catch { /* not allowed here, or too often */ }
      },
      watch: (id, use) => watchers.set(id, use),
    };
  })();

  function setUpTheme() {
    const button = document.getElementById("theme");
    const names = ["automatic", "light", "dark"];
    let name = "automatic";
    try { name = localStorage.getItem("ademvl-theme") ?? name; } catch { /* not allowed here */ }
    const apply = () => {
      if (name === "automatic") delete document.documentElement.dataset.theme;
      else document.documentElement.dataset.theme = name;
      button.textContent = `Theme: ${name}`;
    };
    button.addEventListener("click", () => {
      name = names[(names.indexOf(name) + 1) % names.length];
      try { localStorage.setItem("ademvl-theme", name); } catch { /* not allowed here */ }
      apply();
    });
    if (!names.includes(name)) name = "automatic";
    button.hidden = false;
    apply();
  }

  function setUpSorting() {
    const number = (text) => {
      const value = parseFloat(text);
      return Number.isNaN(value) ? -Infinity : value;
    };
    Tablesort.extend("figure", () => false, (a, b) => (number(b) > number(a) ? 1 : number(b) < number(a) ? -1 : 0));
    for (const table of document.querySelectorAll("table.data")) {
      const head = [...(table.tHead?.rows ?? [])].find((row) => row.querySelector('th[scope="col"]'));
      if (!head || ![...table.tBodies].some((body) => body.rows.length > 1)) continue;
      head.dataset.sortMethod = "thead";
      for (const cell of head.cells) {
        if (cell.classList.contains("no-sort")) cell.dataset.sortMethod = "none";
        else if (cell.classList.contains("number")) cell.dataset.sortMethod = "figure";
      }
      for (const row of table.querySelectorAll("tr.section")) row.dataset.sortMethod = "none";
      new Tablesort(table, { sortAttribute: "data-sort-value" });
      for (const cell of head.cells) if (cell.scope !== "col") cell.removeAttribute("role");
    }
  }

  function setUpNavigation() {
    const links = new Map();
    for (const link of document.querySelectorAll("nav a[href^='#']")) {
      const target = document.getElementById(link.hash.slice(1));
      if (target) links.set(target, link);
    }
    const visible = new Set();
    const watcher = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        if (entry.isIntersecting) visible.add(entry.target);
        else visible.delete(entry.target);
      }
      const current = [...links.keys()].filter((target) => visible.has(target)).pop();
      if (!current) return;
      for (const [target, link] of links) {
        if (target === current) link.setAttribute("aria-current", "true");
        else link.removeAttribute("aria-current");
      }
    }, { rootMargin: "-15% 0px -75% 0px" });
    for (const target of links.keys()) watcher.observe(target);
  }

  /* Where there is no room beside the sections, their list opens over them; a choice closes it. */
  function setUpContents() {
    const list = document.getElementById("contents");
    list.addEventListener("click", ({ target }) => {
      if (target.tagName === "A" && list.matches(":popover-open")) list.hidePopover();
    });
  }

  /* A table that is wider than its place says so, and keeps its first and last column in sight. */
  function setUpWideTables() {
    const mark = (frame) => {
      const hidden = frame.scrollWidth - frame.clientWidth;
      frame.classList.toggle("wide", hidden > 1);
      frame.classList.toggle("more", hidden > 1 && frame.scrollLeft < hidden - 1);
    };
    const watcher = new ResizeObserver((entries) => entries.forEach(({ target }) => mark(target)));
    for (const frame of document.querySelectorAll(".scroll")) {
      frame.addEventListener("scroll", () => mark(frame), { passive: true });
      watcher.observe(frame);
    }
  }

  /* A link into a closed part of the page opens it. */
  function setUpLinks() {
    const reveal = () => {
      const target = location.hash && document.getElementById(address.section());
      for (let node = target; node; node = node.parentElement) if (node.tagName === "DETAILS") node.open = true;
      target?.scrollIntoView?.();
    };
    window.addEventListener("hashchange", reveal);
    if (location.hash) reveal();
  }

  setUpTheme();
  setUpContents();
  setUpLinks();
  setUpWideTables();
  setUpSorting();
  setUpNavigation();
  return { element, whenNear, address };
})();
