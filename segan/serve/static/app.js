"use strict";

// Soft masks come once, in levels; threshold and view are drawn here without asking the server.

const MASK_COLOR = [0, 225, 255];
const $ = (id) => document.getElementById(id);
const cards = [];
let info;

// --- asking the server ---------------------------------------------------------------------------

async function post(path, file, parameters) {
  const query = new URLSearchParams({ name: file.name, ...parameters });
  let response;
  try {
    response = await fetch(`${path}?${query}`, {
      method: "POST",
      headers: { "Content-Type": "application/octet-stream" },
      body: file,
    });
  } catch {
    throw new Error("the server does not answer");
  }
  if (response.ok) return response;
  const said = await response.json().catch(() => ({}));
  throw new Error(said.error || `the server answered ${response.status}`);
}

function decoded(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

// --- one mask on screen --------------------------------------------------------------------------

// 32-bit colour, as canvases hold it, of every level.
function colors(view, threshold) {
  const table = new Uint32Array(256);
  const bytes = new Uint8Array(table.buffer);
  const page = getComputedStyle(document.body).backgroundColor.match(/\d+/g).map(Number);
  for (let level = 0; level < 256; level++) {
    const inside = level > threshold;
    const gray = Math.round(Math.min(level / info.levels, 1) * 255);
    const color = {
      overlay: inside ? [...MASK_COLOR, 120] : [0, 0, 0, 0],
      cut: inside ? [0, 0, 0, 0] : [...page.slice(0, 3), 255],
      mask: inside ? [255, 255, 255, 255] : [0, 0, 0, 255],
      soft: [gray, gray, gray, 255],
    }[view];
    bytes.set(color, 4 * level);
  }
  return table;
}

class Stage {
  constructor(card, model) {
    this.card = card;
    this.model = model;
    this.node = $("stage").content.firstElementChild.cloneNode(true);
    this.node.querySelector("b").textContent = info.models[model].name;
    this.canvas = this.node.querySelector("canvas");
    this.busy = this.node.querySelector(".busy");
    this.button = this.node.querySelector(".download");
    this.button.disabled = true;
    this.button.setAttribute(
      "aria-label", `Download mask of ${card.file.name} by ${info.models[model].name}`);
    this.button.addEventListener("click", () => this.download());
    this.asked = 0;
  }

  async load() {
    const mine = ++this.asked;
    this.busy.hidden = false;
    const wantsPicture = !this.card.picture;
    const response = await post("/api/mask", this.card.file, {
      model: this.model, refine: $("refine").value, picture: wantsPicture,
    });
    const answer = await response.json();
    // A later question may have been answered before.
    if (mine !== this.asked) return;
    if (answer.picture) this.card.picture = answer.picture;
    this.width = answer.width;
    this.height = answer.height;
    this.levels = decoded(answer.levels);
    this.show();
  }

  show() {
    const image = this.node.querySelector("img");
    image.src = this.card.picture;
    image.width = this.canvas.width = this.width;
    image.height = this.canvas.height = this.height;
    image.classList.toggle("pixels", this.width < 200);
    this.busy.hidden = true;
    this.button.disabled = false;
    this.draw();
  }

  draw() {
    if (!this.levels) return;
    const threshold = Number($("threshold").value);
    const table = colors($("view").value, threshold);
    const context = this.canvas.getContext("2d");
    const drawn = context.createImageData(this.width, this.height);
    const pixels = new Uint32Array(drawn.data.buffer);
    let count = 0;
    for (let i = 0; i < pixels.length; i++) {
      pixels[i] = table[this.levels[i]];
      if (this.levels[i] > threshold) count++;
    }
    context.putImageData(drawn, 0, 0);
    const area = count ? `${(100 * count / pixels.length).toFixed(1)} % of the picture` : "nothing found";
    this.node.querySelector(".area").textContent = area;
    const name = info.models[this.model].name;
    this.canvas.setAttribute("aria-label", `mask of ${this.card.file.name} by ${name}: ${area}`);
  }

  async download() {
    const format = info.formats.find((each) => each.name === $("format").value);
    try {
      const response = await post("/api/file", this.card.file, {
        model: this.model, refine: $("refine").value, level: $("threshold").value,
        format: format.name,
      });
      const link = document.createElement("a");
      link.href = URL.createObjectURL(await response.blob());
      const several = this.card.stages.length > 1 ? `.${info.models[this.model].name}` : "";
      const stem = this.card.file.name.replace(/\.[^.]*$/, "");
      link.download = `${stem}${several}.${format.name}${format.suffix}`.replace(/[/\\]/g, "_");
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    } catch (error) {
      problem(about(this.card.file, error));
    }
  }
}

// --- one picture ---------------------------------------------------------------------------------

class Card {
  constructor(file) {
    this.file = file;
    this.stages = [];
    this.node = $("card").content.firstElementChild.cloneNode(true);
    this.node.querySelector("h3").textContent = file.name;
    const remove = this.node.querySelector(".remove");
    remove.setAttribute("aria-label", `Remove ${file.name}`);
    remove.addEventListener("click", () => { this.remove(); $("choose").focus(); });
    $("pictures").append(this.node);
  }

  // The segmenters chosen, in order; masks that are there already stay.
  async arrange() {
    const wanted = chosen();
    const kept = new Map(this.stages.map((stage) => [stage.model, stage]));
    this.stages = wanted.map((model) => kept.get(model) || new Stage(this, model));
    this.node.querySelector(".stages").replaceChildren(...this.stages.map((stage) => stage.node));
    for (const stage of this.stages) if (!stage.levels) await this.attempt(stage);
  }

  async refresh() {
    for (const stage of this.stages) await this.attempt(stage);
  }

  async attempt(stage) {
    try {
      await stage.load();
    } catch (error) {
      if (!cards.includes(this)) return;
      stage.busy.hidden = true;
      problem(about(this.file, error));
      // Without a picture there is nothing to show.
      if (!this.picture) this.remove();
    }
  }

  remove() {
    const index = cards.indexOf(this);
    if (index >= 0) cards.splice(index, 1);
    this.node.remove();
    tell();
  }
}

// --- the page ------------------------------------------------------------------------------------

function chosen() {
  const models = [Number($("model").value)];
  const other = $("compare").value;
  if (other !== "" && Number(other) !== models[0]) models.push(Number(other));
  return models;
}

function problem(text) {
  const line = document.createElement("li");
  const words = document.createElement("span");
  words.textContent = text;
  const close = document.createElement("button");
  close.type = "button";
  close.className = "quiet";
  close.textContent = "Dismiss";
  close.addEventListener("click", () => line.remove());
  line.append(words, close);
  $("problems").append(line);
}

function about(file, error) {
  return error.message.includes(file.name) ? error.message : `${file.name}: ${error.message}`;
}

function tell(text) {
  const count = cards.length;
  $("status").textContent = text || (count ? `${count} picture${count === 1 ? "" : "s"}` : "");
  $("clear").disabled = $("download-all").disabled = !count;
}

async function add(files) {
  const added = [];
  for (const file of files) {
    if (file.size > info.max_bytes) {
      problem(`${file.name}: the file is larger than ${info.max_bytes / 1e6} megabytes`);
      continue;
    }
    const card = new Card(file);
    cards.push(card);
    added.push(card);
  }
  for (const [index, card] of added.entries()) {
    tell(`working on picture ${index + 1} of ${added.length}`);
    if (cards.includes(card)) await card.arrange();
  }
  tell();
}

async function forAll(action) {
  tell("working");
  for (const card of [...cards]) await action(card);
  tell();
}

function redraw() {
  $("threshold-value").textContent = ($("threshold").value / info.levels).toFixed(3);
  for (const card of cards) for (const stage of card.stages) stage.draw();
}

let waiting = false;
function redrawSoon() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; redraw(); });
}

