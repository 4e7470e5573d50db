/* Fusion maps to look at: one word, scale and layer large, all layers beside it.
   Marks and their numbers are those of fusion_maps/painting.py. */
(() => {
  const { element, whenNear, address } = ademvl;
  const section = document.getElementById("fusion-maps");
  if (!section) return;
  const ALL = -1;
  const DOT_RADIUS = 0.42, MIN_DOT = 0.08, CROSS_REACH = 0.32, VEIL = 0.6;
  const DARK = "rgb(20, 23, 26)", LIGHT = "#fff", GROUND = "rgb(150, 155, 160)";

  /* Of each patch: relative score of the dot (null for none), share of layers that dropped it. */
  function marksOf(scale, layer) {
    if (layer === ALL) {
      const layers = scale.kept.length;
      return Array.from(scale.kept[0], (_, patch) =>
        [null, scale.kept.filter((kept) => kept[patch] === "0").length / layers]);
    }
    const shades = atob(scale.shades[layer]);
    return Array.from(scale.kept[layer], (flag, patch) =>
      flag === "1" ? [shades.charCodeAt(patch) / 255, 0] : [null, 1]);
  }

  function keptPercent(scale, layer) {
    const text = layer === ALL ? scale.kept.join("") : scale.kept[layer];
    return Math.round(100 * text.replaceAll("0", "").length / text.length);
  }

  function drawMark(pen, [dot, drop], x, y, step) {
    const rim = Math.max(1, step / 40), middle = [x + step / 2, y + step / 2];
    if (drop > 0) {
      pen.globalAlpha = VEIL * drop;
      pen.fillStyle = DARK;
      pen.fillRect(x, y, step, step);
      pen.globalAlpha = 1;
      const reach = CROSS_REACH * drop * step, width = Math.max(rim, reach / 4);
      for (const [color, thickness] of [[DARK, width + 2 * rim], [LIGHT, width]]) {
        pen.strokeStyle = color;
        pen.lineWidth = thickness;
        pen.beginPath();
        for (const slant of [-1, 1]) {
          pen.moveTo(middle[0] - reach, middle[1] - slant * reach);
          pen.lineTo(middle[0] + reach, middle[1] + slant * reach);
        }
        pen.stroke();
      }
    }
    if (dot === null) return;
    pen.beginPath();
    pen.arc(...middle, Math.max(DOT_RADIUS * Math.sqrt(dot), MIN_DOT) * step - rim / 2, 0, 2 * Math.PI);
    pen.fillStyle = LIGHT;
    pen.strokeStyle = DARK;
    pen.lineWidth = rim;
    pen.fill();
    pen.stroke();
  }

  function draw(canvas, picture, marks) {
    const size = canvas.width, pen = canvas.getContext("2d"), grid = Math.sqrt(marks.length), step = size / grid;
    pen.fillStyle = GROUND;
    pen.fillRect(0, 0, size, size);
    if (picture) pen.drawImage(picture, 0, 0, size, size);
    marks.forEach((mark, patch) => drawMark(pen, mark, (patch % grid) * step, Math.floor(patch / grid) * step, step));
  }

  const shortNumber = (value) => String(Number(value.toPrecision(3))).replace("-", "−");

  /* What the marks mean that are drawn of a layer, each with one of them as it is drawn. */
  function legendOf(scale, layer) {
    const layers = scale.kept.length;
    if (layer === ALL) {
      const counts = [...new Set([1, Math.ceil(layers / 2), layers])];
      return counts.map((count) => [[null, count / layers], `dropped by ${count} of ${layers} layers`]);
    }
    const rows = [];
    const [low, high] = scale.ends[layer];
    if (scale.kept[layer].includes("1")) {
      const at = (share) => `score ${shortNumber(low + share * (high - low))}, kept`;
      rows.push(...(low === high ? [0] : [0, 0.5, 1]).map((share) => [[share, 0], at(share)]));
    }
    if (scale.kept[layer].includes("0")) rows.push([[null, 1], "dropped"]);
    return rows;
  }

  class Viewer {
    constructor(root, items) {
      this.items = items;
      this.state = { item: 0, word: 0, scale: 0, layer: ALL };
      this.patch = null;
      this.canvas = element("canvas", { width: 576, height: 576, tabIndex: 0 });
      this.canvas.setAttribute("role", "img");
      this.canvas.addEventListener("pointermove", (event) => this.point(event));
      this.canvas.addEventListener("pointerleave", () => this.look(null));
      this.canvas.addEventListener("keydown", (event) => this.walk(event));
      this.said = element("p", { className: "numbers" });
      this.said.setAttribute("role", "status");
      this.seen = element("p", { className: "muted numbers patch" });
      this.seen.setAttribute("role", "status");
      this.words = element("div", { className: "choices-row" });
      this.scales = element("div", { className: "choices-row" });
      this.layers = element("div", { className: "layers" });
      this.legend = element("ul", { className: "legend" });
      this.choose = element("select", { onchange: () => this.set({ item: Number(this.choose.value), word: 0, scale: 0, layer: ALL }) });
      items.forEach((item, place) => this.choose.append(element("option", { value: place, textContent: `${item.run}: ${item.text}` })));
      const group = (name, row) => element("fieldset", {}, element("legend", { textContent: name }), row);
      const controls = element("div", { className: "controls" },
        element("label", { className: "field" }, element("span", { textContent: "Item" }), this.choose),
        group("Word", this.words), group("Scale", this.scales), this.said, this.legend, this.seen);
      root.append(element("div", {}, this.canvas), controls, group("Layer", this.layers));
      root.hidden = false;
      this.fromAddress();
      address.watch("fusion-maps", () => this.fromAddress());
    }

    /* Take the state from the page's address as far as it names what is there. */
    fromAddress() {
      const given = address.read("fusion-maps");
      const place = (name, length, least = 0) => {
        const value = Number(given.get(name) ?? least);
        return Number.isInteger(value) && value >= least && value < length ? value : least;
      };
      const item = place("item", this.items.length), words = this.items[item].words;
      const word = place("word", words.length), { scales } = words[word];
      const scale = place("scale", scales.length);
      this.show({ item, word, scale, layer: place("layer", scales[scale].kept.length, ALL) });
    }

    set(changes) {
      this.show(changes);
      address.write("fusion-maps", this.state);
    }

    show(changes) {
      Object.assign(this.state, changes);
      this.patch = null;
      const item = this.items[this.state.item];
      if (this.shownItem !== item) {
        this.shownItem = item;
        this.picture = null;
        if (item.image) {
          const picture = new Image();
          picture.onload = () => { if (this.shownItem === item) { this.picture = picture; this.render(); } };
          picture.src = item.image;
        }
      }
      this.render();
    }

    get map() {
      return this.shownItem.words[this.state.word].scales[this.state.scale];
    }

    render() {
      const { item: place, word, scale, layer } = this.state;
      const item = this.shownItem, chosen = item.words[word], map = this.map;
      this.choose.value = place;
      this.buttons(this.words, item.words.map(({ word: text }) => text), word, (at) => this.set({ word: at }));
      const grids = chosen.scales.map(({ grid }) => `${grid} × ${grid} patches`);
      this.buttons(this.scales, grids, scale, (at) => this.set({ scale: at }));
      draw(this.canvas, this.picture, marksOf(map, layer));
      const name = layer === ALL ? "all layers" : `layer ${layer + 1}`;
      const said = `“${chosen.word}”, ${name}, ${map.grid} × ${map.grid}: kept ${keptPercent(map, layer)} % of the patches`;
      this.said.textContent = said;
      this.canvas.setAttribute("aria-label", said);
      this.legend.replaceChildren(...legendOf(map, layer).map(([mark, text]) => {
        const sample = element("canvas", { width: 72, height: 72 });
        sample.setAttribute("aria-hidden", "true");
        draw(sample, null, [mark]);
        return element("li", {}, sample, text);
      }));
      this.look(null);
      const places = [ALL, ...map.kept.keys()];
      const held = [...this.layers.children].indexOf(document.activeElement);
      this.layers.replaceChildren(...places.map((at) => {
        const small = element("canvas", { width: 144, height: 144 });
        small.setAttribute("aria-hidden", "true");
        draw(small, this.picture, marksOf(map, at));
        const text = `${at === ALL ? "all" : at + 1} · ${keptPercent(map, at)} %`;
        const button = element("button", { type: "button", onclick: () => this.set({ layer: at }) }, small, text);
        button.setAttribute("aria-label", `${at === ALL ? "all layers" : `layer ${at + 1}`}, kept ${keptPercent(map, at)} %`);
        button.setAttribute("aria-pressed", String(at === layer));
        return button;
      }));
      if (held >= 0) this.layers.children[held]?.focus({ preventScroll: true });
    }

    point({ offsetX, offsetY }) {
      const { grid } = this.map, place = (offset, length) => Math.min(Math.max(Math.floor((offset / length) * grid), 0), grid - 1);
      this.look(place(offsetY, this.canvas.clientHeight) * grid + place(offsetX, this.canvas.clientWidth));
    }

    walk(event) {
      const { grid } = this.map;
      const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -grid, ArrowDown: grid }[event.key];
      if (!step) return;
      event.preventDefault();
      const next = this.patch === null ? 0 : this.patch + step;
      if (next >= 0 && next < grid * grid) this.look(next);
    }

    /* Say what is known of one patch; null for none. */
    look(patch) {
      this.patch = patch;
      if (patch === null) {
        this.seen.textContent = "Point at a patch, or press arrow keys on the map, for its value.";
        return;
      }
      const { layer } = this.state, { grid, kept, ends } = this.map;
      const [dot, drop] = marksOf(this.map, layer)[patch];
      const where = `Row ${Math.floor(patch / grid) + 1}, column ${(patch % grid) + 1}`;
      if (layer === ALL) {
        this.seen.textContent = `${where}: dropped by ${Math.round(drop * kept.length)} of ${kept.length} layers`;
      } else if (dot === null) {
        this.seen.textContent = `${where}: dropped`;
      } else {
        const [low, high] = ends[layer];
        this.seen.textContent = `${where}: score ${shortNumber(low + dot * (high - low))}, kept`;
      }
    }

    buttons(row, texts, chosen, use) {
      const held = [...row.children].indexOf(document.activeElement);
      row.replaceChildren(...texts.map((text, place) => {
        const button = element("button", { type: "button", textContent: text, onclick: () => use(place) });
        button.setAttribute("aria-pressed", String(place === chosen));
        return button;
      }));
      if (held >= 0) row.children[held]?.focus({ preventScroll: true });
    }
  }

  whenNear(section, "fusion-maps", ({ items }) => new Viewer(section.querySelector(".viewer"), items));
})();
