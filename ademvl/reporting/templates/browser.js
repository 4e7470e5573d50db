/* Browsing of all questions and captions: filters, text search, pages of twenty, all in the address. */
(() => {
  const { element, whenNear, address } = ademvl;
  const PAGE_SIZE = 20;
  const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

  class Browser {
    constructor(section, data) {
      this.key = section.id;
      this.data = data;
      this.kind = section.dataset.shown === "questions" ? QUESTIONS : CAPTIONS;
      this.form = section.querySelector("form");
      this.list = section.querySelector(".items");
      this.count = section.querySelector(".count");
      this.page = 0;
      this.buildPager(section.querySelector(".pager"));
      this.form.addEventListener("input", () => this.filter());
      this.form.addEventListener("submit", (event) => event.preventDefault());
      this.form.addEventListener("reset", () => setTimeout(() => this.filter()));
      this.fromAddress();
      address.watch(this.key, () => this.fromAddress());
      const prepare = () => data.items.forEach((item) => this.searchedText(item));
      requestAnimationFrame(() => setTimeout(prepare)); // the first items are painted by then
    }

    /* The text that words are looked for in, made once. */
    searchedText(item) {
      item.search ??= this.kind.searched(item).join("\n").toLowerCase();
      return item.search;
    }

    /* Set filters, page and item to what the address says of this section. */
    fromAddress() {
      const given = address.read(this.key);
      for (const field of this.form.elements) {
        if (!field.name) continue;
        const [first] = field.options ?? [], value = given.get(field.name) ?? first?.value ?? "";
        const isKnown = !first || [...field.options].some((option) => option.value === value);
        field.value = isKnown ? value : first.value;
      }
      this.search();
      const place = this.found.findIndex(({ id }) => id === given.get("item"));
      this.item = place >= 0 ? given.get("item") : null;
      const page = Math.floor(place >= 0 ? place / PAGE_SIZE : Number(given.get("page")) - 1);
      this.page = page > 0 && page * PAGE_SIZE < this.found.length ? page : 0;
      this.show();
      this.list.querySelector("[aria-current]")?.scrollIntoView({ block: "center" });
    }

    /* What the address says: filters that are not at their first value, and the page. */
    get state() {
      const values = [...new FormData(this.form)].filter(([name, value]) => {
        const [first] = this.form.elements[name].options ?? [];
        return value !== (first?.value ?? "");
      });
      return { ...Object.fromEntries(values), ...(this.page ? { page: this.page + 1 } : {}) };
    }

    buildPager(pager) {
      const turn = (step) => () => {
        this.page += step;
        this.item = null;
        this.show();
        address.write(this.key, this.state);
        this.list.scrollIntoView({ block: "start" });
        this.list.querySelector(".item")?.focus({ preventScroll: true });
      };
      this.back = element("button", { type: "button", textContent: "← Previous", onclick: turn(-1) });
      this.next = element("button", { type: "button", textContent: "Next →", onclick: turn(1) });
      this.place = element("span", { className: "numbers" });
      pager.append(this.back, this.place, this.next);
      const below = element("div", { className: "pager" });
      this.nextBelow = element("button", { type: "button", textContent: "Next →", onclick: turn(1) });
      below.append(this.nextBelow);
      this.list.after(below);
    }

    filter() {
      this.search();
      this.page = 0;
      this.item = null;
      this.show();
      address.write(this.key, this.state);
    }

    /* Find the items that the form asks for, in its order. */
    search() {
      const values = Object.fromEntries(new FormData(this.form));
      const words = values.text.toLowerCase().split(/\s+/).filter(Boolean);
      const wanted = this.kind.test(values, this.data);
      this.found = this.data.items.filter(
        (item) => wanted(item) && words.every((word) => this.searchedText(item).includes(word)),
      );
      this.kind.sort(this.found, values);
      this.words = words;
    }

    show() {
      const total = this.found.length;
      const pages = Math.max(1, Math.ceil(total / PAGE_SIZE));
      const all = this.data.items.length;
      const of = total === all ? "" : ` of ${all.toLocaleString("en")}`;
      this.count.textContent = `${total.toLocaleString("en")}${of} ${this.kind.noun}`;
      this.place.textContent = `Page ${this.page + 1} of ${pages}`;
      this.back.disabled = this.page === 0;
      this.next.disabled = this.nextBelow.disabled = this.page >= pages - 1;
      const shown = this.found.slice(this.page * PAGE_SIZE, (this.page + 1) * PAGE_SIZE);
      const { state } = this;
      this.list.replaceChildren(...shown.map((item) => {
        const link = element("a", { href: address.hash(this.key, { ...state, item: item.id }), textContent: item.id });
        link.setAttribute("aria-label", `Link to ${item.id}`);
        const card = this.kind.render(item, this.data, this.words, link);
        if (item.id === this.item) card.setAttribute("aria-current", "true");
        return card;
      }));
    }
  }

  /* A text with the searched words marked. */
  function marked(text, words) {
    const node = document.createDocumentFragment();
    const long = (words ?? []).filter((word) => word.length > 1);
    if (!long.length) { node.append(text); return node; }
    const escaped = long.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
    for (const [place, part] of text.split(new RegExp(`(${escaped.join("|")})`, "gi")).entries()) {
      node.append(place % 2 ? element("mark", { textContent: part }) : part);
    }
    return node;
  }

  function card(item, alt, ...content) {
    const picture = element("div", { className: "picture" });
    if (item.image) {
      const [src, width, height] = item.image;
      const small = width < 160 ? "small" : "";
      picture.append(element("img", { src, width, height, alt, loading: "lazy", className: small }));
    } else {
      const text = item.hasImage ? "image not found" : "no image";
      picture.append(element("div", { className: "none", textContent: text }));
    }
    return element("li", { className: "item", tabIndex: -1 }, picture, element("div", {}, ...content));
  }

  function badge(isRight, text) {
    const node = element("span", { className: `badge ${isRight ? "good" : "bad"}`, textContent: text });
    node.dataset.sign = isRight ? "✓ " : "✗ ";
    return node;
  }

  function grid(headers, rows) {
    const head = headers.map((text) => element("th", { scope: "col", textContent: text }));
    const body = rows.map(([name, ...cells]) => element(
      "tr", {}, element("th", { scope: "row", textContent: name }),
      ...cells.map((cell) => element("td", {}, cell)),
    ));
    return element("table", {}, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...body));
  }

  /* Join seeds of a run that gave the same: [label of run and seeds, place of one of them], in order. */
  function together(runs, given) {
    const found = new Map();
    runs.forEach(({ name, seed }, place) => {
      const key = JSON.stringify([name, given(place)]);
      if (!found.has(key)) found.set(key, { name, seeds: [], place });
      if (seed !== null) found.get(key).seeds.push(seed);
    });
    return [...found.values()].map(({ name, seeds, place }) => {
      if (seeds.length < 2) return [runs[place].label, place];
      const isAll = runs.filter((run) => run.name === name).length === seeds.length;
      return [`${name}, ${isAll ? `${seeds.length} seeds` : `seeds ${seeds.join(", ")}`}`, place];
    });
  }

  function raw(text, words) {
    return element("span", { className: "raw" }, marked(text, words));
  }

  function letter(index) {
    return LETTERS[index] ?? "?";
  }

  const QUESTIONS = {
    noun: "questions",

    searched: (item) => [
      item.id, item.question, ...item.choices, item.about, item.skill,
      ...item.prompts.map(([text]) => text), ...item.texts,
    ],

    test(values, data) {
      const category = (name) => (values[name] ? data.categories.indexOf(values[name]) : -1);
      const wanted = data.filters.map(category).filter((index) => index >= 0);
      const first = values.first ? Number(values.first) : -1;
      const second = values.second ? Number(values.second) : -1;
      const right = (item, run) => item.chosen[run] === item.answer;
      const outcomes = {
        "all": () => true,
        "wrong": (item) => item.chosen.some((index) => index !== item.answer),
        "all-wrong": (item) => item.chosen.every((index) => index !== item.answer),
        "right": (item) => item.chosen.every((index) => index === item.answer),
        "disagree": (item) => item.chosen.some((index) => index !== item.chosen[0]),
        "none": (item) => item.chosen.some((index) => index < 0),
      };
      const is = (item, run, state) => {
        const runs = run >= 0 ? [run] : item.chosen.map((_, place) => place);
        if (state === "right") return runs.some((place) => right(item, place));
        if (state === "wrong") return runs.some((place) => !right(item, place));
        if (state === "other") {
          const others = first >= 0 ? [first] : item.chosen.map((_, place) => place);
          return runs.some((a) => others.some((b) => item.chosen[a] !== item.chosen[b]));
        }
        return true;
      };
      const outcome = outcomes[values.outcome] ?? outcomes.all;
      return (item) => outcome(item)
        && wanted.every((index) => item.categories.includes(index))
        && is(item, first, values["first-is"])
        && is(item, second, values["second-is"]);
    },

    sort() {},

    render(item, data, words, link) {
      const choices = item.choices.map((text, index) => element(
        "li", { className: index === item.answer ? "right" : "" },
        element("span", { className: "letter", textContent: letter(index) }),
        element("span", {}, marked(text, words)),
        index === item.answer ? badge(true, "answer") : null,
      ));
      const answers = together(data.runs, (place) => [item.chosen[place], item.texts[place]]).map(([label, place]) => {
        const chosen = item.chosen[place];
        const isRight = chosen === item.answer;
        const given = chosen < 0 ? "no choice" : letter(chosen);
        return [label, badge(isRight, `${given}, ${isRight ? "right" : "wrong"}`), raw(item.texts[place], words)];
      });
      const prompts = item.prompts.map(([text, runs]) => {
        const who = item.prompts.length > 1 ? `: ${runs.map((run) => data.runs[run].label).join("; ")}` : "";
        const pre = element("pre", { className: "raw", tabIndex: 0 });
        const node = element("details", {}, element("summary", { textContent: `Prompt${who}` }), pre);
        node.addEventListener("toggle", () => pre.replaceChildren(marked(text, words)), { once: true });
        return node;
      });
      return card(
        item, `Image of question ${item.id}`,
        element("h4", {}, marked(item.question, words)),
        element("p", { className: "about" }, link, marked(` · ${item.about}${item.skill ? ` · ${item.skill}` : ""}`, words)),
        element("ol", { className: "choices" }, ...choices),
        grid(["run", "choice", "raw output"], answers),
        ...prompts,
      );
    },
  };

  const CAPTIONS = {
    noun: "images",

    searched: (item) => [item.id, ...item.references, ...item.captions, ...item.texts],

    test(values) {
      if (values.outcome !== "disagree" && !values.second) return () => true;
      const first = values.first ? Number(values.first) : -1;
      const second = values.second ? Number(values.second) : -1;
      const all = (item) => item.captions.map((_, place) => place);
      return (item) => (first >= 0 ? [first] : all(item)).some((a) =>
        (second >= 0 ? [second] : all(item)).some((b) => item.captions[a] !== item.captions[b]));
    },

    sort(items, values) {
      const run = values.first ? Number(values.first) : 0;
      const keys = {
        short: (item) => item.lengths[run],
        long: (item) => -item.lengths[run],
        overlap: (item) => item.known[run],
      };
      const key = keys[values.order];
      if (key) items.sort((a, b) => key(a) - key(b));
    },

    render(item, data, words, link) {
      const given = (place) => [item.captions[place], item.texts[place]];
      const captions = together(data.runs, given).map(([label, place]) => [
        label, element("span", {}, marked(item.captions[place], words)), raw(item.texts[place], words),
      ]);
      const references = item.references.map((text) => element("li", {}, marked(text, words)));
      return card(
        item, `Image ${item.id}`,
        element("h4", {}, "Image ", link),
        grid(["run", "caption", "raw output"], captions),
        element("p", { className: "about", textContent: "Reference captions" }),
        element("ul", { className: "references" }, ...references),
      );
    },
  };

  for (const section of document.querySelectorAll(".browser")) {
    if (section.dataset.script) whenNear(section, section.dataset.key, (data) => new Browser(section, data));
  }
})();
