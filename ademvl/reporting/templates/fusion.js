/* Fusion maps to look at: one word, scale and layer large, all layers beside it. */
(() => {
  const { element, whenNear } = ademvl;
  const section = document.getElementById("fusion-maps");
  if (!section) return;
  const ALL = -1;
  const SHADE = 0.6, DARK = "rgba(20, 23, 26, 0.74)";
  /* The colour map viridis at nine places. */
  const VIRIDIS = [[68, 1, 84], [72, 40, 120], [62, 74, 137], [49, 104, 142], [38, 130, 142],
    [31, 158, 137], [83, 197, 105], [180, 222, 44], [253, 231, 37]];

  function viridis(share) {
    const place = Math.min(Math.max(share, 0), 1) * (VIRIDIS.length - 1);
    const low = Math.min(Math.floor(place), VIRIDIS.length - 2);
    const mixed = VIRIDIS[low].map((value, i) => Math.round(value + (place - low) * (VIRIDIS[low + 1][i] - value)));
    return `rgba(${mixed.join(", ")}, ${SHADE})`;
  }

  /* Shades of 0..1 and what was dropped, for one layer or over all of them. */
  function patches(scale, layer) {
    if (layer !== ALL) {
      const bytes = atob(scale.shades[layer]);
      const shades = Array.from(bytes, (byte) => byte.charCodeAt(0) / 255);
      return { shades, dropped: Array.from(scale.kept[layer], (flag) => flag === "0") };
    }
    const shades = Array.from(scale.kept[0], (_, patch) =>
      scale.kept.filter((kept) => kept[patch] === "1").length / scale.kept.length);
    return { shades, dropped: shades.map((share) => share < 0.5) };
  }

  function keptPercent(scale, layer) {
    const text = layer === ALL ? scale.kept.join("") : scale.kept[layer];
    return Math.round(100 * text.replaceAll("0", "").length / text.length);
  }

  function draw(canvas, picture, scale, layer) {
    const size = canvas.width, pen = canvas.getContext("2d"), step = size / scale.grid;
    const { shades, dropped } = patches(scale, layer);
    pen.fillStyle = "#ddd";
    pen.fillRect(0, 0, size, size);
    if (picture) {
      pen.filter = "grayscale(1)";
      pen.drawImage(picture, 0, 0, size, size);
      pen.filter = "none";
    }
    shades.forEach((share, patch) => {
      const x = (patch % scale.grid) * step, y = Math.floor(patch / scale.grid) * step;
      pen.fillStyle = dropped[patch] ? DARK : viridis(share);
      pen.fillRect(x, y, step + 0.5, step + 0.5);
      if (!dropped[patch]) return;
      pen.strokeStyle = "#fff";
      pen.lineWidth = Math.max(1, step / 14);
      pen.beginPath();
      pen.moveTo(x + 0.3 * step, y + 0.3 * step); pen.lineTo(x + 0.7 * step, y + 0.7 * step);
      pen.moveTo(x + 0.7 * step, y + 0.3 * step); pen.lineTo(x + 0.3 * step, y + 0.7 * step);
      pen.stroke();
    });
  }

  class Viewer {
    constructor(root, items) {
      this.items = items;
      this.state = { item: 0, word: 0, scale: 0, layer: ALL };
      this.canvas = element("canvas", { width: 576, height: 576 });
      this.canvas.setAttribute("role", "img");
      this.said = element("p", { className: "numbers" });
      this.said.setAttribute("role", "status");
      this.words = element("div", { className: "choices-row" });
      this.scales = element("div", { className: "choices-row" });
      this.layers = element("div", { className: "layers" });
      const choose = element("select", { onchange: () => this.set({ item: Number(choose.value), word: 0, layer: ALL }) });
      items.forEach((item, place) => choose.append(element("option", { value: place, textContent: `${item.run}: ${item.text}` })));
      const group = (name, row) => element("fieldset", {}, element("legend", { textContent: name }), row);
      const ramp = element("div", {}, element("div", { className: "ramp" }),
        element("div", { className: "ramp-ends" }, element("span", { textContent: "low score" }), element("span", { textContent: "high" })));
      const controls = element("div", { className: "controls" },
        element("label", { className: "field" }, element("span", { textContent: "Item" }), choose),
        group("Word", this.words), group("Scale", this.scales), this.said, ramp,
        element("p", { className: "muted", textContent: "Over all layers, brightness is the share of layers that kept a patch; crossed: dropped by more than half of them." }));
      root.append(element("div", {}, this.canvas), controls, this.layers);
      root.hidden = false;
      this.set({});
    }

    set(changes) {
      const itemChanged = "item" in changes || !this.shownItem;
      Object.assign(this.state, changes);
      const item = this.items[this.state.item];
      this.shownItem = item;
      if (!itemChanged || !item.image) { this.picture = item.image ? this.picture : null; this.render(); return; }
      this.picture = null;
      const picture = new Image();
      picture.onload = () => { if (this.shownItem === item) { this.picture = picture; this.render(); } };
      picture.src = item.image;
      this.render();
    }

    render() {
      const { word, scale, layer } = this.state;
      const item = this.shownItem, chosen = item.words[word], map = chosen.scales[scale];
      this.buttons(this.words, item.words.map(({ word: text }) => text), word, (place) => this.set({ word: place }));
      const grids = chosen.scales.map(({ grid }) => `${grid} × ${grid} patches`);
      this.buttons(this.scales, grids, scale, (place) => this.set({ scale: place }));
      draw(this.canvas, this.picture, map, layer);
      const name = layer === ALL ? "all layers" : `layer ${layer + 1}`;
      const said = `“${chosen.word}”, ${name}, ${map.grid} × ${map.grid}: kept ${keptPercent(map, layer)} % of the patches`;
      this.said.textContent = said;
      this.canvas.setAttribute("aria-label", said);
      const places = [ALL, ...map.kept.keys()];
      const held = [...this.layers.children].indexOf(document.activeElement);
      this.layers.replaceChildren(...places.map((place) => {
        const small = element("canvas", { width: 96, height: 96 });
        small.setAttribute("aria-hidden", "true");
        draw(small, this.picture, map, place);
        const text = `${place === ALL ? "all" : place + 1} · ${keptPercent(map, place)} %`;
        const button = element("button", { type: "button", onclick: () => this.set({ layer: place }) }, small, text);
        button.setAttribute("aria-label", `${place === ALL ? "all layers" : `layer ${place + 1}`}, kept ${keptPercent(map, place)} %`);
        button.setAttribute("aria-pressed", String(place === layer));
        return button;
      }));
      if (held >= 0) this.layers.children[held]?.focus({ preventScroll: true });
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