function fill(select, options) {
  select.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
}

function arrangeAll() {
  $("pictures").classList.toggle("compared", chosen().length > 1);
  forAll((card) => card.arrange());
}

function listen() {
  $("choose").addEventListener("change", (event) => {
    add([...event.target.files]);
    event.target.value = "";
  });
  $("controls").addEventListener("submit", (event) => event.preventDefault());
  $("threshold").addEventListener("input", redrawSoon);
  $("view").addEventListener("change", redraw);
  $("model").addEventListener("change", arrangeAll);
  $("compare").addEventListener("change", arrangeAll);
  $("refine").addEventListener("change", () => {
    // Masks of models that are not shown were made in the old way.
    forAll((card) => card.refresh());
  });
  $("download-all").addEventListener("click", () => {
    forAll(async (card) => { for (const stage of card.stages) await stage.download(); });
  });
  $("clear").addEventListener("click", () => {
    for (const card of [...cards]) card.remove();
    $("problems").replaceChildren();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  let depth = 0;
  const dragging = (by) => {
    depth = by ? depth + by : 0;
    document.body.classList.toggle("dragging", depth > 0);
  };
  addEventListener("dragenter", (event) => { event.preventDefault(); dragging(1); });
  addEventListener("dragleave", () => dragging(-1));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    dragging(0);
    add([...event.dataTransfer.files]);
  });
}

async function start() {
  info = await (await fetch("/api/info")).json();
  const models = info.models.map((model, index) => [index, model.name]);
  fill($("model"), models);
  fill($("compare"), [["", "nothing"], ...models]);
  $("compare-field").hidden = models.length < 2;
  fill($("refine"), info.refinements.map((name) => [name, name]));
  fill($("format"), info.formats.map(({ name, suffix }) => [name, `${name} (${suffix})`]));
  $("limits").textContent =
    `Up to ${info.max_bytes / 1e6} megabytes and ${info.max_megapixels} megapixels each: ` +
    "JPEG, PNG, TIFF, BMP, WebP";
  const slider = $("threshold");
  slider.min = 1;
  slider.max = info.levels - 1;
  slider.value = info.levels / 2;
  listen();
  redraw();
  document.body.dataset.ready = "true";
}

start().catch(() => problem("the server does not answer; reload the page"));
